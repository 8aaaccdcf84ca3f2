/* tests/conformance/test_backend_scaling.c - what lies between a vector in double and the kernels on every backend: order,
 * powers of two, rounding to reals, and the way back from words.
 * devices: cuda */
#include "operands.h"

static uint64_t draw_bits(void)
{
    const hsgd_random r = test_stream();

    return hsgd_random_bits(&r, draws++);
}

/* Fail unless both are the same number, or both NaN. */
static void check_same(const char *what, int64_t at, double got, double expected)
{
    if (!(got == expected || (isnan(got) && isnan(expected)))) {
        fail_msg("%s (%s, %s), entry %lld: %a instead of %a", what, subject->ops->name, subject->instruction_set,
                 (long long)at, got, expected);
    }
}

/* A random order of n places; to be freed. */
static int64_t *draw_order(int64_t n)
{
    int64_t *order = malloc((size_t)n * sizeof *order);

    assert_non_null(order);
    for (int64_t i = 0; i < n; i++) {
        const int64_t other = draw_between(0, i);

        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

/* ---- permute ---- */

/* Words of any bits, those of a NaN among them; some taken twice, some not at all. */
static void check_permute(const hsgd_backend *b)
{
    enum { FROM = 1500, COUNT = 1111, TO = COUNT + 2 };
    uint64_t *from = malloc(FROM * sizeof *from), got[TO], before[TO];
    int64_t index[COUNT];
    hsgd_error err = {0};

    assert_non_null(from);
    for (int i = 0; i < FROM; i++) {
        from[i] = i % 5 == 0 ? UINT64_C(0x7ff0000000000001) + (uint64_t)i : draw_bits();
    }
    for (int i = 0; i < TO; i++) {
        before[i] = draw_bits();
    }
    for (int i = 0; i < COUNT; i++) {
        index[i] = i < 2 ? FROM - 1 - i : draw_between(0, FROM - 1);
    }
    void *source = put_bytes(from, FROM * sizeof *from), *indices = put_bytes(index, sizeof index);
    void *target = put_bytes(before, sizeof before);
    assert_ok(b->ops->permute(b->self, 0, indices, source, target, &err));
    get_bytes(target, got, sizeof got);
    assert_memory_equal(got, before, sizeof got);
    assert_ok(b->ops->permute(b->self, COUNT, indices, source, target, &err));
    get_bytes(target, got, sizeof got);
    for (int i = 0; i < TO; i++) {
        assert_true(got[i] == (i < COUNT ? from[index[i]] : before[i]));
    }
    release(source);
    release(indices);
    release(target);
    free(from);
}

static void permute_moves_words_unchanged(void **state)
{
    (void)state;
    on_all_backends(check_permute);
}

/* ---- exponents ---- */

/* x[k][n] on the backend; exponents[k]. */
static void find_exponents(const hsgd_backend *b, int64_t n, int64_t k, const double *x, int32_t *exponents)
{
    void *memory = put_bytes(x, (size_t)(k * n) * sizeof *x),
         *result = put_bytes(exponents, (size_t)k * sizeof(int32_t));
    hsgd_error err = {0};

    assert_ok(b->ops->exponents(b->self, n, k, memory, result, &err));
    get_bytes(result, exponents, (size_t)k * sizeof *exponents);
    release(memory);
    release(result);
}

/* A sum of n squares and its root are off by n + 2 roundings, whatever the order: so far may the norm miss [1/2, 1). */
static void check_norm(int64_t n, const double *x, int32_t exponent)
{
    const double off = (double)(n + 2) * DBL_EPSILON;
    double squares = 0.0;

    for (int64_t i = 0; i < n; i++) {
        const double scaled = ldexp(x[i], -exponent);

        squares += scaled * scaled;
    }
    if (!(sqrt(squares) >= 0.5 * (1.0 - off) && sqrt(squares) < 1.0 + off)) {
        fail_msg("exponents (%s, %s): %d leaves a norm of %.17g", subject->ops->name, subject->instruction_set,
                 (int)exponent, sqrt(squares));
    }
}

/* All sizes at once: one entry or many, alike, of random size, or one great one among entries whose squares vanish. */
static void check_sizes(const hsgd_backend *b)
{
    static const double sizes[] = {5e-324, 3e-310, 1e-300, 1e-160, 1e-30, 0.3, 1.0, 7e20, 1e154, 1e170, 1e300, 1.7e308};
    static const int64_t lengths[] = {1, 3, 1000, 4099};
    enum { SIZES = sizeof sizes / sizeof sizes[0], LIKES = 3, K = SIZES * LIKES };

    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        const int64_t n = lengths[l];
        double *x = malloc((size_t)(K * n) * sizeof *x);
        int32_t exponents[K];

        assert_non_null(x);
        for (int64_t j = 0; j < K; j++) {
            for (int64_t i = 0; i < n; i++) {
                const double like[LIKES] = {1.0, draw_real(), 1e-200 * draw_real()};

                x[j * n + i] = (i == n / 2 ? -1.0 : like[j % LIKES]) * sizes[j / LIKES];
            }
            exponents[j] = INT32_MAX;
        }
        find_exponents(b, n, K, x, exponents);
        for (int64_t j = 0; j < K; j++) {
            check_norm(n, x + j * n, exponents[j]);
        }
        free(x);
    }
}

/* Norms that no rounding blurs, and columns without one. */
static void check_exact_exponents(const hsgd_backend *b)
{
    enum { N = 4 };
    static const struct {
        double x[N];
        int32_t exponent;
    } cases[] = {
        {{1.0}, 1},
        {{0.0, -0.75}, 0},
        {{0.5}, 0},
        {{1.0, 1.0, -1.0, 1.0}, 2},
        {{0.0, 3.0, 4.0}, 3},
        {{3 * 0x1p-1000, 0.0, 0.0, 4 * 0x1p-1000}, -997},
        {{3 * 0x1p900, 0.0, 0.0, 4 * 0x1p900}, 903},
        {{0x1p-1074}, -1073},
        {{0x1p1023, 0x1p1023, 0x1p1023, 0x1p1023}, 1025},
        {{0.0, -0.0}, 0},
        {{1e200, NAN, 1.0}, 0},
        {{NAN, NAN, NAN, NAN}, 0},
        {{1e-200, 0.0, 0.0, NAN}, 0},
        {{1e200, 1.0, INFINITY}, 0},
        {{-INFINITY, 1.0, NAN, INFINITY}, 0},
        {{0x1p-20}, -19}, /* behind those: a column minds its own entries */
    };
    enum { K = sizeof cases / sizeof cases[0] };
    double x[K * N];
    int32_t exponents[K] = {0};

    for (int j = 0; j < K; j++) {
        memcpy(x + (ptrdiff_t)j * N, cases[j].x, sizeof cases[j].x);
    }
    find_exponents(b, N, K, x, exponents);
    for (int j = 0; j < K; j++) {
        check_same("exponents", j, exponents[j], cases[j].exponent);
    }
}

static void exponents_bring_the_norm_between_a_half_and_one(void **state)
{
    (void)state;
    on_all_backends(check_sizes);
    on_all_backends(check_exact_exponents);
}

/* ---- narrow ---- */

enum { N = 61 };

/* Numbers of order 1, and those on which rounding to float turns. */
static void draw_column(double *x)
{
    static const double corners[] = {0.0,
                                     -0.0,
                                     1.0 + 0x1p-24,     /* halfway: to even, downwards */
                                     1.0 + 3 * 0x1p-24, /* upwards */
                                     1.0 + 0x1p-24 + 0x1p-50,
                                     -1.0 - 0x1p-24,
                                     1.0 + 0x1p-52,
                                     3 * 0x1p-150, /* between subnormal floats */
                                     0x1p-151,     /* nothing in float */
                                     -0x1.fffffep127,
                                     0x1.ffffffp127, /* infinite in float */
                                     NAN,
                                     INFINITY,
                                     -INFINITY};
    enum { CORNERS = sizeof corners / sizeof corners[0] };

    for (int i = 0; i < N; i++) {
        x[i] = i < CORNERS ? corners[i] : draw_real() + 0x1p-30 * draw_real();
    }
}

static double nearest(double x)
{
    return subject->precision == HSGD_SINGLE ? (double)(float)x : x;
}

/* exponents: [k], NULL: 0; x: [k][N]. */
static void check_narrow_case(const hsgd_backend *b, int64_t k, const double *x, const int32_t *exponents)
{
    int64_t *order = draw_order(N);
    double *nothing = calloc((size_t)(k * N), sizeof *nothing), *got = NULL;
    void *from = put_bytes(x, (size_t)(k * N) * sizeof *x), *orders = put_bytes(order, N * sizeof *order);
    void *powers = exponents == NULL ? NULL : put_bytes(exponents, (size_t)k * sizeof *exponents);
    void *out = to_backend(nothing, k * N);
    hsgd_error err = {0};

    assert_ok(b->ops->narrow(b->self, N, k, from, orders, powers, out, &err));
    got = from_backend(out, k * N);
    for (int64_t i = 0; i < k * N; i++) {
        const int exponent = exponents == NULL ? 0 : exponents[i / N];
        const double whole = x[i / N * N + order[i % N]];

        check_same("narrow", i, got[i], exponent > HSGD_MOST_EXPONENT ? NAN : nearest(ldexp(whole, -exponent)));
    }
    release(from);
    release(orders);
    release(powers);
    release(out);
    free(got);
    free(nothing);
    free(order);
}

static void check_narrow(const hsgd_backend *b)
{
    static const int32_t exponents[] = {0, 3, -3, 1, -1, 60, -60, 899, HSGD_MOST_EXPONENT, -1059, -1060, 901, 1029};
    enum { K = sizeof exponents / sizeof exponents[0] };
    double x[K * N];

    for (int j = 0; j < K; j++) { /* so that the scaled columns are of order 1 */
        draw_column(x + (ptrdiff_t)j * N);
        for (int i = 0; i < N; i++) {
            x[j * N + i] = ldexp(x[j * N + i], exponents[j]);
        }
    }
    check_narrow_case(b, K, x, exponents);
    check_narrow_case(b, 1, x, exponents);
    check_narrow_case(b, K, x, NULL); /* as they are: most are beyond float's range */
}

static void narrow_orders_scales_and_rounds_once(void **state)
{
    (void)state;
    on_all_backends(check_narrow);
}

/* ---- expand ---- */

enum { ROWS = 37, COLUMNS = 4, LEADING = ROWS + 5 };

/* words: [ROWS][COLUMNS] sums, of which `value` is what they stand for. */
static void check_expand_case(const hsgd_backend *b, hsgd_reduction reduction, const void *words, double scale,
                              const double *value, double divisor, const int32_t *exponents)
{
    const size_t each = reduction == HSGD_REDUCTION_REPRODUCIBLE ? 2 * sizeof(int64_t) : sizeof(double);
    double y[COLUMNS * LEADING];
    hsgd_error err = {0};

    for (int i = 0; i < COLUMNS * LEADING; i++) {
        y[i] = guard;
    }
    void *from = put_bytes(words, ROWS * COLUMNS * each), *to = put_bytes(y, sizeof y);
    void *powers = exponents == NULL ? NULL : put_bytes(exponents, COLUMNS * sizeof *exponents);
    assert_ok(b->ops->expand(b->self, reduction, ROWS, COLUMNS, from, scale, divisor, powers, to, LEADING, &err));
    get_bytes(to, y, sizeof y);
    for (int j = 0; j < COLUMNS; j++) {
        for (int i = 0; i < LEADING; i++) {
            const double mean = i < ROWS ? value[i * COLUMNS + j] / divisor : guard;

            check_same("expand", j * LEADING + i, y[j * LEADING + i],
                       i < ROWS && exponents != NULL ? ldexp(mean, exponents[j]) : mean);
        }
    }
    release(from);
    release(to);
    release(powers);
}

static void check_expand(const hsgd_backend *b)
{
    static const int32_t exponents[COLUMNS] = {7, -1073, HSGD_MOST_EXPONENT, 1029}; /* 2^1029 is no double */
    static const double divisors[] = {1.0, 7.0, 60000.0};
    const double scale = 1.0 / 32.0;
    int64_t words[2 * ROWS * COLUMNS];
    double value[ROWS * COLUMNS], sums[ROWS * COLUMNS];

    for (int i = 0; i < ROWS * COLUMNS; i++) { /* from small sums to the greatest that words hold */
        const int64_t most = INT64_C(1) << (i % 62);

        words[2 * i] = draw_between(-most, most);
        words[2 * i + 1] = draw_between(-(INT64_C(1) << 60), INT64_C(1) << 60);
        value[i] = (ldexp((double)words[2 * i], -27) + ldexp((double)words[2 * i + 1], -70)) / scale;
        sums[i] = draw_real() * 0x1p-30 + draw_real();
    }
    for (size_t d = 0; d < sizeof divisors / sizeof divisors[0]; d++) {
        for (int scaled = 0; scaled < 2; scaled++) {
            const int32_t *powers = scaled == 1 ? exponents : NULL;

            check_expand_case(b, HSGD_REDUCTION_REPRODUCIBLE, words, scale, value, divisors[d], powers);
            check_expand_case(b, HSGD_REDUCTION_FAST, sums, 0.0, sums, divisors[d], powers);
        }
    }
}

static void expand_reads_words_and_scales_back(void **state)
{
    (void)state;
    on_all_backends(check_expand);
}

/* ---- there and back ---- */

/* Exponents, narrow, a sum of one group, its words picked by row, expand: the operators' way of a column. */
static void check_round_trip(const hsgd_backend *b, hsgd_reduction reduction, const double *x)
{
    enum { COUNT = COLUMNS * N };
    const bool exact = reduction == HSGD_REDUCTION_REPRODUCIBLE;
    const int64_t each = exact ? 2 : 1;
    int64_t *order = draw_order(N), index[2 * COUNT];
    double nothing[2 * COUNT + 1] = {0}, y[COUNT];
    void *from = put_bytes(x, COUNT * sizeof *x), *orders = put_bytes(order, N * sizeof *order);
    void *powers = put_bytes(nothing, COLUMNS * sizeof(int32_t)), *reals = put_bytes(nothing, COUNT * sizeof(double));
    void *sum = put_bytes(nothing, sizeof nothing), *picked = put_bytes(nothing, sizeof nothing);
    void *to = put_bytes(nothing, sizeof y), *indices = NULL;
    hsgd_error err = {0};

    for (int64_t i = 0; i < COUNT; i++) {
        const int64_t at = order[i % N] * COLUMNS + i / N; /* row, column */

        index[each * at] = i;
        index[each * at + each - 1] = exact ? COUNT + i : i;
    }
    indices = put_bytes(index, sizeof index);
    assert_ok(b->ops->exponents(b->self, N, COLUMNS, from, powers, &err));
    assert_ok(b->ops->narrow(b->self, N, COLUMNS, from, orders, powers, reals, &err));
    assert_ok(b->ops->accumulate(b->self, 0, reduction, COUNT, reals, 1.0, sum, &err));
    assert_ok(b->ops->permute(b->self, each * COUNT, indices, sum, picked, &err));
    assert_ok(b->ops->expand(b->self, reduction, N, COLUMNS, picked, 1.0, 1.0, powers, to, N, &err));
    get_bytes(to, y, sizeof y);
    for (int64_t i = 0; i < COUNT; i++) {
        check_same("there and back", i, y[i], x[i]);
    }
    void *const all[] = {from, orders, powers, reals, sum, picked, to, indices};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        release(all[i]);
    }
    free(order);
}

/* Ten bits in an entry: no rounding in float nor in words, if the powers of two are exact. */
static void check_round_trips(const hsgd_backend *b)
{
    static const int exponents[COLUMNS] = {0, 60, -1000, 850};
    double x[COLUMNS * N];

    for (int i = 0; i < COLUMNS * N; i++) {
        x[i] = ldexp((double)draw_between(-1000, 1000), exponents[i / N]);
    }
    check_round_trip(b, HSGD_REDUCTION_REPRODUCIBLE, x);
    check_round_trip(b, HSGD_REDUCTION_FAST, x);
}

static void powers_of_two_are_exact_there_and_back(void **state)
{
    (void)state;
    on_all_backends(check_round_trips);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permute_moves_words_unchanged),
        cmocka_unit_test(exponents_bring_the_norm_between_a_half_and_one),
        cmocka_unit_test(narrow_orders_scales_and_rounds_once),
        cmocka_unit_test(expand_reads_words_and_scales_back),
        cmocka_unit_test(powers_of_two_are_exact_there_and_back),
    };

    return test_run(tests);
}
