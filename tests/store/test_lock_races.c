/* tests/store/test_lock_races.c - mirrors src/store/lock.c where flock(2) decides nothing: it is not shared, or not there. */
#include "locks.h"
#include <errno.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the tests put in the place of the system's: a file system without locks, and another machine that writes its name
 * into the lock file at the same moment, just after this one did. */
static bool without_locks;
static const char *rival;

int flock(int fd, int operation)
{
    if (without_locks) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}

int fsync(int fd)
{
    const int code = (int)syscall(SYS_fsync, fd);

    if (rival != NULL) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, rival, strlen(rival), 0), strlen(rival));
        rival = NULL;
    }
    return code;
}

/* Where locks are not shared both are granted: the last to write has it, and the other one goes. */
static void a_lock_that_another_takes_over_at_the_same_time_is_refused(void **state)
{
    static const char theirs[] = "host third\npid 5\njob 80\nrestart 0\nsince x\n";
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[512];
    hsgd_error err = {0};

    for (int i = 0; i < 2; i++) {
        without_locks = i == 1;
        if (test_comm()->rank == 0) {
            if (i == 0) {
                leave(s, "elsewhere", "78", 0);
            } else { /* as one that was just made */
                assert_int_equal(truncate(scratch_file(s, HSGD_LOCK_NAME), 0), 0);
            }
            rival = theirs;
        }
        everybody_here();
        assert_int_equal(take_soon(s, &lock, warnings, &err), HSGD_ERR_USAGE);
        assert_non_null(strstr(err.text, "process 5 on third (job 80) is writing"));
        assert_null(lock);
        read_lock(s, text);
        assert_true(test_comm()->rank != 0 || strcmp(text, theirs) == 0);
        everybody_here();
    }
    without_locks = false;
}

static void a_file_that_names_nobody_is_free(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    for (int i = 0; i < 2; i++) {
        without_locks = i == 1;
        if (test_comm()->rank == 0) {
            FILE *file = fopen(scratch_file(s, HSGD_LOCK_NAME), "wb");

            assert_non_null(file);
            assert_int_equal(fclose(file), 0);
        }
        everybody_here();
        assert_ok(take_soon(s, &lock, warnings, &err));
        assert_string_equal(warnings, "");
        hsgd_lock_release(&lock);
        everybody_here();
    }
    without_locks = false;
}

/* In a process of its own: wait for the lock that is there; 0: had it, 1: refused, 2: anything else. */
static int wait_for_it(const scratch *s, const int begin[2], const int end[2])
{
    hsgd_comm *comm = NULL;
    hsgd_lock *lock = NULL;
    hsgd_error err = {0};
    char warnings[1024] = "", byte;
    hsgd_status st = hsgd_comm_serial_create(&comm, &err);

    (void)alarm(30); /* where both got it neither would end */
    (void)close(begin[1]);
    (void)close(end[1]);
    if (st != HSGD_OK || read(begin[0], &byte, 1) != 0) {
        return 2;
    }
    st = store_lock_take(comm, s->folder, TOUCH, note, warnings, &lock, &err);
    (void)fprintf(stderr, "%ld: %d %s%s\n", (long)getpid(), (int)st, warnings, err.text);
    if (st == HSGD_OK && read(end[0], &byte, 1) != 0) { /* holds it until both have their answer */
        return 2;
    }
    return st == HSGD_OK ? 0 : st == HSGD_ERR_USAGE ? 1 : 2;
}

static void of_two_that_wait_for_a_stale_lock_one_gets_it(void **state)
{
    scratch *s = *state;

    for (int i = 0; test_comm()->rank == 0 && i < 2; i++) {
        int begin[2], end[2], code, codes[2] = {-1, -1};
        pid_t child[2], done;

        without_locks = i == 1;
        leave(s, "elsewhere", "78", 0);
        assert_int_equal(pipe(begin), 0);
        assert_int_equal(pipe(end), 0);
        for (int k = 0; k < 2; k++) {
            child[k] = fork();
            assert_true(child[k] >= 0);
            if (child[k] == 0) {
                _exit(wait_for_it(s, begin, end));
            }
        }
        (void)close(begin[0]);
        (void)close(begin[1]); /* now both look */
        done = wait(&code);    /* the one that is refused; the other waits for `end` */
        codes[done == child[1]] = WIFEXITED(code) ? WEXITSTATUS(code) : 2;
        (void)close(end[0]);
        (void)close(end[1]);
        done = wait(&code);
        codes[done == child[1]] = WIFEXITED(code) ? WEXITSTATUS(code) : 2;
        assert_int_equal(codes[0] + codes[1], 1);
        assert_int_equal(codes[0] * codes[1], 0);
    }
    without_locks = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(a_lock_that_another_takes_over_at_the_same_time_is_refused),
        scratch_test(a_file_that_names_nobody_is_free),
        scratch_test(of_two_that_wait_for_a_stale_lock_one_gets_it),
    };

    return test_run(tests);
}
