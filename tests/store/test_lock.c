/* tests/store/test_lock.c - mirrors src/store/lock.c: one run at a time, and what ended runs leave is no obstacle.
 * ranks: 1 2 */
#include "scratch.h"
#include "store/lock.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static void note(void *context, const char *text)
{
    char *all = context;

    (void)snprintf(all + strlen(all), 1024 - strlen(all), "%s\n", text);
}

static hsgd_status take(const scratch *s, hsgd_lock **lock, char warnings[1024], hsgd_error *err)
{
    warnings[0] = '\0';
    return hsgd_lock_take(test_comm(), s->folder, note, warnings, lock, err);
}

static void everybody_here(void)
{
    hsgd_error err = {0};

    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

/* On rank 0: a process of its own that takes the lock file by flock, with `text` in it, and waits to be ended. */
static pid_t hold(scratch *s, const char *text)
{
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
        for (;;) {
            (void)pause();
        }
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return child;
}

/* On rank 0: the file as a run of another machine or job leaves it. */
static void leave(scratch *s, const char *host, const char *job)
{
    FILE *file = fopen(scratch_file(s, HSGD_LOCK_NAME), "wb");

    assert_non_null(file);
    assert_true(fprintf(file, "host %s\npid 4711\njob %s\nsince 2026-01-31T12:00:00Z\n", host, job) > 0);
    assert_int_equal(fclose(file), 0);
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

/* A job that the batch system starts again on another machine comes back to its own lock. */
static void a_lock_of_this_very_job_is_left_over(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    assert_int_equal(setenv("SLURM_JOB_ID", "77", 1), 0);
    if (test_comm()->rank == 0) {
        leave(s, "elsewhere", "77");
    }
    everybody_here();
    assert_ok(take(s, &lock, warnings, &err));
    assert_true(test_comm()->rank != 0 || strstr(warnings, "on elsewhere (job 77) ended without") != NULL);
    hsgd_lock_release(&lock);
    assert_int_equal(unsetenv("SLURM_JOB_ID"), 0);
    everybody_here();
}

/* Another machine's holder that touches its file is alive, although this machine would be granted the lock. */
static void a_holder_on_another_machine_is_alive_while_it_touches_its_file(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};
    pid_t child = 0;

    if (test_comm()->rank == 0) {
        leave(s, "elsewhere", "78");
        child = fork();
        assert_true(child >= 0);
        for (; child == 0;) {
            (void)usleep(200000);
            (void)utimensat(AT_FDCWD, s->file, NULL, 0);
        }
    }
    assert_int_equal(take(s, &lock, warnings, &err), HSGD_ERR_USAGE);
    assert_true(test_comm()->rank != 0 || strstr(warnings, "is alive") != NULL);
    if (test_comm()->rank == 0) {
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
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
        scratch_test(a_lock_of_this_very_job_is_left_over),
        scratch_test(a_holder_on_another_machine_is_alive_while_it_touches_its_file),
        scratch_test(a_lock_that_cannot_be_made_is_an_input_output_failure),
    };

    return test_run(tests);
}
