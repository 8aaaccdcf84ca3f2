/* tests/conformance/test_backend_layers.c - activations, pooling and the loss of every backend.
 * devices: cuda */
#include "operands.h"

enum { CASES = 20, LARGEST_GROUP = 10 };

static int64_t *no_order(int64_t count)
{
    return activation_order((hsgd_shape){count, 1, 1});
}

/* ---- ReLU and tanh ---- */

static void check_relu(const hsgd_backend *b)
{
    const double x[] = {-1.5, 0.0, 2.5, NAN, -0.0, 0x1p-100, -INFINITY, INFINITY};
    const double y[] = {0.0, 0.0, 2.5, NAN, 0.0, 0x1p-100, 0.0, INFINITY};
    enum { N = sizeof x / sizeof x[0] };
    void *memory = to_backend(x, N);
    hsgd_error err = {0};

    assert_ok(b->ops->relu_value(b->self, 0, N, memory, memory, &err));
    double *got = from_backend(memory, N);
    for (int i = 0; i < N; i++) {
        assert_true(isnan(y[i]) ? isnan(got[i]) : got[i] == y[i]);
    }
    free(got);
    release(memory);
}

static void relu_cuts_the_negative_and_keeps_nan(void **state)
{
    (void)state;
    on_all_backends(check_relu);
}

static void check_relu_derivative(const hsgd_backend *b)
{
    for (int64_t number = 0; number < CASES; number++) {
        const int64_t count = draw_between(1, 300), k = draw_between(1, 9);
        int64_t *order = no_order(count);
        operand y = operand_make(1, count, 1, true, order, 4);
        operand t = operand_make(1, count, k, draw_between(0, 1) == 1, order, 0);
        operand out = operand_make(1, count, k, false, order, 0);
        hsgd_error err = {0};

        assert_ok(b->ops->relu_derivative(b->self, 0, count, k, y.columns.data, t.columns, out.columns, &err));
        double *got = operand_read(&out);
        for (int64_t i = 0; i < k * count; i++) {
            check_near("derivative of relu", i, got[i],
                       y.canonical[i % count] > 0.0 ? operand_column(&t, i / count)[i % count] : 0.0, 0.0);
        }
        free(got);
        operand_free(&y);
        operand_free(&t);
        operand_free(&out);
        free(order);
    }
}

static void relu_passes_tangents_where_its_output_is_positive(void **state)
{
    (void)state;
    on_all_backends(check_relu_derivative);
}

static void check_tanh(const hsgd_backend *b)
{
    enum { N = 4003 };
    double *x = draw_reals(N, 1);
    hsgd_error err = {0};

    for (int64_t i = 0; i < N; i++) {
        x[i] = (double)(float)(x[i] * pow(10.0, (double)(i % 10) - 7.0)); /* from 1e-7 to 1e2 */
    }
    void *memory = to_backend(x, N);
    assert_ok(b->ops->tanh_value(b->self, 0, N, memory, memory, &err));
    double *got = from_backend(memory, N);
    for (int64_t i = 0; i < N; i++) { /* a series, a product, a sum, a sum and a quotient: five roundings, at most */
        check_near("tanh", i, got[i], tanh(x[i]), 5 * roundoff() * fabs(tanh(x[i])));
    }
    free(got);
    free(x);
    release(memory);
    double special[] = {NAN, INFINITY, -INFINITY, 0.0};
    memory = to_backend(special, 4);
    assert_ok(b->ops->tanh_value(b->self, 0, 4, memory, memory, &err));
    got = from_backend(memory, 4);
    assert_true(isnan(got[0]) && got[1] == 1.0 && got[2] == -1.0 && got[3] == 0.0);
    free(got);
    release(memory);
}

static void tanh_is_right_to_a_few_roundings(void **state)
{
    (void)state;
    on_all_backends(check_tanh);
}

