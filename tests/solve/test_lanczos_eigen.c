/* tests/solve/test_lanczos_eigen.c - mirrors src/solve/lanczos_eigen.c and eigen.c.
 * ranks: 1 2 3 4 7 */
#include "solve/eigen.h"
#include "matrix.h"
#include "interrupted.h"

enum { MOST = 200 };

static hsgd_eigen_options options_of(int64_t count, hsgd_which which, double tolerance)
{
    return (hsgd_eigen_options){
        .count = count, .which = which, .tolerance = tolerance, .max_products = 1000, .seed = 1};
}

/* Some eigenvalue lies within norm(Av - theta v) of theta (Parlett, The Symmetric Eigenvalue Problem, theorem 4.5.1):
 * the bound, not a guess, is the tolerance; rounding of the matrix itself comes on top. */
static void assert_pairs(const matrix *m, const hsgd_eigen_result *result, int64_t count, const double *expected,
                         double norm)
{
    double *g = calloc((size_t)(count * count), sizeof *g);
    hsgd_error err = {0};

    assert_int_equal(result->count, count);
    assert_ok(hsgd_vector_gram(result->vectors, result->vectors, g, &err));
    for (int64_t i = 0; i < count; i++) {
        assert_true(result->converged[i]);
        assert_true(i == 0 || result->values[i] <= result->values[i - 1]);
        assert_near(result->values[i], expected[i], result->residuals[i] + matrix_rounding(m->n, norm));
        for (int64_t j = 0; j < count; j++) {
            assert_near(g[i * count + j], i == j ? 1.0 : 0.0, 64.0 * DBL_EPSILON);
        }
    }
    free(g);
}

/* Residuals are what they are said to be, signs obey the rule, on the gathered vectors. */
static void assert_certified(const matrix *m, const hsgd_eigen_result *result, double norm)
{
    const int64_t n = m->n;
    double *full = calloc((size_t)(n * result->count), sizeof *full);
    hsgd_error err = {0};

    assert_ok(hsgd_vector_gather(result->vectors, full, &err));
    for (int64_t k = 0; k < result->count; k++) {
        const double *v = full + k * n;
        double squares = 0.0;
        int64_t largest = 0;

        for (int64_t i = 0; i < n; i++) {
            double r = -result->values[k] * v[i];

            for (int64_t j = 0; j < n; j++) {
                r += m->a[i * n + j] * v[j];
            }
            squares += r * r;
            largest = fabs(v[i]) > fabs(v[largest]) ? i : largest;
        }
        assert_near(result->residuals[k], sqrt(squares), matrix_rounding(n, norm));
        assert_true(v[largest] > 0.0);
    }
    free(full);
}

/* Solve on the ranks and alone: the same bits. */
static void solve(matrix *m, const hsgd_eigen_options *options, hsgd_eigen_result *result)
{
    hsgd_eigen_result alone;
    hsgd_error err = {0};

    assert_ok(hsgd_lanczos_eigen(m->op, options, result, &err));
    assert_ok(hsgd_lanczos_eigen(m->serial_op, options, &alone, &err));
    assert_int_equal(result->count, alone.count);
    assert_int_equal(result->products, alone.products);
    assert_int_equal(result->products, hsgd_linop_products(m->op));
    assert_memory_equal(result->values, alone.values, (size_t)alone.count * sizeof *alone.values);
    assert_memory_equal(result->residuals, alone.residuals, (size_t)alone.count * sizeof *alone.values);
    assert_string_equal(result->reason, alone.reason);
    matrix_same_bits(result->vectors, alone.vectors);
    hsgd_eigen_result_clear(&alone);
}

/* One spectrum (descending), dense and diagonal, with the values expected of the options. */
static void check_spectrum(int64_t n, const double *d, const hsgd_eigen_options *options, int64_t count,
                           const double *expected)
{
    const double norm = fmax(fabs(d[0]), fabs(d[n - 1]));
    double *a = calloc((size_t)(n * n), sizeof *a);

    for (int turn = 0; turn < 2; turn++) {
        hsgd_eigen_result result;
        matrix m;

        if (turn == 0) {
            matrix_diagonal(n, d, a);
        } else {
            matrix_with_spectrum(n, d, a);
        }
        matrix_create(&m, n, a, HSGD_REDUCTION_REPRODUCIBLE);
        solve(&m, options, &result);
        assert_pairs(&m, &result, count, expected, norm);
        assert_certified(&m, &result, norm);
        hsgd_eigen_result_clear(&result);
        matrix_destroy(&m);
    }
    free(a);
}

