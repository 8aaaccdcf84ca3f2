/* tests/curvature/test_exact_trace.c - mirrors src/curvature/exact_trace.c: the trace against the diagonal that unit
 * vectors reveal.  ranks: 1 2 4
 * devices: cuda */
#include "fixture.h"

enum { MOST_LAYERS = 4 };

/* Sums of the operator's diagonal over each layer with parameters, and over its weight and its bias: parts
 * [2 * layers], or NULL. */
static void diagonal_sums(fixture *f, hsgd_operator kind, double *sums, double *parts)
{
    const hsgd_hessian_options options = options_of(f, kind);
    double *unit = calloc((size_t)(f->n * f->n), sizeof *unit), *y = NULL;
    int layers = 0;

    assert_non_null(unit);
    for (int64_t i = 0; i < f->n; i++) {
        unit[i * f->n + i] = 1.0;
    }
    y = products_of(f, &options, f->n, unit);
    for (int64_t l = 0; l < f->network->count; l++) {
        const hsgd_layer *layer = &f->network->layers[l];

        if (layer->weight_count > 0) {
            sums[layers] = 0.0;
            for (int64_t i = layer->weight; i < layer->bias + layer->bias_count; i++) {
                sums[layers] += y[i * f->n + i];
                if (parts != NULL) {
                    parts[2 * layers + (i >= layer->bias)] += y[i * f->n + i];
                }
            }
            layers++;
        }
    }
    free(unit);
    free(y);
}

static fixture small(const char *layers, hsgd_comm *comm, hsgd_precision precision)
{
    return fixture_create(&(fixture_plan){
        .layers = layers, .edge = 6, .classes = 3, .groups = 1, .rest = 3, .precision = precision, .comm = comm});
}

/* Both sides add some thousand positive terms in double. */
static void equals_the_diagonal_of_gauss_newton(void **state)
{
    const char *const layers[] = {mixed_layers, relu_layers, "linear 3", "tanh / linear 4"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        fixture f = small(layers[i], test_comm(), HSGD_DOUBLE);
        double exact[MOST_LAYERS] = {0}, sums[MOST_LAYERS] = {0};
        double of_parts[2 * MOST_LAYERS] = {0}, parts[2 * MOST_LAYERS] = {0};
        hsgd_error err = {0};

        diagonal_sums(&f, HSGD_OPERATOR_GAUSS_NEWTON, sums, parts);
        assert_ok(hsgd_exact_trace(problem_of(&f), f.weights, f.index, f.count, exact, &err));
        for (int l = 0; l < MOST_LAYERS; l++) {
            assert_near(exact[l], sums[l], 1000.0 * EPS * sums[l]);
        }
        assert_true(exact[0] > 0.0);
        assert_ok(hsgd_exact_trace_parts(problem_of(&f), f.weights, f.index, f.count, of_parts, &err));
        for (int p = 0; p < 2 * MOST_LAYERS; p++) {
            assert_near(of_parts[p], parts[p], 1000.0 * EPS * parts[p]);
        }
        assert_true(of_parts[0] > 0.0 && of_parts[1] > 0.0);
        fixture_destroy(&f);
    }
}

/* Where nothing but ReLU bends the function, a layer's logits are linear in that layer's parameters. */
static void equals_the_hessians_layer_by_layer_for_relu(void **state)
{
    fixture f = small(relu_layers, test_comm(), HSGD_DOUBLE);
    double exact[MOST_LAYERS] = {0}, sums[MOST_LAYERS] = {0};
    hsgd_error err = {0};

    (void)state;
    assert_true(f.network->piecewise_linear);
    diagonal_sums(&f, HSGD_OPERATOR_HESSIAN, sums, NULL);
    assert_ok(hsgd_exact_trace(problem_of(&f), f.weights, f.index, f.count, exact, &err));
    for (int l = 0; l < MOST_LAYERS; l++) {
        assert_near(exact[l], sums[l], 1000.0 * EPS * sums[l]);
    }
    fixture_destroy(&f);
}

static void ranks_change_no_bit(void **state)
{
    fixture alone = small(relu_layers, NULL, HSGD_SINGLE), together = small(relu_layers, test_comm(), HSGD_SINGLE);
    double a[MOST_LAYERS], b[MOST_LAYERS];
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_exact_trace(problem_of(&alone), alone.weights, alone.index, alone.count, a, &err));
    assert_ok(hsgd_exact_trace(problem_of(&together), together.weights, together.index, together.count, b, &err));
    assert_memory_equal(a, b, sizeof a);
    fixture_destroy(&alone);
    fixture_destroy(&together);
}

/* More classes than are taken at once. */
static void many_classes_are_taken_in_parts(void **state)
{
    fixture f = small("linear 19", test_comm(), HSGD_DOUBLE);
    double exact = 0.0, sum[MOST_LAYERS] = {0};
    hsgd_error err = {0};

    (void)state;
    diagonal_sums(&f, HSGD_OPERATOR_GAUSS_NEWTON, sum, NULL);
    assert_ok(hsgd_exact_trace(problem_of(&f), f.weights, f.index, f.count, &exact, &err));
    assert_near(exact, sum[0], 1000.0 * EPS * exact);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_diagonal_of_gauss_newton),
        cmocka_unit_test(equals_the_hessians_layer_by_layer_for_relu),
        cmocka_unit_test(ranks_change_no_bit),
        cmocka_unit_test(many_classes_are_taken_in_parts),
    };
    return test_run(tests);
}
