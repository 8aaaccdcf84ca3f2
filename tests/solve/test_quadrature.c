/* tests/solve/test_quadrature.c - mirrors src/solve/quadrature.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "solve/quadrature.h"
#include "matrix.h"
#include "memory_keeper.h"

enum { N = 90, PROBES = 3, STEPS = 25 };

static const hsgd_quadrature_options usual = {.probes = PROBES, .steps = STEPS, .draw = HSGD_DRAW_SIGN, .seed = 5};

/* Descending, N distinct values in [-1, 3]. */
static void spread_out(double *d)
{
    for (int i = 0; i < N; i++) {
        d[i] = 3.0 - 4.0 * i / (N - 1);
    }
}

static void nodes_have_the_bits_of_one_rank_and_weights_sum_to_one(void **state)
{
    double d[N], *a = calloc((size_t)N * N, sizeof *a);
    double ritz[2][PROBES * STEPS], weights[2][PROBES * STEPS];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    spread_out(d);
    matrix_with_spectrum(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_quadrature(m.op, &usual, ritz[0], weights[0], &err));
    assert_ok(hsgd_quadrature(m.serial_op, &usual, ritz[1], weights[1], &err));
    assert_memory_equal(ritz[0], ritz[1], sizeof ritz[0]);
    assert_memory_equal(weights[0], weights[1], sizeof weights[0]);
    for (int p = 0; p < PROBES; p++) {
        double sum = 0.0;

        for (int i = p * STEPS; i < (p + 1) * STEPS; i++) {
            assert_true(weights[0][i] >= 0.0);
            assert_true(i == p * STEPS || ritz[0][i] >= ritz[0][i - 1]);
            assert_true(ritz[0][i] >= -1.0 - matrix_rounding(N, 3.0) && ritz[0][i] <= 3.0 + matrix_rounding(N, 3.0));
            sum += weights[0][i];
        }
        assert_near(sum, 1.0, 64.0 * DBL_EPSILON * STEPS);
    }
    matrix_destroy(&m);
    free(a);
}

/* Start vectors of three sorts: one process ends after a step, one after two, one goes on; the others' bits stay. */
static void no_bit_depends_on_the_block(void **state)
{
    double d[N], *a = calloc((size_t)N * N, sizeof *a), *start = calloc((size_t)PROBES * N, sizeof *start);
    double ritz[PROBES][PROBES * STEPS], weights[PROBES][PROBES * STEPS];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    spread_out(d);
    matrix_diagonal(N, d, a);
    start[0] = 1.0;
    start[N + 1] = start[N + 7] = 1.0;
    for (int i = 0; i < N; i++) {
        start[2 * N + i] = 1.0 + i % 5;
    }
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    for (int given = 0; given < 2; given++) {
        for (int block = 0; block < PROBES; block++) {
            hsgd_quadrature_options options = usual;

            options.block = block + 1;
            options.start = given ? start : NULL;
            assert_ok(hsgd_quadrature(m.op, &options, ritz[block], weights[block], &err));
            assert_memory_equal(ritz[block], ritz[0], sizeof ritz[0]);
            assert_memory_equal(weights[block], weights[0], sizeof weights[0]);
        }
        assert_true(!given || (weights[0][1] == 0.0 && weights[0][STEPS + 2] == 0.0 && weights[0][3 * STEPS - 1] > 0));
    }
    matrix_destroy(&m);
    free(start);
    free(a);
}

/* k steps integrate polynomials of degree 2k - 1 exactly: sum w theta^j = v'A^j v.  For a diagonal matrix and a vector
 * of signs that is the mean of d^j, the same for every probe. */
static void moments_are_exact_up_to_twice_the_steps(void **state)
{
    enum { FEW = 3 };
    hsgd_quadrature_options options = usual;
    double d[N], *a = calloc((size_t)N * N, sizeof *a), ritz[PROBES * FEW], weights[PROBES * FEW];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    options.steps = FEW;
    spread_out(d);
    matrix_diagonal(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_quadrature(m.op, &options, ritz, weights, &err));
    for (int p = 0; p < PROBES; p++) {
        for (int power = 0; power <= 2 * FEW - 1; power++) {
            double sum = 0.0, expected = 0.0;

            for (int i = p * FEW; i < (p + 1) * FEW; i++) {
                sum += weights[i] * pow(ritz[i], power);
            }
            for (int i = 0; i < N; i++) {
                expected += pow(d[i], power) / N;
            }
            assert_near(sum, expected, matrix_rounding(N, pow(3.0, power)));
        }
    }
    matrix_destroy(&m);
    free(a);
}

