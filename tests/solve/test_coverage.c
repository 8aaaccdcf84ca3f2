/* tests/solve/test_coverage.c - do 95 % intervals hold what they promise?  200 seeded runs over the Hessian of a small
 * network, whose trace and moments are known from its columns: the exact value must lie within 90 % to 99 % of the
 * intervals.  (At a true 95 % the count of 200 has a standard deviation of 3.1; 180 and 198 are 3.2 and 2.6 of them away.)
 * The seeds are fixed, so it fails always or never. */
#include "curvature/fixture.h"
#include "matrix.h"
#include "solve/hutchpp.h"
#include "solve/quadrature.h"

enum { RUNS = 200, PROBES = 32, LAYERS = 4, LEAST = 180, MOST = 198 };

typedef struct {
    matrix m;
    double *a; /* [n][n]: the Hessian, as an explicit matrix is cheap to multiply by */
    int64_t n, bounds[LAYERS + 1];
    double trace[1 + LAYERS], square; /* tr A, whole and of each layer's block; tr A^2 */
} known;

/* The Hessian column by column, made exactly symmetric. */
static void columns_of(fixture *f, double *a)
{
    const int64_t n = f->n;
    const hsgd_hessian_options options = options_of(f, HSGD_OPERATOR_HESSIAN);
    double *unit = calloc((size_t)(n * n), sizeof *unit), *h = NULL;

    assert_non_null(unit);
    for (int64_t i = 0; i < n; i++) {
        unit[i * n + i] = 1.0;
    }
    h = products_of(f, &options, n, unit);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            a[i * n + j] = 0.5 * (h[i * n + j] + h[j * n + i]);
        }
    }
    free(h);
    free(unit);
}

static void bounds_of(const hsgd_network *net, int64_t *bounds)
{
    int64_t layers = 0;

    for (int64_t l = 0; l < net->count; l++) {
        if (net->layers[l].weight_count > 0) {
            assert_true(layers < LAYERS);
            bounds[layers++] = net->layers[l].weight;
        }
    }
    assert_int_equal(layers, LAYERS);
    bounds[layers] = net->parameters;
}

/* What is estimated, from the columns; the trace must be that of the exact method, layer by layer. */
static int set_up(void **state)
{
    const fixture_plan plan = {
        .layers = relu_layers, .edge = 6, .classes = 3, .groups = 1, .rest = 4, .precision = HSGD_DOUBLE};
    known *k = calloc(1, sizeof *k);
    double layer[LAYERS];
    fixture f = fixture_create(&plan);
    hsgd_error err = {0};

    assert_non_null(k);
    *state = k;
    k->n = f.n;
    k->a = calloc((size_t)(f.n * f.n), sizeof *k->a);
    assert_non_null(k->a);
    columns_of(&f, k->a);
    bounds_of(f.network, k->bounds);
    for (int l = 0; l < LAYERS; l++) {
        for (int64_t i = k->bounds[l]; i < k->bounds[l + 1]; i++) {
            k->trace[1 + l] += k->a[i * k->n + i];
        }
        k->trace[0] += k->trace[1 + l];
    }
    for (int64_t i = 0; i < k->n * k->n; i++) {
        k->square += k->a[i] * k->a[i];
    }
    assert_ok(hsgd_exact_trace(problem_of(&f), f.weights, f.index, f.count, layer, &err));
    for (int l = 0; l < LAYERS; l++) {
        assert_near(k->trace[1 + l], layer[l], matrix_rounding(k->n, k->trace[0]));
    }
    fixture_destroy(&f);
    matrix_create(&k->m, k->n, k->a, HSGD_REDUCTION_REPRODUCIBLE);
    print_message("%lld parameters: trace %.6g, norm %.6g\n", (long long)k->n, k->trace[0], sqrt(k->square));
    return 0;
}

static int tear_down(void **state)
{
    known *k = *state;

    matrix_destroy(&k->m);
    free(k->a);
    free(k);
    return 0;
}

static int holds(const hsgd_estimate *e, double value)
{
    return value >= e->low && value <= e->high;
}

typedef hsgd_status (*trace_method)(hsgd_linop *op, const hsgd_trace_options *options, hsgd_trace_result *result,
                                    hsgd_error *err);

/* Runs whose interval holds the exact value: of the whole, and of each layer.  *samples: in all runs. */
static void count_traces(known *k, trace_method method, int64_t probes, double tolerance, int hold[1 + LAYERS],
                         int64_t *samples)
{
    hsgd_error err = {0};

    memset(hold, 0, (1 + LAYERS) * sizeof *hold);
    *samples = 0;
    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        const hsgd_trace_options options = {.probes = probes,
                                            .tolerance = tolerance,
                                            .seed = seed,
                                            .columns = 8,
                                            .ranges = LAYERS,
                                            .bounds = k->bounds};
        hsgd_trace_result r = {0};

        assert_ok(method(k->m.op, &options, &r, &err));
        *samples += r.samples;
        for (int i = 0; i <= LAYERS; i++) {
            hold[i] += holds(&r.estimate[i], k->trace[i]);
        }
        hsgd_trace_result_clear(&r);
    }
}

static void assert_covers(const char *what, int hold)
{
    print_message("%s: %d of %d intervals hold the exact value (%.1f %%)\n", what, hold, RUNS, 100.0 * hold / RUNS);
    assert_in_range(hold, LEAST, MOST);
}

