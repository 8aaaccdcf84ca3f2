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

/* Two nodes far apart: on the grid the density is two Gaussians, each of the width asked for. */
static void the_density_is_a_sum_of_gaussians_on_an_even_grid(void **state)
{
    enum { BINS = 4001 };
    const double ritz[2] = {-1.0, 1.0}, weights[2] = {0.25, 0.75}, sigma_squared = 1e-3, overhead = 0.5;
    const double variance = sigma_squared * 3.0; /* the range is 2 + 2 * 0.5 */
    double *grid = calloc(BINS, sizeof *grid), *density = calloc(BINS, sizeof *density), total = 0.0;

    (void)state;
    hsgd_density(1, 2, ritz, weights, BINS, sigma_squared, overhead, false, grid, density, NULL);
    assert_true(grid[0] == -1.5 && grid[BINS - 1] == 1.5);
    for (int j = 0; j < BINS; j++) {
        const double x = -1.5 + 3.0 * j / (BINS - 1);
        const double expected = (0.25 * exp(-(x + 1.0) * (x + 1.0) / (2.0 * variance)) +
                                 0.75 * exp(-(x - 1.0) * (x - 1.0) / (2.0 * variance))) /
                                sqrt(2.0 * M_PI * variance);

        /* the grid sum of a Gaussian that is 37 times wider than a bin and 9 deviations from the ends is 1 but for
         * exp(-9^2 / 2) = 3e-18; rounding: a grid point off by eps is magnified by the slope, below 6 sigma/variance */
        assert_near(grid[j], x, 4.0 * DBL_EPSILON);
        assert_near(density[j], expected, 1e-12);
        total += density[j] * 3.0 / (BINS - 1);
    }
    assert_near(total, 1.0, BINS * DBL_EPSILON);
    free(density);
    free(grid);
}

/* The grid of the first form spans the mean extremes, that of the full form all; extra nodes of weight 0 matter to
 * neither; a range above 1 widens the Gaussians with it. */
static void the_grid_spans_mean_or_full_extremes(void **state)
{
    enum { BINS = 5 };
    const double ritz[6] = {0.0, 4.0, 4.0, -2.0, 1.0, 10.0}, weights[6] = {0.5, 0.5, 0.0, 0.2, 0.3, 0.5};
    double grid[BINS], density[BINS];

    (void)state;
    hsgd_density(2, 3, ritz, weights, BINS, 1.0, 1.0, false, grid, density, NULL);
    assert_true(grid[0] == -2.0 && grid[2] == 3.0 && grid[BINS - 1] == 8.0);
    hsgd_density(2, 3, ritz, weights, BINS, 1.0, 1.0, true, grid, density, NULL);
    assert_true(grid[0] == -3.0 && grid[2] == 4.0 && grid[BINS - 1] == 11.0);
}

/* Against the definition, written out: sample deviation of the equally normalised densities over sqrt(probes). */
static void standard_errors_are_those_of_a_mean(void **state)
{
    enum { BINS = 11 };
    const double ritz[6] = {0.0, 1.0, 0.2, 1.1, -0.1, 0.9}, weights[6] = {0.5, 0.5, 0.3, 0.7, 0.6, 0.4};
    double grid[BINS], density[BINS], error[BINS], one[3][BINS], total = 0.0, variance = 0.0;

    (void)state;
    hsgd_density(3, 2, ritz, weights, BINS, 0.01, 0.1, false, grid, density, error);
    variance = 0.01 * fmax(1.0, grid[BINS - 1] - grid[0]);
    for (int j = 0; j < BINS; j++) {
        for (int p = 0; p < 3; p++) {
            one[p][j] = 0.0;
            for (int i = 2 * p; i < 2 * p + 2; i++) {
                one[p][j] +=
                    weights[i] * exp(-pow(grid[j] - ritz[i], 2.0) / (2.0 * variance)) / sqrt(2.0 * M_PI * variance);
            }
            total += one[p][j] / 3.0;
        }
    }
    total *= grid[1] - grid[0];
    for (int j = 0; j < BINS; j++) {
        const double mean = (one[0][j] + one[1][j] + one[2][j]) / 3.0;
        double squares = 0.0;

        for (int p = 0; p < 3; p++) {
            squares += pow(one[p][j] - mean, 2.0);
        }
        assert_near(density[j], mean / total, 64.0 * DBL_EPSILON * (1.0 + density[j]));
        assert_near(error[j], sqrt(squares / 2.0 / 3.0) / total, 64.0 * DBL_EPSILON * (1.0 + density[j]));
    }
}

