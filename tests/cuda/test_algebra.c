/* tests/cuda/test_algebra.c - squares, powers of two, exact sums back into numbers, descent; against plain loops. */
#include "device.h"

static void squares(fixture *f, int64_t count, int64_t k, bool shared)
{
    const double *x = numbers(f, count * k, 1);
    double sum = 2.5;
    double *out = put_bytes(f, sizeof sum, &sum);
    void *scratch = put_bytes(f, HSGD_CUDA_SQUARES * sizeof sum, numbers(f, HSGD_CUDA_SQUARES, 2));

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < count; i++) {
            sum += pow(x[(shared ? 0 : j * count) + i], 2.0);
        }
    }
    launched(hsgd_cuda_squares(f->stream, f->p, count, k, put_columns(f, count, k, x, shared), out, scratch));
    check_doubles(f, out, 1, &sum, 0.0, 1.0); /* multiples of 2^-14 below 2^20: no sum is rounded */
}

static void squares_body(fixture *f)
{
    const hsgd_columns none = {NULL, 0};

    squares(f, 1, 1, false);
    squares(f, 2049, 3, true);
    squares(f, 30001, 5, false);
    launched(hsgd_cuda_squares(f->stream, f->p, 0, 2, none, NULL, NULL));
    launched(hsgd_cuda_squares(f->stream, f->p, 2, 0, none, NULL, NULL));
}

/* The CPU's rule. */
static int32_t exponent_of(int64_t n, const double *x)
{
    double largest = 0.0, sum = 0.0;
    int first = 0, second = 0;

    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(x[i]));
    }
    if (largest == 0.0 || !isfinite(largest)) {
        return 0;
    }
    (void)frexp(largest, &first);
    for (int64_t i = 0; i < n; i++) {
        sum += pow(ldexp(x[i], -first), 2.0);
    }
    if (!isfinite(sum)) { /* a NaN among numbers */
        return 0;
    }
    (void)frexp(sqrt(sum), &second);
    return first + second;
}

/* What the columns are times, and what one entry of theirs is. */
static const struct {
    double factor, first;
} columns[] = {{1.0, 1.0},      {1e-300, 0.0},    {1e300, 0.0}, {0.0, 0.0},  {1.0, NAN},
               {1.0, INFINITY}, {4e-320, 4e-320}, {1e-17, 1e5}, {8e13, -1.0}};

enum { COLUMNS = sizeof columns / sizeof *columns };

static double *spread_columns(fixture *f, int64_t n)
{
    double *x = numbers(f, COLUMNS * n, 3);

    for (int64_t j = 0; j < COLUMNS; j++) {
        for (int64_t i = 0; i < n; i++) {
            x[j * n + i] = i == n / 2 ? columns[j].first : columns[j].factor * x[j * n + i];
        }
    }
    return x;
}

static void unit(fixture *f, int64_t n)
{
    const double *x = spread_columns(f, n);
    int32_t *exponents = (int32_t *)room(f, COLUMNS);
    int64_t *order = (int64_t *)room(f, n);
    double *out = room(f, COLUMNS * n);
    void *from = put_bytes(f, (size_t)(COLUMNS * n) * sizeof *x, x), *places = NULL;
    int32_t *to = put_bytes(f, COLUMNS * sizeof *exponents, exponents);
    void *narrowed = put(f, COLUMNS * n, out);

    for (int64_t i = 0; i < n; i++) {
        order[i] = (i + 7) % n;
    }
    places = put_bytes(f, (size_t)n * sizeof *order, order);
    for (int64_t j = 0; j < COLUMNS; j++) {
        exponents[j] = exponent_of(n, x + j * n);
        for (int64_t i = 0; i < n; i++) {
            const double scaled = ldexp(x[j * n + order[i]], -exponents[j]);

            out[j * n + i] = exponents[j] > HSGD_MOST_EXPONENT ? NAN
                             : f->p == HSGD_SINGLE             ? (double)(float)scaled
                                                               : scaled;
        }
    }
    launched(hsgd_cuda_exponents(f->stream, n, COLUMNS, from, to));
    check_bytes(f, to, COLUMNS * sizeof *exponents, exponents);
    launched(hsgd_cuda_narrow(f->stream, f->p, n, COLUMNS, from, places, to, narrowed));
    check(f, narrowed, COLUMNS * n, out, 0.0, 1.0);
}

