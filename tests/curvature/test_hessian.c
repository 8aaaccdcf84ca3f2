/* tests/curvature/test_hessian.c - mirrors src/curvature/hessian.c: identities that the exact Hessian must obey, and
 * the same bits whatever ranks, threads, kept states and chunks of columns.  Run on numbers of ranks that divide
 * nothing evenly.  ranks: 1 2 3 4 7
 * devices: cuda */
#include "fixture.h"

static fixture mixed(hsgd_comm *comm)
{
    return fixture_create(&(fixture_plan){.layers = mixed_layers,
                                          .edge = 8,
                                          .classes = 3,
                                          .groups = 5,
                                          .rest = 3,
                                          .precision = HSGD_DOUBLE,
                                          .comm = comm});
}

static fixture with_relu(hsgd_comm *comm)
{
    return fixture_create(&(fixture_plan){.layers = relu_layers,
                                          .edge = 6,
                                          .classes = 3,
                                          .groups = 1,
                                          .rest = 4,
                                          .precision = HSGD_DOUBLE,
                                          .comm = comm});
}

static void assert_same_bits(int64_t count, const double *x, const double *y)
{
    for (int64_t i = 0; i < count; i++) {
        if (!(x[i] == y[i]) || signbit(x[i]) != signbit(y[i])) {
            fail_msg("entry %lld: %.17g and %.17g", (long long)i, x[i], y[i]);
        }
    }
}

/* ---- the same bits ---- */

static void ranks_and_threads_change_no_bit(void **state)
{
    const hsgd_precision precisions[] = {HSGD_SINGLE, HSGD_DOUBLE};

    (void)state;
    for (int i = 0; i < 2; i++) {
        fixture_plan plan = {
            .layers = mixed_layers, .edge = 8, .classes = 3, .groups = 5, .rest = 3, .precision = precisions[i]};
        fixture alone = fixture_create(&plan), together = {0};
        const hsgd_hessian_options options = options_of(&alone, HSGD_OPERATOR_HESSIAN);
        double *x = normals(3 * alone.n, 1), *y = products_of(&alone, &options, 3, x), *z = NULL;

        plan.comm = test_comm();
        plan.threads = 3;
        together = fixture_create(&plan);
        z = products_of(&together, &options, 3, x);
        assert_same_bits(3 * alone.n, y, z);
        free(x);
        free(y);
        free(z);
        fixture_destroy(&alone);
        fixture_destroy(&together);
    }
}

static void fewer_groups_than_ranks_leave_ranks_idle(void **state)
{
    fixture_plan plan = {.layers = mixed_layers, .edge = 8, .classes = 3, .rest = 2, .precision = HSGD_DOUBLE};
    fixture alone = fixture_create(&plan), together = {0};
    const hsgd_hessian_options options = options_of(&alone, HSGD_OPERATOR_GAUSS_NEWTON);
    double *x = normals(alone.n, 1), *y = products_of(&alone, &options, 1, x), *z = NULL;

    (void)state;
    plan.comm = test_comm();
    together = fixture_create(&plan);
    z = products_of(&together, &options, 1, x);
    assert_same_bits(alone.n, y, z);
    free(x);
    free(y);
    free(z);
    fixture_destroy(&alone);
    fixture_destroy(&together);
}

static void kept_states_and_chunks_of_columns_change_no_bit(void **state)
{
    fixture f = mixed(test_comm());
    hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    const size_t caches[] = {1, 100000, SIZE_MAX / 2};
    const int64_t columns[] = {1, 2, 5};
    double *x = normals(5 * f.n, 1), *y = products_of(&f, &options, 5, x);

    (void)state;
    for (int i = 0; i < 3; i++) {
        double *z = NULL;

        options.cache_bytes = caches[i];
        options.columns = columns[i];
        z = products_of(&f, &options, 5, x);
        assert_same_bits(5 * f.n, y, z);
        free(z);
    }
    free(x);
    free(y);
    fixture_destroy(&f);
}

