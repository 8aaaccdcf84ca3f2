/* tests/curvature/test_objective.c - mirrors src/curvature/network_objective.c.  ranks: 1 2 3 4 7
 * devices: cuda */
#include "fixture.h"

/* Loss and gradient of the fixture's set at `weights` as the optimiser gets them. */
static double *gradient_of(fixture *f, const double *weights, int64_t count, hsgd_loss *loss)
{
    hsgd_error err = {0};
    hsgd_objective *objective = NULL;
    hsgd_vector *w = NULL, *g = NULL;
    double *out = malloc((size_t)f->n * sizeof *out);
    hsgd_loss alone = {0};

    assert_non_null(out);
    assert_ok(hsgd_network_objective_create(problem_of(f), f->replicated, count, &objective, &err));
    assert_ok(hsgd_vector_create(f->replicated, 1, &w, &err));
    assert_ok(hsgd_vector_create(f->replicated, 1, &g, &err));
    assert_ok(hsgd_vector_set_full(w, weights, &err));
    assert_ok(hsgd_objective_evaluate(objective, w, f->index, count, NULL, &alone, &err));
    assert_ok(hsgd_objective_evaluate(objective, w, f->index, count, g, loss, &err));
    assert_memory_equal(&alone, loss, sizeof alone); /* asking for the gradient changes no bit of the loss */
    assert_ok(hsgd_vector_gather(g, out, &err));
    hsgd_vector_destroy(&w);
    hsgd_vector_destroy(&g);
    hsgd_objective_destroy(&objective);
    assert_null(objective);
    return out;
}

static fixture mixed(hsgd_comm *comm, int threads, hsgd_precision precision)
{
    return fixture_create(&(fixture_plan){.layers = mixed_layers,
                                          .edge = 8,
                                          .classes = 3,
                                          .groups = 5,
                                          .rest = 3,
                                          .precision = precision,
                                          .comm = comm,
                                          .threads = threads});
}

static void ranks_and_threads_change_no_bit(void **state)
{
    fixture alone = mixed(NULL, 1, HSGD_SINGLE), together = mixed(test_comm(), 3, HSGD_SINGLE);
    const int64_t counts[] = {alone.count, 1,
                              alone.backend->least_group + 1}; /* one sample leaves all other ranks idle */

    (void)state;
    for (int i = 0; i < 3; i++) {
        hsgd_loss a = {0}, b = {0};
        double *g = gradient_of(&alone, alone.weights, counts[i], &a);
        double *h = gradient_of(&together, together.weights, counts[i], &b);

        assert_memory_equal(&a, &b, sizeof a);
        assert_memory_equal(g, h, (size_t)alone.n * sizeof *g);
        assert_near(a.accuracy, (double)a.correct / (double)counts[i], 0.0);
        free(g);
        free(h);
    }
    fixture_destroy(&alone);
    fixture_destroy(&together);
}

/* At the weights where the choices were made the frozen function is the network itself. */
static void frozen_gradient_is_the_gradient_where_it_was_frozen(void **state)
{
    fixture f = mixed(test_comm(), 1, HSGD_DOUBLE);
    hsgd_loss a = {0}, b = {0};
    hsgd_error err = {0};
    double *g = gradient_of(&f, f.weights, f.count, &a), *h = malloc((size_t)f.n * sizeof *h);

    (void)state;
    assert_non_null(h);
    assert_ok(hsgd_frozen_gradient(problem_of(&f), f.weights, f.weights, f.index, f.count, h, &b, &err));
    assert_memory_equal(&a, &b, sizeof a);
    for (int64_t i = 0; i < f.n; i++) {
        assert_true(g[i] == h[i]);
    }
    free(g);
    free(h);
    fixture_destroy(&f);
}

static double frozen_loss(fixture *f, const double *v, double step)
{
    hsgd_error err = {0};
    hsgd_loss loss = {0};
    double *moved = malloc((size_t)f->n * sizeof *moved), *g = malloc((size_t)f->n * sizeof *g);

    assert_true(moved != NULL && g != NULL);
    for (int64_t i = 0; i < f->n; i++) {
        moved[i] = f->weights[i] + step * v[i];
    }
    assert_ok(hsgd_frozen_gradient(problem_of(f), moved, f->weights, f->index, f->count, g, &loss, &err));
    free(moved);
    free(g);
    return loss.loss;
}

/* Two steps bound the truncation error (see test_pass.c); rounding adds some eps of the loss over h. */
static void gradient_agrees_with_differences_of_the_loss(void **state)
{
    fixture f = mixed(test_comm(), 1, HSGD_DOUBLE);
    hsgd_loss loss = {0};
    double *g = gradient_of(&f, f.weights, f.count, &loss), *v = normals(f.n, 1);
    const double h = 1e-3 / norm(f.n, v);
    const double wide = (frozen_loss(&f, v, h) - frozen_loss(&f, v, -h)) / (2.0 * h);
    const double narrow = (frozen_loss(&f, v, h / 2) - frozen_loss(&f, v, -h / 2)) / h;
    const double bound = fabs(wide - narrow) + 20.0 * EPS / h;

    (void)state;
    assert_near(narrow, dot(f.n, g, v), bound);
    assert_true(bound < 1e-5 * norm(f.n, g) * norm(f.n, v));
    free(g);
    free(v);
    fixture_destroy(&f);
}

