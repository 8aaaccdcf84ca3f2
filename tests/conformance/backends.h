/* tests/conformance/backends.h - the backends under test, and what the tests of their kernels share: random operands,
 * memory with guarded gaps, layouts, error bounds.  A new backend is one more table like `on_the_cpu`. */
#pragma once
#include "base/random.h"
#include "cpu/cpu.h"
#include "support.h"
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { WORKERS = 2 };

static inline hsgd_status make_cpu(const char *set, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    (void)setenv("HSGD_INSTRUCTION_SET", set, 1);
    st = hsgd_backend_cpu_create(precision, WORKERS, out, err);
    (void)unsetenv("HSGD_INSTRUCTION_SET");
    return st;
}

/* One that the build or the machine lacks (HSGD_ERR_DEVICE) is passed over; required ones must be there. */
typedef struct {
    hsgd_status (*make)(const char *variant, hsgd_precision precision, hsgd_backend **out, hsgd_error *err);
    const char *variant;
    bool required;
} implementation;

/* CUDA's, of the module that the environment names: in a test run of its own (support.h). */
static inline hsgd_status make_cuda(const char *variant, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    (void)variant;
    return test_backend_create(precision, WORKERS, out, err);
}

static const implementation on_the_cpu[] = {
    {make_cpu, "generic", true},
    {make_cpu, "avx2", false},
    {make_cpu, "avx512", false},
};
static const implementation on_a_gpu[] = {{make_cuda, "cuda", true}};

/* The backend at work, for messages. */
static const hsgd_backend *subject;

/* Run `check` on every backend there is, in both precisions. */
static inline void on_all_backends(void (*check)(const hsgd_backend *b))
{
    const bool cuda = test_backend_is_cuda();
    const implementation *implementations = cuda ? on_a_gpu : on_the_cpu;
    const size_t count = cuda ? sizeof on_a_gpu / sizeof on_a_gpu[0] : sizeof on_the_cpu / sizeof on_the_cpu[0];

    for (size_t i = 0; i < count; i++) {
        for (hsgd_precision p = HSGD_SINGLE; p <= HSGD_DOUBLE; p++) {
            hsgd_backend *b = NULL;
            hsgd_error err = {0};
            const hsgd_status st = implementations[i].make(implementations[i].variant, p, &b, &err);

            if (st == HSGD_ERR_DEVICE && !implementations[i].required) {
                continue;
            }
            if (st != HSGD_OK) {
                fail_msg("%s: %s", implementations[i].variant, err.text);
            }
            subject = b;
            check(b);
            hsgd_backend_destroy(&b);
        }
    }
}

/* Half the distance from 1 to the next real: the largest relative error of one operation. */
static inline double roundoff(void)
{
    return subject->precision == HSGD_DOUBLE ? DBL_EPSILON / 2 : FLT_EPSILON / 2;
}

/* A sum of n products, whatever its order, is off by less than n u / (1 - n u) times the sum of their absolute values
 * (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).  The reference, summed in double, is off
 * by as much for u = 2^-53: hence the factor 2, which also covers 1 - n u.  What underflows adds less than FLT_MIN. */
static inline double sum_bound(int64_t terms, double sum_of_absolutes)
{
    return 2.0 * (double)terms * roundoff() * sum_of_absolutes + FLT_MIN;
}

/* Fail, naming backend, operation and place, unless |got - expected| <= bound; NaN fails. */
static inline void check_near(const char *what, int64_t at, double got, double expected, double bound)
{
    if (!(fabs(got - expected) <= bound)) {
        fail_msg("%s (%s, %s), entry %lld: %.17g instead of %.17g, allowed %.3g", what, subject->ops->name,
                 subject->instruction_set, (long long)at, got, expected, bound);
    }
}

/* ---- numbers ---- */

static uint64_t draws; /* how many numbers have been drawn: the position in the stream */

static inline hsgd_random test_stream(void)
{
    return hsgd_random_stream(1, HSGD_RANDOM_TEST, 0);
}

