/* tests/conformance/test_backend.c - convolutions and linear layers of every backend against plain loops in double.
 * devices: cuda */
#include "operands.h"

enum { CASES = 30, LARGEST_GROUP = 10 };

/* ---- cases ---- */

static hsgd_layer linear_layer(hsgd_shape in, int64_t out)
{
    return (hsgd_layer){.kind = HSGD_LAYER_LINEAR,
                        .in = {elements(in), 1, 1},
                        .out = {out, 1, 1},
                        .unflat = in,
                        .size = 1,
                        .weight_count = elements(in) * out,
                        .bias_count = out};
}

typedef struct {
    hsgd_layer layer;
    int64_t m, k, zeros; /* zeros: how many in 8 entries of dy are zero */
    bool share_first, share_second, add, bias;
} layer_case;

/* Numbers of terms that plain loops get through in a moment. */
static int64_t most_terms(const layer_case *c)
{
    return c->m * c->k * c->layer.weight_count * c->layer.out.height * c->layer.out.width;
}

static layer_case draw_case(int64_t number)
{
    layer_case c = {0};

    do {
        const int64_t edge = 2 * draw_between(0, 3) + 1;
        const hsgd_shape in = {draw_between(1, 33), draw_between(edge / 2 + 1, 17), draw_between(edge / 2 + 1, 31)};
        const int64_t out = draw_between(1, 33);

        c = (layer_case){.layer = number % 4 == 3 ? linear_layer(in, out)
                                                  : conv_layer(in.channels, out, in.height, in.width, edge),
                         .m = draw_between(1, LARGEST_GROUP),
                         .k = draw_between(1, 9),
                         .zeros = number % 2 == 0 ? 7 : draw_between(0, 8),
                         .share_first = draw_between(0, 1) == 1,
                         .share_second = draw_between(0, 1) == 1,
                         .add = draw_between(0, 1) == 1,
                         .bias = draw_between(0, 1) == 1};
    } while (most_terms(&c) > 1000000);
    return c;
}

/* Operands of one kernel on one case, in the order of the kernel's arguments. */
typedef struct {
    operand first, second, result, bias;
    int64_t *x_order, *y_order, *w_order, *bias_order;
} operands;

static operands make_operands(role which, const layer_case *c)
{
    const hsgd_layer *layer = &c->layer;
    const hsgd_shape in = layer->kind == HSGD_LAYER_CONV ? layer->in : layer->unflat;
    const int64_t x_count = elements(in), y_count = elements(layer->out), w_count = layer->weight_count;
    operands o = {.x_order = activation_order(in),
                  .y_order = activation_order(layer->out),
                  .w_order = weight_order(layer),
                  .bias_order = activation_order((hsgd_shape){layer->bias_count, 1, 1})};

    if (which == VALUE) {
        o.first = operand_make(c->m, x_count, c->k, c->share_first, o.x_order, 1);
        o.second = weights_make(w_count, c->k, c->share_second, o.w_order);
        o.result = operand_make(c->m, y_count, c->k, false, o.y_order, 0);
        o.bias = weights_make(layer->bias_count, c->k, c->share_second, o.bias_order);
    } else {
        o.first = operand_make(c->m, y_count, c->k, c->share_first, o.y_order, c->zeros);
        o.bias = weights_make(layer->bias_count, c->k, false, o.bias_order);
    }
    if (which == ADJOINT_INPUT) {
        o.second = weights_make(w_count, c->k, c->share_second, o.w_order);
        o.result = operand_make(c->m, x_count, c->k, false, o.x_order, 0);
    } else if (which == ADJOINT_WEIGHT) {
        o.second = operand_make(c->m, x_count, c->k, c->share_second, o.x_order, 1);
        o.result = weights_make(w_count, c->k, false, o.w_order);
    }
    return o;
}

static void free_operands(operands *o)
{
    operand_free(&o->first);
    operand_free(&o->second);
    operand_free(&o->result);
    operand_free(&o->bias);
    free(o->x_order);
    free(o->y_order);
    free(o->w_order);
    free(o->bias_order);
}

static void run_kernel(role which, const layer_case *c, int worker, int64_t k, hsgd_columns first, hsgd_columns second,
                       hsgd_columns bias, hsgd_columns result)
{
    const hsgd_backend_ops *ops = subject->ops;
    hsgd_error err = {0};

    bias = c->bias ? bias : (hsgd_columns){NULL, 0};
    switch (which) {
    case VALUE:
        assert_ok(
            ops->affine_value(subject->self, worker, &c->layer, c->m, k, first, second, bias, result, c->add, &err));
        break;
    case ADJOINT_INPUT:
        assert_ok(
            ops->affine_adjoint_input(subject->self, worker, &c->layer, c->m, k, first, second, result, c->add, &err));
        break;
    case ADJOINT_WEIGHT:
        assert_ok(
            ops->affine_adjoint_weight(subject->self, worker, &c->layer, c->m, k, first, second, result, bias, &err));
        break;
    }
}

