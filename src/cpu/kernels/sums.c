/* src/cpu/kernels/sums.c - pixels in, group results out: conversion of images, and the exact sums over groups. */
#include "cpu/kernels/kernel.h"

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

hsgd_status KERNEL(accumulate)(void *self, int worker, hsgd_reduction reduction, int64_t count, const void *x,
                               double scale, void *sum, hsgd_error *err)
{
    const real *restrict from = x;

    (void)self;
    (void)worker;
    (void)err;
    if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
        int64_t *restrict high = sum;
        int64_t *restrict low = high + count;
        int64_t bad = 0;

        for (int64_t i = 0; i < count; i++) {
            bad += hsgd_sum_add((double)from[i], scale, &high[i], &low[i]);
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
