/* src/solve/jackknife.c - see jackknife.h. */
#include "solve/jackknife.h"
#include <math.h>
#include <string.h>

void hsgd_jackknife_group(int64_t samples, int64_t groups, int64_t group, int64_t *low, int64_t *high)
{
    const int64_t least = samples / groups, longer = samples % groups; /* the first `longer` have one more */

    *low = group * least + (group < longer ? group : longer);
    *high = *low + least + (group < longer);
}

void hsgd_jackknife_without(int64_t samples, const int64_t *index, int64_t low, int64_t high, int64_t *rest)
{
    memcpy(rest, index, (size_t)low * sizeof *rest);
    memcpy(rest + low, index + high, (size_t)(samples - high) * sizeof *rest);
}

void hsgd_jackknife_means(int64_t samples, int64_t groups, int64_t count, const double *means, double *values)
{
    memset(values, 0, (size_t)(groups * count) * sizeof *values);
    for (int64_t out = 0; out < groups; out++) { /* added anew for each: a difference of sums would cancel */
        int64_t low = 0, high = 0;
        double left = 0.0;

        hsgd_jackknife_group(samples, groups, out, &low, &high);
        left = (double)(samples - (high - low));
        for (int64_t group = 0; group < groups; group++) {
            hsgd_jackknife_group(samples, groups, group, &low, &high);
            for (int64_t i = 0; group != out && i < count; i++) {
                values[out * count + i] += (double)(high - low) / left * means[group * count + i];
            }
        }
    }
}

void hsgd_jackknife(int64_t groups, int64_t count, const double *full, const double *values, double *error,
                    double *bias)
{
    const double others = (double)(groups - 1);

    for (int64_t i = 0; i < count; i++) {
        double mean = 0.0, squares = 0.0;

        for (int64_t group = 0; group < groups; group++) {
            mean += values[group * count + i] / (double)groups;
        }
        for (int64_t group = 0; group < groups; group++) {
            const double off = values[group * count + i] - mean;

            squares += off * off;
        }
        error[i] = sqrt(others / (double)groups * squares);
        bias[i] = others * (mean - full[i]);
    }
}
