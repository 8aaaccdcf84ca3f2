/* tests/solve/test_eigen_confirm.c - mirrors src/solve/judge.c: copies of multiple eigenvalues that one Krylov sequence hides.
 * ranks: 1 2 3 4 7 */
#include "solve/eigen.h"
#include "matrix.h"

enum { ORDER = 150, COPIES = 5, SEEDS = 4 };

/* 1 five times, and 145 smaller ones that go down so that five pairs settle long before a sequence ends. */
static void spectrum(double *d)
{
    for (int i = 0; i < ORDER; i++) {
        d[i] = i < COPIES ? 1.0 : 0.9 * pow(0.8, i - COPIES);
    }
}

/* Copies of 1 that are found; and all that is returned is what it is said to be. */
static int64_t copies_found(const matrix *m, const hsgd_eigen_options *options, int64_t *products)
{
    hsgd_eigen_result result;
    int64_t found = 0;
    hsgd_error err = {0};

    assert_ok(hsgd_lanczos_eigen(m->op, options, &result, &err));
    assert_int_equal(result.count, options->count);
    for (int64_t i = 0; i < result.count; i++) {
        assert_true(result.converged[i]);
        assert_true(result.residuals[i] <= options->tolerance);
        found += fabs(result.values[i] - 1.0) <= options->tolerance;
    }
    assert_true(result.orthogonality <= 64.0 * DBL_EPSILON);
    *products = result.products;
    hsgd_eigen_result_clear(&result);
    return found;
}

static void confirmation_finds_what_a_block_hides(void **state)
{
    static const double tolerances[] = {1e-6, 1e-9};
    double d[ORDER], *a = calloc((size_t)ORDER * ORDER, sizeof *a);
    int hidden = 0;
    matrix m;

    (void)state;
    spectrum(d);
    matrix_diagonal(ORDER, d, a);
    matrix_create(&m, ORDER, a, HSGD_REDUCTION_REPRODUCIBLE);
    for (int turn = 0; turn < SEEDS * 4; turn++) {
        hsgd_eigen_options options = {.count = COPIES,
                                      .which = HSGD_WHICH_LARGEST,
                                      .tolerance = tolerances[turn % 2],
                                      .block = 1 + turn / 2 % 2,
                                      .max_products = 2000,
                                      .seed = (uint64_t)(1 + turn / 4)};
        int64_t without = 0, with = 0;

        hidden += copies_found(&m, &options, &without) < COPIES;
        options.confirm = true;
        assert_int_equal(copies_found(&m, &options, &with), COPIES);
        assert_true(with > without);
    }
    assert_true(hidden > SEEDS); /* else there was nothing to confirm */
    matrix_destroy(&m);
    free(a);
}

/* Both ends at once, each with more copies than the block has columns, and the number asked for above that of copies. */
static void confirmation_serves_both_ends(void **state)
{
    double d[ORDER], *a = calloc((size_t)ORDER * ORDER, sizeof *a);
    const hsgd_eigen_options options = {.count = 4,
                                        .which = HSGD_WHICH_BOTH,
                                        .tolerance = 1e-8,
                                        .block = 1,
                                        .confirm = true,
                                        .max_products = 2000,
                                        .seed = 3};
    const double expected[] = {2.0, 2.0, 2.0, 1.0, -0.5, -3.0, -3.0, -3.0};
    hsgd_eigen_result result;
    hsgd_error err = {0};
    matrix m;

    (void)state;
    for (int i = 0; i < ORDER; i++) {
        d[i] = i < 3    ? 2.0
               : i < 6  ? -3.0
               : i == 6 ? 1.0
               : i == 7 ? -0.5
                        : 0.4 * pow(0.9, i) * (i % 2 == 0 ? 1.0 : -1.0);
    }
    matrix_diagonal(ORDER, d, a);
    matrix_create(&m, ORDER, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_lanczos_eigen(m.op, &options, &result, &err));
    assert_int_equal(result.count, 8);
    for (int64_t i = 0; i < result.count; i++) {
        assert_true(result.converged[i]);
        assert_near(result.values[i], expected[i], result.residuals[i] + matrix_rounding(ORDER, 3.0));
    }
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(a);
}