/* A whole number in [low, high]. */
static inline int64_t draw_between(int64_t low, int64_t high)
{
    const hsgd_random r = test_stream();

    return low + (int64_t)hsgd_random_below(&r, draws++, (uint64_t)(high - low + 1));
}

/* A real in [-1, 1) that float holds exactly. */
static inline double draw_real(void)
{
    const hsgd_random r = test_stream();

    return (double)(float)(2.0 * hsgd_random_uniform(&r, draws++) - 1.0);
}

/* `count` reals, of which about `zeros` in 8 are zero.  To be freed. */
static inline double *draw_reals(int64_t count, int64_t zeros)
{
    double *x = malloc((size_t)count * sizeof *x);

    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = draw_between(0, 7) < zeros ? 0.0 : draw_real();
    }
    return x;
}

/* ---- memory ---- */

/* count doubles as the backend's reals, in its memory; and back.  To be released (freed). */
static inline void *to_backend(const double *x, int64_t count)
{
    const size_t size = hsgd_real_size(subject->precision);
    void *memory = NULL, *host = malloc((size_t)count * size);
    hsgd_error err = {0};

    assert_non_null(host);
    for (int64_t i = 0; i < count; i++) {
        if (size == sizeof(double)) {
            ((double *)host)[i] = x[i];
        } else {
            ((float *)host)[i] = (float)x[i];
        }
    }
    assert_ok(subject->ops->alloc(subject->self, (size_t)count * size, &memory, &err));
    assert_ok(subject->ops->upload(subject->self, (size_t)count * size, host, memory, &err));
    free(host);
    return memory;
}

static inline double *from_backend(const void *memory, int64_t count)
{
    const size_t size = hsgd_real_size(subject->precision);
    double *x = malloc((size_t)count * sizeof *x);
    void *host = malloc((size_t)count * size);
    hsgd_error err = {0};

    assert_non_null(x);
    assert_non_null(host);
    assert_ok(subject->ops->download(subject->self, (size_t)count * size, memory, host, &err));
    for (int64_t i = 0; i < count; i++) {
        x[i] = size == sizeof(double) ? ((double *)host)[i] : (double)((float *)host)[i];
    }
    free(host);
    return x;
}

/* `bytes` of host memory in backend memory, and back into host memory of the caller. */
static inline void *put_bytes(const void *host, size_t bytes)
{
    void *memory = NULL;
    hsgd_error err = {0};

    assert_ok(subject->ops->alloc(subject->self, bytes, &memory, &err));
    assert_ok(subject->ops->upload(subject->self, bytes, host, memory, &err));
    return memory;
}

static inline void get_bytes(const void *memory, void *host, size_t bytes)
{
    hsgd_error err = {0};

    assert_ok(subject->ops->download(subject->self, bytes, memory, host, &err));
}

/* Host bytes where kernels read them; to be let go. */
static inline const void *hold(const void *host, size_t bytes)
{
    const void *memory = NULL;
    hsgd_error err = {0};

    assert_ok(subject->ops->hold(subject->self, bytes, host, &memory, &err));
    return memory;
}

static inline void let_go(const void *host)
{
    subject->ops->let_go(subject->self, host);
}

static inline void release(void *memory)
{
    subject->ops->release(subject->self, memory);
}

/* ---- layouts ---- */

static inline int64_t elements(hsgd_shape s)
{
    return s.channels * s.height * s.width;
}

/* Where the backend keeps a sample's activations: backend[i] = canonical[order[i]].  A linear layer's weights meet them
 * one by one, so the order of its one row tells.  To be freed. */
static inline int64_t *activation_order(hsgd_shape shape)
{
    const hsgd_layer probe = {.kind = HSGD_LAYER_LINEAR,
                              .in = {elements(shape), 1, 1},
                              .out = {1, 1, 1},
                              .unflat = shape,
                              .weight_count = elements(shape),
                              .bias_count = 1};
    int64_t *order = malloc((size_t)elements(shape) * sizeof *order);

    assert_non_null(order);
    for (int64_t i = 0; i < elements(shape); i++) {
        order[i] = i;
    }
    if (subject->ops->weight_order != NULL) {
        subject->ops->weight_order(subject->self, &probe, order);
    }
    return order;
}
