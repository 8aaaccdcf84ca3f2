/* tests/cuda/test_affine.c - convolutions and linear layers by cuDNN and cuBLAS, against plain loops: shapes, strides of
 * columns, shared columns, adding, biases.  Operands are such that every result is exact. */
#include "fixture.h"

/* Input entry (s, c, y, x) of a layer's sample; 0 outside: the padding. */
static int64_t place(hsgd_shape shape, int64_t s, int64_t c, int64_t y, int64_t x)
{
    return ((s * shape.channels + c) * shape.height + y) * shape.width + x;
}

/* Call visit for each product (input entry, weight entry, output entry) of the layer. */
typedef void (*visitor)(double *x, double *w, double *y);

static void each_product(const hsgd_layer *l, int64_t m, double *x, double *w, double *y, visitor visit)
{
    const int64_t edge = l->kind == HSGD_LAYER_CONV ? l->size : 1, half = edge / 2;

    for (int64_t i = 0; i < m * l->out.channels * l->out.height * l->out.width; i++) {
        const int64_t q = i % l->out.width, p = i / l->out.width % l->out.height;
        const int64_t o = i / (l->out.width * l->out.height) % l->out.channels;
        const int64_t s = i / (l->out.width * l->out.height * l->out.channels);

        for (int64_t t = 0; t < l->in.channels * edge * edge; t++) {
            const int64_t c = t / (edge * edge), r = p + t / edge % edge - half, v = q + t % edge - half;

            if (r >= 0 && r < l->in.height && v >= 0 && v < l->in.width) {
                visit(&x[place(l->in, s, c, r, v)], &w[o * l->in.channels * edge * edge + t], &y[i]);
            }
        }
    }
}

static void value(double *x, double *w, double *y)
{
    *y += *x * *w;
}
static void adjoint_input(double *x, double *w, double *y)
{
    *x += *w * *y;
}
static void adjoint_weight(double *x, double *w, double *y)
{
    *w += *x * *y;
}

static void clear(operand *a, bool add)
{
    for (int64_t i = 0; i < operand_size(a) && !add; i++) {
        a->host[i] = i % a->stride < a->count ? 0.0 : guard;
    }
}

static int64_t count_of(hsgd_shape s)
{
    return s.channels * s.height * s.width;
}

/* sign: +1, y += b; or db += y. */
static void bias(const hsgd_layer *l, int64_t m, double *y, double *b, bool gradient)
{
    const int64_t places = l->out.height * l->out.width;

    for (int64_t i = 0; i < m * count_of(l->out); i++) {
        if (gradient) {
            b[i / places % l->out.channels] += y[i];
        } else {
            y[i] += b[i / places % l->out.channels];
        }
    }
}

typedef struct {
    int64_t m, k;
    bool x_shared, w_shared, add, biased;
} variant;

static const variant variants[] = {
    {1, 1, false, false, false, true}, {3, 2, true, false, true, true}, {4, 3, false, true, false, false},
    {2, 4, false, false, true, false}, {5, 1, true, true, false, true},
};

static void check_variant(const fixture *f, const hsgd_layer *l, const variant *v)
{
    const hsgd_backend *b = f->backend;
    operand x = operand_make(f, v->m * count_of(l->in), v->k, v->x_shared);
    operand w = operand_make(f, l->weight_count, v->k, v->w_shared);
    operand y = operand_make(f, v->m * count_of(l->out), v->k, false);
    operand c = operand_make(f, l->bias_count, v->k, false);
    operand dx = operand_make(f, v->m * count_of(l->in), v->k, false);
    operand dw = operand_make(f, l->weight_count, v->k, false);
    const hsgd_columns none = {NULL, 0};
    hsgd_error err = {0};

    assert_ok(b->ops->affine_value(b->self, 0, l, v->m, v->k, x.columns, w.columns, v->biased ? c.columns : none,
                                   y.columns, v->add, &err));
    clear(&y, v->add);
    for (int64_t j = 0; j < v->k; j++) {
        each_product(l, v->m, operand_at(&x, j), operand_at(&w, j), operand_at(&y, j), value);
        if (v->biased) {
            bias(l, v->m, operand_at(&y, j), operand_at(&c, j), false);
        }
    }
    operand_check(f, &y, "value");

    assert_ok(b->ops->affine_adjoint_input(b->self, 0, l, v->m, v->k, y.columns, w.columns, dx.columns, v->add, &err));
    clear(&dx, v->add);
    for (int64_t j = 0; j < v->k; j++) {
        each_product(l, v->m, operand_at(&dx, j), operand_at(&w, j), operand_at(&y, j), adjoint_input);
    }
    operand_check(f, &dx, "adjoint in the input");

    assert_ok(b->ops->affine_adjoint_weight(b->self, 0, l, v->m, v->k, y.columns, x.columns, dw.columns,
                                            v->biased ? c.columns : none, &err));
    for (int64_t j = 0; j < v->k; j++) {
        each_product(l, v->m, operand_at(&x, j), operand_at(&dw, j), operand_at(&y, j), adjoint_weight);
        if (v->biased) {
            bias(l, v->m, operand_at(&y, j), operand_at(&c, j), true);
        }
    }
    operand_check(f, &dw, "adjoint in the weight");
    operand_check(f, &c, "adjoint in the bias");
    operand_free(f, &x);
    operand_free(f, &w);
    operand_free(f, &y);
    operand_free(f, &c);
    operand_free(f, &dx);
    operand_free(f, &dw);
}