/* Three distinct eigenvalues: after three steps the nodes are the eigenvalues, the weights the shares of the start
 * vector in the eigenspaces, and the rest of the row repeats the last node with weight 0. */
static void an_early_end_gives_the_spectrum_itself(void **state)
{
    const double values[3] = {-2.0, 1.0, 4.0}, shares[3] = {20.0 / N, 60.0 / N, 10.0 / N};
    double d[N], *a = calloc((size_t)N * N, sizeof *a), ritz[PROBES * STEPS], weights[PROBES * STEPS];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = values[i < 20 ? 0 : i < 80 ? 1 : 2];
    }
    matrix_diagonal(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_quadrature(m.op, &usual, ritz, weights, &err));
    for (int p = 0; p < PROBES; p++) {
        for (int i = 0; i < STEPS; i++) {
            assert_near(ritz[p * STEPS + i], values[i < 3 ? i : 2], matrix_rounding(N, 4.0));
            assert_near(weights[p * STEPS + i], i < 3 ? shares[i] : 0.0, i < 3 ? matrix_rounding(N, 4.0) : 0.0);
        }
    }
    matrix_destroy(&m);
    free(a);
}

static void more_steps_than_rows_end_with_the_rows(void **state)
{
    const double a[4] = {2.0, 1.0, 1.0, 2.0}; /* eigenvalues 1 and 3 */
    hsgd_quadrature_options options = usual;
    double ritz[10], weights[10], start[4] = {1.0, 0.0, 1.0, 1.0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    options.probes = 2;
    options.steps = 5;
    options.start = start; /* half in each eigenspace; wholly in that of 3 */
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_quadrature(m.op, &options, ritz, weights, &err));
    assert_near(ritz[0], 1.0, matrix_rounding(2, 3.0));
    assert_near(ritz[1], 3.0, matrix_rounding(2, 3.0));
    assert_near(weights[0], 0.5, matrix_rounding(2, 3.0));
    assert_near(weights[1], 0.5, matrix_rounding(2, 3.0));
    assert_true(weights[2] == 0.0 && ritz[4] == ritz[1]);
    assert_near(ritz[5], 3.0, matrix_rounding(2, 3.0));
    assert_near(weights[5], 1.0, matrix_rounding(2, 3.0));
    assert_true(weights[6] == 0.0 && ritz[6] == ritz[5]);
    matrix_destroy(&m);
}

static void rejects_a_start_of_zero_and_a_matrix_of_nan(void **state)
{
    double a[4] = {NAN, 0.0, 0.0, 1.0}, ritz[STEPS * PROBES], weights[STEPS * PROBES], zero[2 * PROBES] = {0};
    hsgd_quadrature_options options = usual;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(hsgd_quadrature(m.op, &options, ritz, weights, &err), HSGD_ERR_NUMERIC);
    options.start = zero;
    assert_int_equal(hsgd_quadrature(m.op, &options, ritz, weights, &err), HSGD_ERR_NUMERIC);
    options.probes = 0;
    assert_int_equal(hsgd_quadrature(m.op, &options, ritz, weights, &err), HSGD_ERR_USAGE);
    matrix_destroy(&m);
}

/* Diagonal, and signs: the mean of d^j over the rows that are left, exact up to twice the steps, whatever the vectors
 * deflated had; the same bits as on one rank, and no node outside what is left. */
