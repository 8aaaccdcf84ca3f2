/* tests/solve/test_probing.c - mirrors src/solve/probing.c and the samples of src/solve/probes.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "solve/probing.h"
#include "matrix.h"
#include "memory_keeper.h"

enum { N = 70, PROBES = 11, RANGES = 3 };

static const int64_t bounds[RANGES + 1] = {0, 20, 21, N}; /* across the blocks of 16 rows */

static hsgd_trace_options options_of(int64_t probes, uint64_t seed, int64_t columns)
{
    return (hsgd_trace_options){.probes = probes, .seed = seed, .columns = columns, .ranges = RANGES, .bounds = bounds};
}

static void assert_same(const hsgd_trace_result *a, const hsgd_trace_result *b)
{
    const size_t row = (size_t)a->width * sizeof(double);

    assert_true(a->samples == b->samples && a->sketch == b->sketch && a->met == b->met && a->width == b->width);
    assert_memory_equal(a->known, b->known, row);
    assert_memory_equal(a->sample, b->sample, (size_t)a->samples * row);
    assert_memory_equal(a->estimate, b->estimate, (size_t)a->width * sizeof *a->estimate);
}

/* A dense matrix of the given spectrum. */
static double *dense(const double *d, matrix *m)
{
    double *a = calloc((size_t)N * N, sizeof *a);

    assert_non_null(a);
    matrix_with_spectrum(N, d, a);
    matrix_create(m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    return a;
}

/* z'Dz = trace(D) for every vector of signs, whole and in parts: no variance, which is no error either.  Two looks are
 * enough then. */
static void every_sample_of_a_diagonal_matrix_is_its_trace(void **state)
{
    double d[N], *a = calloc((size_t)N * N, sizeof *a), exact[1 + RANGES] = {0};
    hsgd_trace_options options = options_of(PROBES, 1, 4);
    hsgd_trace_result r = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i % 7 - 2.5; /* halves: every sum is exact */
        exact[0] += d[i];
        exact[i < 20 ? 1 : i < 21 ? 2 : 3] += d[i];
    }
    matrix_diagonal(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_hutchinson(m.op, &options, &r, &err));
    assert_int_equal(hsgd_linop_products(m.op), PROBES);
    assert_true(r.samples == PROBES && r.products == PROBES && !r.met && r.sketch == 0 && r.width == 1 + RANGES);
    for (int i = 0; i <= RANGES; i++) {
        const hsgd_estimate *e = &r.estimate[i];

        for (int p = 0; p < PROBES; p++) {
            assert_true(r.sample[p * (1 + RANGES) + i] == exact[i]);
        }
        assert_true(e->mean == exact[i] && e->error == 0.0 && e->low == exact[i] && e->high == exact[i]);
    }
    hsgd_trace_result_clear(&r);
    options.probes = 100;
    options.tolerance = 1e-12;
    assert_ok(hsgd_hutchinson(m.op, &options, &r, &err));
    assert_true(r.met && r.samples == 2 * HSGD_TRACE_LOOK && r.estimate[0].mean == exact[0]);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
    free(a);
}

/* The zero matrix meets any tolerance of a trace of zero. */
static void the_zero_matrix_has_trace_zero(void **state)
{
    double a[4] = {0};
    hsgd_trace_options options = {.probes = 50, .tolerance = 0.1, .columns = 8};
    hsgd_trace_result r = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_hutchinson(m.op, &options, &r, &err));
    assert_true(r.met && r.samples == 16 && r.estimate[0].mean == 0.0 && r.estimate[0].high == 0.0);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
}

