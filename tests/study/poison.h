/* tests/study/poison.h - a backend and a communicator that on one rank put a number that is not finite where it is asked
 * for, from a moment of the study on. */
#pragma once
#include "whole.h"

/* The places of training and eigen stage, and images of the test only. */
typedef enum { IN_IMAGE, IN_WEIGHT, IN_GRADIENT, IN_PRODUCT, IN_LANCZOS, IN_SUM, POISON_PLACES, IN_TEST } poison_place;

enum {
    POISON_PARAMETERS = 3950, /* of conv 2 3 / relu / maxpool 2 / linear 10 */
    POISON_PIXEL = 14 * 28 + 14,
    POISON_AFTER = 3,  /* updates that are good; products of which the last is not */
    POISON_OUT = 3940, /* where the last layer's bias begins */
    POISON_OUT_WEIGHT = 20,
    POISON_BIAS = 18
};

typedef struct {
    bool here; /* on this rank */
    bool once; /* a fault that passes */
    bool lost; /* no evaluation after the fault's has images */
    poison_place place;
    double value;
    int64_t entry;           /* of the parameters */
    int64_t after;           /* updates of the weights that are good */
    int64_t updates;         /* made so far */
    int64_t products;        /* asked for so far */
    int64_t bad;             /* the number of the first that was bad */
    int64_t sums;            /* of gradients, group by group, so far */
    bool in_product;         /* what is summed now belongs to one */
    bool done;               /* it was put in */
    bool gone;               /* images are lost */
    const uint8_t *training; /* its pixels: the first that are asked for */
} poison;

static poison poison_now;
static const hsgd_backend_ops *poison_whole;
static hsgd_backend_ops poison_ops;
static const hsgd_comm_ops *poison_whole_comm;
static hsgd_comm_ops poison_comm_ops;

/* Is it to be put in at `place` now? */
static inline bool poison_due(poison_place place)
{
    const bool of_training = place != IN_PRODUCT && place != IN_LANCZOS;
    const bool due = poison_now.here && poison_now.place == place &&
                     (of_training ? poison_now.updates >= poison_now.after : poison_now.products >= POISON_AFTER);

    poison_now.done = poison_now.done || due;
    poison_now.here = poison_now.here && !(due && poison_now.once);
    return due;
}

static inline hsgd_status poison_images(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m,
                                        const int64_t *index, float mean, float deviation, void *x, hsgd_error *err)
{
    const hsgd_status st = poison_whole->images(self, worker, pixels, count, m, index, mean, deviation, x, err);

    poison_now.training = poison_now.training != NULL ? poison_now.training : pixels;
    if (poison_now.gone) {
        return hsgd_error_set(err, HSGD_ERR_DEVICE, "device: fell off the bus");
    }
    if (poison_due(IN_IMAGE) || (pixels != poison_now.training && poison_due(IN_TEST))) {
        ((float *)x)[POISON_PIXEL] = (float)poison_now.value;
    }
    return st;
}

static inline hsgd_status poison_narrow(void *self, int64_t n, int64_t k, const double *x, const int64_t *order,
                                        const int32_t *exponents, void *out, hsgd_error *err)
{
    poison_now.in_product = exponents != NULL;
    poison_now.gone = poison_now.gone || (poison_now.lost && poison_now.done); /* from the next evaluation on */
    poison_now.products += exponents != NULL ? k : 0;
    return poison_whole->narrow(self, n, k, x, order, exponents, out, err);
}

static inline hsgd_status poison_accumulate(void *self, int worker, hsgd_reduction reduction, int64_t count,
                                            const void *x, double scale, void *sum, hsgd_error *err)
{
    poison_now.sums += count >= POISON_PARAMETERS && !poison_now.in_product;
    if (count >= POISON_PARAMETERS && (poison_due(IN_GRADIENT) || (poison_now.in_product && poison_due(IN_PRODUCT)))) {
        float *entry = (float *)(uintptr_t)x + poison_now.entry; /* the group's result, not a user's data */

        *entry = (float)poison_now.value;
        poison_now.bad = poison_now.bad == 0 ? poison_now.products : poison_now.bad;
    }
    return poison_whole->accumulate(self, worker, reduction, count, x, scale, sum, err);
}

static inline hsgd_status poison_update(void *self, const hsgd_sgd_rule *rule, int64_t n, const double *g,
                                        const double *halted, double *p, double *momentum, hsgd_error *err)
{
    const hsgd_status st = poison_whole->sgd_update(self, rule, n, g, halted, p, momentum, err);

    poison_now.updates++;
    if (poison_due(IN_WEIGHT)) {
        p[poison_now.entry] = poison_now.value;
    }
    return st;
}

static inline hsgd_status poison_gram(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx,
                                      int64_t ky, const double *y, int64_t ldy, double *partial, hsgd_error *err)
{
    const hsgd_status st = poison_whole->gram(self, rows, block, kx, x, ldx, ky, y, ldy, partial, err);

    if (rows > 0 && poison_due(IN_LANCZOS)) {
        partial[0] = poison_now.value;
    }
    return st;
}

static inline hsgd_status poison_sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    if (type == HSGD_TYPE_F64 && count >= POISON_PARAMETERS && poison_due(IN_SUM)) {
        ((double *)data)[poison_now.entry] = poison_now.value;
    }
    return poison_whole_comm->sum(self, type, count, data, err);
}

static inline hsgd_status poison_backend(void *context, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(whole_backend(context, precision, out, err));
    poison_whole = (*out)->ops;
    poison_ops = *poison_whole;
    poison_ops.images = poison_images;
    poison_ops.narrow = poison_narrow;
    poison_ops.accumulate = poison_accumulate;
    poison_ops.sgd_update = poison_update;
    poison_ops.gram = poison_gram;
    (*out)->ops = &poison_ops;
done:
    return st;
}

/* The launch's ranks, whose sums can be poisoned.  The launch's communicator must outlive it. */
static inline hsgd_comm poison_comm(void)
{
    hsgd_comm comm = *test_comm();

    poison_whole_comm = comm.ops;
    poison_comm_ops = *comm.ops;
    poison_comm_ops.sum = poison_sum;
    comm.ops = &poison_comm_ops;
    return comm;
}
