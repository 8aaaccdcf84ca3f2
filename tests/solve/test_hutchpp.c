/* tests/solve/test_hutchpp.c - mirrors src/solve/hutchpp.c and the sketch of src/solve/probes.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "solve/hutchpp.h"
#include "matrix.h"
#include "memory_keeper.h"

enum { N = 70, RANGES = 3, WIDTH = 1 + RANGES };

static const int64_t bounds[RANGES + 1] = {0, 20, 21, N}; /* across the blocks of 16 rows */

static hsgd_trace_options options_of(int64_t probes, uint64_t seed, int64_t columns)
{
    return (hsgd_trace_options){.probes = probes, .seed = seed, .columns = columns, .ranges = RANGES, .bounds = bounds};
}

static void assert_same(const hsgd_trace_result *a, const hsgd_trace_result *b)
{
    const size_t row = (size_t)a->width * sizeof(double);

    assert_true(a->samples == b->samples && a->sketch == b->sketch && a->met == b->met && a->width == b->width);
    assert_true(a->products == b->products);
    assert_memory_equal(a->known, b->known, row);
    assert_memory_equal(a->sample, b->sample, (size_t)a->samples * row);
    assert_memory_equal(a->estimate, b->estimate, (size_t)a->width * sizeof *a->estimate);
}

/* a = the sum over k of weight[k] v_k v_k' / N for vectors v of random signs: of that rank, and dense. */
static double *low_rank(int terms, const double *weight, double identity, matrix *m)
{
    double *a = calloc((size_t)N * N, sizeof *a);

    assert_non_null(a);
    for (int k = 0; k < terms; k++) {
        const hsgd_random v = hsgd_random_stream(21, HSGD_RANDOM_TEST, (uint32_t)k);

        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) {
                a[i * N + j] += weight[k] / N * hsgd_random_sign(&v, (uint64_t)i) * hsgd_random_sign(&v, (uint64_t)j);
            }
        }
    }
    for (int i = 0; i < N; i++) {
        a[i * N + i] += identity;
    }
    matrix_create(m, N, a, HSGD_REDUCTION_REPRODUCIBLE);
    return a;
}

static void exact_of(const double *a, double exact[WIDTH])
{
    memset(exact, 0, WIDTH * sizeof *exact);
    for (int i = 0; i < N; i++) {
        exact[0] += a[i * N + i];
        exact[i < 20 ? 1 : i < 21 ? 2 : 3] += a[i * N + i];
    }
}

/* A matrix of rank 5 lies in a sketch of 8: nothing is left to chance, nor of the other three columns. */
static void a_matrix_of_low_rank_is_exact(void **state)
{
    const double weight[5] = {5.0, -4.0, 3.0, -2.0, 1.0};
    const hsgd_trace_options options = options_of(24, 1, 8);
    hsgd_trace_result r = {0};
    double exact[WIDTH], *a = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    a = low_rank(5, weight, 0.0, &m);
    exact_of(a, exact);
    assert_ok(hsgd_hutch_plus_plus(m.op, &options, &r, &err));
    assert_true(r.sketch == 5 && r.samples == 8 && r.products == 8 + 5 + 8);
    assert_int_equal(hsgd_linop_products(m.op), r.products);
    for (int i = 0; i < WIDTH; i++) { /* five q'Aq, norm(A) = 5 */
        assert_near(r.known[i], exact[i], 5.0 * matrix_rounding(N, 5.0));
        assert_near(r.estimate[i].mean, exact[i], 6.0 * matrix_rounding(N, 5.0));
        assert_true(r.estimate[i].error <= matrix_rounding(N, 5.0));
    }
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
    free(a);
}

/* A sketch of as many columns as rows is all there is, unless the signs of so few columns happen to be dependent. */
static void a_sketch_of_the_whole_space_is_exact(void **state)
{
    const double a[9] = {2.0, 1.0, 0.0, 1.0, -3.0, 1.0, 0.0, 1.0, 0.5};
    int spanned = 0;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 3, a, HSGD_REDUCTION_REPRODUCIBLE);
    for (uint64_t seed = 0; seed < 20; seed++) {
        const hsgd_trace_options options = {.probes = 30, .seed = seed, .columns = 4};
        hsgd_trace_result r = {0};

        assert_ok(hsgd_hutch_plus_plus(m.op, &options, &r, &err));
        assert_true(r.sketch <= 3 && r.samples == 24 && r.products == 3 + r.sketch + 24);
        if (r.sketch == 3) {
            assert_near(r.known[0], -0.5, matrix_rounding(3, 16.0));
            assert_near(r.estimate[0].mean, -0.5, matrix_rounding(3, 16.0));
            spanned++;
        }
        hsgd_trace_result_clear(&r);
    }
    assert_true(spanned > 0 && spanned < 20); /* both were seen */
    matrix_destroy(&m);
}

static void the_zero_matrix_needs_no_basis(void **state)
{
    const double a[9] = {0};
    const hsgd_trace_options options = {.probes = 9, .columns = 2};
    hsgd_trace_result r = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 3, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_hutch_plus_plus(m.op, &options, &r, &err));
    assert_true(r.sketch == 0 && r.products == 3 + 3 && r.estimate[0].mean == 0.0 && r.estimate[0].error == 0.0);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
}