static void a_kept_state_serves_again(void **state)
{
    fixture f = mixed(test_comm());
    hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    double *x = normals(f.n, 1), *y = products_of(&f, &options, 1, x), *z = malloc((size_t)f.n * sizeof *z);
    hsgd_linop *op = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_non_null(z);
    options.cache_bytes = SIZE_MAX / 2;
    op = operator_of(&f, &options);
    for (int i = 0; i < 3; i++) {
        assert_ok(apply_full(op, 1, x, z, &err));
        assert_same_bits(f.n, y, z);
    }
    hsgd_linop_destroy(&op);
    free(x);
    free(y);
    free(z);
    fixture_destroy(&f);
}

/* H (c v) = c H v to the last bit for a power of two, though the exact sums are of fixed point, and far beyond the range
 * of those sums and of single precision; a zero column beside them stays zero. */
static void a_power_of_two_goes_through_exactly(void **state)
{
    const hsgd_precision precisions[] = {HSGD_SINGLE, HSGD_DOUBLE};
    const int exponents[] = {60, -60, 800, -800};

    (void)state;
    for (int i = 0; i < 2; i++) {
        fixture f = fixture_create(&(fixture_plan){.layers = mixed_layers,
                                                   .edge = 8,
                                                   .classes = 3,
                                                   .groups = 2,
                                                   .rest = 3,
                                                   .precision = precisions[i],
                                                   .comm = test_comm()});
        const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
        double *x = normals(3 * f.n, 1), *y = NULL;

        memset(x + f.n, 0, (size_t)f.n * sizeof *x);
        y = products_of(&f, &options, 3, x);
        for (int64_t j = 0; j < f.n; j++) {
            assert_true(y[f.n + j] == 0.0);
        }
        assert_true(norm(f.n, y) > 0.0);
        for (int e = 0; e < 4; e++) {
            double *scaled = malloc((size_t)(3 * f.n) * sizeof *scaled), *z = NULL;

            assert_non_null(scaled);
            for (int64_t j = 0; j < 3 * f.n; j++) {
                scaled[j] = j < 2 * f.n ? ldexp(x[j], exponents[e]) : x[j]; /* each column by itself */
            }
            z = products_of(&f, &options, 3, scaled);
            for (int64_t j = 0; j < 2 * f.n; j++) {
                z[j] = ldexp(z[j], -exponents[e]);
            }
            assert_same_bits(3 * f.n, y, z);
            free(scaled);
            free(z);
        }
        free(x);
        free(y);
        fixture_destroy(&f);
    }
}

static void a_vector_whose_product_may_overflow_is_refused(void **state)
{
    fixture f = mixed(test_comm());
    const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    double *x = normals(f.n, 1), *y = malloc((size_t)f.n * sizeof *y);
    hsgd_linop *op = operator_of(&f, &options);
    hsgd_error err = {0};

    (void)state;
    assert_non_null(y);
    x[0] = 1e300;
    assert_int_equal(apply_full(op, 1, x, y, &err), HSGD_ERR_NUMERIC);
    hsgd_linop_destroy(&op);
    free(x);
    free(y);
    fixture_destroy(&f);
}

/* Plain sums lose some eps for every addition, relative to the largest entry. */
static void fast_sums_agree_with_exact_ones(void **state)
{
    fixture_plan plan = {.layers = mixed_layers,
                         .edge = 8,
                         .classes = 3,
                         .groups = 5,
                         .rest = 3,
                         .precision = HSGD_DOUBLE,
                         .comm = test_comm(),
                         .threads = 2};
    fixture exact = fixture_create(&plan), fast = {0};
    const hsgd_hessian_options options = options_of(&exact, HSGD_OPERATOR_HESSIAN);
    double *x = normals(2 * exact.n, 1), *y = products_of(&exact, &options, 2, x), *z = NULL;

    (void)state;
    plan.reduction = HSGD_REDUCTION_FAST;
    fast = fixture_create(&plan);
    z = products_of(&fast, &options, 2, x);
    for (int64_t i = 0; i < 2 * exact.n; i++) {
        assert_near(y[i], z[i], 100.0 * EPS * norm(2 * exact.n, y));
    }
    free(x);
    free(y);
    free(z);
    fixture_destroy(&exact);
    fixture_destroy(&fast);
}

/* ---- identities ---- */