/* A sample is z'Az for the signs keyed by (seed, probe), whatever the ranks and the columns at a time. */
static void samples_depend_on_seed_and_probe_alone(void **state)
{
    hsgd_trace_options four = options_of(PROBES, 1, 4), one = options_of(PROBES, 1, 1),
                       two = options_of(PROBES, 2, 100);
    hsgd_trace_result here = {0}, alone = {0}, other = {0};
    double d[N], *a = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = 1.0 / (i + 1);
    }
    a = dense(d, &m);
    assert_ok(hsgd_hutchinson(m.op, &four, &here, &err));
    assert_ok(hsgd_hutchinson(m.serial_op, &one, &alone, &err));
    assert_same(&here, &alone);
    assert_ok(hsgd_hutchinson(m.op, &two, &other, &err));
    assert_memory_not_equal(here.sample, other.sample, (size_t)PROBES * (1 + RANGES) * sizeof *here.sample);
    for (int p = 0; p < PROBES; p++) {
        const hsgd_random stream = hsgd_random_stream(1, HSGD_RANDOM_TRACE, (uint32_t)p);
        double sum[1 + RANGES] = {0};

        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) {
                const double term =
                    hsgd_random_sign(&stream, (uint64_t)i) * a[i * N + j] * hsgd_random_sign(&stream, (uint64_t)j);

                sum[0] += term;
                sum[i < 20 ? 1 : i < 21 ? 2 : 3] += term;
            }
        }
        for (int i = 0; i <= RANGES; i++) { /* z has norm sqrt(N), A norm 1 */
            assert_near(here.sample[p * (1 + RANGES) + i], sum[i], matrix_rounding(N, (double)N));
        }
    }
    hsgd_trace_result_clear(&other);
    hsgd_trace_result_clear(&alone);
    hsgd_trace_result_clear(&here);
    matrix_destroy(&m);
    free(a);
}

/* The variance of a sample is 2 (norm(A)_F^2 - sum of squares of the diagonal); its mean over many probes must lie
 * within 5 of its true deviations of the trace (a chance of 6e-7 to fail, decided once by the seed). */
static void the_mean_is_the_trace_to_its_standard_error(void **state)
{
    enum { MANY = 400 };
    double d[N], *a = NULL, trace = 0.0, spread = 0.0;
    const hsgd_trace_options options = {.probes = MANY, .seed = 1, .columns = 50};
    hsgd_trace_result r = {0};
    hsgd_estimate e;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i < 3 ? 5.0 - 4.0 * i : 0.1;
        trace += d[i];
    }
    a = dense(d, &m);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            spread += i != j ? 2.0 * a[i * N + j] * a[i * N + j] : 0.0;
        }
    }
    assert_ok(hsgd_hutchinson(m.op, &options, &r, &err));
    e = r.estimate[0];
    assert_near(e.mean, trace, 5.0 * sqrt(spread / MANY));
    assert_true(e.error > 0.5 * sqrt(spread / MANY) && e.error < 2.0 * sqrt(spread / MANY));
    assert_near(e.high - e.mean, hsgd_student(MANY - 1) * e.error, 1e-12 * e.error);
    assert_near(e.mean - e.low, hsgd_student(MANY - 1) * e.error, 1e-12 * e.error);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
    free(a);
}

static void mean_error_and_interval_of_few_samples(void **state)
{
    const double sample[6] = {1.0, 100.0, 2.0, 200.0, 6.0, 300.0}, column[3] = {1.0, 2.0, 6.0};
    double mean = 0.0, error = 0.0;
    hsgd_estimate e;

    (void)state;
    hsgd_mean_error(3, column, &mean, &error); /* deviations -2, -1, 3: variance 7 */
    assert_true(mean == 3.0);
    assert_near(error, sqrt(7.0 / 3.0), 4.0 * DBL_EPSILON);
    hsgd_mean_error(1, column, &mean, &error);
    assert_true(mean == 1.0 && error == -1.0); /* one sample has no standard error */
    e = hsgd_estimate_of(3, 2, sample, 10.0);
    assert_true(e.mean == 13.0);
    assert_near(e.error, sqrt(7.0 / 3.0), 4.0 * DBL_EPSILON);
    assert_near(e.high - e.mean, 4.3026527297494639 * sqrt(7.0 / 3.0), 1e-13);
    assert_near(e.mean - e.low, 4.3026527297494639 * sqrt(7.0 / 3.0), 1e-13);
    e = hsgd_estimate_of(1, 2, sample, 10.0);
    assert_true(e.mean == 11.0 && e.error == -1.0 && e.low == 11.0 && e.high == 11.0);
}