static void finds_the_ends_asked_for_of_an_indefinite_matrix(void **state)
{
    double d[MOST];

    (void)state;
    for (int i = 0; i < MOST; i++) {
        d[i] = 1.0 - 2.0 * i / (MOST - 1);
    }
    d[0] = 3.0;
    d[1] = 2.5;
    d[MOST - 1] = -4.0;
    d[MOST - 2] = -1.5;
    {
        const hsgd_eigen_options both = options_of(2, HSGD_WHICH_BOTH, 1e-10);
        const hsgd_eigen_options largest = options_of(2, HSGD_WHICH_LARGEST, 1e-10);
        const hsgd_eigen_options smallest = options_of(2, HSGD_WHICH_SMALLEST, 1e-10);
        const hsgd_eigen_options magnitude = options_of(3, HSGD_WHICH_MAGNITUDE, 1e-10);

        check_spectrum(MOST, d, &both, 4, (const double[]){3.0, 2.5, -1.5, -4.0});
        check_spectrum(MOST, d, &largest, 2, (const double[]){3.0, 2.5});
        check_spectrum(MOST, d, &smallest, 2, (const double[]){-1.5, -4.0});
        check_spectrum(MOST, d, &magnitude, 3, (const double[]){3.0, 2.5, -4.0});
    }
}

static void finds_a_graded_spectrum_over_twelve_orders(void **state)
{
    enum { SMALL = 13 };
    const hsgd_eigen_options all = options_of(SMALL, HSGD_WHICH_LARGEST, 1e-12);
    double d[SMALL];

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = pow(10.0, -i);
    }
    check_spectrum(SMALL, d, &all, SMALL, d);
}

static void finds_rank_one_zero_and_unit_matrices(void **state)
{
    enum { SMALL = 50 };
    const hsgd_eigen_options both = options_of(2, HSGD_WHICH_BOTH, 1e-10);
    double d[SMALL] = {0};

    (void)state;
    check_spectrum(SMALL, d, &both, 4, (const double[]){0.0, 0.0, 0.0, 0.0});
    d[0] = 5.0;
    check_spectrum(SMALL, d, &both, 4, (const double[]){5.0, 0.0, 0.0, 0.0});
    for (int i = 0; i < SMALL; i++) {
        d[i] = 1.0;
    }
    check_spectrum(SMALL, d, &both, 4, (const double[]){1.0, 1.0, 1.0, 1.0});
}

static void finds_every_pair_of_matrices_smaller_than_the_launch(void **state)
{
    const hsgd_eigen_options one = options_of(1, HSGD_WHICH_BOTH, 1e-10);
    const hsgd_eigen_options two = options_of(2, HSGD_WHICH_BOTH, 1e-10);
    const hsgd_eigen_options three = options_of(3, HSGD_WHICH_BOTH, 1e-10);

    (void)state;
    check_spectrum(1, (const double[]){-7.0}, &one, 1, (const double[]){-7.0});
    check_spectrum(2, (const double[]){2.0, -7.0}, &two, 2, (const double[]){2.0, -7.0});
    check_spectrum(3, (const double[]){2.0, 1.0, -7.0}, &two, 3, (const double[]){2.0, 1.0, -7.0});
    check_spectrum(4, (const double[]){2.0, 2.0, 1.0, -7.0}, &three, 4, (const double[]){2.0, 2.0, 1.0, -7.0});
}