/* u'Hv and v'Hu are sums of n products, each off by some eps of norm(u) norm(Hv). */
static void is_symmetric(void **state)
{
    (void)state;
    for (int kind = HSGD_OPERATOR_HESSIAN; kind <= HSGD_OPERATOR_GAUSS_NEWTON; kind++) {
        fixture f = mixed(test_comm());
        const hsgd_hessian_options options = options_of(&f, (hsgd_operator)kind);
        double *x = normals(2 * f.n, 1), *u = x, *v = x + f.n, *y = products_of(&f, &options, 2, x);
        const double scale = norm(f.n, u) * norm(f.n, y + f.n);

        assert_near(dot(f.n, u, y + f.n), dot(f.n, v, y), 1e-13 * scale);
        assert_true(fabs(dot(f.n, u, y + f.n)) > 1e-9 * scale);
        free(x);
        free(y);
        fixture_destroy(&f);
    }
}

static void gauss_newton_is_positive_semidefinite(void **state)
{
    fixture f = mixed(test_comm());
    const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_GAUSS_NEWTON);
    double *x = normals(8 * f.n, 1), *y = products_of(&f, &options, 8, x);

    (void)state;
    for (int64_t j = 0; j < 8; j++) {
        assert_true(dot(f.n, x + j * f.n, y + j * f.n) > 0.0); /* a random vector is in no null space */
    }
    free(x);
    free(y);
    fixture_destroy(&f);
}

/* Softmax does not see a number added to all logits: one vector added to every class row of `out` changes nothing. */
static void has_the_null_space_of_softmax(void **state)
{
    (void)state;
    for (int kind = HSGD_OPERATOR_HESSIAN; kind <= HSGD_OPERATOR_GAUSS_NEWTON; kind++) {
        fixture f = mixed(test_comm());
        const hsgd_hessian_options options = options_of(&f, (hsgd_operator)kind);
        const hsgd_layer *out = &f.network->layers[f.network->count - 1];
        double *x = normals(2 * f.n, 1), *y = NULL;

        memset(x, 0, (size_t)f.n * sizeof *x); /* the second column, for comparison, is not in the null space */
        for (int64_t c = 0; c < out->out.channels; c++) {
            for (int64_t i = 0; i < out->in.channels; i++) {
                x[out->weight + c * out->in.channels + i] = cos((double)i);
            }
            x[out->bias + c] = 0.7;
        }
        y = products_of(&f, &options, 2, x);
        assert_true(norm(f.n, y) <= 1e-14 * norm(f.n, x) * norm(f.n, y + f.n));
        free(x);
        free(y);
        fixture_destroy(&f);
    }
}

static double *gradient_of(fixture *f, const double *weights, double *loss)
{
    double *g = malloc((size_t)f->n * sizeof *g);
    hsgd_loss value = {0};
    hsgd_error err = {0};

    assert_non_null(g);
    assert_ok(hsgd_frozen_gradient(problem_of(f), weights, f->weights, f->index, f->count, g, &value, &err));
    *loss = value.loss;
    return g;
}

/* +1 where parameter i leads into channel `unit` of layer `in`, -1 where it leads out of it to `out`, else 0. */
static double side_of(const hsgd_layer *in, const hsgd_layer *out, int64_t unit, int64_t i)
{
    const int64_t fan = in->weight_count / in->bias_count, next_fan = out->weight_count / out->bias_count;

    if ((i >= in->weight && i < in->bias && (i - in->weight) / fan == unit) || i == in->bias + unit) {
        return 1.0;
    }
    return i >= out->weight && i < out->bias && (i - out->weight) % next_fan / (next_fan / in->bias_count) == unit
               ? -1.0
               : 0.0;
}

/* A ReLU channel's incoming weights and bias times c, its outgoing ones divided by c: the same function.
 * Differentiated at c = 1, for s = incoming minus outgoing weights: g's = 0 and H s = -(g on the incoming, -g on the
 * outgoing). */