/* Is the interval of the first `count` samples narrow enough?  From the definitions, for the test of the rule. */
static bool narrow(int64_t count, const hsgd_trace_result *r, double tolerance)
{
    double mean = 0.0, squares = 0.0;

    for (int64_t i = 0; i < count; i++) {
        mean += r->sample[i * r->width] / (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
        squares += pow(r->sample[i * r->width] - mean, 2.0);
    }
    return hsgd_student(count - 1) * sqrt(squares / (double)(count * (count - 1))) <= tolerance * fabs(mean);
}

/* It stops at the second of two looks in a row that find the interval narrow, which is not before 16 samples; with the
 * samples it would have made anyway; and one look alone would often have stopped it earlier. */
static void stops_at_the_second_narrow_look(void **state)
{
    enum { MOST = 200, SEEDS = 24 };
    const double tolerance = 0.2;
    double *a = calloc((size_t)N * N, sizeof *a);
    int earlier = 0, met = 0;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int64_t i = 0; i < N * N; i++) { /* nearly of rank one, of no row more than of others: samples are skewed */
        a[i] = 6.0 / N + (i % (N + 1) == 0 ? 0.1 : 0.0);
    }
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    for (int seed = 0; seed < SEEDS; seed++) {
        hsgd_trace_options all = options_of(MOST, (uint64_t)seed, 8), some = all,
                           five = options_of(MOST, (uint64_t)seed, 5);
        hsgd_trace_result whole = {0}, r = {0}, other = {0};
        int64_t first = 0, expected = 0;

        some.tolerance = five.tolerance = tolerance;
        assert_ok(hsgd_hutchinson(m.op, &all, &whole, &err));
        assert_ok(hsgd_hutchinson(m.op, &some, &r, &err));
        assert_ok(hsgd_hutchinson(m.serial_op, &five, &other, &err));
        for (int64_t count = 8; count <= MOST && expected == 0; count += 8) {
            first = first == 0 && narrow(count, &whole, tolerance) ? count : first;
            expected =
                count >= 16 && narrow(count, &whole, tolerance) && narrow(count - 8, &whole, tolerance) ? count : 0;
        }
        assert_true(r.met == (expected > 0) && r.samples == (expected > 0 ? expected : MOST));
        assert_memory_equal(r.sample, whole.sample, (size_t)(r.samples * r.width) * sizeof *r.sample);
        assert_same(&r, &other);
        met += r.met;
        earlier += first < expected - 8;
        hsgd_trace_result_clear(&other);
        hsgd_trace_result_clear(&r);
        hsgd_trace_result_clear(&whole);
    }
    print_message("tolerance met in %d of %d runs; one narrow look was taken back in %d\n", met, SEEDS, earlier);
    assert_true(met > SEEDS / 2 && earlier > 0);
    matrix_destroy(&m);
    free(a);
}

/* Stopped at every point where it can be, by the keeper or in a product, and gone on with: the same bits. */
static void goes_on_after_every_interruption(void **state)
{
    enum { MOST = 48 };
    double d[N], *a = NULL;
    hsgd_trace_options options = options_of(MOST, 3, 8);
    hsgd_trace_result whole = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = 1.0 / (i + 1);
    }
    a = dense(d, &m);
    options.tolerance = 0.05; /* so that the looks go on too */
    assert_ok(hsgd_hutchinson(m.op, &options, &whole, &err));
    assert_true(whole.samples > 16);
    for (int point = 1; point <= whole.samples / 8; point++) {
        for (int in_product = 0; in_product < 2; in_product++) {
            stopping s = {.inner = m.op, .stop_at = in_product ? point : 0};
            hsgd_trace_result r = {0};
            hsgd_linop *op = NULL;
            memory_keeper k;

            memory_keeper_create(&k, in_product ? 0 : point);
            options.keeper = &k.keeper;
            assert_ok(hsgd_linop_create(m.space, &stopping_ops, &s, &op, &err));
            assert_int_equal(hsgd_hutchinson(op, &options, &r, &err), HSGD_STOPPED);
            hsgd_trace_result_clear(&r);
            assert_int_equal(k.kept.integer[3], 8 * (point - in_product)); /* nothing that was done is lost */
            assert_ok(hsgd_hutchinson(op, &options, &r, &err));
            assert_same(&r, &whole);
            assert_int_equal(r.products, whole.products);
            hsgd_trace_result_clear(&r);
            hsgd_linop_destroy(&op);
            memory_keeper_destroy(&k);
        }
    }
    options.keeper = NULL;
    hsgd_trace_result_clear(&whole);
    matrix_destroy(&m);
    free(a);
}

