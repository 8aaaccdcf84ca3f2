/* src/solve/density.c - curves, moments and the cumulative measure from the nodes of a quadrature. */
#include "solve/density.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Points of the grid that are summed at a time: three arrays of them stay in the first cache. */
enum { TILE = 512 };

/* Where a Gaussian ends: below exp(-708) are numbers without full precision, and below exp(-745) none. */
static const double VANISHES = -708.0;

/* The grid of a curve and the Gaussians on it. */
typedef struct {
    int64_t bins;
    double low, high, width; /* ends; distance of its points */
    double variance;
} axis;

static double min_of(int64_t count, const double *x)
{
    double least = x[0];

    for (int64_t i = 1; i < count; i++) {
        least = fmin(least, x[i]);
    }
    return least;
}

static double max_of(int64_t count, const double *x)
{
    double most = x[0];

    for (int64_t i = 1; i < count; i++) {
        most = fmax(most, x[i]);
    }
    return most;
}

/* Ends of the grid, before the overhead: means over the probes of their extremes, or the extremes of all. */
static void ends(int64_t probes, int64_t steps, const double *ritz, bool full, double *low, double *high)
{
    double low_sum = 0.0, high_sum = 0.0;

    if (full) {
        *low = min_of(probes * steps, ritz);
        *high = max_of(probes * steps, ritz);
        return;
    }
    for (int64_t i = 0; i < probes; i++) {
        low_sum += min_of(steps, ritz + i * steps);
        high_sum += max_of(steps, ritz + i * steps);
    }
    *low = low_sum / (double)probes;
    *high = high_sum / (double)probes;
}

static axis axis_of(int64_t probes, int64_t steps, const double *ritz, int64_t bins, double sigma_squared,
                    double overhead, bool full)
{
    axis a = {.bins = bins};

    ends(probes, steps, ritz, full, &a.low, &a.high);
    a.low -= overhead;
    a.high += overhead;
    a.width = (a.high - a.low) / (double)(bins - 1);
    a.variance = sigma_squared * fmax(1.0, a.high - a.low);
    return a;
}

/* exp(x) for VANISHES <= x <= 0, within 2 units in the last place and free of branches and calls, so that a loop around
 * it becomes vector code: x = k log 2 + r with |r| <= log(2) / 2, the Taylor polynomial of exp(r), whose next term is below
 * 5e-18, and k added to the exponent.  log 2 stands in two parts, the first short enough that k times it is exact. */
static inline double exponential(double x)
{
    static const double PER_LOG2 = 0x1.71547652b82fep0, LOG2_HIGH = 0x1.62e42feep-1, LOG2_LOW = 0x1.a39ef35793c76p-33;
    static const double ROUNDS = 0x1.8p52; /* added, it leaves whole numbers in the lowest bits */
    const double shifted = x * PER_LOG2 + ROUNDS, k = shifted - ROUNDS;
    const double r = (x - k * LOG2_HIGH) - k * LOG2_LOW;
    double sum = 1.0 / 6227020800.0, power = 0.0;
    uint64_t bits = 0;

    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

/* The exponent of a Gaussian around `at`, at x. */
static inline double exponent(double x, double at, double per)
{
    return (x - at) * (x - at) * per;
}

/* Of the grid's points first .. first + count - 1, those *from .. *to - 1 that a Gaussian around `at` reaches.  The two
 * loops make up for what rounding may have let in. */
static void window(const axis *a, const double *grid, double at, double per, int64_t first, int64_t count,
                   int64_t *from, int64_t *to)
{
    const double reach = sqrt(VANISHES / per), low = (double)first, high = (double)(first + count);

    *from = first;
    *to = first + count;
    if (a->width > 0.0) { /* else all points are one */
        *from = (int64_t)fmin(fmax(ceil((at - reach - a->low) / a->width), low), high);
        *to = (int64_t)fmin(fmax(floor((at + reach - a->low) / a->width) + 1.0, low), high);
    }
    while (*from < *to && exponent(grid[*from], at, per) < VANISHES) {
        ++*from;
    }
    while (*from < *to && exponent(grid[*to - 1], at, per) < VANISHES) {
        --*to;
    }
}

/* sum[count]: weights times Gaussians around the Ritz values of one probe, at the grid's points from `first` on. */
static void gaussians(const axis *a, int64_t steps, const double *ritz, const double *weights,
                      const double *restrict grid, int64_t first, int64_t count, double *restrict sum)
{
    const double height = 1.0 / sqrt(2.0 * M_PI * a->variance), per = -0.5 / a->variance;

    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int64_t i = 0; i < steps; i++) {
        const double at = ritz[i], weight = weights[i];
        int64_t from = 0, to = 0;

        window(a, grid, at, per, first, count, &from, &to);
        for (int64_t j = from; j < to; j++) {
            sum[j - first] += weight * exponential(exponent(grid[j], at, per));
        }
    }
    for (int64_t j = 0; j < count; j++) {
        sum[j] *= height;
    }
}