/* Eigenvalue 4 three times, -3 twice, and 57 others out of four values: one Krylov sequence shows each value once. */
static void finds_every_copy_of_a_multiple_eigenvalue(void **state)
{
    enum { SMALL = 62, TOP = 3 };
    const hsgd_eigen_options both = options_of(4, HSGD_WHICH_BOTH, 1e-10);
    const double expected[] = {4.0, 4.0, 4.0, 2.0, 0.5, 0.5, -3.0, -3.0};
    double d[SMALL], c[8 * TOP], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    double *plane = calloc((size_t)TOP * SMALL, sizeof *plane);
    hsgd_eigen_result result;
    hsgd_vector *exact = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = i < 3 ? 4.0 : i < 4 ? 2.0 : i < 20 ? 1.0 : i < 40 ? 0.75 : i < 60 ? 0.5 : -3.0;
    }
    check_spectrum(SMALL, d, &both, 8, expected);

    /* and their span is the eigenspace: for a diagonal matrix, the first three unit vectors */
    matrix_diagonal(SMALL, d, a);
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    solve(&m, &both, &result);
    for (int i = 0; i < TOP; i++) {
        plane[i * SMALL + i] = 1.0;
    }
    assert_ok(hsgd_vector_create(m.space, TOP, &exact, &err));
    assert_ok(hsgd_vector_set_full(exact, plane, &err));
    assert_ok(hsgd_vector_gram(result.vectors, exact, c, &err));
    for (int i = 0; i < TOP; i++) {
        double cosines = 0.0; /* squared length of vector i within the eigenspace: 1 - sin^2 of its angle to it */

        for (int j = 0; j < TOP; j++) {
            cosines += c[i * TOP + j] * c[i * TOP + j];
        }
        /* sin(angle) <= residual / distance to the next eigenvalue (Davis and Kahan), here 4 - 2 */
        assert_true(1.0 - cosines <=
                    pow((result.residuals[i] + matrix_rounding(SMALL, 4.0)) / 2.0, 2.0) + 64.0 * DBL_EPSILON);
    }
    hsgd_vector_destroy(&exact);
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(plane);
    free(a);
}

/* The first Krylov sequence alone holds as many converged pairs as wanted: without a further one to confirm them the
 * lesser distinct values would stand in for the copies. */
static void a_further_sequence_finds_copies_that_the_first_hid(void **state)
{
    const double triple[] = {5.0, 5.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0}, low[] = {3.0, 2.0, 1.0, 0.0, -6.0, -6.0};
    const hsgd_eigen_options largest = options_of(3, HSGD_WHICH_LARGEST, 1e-10);
    const hsgd_eigen_options both = options_of(2, HSGD_WHICH_BOTH, 1e-10);
    const hsgd_eigen_options smallest = options_of(2, HSGD_WHICH_SMALLEST, 1e-10);
    const hsgd_eigen_options magnitude = options_of(2, HSGD_WHICH_MAGNITUDE, 1e-10);

    (void)state;
    check_spectrum(8, triple, &largest, 3, (const double[]){5.0, 5.0, 5.0});
    check_spectrum(8, triple, &both, 4, (const double[]){5.0, 5.0, 1.0, 1.0});
    check_spectrum(6, low, &smallest, 2, (const double[]){-6.0, -6.0});
    check_spectrum(6, low, &magnitude, 2, (const double[]){-6.0, -6.0});
}

/* Every value twice, crowded at the top: the further sequence takes many steps until it shows its own top. */
static void copies_are_found_where_the_further_sequence_is_slow(void **state)
{
    enum { SMALL = 50 };
    hsgd_eigen_options largest = options_of(2, HSGD_WHICH_LARGEST, 1e-10);
    double d[SMALL];

    (void)state;
    largest.block = 2;
    for (int i = 0; i < SMALL; i++) {
        d[i] = i < 8 ? 1.0 - 0.01 * (i / 2) : 0.9 - 0.08 * ((i - 8) / 2);
    }
    check_spectrum(SMALL, d, &largest, 2, (const double[]){1.0, 1.0});
    largest.block = 1;
    largest.confirm = true;
    check_spectrum(SMALL, d, &largest, 2, (const double[]){1.0, 1.0});
}

/* Four pairs of c I: each ends its sequence; then the residuals.  Copies
 * equal but for rounding do not send the search on. */
static void a_unit_matrix_takes_few_products(void **state)
{
    enum { SMALL = 50 };
    const hsgd_eigen_options both = options_of(2, HSGD_WHICH_BOTH, 1e-10);
    double d[SMALL], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    hsgd_eigen_result result;
    matrix m;

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = 0.7;
    }
    matrix_with_spectrum(SMALL, d, a);
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    solve(&m, &both, &result);
    assert_int_equal(result.count, 4);
    assert_int_equal(result.products, 4 + 4);
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(a);
}

static void a_crowded_end_is_found_over_many_restarts(void **state)
{
    hsgd_eigen_options smallest = options_of(1, HSGD_WHICH_SMALLEST, 1e-12);
    double d[MOST];

    (void)state;
    smallest.basis = 40;
    smallest.max_products = 4000;
    for (int i = 0; i < MOST; i++) { /* crowded at the low end: needs far more than 40 steps */
        d[MOST - 1 - i] = pow((double)(i + 1) / MOST, 3.0);
    }
    check_spectrum(MOST, d, &smallest, 1, &d[MOST - 1]);
}

