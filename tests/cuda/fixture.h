/* tests/cuda/fixture.h - what the tests of the CUDA backend's host side share.  They run on the emulation of CUDA's
 * libraries: what an operation means on a GPU is checked by the conformance tests. */
#pragma once
#include "conv.h"
#include "emulation.h"
#include "support.h"
#include <stdlib.h>

enum { GAP = 3 };              /* reals between columns that nobody may touch */
static const double guard = 7; /* what stands there */

/* A device as the environment now says, with one backend; counted calls begin anew. */
typedef struct {
    hsgd_cuda_device *device;
    hsgd_backend *backend;
    size_t held; /* by others, before */
} fixture;

static inline void set(const char *name, const char *value)
{
    if (value != NULL) {
        (void)setenv(name, value, 1);
    } else {
        (void)unsetenv(name);
    }
    emulation_reconfigure();
}

static inline fixture fixture_make(hsgd_precision precision, bool tf32)
{
    fixture f = {NULL, NULL, emulation_held()};
    hsgd_error err = {0};

    (void)unsetenv("NVIDIA_TF32_OVERRIDE");
    emulation_reconfigure();
    assert_ok(hsgd_cuda_device_create(0, tf32, &f.device, &err));
    assert_ok(hsgd_backend_cuda_create(f.device, precision, &f.backend, &err));
    return f;
}

/* hsgd_backend_destroy belongs to a room that these tests do without. */
static inline void backend_end(hsgd_backend **backend)
{
    (*backend)->ops->destroy((*backend)->self);
    free(*backend);
    *backend = NULL;
}

/* Nothing is left behind, but for a device that is stuck. */
static inline void fixture_end(fixture *f)
{
    const bool stuck = f->device->stuck;

    backend_end(&f->backend);
    hsgd_cuda_device_destroy(&f->device);
    assert_null(f->device);
    assert_true(stuck || emulation_held() == f->held);
}

/* ---- operands ---- */

/* A pseudo-random multiple of 1/4 in [-1, 1]: sums of thousands of products are exact, in float too. */
static inline double draw(void)
{
    static unsigned state = 1;

    state = state * 1664525u + 1013904223u;
    return (double)((int)(state >> 16) % 9 - 4) / 4;
}

/* k columns of `count` reals, GAP apart; one where `shared`. */
typedef struct {
    int64_t count, k, stride;
    bool shared;
    double *host; /* [k or 1][stride] */
    hsgd_columns columns;
} operand;

static inline int64_t operand_size(const operand *a)
{
    return (a->shared ? 1 : a->k) * a->stride;
}

static inline double *operand_at(const operand *a, int64_t j)
{
    return a->host + (a->shared ? 0 : j) * a->stride;
}

static inline operand operand_make(const fixture *f, int64_t count, int64_t k, bool shared)
{
    operand a = {.count = count, .k = k, .stride = count + GAP, .shared = shared};
    const size_t size = hsgd_real_size(f->backend->precision);
    const int64_t all = operand_size(&a);
    float *singles = malloc((size_t)all * sizeof *singles);
    hsgd_error err = {0};

    a.host = malloc((size_t)all * sizeof *a.host);
    assert_true(a.host != NULL && singles != NULL);
    for (int64_t i = 0; i < all; i++) {
        a.host[i] = i % a.stride < count ? draw() : guard;
        singles[i] = (float)a.host[i];
    }
    a.columns.stride = shared ? 0 : a.stride;
    assert_ok(f->backend->ops->alloc(f->backend->self, (size_t)all * size, &a.columns.data, &err));
    assert_ok(f->backend->ops->upload(f->backend->self, (size_t)all * size,
                                      size == sizeof(double) ? (const void *)a.host : (const void *)singles,
                                      a.columns.data, &err));
    free(singles);
    return a;
}

static inline void operand_free(const fixture *f, operand *a)
{
    f->backend->ops->release(f->backend->self, a->columns.data);
    free(a->host);
}

/* Fail unless the operand in backend memory is what host[] says, gaps included. */
static inline void operand_check(const fixture *f, const operand *a, const char *what)
{
    const size_t size = hsgd_real_size(f->backend->precision);
    const int64_t all = operand_size(a);
    void *got = malloc((size_t)all * size);
    hsgd_error err = {0};

    assert_non_null(got);
    assert_ok(f->backend->ops->download(f->backend->self, (size_t)all * size, a->columns.data, got, &err));
    for (int64_t i = 0; i < all; i++) {
        const double value = size == sizeof(double) ? ((double *)got)[i] : (double)((float *)got)[i];

        if (value != a->host[i]) {
            fail_msg("%s, entry %lld of column %lld: %g instead of %g", what, (long long)(i % a->stride),
                     (long long)(i / a->stride), value, a->host[i]);
        }
    }
    free(got);
}