static void check_tanh_derivatives(const hsgd_backend *b)
{
    for (int64_t number = 0; number < CASES; number++) {
        const int64_t count = draw_between(1, 300), k = draw_between(1, 9);
        int64_t *order = no_order(count);
        operand y = operand_make(1, count, 1, true, order, 1), dy = operand_make(1, count, 1, true, order, 1);
        operand t = operand_make(1, count, k, draw_between(0, 1) == 1, order, 0);
        operand first = operand_make(1, count, k, false, order, 0), second = operand_make(1, count, k, false, order, 0);
        hsgd_error err = {0};

        assert_ok(b->ops->tanh_derivative(b->self, 0, count, k, y.columns.data, t.columns, first.columns, &err));
        assert_ok(b->ops->tanh_second(b->self, 0, count, k, y.columns.data, t.columns, dy.columns.data, second.columns,
                                      &err));
        double *got = operand_read(&first), *got_second = operand_read(&second);
        for (int64_t i = 0; i < k * count; i++) {
            const double v = y.canonical[i % count], tangent = operand_column(&t, i / count)[i % count];
            const double prior = second.canonical[i], term = 2 * v * tangent * dy.canonical[i % count];

            /* 1 - y^2 may cancel: its error is relative to 1 and y^2, not to the difference */
            check_near("derivative of tanh", i, got[i], (1 - v * v) * tangent, sum_bound(3, 2 * fabs(tangent)));
            check_near("second derivative of tanh", i, got_second[i], prior - term,
                       sum_bound(4, fabs(prior) + fabs(term)));
        }
        free(got);
        free(got_second);
        operand_free(&y);
        operand_free(&dy);
        operand_free(&t);
        operand_free(&first);
        operand_free(&second);
        free(order);
    }
}

static void tanh_has_its_two_derivatives(void **state)
{
    (void)state;
    on_all_backends(check_tanh_derivatives);
}

/* ---- pooling ---- */

static hsgd_layer pool_layer(hsgd_layer_kind kind)
{
    const int64_t size = draw_between(1, 4);
    const hsgd_shape in = {draw_between(1, 33), draw_between(size, 15), draw_between(size, 15)};

    return (hsgd_layer){.kind = kind, .size = size, .in = in, .out = {in.channels, in.height / size, in.width / size}};
}

/* The canonical place in a sample's input that `place` of the window of output entry i is. */
static int64_t pooled_from(const hsgd_layer *layer, int64_t i, int64_t place)
{
    const int64_t x = i % layer->out.width, y = i / layer->out.width % layer->out.height;
    const int64_t c = i / (layer->out.width * layer->out.height);

    return (c * layer->in.height + y * layer->size + place / layer->size) * layer->in.width + x * layer->size +
           place % layer->size;
}

/* The place of the largest entry of output i's window, the first of equals. */
static int64_t first_largest(const hsgd_layer *layer, const double *sample, int64_t i)
{
    int64_t best = 0;

    for (int64_t place = 1; place < layer->size * layer->size; place++) {
        if (sample[pooled_from(layer, i, place)] > sample[pooled_from(layer, i, best)]) {
            best = place;
        }
    }
    return best;
}

/* Value, tangents and adjoints of a max-pooling are copies: equal without tolerance. */
static void check_maxpool_case(const hsgd_backend *b, const hsgd_layer *layer, int64_t m, int64_t k)
{
    const int64_t in = elements(layer->in), out = elements(layer->out);
    int64_t *in_order = activation_order(layer->in), *out_order = activation_order(layer->out);
    operand x = operand_make(m, in, 1, true, in_order, 6); /* mostly zero: ties in nearly every window */
    operand y = operand_make(m, out, 1, true, out_order, 0);
    operand tx = operand_make(m, in, k, false, in_order, 0), ty = operand_make(m, out, k, false, out_order, 0);
    operand u = operand_make(m, out, k, draw_between(0, 1) == 1, out_order, 0);
    operand dx = operand_make(m, in, k, false, in_order, 0);
    void *choice = NULL;
    hsgd_error err = {0};
    double *expected = calloc((size_t)(m * k * in), sizeof *expected);

    assert_non_null(expected);
    assert_ok(b->ops->alloc(b->self, (size_t)(m * out) * sizeof(int32_t), &choice, &err));
    assert_ok(b->ops->maxpool_value(b->self, 0, layer, m, x.columns.data, y.columns.data, choice, &err));
    assert_ok(b->ops->maxpool_tangent(b->self, 0, layer, m, k, choice, tx.columns, ty.columns, &err));
    assert_ok(b->ops->maxpool_adjoint(b->self, 0, layer, m, k, choice, u.columns, dx.columns, &err));
    double *value = operand_read(&y), *tangent = operand_read(&ty), *adjoint = operand_read(&dx);
    for (int64_t i = 0; i < m * out; i++) {
        const int64_t s = i / out, o = i % out;
        const int64_t from = s * in + pooled_from(layer, o, first_largest(layer, x.canonical + s * in, o));

        check_near("maxpool", i, value[i], x.canonical[from], 0.0);
        for (int64_t j = 0; j < k; j++) {
            check_near("tangent of maxpool", i, tangent[j * m * out + i], operand_column(&tx, j)[from], 0.0);
            expected[j * m * in + from] = operand_column(&u, j)[i];
        }
    }
    for (int64_t i = 0; i < k * m * in; i++) {
        check_near("adjoint of maxpool", i, adjoint[i], expected[i], 0.0);
    }
    free(expected);
    free(value);
    free(tangent);
    free(adjoint);
    release(choice);
    operand *const all[] = {&x, &y, &tx, &ty, &u, &dx};
    for (int i = 0; i < 6; i++) {
        operand_free(all[i]);
    }
    free(in_order);
    free(out_order);
}