/* What column j of the result should be: prior content (where it is kept), bias (value) and all terms. */
static reference expected_column(role which, const layer_case *c, const operands *o, int64_t j)
{
    const operand *result = &o->result;
    const int64_t count = result->m * result->count, pixels = elements(c->layer.out) / c->layer.bias_count;
    reference r = reference_make(count);

    for (int64_t i = 0; i < count; i++) {
        if (which == ADJOINT_WEIGHT || c->add) {
            reference_add(&r, i, operand_column(result, j)[i]);
        }
        if (which == VALUE && c->bias) {
            reference_add(&r, i, operand_column(&o->bias, j)[i / pixels % c->layer.bias_count]);
        }
    }
    meet_all(which, &r, &c->layer, c->m, operand_column(&o->first, j), operand_column(&o->second, j));
    return r;
}

/* db_j += sum of dy_j over samples and pixels. */
static void check_bias_adjoint(const layer_case *c, const operands *o)
{
    const int64_t channels = c->layer.bias_count, pixels = elements(c->layer.out) / channels;
    double *got = operand_read(&o->bias);

    for (int64_t j = 0; j < c->k && c->bias; j++) {
        reference r = reference_make(channels);

        for (int64_t i = 0; i < c->m * channels * pixels; i++) {
            reference_add(&r, i / pixels % channels, operand_column(&o->first, j)[i]);
        }
        for (int64_t i = 0; i < channels; i++) {
            const double prior = operand_column(&o->bias, j)[i];

            check_near("adjoint of the bias", i, got[j * channels + i], prior + r.sum[i],
                       sum_bound(r.terms[i] + 1, r.absolute[i] + fabs(prior)));
        }
        reference_free(&r);
    }
    free(got);
}

static void check_case(role which, const layer_case *c)
{
    static const char *const names[] = {"value", "adjoint in the input", "adjoint in the weight"};
    operands o = make_operands(which, c);
    const int64_t count = o.result.m * o.result.count;
    double *got = NULL;

    run_kernel(which, c, 0, c->k, o.first.columns, o.second.columns, o.bias.columns, o.result.columns);
    got = operand_read(&o.result);
    for (int64_t j = 0; j < c->k; j++) {
        reference r = expected_column(which, c, &o, j);

        for (int64_t i = 0; i < count; i++) {
            check_near(names[which], i, got[j * count + i], r.sum[i], sum_bound(r.terms[i] + 1, r.absolute[i]));
        }
        reference_free(&r);
    }
    if (which == ADJOINT_WEIGHT) {
        check_bias_adjoint(c, &o);
    }
    free(got);
    free_operands(&o);
}

/* ---- tests ---- */

static void check_kernels(const hsgd_backend *b)
{
    (void)b;
    for (int64_t number = 0; number < CASES; number++) {
        const layer_case c = draw_case(number);

        for (role which = VALUE; which <= ADJOINT_WEIGHT; which++) {
            check_case(which, &c);
        }
    }
}

static void agree_with_plain_loops(void **state)
{
    (void)state;
    on_all_backends(check_kernels);
}

/* The shapes that matter most: MNIST's, with zeros as a pooled ReLU leaves them and with none. */
static void check_default_network(const hsgd_backend *b)
{
    const hsgd_layer layers[] = {conv_layer(1, 16, 28, 28, 5), conv_layer(16, 32, 14, 14, 5),
                                 linear_layer((hsgd_shape){32, 7, 7}, 10)};

    (void)b;
    for (int i = 0; i < 3; i++) {
        for (int64_t zeros = 0; zeros <= 7; zeros += 7) {
            const layer_case c = {.layer = layers[i], .m = 2, .k = 1, .zeros = zeros, .bias = true};

            for (role which = VALUE; which <= ADJOINT_WEIGHT; which++) {
                check_case(which, &c);
            }
        }
    }
}

static void agree_on_the_default_network(void **state)
{
    (void)state;
    on_all_backends(check_default_network);
}

/* Images narrower than a vector register, all but one entry in eight zero: what one row of a filter overshoots must not
 * reach the next. */
static void check_narrow_images(const hsgd_backend *b)
{
    (void)b;
    for (int64_t width = 3; width <= 12; width += 3) {
        for (int64_t channels = 1; channels <= 2; channels++) {
            const layer_case c = {.layer = conv_layer(channels, 9, 6, width, 5), .m = 3, .k = 2, .zeros = 7};

            for (role which = VALUE; which <= ADJOINT_WEIGHT; which++) {
                check_case(which, &c);
            }
        }
    }
}