/* What is kept of more samples than are asked for, or of more ranges, is no state of this work. */
static void refuses_the_state_of_another_work(void **state)
{
    double d[N], *a = NULL;
    hsgd_trace_options options = options_of(24, 3, 8), fewer = options_of(12, 3, 8), whole = options_of(24, 3, 8);
    hsgd_trace_result r = {0};
    memory_keeper k;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i;
    }
    a = dense(d, &m);
    memory_keeper_create(&k, 2);
    options.keeper = fewer.keeper = whole.keeper = &k.keeper;
    whole.ranges = 0;
    assert_int_equal(hsgd_hutchinson(m.op, &options, &r, &err), HSGD_STOPPED);
    hsgd_trace_result_clear(&r);
    assert_int_equal(hsgd_hutchinson(m.op, &fewer, &r, &err), HSGD_ERR_DATA);
    assert_int_equal(hsgd_hutchinson(m.op, &whole, &r, &err), HSGD_ERR_DATA);
    hsgd_trace_result_clear(&r);
    memory_keeper_destroy(&k);
    matrix_destroy(&m);
    free(a);
}

typedef struct {
    int64_t told, products, most;
    double mean;
} listener;

static void listen(void *context, int64_t products, int64_t most, int64_t samples, const hsgd_estimate *so_far)
{
    listener *l = context;

    assert_true(products > l->products && products <= most && samples == products);
    *l = (listener){.told = l->told + 1, .products = products, .most = most, .mean = so_far->mean};
}

static void the_monitor_hears_of_every_batch_and_of_the_estimate_so_far(void **state)
{
    double d[N], *a = calloc((size_t)N * N, sizeof *a);
    listener l = {0};
    hsgd_trace_options options = options_of(PROBES, 1, 4);
    hsgd_trace_result r = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i;
    }
    matrix_diagonal(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    options.monitor = listen;
    options.context = &l;
    assert_ok(hsgd_hutchinson(m.op, &options, &r, &err));
    assert_true(l.told == 3 && l.products == PROBES && l.most == PROBES); /* 4 + 4 + 3 */
    assert_true(l.mean == r.estimate[0].mean);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
    free(a);
}

static void a_matrix_of_nan_is_an_error(void **state)
{
    const double a[4] = {NAN, 0.0, 0.0, 1.0};
    hsgd_trace_options options = {.probes = 2, .columns = 1};
    hsgd_trace_result r = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(hsgd_hutchinson(m.op, &options, &r, &err), HSGD_ERR_NUMERIC);
    options.probes = 0;
    assert_int_equal(hsgd_hutchinson(m.op, &options, &r, &err), HSGD_ERR_USAGE);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_of_a_diagonal_matrix_is_its_trace),
        cmocka_unit_test(the_zero_matrix_has_trace_zero),
        cmocka_unit_test(samples_depend_on_seed_and_probe_alone),
        cmocka_unit_test(the_mean_is_the_trace_to_its_standard_error),
        cmocka_unit_test(mean_error_and_interval_of_few_samples),
        cmocka_unit_test(stops_at_the_second_narrow_look),
        cmocka_unit_test(goes_on_after_every_interruption),
        cmocka_unit_test(refuses_the_state_of_another_work),
        cmocka_unit_test(the_monitor_hears_of_every_batch_and_of_the_estimate_so_far),
        cmocka_unit_test(a_matrix_of_nan_is_an_error),
    };
    return test_run(tests);
}
