/* tests/store/test_lock.c - mirrors src/store/lock.c: one run at a time, and what ended runs leave is no obstacle.
 * ranks: 1 2 */
#include "locks.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

/* On rank 0: a process of its own that takes the lock file by flock, with `text` in it, and waits to be ended. */
static pid_t hold(scratch *s, const char *text)
{
    const pid_t parent = getpid();
    int ready[2];
    char byte = 0;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        FILE *file = fopen(scratch_file(s, HSGD_LOCK_NAME), "wb");

        if (file == NULL || fputs(text, file) < 0 || fflush(file) != 0 || flock(fileno(file), LOCK_EX) != 0 ||
            write(ready[1], &byte, 1) != 1) {
            _exit(1);
        }
        while (getppid() == parent) { /* a failed test ends it too */
            (void)usleep(50000);
        }
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return child;
}

/* On rank 0: the file as of a run of another machine, and a process that touches it as that does.  Else 0. */
static pid_t live(scratch *s, const char *host, const char *job, long restart)
{
    const pid_t parent = getpid();
    pid_t child = 0;

    if (test_comm()->rank == 0) {
        leave(s, host, job, restart);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            while (getppid() == parent) {
                (void)usleep(50000);
                (void)utimensat(AT_FDCWD, s->file, NULL, 0);
            }
            _exit(0);
        }
    }
    return child;
}

static void end(pid_t child)
{
    if (child != 0) {
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
}

static void a_lock_names_its_holder_and_is_gone_after_it(void **state)
{
    const scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[256] = "", host[64] = "";
    hsgd_error err = {0};

    assert_ok(take(s, &lock, warnings, &err));
    assert_string_equal(warnings, "");
    assert_int_equal(scratch_entries(s), 1);
    if (test_comm()->rank == 0) {
        scratch file = *s;
        FILE *in = fopen(scratch_file(&file, HSGD_LOCK_NAME), "rb");

        assert_non_null(in);
        assert_true(fread(text, 1, sizeof text - 1, in) > 0);
        assert_int_equal(fclose(in), 0);
        assert_int_equal(gethostname(host, sizeof host), 0);
        assert_non_null(strstr(text, host));
        (void)snprintf(host, sizeof host, "pid %ld\n", (long)getpid());
        assert_non_null(strstr(text, host));
        assert_non_null(lock);
    } else {
        assert_null(lock);
    }
    everybody_here();
    hsgd_lock_release(&lock);
    assert_null(lock);
    everybody_here();
    assert_int_equal(scratch_entries(s), 0);
}

static void a_second_run_is_refused_on_all_ranks_and_harms_nothing(void **state)
{
    const scratch *s = *state;
    hsgd_lock *first = NULL, *second = NULL;
    char warnings[1024], want[64];
    hsgd_error err = {0};

    assert_ok(take(s, &first, warnings, &err));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(take(s, &second, warnings, &err), HSGD_ERR_USAGE);
        assert_null(second);
        (void)snprintf(want, sizeof want, "is writing to '%.40s", s->folder);
        assert_non_null(strstr(err.text, want));
        assert_int_equal(scratch_entries(s), 1);
    }
    hsgd_lock_release(&first);
    everybody_here();
    assert_ok(take(s, &second, warnings, &err));
    hsgd_lock_release(&second);
    everybody_here();
}

/* The lock of a killed process is free at once, and its file is taken over. */
static void a_lock_of_a_killed_run_is_left_over(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[256], host[64] = "";
    hsgd_error err = {0};
    pid_t child = 0;

    if (test_comm()->rank == 0) {
        assert_int_equal(gethostname(host, sizeof host), 0);
        (void)snprintf(text, sizeof text, "host %s\npid 4711\njob 12\nsince x\n", host);
        child = hold(s, text);
    }
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "process 4711 on "));
    assert_non_null(strstr(err.text, "(job 12)"));
    if (test_comm()->rank == 0) {
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    assert_ok(take(s, &lock, warnings, &err));
    assert_true(test_comm()->rank != 0 || strstr(warnings, "process 4711 on ") != NULL);
    hsgd_lock_release(&lock);
    everybody_here();
    assert_int_equal(scratch_entries(s), 0);
}

/* A job that Slurm starts again on another machine comes back to its own lock, without a look for a sign of life. */
static void a_job_that_was_started_again_has_its_own_lock_at_once(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[512];
    hsgd_error err = {0};

    assert_int_equal(setenv("SLURM_JOB_ID", "77", 1), 0);
    assert_int_equal(setenv("SLURM_RESTART_COUNT", "2", 1), 0);
    if (test_comm()->rank == 0) {
        leave(s, "elsewhere", "77", 1);
    }
    everybody_here();
    assert_ok(take(s, &lock, warnings, &err));
    if (test_comm()->rank == 0) {
        assert_null(strstr(warnings, "is alive"));
        assert_non_null(strstr(warnings, "on elsewhere (job 77) ended without"));
        read_lock(s, text);
        assert_non_null(strstr(text, "job 77\nrestart 2\n"));
    }
    hsgd_lock_release(&lock);
    assert_int_equal(unsetenv("SLURM_JOB_ID"), 0);
    assert_int_equal(unsetenv("SLURM_RESTART_COUNT"), 0);
    everybody_here();
}

/* Two steps of one job, or two of its programs: the number alone does not tell that the first is over. */
static void the_same_job_not_started_again_may_be_alive(void **state)
{
    static const char *const variables[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    pid_t child;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(setenv(variables[i], "77", 1), 0);
        assert_int_equal(setenv("SLURM_RESTART_COUNT", i == 0 ? "1" : "5", 1), 0); /* of no meaning but to Slurm */
        child = live(s, "elsewhere", "77", 1);
        everybody_here();
        assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
        assert_true(test_comm()->rank != 0 || strstr(warnings, "is alive") != NULL);
        end(child);
        assert_int_equal(unsetenv(variables[i]), 0);
    }
    assert_int_equal(unsetenv("SLURM_RESTART_COUNT"), 0);
}

