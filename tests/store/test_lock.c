/* tests/store/test_lock.c - mirrors src/store/lock.c: one run at a time, and what ended runs leave is no obstacle.
 * ranks: 1 2 */
#include "locks.h"
#include <errno.h>
#include <fcntl.h>

/* On rank 0: the file as of a run of another machine, and a process that touches it as that does.  Else 0. */
static pid_t live(scratch *s, const char *host, const char *job)
{
    const pid_t parent = getpid();
    pid_t child = 0;

    if (test_comm()->rank == 0) {
        leave(s, host, job);
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
    assert_string_equal(warnings, "");
    assert_non_null(strstr(err.text, "process 4711 on "));
    assert_non_null(strstr(err.text, "(job 12)"));
    end(child);
    assert_ok(take(s, &lock, warnings, &err));
    assert_true(test_comm()->rank != 0 || strstr(warnings, "process 4711 on ") != NULL);
    hsgd_lock_release(&lock);
    everybody_here();
    assert_int_equal(scratch_entries(s), 0);
}

/* Two steps of one job, two of its programs, or one that was started again while a node that nobody reaches still runs
 * its first ranks: the number does not tell that the other is over, nor does that of the restarts. */
static void the_same_job_may_be_alive(void **state)
{
    static const char *const variables[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    pid_t child;

    assert_int_equal(setenv("SLURM_RESTART_COUNT", "5", 1), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(setenv(variables[i], "77", 1), 0);
        child = live(s, "elsewhere", "77");
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
        leave(s, "elsewhere", "78");
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

/* Take the lock with a sign of life so often that a test need not wait for it. */
static void take_restless(const scratch *s, hsgd_lock **lock)
{
    char warnings[1024] = "";
    hsgd_error err = {0};

    assert_ok(store_lock_take(test_comm(), s->folder, 20, note, warnings, lock, &err));
}

/* Wait until the loss is seen or, in vain, for half a minute. */
static bool is_soon_lost(const hsgd_lock *lock)
{
    for (int i = 0; i < 3000 && !hsgd_lock_is_lost(lock); i++) {
        (void)usleep(10000);
    }
    return hsgd_lock_is_lost(lock);
}

/* The one that lost it knows, touches it no more, and does not remove it. */
static void a_file_that_another_took_over_is_let_alone(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char text[512];
    hsgd_error err = {0};

    take_restless(s, &lock);
    assert_false(hsgd_lock_is_lost(lock));
    assert_ok(hsgd_lock_check(lock, &err)); /* of ranks without it too */
    if (test_comm()->rank == 0) {
        struct timespec before, after;

        leave(s, "elsewhere", "79");
        assert_true(is_soon_lost(lock));
        before = touched(s->file);
        (void)usleep(300000);
        after = touched(s->file);
        assert_memory_equal(&before, &after, sizeof before);
        assert_int_equal(hsgd_lock_check(lock, &err), HSGD_ERR_IO);
        assert_non_null(strstr(err.text, HSGD_LOCK_NAME ": this run has lost the lock: process 4711 on elsewhere (job "
                                                        "79) took it over, maybe while this one stood still; "));
    }
    hsgd_lock_release(&lock);
    read_lock(s, text);
    assert_true(test_comm()->rank != 0 || strstr(text, "host elsewhere\npid 4711\n") != NULL);
    everybody_here();
}

/* Nobody's name, as where another is just writing its own, or the own name behind a number that changed, prove nothing. */
static void a_lock_is_lost_where_that_is_certain(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char text[512], aside[400];
    hsgd_error err = {0};

    take_restless(s, &lock);
    read_lock(s, text);
    if (test_comm()->rank == 0) {
        FILE *file;

        assert_int_equal(truncate(s->file, 0), 0);
        assert_true(is_touched(s->file));
        assert_ok(hsgd_lock_check(lock, &err));
        (void)snprintf(aside, sizeof aside, "%s.aside", s->file);
        file = fopen(aside, "wb");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(rename(aside, s->file), 0);
        (void)usleep(300000);
        assert_false(hsgd_lock_is_lost(lock));
        assert_ok(hsgd_lock_check(lock, &err));
        leave(s, "elsewhere", "79"); /* in a file that is not the one it holds */
        assert_int_equal(hsgd_lock_check(lock, &err), HSGD_ERR_IO);
    }
    hsgd_lock_release(&lock);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(s->file), 0);
    }
    everybody_here();
    take_restless(s, &lock);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(s->file), 0);
        assert_true(is_soon_lost(lock));
        assert_int_equal(hsgd_lock_check(lock, &err), HSGD_ERR_IO);
        assert_non_null(strstr(err.text, HSGD_LOCK_NAME ": this run has lost the lock: the file is gone; "));
        (void)scratch_file(s, HSGD_LOCK_NAME);
        leave(s, "elsewhere", ""); /* whoever has it now, seen or not */
        assert_int_equal(truncate(s->file, 0), 0);
        assert_int_equal(hsgd_lock_check(lock, &err), HSGD_ERR_IO);
        assert_non_null(strstr(err.text, "this run has lost the lock: another process took it over"));
    }
    hsgd_lock_release(&lock);
    everybody_here();
}