/* Modified Gram-Schmidt in plain arrays: q[columns][N] of a times the signs of the first `columns` probes. */
static void sketch_plainly(const double *a, uint64_t seed, int columns, double *q)
{
    for (int k = 0; k < columns; k++) {
        const hsgd_random z = hsgd_random_stream(seed, HSGD_RANDOM_TRACE, (uint32_t)k);
        double *x = q + k * N, norm = 0.0;

        for (int i = 0; i < N; i++) {
            x[i] = 0.0;
            for (int j = 0; j < N; j++) {
                x[i] += a[i * N + j] * hsgd_random_sign(&z, (uint64_t)j);
            }
        }
        for (int turn = 0; turn < 2 * k; turn++) {
            const double *other = q + turn % k * N;
            double dot = 0.0;

            for (int i = 0; i < N; i++) {
                dot += other[i] * x[i];
            }
            for (int i = 0; i < N; i++) {
                x[i] -= dot * other[i];
            }
        }
        for (int i = 0; i < N; i++) {
            norm += x[i] * x[i];
        }
        for (int i = 0; i < N; i++) {
            x[i] /= sqrt(norm);
        }
    }
}

/* part[WIDTH] += the sum over all rows, and over those of each range, of x_i (Ax)_i. */
static void add_parts(const double *a, const double *x, double part[WIDTH])
{
    for (int i = 0; i < N; i++) {
        double y = 0.0;

        for (int j = 0; j < N; j++) {
            y += a[i * N + j] * x[j];
        }
        part[0] += x[i] * y;
        part[i < 20 ? 1 : i < 21 ? 2 : 3] += x[i] * y;
    }
}

/* Against the definition in plain arrays: what the sketch holds, and each sample of what it does not. */
static void follows_its_definition(void **state)
{
    enum { PROBES = 19, SKETCH = 6 };
    const double weight[4] = {9.0, -6.0, 4.0, 2.0}, tolerance = 50.0 * matrix_rounding(N, 9.0 * N);
    const hsgd_trace_options options = options_of(PROBES, 5, 4);
    hsgd_trace_result r = {0};
    double *q = calloc((size_t)SKETCH * N, sizeof *q), known[WIDTH] = {0}, *a = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    a = low_rank(4, weight, 0.0, &m);
    for (int i = 0; i < N; i++) { /* so that the sketch cannot hold all of it */
        a[i * N + i] += 0.1 * (i % 5);
    }
    sketch_plainly(a, 5, SKETCH, q);
    for (int k = 0; k < SKETCH; k++) {
        add_parts(a, q + k * N, known);
    }
    assert_ok(hsgd_hutch_plus_plus(m.op, &options, &r, &err));
    assert_true(r.sketch == SKETCH && r.samples == PROBES - 2 * SKETCH);
    for (int i = 0; i < WIDTH; i++) {
        assert_near(r.known[i], known[i], tolerance);
    }
    for (int p = 0; p < r.samples; p++) {
        const hsgd_random z = hsgd_random_stream(5, HSGD_RANDOM_TRACE, (uint32_t)(SKETCH + p));
        double w[N], part[WIDTH] = {0};

        for (int i = 0; i < N; i++) {
            w[i] = hsgd_random_sign(&z, (uint64_t)i);
        }
        for (int k = 0; k < SKETCH; k++) {
            double dot = 0.0;

            for (int i = 0; i < N; i++) {
                dot += q[k * N + i] * w[i];
            }
            for (int i = 0; i < N; i++) {
                w[i] -= dot * q[k * N + i];
            }
        }
        add_parts(a, w, part);
        for (int i = 0; i < WIDTH; i++) {
            assert_near(r.sample[p * WIDTH + i], part[i], tolerance);
        }
    }
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
    free(a);
    free(q);
}

static void no_bit_depends_on_ranks_or_columns_at_a_time(void **state)
{
    const double weight[4] = {9.0, -6.0, 4.0, 2.0};
    const hsgd_trace_options some = options_of(50, 6, 8), one = options_of(50, 6, 1), all = options_of(50, 6, 100);
    hsgd_trace_result r = {0}, alone = {0}, together = {0};
    double *a = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    a = low_rank(4, weight, 0.3, &m);
    assert_ok(hsgd_hutch_plus_plus(m.op, &some, &r, &err));
    assert_ok(hsgd_hutch_plus_plus(m.serial_op, &one, &alone, &err));
    assert_ok(hsgd_hutch_plus_plus(m.op, &all, &together, &err));
    assert_same(&r, &alone);
    assert_same(&r, &together);
    hsgd_trace_result_clear(&together);
    hsgd_trace_result_clear(&alone);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
    free(a);
}

/* Over many seeds the means of whole and parts are theirs: within 5 standard errors of the mean (decided once by the
 * seeds); and where few directions hold the trace, its error is a small part of Hutchinson's at the same cost. */