static void moments_and_their_errors_are_means_over_probes(void **state)
{
    const double ritz[4] = {1.0, 2.0, 0.0, 3.0}, weights[4] = {0.5, 0.5, 0.75, 0.25};
    const double first[4] = {1.5, 2.5, 4.5, 8.5}, second[4] = {0.75, 2.25, 6.75, 20.25};
    double moment[4], error[4];

    (void)state;
    hsgd_density_moments(2, 2, ritz, weights, moment, error);
    for (int j = 0; j < 4; j++) { /* of two samples, the standard error is half their difference */
        assert_near(moment[j], (first[j] + second[j]) / 2.0, 8.0 * DBL_EPSILON * moment[j]);
        assert_near(error[j], fabs(first[j] - second[j]) / 2.0, 64.0 * DBL_EPSILON * moment[j]);
    }
    hsgd_density_moments(1, 2, ritz, weights, moment, NULL);
    for (int j = 0; j < 4; j++) {
        assert_near(moment[j], first[j], 8.0 * DBL_EPSILON * first[j]);
    }
}

static void the_cumulative_measure_is_a_mean_of_steps(void **state)
{
    const double ritz[4] = {1.0, 2.0, 0.0, 2.0}, weights[4] = {0.5, 0.5, 0.75, 0.25};
    const double value[4] = {0.0, 1.0, 2.0, 2.0}, share[4] = {0.375, 0.625, 0.875, 1.0};
    const double deviation[4] = {0.375, 0.125, 0.125, 0.0}; /* half the difference of the two probes */
    double eigenvalue[4], measure[4], error[4];
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_cumulative(2, 2, ritz, weights, eigenvalue, measure, error, &err));
    for (int i = 0; i < 4; i++) {
        assert_true(eigenvalue[i] == value[i]);
        assert_near(measure[i], share[i], 4.0 * DBL_EPSILON);
        assert_near(error[i], deviation[i], 4.0 * DBL_EPSILON);
    }
    assert_ok(hsgd_cumulative(1, 2, ritz, weights, eigenvalue, measure, NULL, &err));
    assert_true(eigenvalue[0] == 1.0 && measure[0] == 0.5 && measure[1] == 1.0);
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

/* Stopped by the keeper, or in a product, at each of its points: finished probes are taken over, to the same bits. */
static void interrupted_probes_go_on_to_the_same_bits(void **state)
{
    enum { ORDER = 30, FIVE = 5, SIX = 6, BLOCK = 2, BLOCKS = 3 };
    hsgd_quadrature_options options = {.probes = FIVE, .steps = SIX, .block = BLOCK, .seed = 3};
    double d[ORDER], whole[2][FIVE * SIX], parts[2][FIVE * SIX], *a = calloc(ORDER * ORDER, sizeof *a);
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < ORDER; i++) {
        d[i] = 1.0 - 0.1 * i;
    }
    matrix_with_spectrum(ORDER, d, a);
    matrix_create(&m, ORDER, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_quadrature(m.op, &options, whole[0], whole[1], &err));
    for (int point = 1; point <= BLOCKS + BLOCKS * SIX; point++) {
        const bool by_keeper = point <= BLOCKS;
        stopping inner = {.inner = m.op, .stop_at = by_keeper ? 0 : point - BLOCKS};
        hsgd_linop *op = NULL;
        memory_keeper keeper;

        memory_keeper_create(&keeper, by_keeper ? point : 0);
        options.keeper = &keeper.keeper;
        assert_ok(hsgd_linop_create(m.space, &stopping_ops, &inner, &op, &err));
        assert_int_equal(hsgd_quadrature(op, &options, parts[0], parts[1], &err), HSGD_STOPPED);
        memset(parts, 0, sizeof parts);
        keeper.stop_at = 0;
        inner.calls = 0;
        inner.stop_at = 0;
        assert_ok(hsgd_quadrature(op, &options, parts[0], parts[1], &err));
        assert_memory_equal(parts, whole, sizeof whole);
        assert_int_equal(inner.calls, SIX * (by_keeper ? BLOCKS - point : BLOCKS - (point - BLOCKS - 1) / SIX));
        hsgd_linop_destroy(&op);
        memory_keeper_destroy(&keeper);
    }
    matrix_destroy(&m);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_have_the_bits_of_one_rank_and_weights_sum_to_one),
        cmocka_unit_test(no_bit_depends_on_the_block),
        cmocka_unit_test(interrupted_probes_go_on_to_the_same_bits),
        cmocka_unit_test(moments_are_exact_up_to_twice_the_steps),
        cmocka_unit_test(an_early_end_gives_the_spectrum_itself),
        cmocka_unit_test(more_steps_than_rows_end_with_the_rows),
        cmocka_unit_test(rejects_a_start_of_zero_and_a_matrix_of_nan),
        cmocka_unit_test(the_density_is_a_sum_of_gaussians_on_an_even_grid),
        cmocka_unit_test(the_grid_spans_mean_or_full_extremes),
        cmocka_unit_test(standard_errors_are_those_of_a_mean),
        cmocka_unit_test(moments_and_their_errors_are_means_over_probes),
        cmocka_unit_test(the_cumulative_measure_is_a_mean_of_steps),
        cmocka_unit_test(the_monitor_counts_every_product),
    };
    return test_run(tests);
}