/* Another machine's holder that touches its file is alive, although this machine would be granted the lock. */
static void a_holder_on_another_machine_is_alive_while_it_touches_its_file(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    const pid_t child = live(s, "elsewhere", "78");

    everybody_here();
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "process 4711 on elsewhere (job 78) is writing"));
    assert_true(test_comm()->rank != 0 ||
                strstr(warnings, "looks for 30 seconds whether process 4711 on elsewhere") != NULL);
    end(child);
}

/* As of a machine that went down, for which a server keeps the lock: never taken, but its holder may be long gone. */
static void a_holder_on_another_machine_that_shows_no_life_is_told_of(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    const pid_t holder = hold(s, "host elsewhere\npid 4711\njob 12\nsince x\n");
    pid_t child;

    everybody_here();
    assert_int_equal(take_soon(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_true(test_comm()->rank != 0 || strstr(warnings, "looks for 0.6 seconds whether process 4711 on ") != NULL);
    assert_non_null(strstr(err.text, "process 4711 on elsewhere (job 12) has the lock of "));
    assert_non_null(strstr(err.text, "has shown no life for 0.6 seconds; where it is certain that it does not run any "
                                     "more, remove "));
    assert_non_null(strstr(err.text, "/" HSGD_LOCK_NAME ", else name another folder"));
    child = live(s, "elsewhere", "12");
    everybody_here();
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "process 4711 on elsewhere (job 12) is writing to "));
    end(child);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(scratch_file(s, HSGD_LOCK_NAME)), 0);
    }
    everybody_here();
    assert_ok(take(s, &lock, warnings, &err));
    assert_string_equal(warnings, "");
    hsgd_lock_release(&lock);
    end(holder);
    everybody_here();
}

static void a_holder_that_has_not_told_its_name_is_another_process(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    const pid_t holder = hold(s, "");

    everybody_here();
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "run.output: another process is writing to "));
    end(holder);
    everybody_here();
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
        scratch_test(the_same_job_may_be_alive),
        scratch_test(the_elements_of_an_array_of_jobs_differ),
        scratch_test(a_lock_that_nobody_touches_is_taken_over_after_a_look_of_all_ranks),
        scratch_test(a_holder_touches_its_file),
        scratch_test(a_file_that_another_took_over_is_let_alone),
        scratch_test(a_lock_is_lost_where_that_is_certain),
        scratch_test(a_holder_on_another_machine_is_alive_while_it_touches_its_file),
        scratch_test(a_holder_on_another_machine_that_shows_no_life_is_told_of),
        scratch_test(a_holder_that_has_not_told_its_name_is_another_process),
        scratch_test(a_lock_that_cannot_be_made_is_an_input_output_failure),
    };

    return test_run(tests);
}
