/* tests/support.h - what the tests of all rooms share: cmocka, the communicator of the launch, small helpers. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "backend.h"
#include "base/comm.h"

/* The communicator of this launch: MPI's where the build has MPI, else serial.  Made on first use. */
hsgd_comm *test_comm(void);

/* Run a cmocka group and leave: the same exit code on every rank (failures of any rank fail all). */
#define test_run(tests) test_finish(cmocka_run_group_tests(tests, NULL, NULL))
int test_finish(int failed);

/* A backend for tests of what stands above backends: the CPU's with so many threads or, where $HSGD_TEST_BACKEND is
 * "cuda", CUDA's (of the module that $HSGD_CUDA_MODULE names).  Where there is no such device the test program ends as
 * skipped (77), with the reason, or with $HSGD_TEST_DEVICE_REQUIRED=1 as failed.  Collective on test_comm(). */
hsgd_status test_backend_create(hsgd_precision precision, int threads, hsgd_backend **out, hsgd_error *err);
bool test_backend_is_cuda(void);

/* Print err's text and fail unless st is HSGD_OK. */
#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        const hsgd_status assert_ok_st = (call);                                                                       \
        if (assert_ok_st != HSGD_OK) {                                                                                 \
            fail_msg("%s: status %d: %s", #call, assert_ok_st, err.text);                                              \
        }                                                                                                              \
    } while (0)

/* Fail unless |a - b| <= tolerance. */
#define assert_near(a, b, tolerance)                                                                                   \
    do {                                                                                                               \
        const double near_a = (a), near_b = (b), near_t = (tolerance);                                                 \
        if (!(near_a - near_b <= near_t && near_b - near_a <= near_t)) {                                               \
            fail_msg("%s = %.17g, %s = %.17g: differ by %.3g, allowed %.3g", #a, near_a, #b, near_b, near_a - near_b,  \
                     near_t);                                                                                          \
        }                                                                                                              \
    } while (0)

/* Directory of the golden references ($HSGD_GOLDEN) or NULL: then call skip() after saying why. */
const char *test_golden(void);
/* Directory of real MNIST ($HSGD_DATA) or NULL. */
const char *test_data(void);
