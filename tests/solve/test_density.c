/* tests/solve/test_density.c - mirrors src/solve/density.c. */
#include "solve/density.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "support.h"

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

/* Against the C library at every point, on grids that end within a tile, at its end and past it: where the Gaussian is
 * of normal size they agree to a few units of the rounding of its exponent, and beyond its reach there is nothing. */
static void gaussians_are_those_of_the_library(void **state)
{
    enum { MOST = 1537 };
    static const int64_t sizes[] = {2, 511, 512, 513, 1024, MOST};
    const double ritz[2] = {-0.3, 0.6}, weights[2] = {0.375, 0.625}, variance = 2e-4; /* up to exp(-2000) */
    double grid[MOST], density[MOST], mass;

    (void)state;
    for (int s = 0; s < 6; s++) {
        mass = hsgd_density(1, 2, ritz, weights, sizes[s], variance, 0.05, true, grid, density, NULL);
        for (int64_t j = 0; j < sizes[s]; j++) {
            double expected = 0.0, allowed = DBL_MIN / sqrt(variance); /* what ends at exp(-708) */

            for (int i = 0; i < 2; i++) {
                const double exponent = -(grid[j] - ritz[i]) * (grid[j] - ritz[i]) / (2.0 * variance);
                const double one = weights[i] * exp(exponent) / sqrt(2.0 * M_PI * variance) / mass;

                expected += one;
                allowed += 4.0 * DBL_EPSILON * (2.0 - exponent) * one;
            }
            assert_near(density[j], expected, allowed);
        }
    }
}

/* Half of a Gaussian at the very end of the grid is beyond it; one in the middle is all there.  A grid whose bins are
 * wider than the Gaussians by far, where a sum over the grid means nothing, has the right mass all the same. */
static void the_full_density_has_the_analytic_mass(void **state)
{
    enum { BINS = 3001, COARSE = 3 };
    const double ritz[3] = {-1.0, 0.0, 1.0}, weights[3] = {0.25, 0.5, 0.25}, sigma_squared = 1e-4;
    double *grid = calloc(BINS, sizeof *grid), *density = calloc(BINS, sizeof *density), area = 0.0, mass;

    (void)state;
    mass = hsgd_density(1, 3, ritz, weights, BINS, sigma_squared, 0.0, true, grid, density, NULL);
    assert_near(mass, 0.75, 8.0 * DBL_EPSILON);
    for (int j = 0; j + 1 < BINS; j++) {
        area += 0.5 * (density[j] + density[j + 1]) * (grid[j + 1] - grid[j]);
    }
    /* the trapezoid rule is off at the ends alone, where the slope of a Gaussian's middle is 0: by the fourth power */
    assert_near(area, 1.0, 1e-6);
    assert_near(density[BINS / 2], 0.5 / sqrt(2.0 * M_PI * 2.0 * sigma_squared) / 0.75, 1e-12 * density[BINS / 2]);
    mass = hsgd_density(1, 3, ritz, weights, COARSE, sigma_squared, 0.5, true, grid, density, NULL);
    assert_near(mass, 1.0, 8.0 * DBL_EPSILON);
    assert_near(density[1], 0.5 / sqrt(2.0 * M_PI * 3.0 * sigma_squared), 1e-12 * density[1]);
    free(density);
    free(grid);
}

/* One node and no overhead: a grid of a single place. */
static void a_grid_of_one_place_is_no_failure(void **state)
{
    const double ritz = 2.0, weight = 1.0;
    double grid[3], density[3];

    (void)state;
    assert_near(hsgd_density(1, 1, &ritz, &weight, 3, 1.0, 0.0, true, grid, density, NULL), 0.0, 0.0);
    for (int j = 0; j < 3; j++) {
        assert_true(grid[j] == 2.0 && isfinite(density[j]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_density_is_a_sum_of_gaussians_on_an_even_grid),
        cmocka_unit_test(the_grid_spans_mean_or_full_extremes),
        cmocka_unit_test(standard_errors_are_those_of_a_mean),
        cmocka_unit_test(gaussians_are_those_of_the_library),
        cmocka_unit_test(the_full_density_has_the_analytic_mass),
        cmocka_unit_test(a_grid_of_one_place_is_no_failure),
        cmocka_unit_test(moments_and_their_errors_are_means_over_probes),
        cmocka_unit_test(the_cumulative_measure_is_a_mean_of_steps),
    };
    return test_run(tests);
}
