/* tests/solve/test_lanczos_eigen_copies.c - copies of multiple eigenvalues that hide from hsgd_lanczos_eigen: where the
 * couplings of a sequence fall below the tolerance or rise above what counts as its end, in double and with noise.
 * ranks: 1 3 */
#include "solve/eigen.h"
#include "matrix.h"

enum { N = 200, COPIES = 5 };

/* diag(d), and with noise: what lies outside the exact product has 1e-7 of its norm and hangs on every bit of x, as the
 * rounding of products in float does. */
typedef struct {
    matrix m; /* spaces */
    double d[N];
    bool noisy;
    hsgd_linop *op;
} subject;

/* A number that hangs on all of x [n], the same on any number of ranks. */
static uint64_t digest(const double *x, int64_t n)
{
    uint64_t sum = 0;

    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = 0;

        memcpy(&bits, &x[i], sizeof bits);
        sum = (sum ^ bits) * 1099511628211u;
    }
    return sum;
}

static hsgd_status diagonal_apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    static const double noise = 1e-7;
    const subject *s = self;
    double *full = calloc((size_t)(N * x->columns), sizeof *full);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_gather(x, full, err));
    for (int64_t j = 0; j < x->columns; j++) {
        double *column = full + j * N, squares = 0.0;
        const hsgd_random stream = hsgd_random_stream(digest(column, N), HSGD_RANDOM_TEST, 3);

        for (int64_t i = 0; i < N; i++) {
            column[i] *= s->d[i];
            squares += column[i] * column[i];
        }
        for (int64_t i = 0; i < N && s->noisy; i++) {
            column[i] += noise * sqrt(squares / N) * hsgd_random_normal(&stream, (uint64_t)i);
        }
    }
    HSGD_TRY(hsgd_vector_set_full(y, full, err));
done:
    free(full);
    return st;
}

static const hsgd_linop_ops diagonal_ops = {.name = "diagonal", .apply = diagonal_apply};

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

/* ---- spectra: `tail` is the size of what couples a sequence that has seen all else ---- */

typedef double (*value_at)(int64_t i, double tail, const hsgd_random *r);

static double one_above(int64_t i, double tail, const hsgd_random *r)
{
    return i < COPIES ? 1.0 : i == COPIES ? 0.5 : tail * hsgd_random_normal(r, (uint64_t)i);
}

static double both_ends(int64_t i, double tail, const hsgd_random *r)
{
    return i < COPIES ? 1.0 : i < 2 * COPIES ? -0.9 : i < 12 ? 0.3 : tail * hsgd_random_normal(r, (uint64_t)i);
}

static double four_values(int64_t i, double tail, const hsgd_random *r)
{
    const int64_t step = i % 4;

    return i < COPIES ? 1.0 : (i < 2 * COPIES ? -0.9 : 0.2 * (double)step + tail * hsgd_random_normal(r, (uint64_t)i));
}

static double falling(int64_t i, double tail, const hsgd_random *r)
{
    (void)tail;
    (void)r;
    return i < COPIES ? 1.0 : i < 2 * COPIES ? -0.95 : 0.9 * pow(0.7, (double)i) * (i % 2 == 0 ? -1.0 : 1.0);
}

/* The copies at the crowded end alone, which crowd it for many sequences. */
static double one_end(int64_t i, double tail, const hsgd_random *r)
{
    (void)tail;
    (void)r;
    return i < COPIES ? 3.0 - 0.4 * (double)i : i < 2 * COPIES ? -1.0 : 0.95 * (pow((double)i / N, 4.0) - 1.0);
}

static void subject_create(subject *s, value_at value, double tail, bool noisy, uint64_t seed)
{
    static const double none[1];
    const hsgd_random stream = hsgd_random_stream(seed, HSGD_RANDOM_TEST, 5);
    hsgd_error err = {0};

    *s = (subject){.noisy = noisy};
    for (int64_t i = 0; i < N; i++) {
        s->d[i] = value(i, tail, &stream);
    }
    qsort(s->d, N, sizeof *s->d, descending);
    matrix_create(&s->m, N, none, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_linop_create(s->m.space, &diagonal_ops, s, &s->op, &err));
}

static void subject_destroy(subject *s)
{
    hsgd_linop_destroy(&s->op);
    matrix_destroy(&s->m);
}