static void check_maxpool(const hsgd_backend *b)
{
    for (int64_t number = 0; number < CASES; number++) {
        const hsgd_layer layer = pool_layer(HSGD_LAYER_MAXPOOL);

        check_maxpool_case(b, &layer, draw_between(1, LARGEST_GROUP), draw_between(1, 5));
    }
}

static void maxpool_takes_the_first_of_equals_in_all_three_kernels(void **state)
{
    (void)state;
    on_all_backends(check_maxpool);
}

static void check_maxpool_nan(const hsgd_backend *b)
{
    const hsgd_layer layer = {.kind = HSGD_LAYER_MAXPOOL, .size = 2, .in = {1, 2, 2}, .out = {1, 1, 1}};
    hsgd_error err = {0};

    for (int at = 0; at < 4; at++) {
        double x[4] = {1.0, 2.0, 3.0, 4.0}, zero[1] = {0.0};

        x[at] = NAN;
        void *from = to_backend(x, 4), *to = to_backend(zero, 1), *choice = to_backend(zero, 1);
        assert_ok(b->ops->maxpool_value(b->self, 0, &layer, 1, from, to, choice, &err));
        double *got = from_backend(to, 1);
        assert_true(isnan(got[0]));
        free(got);
        release(from);
        release(to);
        release(choice);
    }
}

static void maxpool_does_not_hide_nan(void **state)
{
    (void)state;
    on_all_backends(check_maxpool_nan);
}

static void check_avgpool_case(const hsgd_backend *b, const hsgd_layer *layer, int64_t m, int64_t k)
{
    const int64_t in = elements(layer->in), out = elements(layer->out), window = layer->size * layer->size;
    int64_t *in_order = activation_order(layer->in), *out_order = activation_order(layer->out);
    operand x = operand_make(m, in, k, false, in_order, 0), y = operand_make(m, out, k, false, out_order, 0);
    operand u = operand_make(m, out, k, false, out_order, 0), dx = operand_make(m, in, k, false, in_order, 0);
    double *expected = calloc((size_t)(k * m * in), sizeof *expected);
    hsgd_error err = {0};

    assert_non_null(expected);
    assert_ok(b->ops->avgpool_value(b->self, 0, layer, m, k, x.columns, y.columns, &err));
    assert_ok(b->ops->avgpool_adjoint(b->self, 0, layer, m, k, u.columns, dx.columns, &err));
    double *value = operand_read(&y), *adjoint = operand_read(&dx);
    for (int64_t i = 0; i < k * m * out; i++) {
        double sum = 0.0, absolute = 0.0;

        for (int64_t place = 0; place < window; place++) {
            const int64_t from = i / out * in + pooled_from(layer, i % out, place);

            sum += x.canonical[from] / (double)window;
            absolute += fabs(x.canonical[from]) / (double)window;
            expected[from] = u.canonical[i] / (double)window;
        }
        check_near("avgpool", i, value[i], sum, sum_bound(window + 2, absolute));
    }
    for (int64_t i = 0; i < k * m * in; i++) {
        check_near("adjoint of avgpool", i, adjoint[i], expected[i], sum_bound(2, fabs(expected[i])));
    }
    free(expected);
    free(value);
    free(adjoint);
    operand_free(&x);
    operand_free(&y);
    operand_free(&u);
    operand_free(&dx);
    free(in_order);
    free(out_order);
}