static void deflated_vectors_leave_the_rest_of_the_spectrum(void **state)
{
    enum { FEW = 4, OUT = 3 };
    hsgd_quadrature_options options = usual;
    double d[N], *a = calloc((size_t)N * N, sizeof *a), *unit = calloc((size_t)OUT * N, sizeof *unit);
    double ritz[2][PROBES * FEW], weights[2][PROBES * FEW];
    hsgd_vector *deflate[2] = {NULL, NULL};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    spread_out(d);
    d[0] = 1000.0;
    d[1] = -500.0;
    d[N - 1] = 300.0;
    matrix_diagonal(N, d, a);
    unit[0] = unit[N + 1] = unit[2 * N + N - 1] = 1.0;
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    options.steps = FEW;
    for (int alone = 0; alone < 2; alone++) {
        hsgd_linop *op = alone ? m.serial_op : m.op;

        assert_ok(hsgd_vector_create(hsgd_linop_space(op), OUT, &deflate[alone], &err));
        assert_ok(hsgd_vector_set_full(deflate[alone], unit, &err));
        options.deflate = deflate[alone];
        assert_ok(hsgd_quadrature(op, &options, ritz[alone], weights[alone], &err));
        hsgd_vector_destroy(&deflate[alone]);
    }
    assert_memory_equal(ritz[0], ritz[1], sizeof ritz[0]);
    assert_memory_equal(weights[0], weights[1], sizeof weights[0]);
    for (int p = 0; p < PROBES; p++) {
        for (int power = 0; power <= 2 * FEW - 1; power++) {
            double sum = 0.0, expected = 0.0;

            for (int i = p * FEW; i < (p + 1) * FEW; i++) {
                assert_true(ritz[0][i] > -1.0 && ritz[0][i] < 3.0);
                sum += weights[0][i] * pow(ritz[0][i], power);
            }
            for (int i = 2; i < N - 1; i++) {
                expected += pow(d[i], power) / (N - OUT);
            }
            assert_near(sum, expected, matrix_rounding(N, pow(3.0, power)));
        }
    }
    matrix_destroy(&m);
    free(unit);
    free(a);
}

/* As many steps as rows that are left, which take the whole of it; and nothing left is refused. */
static void deflation_may_leave_little_but_not_nothing(void **state)
{
    const double a[9] = {2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 5.0}, unit[9] = {1, 0, 0, 0, 0, 1, 0, 1, 0};
    hsgd_quadrature_options options = {.probes = 1, .steps = 4, .seed = 5};
    double ritz[4], weights[4];
    hsgd_vector *deflate = NULL;
    hsgd_vector view;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 3, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_vector_create(m.space, 3, &deflate, &err));
    assert_ok(hsgd_vector_set_full(deflate, unit, &err));
    view = hsgd_vector_view(deflate, 0, 2);
    options.deflate = &view;
    assert_ok(hsgd_quadrature(m.op, &options, ritz, weights, &err));
    for (int i = 0; i < 4; i++) {
        assert_near(ritz[i], 3.0, matrix_rounding(3, 5.0));
        assert_near(weights[i], i == 0 ? 1.0 : 0.0, matrix_rounding(3, 1.0));
    }
    options.deflate = deflate;
    assert_int_equal(hsgd_quadrature(m.op, &options, ritz, weights, &err), HSGD_ERR_USAGE);
    hsgd_vector_destroy(&deflate);
    matrix_destroy(&m);
}

/* The figures of the theorem, worked out by hand: 4 ln(2 * 100 / 0.05) = 33.176.., over 102 * 0.01. */
static void a_plan_has_the_steps_and_probes_of_the_theorem(void **state)
{
    static const struct {
        int64_t n;
        double accuracy;
        int64_t probes, steps;
    } wanted[] = {
        {100, 0.1, 33, 100}, {28938, 0.1, 1, 121}, {28938, 0.01, 20, 1201}, {28938, 1.0, 1, 13}, {1, 1.0, 5, 1}};
    int64_t probes = 0, steps = 0;

    (void)state;
    for (int i = 0; i < 5; i++) {
        hsgd_quadrature_plan(wanted[i].n, wanted[i].accuracy, 0.05, &probes, &steps);
        assert_int_equal(probes, wanted[i].probes);
        assert_int_equal(steps, wanted[i].steps);
    }
    hsgd_quadrature_plan(1000, 1e-300, 0.05, &probes, &steps);
    assert_true(probes == 1000000000 && steps == 1000);
}

/* Half the eigenvalues are -1, half are 1: the measure is off by the share of the probes at 1 less a half, times the width.
 * A planned number of probes keeps the promise in every draw, though a twentieth of them might miss; a single probe
 * misses in more, having a deviation of 0.5 / sqrt(n / 2 + 1) = 0.19. */