/* Mean and standard error over the probes at the points first .. first + count - 1, by Welford's rule. */
static void average(const axis *a, int64_t probes, int64_t steps, const double *ritz, const double *weights,
                    const double *grid, int64_t first, int64_t count, double *density, double *stderr_of)
{
    double own[TILE], squares[TILE] = {0}, *mean = density + first; /* squared deviations from the mean so far */

    memset(mean, 0, (size_t)count * sizeof *mean);
    for (int64_t i = 0; i < probes; i++) {
        gaussians(a, steps, ritz + i * steps, weights + i * steps, grid, first, count, own);
        for (int64_t j = 0; j < count; j++) {
            const double change = own[j] - mean[j];

            mean[j] += change / (double)(i + 1);
            squares[j] += change * (own[j] - mean[j]);
        }
    }
    for (int64_t j = 0; j < count && stderr_of != NULL; j++) {
        stderr_of[first + j] = sqrt(squares[j] / (double)(probes - 1) / (double)probes);
    }
}

/* Share of the Gaussians' mass between the ends of the grid: mean over the probes. */
static double mass_inside(const axis *a, int64_t probes, int64_t steps, const double *ritz, const double *weights)
{
    const double per = 1.0 / sqrt(2.0 * a->variance);
    double mass = 0.0;

    for (int64_t i = 0; i < probes * steps; i++) {
        mass += weights[i] * 0.5 * (erf((a->high - ritz[i]) * per) - erf((a->low - ritz[i]) * per));
    }
    return mass / (double)probes;
}

double hsgd_density(int64_t probes, int64_t steps, const double *ritz, const double *weights, int64_t bins,
                    double sigma_squared, double overhead, bool full, double *grid, double *density, double *stderr_of)
{
    const axis a = axis_of(probes, steps, ritz, bins, sigma_squared, overhead, full);
    const double mass = mass_inside(&a, probes, steps, ritz, weights);
    double total = 0.0;

    for (int64_t j = 0; j < bins; j++) {
        grid[j] = j < bins - 1 ? a.low + (double)j * a.width : a.high;
    }
    for (int64_t first = 0; first < bins; first += TILE) {
        const int64_t count = bins - first < TILE ? bins - first : TILE;

        average(&a, probes, steps, ritz, weights, grid, first, count, density, stderr_of);
    }
    for (int64_t j = 0; j < bins; j++) {
        total += density[j];
    }
    total = full ? mass : total * (grid[1] - grid[0]);
    for (int64_t j = 0; j < bins && total > 0.0; j++) { /* 0: a grid so coarse that every Gaussian falls between */
        density[j] /= total;
        if (stderr_of != NULL) {
            stderr_of[j] /= total;
        }
    }
    return mass;
}

void hsgd_density_moments(int64_t probes, int64_t steps, const double *ritz, const double *weights, double moment[4],
                          double *stderr_of)
{
    double mean[4] = {0}, squares[4] = {0};

    for (int64_t i = 0; i < probes; i++) {
        double own[4] = {0};

        for (int64_t k = i * steps; k < (i + 1) * steps; k++) {
            double power = weights[k];

            for (int j = 0; j < 4; j++) {
                power *= ritz[k];
                own[j] += power;
            }
        }
        for (int j = 0; j < 4; j++) {
            const double change = own[j] - mean[j];

            mean[j] += change / (double)(i + 1);
            squares[j] += change * (own[j] - mean[j]);
        }
    }
    for (int j = 0; j < 4; j++) {
        moment[j] = mean[j];
        if (stderr_of != NULL) {
            stderr_of[j] = sqrt(squares[j] / (double)(probes - 1) / (double)probes);
        }
    }
}

typedef struct {
    double value, weight;
    int64_t probe;
} node;

/* By value, then by probe, so that the order is the same wherever it is sorted. */
static int compare(const void *a, const void *b)
{
    const node *x = a, *y = b;

    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    return x->probe < y->probe ? -1 : x->probe > y->probe;
}

hsgd_status hsgd_cumulative(int64_t probes, int64_t steps, const double *ritz, const double *weights,
                            double *eigenvalue, double *measure, double *stderr_of, hsgd_error *err)
{
    const int64_t count = probes * steps;
    hsgd_status st = HSGD_OK;
    node *nodes = malloc((size_t)count * sizeof *nodes);
    double *own = calloc((size_t)probes, sizeof *own); /* weight of each probe so far */

    HSGD_CHECK(nodes != NULL && own != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot sort %lld Ritz values; lower density.steps", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        nodes[i] = (node){.value = ritz[i], .weight = weights[i], .probe = i / steps};
    }
    qsort(nodes, (size_t)count, sizeof *nodes, compare);
    for (int64_t i = 0; i < count; i++) {
        double mean = 0.0, squares = 0.0;

        own[nodes[i].probe] += nodes[i].weight;
        for (int64_t p = 0; p < probes; p++) {
            const double change = own[p] - mean;

            mean += change / (double)(p + 1);
            squares += change * (own[p] - mean);
        }
        eigenvalue[i] = nodes[i].value;
        measure[i] = mean;
        if (stderr_of != NULL) {
            stderr_of[i] = sqrt(squares / (double)(probes - 1) / (double)probes);
        }
    }
done:
    free(own);
    free(nodes);
    return st;
}