static void check_avgpool(const hsgd_backend *b)
{
    for (int64_t number = 0; number < CASES; number++) {
        const hsgd_layer layer = pool_layer(HSGD_LAYER_AVGPOOL);

        check_avgpool_case(b, &layer, draw_between(1, LARGEST_GROUP), draw_between(1, 5));
    }
}

static void avgpool_shares_alike(void **state)
{
    (void)state;
    on_all_backends(check_avgpool);
}

/* ---- the loss ---- */

enum { CLASSES = 10, SAMPLES = 4 };

/* exp and the sums are done in double whatever the precision, so the loss differs from the reference by the rounding of
 * a few operations in double; its terms are below 100, as the logits are. */
static void check_loss(const hsgd_backend *b)
{
    static const int64_t index[SAMPLES] = {3, 0, 2, 1};
    static const uint8_t labels[SAMPLES] = {9, 4, 0, 7};
    double *z = draw_reals(SAMPLES * CLASSES, 0), zero[SAMPLES * CLASSES] = {0}, expected = 0.0;
    int64_t confusion[CLASSES * CLASSES] = {0}, correct = 0;
    double tally[HSGD_TALLIES_OF_LOSS] = {-1.0, -1.0};
    hsgd_error err = {0};

    z[1] = 40.0; /* a wide spread, and a tie for the largest */
    z[5] = 40.0;
    void *logits = to_backend(z, SAMPLES * CLASSES), *p = to_backend(zero, SAMPLES * CLASSES);
    void *delta = to_backend(zero, SAMPLES * CLASSES);
    void *indices = put_bytes(index, sizeof index), *counts = put_bytes(confusion, sizeof confusion);
    void *sums = put_bytes(tally, sizeof tally);
    const void *held = hold(labels, sizeof labels);
    for (int round = 1; round <= 2; round++) { /* the tally is overwritten, the confusion added to */
        assert_ok(
            b->ops->softmax_loss(b->self, 0, SAMPLES, CLASSES, logits, held, indices, p, delta, sums, counts, &err));
    }
    get_bytes(sums, tally, sizeof tally);
    get_bytes(counts, confusion, sizeof confusion);
    double *soft = from_backend(p, SAMPLES * CLASSES), *adjoint = from_backend(delta, SAMPLES * CLASSES);
    for (int64_t s = 0; s < SAMPLES; s++) {
        const int64_t label = labels[index[s]];
        int64_t best = 0;
        double sum = 0.0;

        for (int64_t c = 0; c < CLASSES; c++) {
            sum += exp(z[s * CLASSES + c]);
            best = z[s * CLASSES + c] > z[s * CLASSES + best] ? c : best;
        }
        for (int64_t c = 0; c < CLASSES; c++) {
            const double share = exp(z[s * CLASSES + c]) / sum;

            check_near("softmax", s * CLASSES + c, soft[s * CLASSES + c], share, sum_bound(CLASSES + 4, share));
            check_near("its delta", s * CLASSES + c, adjoint[s * CLASSES + c], share - (c == label ? 1.0 : 0.0),
                       sum_bound(CLASSES + 4, 1.0));
        }
        expected += log(sum) - z[s * CLASSES + label];
        correct += best == label;
        assert_int_equal(confusion[label * CLASSES + best], 2);
    }
    check_near("loss", 0, tally[HSGD_TALLY_LOSS], expected, 100.0 * (CLASSES + 4) * DBL_EPSILON);
    assert_true(tally[HSGD_TALLY_CORRECT] == (double)correct);
    let_go(labels);
    release(indices);
    release(counts);
    release(sums);
    free(soft);
    free(adjoint);
    free(z);
    release(logits);
    release(p);
    release(delta);
}

static void softmax_loss_is_the_cross_entropy_in_double(void **state)
{
    (void)state;
    on_all_backends(check_loss);
}

typedef struct {
    double loss;
    int correct;
} sample_loss;