/* Every pair is certified, and the values are those of the matrix, copy by copy. */
static void check(const subject *s, const hsgd_eigen_options *options)
{
    const int64_t top = options->which == HSGD_WHICH_SMALLEST ? 0 : options->count;
    const int64_t bottom = options->which == HSGD_WHICH_LARGEST ? 0 : options->count;
    hsgd_eigen_result r;
    hsgd_error err = {0};

    assert_ok(hsgd_lanczos_eigen(s->op, options, &r, &err));
    assert_int_equal(r.count, top + bottom);
    for (int64_t i = 0; i < r.count; i++) {
        const double expected = i < top ? s->d[i] : s->d[N - r.count + i];

        /* a value is off by its residual at most, the noise of the products and what was locked before it */
        if (!r.converged[i] || !(fabs(r.values[i] - expected) <= 2.0 * options->tolerance)) {
            fail_msg("which %d, block %lld, tolerance %g, seed %llu: pair %lld is %.17g, expected %.17g; %s",
                     (int)options->which, (long long)options->block, options->tolerance,
                     (unsigned long long)options->seed, (long long)i, r.values[i], expected, r.reason);
        }
    }
    hsgd_eigen_result_clear(&r);
}

/* Tails from far above to far below what ends a sequence, against tolerances on either side of them. */
static void sweep(value_at value, bool noisy)
{
    static const hsgd_which ends[] = {HSGD_WHICH_LARGEST, HSGD_WHICH_SMALLEST, HSGD_WHICH_BOTH};

    for (int turn = 0; turn < 4 * 3 * 2; turn++) {
        const double tail = pow(10.0, -5.0 - 3.0 * (double)(turn % 4));
        subject s;

        subject_create(&s, value, tail, noisy, (uint64_t)turn);
        for (int exponent = 6; exponent <= 12; exponent += 3) {
            const hsgd_eigen_options options = {.count = COPIES,
                                                .which = ends[turn % 3],
                                                .tolerance = noisy ? 1e-4 : pow(10.0, (double)-exponent),
                                                .max_products = 4000,
                                                .block = 1 + turn / 12,
                                                .confirm = true,
                                                .seed = (uint64_t)(turn + exponent)};

            check(&s, &options);
        }
        subject_destroy(&s);
    }
}

static void confirmation_finds_every_copy_above_one_other_value(void **state)
{
    (void)state;
    sweep(one_above, false);
}

static void confirmation_finds_every_copy_at_both_ends(void **state)
{
    (void)state;
    sweep(both_ends, false);
    sweep(falling, false);
}

static void confirmation_finds_every_copy_among_few_values(void **state)
{
    (void)state;
    sweep(four_values, false);
}

static void confirmation_finds_every_copy_in_noise(void **state)
{
    (void)state;
    sweep(one_above, true);
    sweep(both_ends, true);
    sweep(four_values, true);
}

/* What is locked leaves its residual in what is found after it: the sum still meets the tolerance. */
static void copies_that_are_found_late_meet_the_tolerance_too(void **state)
{
    (void)state;
    for (uint64_t seed = 20; seed < 24; seed++) {
        const hsgd_eigen_options options = {.count = COPIES,
                                            .which = HSGD_WHICH_SMALLEST,
                                            .tolerance = 1e-9,
                                            .max_products = 4000,
                                            .block = 2,
                                            .confirm = true,
                                            .seed = seed};
        subject s;

        subject_create(&s, one_end, 0.0, false, seed);
        check(&s, &options);
        subject_destroy(&s);
    }
}

/* What is found is 1.0 five times, then -0.9. */
static void check_magnitudes(const subject *s, const hsgd_eigen_options *options)
{
    hsgd_eigen_result r;
    hsgd_error err = {0};

    assert_ok(hsgd_lanczos_eigen(s->op, options, &r, &err));
    assert_int_equal(r.count, options->count);
    for (int64_t i = 0; i < r.count; i++) {
        assert_true(r.converged[i]);
        assert_near(r.values[i], i < COPIES ? 1.0 : -0.9, r.residuals[i] + matrix_rounding(N, 1.0));
    }
    hsgd_eigen_result_clear(&r);
}

/* A sequence whose -0.9 has settled may still have a 1.0 on its way at the other end. */
static void copies_of_either_sign_are_found_by_magnitude(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        subject s;

        subject_create(&s, four_values, 1e-14, false, seed);
        for (int64_t block = 1; block <= 2; block++) {
            check_magnitudes(&s, &(hsgd_eigen_options){.count = COPIES + 1,
                                                       .which = HSGD_WHICH_MAGNITUDE,
                                                       .tolerance = 1e-8,
                                                       .max_products = 4000,
                                                       .block = block,
                                                       .confirm = block == 1,
                                                       .seed = seed});
        }
        subject_destroy(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(confirmation_finds_every_copy_above_one_other_value),
        cmocka_unit_test(confirmation_finds_every_copy_at_both_ends),
        cmocka_unit_test(confirmation_finds_every_copy_among_few_values),
        cmocka_unit_test(confirmation_finds_every_copy_in_noise),
        cmocka_unit_test(copies_that_are_found_late_meet_the_tolerance_too),
        cmocka_unit_test(copies_of_either_sign_are_found_by_magnitude),
    };
    return test_run(tests);
}
