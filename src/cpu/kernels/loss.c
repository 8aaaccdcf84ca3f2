/* src/cpu/kernels/loss.c - softmax cross-entropy, its tangent and a root of its Hessian; sums in double. */
#include "cpu/kernels/kernel.h"
#include <math.h>

/* Largest of z, the lowest index on ties. */
static int64_t largest(int64_t classes, const real *z)
{
    int64_t best = 0;

    for (int64_t c = 1; c < classes; c++) {
        if (z[c] > z[best]) {
            best = c;
        }
    }
    return best;
}

hsgd_status KERNEL(softmax_loss)(void *self, int worker, int64_t m, int64_t classes, const void *z,
                                 const uint8_t *labels, const int64_t *index, void *p, void *delta, double *tally,
                                 int64_t *confusion, hsgd_error *err)
{
    double loss = 0.0;
    int64_t correct = 0;

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t s = 0; s < m; s++) {
        const real *logits = (const real *)z + s * classes;
        real *soft = (real *)p + s * classes;
        real *adjoint = (real *)delta + s * classes;
        const int64_t label = labels[index[s]], best = largest(classes, logits);
        const double top = (double)logits[best]; /* subtracted, so that exp cannot overflow */
        double sum = 0.0;

        for (int64_t c = 0; c < classes; c++) {
            sum += exp((double)logits[c] - top); /* a NaN or Inf logit makes the sum, hence the loss, NaN */
        }
        for (int64_t c = 0; c < classes; c++) {
            const double share = exp((double)logits[c] - top) / sum;

            soft[c] = (real)share;
            adjoint[c] = (real)(share - (c == label ? 1.0 : 0.0));
        }
        loss += log(sum) - ((double)logits[label] - top);
        correct += best == label;
        if (confusion != NULL) {
            confusion[label * classes + best]++;
        }
    }
    tally[HSGD_TALLY_LOSS] = loss;
    tally[HSGD_TALLY_CORRECT] = (double)correct;
    return HSGD_OK;
}

hsgd_status KERNEL(softmax_tangent)(void *self, int worker, int64_t m, int64_t classes, int64_t k, const void *p,
                                    hsgd_columns tz, hsgd_columns tdelta, hsgd_error *err)
{
    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t s = 0; s < m; s++) {
            const real *soft = (const real *)p + s * classes;
            const real *tangent = column(tz, j) + s * classes;
            real *to = column(tdelta, j) + s * classes;
            double mean = 0.0;

            for (int64_t c = 0; c < classes; c++) {
                mean += (double)soft[c] * (double)tangent[c];
            }
            for (int64_t c = 0; c < classes; c++) {
                to[c] = (real)((double)soft[c] * ((double)tangent[c] - mean));
            }
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(softmax_root)(void *self, int worker, int64_t classes, int64_t first, int64_t k, const void *p,
                                 void *out, hsgd_error *err)
{
    const real *soft = p;

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const double root = sqrt((double)soft[first + j]);

        for (int64_t c = 0; c < classes; c++) {
            const double e = c == first + j ? 1.0 : 0.0;

            ((real *)out)[j * classes + c] = (real)(root * (e - (double)soft[c]));
        }
    }
    return HSGD_OK;
}