/* The loss of one sample with label 1 and these logits. */
static sample_loss loss_of(const hsgd_backend *b, const double z[3])
{
    static const uint8_t labels[] = {1};
    static const int64_t index[] = {0};
    void *logits = to_backend(z, 3), *p = to_backend(z, 3), *delta = to_backend(z, 3);
    double tally[HSGD_TALLIES_OF_LOSS] = {0};
    void *indices = put_bytes(index, sizeof index), *sums = put_bytes(tally, sizeof tally);
    hsgd_error err = {0};

    assert_ok(b->ops->softmax_loss(b->self, 0, 1, 3, logits, hold(labels, sizeof labels), indices, p, delta, sums, NULL,
                                   &err));
    get_bytes(sums, tally, sizeof tally);
    let_go(labels);
    release(indices);
    release(sums);
    release(logits);
    release(p);
    release(delta);
    return (sample_loss){tally[HSGD_TALLY_LOSS], (int)tally[HSGD_TALLY_CORRECT]};
}

static void check_loss_extremes(const hsgd_backend *b)
{
    assert_int_equal(loss_of(b, (double[]){2.0, 2.0, 1.0}).correct, 0); /* a tie: the lower index is the prediction */
    assert_int_equal(loss_of(b, (double[]){1.0, 2.0, 2.0}).correct, 1);
    check_near("loss of far-off logits", 0, loss_of(b, (double[]){30000.0, -30000.0, 0.0}).loss, 60000.0, 1e-9);
    check_near("loss of a sure prediction", 0, loss_of(b, (double[]){-800.0, 800.0, 0.0}).loss, 0.0, 0.0);
    for (int at = 0; at < 3; at++) {
        double z[3] = {0.5, 0.25, 0.125};

        z[at] = NAN;
        assert_true(isnan(loss_of(b, z).loss));
        z[at] = INFINITY;
        assert_true(isnan(loss_of(b, z).loss));
    }
}

static void softmax_loss_neither_overflows_nor_hides_nan(void **state)
{
    (void)state;
    on_all_backends(check_loss_extremes);
}

static void check_softmax_tangent(const hsgd_backend *b)
{
    enum { COLUMNS = 3, COUNT = SAMPLES * CLASSES };
    int64_t *order = no_order(COUNT);
    operand p = operand_make(1, COUNT, 1, true, order, 0), tz = operand_make(1, COUNT, COLUMNS, false, order, 0);
    operand tdelta = operand_make(1, COUNT, COLUMNS, false, order, 0);
    hsgd_error err = {0};

    assert_ok(b->ops->softmax_tangent(b->self, 0, SAMPLES, CLASSES, COLUMNS, p.columns.data, tz.columns, tdelta.columns,
                                      &err));
    double *got = operand_read(&tdelta);
    for (int64_t i = 0; i < COLUMNS * COUNT; i++) {
        const double *soft = p.canonical + i % COUNT / CLASSES * CLASSES;
        const double *t = tz.canonical + i / CLASSES * CLASSES;
        double mean = 0.0, absolute = fabs(tz.canonical[i]);

        for (int64_t c = 0; c < CLASSES; c++) {
            mean += soft[c] * t[c];
            absolute += fabs(soft[c] * t[c]);
        }
        check_near("tangent of softmax", i, got[i], soft[i % CLASSES] * (tz.canonical[i] - mean),
                   sum_bound(CLASSES + 3, fabs(soft[i % CLASSES]) * absolute));
    }
    free(got);
    operand_free(&p);
    operand_free(&tz);
    operand_free(&tdelta);
    free(order);
}

static void softmax_tangent_is_its_jacobian(void **state)
{
    (void)state;
    on_all_backends(check_softmax_tangent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relu_cuts_the_negative_and_keeps_nan),
        cmocka_unit_test(relu_passes_tangents_where_its_output_is_positive),
        cmocka_unit_test(tanh_is_right_to_a_few_roundings),
        cmocka_unit_test(tanh_has_its_two_derivatives),
        cmocka_unit_test(maxpool_takes_the_first_of_equals_in_all_three_kernels),
        cmocka_unit_test(maxpool_does_not_hide_nan),
        cmocka_unit_test(avgpool_shares_alike),
        cmocka_unit_test(softmax_loss_is_the_cross_entropy_in_double),
        cmocka_unit_test(softmax_loss_neither_overflows_nor_hides_nan),
        cmocka_unit_test(softmax_tangent_is_its_jacobian),
    };

    return test_run(tests);
}