/* A batch's mean weighs samples alike, also where the last group is short. */
static void a_ragged_batch_is_the_mean_of_its_samples(void **state)
{
    fixture f = mixed(test_comm(), 1, HSGD_DOUBLE);
    const int64_t count = f.backend->least_group + 2;
    hsgd_loss all = {0}, part = {0};
    double *g = gradient_of(&f, f.weights, count, &all), *sum = calloc((size_t)f.n, sizeof *sum), loss = 0.0;
    int64_t *index = f.index;

    (void)state;
    assert_non_null(sum);
    for (int64_t i = 0; i < count; i++) {
        double *one = NULL;

        f.index = index + i;
        one = gradient_of(&f, f.weights, 1, &part);
        loss += part.loss / (double)count;
        for (int64_t j = 0; j < f.n; j++) {
            sum[j] += one[j] / (double)count;
        }
        free(one);
    }
    f.index = index;
    assert_near(all.loss, loss, 100.0 * EPS * loss);
    for (int64_t j = 0; j < f.n; j++) {
        assert_near(g[j], sum[j], 100.0 * EPS * norm(f.n, g));
    }
    free(g);
    free(sum);
    fixture_destroy(&f);
}

static void single_precision_agrees_with_double(void **state)
{
    fixture s = mixed(test_comm(), 1, HSGD_SINGLE), d = mixed(test_comm(), 1, HSGD_DOUBLE);
    hsgd_loss a = {0}, b = {0};
    double *g = NULL, *h = NULL;

    (void)state;
    d.count = s.count = s.count < d.count ? s.count : d.count;
    assert_memory_equal(s.weights, d.weights, (size_t)s.n * sizeof *s.weights);
    g = gradient_of(&d, d.weights, 3, &a);
    h = gradient_of(&s, s.weights, 3, &b);
    assert_near(a.loss, b.loss, 1e-5 * a.loss);
    for (int64_t i = 0; i < s.n; i++) {
        assert_near(g[i], h[i], 1e-5 * norm(s.n, g));
    }
    free(g);
    free(h);
    fixture_destroy(&s);
    fixture_destroy(&d);
}

static void evaluation_counts_labels_and_predictions(void **state)
{
    fixture f = mixed(test_comm(), 2, HSGD_DOUBLE);
    hsgd_loss a = {0}, b = {0};
    hsgd_error err = {0};
    int64_t confusion[9], labels[3] = {0}, right = 0;

    (void)state;
    free(gradient_of(&f, f.weights, f.count, &a));
    assert_ok(hsgd_network_evaluate(problem_of(&f), f.weights, f.index, f.count, &b, confusion, &err));
    assert_memory_equal(&a, &b, sizeof a);
    for (int64_t i = 0; i < f.count; i++) {
        labels[f.labels[f.index[i]]]++;
    }
    for (int64_t c = 0; c < 3; c++) {
        assert_int_equal(confusion[3 * c] + confusion[3 * c + 1] + confusion[3 * c + 2], labels[c]);
        right += confusion[4 * c];
    }
    assert_int_equal(right, b.correct);
    assert_ok(hsgd_network_evaluate(problem_of(&f), f.weights, f.index, f.count, &b, NULL, &err));
    fixture_destroy(&f);
}

static void nan_is_an_error_on_every_rank(void **state)
{
    (void)state;
    for (int mode = HSGD_REDUCTION_REPRODUCIBLE; mode <= HSGD_REDUCTION_FAST; mode++) {
        fixture f = fixture_create(&(fixture_plan){.layers = mixed_layers,
                                                   .edge = 8,
                                                   .classes = 3,
                                                   .rest = 2,
                                                   .precision = HSGD_SINGLE,
                                                   .reduction = (hsgd_reduction)mode,
                                                   .comm = test_comm()});
        hsgd_loss loss = {0};
        hsgd_error err = {0};
        double *g = malloc((size_t)f.n * sizeof *g), traces[4];

        assert_non_null(g);
        f.weights[f.n - 1] = NAN;
        assert_int_equal(hsgd_network_evaluate(problem_of(&f), f.weights, f.index, f.count, &loss, NULL, &err),
                         HSGD_ERR_NUMERIC);
        assert_int_equal(hsgd_frozen_gradient(problem_of(&f), f.weights, f.weights, f.index, f.count, g, &loss, &err),
                         HSGD_ERR_NUMERIC);
        assert_int_equal(hsgd_exact_trace(problem_of(&f), f.weights, f.index, f.count, traces, &err), HSGD_ERR_NUMERIC);
        free(g);
        fixture_destroy(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_threads_change_no_bit),
        cmocka_unit_test(frozen_gradient_is_the_gradient_where_it_was_frozen),
        cmocka_unit_test(gradient_agrees_with_differences_of_the_loss),
        cmocka_unit_test(a_ragged_batch_is_the_mean_of_its_samples),
        cmocka_unit_test(single_precision_agrees_with_double),
        cmocka_unit_test(evaluation_counts_labels_and_predictions),
        cmocka_unit_test(nan_is_an_error_on_every_rank),
    };
    return test_run(tests);
}
