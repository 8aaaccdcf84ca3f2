/* tests/solve/test_lanczos.c - mirrors src/solve/lanczos.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "solve/lanczos.h"
#include "matrix.h"

enum { N = 150, STEPS = 60 };

/* Dense, indefinite, of norm 10, all eigenvalues distinct. */
static void dense(double *a)
{
    double d[N];

    for (int i = 0; i < N; i++) {
        d[i] = i == 0 ? -10.0 : -2.0 + 11.0 * i / (N - 1);
    }
    matrix_with_spectrum(N, d, a);
}

static hsgd_lanczos *begin(hsgd_linop *op, int64_t capacity)
{
    hsgd_vector *start = matrix_random(hsgd_linop_space(op), 0);
    hsgd_lanczos *lanczos = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_lanczos_create(op, NULL, capacity, NULL, &lanczos, &err));
    assert_ok(hsgd_lanczos_begin(lanczos, start, &err));
    hsgd_vector_destroy(&start);
    return lanczos;
}

/* A step of one process alone. */
static hsgd_status step(hsgd_lanczos *lanczos, hsgd_error *err)
{
    hsgd_vector *x = NULL, *y = NULL;
    hsgd_error own = {0};
    hsgd_status st;

    assert_int_equal(hsgd_vector_create(lanczos->basis.space, 1, &x, &own), HSGD_OK);
    assert_int_equal(hsgd_vector_create(lanczos->basis.space, 1, &y, &own), HSGD_OK);
    st = hsgd_lanczos_step(1, &lanczos, x, y, err);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    return st;
}

static void take(hsgd_lanczos *lanczos, int64_t steps)
{
    hsgd_error err = {0};

    for (int64_t i = 0; i < steps; i++) {
        assert_ok(step(lanczos, &err));
    }
}

/* Two passes leave each new vector orthogonal to the others to a small multiple of eps (Giraud, Langou, Rozloznik, van
 * den Eshof, Numer. Math. 101, 2005); norms and products themselves are rounded N-term sums. */
