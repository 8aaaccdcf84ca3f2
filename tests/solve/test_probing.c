/* tests/solve/test_probing.c - mirrors src/solve/probing.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "solve/probing.h"
#include "matrix.h"

enum { N = 70, PROBES = 11, RANGES = 3 };

static const int64_t bounds[RANGES + 1] = {0, 20, 21, N}; /* across the blocks of 16 rows */

/* z'Dz = trace(D) for every vector of signs, whole and in parts. */
static void every_sample_of_a_diagonal_matrix_is_its_trace(void **state)
{
    double d[N], *a = calloc((size_t)N * N, sizeof *a), sample[PROBES], parts[PROBES * RANGES];
    double trace = 0.0, part[RANGES] = {0}, mean = 0.0, error = 0.0;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i % 7 - 2.5; /* halves: every sum is exact */
        trace += d[i];
        part[i < 20 ? 0 : i < 21 ? 1 : 2] += d[i];
    }
    matrix_diagonal(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_hutchinson(m.op, PROBES, 1, 4, RANGES, bounds, sample, parts, &err));
    assert_int_equal(hsgd_linop_products(m.op), PROBES);
    for (int p = 0; p < PROBES; p++) {
        assert_true(sample[p] == trace);
        for (int r = 0; r < RANGES; r++) {
            assert_true(parts[p * RANGES + r] == part[r]);
        }
    }
    hsgd_mean_error(PROBES, sample, &mean, &error);
    assert_true(mean == trace && error == 0.0);
    matrix_destroy(&m);
    free(a);
}

/* A sample is z'Az for the signs keyed by (seed, probe), whatever the ranks and the columns at a time. */
static void samples_depend_on_seed_and_probe_alone(void **state)
{
    double d[N], *a = calloc((size_t)N * N, sizeof *a);
    double here[PROBES], alone[PROBES], other[PROBES], parts[2][PROBES * RANGES];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = 1.0 / (i + 1);
    }
    matrix_with_spectrum(N, d, a);
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_hutchinson(m.op, PROBES, 1, 4, RANGES, bounds, here, parts[0], &err));
    assert_ok(hsgd_hutchinson(m.serial_op, PROBES, 1, 1, RANGES, bounds, alone, parts[1], &err));
    assert_memory_equal(here, alone, sizeof here);
    assert_memory_equal(parts[0], parts[1], sizeof parts[0]);
    assert_ok(hsgd_hutchinson(m.op, PROBES, 2, 100, 0, NULL, other, NULL, &err));
    assert_memory_not_equal(here, other, sizeof here);
    for (int p = 0; p < PROBES; p++) {
        const hsgd_random stream = hsgd_random_stream(1, HSGD_RANDOM_TRACE, (uint32_t)p);
        double sum = 0.0;

        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) {
                sum += hsgd_random_sign(&stream, (uint64_t)i) * a[i * N + j] * hsgd_random_sign(&stream, (uint64_t)j);
            }
        }
        assert_near(here[p], sum, matrix_rounding(N, (double)N)); /* z has norm sqrt(N), A norm 1 */
        assert_near(here[p], parts[0][p * RANGES] + parts[0][p * RANGES + 1] + parts[0][p * RANGES + 2],
                    matrix_rounding(N, (double)N));
    }
    matrix_destroy(&m);
    free(a);
}

/* The variance of a sample is 2 (norm(A)_F^2 - sum of squares of the diagonal); its mean over many probes must lie
 * within 5 of its true deviations of the trace (a chance of 6e-7 to fail, decided once by the seed). */
static void the_mean_is_the_trace_to_its_standard_error(void **state)
{
    enum { MANY = 400 };
    double d[N], *a = calloc((size_t)N * N, sizeof *a), sample[MANY], trace = 0.0, spread = 0.0;
    double mean = 0.0, error = 0.0;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        d[i] = i < 3 ? 5.0 - 4.0 * i : 0.1;
        trace += d[i];
    }
    matrix_with_spectrum(N, d, a);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            spread += i != j ? 2.0 * a[i * N + j] * a[i * N + j] : 0.0;
        }
    }
    matrix_create(&m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_hutchinson(m.op, MANY, 1, 50, 0, NULL, sample, NULL, &err));
    hsgd_mean_error(MANY, sample, &mean, &error);
    assert_near(mean, trace, 5.0 * sqrt(spread / MANY));
    assert_true(error > 0.5 * sqrt(spread / MANY) && error < 2.0 * sqrt(spread / MANY));
    matrix_destroy(&m);
    free(a);
}

static void mean_and_error_of_few_samples(void **state)
{
    const double sample[3] = {1.0, 2.0, 6.0};
    double mean = 0.0, error = 0.0;

    (void)state;
    hsgd_mean_error(3, sample, &mean, &error); /* deviations -2, -1, 3: variance 7 */
    assert_true(mean == 3.0);
    assert_near(error, sqrt(7.0 / 3.0), 4.0 * DBL_EPSILON);
    hsgd_mean_error(1, sample, &mean, &error);
    assert_true(mean == 1.0 && error == -1.0); /* one sample has no standard error */
}

static void a_matrix_of_nan_is_an_error(void **state)
{
    const double a[4] = {NAN, 0.0, 0.0, 1.0};
    double sample[2];
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(hsgd_hutchinson(m.op, 2, 1, 1, 0, NULL, sample, NULL, &err), HSGD_ERR_NUMERIC);
    assert_int_equal(hsgd_hutchinson(m.op, 0, 1, 1, 0, NULL, sample, NULL, &err), HSGD_ERR_USAGE);
    matrix_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_of_a_diagonal_matrix_is_its_trace),
        cmocka_unit_test(samples_depend_on_seed_and_probe_alone),
        cmocka_unit_test(the_mean_is_the_trace_to_its_standard_error),
        cmocka_unit_test(mean_and_error_of_few_samples),
        cmocka_unit_test(a_matrix_of_nan_is_an_error),
    };
    return test_run(tests);
}