static void obeys_the_rescaling_identity_of_relu(void **state)
{
    enum { CHANNELS = 2 + 3 + 5 };
    const int64_t places[] = {0, 3, 5, 7}; /* of the layers with parameters */
    fixture f = with_relu(test_comm());
    const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    double loss = 0.0, *g = gradient_of(&f, f.weights, &loss), *y = NULL;
    double *s = malloc((size_t)(CHANNELS * f.n) * sizeof *s), *expected = malloc((size_t)(CHANNELS * f.n) * sizeof *s);
    int64_t column = 0;

    (void)state;
    assert_true(s != NULL && expected != NULL);
    for (int l = 0; l < 3; l++) {
        const hsgd_layer *in = &f.network->layers[places[l]], *out = &f.network->layers[places[l + 1]];

        for (int64_t unit = 0; unit < in->bias_count; unit++, column++) {
            for (int64_t i = 0; i < f.n; i++) {
                const double side = side_of(in, out, unit, i);

                s[column * f.n + i] = side * f.weights[i];
                expected[column * f.n + i] = -side * g[i];
            }
            assert_near(dot(f.n, g, s + column * f.n), 0.0, 100.0 * EPS * norm(f.n, g) * norm(f.n, s + column * f.n));
        }
    }
    assert_int_equal(column, CHANNELS);
    y = products_of(&f, &options, CHANNELS, s);
    assert_true(norm(CHANNELS * f.n, expected) > 0.1 * norm(f.n, g)); /* not all are dead: the test can tell */
    for (int64_t i = 0; i < CHANNELS * f.n; i++) {
        assert_near(y[i], expected[i], 1e-14 * (norm(f.n, g) + norm(CHANNELS * f.n, y)));
    }
    free(g);
    free(s);
    free(y);
    free(expected);
    fixture_destroy(&f);
}

/* Central differences of the gradient with choices frozen, at steps h and h/2: their distance is three times the
 * truncation error of the second; rounding adds some hundred eps over h. */
static void agrees_with_differences_of_the_frozen_gradient(void **state)
{
    fixture f = mixed(test_comm());
    const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    double *v = normals(f.n, 1), *y = products_of(&f, &options, 1, v), *moved = malloc((size_t)f.n * sizeof *v);
    double *d[2] = {NULL, NULL}, off = 0.0, apart = 0.0, loss = 0.0;
    const double h = 1e-3 / norm(f.n, v);

    (void)state;
    assert_non_null(moved);
    for (int s = 0; s < 2; s++) {
        const double step = s == 0 ? h : h / 2;
        double *side[2] = {NULL, NULL};

        for (int sign = 0; sign < 2; sign++) {
            for (int64_t i = 0; i < f.n; i++) {
                moved[i] = f.weights[i] + (sign == 0 ? step : -step) * v[i];
            }
            side[sign] = gradient_of(&f, moved, &loss);
        }
        for (int64_t i = 0; i < f.n; i++) {
            side[0][i] = (side[0][i] - side[1][i]) / (2.0 * step);
        }
        free(side[1]);
        d[s] = side[0];
    }
    for (int64_t i = 0; i < f.n; i++) {
        off += (d[1][i] - y[i]) * (d[1][i] - y[i]);
        apart += (d[1][i] - d[0][i]) * (d[1][i] - d[0][i]);
    }
    apart = sqrt(apart) + 200.0 * EPS / h;
    assert_true(sqrt(off) <= apart);
    assert_true(apart < 1e-5 * norm(f.n, y));
    free(v);
    free(y);
    free(moved);
    free(d[0]);
    free(d[1]);
    fixture_destroy(&f);
}

/* ---- failures and stops ---- */

static void nan_is_an_error_on_every_rank(void **state)
{
    (void)state;
    for (int mode = HSGD_REDUCTION_REPRODUCIBLE; mode <= HSGD_REDUCTION_FAST; mode++) {
        fixture f = fixture_create(&(fixture_plan){.layers = mixed_layers,
                                                   .edge = 8,
                                                   .classes = 3,
                                                   .rest = 3,
                                                   .precision = HSGD_DOUBLE,
                                                   .reduction = (hsgd_reduction)mode,
                                                   .comm = test_comm()});
        const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
        double *x = normals(f.n, 1), *y = malloc((size_t)f.n * sizeof *y);
        hsgd_linop *op = NULL;
        hsgd_error err = {0};

        assert_non_null(y);
        f.weights[3] = NAN;
        op = operator_of(&f, &options);
        assert_int_equal(apply_full(op, 1, x, y, &err), HSGD_ERR_NUMERIC);
        hsgd_linop_destroy(&op);
        f.weights[3] = 0.1;
        x[1] = INFINITY;
        op = operator_of(&f, &options);
        assert_int_equal(apply_full(op, 1, x, y, &err), HSGD_ERR_NUMERIC);
        x[1] = 1.0;
        assert_ok(apply_full(op, 1, x, y, &err)); /* and it recovers */
        hsgd_linop_destroy(&op);
        free(x);
        free(y);
        fixture_destroy(&f);
    }
}