static void is_unbiased_and_better_where_few_directions_hold_the_trace(void **state)
{
    enum { SEEDS = 60, PROBES = 30 };
    const double weight[6] = {9.0, 8.0, 7.0, 6.0, 5.0, -4.0};
    double exact[WIDTH], sum[WIDTH] = {0}, squares[WIDTH] = {0}, plain = 0.0, *a = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    a = low_rank(6, weight, 0.0, &m);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) { /* a symmetric rest that no sketch holds */
            a[i * N + j] += 0.01 * cos((double)(i * j));
        }
    }
    exact_of(a, exact);
    for (int seed = 0; seed < SEEDS; seed++) {
        const hsgd_trace_options options = options_of(PROBES, (uint64_t)seed, 8);
        hsgd_trace_result r = {0};

        assert_ok(hsgd_hutch_plus_plus(m.op, &options, &r, &err));
        for (int i = 0; i < WIDTH; i++) {
            sum[i] += r.estimate[i].mean - exact[i];
            squares[i] += pow(r.estimate[i].mean - exact[i], 2.0);
        }
        hsgd_trace_result_clear(&r);
        assert_ok(hsgd_hutchinson(m.op, &options, &r, &err));
        plain += pow(r.estimate[0].mean - exact[0], 2.0);
        hsgd_trace_result_clear(&r);
    }
    print_message("root mean square error of the trace: hutch++ %.3g, hutchinson %.3g, of %.4g\n",
                  sqrt(squares[0] / SEEDS), sqrt(plain / SEEDS), exact[0]);
    for (int i = 0; i < WIDTH; i++) {
        assert_near(sum[i], 0.0, 5.0 * sqrt(squares[i]));
    }
    assert_true(squares[0] < 0.1 * plain);
    matrix_destroy(&m);
    free(a);
}

/* As in test_probing.c: stopped at every point where it can be, in sketch, products with Q and samples. */
static void goes_on_after_every_interruption(void **state)
{
    enum { POINTS = 9 }; /* 20 columns and 20 products with Q make 3 batches each, 20 samples too */
    const double weight[3] = {3.0, 2.0, -1.0};
    hsgd_trace_options options = options_of(60, 8, 8);
    hsgd_trace_result whole = {0};
    double *a = NULL;
    matrix m;
    hsgd_error err = {0};

    (void)state;
    a = low_rank(3, weight, 0.0, &m);
    for (int i = 0; i < N; i++) {
        a[i * N + i] += 1e-3 * i;
    }
    assert_ok(hsgd_hutch_plus_plus(m.op, &options, &whole, &err));
    assert_true(whole.sketch == 20 && whole.samples == 20);
    for (int point = 1; point <= POINTS; point++) {
        for (int in_product = 0; in_product < 2; in_product++) {
            stopping s = {.inner = m.op, .stop_at = in_product ? point : 0};
            hsgd_trace_result r = {0};
            hsgd_linop *op = NULL;
            memory_keeper k;

            memory_keeper_create(&k, in_product ? 0 : point);
            options.keeper = &k.keeper;
            assert_ok(hsgd_linop_create(m.space, &stopping_ops, &s, &op, &err));
            assert_int_equal(hsgd_hutch_plus_plus(op, &options, &r, &err), HSGD_STOPPED);
            hsgd_trace_result_clear(&r);
            assert_int_equal(s.calls, point);
            assert_ok(hsgd_hutch_plus_plus(op, &options, &r, &err));
            assert_int_equal(s.calls, POINTS + in_product); /* no batch is done twice but the one that was stopped */
            assert_same(&r, &whole);
            hsgd_trace_result_clear(&r);
            hsgd_linop_destroy(&op);
            memory_keeper_destroy(&k);
        }
    }
    hsgd_trace_result_clear(&whole);
    matrix_destroy(&m);
    free(a);
}

static void refuses_too_few_products_and_nan(void **state)
{
    const double a[4] = {NAN, 0.0, 0.0, 1.0};
    hsgd_trace_options options = {.probes = 2, .columns = 1};
    hsgd_trace_result r = {0};
    matrix m;
    hsgd_error err = {0};

    (void)state;
    matrix_create(&m, 2, a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(hsgd_hutch_plus_plus(m.op, &options, &r, &err), HSGD_ERR_USAGE);
    options.probes = 3;
    assert_int_equal(hsgd_hutch_plus_plus(m.op, &options, &r, &err), HSGD_ERR_NUMERIC);
    hsgd_trace_result_clear(&r);
    matrix_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_matrix_of_low_rank_is_exact),
        cmocka_unit_test(a_sketch_of_the_whole_space_is_exact),
        cmocka_unit_test(the_zero_matrix_needs_no_basis),
        cmocka_unit_test(follows_its_definition),
        cmocka_unit_test(no_bit_depends_on_ranks_or_columns_at_a_time),
        cmocka_unit_test(is_unbiased_and_better_where_few_directions_hold_the_trace),
        cmocka_unit_test(goes_on_after_every_interruption),
        cmocka_unit_test(refuses_too_few_products_and_nan),
    };
    return test_run(tests);
}