static void nothing_is_left_to_confirm_in_a_space_that_is_held(void **state)
{
    const double d[3] = {1.0, 1.0, 1.0};
    double a[9];
    const hsgd_eigen_options options = {.count = 3,
                                        .which = HSGD_WHICH_LARGEST,
                                        .tolerance = 1e-8,
                                        .block = 1,
                                        .confirm = true,
                                        .max_products = 50,
                                        .seed = 3};
    int64_t products = 0;
    matrix m;

    (void)state;
    matrix_diagonal(3, d, a);
    matrix_create(&m, 3, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(copies_found(&m, &options, &products), 3);
    matrix_destroy(&m);
}

/* Where products end the search between finding the pairs and confirming them, it does not say that all is well. */
static void an_unfinished_confirmation_is_told(void **state)
{
    double d[ORDER], *a = calloc((size_t)ORDER * ORDER, sizeof *a);
    hsgd_eigen_options options = {
        .count = COPIES, .which = HSGD_WHICH_LARGEST, .tolerance = 1e-6, .block = 2, .seed = 1};
    int told = 0;
    matrix m;

    (void)state;
    spectrum(d);
    matrix_diagonal(ORDER, d, a);
    matrix_create(&m, ORDER, a, HSGD_REDUCTION_REPRODUCIBLE);
    options.confirm = true;
    for (options.max_products = 25; options.max_products <= 46; options.max_products += 7) {
        hsgd_eigen_result result;
        hsgd_error err = {0};
        int64_t open = 0, copies = 0;

        assert_ok(hsgd_lanczos_eigen(m.op, &options, &result, &err));
        for (int64_t i = 0; i < result.count; i++) {
            open += !result.converged[i];
            copies += fabs(result.values[i] - 1.0) <= options.tolerance;
        }
        assert_true(copies == COPIES || !result.complete);
        if (open == 0 && copies < COPIES) {
            assert_non_null(strstr(result.reason, "confirmed"));
            told++;
        }
        hsgd_eigen_result_clear(&result);
    }
    assert_true(told > 0);
    matrix_destroy(&m);
    free(a);
}

/* One value stands out at one end; the bulk reaches further at the other, but thinly, and shows later. */
static void the_other_end_may_yet_be_larger_in_magnitude(void **state)
{
    enum { SMALL = 150 };
    double d[SMALL], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    matrix m;

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = i == 0 ? 1.09 : -1.1 + 1.4 * (i - 1) / (SMALL - 2);
    }
    matrix_diagonal(SMALL, d, a);
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        const hsgd_eigen_options options = {
            .count = 1, .which = HSGD_WHICH_MAGNITUDE, .tolerance = 1e-4, .max_products = 1000, .seed = seed};
        hsgd_eigen_result result;
        hsgd_error err = {0};

        assert_ok(hsgd_lanczos_eigen(m.op, &options, &result, &err));
        assert_true(result.converged[0]);
        assert_near(result.values[0], -1.1, result.residuals[0] + matrix_rounding(SMALL, 1.1));
        hsgd_eigen_result_clear(&result);
    }
    matrix_destroy(&m);
    free(a);
}

/* Plain sums in place of the reproducible ones: other roundings, the same eigenvalues. */
static void plain_sums_find_the_same_pairs(void **state)
{
    double d[ORDER], *a = calloc((size_t)ORDER * ORDER, sizeof *a);
    const hsgd_eigen_options options = {.count = COPIES,
                                        .which = HSGD_WHICH_LARGEST,
                                        .tolerance = 1e-9,
                                        .block = 2,
                                        .confirm = true,
                                        .max_products = 2000,
                                        .seed = 1};
    int64_t products = 0;
    matrix m;

    (void)state;
    spectrum(d);
    matrix_diagonal(ORDER, d, a);
    matrix_create(&m, ORDER, a, HSGD_REDUCTION_FAST);
    assert_int_equal(copies_found(&m, &options, &products), COPIES);
    matrix_destroy(&m);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(confirmation_finds_what_a_block_hides),
        cmocka_unit_test(confirmation_serves_both_ends),
        cmocka_unit_test(nothing_is_left_to_confirm_in_a_space_that_is_held),
        cmocka_unit_test(an_unfinished_confirmation_is_told),
        cmocka_unit_test(the_other_end_may_yet_be_larger_in_magnitude),
        cmocka_unit_test(plain_sums_find_the_same_pairs),
    };

    return test_run(tests);
}
