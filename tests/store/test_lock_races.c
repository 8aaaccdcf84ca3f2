/* tests/store/test_lock_races.c - mirrors src/store/lock.c where flock(2) decides nothing: it is not shared, or not there. */
#include "locks.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

/* What the tests put in the place of the system's: a file system without locks, on which a file may be gone as soon as it
 * is opened, reads as empty for so many times, cannot be read after so many (-1: never), or fills up; a server that has
 * forgotten what was opened to be written; and another machine that writes its name into the lock file at the same moment,
 * just after this one did. */
static bool without_locks, forgotten, full;
static const char *vanishing, *rival;
static int blank, readable = -1;

static void write_rival(int fd)
{
    if (rival != NULL) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(syscall(SYS_pwrite64, fd, rival, strlen(rival), (off_t)0), strlen(rival));
        rival = NULL;
    }
}

int flock(int fd, int operation)
{
    if (vanishing != NULL) {
        (void)unlink(vanishing);
    }
    if (without_locks) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}

int fsync(int fd)
{
    const int code = (int)syscall(SYS_fsync, fd);

    write_rival(fd);
    return code;
}

ssize_t pread(int fd, void *data, size_t size, off_t from)
{
    if (readable == 0 || (forgotten && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR)) {
        errno = forgotten ? ESTALE : EIO;
        return -1;
    }
    readable -= readable > 0;
    return blank-- > 0 ? 0 : (ssize_t)syscall(SYS_pread64, fd, data, size, from);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t to)
{
    const ssize_t written = (ssize_t)syscall(SYS_pwrite64, fd, data, full ? size / 2 : size, to);

    if (full) {
        write_rival(fd);
        errno = EXDEV; /* of something before, as far as this call goes */
    }
    return written;
}

/* Where locks are not shared both are granted: the last to write has it, and the other one goes. */
static void a_lock_that_another_takes_over_at_the_same_time_is_refused(void **state)
{
    static const char theirs[] = "host third\npid 5\njob 80\nsince x\n";
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[512];
    hsgd_error err = {0};

    for (int i = 0; i < 3; i++) {
        without_locks = i == 1;
        if (test_comm()->rank == 0) {
            if (i == 0) {
                leave(s, "elsewhere", "78");
            } else if (i == 1) {
                assert_int_equal(unlink(scratch_file(s, HSGD_LOCK_NAME)), 0);
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

/* Whatever stands there. */
static void check_unreadable(const scratch *s, int after)
{
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    readable = after;
    assert_int_equal(take_soon(s, &lock, warnings, &err), HSGD_ERR_IO);
    assert_int_equal(readable, 0);
    readable = -1;
    assert_non_null(strstr(err.text, HSGD_LOCK_NAME ": cannot read whose lock it is: Input/output error"));
    assert_null(lock);
}

/* A live run's name may stand there; a look for a sign of life that sees nothing sees no life either. */
static void a_lock_that_cannot_be_read_is_an_input_output_failure(void **state)
{
    scratch *s = *state;
    char before[512], after[512];

    leave(s, "elsewhere", "78");
    read_lock(s, before);
    for (int i = 0; i < 4; i++) {
        without_locks = i % 2 == 1;
        check_unreadable(s, i < 2 ? 0 : 2);
        read_lock(s, after);
        assert_string_equal(after, before);
    }
    without_locks = false;
}

/* Nor is it this run itself that is told to write there. */
static void a_name_that_cannot_be_confirmed_is_an_input_output_failure(void **state)
{
    scratch *s = *state;
    char text[512];

    for (int i = 0; i < 2; i++) {
        without_locks = i == 1;
        leave(s, "", "");
        assert_int_equal(truncate(s->file, 0), 0);
        check_unreadable(s, 1);
        read_lock(s, text);
        assert_string_not_equal(text, ""); /* as another may have written there, it stays */
    }
    without_locks = false;
}

/* What was opened long ago tells nothing of the file that has its number now. */
static void a_loss_is_seen_in_the_file_of_that_name(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    assert_ok(take(s, &lock, warnings, &err));
    forgotten = true;
    assert_ok(hsgd_lock_check(lock, &err));
    leave(s, "elsewhere", "79");
    assert_int_equal(hsgd_lock_check(lock, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "process 4711 on elsewhere (job 79) took it over"));
    hsgd_lock_release(&lock);
    assert_int_equal(unlink(s->file), 0);
    assert_ok(store_lock_take(test_comm(), s->folder, 20, note, warnings, &lock, &err));
    leave(s, "elsewhere", "79");
    for (int i = 0; i < 3000 && !hsgd_lock_is_lost(lock); i++) {
        (void)usleep(10000);
    }
    assert_true(hsgd_lock_is_lost(lock));
    hsgd_lock_release(&lock);
    forgotten = false;
}

/* A look that fails proves nothing. */
static void a_lock_that_cannot_be_looked_at_is_not_lost(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    assert_ok(take(s, &lock, warnings, &err));
    leave(s, "elsewhere", "79");
    readable = 0;
    assert_ok(hsgd_lock_check(lock, &err));
    readable = -1;
    assert_int_equal(hsgd_lock_check(lock, &err), HSGD_ERR_IO);
    hsgd_lock_release(&lock);
}

/* Between its flock and the writing of its name. */
static void a_holder_is_given_time_to_write_its_name(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    const pid_t holder = hold(s, "host third\npid 5\njob 80\nsince x\n");

    blank = 3;
    assert_int_equal(take_soon(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_true(blank < 0);
    assert_non_null(strstr(err.text, "process 5 on third (job 80) is writing"));
    end(holder);
}

static void a_name_that_never_leads_to_the_same_file_is_an_input_output_failure(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    vanishing = scratch_file(s, HSGD_LOCK_NAME);
    assert_int_equal(take_soon(s, &lock, warnings, &err), HSGD_ERR_IO);
    vanishing = NULL;
    assert_non_null(strstr(err.text, HSGD_LOCK_NAME ": cannot make the lock: at each look"));
    assert_null(lock);
    assert_int_equal(scratch_entries(s), 0);
}

/* What it could write goes again, but not what another wrote in between. */
static void a_full_disk_is_named_and_leaves_no_half_name(void **state)
{
    static const char theirs[] = "host third\npid 5\njob 80\nsince x\n";
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[512];
    hsgd_error err = {0};

    for (int i = 0; i < 2; i++) {
        rival = i == 0 ? NULL : theirs;
        full = true;
        assert_int_equal(take_soon(s, &lock, warnings, &err), HSGD_ERR_IO);
        full = false;
        assert_non_null(strstr(err.text, HSGD_LOCK_NAME ": cannot write the lock: No space left on device"));
        assert_int_equal(scratch_entries(s), i);
    }
    (void)scratch_file(s, HSGD_LOCK_NAME);
    read_lock(s, text);
    assert_string_equal(text, theirs);
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
        leave(s, "elsewhere", "78");
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
        scratch_test(a_lock_that_cannot_be_read_is_an_input_output_failure),
        scratch_test(a_name_that_cannot_be_confirmed_is_an_input_output_failure),
        scratch_test(a_loss_is_seen_in_the_file_of_that_name),
        scratch_test(a_lock_that_cannot_be_looked_at_is_not_lost),
        scratch_test(a_holder_is_given_time_to_write_its_name),
        scratch_test(a_name_that_never_leads_to_the_same_file_is_an_input_output_failure),
        scratch_test(a_full_disk_is_named_and_leaves_no_half_name),
        scratch_test(of_two_that_wait_for_a_stale_lock_one_gets_it),
    };

    return test_run(tests);
}