/* Crowded at the low end, so that the residual falls slowly and the first look that finds it within the tolerance finds
 * it above half of it: the search goes on from there, as noise in the products might lift it out again. */
static void half_the_tolerance_is_left_to_the_noise_of_the_products(void **state)
{
    double d[MOST], *a = calloc((size_t)MOST * MOST, sizeof *a);

    (void)state;
    for (int i = 0; i < MOST; i++) {
        d[MOST - 1 - i] = pow((double)(i + 1) / MOST, 3.0);
    }
    matrix_diagonal(MOST, d, a);
    for (int exponent = 3; exponent <= 8; exponent++) {
        const hsgd_eigen_options options = options_of(1, HSGD_WHICH_SMALLEST, pow(10.0, -exponent));
        hsgd_eigen_result result;
        matrix m;

        matrix_create(&m, MOST, a, HSGD_REDUCTION_REPRODUCIBLE);
        solve(&m, &options, &result);
        assert_true(result.converged[0]);
        assert_true(result.residuals[0] <= 0.5 * options.tolerance * d[0] + matrix_rounding(MOST, d[0]));
        hsgd_eigen_result_clear(&result);
        matrix_destroy(&m);
    }
    free(a);
}

static void counts(void *context, int64_t products, int64_t converged, int64_t wanted, double worst)
{
    int64_t *calls = context;

    assert_true(products > 0 && converged <= wanted && worst >= 0.0);
    ++*calls;
}

static void says_so_when_products_run_out(void **state)
{
    hsgd_eigen_options options = options_of(2, HSGD_WHICH_SMALLEST, 1e-12);
    double d[MOST], *a = calloc((size_t)MOST * MOST, sizeof *a);
    hsgd_eigen_result result;
    matrix m;
    int64_t calls = 0;

    (void)state;
    for (int i = 0; i < MOST; i++) {
        d[i] = 1.0 + 1e-3 * i;
    }
    matrix_with_spectrum(MOST, d, a);
    matrix_create(&m, MOST, a, HSGD_REDUCTION_REPRODUCIBLE);
    options.max_products = 12;
    options.monitor = counts;
    options.context = &calls;
    solve(&m, &options, &result);
    assert_int_equal(result.count, 2);
    assert_false(result.converged[0] && result.converged[1]);
    assert_int_equal(result.products, 12 + 2);
    assert_true(calls > 0);
    assert_non_null(strstr(result.reason, "limit of 12 products"));
    assert_certified(&m, &result, 1.2);
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);

    matrix_create(&m, MOST, a, HSGD_REDUCTION_REPRODUCIBLE);
    options.max_products = 1; /* one product: one pair, although two were asked for */
    solve(&m, &options, &result);
    assert_int_equal(result.count, 1);
    assert_false(result.converged[0]);
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(a);
}

/* Products rounded to float: every entry is off by up to half a float's eps. */
static hsgd_status rounded_apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    const int64_t count = hsgd_space_rows(y->space) * y->columns;
    double *local = calloc((size_t)count + 1, sizeof *local);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(matrix_apply(self, x, y, err));
    HSGD_TRY(hsgd_vector_get_local(y, local, err));
    for (int64_t i = 0; i < count; i++) {
        local[i] = (double)(float)local[i];
    }
    HSGD_TRY(hsgd_vector_set_local(y, local, err));
done:
    free(local);
    return st;
}

static void the_noise_floor_is_that_of_the_products(void **state)
{
    static const hsgd_linop_ops rounded = {.name = "rounded", .apply = rounded_apply};
    double d[MOST], *a = calloc((size_t)MOST * MOST, sizeof *a), noise = -1.0;
    hsgd_linop *op = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < MOST; i++) {
        d[i] = 2.0 - 0.01 * i;
    }
    matrix_with_spectrum(MOST, d, a);
    matrix_create(&m, MOST, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_eigen_noise(m.op, 1, &noise, &err));
    assert_true(noise <= matrix_rounding(MOST, 1.0));
    assert_ok(hsgd_linop_create(m.space, &rounded, &m, &op, &err));
    assert_ok(hsgd_eigen_noise(op, 1, &noise, &err));
    assert_true(noise > 0.1 * (double)FLT_EPSILON && noise < 1.0 * (double)FLT_EPSILON);
    hsgd_linop_destroy(&op);
    matrix_destroy(&m);
    memset(a, 0, (size_t)MOST * MOST * sizeof *a); /* the zero matrix has none */
    matrix_create(&m, MOST, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_eigen_noise(m.op, 1, &noise, &err));
    assert_true(noise == 0.0);
    matrix_destroy(&m);
    free(a);
}

