/* tests/cuda/test_pool.c - pooling against plain loops: ties, NaN, and images whose last pixels no window covers. */
#include "device.h"

static const struct {
    int64_t m, channels, height, width, size, k;
} cases[] = {
    {1, 1, 2, 2, 2, 1},   {3, 2, 8, 8, 2, 2},   {2, 3, 7, 9, 2, 3},
    {5, 1, 11, 10, 3, 4}, {1, 4, 28, 28, 2, 5}, {40, 2, 5, 4, 4, 2},
};

enum { CASES = sizeof cases / sizeof *cases };

static hsgd_layer layer_of(int c)
{
    return (hsgd_layer){
        .in = {cases[c].channels, cases[c].height, cases[c].width},
        .out = {cases[c].channels, cases[c].height / cases[c].size, cases[c].width / cases[c].size},
        .size = cases[c].size,
    };
}

/* Where place `place` of output i's window is in the input; i over all samples and channels. */
static int64_t input_of(const hsgd_layer *l, int64_t i, int64_t place)
{
    const int64_t plane = i / (l->out.height * l->out.width), q = i % (l->out.height * l->out.width);
    const int64_t y = q / l->out.width * l->size + place / l->size, x = q % l->out.width * l->size + place % l->size;

    return (plane * l->in.height + y) * l->in.width + x;
}

static void max_value(fixture *f, int c)
{
    const hsgd_layer l = layer_of(c);
    const int64_t in = cases[c].m * l.in.channels * l.in.height * l.in.width;
    const int64_t out = cases[c].m * l.out.channels * l.out.height * l.out.width;
    double *x = numbers(f, in, 1), *y = room(f, out);
    int32_t *choice = (int32_t *)room(f, out);
    void *to = put(f, out, y);
    void *chosen = put_bytes(f, (size_t)out * sizeof *choice, choice);

    for (int64_t i = 0; i < in; i++) {
        x[i] = i % 13 == 5 ? NAN : round(x[i]); /* so coarse that there are ties */
    }
    for (int64_t i = 0; i < out; i++) {
        y[i] = x[input_of(&l, i, 0)];
        for (int32_t place = 0; place < l.size * l.size; place++) {
            const double candidate = x[input_of(&l, i, place)];

            if (candidate > y[i] || isnan(candidate)) {
                y[i] = candidate;
                choice[i] = place;
            }
        }
    }
    launched(hsgd_cuda_maxpool_value(f->stream, f->p, &l, cases[c].m, put(f, in, x), to, chosen));
    check(f, to, out, y, 0.0, 1.0);
    check_bytes(f, chosen, (size_t)out * sizeof *choice, choice);
}

static void max_derivatives(fixture *f, int c, bool shared)
{
    const hsgd_layer l = layer_of(c);
    const int64_t m = cases[c].m, k = cases[c].k;
    const int64_t in = m * l.in.channels * l.in.height * l.in.width;
    const int64_t out = m * l.out.channels * l.out.height * l.out.width;
    const double *tx = numbers(f, in * k, 2), *dy = numbers(f, out * k, 3);
    double *ty = room(f, out * k), *dx = room(f, in * k), *junk = numbers(f, in * k, 4);
    int32_t *choice = (int32_t *)room(f, out);
    const hsgd_columns tangent = put_columns(f, out, k, ty, false), adjoint = put_columns(f, in, k, junk, false);

    for (int64_t i = 0; i < out; i++) {
        choice[i] = (int32_t)((i * 7 + i / 5) % (l.size * l.size));
        for (int64_t j = 0; j < k; j++) {
            ty[j * out + i] = tx[(shared ? 0 : j * in) + input_of(&l, i, choice[i])];
            dx[j * in + input_of(&l, i, choice[i])] = dy[(shared ? 0 : j * out) + i];
        }
    }
    {
        const int32_t *chosen = put_bytes(f, (size_t)out * sizeof *choice, choice);

        launched(
            hsgd_cuda_maxpool_tangent(f->stream, f->p, &l, m, k, chosen, put_columns(f, in, k, tx, shared), tangent));
        launched(
            hsgd_cuda_maxpool_adjoint(f->stream, f->p, &l, m, k, chosen, put_columns(f, out, k, dy, shared), adjoint));
    }
    check(f, tangent.data, out * k, ty, 0.0, 1.0);
    check(f, adjoint.data, in * k, dx, 0.0, 1.0);
}

