/* src/study/small_vectors.h - norms and products of vectors that every rank holds whole, in one fixed order of the
 * entries: the same bits on every rank.  Local, all of them. */
#pragma once
#include <math.h>
#include <stdint.h>

static inline double small_dot(int64_t n, const double *x, const double *y)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

static inline double small_norm(int64_t n, const double *x)
{
    return sqrt(small_dot(n, x, x));
}

/* norm(x - y) */
static inline double small_distance(int64_t n, const double *x, const double *y)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    }
    return sqrt(sum);
}

/* Scale x to `length`; a zero vector stays zero. */
static inline void small_rescale(int64_t n, double *x, double length)
{
    const double own = small_norm(n, x);

    for (int64_t i = 0; i < n && own > 0.0; i++) {
        x[i] *= length / own;
    }
}
