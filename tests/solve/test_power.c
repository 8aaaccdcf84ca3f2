/* tests/solve/test_power.c - mirrors src/solve/power.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "solve/eigen.h"
#include "interrupted.h"

static hsgd_eigen_options options_of(int64_t count, double tolerance, int64_t max_products)
{
    return (hsgd_eigen_options){
        .count = count, .which = HSGD_WHICH_MAGNITUDE, .tolerance = tolerance, .max_products = max_products, .seed = 1};
}

/* Solve on the ranks and alone: the same bits. */
static void solve(matrix *m, const hsgd_eigen_options *options, hsgd_eigen_result *result)
{
    hsgd_eigen_result alone;
    hsgd_error err = {0};

    assert_ok(hsgd_power(m->op, options, result, &err));
    assert_ok(hsgd_power(m->serial_op, options, &alone, &err));
    assert_int_equal(result->count, alone.count);
    assert_int_equal(result->products, alone.products);
    assert_int_equal(result->products, hsgd_linop_products(m->op));
    assert_memory_equal(result->values, alone.values, (size_t)alone.count * sizeof *alone.values);
    matrix_same_bits(result->vectors, alone.vectors);
    hsgd_eigen_result_clear(&alone);
}

/* Dense with eigenvalues d; expected: descending.  Some eigenvalue lies within the residual of each value (Parlett, The
 * Symmetric Eigenvalue Problem, theorem 4.5.1); the gaps between the d are wider than any residual allowed here. */
static void check_spectrum(int64_t n, const double *d, const hsgd_eigen_options *options, const double *expected)
{
    double *a = calloc((size_t)(n * n), sizeof *a), norm = 0.0;
    hsgd_eigen_result result;
    matrix m;

    for (int64_t i = 0; i < n; i++) {
        norm = fmax(norm, fabs(d[i]));
    }
    matrix_with_spectrum(n, d, a);
    matrix_create(&m, n, a, HSGD_REDUCTION_REPRODUCIBLE);
    solve(&m, options, &result);
    assert_int_equal(result.count, options->count);
    for (int64_t i = 0; i < result.count; i++) {
        assert_true(result.converged[i]);
        assert_true(result.residuals[i] <= options->tolerance * norm * (1.0 + DBL_EPSILON * (double)n));
        assert_near(result.values[i], expected[i], result.residuals[i] + matrix_rounding(n, norm));
    }
    assert_non_null(strstr(result.reason, "converged"));
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(a);
}

static void keeps_the_sign_of_the_dominant_eigenvalue(void **state)
{
    const hsgd_eigen_options options = options_of(1, 1e-10, 1000);

    (void)state;
    check_spectrum(3, (const double[]){-3.0, 1.0, 2.0}, &options, (const double[]){-3.0});
}

static void deflation_finds_the_next_magnitudes_and_sorts_them(void **state)
{
    enum { SMALL = 60 };
    const hsgd_eigen_options options = options_of(4, 1e-8, 4000);
    double d[SMALL];

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = 0.5 * i / SMALL;
    }
    d[7] = -8.0;
    d[20] = 5.0;
    d[33] = -3.0;
    d[50] = 2.0;
    check_spectrum(SMALL, d, &options, (const double[]){5.0, 2.0, -3.0, -8.0});
}

/* Every later pair's residual carries the earlier ones' along: the whole must still meet the tolerance. */
static void all_pairs_meet_a_loose_tolerance_too(void **state)
{
    enum { SMALL = 60, COUNT = 12 };
    const hsgd_eigen_options options = options_of(COUNT, 1e-2, 4000);
    double d[SMALL], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    hsgd_eigen_result result;
    matrix m;

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = pow(0.9, i);
    }
    matrix_with_spectrum(SMALL, d, a);
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    solve(&m, &options, &result);
    for (int64_t i = 0; i < COUNT; i++) {
        assert_true(result.converged[i]);
    }
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(a);
}

