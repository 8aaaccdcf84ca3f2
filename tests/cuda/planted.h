/* tests/cuda/planted.h - for tests that plant faults and see whether the emulation finds them. */
#pragma once
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <csetjmp>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>
extern "C" {
#include <cmocka.h>
}
#include "emulation.h"

#define PLAIN(kernel, grid, block, stream, ...)                                                                        \
    emulation::launch(#kernel, false, kernel, grid, block, stream, __VA_ARGS__)
#define WAITING(kernel, grid, block, stream, ...)                                                                      \
    emulation::launch(#kernel, true, kernel, grid, block, stream, __VA_ARGS__)

enum { N = 64 };

static inline void configure(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0);
    emulation_reconfigure();
}

static inline int restore(void **)
{
    for (const char *name : {"ORDER", "GUARD", "DEVICES", "MEMORY", "FAIL"}) {
        char full[64] = "HSGD_EMULATION_";

        assert_int_equal(unsetenv(strcat(full, name)), 0);
    }
    emulation_reconfigure();
    return 0;
}

static inline cudaStream_t new_stream()
{
    cudaStream_t stream = NULL;

    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    return stream;
}

static inline int *new_ints(int count)
{
    void *memory = NULL;

    assert_int_equal(cudaMalloc(&memory, (size_t)count * sizeof(int)), cudaSuccess);
    return (int *)memory;
}

/* Run `body` in a process of its own: it must end badly and say `message`. */
static inline void dies(void (*body)(), const char *message)
{
    char said[4096] = "";
    size_t length = 0;
    int ends[2], status = 0;

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();

    if (child == 0) {
        for (int s : {SIGSEGV, SIGBUS, SIGABRT}) {
            signal(s, SIG_DFL); /* not the test library's */
        }
        dup2(ends[1], 2);
        body();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got = 1; got > 0 && length < sizeof said - 1; length += (size_t)(got > 0 ? got : 0)) {
        got = read(ends[0], said + length, sizeof said - 1 - length);
    }
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (strstr(said, message) == NULL && strstr(said, "AddressSanitizer") == NULL) {
        fail_msg("said \"%s\" instead of \"%s\"", said, message);
    }
}

static inline void run_and_wait(cudaError_t launched)
{
    assert_int_equal(launched, cudaSuccess);
    (void)cudaDeviceSynchronize();
}

#define TEST(name) cmocka_unit_test_teardown(name, restore)
