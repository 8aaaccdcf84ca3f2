/* tests/curvature/broken.h - a backend that on one rank fails at a place of choice, and works again once that is over. */
#pragma once
#include "curvature/fixture.h"

/* The call that fails: on the way to a rank's sum, from the first to the last. */
typedef enum { NOWHERE, AT_UPLOAD, AT_NARROW, AT_IMAGES, AT_ACCUMULATE, AT_MERGE } broken_place;
enum { BROKEN_PLACES = AT_MERGE + 1 };

static const hsgd_backend_ops *broken_whole; /* as they were */
static broken_place broken_at;               /* NOWHERE on ranks that do not fail */

static const char *broken_text = "device: fell off the bus";

static inline hsgd_status broken_fail(hsgd_error *err)
{
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "%s", broken_text);
}

/* Once: a rank must be able to tell the others. */
static inline hsgd_status broken_upload(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err)
{
    if (broken_at == AT_UPLOAD) {
        broken_at = NOWHERE;
        return broken_fail(err);
    }
    return broken_whole->upload(self, bytes, host, memory, err);
}

static inline hsgd_status broken_narrow(void *self, int64_t n, int64_t k, const double *x, const int64_t *order,
                                        const int32_t *exponents, void *out, hsgd_error *err)
{
    return broken_at == AT_NARROW ? broken_fail(err) : broken_whole->narrow(self, n, k, x, order, exponents, out, err);
}

static inline hsgd_status broken_images(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m,
                                        const int64_t *index, float mean, float deviation, void *x, hsgd_error *err)
{
    return broken_at == AT_IMAGES
               ? broken_fail(err)
               : broken_whole->images(self, worker, pixels, count, m, index, mean, deviation, x, err);
}

static inline hsgd_status broken_accumulate(void *self, int worker, hsgd_reduction reduction, int64_t count,
                                            const void *x, double scale, void *sum, hsgd_error *err)
{
    return broken_at == AT_ACCUMULATE ? broken_fail(err)
                                      : broken_whole->accumulate(self, worker, reduction, count, x, scale, sum, err);
}

static inline hsgd_status broken_accumulate_double(void *self, int worker, hsgd_reduction reduction, int64_t count,
                                                   const double *x, double scale, void *sum, hsgd_error *err)
{
    return broken_at == AT_ACCUMULATE
               ? broken_fail(err)
               : broken_whole->accumulate_double(self, worker, reduction, count, x, scale, sum, err);
}

static inline hsgd_status broken_merge(void *self, hsgd_reduction reduction, int64_t words, int workers,
                                       void *const *sums, void *out, hsgd_error *err)
{
    return broken_at == AT_MERGE ? broken_fail(err)
                                 : broken_whole->merge(self, reduction, words, workers, sums, out, err);
}

/* The fixture's samples are from now on summed by a backend that can be broken.  ops, backend: room, to outlive it. */
static inline void broken_install(fixture *f, hsgd_backend_ops *ops, hsgd_backend *backend)
{
    broken_whole = f->backend->ops;
    broken_at = NOWHERE;
    *ops = *f->backend->ops;
    ops->upload = broken_upload;
    ops->narrow = broken_narrow;
    ops->images = broken_images;
    ops->accumulate = broken_accumulate;
    ops->accumulate_double = broken_accumulate_double;
    ops->merge = broken_merge;
    *backend = *f->backend;
    backend->ops = ops;
    f->problem.backend = backend;
}

/* From now on `rank` fails there, the others do not. */
static inline void broken_begin(broken_place place, int rank)
{
    broken_at = test_comm()->rank == rank ? place : NOWHERE;
}

static inline void broken_end(void)
{
    broken_at = NOWHERE;
}

/* More groups than ranks, so that every rank has a share to fail at. */
static inline fixture broken_fixture(hsgd_reduction reduction)
{
    return fixture_create(&(fixture_plan){.layers = mixed_layers,
                                          .edge = 8,
                                          .classes = 3,
                                          .groups = 5,
                                          .rest = 3,
                                          .precision = HSGD_DOUBLE,
                                          .reduction = reduction,
                                          .comm = test_comm()});
}
