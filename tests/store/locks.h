/* tests/store/locks.h - what the tests of the lock share: taking it, and the file as another run leaves it. */
#pragma once
#include "scratch.h"
#include "store/lock.h"
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

enum { TOUCH = 200 }; /* milliseconds between two signs of life, where a test waits for one in vain */

static inline void note(void *context, const char *text)
{
    char *all = context;

    (void)snprintf(all + strlen(all), 1024 - strlen(all), "%s\n", text);
}

static inline hsgd_status take(const scratch *s, hsgd_lock **lock, char warnings[1024], hsgd_error *err)
{
    warnings[0] = '\0';
    return hsgd_lock_take(test_comm(), s->folder, note, warnings, lock, err);
}

/* The same with a sign of life every TOUCH milliseconds. */
static inline hsgd_status take_soon(const scratch *s, hsgd_lock **lock, char warnings[1024], hsgd_error *err)
{
    warnings[0] = '\0';
    return store_lock_take(test_comm(), s->folder, TOUCH, note, warnings, lock, err);
}

static inline void everybody_here(void)
{
    hsgd_error err = {0};

    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

/* On rank 0: the file as a run of another machine or job leaves it. */
static inline void leave(scratch *s, const char *host, const char *job)
{
    FILE *file = fopen(scratch_file(s, HSGD_LOCK_NAME), "wb");

    assert_non_null(file);
    assert_true(fprintf(file, "host %s\npid 4711\njob %s\nsince 2026-01-31T12:00:00Z\n", host, job) > 0);
    assert_int_equal(fclose(file), 0);
}

/* On rank 0: a process of its own that takes the lock file by flock, with `text` in it, and waits to be ended.  Else 0. */
static inline pid_t hold(scratch *s, const char *text)
{
    const pid_t parent = getpid();
    int ready[2];
    char byte = 0;
    pid_t child;

    if (test_comm()->rank != 0) {
        return 0;
    }
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

static inline void end(pid_t child)
{
    if (child != 0) {
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
}

/* What the lock file says, on rank 0; elsewhere "". */
static inline void read_lock(scratch *s, char text[512])
{
    FILE *file;

    text[0] = '\0';
    if (test_comm()->rank == 0) {
        file = fopen(scratch_file(s, HSGD_LOCK_NAME), "rb");
        assert_non_null(file);
        text[fread(text, 1, 511, file)] = '\0';
        assert_int_equal(fclose(file), 0);
    }
}