static void planned_probes_keep_the_accuracy_and_one_does_not(void **state)
{
    enum { ROWS = 12, DRAWS = 20, MOST = 64 };
    static const double accuracy = 0.2, eta = 0.05;
    double d[ROWS], a[ROWS * ROWS] = {0}, ritz[2 * MOST], weights[2 * MOST];
    int64_t planned = 0, steps = 0;
    int missed = 0;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < ROWS; i++) {
        d[i] = i % 2 == 0 ? 1.0 : -1.0;
    }
    matrix_diagonal(ROWS, d, a);
    matrix_create(&m, ROWS, a, HSGD_REDUCTION_REPRODUCIBLE);
    hsgd_quadrature_plan(ROWS, accuracy, eta, &planned, &steps);
    assert_true(planned > 1 && planned <= MOST);
    for (uint64_t seed = 1; seed <= DRAWS; seed++) {
        double share = 0.0;

        assert_ok(hsgd_quadrature(
            m.op, &(hsgd_quadrature_options){.probes = planned, .steps = 2, .draw = HSGD_DRAW_NORMAL, .seed = seed},
            ritz, weights, &err));
        missed += fabs(weights[1] - 0.5) > accuracy; /* of the first probe alone */
        for (int64_t i = 0; i < planned; i++) {
            assert_near(ritz[2 * i + 1], 1.0, matrix_rounding(ROWS, 1.0));
            share += weights[2 * i + 1] / (double)planned;
        }
        assert_true(fabs(share - 0.5) <= accuracy);
    }
    assert_true(missed > DRAWS * eta);
    matrix_destroy(&m);
}

static void watch(void *context, int64_t products, int64_t total)
{
    int64_t *last = context;

    assert_int_equal(products, *last + PROBES); /* one step of every probe */
    assert_int_equal(total, 2 * PROBES);
    *last = products;
}

static void the_monitor_counts_every_product(void **state)
{
    hsgd_quadrature_options options = usual;
    const double a[4] = {2.0, 1.0, 1.0, 2.0};
    double ritz[PROBES * STEPS], weights[PROBES * STEPS];
    int64_t last = 0;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    options.draw = HSGD_DRAW_NORMAL;
    options.monitor = watch;
    options.context = &last;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_quadrature(m.op, &options, ritz, weights, &err));
    assert_int_equal(last, hsgd_linop_products(m.op));
    matrix_destroy(&m);
}

enum { ORDER = 30, FIVE = 5, SIX = 6, BLOCK = 2, APPLIES = 3 * SIX };

/* a: [ORDER][ORDER], which the matrix borrows. */
static void slanted(matrix *m, double *a)
{
    double d[ORDER];

    for (int i = 0; i < ORDER; i++) {
        d[i] = 1.0 - 0.1 * i;
    }
    matrix_with_spectrum(ORDER, d, a);
    matrix_create(m, ORDER, a, HSGD_REDUCTION_REPRODUCIBLE);
}

/* Stopped by the keeper, or in a product, at each of its points: what was done is taken over to the same bits, and no
 * product is made again; with vectors deflated, and taken up by one rank or by all of them. */
static void assert_goes_on(const matrix *m, hsgd_quadrature_options options, const double *whole, int point)
{
    const bool by_keeper = point <= APPLIES;
    const int stop = by_keeper ? point : point - APPLIES; /* a state is offered after each product, or after a block */
    stopping inner = {.inner = m->op, .stop_at = by_keeper ? 0 : stop};
    double parts[2 * FIVE * SIX] = {0};
    hsgd_linop *op = NULL;
    memory_keeper keeper;
    hsgd_error err = {0};

    memory_keeper_create(&keeper, by_keeper ? stop : 0);
    options.keeper = &keeper.keeper;
    assert_ok(hsgd_linop_create(m->space, &stopping_ops, &inner, &op, &err));
    assert_int_equal(hsgd_quadrature(op, &options, parts, parts + FIVE * SIX, &err), HSGD_STOPPED);
    memset(parts, 0, sizeof parts);
    keeper.stop_at = 0;
    inner.calls = inner.stop_at = 0;
    assert_ok(hsgd_quadrature(op, &options, parts, parts + FIVE * SIX, &err));
    assert_memory_equal(parts, whole, sizeof parts);
    assert_int_equal(inner.calls, APPLIES - (by_keeper ? stop : stop - 1));
    hsgd_linop_destroy(&op);
    memory_keeper_destroy(&keeper);
}

static void interrupted_probes_go_on_to_the_same_bits(void **state)
{
    hsgd_quadrature_options options = {.probes = FIVE, .steps = SIX, .block = BLOCK, .seed = 3};
    double whole[2 * FIVE * SIX], a[ORDER * ORDER];
    hsgd_vector *deflate = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    slanted(&m, a);
    deflate = matrix_random(m.space, 1);
    assert_ok(hsgd_vector_normalize(deflate, &err));
    for (int deflated = 0; deflated < 2; deflated++) {
        options.deflate = deflated ? deflate : NULL;
        options.keeper = NULL;
        assert_ok(hsgd_quadrature(m.op, &options, whole, whole + FIVE * SIX, &err));
        for (int point = 1; point <= 2 * APPLIES; point += deflated ? 5 : 1) {
            assert_goes_on(&m, options, whole, point);
        }
    }
    hsgd_vector_destroy(&deflate);
    matrix_destroy(&m);
}