static void agree_on_narrow_images(void **state)
{
    (void)state;
    on_all_backends(check_narrow_images);
}

/* The products of a Lanczos run must be those of the same vectors in any other company. */
static void check_columns_alone(const hsgd_backend *b)
{
    for (int64_t number = 0; number < CASES; number++) {
        const layer_case c = draw_case(number);

        for (role which = VALUE; which <= ADJOINT_WEIGHT; which++) {
            operands together = make_operands(which, &c), alone = together;
            const int64_t reals = c.k * together.result.stride;
            double *before = from_backend(together.result.columns.data, reals);

            alone.result.columns.data = to_backend(before, reals);
            alone.bias.columns.data = to_backend(operand_column(&together.bias, 0), together.bias.count);
            run_kernel(which, &c, 0, c.k, together.first.columns, together.second.columns, together.bias.columns,
                       together.result.columns);
            for (int64_t j = c.k - 1; j >= 0; j--) {
                run_kernel(
                    which, &c, b->workers - 1, 1, operand_at(&together.first, j), operand_at(&together.second, j),
                    which == VALUE ? operand_at(&together.bias, j) : alone.bias.columns, operand_at(&alone.result, j));
            }
            double *one = operand_read(&together.result), *other = operand_read(&alone.result);
            for (int64_t i = 0; i < c.k * together.result.m * together.result.count; i++) {
                check_near("a column alone, by another worker", i, other[i], one[i], 0.0);
            }
            free(one);
            free(other);
            free(before);
            release(alone.result.columns.data);
            release(alone.bias.columns.data);
            free_operands(&together);
        }
    }
}

static void give_each_column_the_same_bits_in_any_company(void **state)
{
    (void)state;
    on_all_backends(check_columns_alone);
}

/* Weights without biases: <y, W x> = <W' y, x> = <y x', W>, to the rounding of the sums. */
static void check_identities(const hsgd_backend *b)
{
    for (int64_t number = 0; number < CASES; number++) {
        layer_case c = draw_case(number);
        double pairing[3] = {0}, absolute = 0.0;
        operands o = {0};

        c.k = 1;
        c.add = c.bias = false;
        o = make_operands(ADJOINT_INPUT, &c);
        operand dx = o.result, x = operand_make(c.m, o.result.count, 1, false, o.x_order, 0);
        operand y = operand_make(c.m, o.first.count, 1, false, o.y_order, 0);
        operand dw = operand_make(1, c.layer.weight_count, 1, false, o.w_order, 8);
        run_kernel(VALUE, &c, 0, 1, x.columns, o.second.columns, o.bias.columns, y.columns);
        run_kernel(ADJOINT_INPUT, &c, 0, 1, o.first.columns, o.second.columns, o.bias.columns, dx.columns);
        run_kernel(ADJOINT_WEIGHT, &c, 0, 1, o.first.columns, x.columns, o.bias.columns, dw.columns);
        const operand *const results[] = {&y, &dx, &dw}, *const others[] = {&o.first, &x, &o.second};
        for (int i = 0; i < 3; i++) {
            double *got = operand_read(results[i]);

            for (int64_t e = 0; e < results[i]->m * results[i]->count; e++) {
                pairing[i] += got[e] * others[i]->canonical[e];
            }
            free(got);
        }
        reference r = reference_make(y.m * y.count);
        meet_all(VALUE, &r, &c.layer, c.m, x.canonical, o.second.canonical);
        int64_t terms = 1;
        for (int64_t e = 0; e < y.m * y.count; e++) {
            absolute += r.absolute[e] * fabs(o.first.canonical[e]);
            terms = terms > r.terms[e] ? terms : r.terms[e];
        }
        /* Each entry of a result sums at most so many terms; the pairing itself, in double, adds nothing to speak of. */
        terms = terms > c.m * elements(c.layer.out) ? terms : c.m * elements(c.layer.out);
        terms = terms > c.layer.weight_count ? terms : c.layer.weight_count;
        check_near("<W' y, x>", number, pairing[1], pairing[0], 2 * sum_bound(terms, absolute));
        check_near("<y x', W>", number, pairing[2], pairing[0], 2 * sum_bound(terms, absolute));
        reference_free(&r);
        operand_free(&x);
        operand_free(&y);
        operand_free(&dw);
        free_operands(&o);
    }
    (void)b;
}

static void are_adjoint_to_each_other(void **state)
{
    (void)state;
    on_all_backends(check_identities);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agree_with_plain_loops),    cmocka_unit_test(agree_on_the_default_network),
        cmocka_unit_test(agree_on_narrow_images),    cmocka_unit_test(give_each_column_the_same_bits_in_any_company),
        cmocka_unit_test(are_adjoint_to_each_other),
    };

    return test_run(tests);
}