static void an_interrupted_search_goes_on_to_the_same_bits(void **state)
{
    enum { SMALL = 60 };
    double d[SMALL], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    hsgd_eigen_options options = options_of(3, HSGD_WHICH_BOTH, 1e-10);
    hsgd_eigen_result whole;
    matrix m;

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        d[i] = i < 2 ? 3.0 : 1.0 - 2.0 * i / SMALL;
    }
    matrix_with_spectrum(SMALL, d, a);
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    for (int turn = 0; turn < 5; turn++) {
        const bool restarts = turn % 2 == 0; /* else a basis so large that not every block is looked at */
        int points = 0, calls;

        options.basis = restarts ? 20 : SMALL;
        options.confirm = turn == 4;
        calls = run_whole(hsgd_lanczos_eigen, &m, &options, &whole);
        assert_true(!restarts || whole.marks > 2);
        while (stop_and_go_on(hsgd_lanczos_eigen, &m, options, points + 1, turn == 2 || turn == 3, calls, &whole)) {
            points++;
        }
        assert_true(points > 10);
        hsgd_eigen_result_clear(&whole);
    }
    matrix_destroy(&m);
    free(a);
}

static void refuses_more_pairs_than_the_order_of_the_matrix(void **state)
{
    const hsgd_eigen_options options = options_of(3, HSGD_WHICH_LARGEST, 1e-6);
    const double a[4] = {1.0, 0.0, 0.0, 2.0};
    hsgd_eigen_result result;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(hsgd_lanczos_eigen(m.op, &options, &result, &err), HSGD_ERR_USAGE);
    assert_null(result.values);
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
}

/* Rows 0 and 33 tie in magnitude: the lowest decides, also where another rank holds it. */
static void ties_of_the_sign_rule_go_to_the_lowest_row(void **state)
{
    enum { SMALL = 40 };
    const hsgd_eigen_options options = options_of(1, HSGD_WHICH_LARGEST, 1e-10);
    double *a = calloc((size_t)SMALL * SMALL, sizeof *a), full[2 * SMALL] = {0};
    const double values[2] = {1.0, 1.0};
    hsgd_eigen_result result = {0};
    hsgd_vector *v = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        a[i * SMALL + i] = 1.0;
    }
    full[0] = full[SMALL] = full[SMALL + 33] = -0.5;
    full[33] = 0.5;
    matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_vector_create(m.space, 2, &v, &err));
    assert_ok(hsgd_vector_set_full(v, full, &err));
    assert_ok(hsgd_eigen_certify(m.op, &options, values, &v, 1.0, &result, &err));
    assert_null(v);
    assert_ok(hsgd_vector_gather(result.vectors, full, &err));
    assert_true(full[0] > 0.0 && full[33] < 0.0);
    assert_true(full[SMALL] > 0.0 && full[SMALL + 33] > 0.0);
    hsgd_eigen_result_clear(&result);
    matrix_destroy(&m);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_ends_asked_for_of_an_indefinite_matrix),
        cmocka_unit_test(finds_a_graded_spectrum_over_twelve_orders),
        cmocka_unit_test(finds_rank_one_zero_and_unit_matrices),
        cmocka_unit_test(finds_every_pair_of_matrices_smaller_than_the_launch),
        cmocka_unit_test(finds_every_copy_of_a_multiple_eigenvalue),
        cmocka_unit_test(a_further_sequence_finds_copies_that_the_first_hid),
        cmocka_unit_test(copies_are_found_where_the_further_sequence_is_slow),
        cmocka_unit_test(a_unit_matrix_takes_few_products),
        cmocka_unit_test(a_crowded_end_is_found_over_many_restarts),
        cmocka_unit_test(half_the_tolerance_is_left_to_the_noise_of_the_products),
        cmocka_unit_test(says_so_when_products_run_out),
        cmocka_unit_test(the_noise_floor_is_that_of_the_products),
        cmocka_unit_test(an_interrupted_search_goes_on_to_the_same_bits),
        cmocka_unit_test(refuses_more_pairs_than_the_order_of_the_matrix),
        cmocka_unit_test(ties_of_the_sign_rule_go_to_the_lowest_row),
    };
    return test_run(tests);
}
