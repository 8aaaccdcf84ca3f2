/* src/cpu/kernels/pointwise.c - ReLU and tanh with their derivatives.  The pragmas say that input and output, where they
 * are the same memory, are so entry by entry. */
#include "cpu/kernels/kernel.h"
#include <math.h>

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

hsgd_status KERNEL(tanh_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err)
{
    const real *from = x;
    real *to = y;

    (void)self;
    (void)worker;
    (void)err;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        to[i] = (real)tanh((double)from[i]);
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