static hsgd_layer conv(int64_t in, int64_t out, int64_t height, int64_t width, int64_t size)
{
    return (hsgd_layer){.kind = HSGD_LAYER_CONV,
                        .in = {in, height, width},
                        .out = {out, height, width},
                        .size = size,
                        .name = "conv1",
                        .weight_count = out * in * size * size,
                        .bias_count = out};
}

static hsgd_layer linear(int64_t in, int64_t out)
{
    return (hsgd_layer){.kind = HSGD_LAYER_LINEAR,
                        .in = {in, 1, 1},
                        .out = {out, 1, 1},
                        .unflat = {in, 1, 1},
                        .name = "linear1",
                        .weight_count = out * in,
                        .bias_count = out};
}

static void check_layers(const hsgd_layer *layers, int count)
{
    for (hsgd_precision p = HSGD_SINGLE; p <= HSGD_DOUBLE; p++) {
        fixture f = fixture_make(p, false);

        for (int i = 0; i < count; i++) {
            for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
                check_variant(&f, &layers[i], &variants[v]);
            }
        }
        fixture_end(&f);
    }
}

static void convolutions_are_those_of_plain_loops(void **state)
{
    const hsgd_layer layers[] = {conv(1, 2, 5, 4, 3), conv(3, 2, 2, 3, 5), conv(2, 3, 4, 4, 1)};

    (void)state;
    check_layers(layers, 3);
}

static void linear_layers_are_those_of_plain_loops(void **state)
{
    const hsgd_layer layers[] = {linear(7, 3), linear(1, 4), linear(5, 1)};

    (void)state;
    check_layers(layers, 3);
}

static void no_samples_and_no_columns_are_no_work(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_layer layers[] = {conv(1, 2, 5, 4, 3), linear(3, 2)};
    const hsgd_columns none = {NULL, 0};
    const hsgd_backend *b = f.backend;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        for (int64_t m = 0; m < 2; m++) {
            const hsgd_layer *l = &layers[i];

            assert_ok(b->ops->affine_value(b->self, 0, l, m, 1 - m, none, none, none, none, false, &err));
            assert_ok(b->ops->affine_adjoint_input(b->self, 0, l, m, 1 - m, none, none, none, false, &err));
            assert_ok(b->ops->affine_adjoint_weight(b->self, 0, l, m, 1 - m, none, none, none, none, &err));
        }
    }
    fixture_end(&f);
}

/* 1 + 2^-12 is a float but no TF32. */
static double product_of_floats(const hsgd_layer *l, bool tf32)
{
    fixture f = fixture_make(HSGD_SINGLE, tf32);
    const float x = 1.0f + 0x1p-12f, one = 1.0f;
    const hsgd_backend *b = f.backend;
    void *memory = NULL;
    float y = 0.0f;
    hsgd_error err = {0};

    assert_ok(b->ops->alloc(b->self, 192, &memory, &err));
    assert_ok(b->ops->upload(b->self, sizeof x, &x, memory, &err));
    assert_ok(b->ops->upload(b->self, sizeof one, &one, (char *)memory + 64, &err));
    assert_ok(b->ops->affine_value(b->self, 0, l, 1, 1, (hsgd_columns){memory, 0},
                                   (hsgd_columns){(char *)memory + 64, 0}, (hsgd_columns){NULL, 0},
                                   (hsgd_columns){(char *)memory + 128, 0}, false, &err));
    assert_ok(b->ops->download(b->self, sizeof y, (char *)memory + 128, &y, &err));
    b->ops->release(b->self, memory);
    fixture_end(&f);
    return (double)y;
}

static void floats_are_shortened_only_where_tf32_is_asked_for(void **state)
{
    const hsgd_layer layers[] = {conv(1, 1, 1, 1, 1), linear(1, 1)};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(product_of_floats(&layers[i], false) == 1.0 + 0x1p-12);
        assert_true(product_of_floats(&layers[i], true) == 1.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_those_of_plain_loops),
        cmocka_unit_test(linear_layers_are_those_of_plain_loops),
        cmocka_unit_test(no_samples_and_no_columns_are_no_work),
        cmocka_unit_test(floats_are_shortened_only_where_tf32_is_asked_for),
    };
    return test_run(tests);
}