static void the_basis_is_orthonormal_to_rounding(void **state)
{
    double *a = calloc((size_t)N * N, sizeof *a), *g = calloc((size_t)STEPS * STEPS, sizeof *g);
    matrix m;
    hsgd_lanczos *lanczos = NULL;
    hsgd_vector q;
    hsgd_error err = {0};

    (void)state;
    dense(a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    lanczos = begin(m.op, STEPS);
    take(lanczos, STEPS);
    q = hsgd_vector_view(&lanczos->basis, 0, STEPS);
    assert_ok(hsgd_vector_gram(&q, &q, g, &err));
    for (int i = 0; i < STEPS; i++) {
        for (int j = 0; j < STEPS; j++) {
            assert_near(g[i * STEPS + j], i == j ? 1.0 : 0.0, 32.0 * DBL_EPSILON);
        }
    }
    hsgd_lanczos_destroy(&lanczos);
    matrix_destroy(&m);
    free(g);
    free(a);
}

/* A q_j = beta_{j-1} q_{j-1} + alpha_j q_j + beta_j q_{j+1}, for the last step with the residual in place of
 * beta q_{j+1}. */
static void the_three_terms_give_back_the_product(void **state)
{
    double *a = calloc((size_t)N * N, sizeof *a);
    matrix m;
    hsgd_lanczos *lanczos = NULL;
    hsgd_vector *y = NULL;
    hsgd_error err = {0};

    (void)state;
    dense(a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    lanczos = begin(m.op, STEPS);
    take(lanczos, STEPS);
    assert_ok(hsgd_vector_create(m.space, 1, &y, &err));
    for (int64_t j = 0; j < STEPS; j++) {
        const hsgd_vector q = hsgd_vector_view(&lanczos->basis, j, 1);
        double norm = 0.0;

        assert_ok(hsgd_linop_apply(m.op, &q, y, &err));
        assert_ok(hsgd_vector_axpy(-lanczos->alpha[j], &q, y, &err));
        if (j > 0) {
            const hsgd_vector before = hsgd_vector_view(&lanczos->basis, j - 1, 1);

            assert_ok(hsgd_vector_axpy(-lanczos->beta[j - 1], &before, y, &err));
        }
        if (j < STEPS - 1) {
            const hsgd_vector next = hsgd_vector_view(&lanczos->basis, j + 1, 1);

            assert_ok(hsgd_vector_axpy(-lanczos->beta[j], &next, y, &err));
        } else {
            assert_ok(hsgd_vector_axpy(-1.0, &lanczos->work, y, &err));
        }
        assert_ok(hsgd_vector_norm(y, &norm, &err));
        assert_true(norm <= matrix_rounding(N, lanczos->norm));
    }
    hsgd_vector_destroy(&y);
    hsgd_lanczos_destroy(&lanczos);
    matrix_destroy(&m);
    free(a);
}

static void coefficients_have_the_bits_of_one_rank(void **state)
{
    double *a = calloc((size_t)N * N, sizeof *a);
    double theta[2][STEPS],
        *s[2] = {calloc((size_t)STEPS * STEPS, sizeof **s), calloc((size_t)STEPS * STEPS, sizeof **s)};
    matrix m;
    hsgd_lanczos *here = NULL, *alone = NULL;
    hsgd_error err = {0};

    (void)state;
    dense(a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    here = begin(m.op, STEPS);
    alone = begin(m.serial_op, STEPS);
    take(here, STEPS);
    take(alone, STEPS);
    assert_memory_equal(here->alpha, alone->alpha, STEPS * sizeof *here->alpha);
    assert_memory_equal(here->beta, alone->beta, STEPS * sizeof *here->beta);
    assert_true(here->first == alone->first);
    matrix_same_bits(&here->basis, &alone->basis);
    assert_ok(hsgd_lanczos_ritz(here, theta[0], s[0], &err));
    assert_ok(hsgd_lanczos_ritz(alone, theta[1], s[1], &err));
    assert_memory_equal(theta[0], theta[1], sizeof theta[0]);
    assert_memory_equal(s[0], s[1], (size_t)STEPS * STEPS * sizeof **s);
    hsgd_lanczos_destroy(&alone);
    hsgd_lanczos_destroy(&here);
    matrix_destroy(&m);
    free(s[1]);
    free(s[0]);
    free(a);
}

static void ritz_vectors_diagonalise_t(void **state)
{
    double *a = calloc((size_t)N * N, sizeof *a), *s = calloc((size_t)STEPS * STEPS, sizeof *s);
    double theta[STEPS], values[STEPS];
    matrix m;
    hsgd_lanczos *lanczos = NULL;
    hsgd_error err = {0};

    (void)state;
    dense(a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    lanczos = begin(m.op, STEPS);
    take(lanczos, STEPS);
    assert_ok(hsgd_lanczos_ritz(lanczos, theta, s, &err));
    assert_ok(hsgd_lanczos_ritz(lanczos, values, NULL, &err));
    for (int64_t i = 0; i < STEPS; i++) {
        assert_true(i == 0 || theta[i] >= theta[i - 1]);
        assert_near(theta[i], values[i], matrix_rounding(STEPS, lanczos->norm));
        for (int64_t j = 0; j < STEPS; j++) { /* row j of T s_i - theta_i s_i */
            double r = (lanczos->alpha[j] - theta[i]) * s[j * STEPS + i];

            r += j > 0 ? lanczos->beta[j - 1] * s[(j - 1) * STEPS + i] : 0.0;
            r += j < STEPS - 1 ? lanczos->beta[j] * s[(j + 1) * STEPS + i] : 0.0;
            assert_near(r, 0.0, matrix_rounding(STEPS, lanczos->norm));
        }
    }
    hsgd_lanczos_destroy(&lanczos);
    matrix_destroy(&m);
    free(s);
    free(a);
}

/* The number of distinct eigenvalues bounds the steps to a breakdown: 1 for c I (also c = 0), 2 for rank one. */
static void a_breakdown_is_seen_before_anyone_divides(void **state)
{
    enum { SMALL = 40 };
    static const struct {
        double first, rest;
        int64_t steps;
    } cases[] = {{0.0, 0.0, 1}, {1.0, 1.0, 1}, {-1e-9, -1e-9, 1}, {3.0, 0.0, 2}, {1e12, 1e-3, 2}};
    double d[SMALL], *a = calloc((size_t)SMALL * SMALL, sizeof *a);
    hsgd_error err = {0};

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        matrix m;
        hsgd_lanczos *lanczos = NULL;
        double basis[SMALL * SMALL];

        for (int i = 0; i < SMALL; i++) {
            d[i] = i == 0 ? cases[c].first : cases[c].rest;
        }
        matrix_with_spectrum(SMALL, d, a);
        matrix_create(&m, SMALL, a, HSGD_REDUCTION_REPRODUCIBLE);
        lanczos = begin(m.op, SMALL);
        for (int64_t i = 0; i < cases[c].steps; i++) {
            assert_false(lanczos->broken);
            take(lanczos, 1);
        }
        assert_true(lanczos->broken);
        assert_ok(hsgd_vector_gather(&lanczos->basis, basis, &err));
        for (int64_t i = 0; i < SMALL * SMALL; i++) {
            assert_true(isfinite(basis[i]));
        }
        assert_int_equal(step(lanczos, &err), HSGD_ERR_USAGE);
        hsgd_lanczos_destroy(&lanczos);
        matrix_destroy(&m);
    }
    free(a);
}

static void beginning_again_changes_no_bit(void **state)
{
    double *a = calloc((size_t)N * N, sizeof *a), alpha[20];
    matrix m;
    hsgd_lanczos *lanczos = NULL;
    hsgd_vector *start = NULL;
    hsgd_error err = {0};

    (void)state;
    dense(a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    lanczos = begin(m.op, 20);
    take(lanczos, 20);
    memcpy(alpha, lanczos->alpha, sizeof alpha);
    assert_int_equal(step(lanczos, &err), HSGD_ERR_USAGE); /* full */
    start = matrix_random(m.space, 0);
    assert_ok(hsgd_lanczos_begin(lanczos, start, &err));
    assert_int_equal(lanczos->steps, 0);
    take(lanczos, 20);
    assert_memory_equal(lanczos->alpha, alpha, sizeof alpha);
    hsgd_vector_destroy(&start);
    hsgd_lanczos_destroy(&lanczos);
    matrix_destroy(&m);
    free(a);
}

/* Put down after some steps and taken up in the room of another process, it takes the steps it would have taken. */
static void a_state_that_is_taken_up_goes_on_to_the_same_bits(void **state)
{
    enum { MADE = 7, ALL = 20 };
    double *a = calloc((size_t)N * N, sizeof *a), real[HSGD_LANCZOS_REALS + 2 * ALL];
    int64_t integer[HSGD_LANCZOS_INTEGERS];
    matrix m;
    hsgd_lanczos *whole = NULL, *other = NULL;
    hsgd_vector *room = NULL;
    hsgd_error err = {0};

    (void)state;
    dense(a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    whole = begin(m.op, ALL);
    take(whole, MADE);
    hsgd_lanczos_save(whole, integer, real);
    assert_ok(hsgd_vector_clone(whole->own, &room, &err));
    take(whole, ALL - MADE);
    assert_int_equal(room->columns, hsgd_lanczos_columns(0, ALL));
    assert_ok(hsgd_lanczos_create(m.op, NULL, ALL, room, &other, &err));
    assert_ok(hsgd_lanczos_restore(other, integer, real, &err));
    take(other, ALL - MADE);
    assert_memory_equal(whole->alpha, other->alpha, ALL * sizeof *whole->alpha);
    assert_memory_equal(whole->beta, other->beta, ALL * sizeof *whole->beta);
    assert_true(whole->first == other->first && whole->norm == other->norm);
    matrix_same_bits(&whole->basis, &other->basis);
    integer[0] = ALL + 1;
    assert_int_equal(hsgd_lanczos_restore(other, integer, real, &err), HSGD_ERR_DATA);
    hsgd_lanczos_destroy(&other);
    hsgd_lanczos_destroy(&whole);
    hsgd_vector_destroy(&room);
    matrix_destroy(&m);
    free(a);
}

/* Diagonal matrix, unit vectors held: eigenvectors of 5 and of -3, far from the rest, which is in 1 +- 0.001.  Without
 * Gram-Schmidt against them too, rounding grows along them by 1 / 0.001 a step, and the process finds them again. */
static void held_vectors_stay_out_of_the_process(void **state)
{
    enum { ROWS = 60, TAKEN = 25 };
    double d[ROWS], *a = calloc((size_t)ROWS * ROWS, sizeof *a), unit[2 * ROWS] = {0}, theta[TAKEN], g[2 * TAKEN];
    matrix m;
    hsgd_lanczos *lanczos = NULL;
    hsgd_vector *held = NULL, *start = NULL;
    hsgd_vector q;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < ROWS; i++) {
        d[i] = i == 0 ? 5.0 : i == 1 ? -3.0 : 1.0 + 0.001 * (2.0 * i / ROWS - 1.0);
    }
    matrix_diagonal(ROWS, d, a);
    unit[0] = unit[ROWS + 1] = 1.0;
    matrix_create(&m, ROWS, a, HSGD_REDUCTION_REPRODUCIBLE);
    start = matrix_random(m.space, 0);
    assert_ok(hsgd_vector_create(m.space, 2, &held, &err));
    assert_ok(hsgd_vector_set_full(held, unit, &err));
    assert_ok(hsgd_lanczos_create(m.op, held, TAKEN, NULL, &lanczos, &err));
    assert_ok(hsgd_lanczos_begin(lanczos, start, &err));
    take(lanczos, TAKEN);
    q = hsgd_vector_view(&lanczos->basis, 2, TAKEN);
    assert_ok(hsgd_vector_gram(held, &q, g, &err));
    for (int i = 0; i < 2 * TAKEN; i++) {
        assert_near(g[i], 0.0, 32.0 * DBL_EPSILON);
    }
    assert_ok(hsgd_lanczos_ritz(lanczos, theta, NULL, &err));
    for (int i = 0; i < TAKEN; i++) {
        assert_near(theta[i], 1.0, 0.001 + matrix_rounding(ROWS, 1.0));
    }
    assert_ok(hsgd_vector_set_full(start, unit, &err));
    assert_int_equal(hsgd_lanczos_begin(lanczos, start, &err), HSGD_ERR_NUMERIC); /* it is one of them */
    hsgd_lanczos_destroy(&lanczos);
    hsgd_vector_destroy(&start);
    hsgd_vector_destroy(&held);
    matrix_destroy(&m);
    free(a);
}

static void a_zero_start_and_a_matrix_of_nan_are_refused(void **state)
{
    double a[4] = {NAN, 0.0, 0.0, 1.0};
    matrix m;
    hsgd_lanczos *lanczos = NULL;
    hsgd_vector *zero = NULL;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_vector_create(m.space, 1, &zero, &err));
    assert_ok(hsgd_lanczos_create(m.op, NULL, 2, NULL, &lanczos, &err));
    assert_int_equal(hsgd_lanczos_begin(lanczos, zero, &err), HSGD_ERR_NUMERIC);
    hsgd_lanczos_destroy(&lanczos);
    assert_null(lanczos);
    lanczos = begin(m.op, 2);
    assert_int_equal(step(lanczos, &err), HSGD_ERR_NUMERIC);
    hsgd_lanczos_destroy(&lanczos);
    hsgd_vector_destroy(&zero);
    matrix_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_basis_is_orthonormal_to_rounding),
        cmocka_unit_test(the_three_terms_give_back_the_product),
        cmocka_unit_test(coefficients_have_the_bits_of_one_rank),
        cmocka_unit_test(ritz_vectors_diagonalise_t),
        cmocka_unit_test(a_breakdown_is_seen_before_anyone_divides),
        cmocka_unit_test(beginning_again_changes_no_bit),
        cmocka_unit_test(a_state_that_is_taken_up_goes_on_to_the_same_bits),
        cmocka_unit_test(held_vectors_stay_out_of_the_process),
        cmocka_unit_test(a_zero_start_and_a_matrix_of_nan_are_refused),
    };
    return test_run(tests);
}