/* From all ranks to one and back, and with another block: what runs goes on together, the rest in the new blocks. */
static void a_state_serves_other_ranks_and_blocks(void **state)
{
    hsgd_quadrature_options options = {.probes = FIVE, .steps = SIX, .block = BLOCK, .seed = 3};
    double whole[2 * FIVE * SIX], parts[2 * FIVE * SIX], a[ORDER * ORDER];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    slanted(&m, a);
    assert_ok(hsgd_quadrature(m.op, &options, whole, whole + FIVE * SIX, &err));
    for (int way = 0; way < 2; way++) {
        hsgd_linop *from = way == 0 ? m.op : m.serial_op, *to = way == 0 ? m.serial_op : m.op;

        for (int64_t block = 1; block <= FIVE; block += 2) {
            memory_keeper keeper;

            memory_keeper_create(&keeper, SIX + 2); /* within the second block */
            options.keeper = &keeper.keeper;
            options.block = BLOCK;
            assert_int_equal(hsgd_quadrature(from, &options, parts, parts + FIVE * SIX, &err), HSGD_STOPPED);
            assert_non_null(keeper.kept.vectors);
            keeper.stop_at = 0;
            options.block = block;
            memset(parts, 0, sizeof parts);
            assert_ok(hsgd_quadrature(to, &options, parts, parts + FIVE * SIX, &err));
            assert_memory_equal(parts, whole, sizeof whole);
            memory_keeper_destroy(&keeper);
        }
    }
    matrix_destroy(&m);
}

static void a_state_of_another_work_is_refused(void **state)
{
    hsgd_quadrature_options options = {.probes = FIVE, .steps = SIX, .block = BLOCK, .seed = 3}, other;
    double parts[4 * FIVE * SIX], a[ORDER * ORDER];
    hsgd_vector *deflate = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    slanted(&m, a);
    deflate = matrix_random(m.space, 1);
    assert_ok(hsgd_vector_normalize(deflate, &err));
    for (int stop = SIX; stop <= SIX + 1; stop++) { /* after a block, and within one */
        memory_keeper keeper;

        memory_keeper_create(&keeper, stop);
        options.keeper = &keeper.keeper;
        options.deflate = deflate;
        assert_int_equal(hsgd_quadrature(m.op, &options, parts, parts + 2 * FIVE * SIX, &err), HSGD_STOPPED);
        for (int wrong = 0; wrong < 4; wrong++) {
            hsgd_vector *others = matrix_random(m.space, 2);

            assert_ok(hsgd_vector_normalize(others, &err));
            other = options;
            other.probes = wrong == 0 ? 1 : FIVE;
            other.steps = wrong == 1 ? SIX + 1 : SIX;
            other.deflate = wrong == 2 ? NULL : wrong == 3 ? others : deflate;
            assert_int_equal(hsgd_quadrature(m.op, &other, parts, parts + 2 * FIVE * SIX, &err), HSGD_ERR_DATA);
            hsgd_vector_destroy(&others);
        }
        memory_keeper_destroy(&keeper);
    }
    hsgd_vector_destroy(&deflate);
    matrix_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_have_the_bits_of_one_rank_and_weights_sum_to_one),
        cmocka_unit_test(no_bit_depends_on_the_block),
        cmocka_unit_test(interrupted_probes_go_on_to_the_same_bits),
        cmocka_unit_test(a_state_serves_other_ranks_and_blocks),
        cmocka_unit_test(a_state_of_another_work_is_refused),
        cmocka_unit_test(moments_are_exact_up_to_twice_the_steps),
        cmocka_unit_test(an_early_end_gives_the_spectrum_itself),
        cmocka_unit_test(more_steps_than_rows_end_with_the_rows),
        cmocka_unit_test(rejects_a_start_of_zero_and_a_matrix_of_nan),
        cmocka_unit_test(deflated_vectors_leave_the_rest_of_the_spectrum),
        cmocka_unit_test(deflation_may_leave_little_but_not_nothing),
        cmocka_unit_test(a_plan_has_the_steps_and_probes_of_the_theorem),
        cmocka_unit_test(planned_probes_keep_the_accuracy_and_one_does_not),
        cmocka_unit_test(the_monitor_counts_every_product),
    };
    return test_run(tests);
}
