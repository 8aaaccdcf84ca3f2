/* tests/curvature/test_losses.c - mirrors src/curvature/losses.c: several points in one sweep are each what it is alone.
 * ranks: 1 3
 * devices: cuda */
#include "fixture.h"

enum { POINTS = 4 };

static const char *const first_gated = "conv 3 5 / relu / maxpool 2 / conv 4 3 / relu / maxpool 2 / linear 3";
static const char *const first_pooled = "avgpool 2 / conv 3 3 / relu / linear 3";

/* Points at some distance from the weights, of different losses. */
static double *points_around(const fixture *f)
{
    double *points = normals(POINTS * f->n, 0);

    for (int64_t i = 0; i < POINTS * f->n; i++) {
        points[i] = f->weights[i % f->n] + 0.1 * (double)(i / f->n) * points[i];
    }
    return points;
}

static void check(const char *layers, hsgd_precision precision, hsgd_reduction reduction)
{
    const fixture_plan plan = {.layers = layers,
                               .edge = 9,
                               .classes = 3,
                               .groups = 3,
                               .rest = 4,
                               .precision = precision,
                               .reduction = reduction,
                               .comm = test_comm(),
                               .threads = 2};
    fixture f = fixture_create(&plan);
    double *points = points_around(&f);
    hsgd_losses *losses = NULL;
    hsgd_loss together[POINTS], alone;
    hsgd_error err = {0};

    assert_ok(hsgd_losses_create(problem_of(&f), f.index, f.count, POINTS, &losses, &err));
    for (int64_t k = POINTS; k >= 1; k--) {
        assert_ok(hsgd_losses_at(losses, k, points, together, &err));
        for (int64_t j = 0; j < k; j++) {
            assert_ok(hsgd_network_evaluate(problem_of(&f), points + j * f.n, f.index, f.count, &alone, NULL, &err));
            assert_int_equal(together[j].correct, alone.correct);
            if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
                assert_memory_equal(&together[j].loss, &alone.loss, sizeof alone.loss);
            } else { /* the order of the groups may differ */
                assert_true(fabs(together[j].loss - alone.loss) <= 1e-13 * alone.loss);
            }
            assert_true(j == 0 || together[j].loss != together[0].loss);
        }
    }
    hsgd_losses_destroy(&losses);
    free(points);
    fixture_destroy(&f);
}

static void points_together_are_each_what_it_is_alone(void **state)
{
    (void)state;
    check(first_gated, HSGD_SINGLE, HSGD_REDUCTION_REPRODUCIBLE);
    check(first_gated, HSGD_DOUBLE, HSGD_REDUCTION_FAST);
    check(mixed_layers, HSGD_DOUBLE, HSGD_REDUCTION_REPRODUCIBLE);
    check(first_pooled, HSGD_SINGLE, HSGD_REDUCTION_REPRODUCIBLE);
}

/* As many samples are right and the loss is the same as where the objective is asked with a gradient, which leaves gates behind. */
static void losses_are_those_of_the_gradients_pass(void **state)
{
    const fixture_plan plan = {
        .layers = first_gated, .edge = 12, .classes = 3, .groups = 2, .comm = test_comm(), .precision = HSGD_DOUBLE};
    fixture f = fixture_create(&plan);
    hsgd_objective *objective = NULL;
    hsgd_losses *losses = NULL;
    hsgd_vector *at = NULL, *gradient = NULL;
    hsgd_loss loss, with;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_network_objective_create(problem_of(&f), f.replicated, f.count, &objective, &err));
    assert_ok(hsgd_vector_create(f.replicated, 1, &at, &err));
    assert_ok(hsgd_vector_create(f.replicated, 1, &gradient, &err));
    assert_ok(hsgd_vector_set_full(at, f.weights, &err));
    assert_ok(hsgd_objective_evaluate(objective, at, f.index, f.count, gradient, &with, &err));
    assert_ok(hsgd_losses_create(problem_of(&f), f.index, f.count, 1, &losses, &err));
    assert_ok(hsgd_losses_at(losses, 1, f.weights, &loss, &err));
    assert_memory_equal(&loss.loss, &with.loss, sizeof loss.loss);
    assert_int_equal(loss.correct, with.correct);
    hsgd_losses_destroy(&losses);
    hsgd_vector_destroy(&gradient);
    hsgd_vector_destroy(&at);
    hsgd_objective_destroy(&objective);
    fixture_destroy(&f);
}

static void refuses_what_was_not_planned(void **state)
{
    const fixture_plan plan = {.layers = relu_layers, .edge = 8, .classes = 3, .groups = 1, .comm = test_comm()};
    fixture f = fixture_create(&plan);
    double *points = points_around(&f);
    hsgd_losses *losses = NULL;
    hsgd_loss loss[POINTS];
    hsgd_error err = {0};

    (void)state;
    assert_int_equal(hsgd_losses_create(problem_of(&f), f.index, 0, 1, &losses, &err), HSGD_ERR_USAGE);
    assert_null(losses);
    assert_ok(hsgd_losses_create(problem_of(&f), f.index, f.count, POINTS - 1, &losses, &err));
    assert_int_equal(hsgd_losses_at(losses, POINTS, points, loss, &err), HSGD_ERR_USAGE);
    points[f.n] = NAN;
    assert_int_equal(hsgd_losses_at(losses, 2, points, loss, &err), HSGD_ERR_NUMERIC);
    assert_ok(hsgd_losses_at(losses, 1, points, loss, &err)); /* a bad point leaves nothing behind */
    hsgd_losses_destroy(&losses);
    free(points);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_together_are_each_what_it_is_alone),
        cmocka_unit_test(losses_are_those_of_the_gradients_pass),
        cmocka_unit_test(refuses_what_was_not_planned),
    };

    return test_run(tests);
}
