/* tests/bench/activity.h - which of the convolutions' outputs carry a derivative. */
#pragma once
#include "data/dataset.h"

enum { ACTIVITY_CONVOLUTIONS = 2 };

/* Shares of places. */
typedef struct {
    double active[ACTIVITY_CONVOLUTIONS]; /* of each convolution's outputs those that win their pooling and are > 0 */
    double pixels;                        /* of the images those that are not 0 */
} activity;

/* Over the split's first `samples` images, at weights of the default network (flat, canonical order), by plain loops
 * that share nothing with what is measured.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status activity_measure(const hsgd_split *split, int64_t samples, const double *weights, activity *out,
                             hsgd_error *err);
