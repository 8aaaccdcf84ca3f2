/* src/cpu/kernels/pointwise.c - ReLU and tanh with their derivatives.  The pragmas say that input and output, where they
 * are the same memory, are so entry by entry. */
#include "cpu/kernels/kernel.h"
#include <string.h>

hsgd_status KERNEL(relu_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err)
{
    const real *from = x;
    real *to = y;

    (void)self;
    (void)worker;
    (void)err;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        to[i] = from[i] <= 0 ? 0 : from[i]; /* this way round NaN stays NaN */
    }
    return HSGD_OK;
}

hsgd_status KERNEL(relu_derivative)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                    hsgd_columns out, hsgd_error *err)
{
    const real *value = y;

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const real *from = column(t, j);
        real *to = column(out, j);

#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            to[i] = value[i] > 0 ? from[i] : 0;
        }
    }
    return HSGD_OK;
}

/* ---- tanh, in vectors: a library's is a call for every entry ---- */

#ifdef REAL_IS_double
typedef int64_t bits;
enum { DEGREE = 13, MANTISSA = 52 };
#define ONE_BITS  INT64_C(0x3ff0000000000000)
#define SATURATED 20.0               /* tanh is 1 from here, rounded */
#define ROUNDER   6755399441055744.0 /* 1.5 * 2^52: adding it leaves whole numbers, in the low bits */
#define LN2_HIGH  0x1.62e42feep-1    /* 32 bits: its multiples by small whole numbers are exact */
#define LN2_LOW   0x1.a39ef35793c76p-33
#else
typedef int32_t bits;
enum { DEGREE = 7, MANTISSA = 23 };
#define ONE_BITS  INT32_C(0x3f800000)
#define SATURATED 10.0f
#define ROUNDER   12582912.0f  /* 1.5 * 2^23 */
#define LN2_HIGH  0x1.62e4p-1f /* 15 bits */
#define LN2_LOW   0x1.7f7d1cp-20f
#endif

/* tanh x = e / (e + 2) with the sign of x, e = exp(2|x|) - 1.  With 2|x| = n ln 2 + r, |r| <= ln 2 / 2, e is
 * 2^n (exp(r) - 1) + (2^n - 1): no cancellation, and for small x, n = 0, it is as exact as the series of exp(r) - 1.
 * DEGREE terms of that leave less than a tenth of the roundoff.  NaN stays NaN. */
INLINE real tanh_of(real x)
{
    static const real inverse_factorial[] = {
        1,
        1,
        (real)(1.0 / 2),
        (real)(1.0 / 6),
        (real)(1.0 / 24),
        (real)(1.0 / 120),
        (real)(1.0 / 720),
        (real)(1.0 / 5040),
        (real)(1.0 / 40320),
        (real)(1.0 / 362880),
        (real)(1.0 / 3628800),
        (real)(1.0 / 39916800),
        (real)(1.0 / 479001600),
        (real)(1.0 / 6227020800),
    };
    const real size = x < 0 ? -x : x, twice = 2 * (size > SATURATED ? SATURATED : size);
    const real shifted = twice * (real)1.44269504088896340736 + ROUNDER, n = shifted - ROUNDER;
    const real r = (twice - n * LN2_HIGH) - n * LN2_LOW;
    real series = inverse_factorial[DEGREE], power = 0, e = 0;
    bits shift = 0;

#pragma GCC unroll 16
    for (int i = DEGREE - 1; i >= 2; i--) {
        series = series * r + inverse_factorial[i];
    }
    memcpy(&shift, &shifted, sizeof shift);
    shift = (bits)((uint64_t)shift << MANTISSA) + ONE_BITS; /* the bits of 2^n */
    memcpy(&power, &shift, sizeof power);
    e = power * (r + r * r * series) + (power - 1);
    e = e / (e + 2);
    return x < 0 ? -e : e;
}

hsgd_status KERNEL(tanh_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err)
{
    const real *from = x;
    real *to = y;

    (void)self;
    (void)worker;
    (void)err;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        to[i] = tanh_of(from[i]);
    }
    return HSGD_OK;
}

hsgd_status KERNEL(tanh_derivative)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                    hsgd_columns out, hsgd_error *err)
{
    const real *value = y;

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const real *from = column(t, j);
        real *to = column(out, j);

#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            to[i] = (1 - value[i] * value[i]) * from[i];
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(tanh_second)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns ty,
                                const void *dy, hsgd_columns dx, hsgd_error *err)
{
    const real *value = y;
    const real *adjoint = dy;

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const real *tangent = column(ty, j);
        real *to = column(dx, j);

#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            to[i] -= 2 * value[i] * tangent[i] * adjoint[i];
        }
    }
    return HSGD_OK;
}