static void average(fixture *f, int c, bool shared)
{
    const hsgd_layer l = layer_of(c);
    const int64_t m = cases[c].m, k = cases[c].k, places = l.size * l.size;
    const int64_t in = m * l.in.channels * l.in.height * l.in.width;
    const int64_t out = m * l.out.channels * l.out.height * l.out.width;
    const double *x = numbers(f, in * k, 5), *dy = numbers(f, out * k, 6);
    double *y = room(f, out * k), *dx = room(f, in * k), *junk = numbers(f, in * k, 7);
    const hsgd_columns value = put_columns(f, out, k, y, false), adjoint = put_columns(f, in, k, junk, false);

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < out; i++) {
            for (int64_t place = 0; place < places; place++) {
                const int64_t from = input_of(&l, i, place);

                y[j * out + i] += x[(shared ? 0 : j * in) + from] / (double)places;
                dx[j * in + from] = dy[(shared ? 0 : j * out) + i] / (double)places;
            }
        }
    }
    launched(hsgd_cuda_avgpool_value(f->stream, f->p, &l, m, k, put_columns(f, in, k, x, shared), value));
    launched(hsgd_cuda_avgpool_adjoint(f->stream, f->p, &l, m, k, put_columns(f, out, k, dy, shared), adjoint));
    check(f, value.data, out * k, y, 8.0, 2.0);
    check(f, adjoint.data, in * k, dx, 2.0, 2.0);
}

static void max_value_body(fixture *f)
{
    for (int c = 0; c < CASES; c++) {
        max_value(f, c);
    }
}

static void max_derivatives_body(fixture *f)
{
    for (int c = 0; c < CASES; c++) {
        max_derivatives(f, c, c % 2 == 1);
    }
}

static void average_body(fixture *f)
{
    for (int c = 0; c < CASES; c++) {
        average(f, c, c % 2 == 1);
    }
}

static void nothing_body(fixture *f)
{
    const hsgd_layer l = layer_of(0);
    const hsgd_columns none = {NULL, 0};

    launched(hsgd_cuda_maxpool_value(f->stream, f->p, &l, 0, NULL, NULL, NULL));
    launched(hsgd_cuda_maxpool_tangent(f->stream, f->p, &l, 1, 0, NULL, none, none));
    launched(hsgd_cuda_maxpool_adjoint(f->stream, f->p, &l, 0, 1, NULL, none, none));
    launched(hsgd_cuda_avgpool_value(f->stream, f->p, &l, 0, 1, none, none));
    launched(hsgd_cuda_avgpool_adjoint(f->stream, f->p, &l, 1, 0, none, none));
    launched(cudaGetLastError());
}

static void the_first_of_equals_and_any_nan_win(void **state)
{
    (void)state;
    in_every_order(max_value_body);
}

static void derivatives_follow_the_choice(void **state)
{
    (void)state;
    in_every_order(max_derivatives_body);
}

static void averages_and_their_adjoints_are_right(void **state)
{
    (void)state;
    in_every_order(average_body);
}

static void nothing_to_do_is_no_error(void **state)
{
    (void)state;
    in_every_order(nothing_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_of_equals_and_any_nan_win),
        cmocka_unit_test(derivatives_follow_the_choice),
        cmocka_unit_test(averages_and_their_adjoints_are_right),
        cmocka_unit_test(nothing_to_do_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