static void handles_zero_unit_and_rank_one_matrices(void **state)
{
    const hsgd_eigen_options two = options_of(2, 1e-10, 100), one = options_of(1, 1e-10, 100);

    (void)state;
    check_spectrum(5, (const double[]){0.0, 0.0, 0.0, 0.0, 0.0}, &two, (const double[]){0.0, 0.0});
    check_spectrum(5, (const double[]){1.0, 1.0, 1.0, 1.0, 1.0}, &two, (const double[]){1.0, 1.0});
    check_spectrum(5, (const double[]){0.0, 0.0, 4.0, 0.0, 0.0}, &two, (const double[]){4.0, 0.0});
    check_spectrum(1, (const double[]){-2.0}, &one, (const double[]){-2.0});
}

static void says_so_when_it_did_not_converge(void **state)
{
    const hsgd_eigen_options options = options_of(2, 1e-12, 5), starved = options_of(3, 1e-12, 2);
    double a[9];
    hsgd_eigen_result result;
    matrix m;

    (void)state;
    matrix_with_spectrum(3, (const double[]){1.0, 0.999999, -0.9999995}, a);
    matrix_create(&m, 3, a, HSGD_REDUCTION_REPRODUCIBLE);
    solve(&m, &options, &result);
    assert_int_equal(result.count, 2);
    assert_false(result.converged[0] || result.converged[1]);
    assert_int_equal(result.products, 5 + 2);
    assert_non_null(strstr(result.reason, "0 of 2 pairs converged in 5 products"));
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);

    matrix_create(&m, 3, a, HSGD_REDUCTION_REPRODUCIBLE);
    solve(&m, &starved, &result); /* a third pair could not even be begun */
    assert_int_equal(result.count, 2);
    assert_non_null(strstr(result.reason, "0 of 3 pairs"));
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
}

static void an_interrupted_iteration_goes_on_to_the_same_bits(void **state)
{
    enum { SMALL = 12 };
    double d[SMALL], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    const hsgd_eigen_options options = {.count = 3,
                                        .which = HSGD_WHICH_MAGNITUDE,
                                        .tolerance = 1e-3,
                                        .max_products = 30, /* the last pair does not converge */
                                        .seed = 1};
    hsgd_eigen_result whole;
    int calls;
    matrix m;

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = (i % 2 == 0 ? 1.0 : -1.0) * pow(0.6, i);
    }
    matrix_with_spectrum(SMALL, d, a);
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    calls = run_whole(hsgd_power, &m, &options, &whole);
    for (int in_product = 0; in_product < 2; in_product++) {
        int points = 0;

        while (stop_and_go_on(hsgd_power, &m, options, points + 1, in_product == 1, calls, &whole)) {
            points++;
        }
        assert_int_equal(points, 30 + in_product); /* products, and the one that measures the pairs */
    }
    hsgd_eigen_result_clear(&whole);
    matrix_destroy(&m);
    free(a);
}

static void refuses_other_ends_and_too_many_pairs(void **state)
{
    hsgd_eigen_options options = options_of(1, 1e-6, 10);
    const double a[4] = {1.0, 0.0, 0.0, 2.0};
    hsgd_eigen_result result;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    options.which = HSGD_WHICH_BOTH;
    assert_int_equal(hsgd_power(m.op, &options, &result, &err), HSGD_ERR_USAGE);
    options = options_of(3, 1e-6, 10);
    assert_int_equal(hsgd_power(m.op, &options, &result, &err), HSGD_ERR_USAGE);
    assert_null(result.values);
    matrix_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_sign_of_the_dominant_eigenvalue),
        cmocka_unit_test(deflation_finds_the_next_magnitudes_and_sorts_them),
        cmocka_unit_test(all_pairs_meet_a_loose_tolerance_too),
        cmocka_unit_test(handles_zero_unit_and_rank_one_matrices),
        cmocka_unit_test(says_so_when_it_did_not_converge),
        cmocka_unit_test(an_interrupted_iteration_goes_on_to_the_same_bits),
        cmocka_unit_test(refuses_other_ends_and_too_many_pairs),
    };
    return test_run(tests);
}