static void intervals_of_hutchinson_hold_the_trace(void **state)
{
    int hold[1 + LAYERS];
    int64_t samples = 0;

    count_traces(*state, hsgd_hutchinson, PROBES, 0.0, hold, &samples);
    assert_int_equal(samples, RUNS * PROBES);
    assert_covers("hutchinson, trace", hold[0]);
    for (int l = 1; l <= LAYERS; l++) {
        print_message("    layer %d: %d of %d\n", l, hold[l], RUNS);
        assert_true(hold[l] >= LEAST);
    }
}

/* As many samples of the rest as Hutchinson's: 96 products. */
static void intervals_of_hutch_plus_plus_hold_the_trace(void **state)
{
    int hold[1 + LAYERS];
    int64_t samples = 0;

    count_traces(*state, hsgd_hutch_plus_plus, 3 * PROBES, 0.0, hold, &samples);
    assert_int_equal(samples, RUNS * PROBES);
    assert_covers("hutch++, trace", hold[0]);
    for (int l = 1; l <= LAYERS; l++) {
        print_message("    layer %d: %d of %d\n", l, hold[l], RUNS);
        assert_true(hold[l] >= LEAST);
    }
}

/* Who looks often finds what he hopes for more often: the intervals at which the rule stops hold less than 95 %.  How
 * much less is printed; it must stay above 90 %. */
static void intervals_hold_the_trace_where_the_rule_stopped(void **state)
{
    static const double tolerances[] = {1.0, 0.7, 0.5, 0.2};

    for (size_t t = 0; t < sizeof tolerances / sizeof tolerances[0]; t++) {
        int hold[1 + LAYERS];
        int64_t samples = 0;

        count_traces(*state, hsgd_hutchinson, 4000, tolerances[t], hold, &samples);
        print_message("tolerance %g: stopped after %.1f samples on average\n", tolerances[t], (double)samples / RUNS);
        assert_covers("hutchinson, stopped", hold[0]);
    }
}

/* Where PyHessian's rule stops, at tolerance t: one more sample moved the mean by less than t of itself. */
static double mean_where_one_sample_stops(const hsgd_trace_result *r, double tolerance)
{
    double mean = r->sample[0];

    for (int64_t i = 1; i < r->samples; i++) {
        const double next = mean + (r->sample[i * r->width] - mean) / (double)(i + 1);
        const bool stops = fabs(next - mean) < tolerance * fabs(mean);

        mean = next;
        if (stops) {
            break;
        }
    }
    return mean;
}

/* On the very same samples: the tolerance is kept in nine runs of ten by this rule, and missed in most by the other. */
static void one_sample_that_agrees_stops_nothing(void **state)
{
    const double tolerance = 0.2;
    known *k = *state;
    int ours = 0, theirs = 0;
    hsgd_error err = {0};

    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        const hsgd_trace_options options = {.probes = 4000, .tolerance = tolerance, .seed = seed, .columns = 8};
        hsgd_trace_result r = {0};

        assert_ok(hsgd_hutchinson(k->m.op, &options, &r, &err));
        ours += fabs(r.estimate[0].mean - k->trace[0]) > tolerance * k->trace[0];
        theirs += fabs(mean_where_one_sample_stops(&r, tolerance) - k->trace[0]) > tolerance * k->trace[0];
        hsgd_trace_result_clear(&r);
    }
    print_message("tolerance %g missed: %d of %d runs; by the rule of one sample: %d\n", tolerance, ours, RUNS, theirs);
    assert_true(ours <= RUNS / 10 && theirs >= RUNS / 2);
}

/* The first two moments of the density, from the first step of each probe: z'Az / n and norm(Az)^2 / n. */
static void intervals_of_the_density_hold_the_first_two_moments(void **state)
{
    enum { STEPS = 2 };
    known *k = *state;
    const double exact[2] = {k->trace[0] / (double)k->n, k->square / (double)k->n};
    double ritz[PROBES * STEPS], weights[PROBES * STEPS], sample[PROBES];
    int hold[2] = {0};
    hsgd_error err = {0};

    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        const hsgd_quadrature_options options = {
            .probes = PROBES, .steps = STEPS, .draw = HSGD_DRAW_SIGN, .seed = seed};

        assert_ok(hsgd_quadrature(k->m.op, &options, ritz, weights, &err));
        for (int order = 0; order < 2; order++) {
            hsgd_estimate e;

            for (int p = 0; p < PROBES; p++) {
                const double *theta = ritz + p * STEPS, *w = weights + p * STEPS;

                sample[p] = order == 0 ? w[0] * theta[0] + w[1] * theta[1]
                                       : w[0] * theta[0] * theta[0] + w[1] * theta[1] * theta[1];
            }
            e = hsgd_estimate_of(PROBES, 1, sample, 0.0);
            hold[order] += holds(&e, exact[order]);
        }
    }
    assert_covers("density, tr A / n", hold[0]);
    assert_covers("density, tr A^2 / n", hold[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_of_hutchinson_hold_the_trace),
        cmocka_unit_test(intervals_of_hutch_plus_plus_hold_the_trace),
        cmocka_unit_test(intervals_hold_the_trace_where_the_rule_stopped),
        cmocka_unit_test(one_sample_that_agrees_stops_nothing),
        cmocka_unit_test(intervals_of_the_density_hold_the_first_two_moments),
    };
    return test_finish(cmocka_run_group_tests(tests, set_up, tear_down));
}
