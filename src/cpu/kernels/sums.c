/* src/cpu/kernels/sums.c - pixels and weights in, group results out: conversion to reals, and the exact sums over groups. */
#include "cpu/kernels/kernel.h"
#include <math.h>

hsgd_status KERNEL(images)(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m,
                           const int64_t *index, float mean, float deviation, void *x, hsgd_error *err)
{
    (void)self;
    (void)worker;
    (void)err;
    for (int64_t s = 0; s < m; s++) {
        const uint8_t *restrict from = pixels + index[s] * count;
        real *restrict to = (real *)x + s * count;

        for (int64_t i = 0; i < count; i++) {
            to[i] = (real)(((float)from[i] / 255.0f - mean) / deviation);
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(narrow)(void *self, int64_t n, int64_t k, const double *x, const int64_t *order,
                           const int32_t *exponents, void *out, hsgd_error *err)
{
    (void)self;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const int exponent = exponents != NULL ? exponents[j] : 0;
        const double half = exponent > HSGD_MOST_EXPONENT ? NAN : ldexp(1.0, -exponent / 2);
        const double rest = ldexp(1.0, -exponent - -exponent / 2); /* 2^-exponent itself may overflow */
        const double *from = x + j * n;
        real *to = (real *)out + j * n;

        if (exponent == 0) {
            for (int64_t i = 0; i < n; i++) {
                to[i] = (real)from[order[i]];
            }
        } else {
            for (int64_t i = 0; i < n; i++) {
                to[i] = (real)(from[order[i]] * half * rest);
            }
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(squares)(void *self, int worker, int64_t count, int64_t k, hsgd_columns x, double *out,
                            hsgd_error *err)
{
    double sum = 0.0;

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const real *from = column(x, j);

        for (int64_t i = 0; i < count; i++) {
            sum += (double)from[i] * (double)from[i];
        }
    }
    *out += sum;
    return HSGD_OK;
}

hsgd_status KERNEL(accumulate)(void *self, int worker, hsgd_reduction reduction, int64_t count, const void *addends,
                               double scale, void *sum, hsgd_error *err)
{
    const real *restrict from = addends;

    (void)self;
    (void)worker;
    (void)err;
    if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
        int64_t *restrict high = sum;
        int64_t *restrict low = high + count;
        int64_t bad = 0;

#pragma omp simd reduction(+ : bad)
        for (int64_t i = 0; i < count; i++) { /* hsgd_sum_add without a branch, so that it runs in vectors */
            const bool fits = fabs((double)from[i]) < HSGD_SUM_LIMIT;
            const double x = (fits ? (double)from[i] : 0.0) * scale;
            const int64_t h = (int64_t)(x * HSGD_SUM_HIGH);

            high[i] += h;
            low[i] += (int64_t)((x - (double)h / HSGD_SUM_HIGH) * HSGD_SUM_LOW);
            bad += !fits;
        }
        high[2 * count] += bad;
    } else {
        double *restrict to = sum;

        for (int64_t i = 0; i < count; i++) {
            to[i] += (double)from[i];
        }
    }
    return HSGD_OK;
}

#ifdef REAL_IS_double
hsgd_status KERNEL(accumulate_double)(void *self, int worker, hsgd_reduction reduction, int64_t count, const double *x,
                                      double scale, void *sum, hsgd_error *err)
{
    return KERNEL(accumulate)(self, worker, reduction, count, x, scale, sum, err);
}
#endif
