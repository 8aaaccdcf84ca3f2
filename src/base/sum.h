/* src/base/sum.h - sums that do not depend on who summed: fixed-point words whose addition is exact.
 *
 * An addend x (the sum over one group of samples) is scaled by 2^-s, s = ceil(log2(groups in the whole sum)), and cut
 * into two 64-bit integers: high counts units of 2^-27, low the rest in units of 2^-70.  Integer addition is exact and
 * order-free, so the words of the total depend on the set of groups alone, not on ranks, threads or order.
 * Range: |x| < 2^35.  Error: each addend is cut by less than 2^-70, so the sum of g groups is off by less than
 * g * 2^(s-70).  The scheme is the integer variant of the one in Hallberg and Adcroft, "An order-invariant
 * real-to-integer conversion sum", Parallel Computing 40 (2014), doi:10.1016/j.parco.2014.04.007. */
#pragma once
#include <stdint.h>

#ifdef __CUDACC__
#define HSGD_ANYWHERE __host__ __device__ /* the one formula also serves kernels */
#else
#define HSGD_ANYWHERE
#endif

typedef enum { HSGD_REDUCTION_REPRODUCIBLE, HSGD_REDUCTION_FAST } hsgd_reduction;

#define HSGD_SUM_HIGH       134217728.0              /* 2^27: units of the high word in one */
#define HSGD_SUM_LOW        1180591620717411303424.0 /* 2^70: units of the low word in one */
#define HSGD_SUM_LIMIT      34359738368.0            /* 2^35: an addend must be smaller */
#define HSGD_SUM_MAX_GROUPS (INT64_C(1) << 19)       /* more would overflow the low word */

/* The power of two, 2^-s, that scales the addends of a sum over `groups` groups.  Local. */
static inline double hsgd_sum_scale(int64_t groups)
{
    double scale = 1.0;

    for (int64_t reach = 1; reach < groups; reach *= 2) {
        scale *= 0.5;
    }
    return scale;
}

/* Add x * scale to the words *high and *low; returns 0, or 1 where x is NaN or out of range (then nothing is added).
 * Local. */
HSGD_ANYWHERE static inline int64_t hsgd_sum_add(double x, double scale, int64_t *high, int64_t *low)
{
    const int bad = !(x < HSGD_SUM_LIMIT && x > -HSGD_SUM_LIMIT);
    const double y = bad ? 0.0 : x * scale;
    const int64_t h = (int64_t)(y * HSGD_SUM_HIGH);

    *high += h;
    *low += (int64_t)((y - (double)h / HSGD_SUM_HIGH) * HSGD_SUM_LOW);
    return bad;
}

/* The sum that the words stand for, for the scale they were added with; that is a power of two, so its inverse is exact
 * (and found once for a loop).  Local. */
HSGD_ANYWHERE static inline double hsgd_sum_value(int64_t high, int64_t low, double scale)
{
    return ((double)high / HSGD_SUM_HIGH + (double)low / HSGD_SUM_LOW) * (1.0 / scale);
}