static bool asked(void *context)
{
    int *left = context;

    return (*left)-- <= 0;
}

static void one_rank_that_is_asked_to_stop_stops_all(void **state)
{
    fixture f = mixed(test_comm());
    hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    double *x = normals(f.n, 1), *y = malloc((size_t)f.n * sizeof *y);
    int left = test_comm()->rank == test_comm()->ranks - 1 ? 0 : 1000;
    hsgd_linop *op = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_non_null(y);
    options.stop = asked;
    options.context = &left;
    op = operator_of(&f, &options);
    assert_int_equal(apply_full(op, 1, x, y, &err), HSGD_STOPPED);
    left = 1000;
    assert_ok(apply_full(op, 1, x, y, &err));
    hsgd_linop_destroy(&op);
    free(x);
    free(y);
    fixture_destroy(&f);
}

static hsgd_status failing_images(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m,
                                  const int64_t *index, float mean, float deviation, void *x, hsgd_error *err)
{
    (void)self, (void)worker, (void)pixels, (void)count, (void)m, (void)index, (void)mean, (void)deviation, (void)x;
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "device: fell off the bus");
}

static void a_failure_of_one_rank_is_told_to_all(void **state)
{
    fixture f = mixed(test_comm());
    const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    hsgd_backend_ops ops = *f.backend->ops;
    hsgd_backend broken = *f.backend;
    double *x = normals(f.n, 1), *y = malloc((size_t)f.n * sizeof *y);
    hsgd_linop *op = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_non_null(y);
    if (test_comm()->rank == test_comm()->ranks / 2) {
        ops.images = failing_images;
    }
    broken.ops = &ops;
    f.problem.backend = &broken;
    op = operator_of(&f, &options);
    assert_int_equal(apply_full(op, 1, x, y, &err), HSGD_ERR_DEVICE);
    assert_string_equal(err.text, "device: fell off the bus");
    hsgd_linop_destroy(&op);
    free(x);
    free(y);
    fixture_destroy(&f);
}

static void an_empty_set_is_refused(void **state)
{
    fixture f = mixed(test_comm());
    hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    hsgd_linop *op = NULL;
    hsgd_error err = {0};

    (void)state;
    options.count = 0;
    assert_int_equal(hsgd_hessian_create(problem_of(&f), f.spread, &options, &op, &err), HSGD_ERR_USAGE);
    assert_null(op);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_threads_change_no_bit),
        cmocka_unit_test(fewer_groups_than_ranks_leave_ranks_idle),
        cmocka_unit_test(kept_states_and_chunks_of_columns_change_no_bit),
        cmocka_unit_test(a_kept_state_serves_again),
        cmocka_unit_test(a_power_of_two_goes_through_exactly),
        cmocka_unit_test(a_vector_whose_product_may_overflow_is_refused),
        cmocka_unit_test(fast_sums_agree_with_exact_ones),
        cmocka_unit_test(is_symmetric),
        cmocka_unit_test(gauss_newton_is_positive_semidefinite),
        cmocka_unit_test(has_the_null_space_of_softmax),
        cmocka_unit_test(obeys_the_rescaling_identity_of_relu),
        cmocka_unit_test(agrees_with_differences_of_the_frozen_gradient),
        cmocka_unit_test(nan_is_an_error_on_every_rank),
        cmocka_unit_test(one_rank_that_is_asked_to_stop_stops_all),
        cmocka_unit_test(a_failure_of_one_rank_is_told_to_all),
        cmocka_unit_test(an_empty_set_is_refused),
    };
    return test_run(tests);
}
