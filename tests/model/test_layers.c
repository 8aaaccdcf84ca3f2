/* tests/model/test_layers.c - mirrors src/model/layers.c and init.c: what a list of layers comes to, and what
 * is refused. */
#include <math.h>
#include <stdlib.h>
#include "model/layers.h"
#include "support.h"

static const char *const whole = "conv 16 5 / relu / maxpool 2 / conv 32 5 / relu / maxpool 2 / linear 10";

static hsgd_network *network_of(const char *layers)
{
    hsgd_error err = {0};
    hsgd_network *network = NULL;

    assert_ok(hsgd_network_create(layers, (hsgd_shape){1, 28, 28}, 10, &network, &err));
    return network;
}

static void lays_out_the_default_network(void **state)
{
    hsgd_network *net = network_of(whole);
    const hsgd_layer *second = &net->layers[3], *out = &net->layers[6];

    (void)state;
    assert_int_equal(net->count, 7);
    assert_int_equal(net->parameters, 28938); /* 16 * 25 + 16 + 32 * 16 * 25 + 32 + 10 * 1568 + 10 */
    assert_int_equal(net->classes, 10);
    assert_true(net->piecewise_linear);
    assert_string_equal(net->layers[0].name, "conv1");
    assert_string_equal(net->layers[1].name, "");
    assert_int_equal(net->layers[1].weight, -1);
    assert_string_equal(second->name, "conv2");
    assert_int_equal(second->weight, 416);
    assert_int_equal(second->bias, 416 + 12800);
    assert_int_equal(second->in.height, 14);
    assert_int_equal(second->out.channels, 32);
    assert_string_equal(out->name, "out");
    assert_int_equal(out->weight, 416 + 12832);
    assert_int_equal(out->in.channels, 1568);
    assert_int_equal(out->unflat.channels, 32);
    assert_int_equal(out->unflat.height, 7);
    hsgd_network_destroy(&net);
    assert_null(net);
}

static void names_inner_linear_layers_and_flattens_once(void **state)
{
    hsgd_network *net = network_of("conv 2 3/tanh/avgpool 3/linear 7/relu/linear 6/linear 12");

    (void)state;
    assert_string_equal(net->layers[3].name, "linear1");
    assert_int_equal(net->layers[3].unflat.width, 9);
    assert_string_equal(net->layers[5].name, "linear2");
    assert_int_equal(net->layers[5].unflat.channels, 7);
    assert_int_equal(net->layers[5].unflat.width, 1);
    assert_string_equal(net->layers[6].name, "out");
    assert_int_equal(net->classes, 12);
    assert_false(net->piecewise_linear);
    hsgd_network_destroy(&net);
}

static void refuses_with_a_text_that_helps(void **state)
{
    static const struct {
        const char *layers, *text;
    } cases[] = {
        {"conv 4 3 / maxpol 2 / linear 10", "did you mean 'maxpool'"},
        {"transformer / linear 10", "layer 1: unknown layer 'transformer'"},
        {"conv 4 / linear 10", "conv CHANNELS KERNEL"},
        {"relu 3 / linear 10", "one word too many"},
        {"conv 4 4 / linear 10", "must be odd"},
        {"conv 4 5x / linear 10", "'5x'"},
        {"conv 0 5 / linear 10", "'0'"},
        {"conv -1 5 / linear 10", "'-1'"},
        {"maxpool 29 / linear 10", "larger than its 28 x 28 input"},
        {"conv 4 57 / linear 10", "never meet"},
        {"linear 20 / conv 4 3 / linear 10", "after a linear layer"},
        {"linear 20 / avgpool 1 / linear 10", "after a linear layer"},
        {"conv 4 3 / / linear 10", "layer 2 is empty"},
        {"", "layer 1 is empty"},
        {"linear 10 / relu", "not linear"},
        {"linear 9", "9 outputs for 10 classes"},
        {"linear 1000000 / linear 1000000 / linear 10", "make it smaller"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hsgd_error err = {0};
        hsgd_network *net = NULL;

        assert_int_equal(hsgd_network_create(cases[i].layers, (hsgd_shape){1, 28, 28}, 10, &net, &err), HSGD_ERR_USAGE);
        assert_null(net);
        assert_int_equal(strncmp(err.text, "model.layers: ", 14), 0);
        if (strstr(err.text, cases[i].text) == NULL) {
            fail_msg("'%s' gave: %s", cases[i].layers, err.text);
        }
    }
}

/* Uniform in +-b has mean square b^2 / 3, off by at most 5 of its standard errors, b^2 * 2 / sqrt(45 n). */
static void assert_uniform(const double *x, int64_t count, double bound)
{
    double squares = 0.0;

    for (int64_t i = 0; i < count; i++) {
        assert_true(fabs(x[i]) <= (float)bound);
        assert_true(x[i] == (float)x[i]);
        squares += x[i] * x[i] / (double)count;
    }
    assert_near(squares, bound * bound / 3.0, 5.0 * bound * bound * 2.0 / sqrt(45.0 * (double)count));
}

static void draws_weights_and_biases_within_one_over_root_fan_in(void **state)
{
    hsgd_network *net = network_of(whole);
    double *params = malloc((size_t)net->parameters * sizeof *params);

    (void)state;
    assert_non_null(params);
    hsgd_network_init(net, 1, params);
    assert_uniform(params, 400, 1.0 / 5.0);
    assert_uniform(params + 400, 16, 1.0 / 5.0);
    assert_uniform(params + 416, 12800, 1.0 / 20.0);
    assert_uniform(params + 416 + 12832, 15680, 1.0 / sqrt(1568.0));
    assert_true(params[0] != params[400]);
    free(params);
    hsgd_network_destroy(&net);
}

static void draws_depend_on_the_seed_and_not_on_layers_without_parameters(void **state)
{
    hsgd_network *plain = network_of("linear 5 / linear 10"), *more = network_of("linear 5 / relu / linear 10");
    const size_t bytes = (size_t)plain->parameters * sizeof(double);
    double *a = malloc(bytes), *b = malloc(bytes);

    (void)state;
    assert_true(a != NULL && b != NULL && plain->parameters == more->parameters);
    hsgd_network_init(plain, 1, a);
    hsgd_network_init(more, 1, b);
    assert_memory_equal(a, b, bytes);
    hsgd_network_init(more, 2, b);
    assert_memory_not_equal(a, b, bytes);
    free(a);
    free(b);
    hsgd_network_destroy(&plain);
    hsgd_network_destroy(&more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lays_out_the_default_network),
        cmocka_unit_test(names_inner_linear_layers_and_flattens_once),
        cmocka_unit_test(refuses_with_a_text_that_helps),
        cmocka_unit_test(draws_weights_and_biases_within_one_over_root_fan_in),
        cmocka_unit_test(draws_depend_on_the_seed_and_not_on_layers_without_parameters),
    };
    return test_run(tests);
}
