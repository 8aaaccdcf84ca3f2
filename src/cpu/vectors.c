/* src/cpu/vectors.c - members of the CPU backend that work on doubles and words alone: sums of sums, changes of order and
 * scale, the optimiser's update.  They are passes over memory, compiled once for all instruction sets. */
#include "cpu/internal.h"
#include <math.h>

hsgd_status hsgd_cpu_merge(void *self, hsgd_reduction reduction, int64_t words, int workers, void *const *sums,
                           void *out, hsgd_error *err)
{
    (void)self;
    (void)err;
    for (int64_t i = 0; i < words; i++) {
        if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
            int64_t total = 0;

            for (int w = 0; w < workers; w++) {
                total += ((const int64_t *)sums[w])[i];
            }
            ((int64_t *)out)[i] = total;
        } else {
            double total = 0.0;

            for (int w = 0; w < workers; w++) {
                total += ((const double *)sums[w])[i];
            }
            ((double *)out)[i] = total;
        }
    }
    return HSGD_OK;
}

hsgd_status hsgd_cpu_permute(void *self, int64_t count, const int64_t *index, const void *from, void *to,
                             hsgd_error *err)
{
    const uint64_t *restrict words = from;
    uint64_t *restrict out = to;

    (void)self;
    (void)err;
    for (int64_t i = 0; i < count; i++) {
        out[i] = words[index[i]];
    }
    return HSGD_OK;
}

/* The two factors whose product is 2^exponent, which itself may overflow or vanish. */
typedef struct {
    double half, rest;
} power_of_two;

static power_of_two power(int exponent)
{
    return (power_of_two){ldexp(1.0, exponent / 2), ldexp(1.0, exponent - exponent / 2)};
}

/* First by the largest entry, so that no square overflows or vanishes; in the order of the entries, so with the same
 * outcome on every rank. */
static int exponent_of(int64_t n, const double *x)
{
    double largest = 0.0, squares = 0.0;
    int first = 0, second = 0;
    power_of_two down;

    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(x[i]));
    }
    if (largest == 0.0 || !isfinite(largest)) {
        return 0;
    }
    (void)frexp(largest, &first);
    down = power(-first);
    for (int64_t i = 0; i < n; i++) {
        const double scaled = x[i] * down.half * down.rest;

        squares += scaled * scaled;
    }
    if (!isfinite(squares)) { /* a NaN, which fmax passes over */
        return 0;
    }
    (void)frexp(sqrt(squares), &second);
    return first + second;
}

hsgd_status hsgd_cpu_exponents(void *self, int64_t n, int64_t k, const double *x, int32_t *exponents, hsgd_error *err)
{
    (void)self;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        exponents[j] = exponent_of(n, x + j * n);
    }
    return HSGD_OK;
}

/* y[i] = number i of every k words, over divisor. */
static void expand_exact(int64_t rows, int64_t k, const int64_t *restrict words, double scale, double divisor,
                         double *restrict y)
{
    for (int64_t i = 0; i < rows; i++) {
        const int64_t *at = words + 2 * k * i;

        y[i] = hsgd_sum_value(at[0], at[1], scale) / divisor;
    }
}

static void expand_plain(int64_t rows, int64_t k, const double *restrict sums, double divisor, double *restrict y)
{
    for (int64_t i = 0; i < rows; i++) {
        y[i] = sums[k * i] / divisor;
    }
}

hsgd_status hsgd_cpu_expand(void *self, hsgd_reduction reduction, int64_t rows, int64_t k, const void *words,
                            double scale, double divisor, const int32_t *exponents, double *y, int64_t ldy,
                            hsgd_error *err)
{
    (void)self;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        const power_of_two up = power(exponents != NULL ? exponents[j] : 0);
        double *to = y + j * ldy;

        if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
            expand_exact(rows, k, (const int64_t *)words + 2 * j, scale, divisor, to);
        } else {
            expand_plain(rows, k, (const double *)words + j, divisor, to);
        }
        for (int64_t i = 0; i < rows && exponents != NULL; i++) {
            to[i] = to[i] * up.half * up.rest;
        }
    }
    return HSGD_OK;
}

hsgd_status hsgd_cpu_count_beyond(void *self, int64_t count, const double *x, double limit, double *out,
                                  hsgd_error *err)
{
    double beyond = 0.0;

    (void)self;
    (void)err;
    for (int64_t i = 0; i < count; i++) {
        beyond += !(fabs(x[i]) <= limit);
    }
    *out += beyond;
    return HSGD_OK;
}

/* The flags are constants where this is put in line, so that the loop has no branch. */
static inline __attribute__((always_inline)) void descend(const hsgd_sgd_rule rule, const bool with_momentum,
                                                          const bool round, int64_t n, const double *restrict g,
                                                          double *restrict p, double *restrict momentum)
{
    for (int64_t i = 0; i < n; i++) {
        double d = rule.lr * (g[i] + rule.weight_decay * p[i]);

        if (with_momentum) {
            momentum[i] = rule.first ? d : rule.momentum * momentum[i] + (1.0 - rule.dampening) * d;
            d = rule.nesterov ? d + rule.momentum * momentum[i] : momentum[i];
        }
        p[i] -= d;
        if (round) {
            p[i] = (double)(float)p[i];
        }
    }
}

hsgd_status hsgd_cpu_sgd_update(void *self, const hsgd_sgd_rule *rule, int64_t n, const double *g, const double *halted,
                                double *p, double *momentum, hsgd_error *err)
{
    (void)self;
    (void)err;
    if (*halted != 0.0) {
        return HSGD_OK;
    }
    if (rule->momentum == 0.0) {
        descend(*rule, false, rule->round_to_single, n, g, p, momentum);
    } else if (rule->round_to_single) {
        descend(*rule, true, true, n, g, p, momentum);
    } else {
        descend(*rule, true, false, n, g, p, momentum);
    }
    return HSGD_OK;
}

hsgd_status hsgd_cpu_add_blocks(void *self, int64_t blocks, int64_t products, const double *partial, double *g,
                                hsgd_error *err)
{
    (void)self;
    (void)err;
    for (int64_t i = 0; i < products; i++) {
        g[i] = 0.0;
    }
    for (int64_t b = 0; b < blocks; b++) {
        for (int64_t i = 0; i < products; i++) {
            g[i] += partial[b * products + i];
        }
    }
    return HSGD_OK;
}