static void the_elements_of_an_array_of_jobs_differ(void **state)
{
    static const char *const index[] = {NULL, "0", "13"}, *const want[] = {"job 88\n", "job 88\n", "job 88[13]\n"};
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[512];
    hsgd_error err = {0};

    assert_int_equal(setenv("LSB_JOBID", "88", 1), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(index[i] != NULL ? setenv("LSB_JOBINDEX", index[i], 1) : unsetenv("LSB_JOBINDEX"), 0);
        assert_ok(take(s, &lock, warnings, &err));
        read_lock(s, text);
        assert_true(test_comm()->rank != 0 || strstr(text, want[i]) != NULL);
        hsgd_lock_release(&lock);
        everybody_here();
    }
    assert_int_equal(unsetenv("LSB_JOBID"), 0);
    assert_int_equal(unsetenv("LSB_JOBINDEX"), 0);
}

/* Nobody waits for rank 0 longer than a step of the look: the others come by as often as it looks. */
static void a_lock_that_nobody_touches_is_taken_over_after_a_look_of_all_ranks(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], want[64];
    hsgd_error err = {0};
    int64_t calls;

    if (test_comm()->rank == 0) {
        leave(s, "elsewhere", "78", 0);
    }
    everybody_here();
    calls = test_comm()->calls;
    assert_ok(take_soon(s, &lock, warnings, &err));
    calls = test_comm()->calls - calls;
    assert_true(calls >= (3 * TOUCH + 1000) / 500 + 2); /* twice in a second, the first and the last */
    (void)snprintf(want, sizeof want, "looks for %g seconds whether process 4711 on ", 3 * TOUCH / 1000.0);
    if (test_comm()->rank == 0) {
        assert_non_null(strstr(warnings, want));
        assert_non_null(strstr(warnings, "process 4711 on elsewhere (job 78) ended without"));
    }
    hsgd_lock_release(&lock);
    everybody_here();
    assert_int_equal(scratch_entries(s), 0);
}

static struct timespec touched(const char *path)
{
    struct stat info = {0};

    (void)stat(path, &info);
    return info.st_mtim;
}

/* Wait until the file is touched or, in vain, for half a minute. */
static bool is_touched(const char *path)
{
    const struct timespec before = touched(path);

    for (int i = 0; i < 3000; i++) {
        const struct timespec now = touched(path);

        if (now.tv_sec != before.tv_sec || now.tv_nsec != before.tv_nsec) {
            return true;
        }
        (void)usleep(10000);
    }
    return false;
}

static void a_holder_touches_its_file(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    assert_ok(take_soon(s, &lock, warnings, &err));
    if (test_comm()->rank == 0) {
        for (int i = 0; i < 3; i++) {
            assert_true(is_touched(scratch_file(s, HSGD_LOCK_NAME)));
        }
    }
    hsgd_lock_release(&lock);
    everybody_here();
}

/* The one that lost it touches it no more, and does not remove it. */
static void a_file_that_another_took_over_is_let_alone(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024], text[512];
    hsgd_error err = {0};
    struct timespec before, after;
    bool quiet = false;

    warnings[0] = '\0';
    assert_ok(store_lock_take(test_comm(), s->folder, 20, note, warnings, &lock, &err));
    if (test_comm()->rank == 0) {
        leave(s, "elsewhere", "79", 0);
        for (int i = 0; i < 20 && !quiet; i++) { /* again where a touch had begun */
            before = touched(s->file);
            (void)usleep(300000);
            after = touched(s->file);
            quiet = memcmp(&before, &after, sizeof before) == 0;
        }
        assert_true(quiet);
    }
    hsgd_lock_release(&lock);
    read_lock(s, text);
    assert_true(test_comm()->rank != 0 || strstr(text, "host elsewhere\npid 4711\n") != NULL);
    everybody_here();
}

/* Another machine's holder that touches its file is alive, although this machine would be granted the lock. */
static void a_holder_on_another_machine_is_alive_while_it_touches_its_file(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    const pid_t child = live(s, "elsewhere", "78", 0);

    everybody_here();
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "process 4711 on elsewhere (job 78) is writing"));
    assert_true(test_comm()->rank != 0 ||
                strstr(warnings, "looks for 30 seconds whether process 4711 on elsewhere") != NULL);
    end(child);
}

static void a_lock_that_cannot_be_made_is_an_input_output_failure(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        assert_int_equal(mkdir(scratch_file(s, HSGD_LOCK_NAME), 0700), 0);
    }
    everybody_here();
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, HSGD_LOCK_NAME ": cannot make the lock"));
    assert_null(lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(a_lock_names_its_holder_and_is_gone_after_it),
        scratch_test(a_second_run_is_refused_on_all_ranks_and_harms_nothing),
        scratch_test(a_lock_of_a_killed_run_is_left_over),
        scratch_test(a_job_that_was_started_again_has_its_own_lock_at_once),
        scratch_test(the_same_job_not_started_again_may_be_alive),
        scratch_test(the_elements_of_an_array_of_jobs_differ),
        scratch_test(a_lock_that_nobody_touches_is_taken_over_after_a_look_of_all_ranks),
        scratch_test(a_holder_touches_its_file),
        scratch_test(a_file_that_another_took_over_is_let_alone),
        scratch_test(a_holder_on_another_machine_is_alive_while_it_touches_its_file),
        scratch_test(a_lock_that_cannot_be_made_is_an_input_output_failure),
    };

    return test_run(tests);
}