static void unit_body(fixture *f)
{
    unit(f, 1);
    unit(f, 50);
    unit(f, 2999);
    launched(hsgd_cuda_exponents(f->stream, 5, 0, NULL, NULL));
    launched(hsgd_cuda_narrow(f->stream, f->p, 0, 3, NULL, NULL, NULL, NULL));
}

/* Without exponents narrow only rounds. */
static void plain_body(fixture *f)
{
    enum { N = 300 };
    double *x = numbers(f, N, 4);
    int64_t *order = (int64_t *)room(f, N);
    void *to = put(f, N, x);

    for (int64_t i = 0; i < N; i++) {
        order[i] = i;
        x[i] = x[i] / 3.0;
    }
    launched(hsgd_cuda_narrow(f->stream, f->p, N, 1, put_bytes(f, N * sizeof *x, x),
                              put_bytes(f, N * sizeof *order, order), NULL, to));
    for (int64_t i = 0; i < N; i++) {
        x[i] = f->p == HSGD_SINGLE ? (double)(float)x[i] : x[i];
    }
    check(f, to, N, x, 0.0, 1.0);
}

static void expand(fixture *f, int64_t rows, int64_t k, bool exact, bool with_exponents)
{
    const int64_t count = rows * k, ldy = rows + 3;
    const double scale = hsgd_sum_scale(12), divisor = 347.0;
    double *x = numbers(f, count, 5), *y = numbers(f, k * ldy, 6);
    int64_t *words = (int64_t *)room(f, 2 * count);
    int32_t *exponents = (int32_t *)room(f, k);
    double *to = put_bytes(f, (size_t)(k * ldy) * sizeof *y, y);
    const int32_t *powers = NULL;

    for (int64_t i = 0; i < count; i++) {
        x[i] /= 7.0;
        if (exact) {
            (void)hsgd_sum_add(x[i], scale, &words[2 * i], &words[2 * i + 1]);
            x[i] = hsgd_sum_value(words[2 * i], words[2 * i + 1], scale);
        }
    }
    for (int64_t j = 0; j < k; j++) {
        exponents[j] = (int32_t)(j % 2 == 0 ? 901 - 400 * j : -1060 + 3 * j);
        for (int64_t i = 0; i < rows; i++) {
            const double number = x[i * k + j] / divisor;

            y[j * ldy + i] = with_exponents ? ldexp(number, exponents[j]) : number;
        }
    }
    powers = put_bytes(f, (size_t)k * sizeof *exponents, exponents);
    launched(hsgd_cuda_expand(f->stream, exact ? HSGD_REDUCTION_REPRODUCIBLE : HSGD_REDUCTION_FAST, rows, k,
                              exact ? put_bytes(f, 16 * (size_t)count, words) : put_bytes(f, 8 * (size_t)count, x),
                              scale, divisor, with_exponents ? powers : NULL, to, ldy));
    check_doubles(f, to, k * ldy, y, 1.0, 0.0); /* also: what lies between the columns is left alone */
}

static void expand_body(fixture *f)
{
    for (int64_t k = 1; k <= 5; k++) {
        expand(f, 1 + 97 * k, k, true, true);
        expand(f, 1 + 97 * k, k, false, k % 2 == 0);
    }
    expand(f, 3, 300, true, false);
    launched(hsgd_cuda_expand(f->stream, HSGD_REDUCTION_FAST, 0, 3, NULL, 1.0, 1.0, NULL, NULL, 0));
    launched(hsgd_cuda_expand(f->stream, HSGD_REDUCTION_FAST, 3, 0, NULL, 1.0, 1.0, NULL, NULL, 3));
}

static void descend(fixture *f, const hsgd_sgd_rule *rule, double halt)
{
    enum { N = 777 };
    const double *g = numbers(f, N, 7);
    double *w = numbers(f, N, 8), *v = numbers(f, N, 9);
    void *momentum = rule->momentum != 0.0 ? put_bytes(f, N * sizeof *v, v) : NULL;
    void *weights = put_bytes(f, N * sizeof *w, w);

    for (int64_t i = 0; i < N && halt == 0.0; i++) {
        double d = rule->lr * (g[i] + rule->weight_decay * w[i]);

        if (rule->momentum != 0.0) {
            v[i] = rule->first ? d : rule->momentum * v[i] + (1.0 - rule->dampening) * d;
            d = rule->nesterov ? d + rule->momentum * v[i] : v[i];
        }
        w[i] -= d;
        w[i] = rule->round_to_single ? (double)(float)w[i] : w[i];
    }
    launched(hsgd_cuda_sgd_update(f->stream, rule, N, put_bytes(f, N * sizeof *g, g), put_bytes(f, sizeof halt, &halt),
                                  weights, momentum));
    check_doubles(f, weights, N, w, 0.0, 1.0);
    if (momentum != NULL) {
        check_doubles(f, momentum, N, v, 0.0, 1.0);
    }
}

static void descend_body(fixture *f)
{
    /* Powers of two and the like: no step is rounded in double, so that multiply-adds give the same bits, and all are in
     * float. */
    const hsgd_sgd_rule rules[] = {
        {.lr = 0x1p-18, .momentum = 0.0},
        {.lr = 0x1p-18, .weight_decay = 0.125, .momentum = 0.875, .first = true},
        {.lr = 0x1p-18, .weight_decay = 0.125, .momentum = 0.875, .dampening = 0.25},
        {.lr = 0x1p-18, .momentum = 0.75, .nesterov = true},
        {.lr = 0x1p-18, .momentum = 0.75, .nesterov = true, .round_to_single = true},
    };

    for (int i = 0; i < 5; i++) {
        descend(f, &rules[i], 0.0);
    }
    descend(f, &rules[2], 1.0);
    descend(f, &rules[1], NAN);
    launched(hsgd_cuda_sgd_update(f->stream, &rules[0], 0, NULL, NULL, NULL, NULL));
}

static void blocks_body(fixture *f)
{
    for (int64_t blocks = 0; blocks <= 21; blocks += 7) {
        const int64_t products = 1 + 13 * blocks;
        double *partial = numbers(f, blocks * products, 10), *g = room(f, products);
        void *to = put_bytes(f, (size_t)products * sizeof *g, numbers(f, products, 11));

        for (int64_t b = 0; b < blocks; b++) {
            for (int64_t i = 0; i < products; i++) {
                partial[b * products + i] /= 7.0;
                g[i] += partial[b * products + i];
            }
        }
        launched(hsgd_cuda_add_blocks(f->stream, blocks, products,
                                      put_bytes(f, (size_t)(blocks * products) * sizeof *g, partial), to));
        check_bytes(f, to, (size_t)products * sizeof *g, g);
    }
    launched(hsgd_cuda_add_blocks(f->stream, 3, 0, NULL, NULL));
    launched(cudaGetLastError());
}

static void squares_are_summed(void **state)
{
    (void)state;
    in_every_order(squares_body);
}

static void columns_come_to_norm_1(void **state)
{
    (void)state;
    in_every_order(unit_body);
}

static void narrow_without_exponents_rounds(void **state)
{
    (void)state;
    in_every_order(plain_body);
}

static void words_become_numbers(void **state)
{
    (void)state;
    in_every_order(expand_body);
}

static void descends_by_the_rule_unless_halted(void **state)
{
    (void)state;
    in_every_order(descend_body);
}

static void blocks_are_added_in_order(void **state)
{
    (void)state;
    in_every_order(blocks_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squares_are_summed),
        cmocka_unit_test(columns_come_to_norm_1),
        cmocka_unit_test(narrow_without_exponents_rounds),
        cmocka_unit_test(words_become_numbers),
        cmocka_unit_test(descends_by_the_rule_unless_halted),
        cmocka_unit_test(blocks_are_added_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
