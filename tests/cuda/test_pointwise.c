/* tests/cuda/test_pointwise.c - ReLU and tanh against plain loops. */
#include "device.h"

static const int64_t sizes[] = {1, 31, 257, 1000};

/* x with what is special among the first entries. */
static double *inputs(fixture *f, int64_t count, uint64_t seed)
{
    static const double special[] = {0.0, -0.0, NAN, INFINITY, -INFINITY, 1e-30, -1e-30};
    double *x = numbers(f, count, seed);

    for (int64_t i = 0; i < count && i < (int64_t)(sizeof special / sizeof *special); i++) {
        x[i] = special[i];
    }
    return x;
}

static void values(fixture *f, int64_t count, bool in_place)
{
    const double *x = inputs(f, count, 1);
    double *relu = room(f, count), *tanhs = room(f, count);
    void *in = put(f, count, x), *in2 = put(f, count, x);
    void *y = in_place ? in : put(f, count, relu), *y2 = in_place ? in2 : put(f, count, relu);

    for (int64_t i = 0; i < count; i++) {
        const double rounded = f->p == HSGD_SINGLE ? (double)(float)x[i] : x[i];

        relu[i] = x[i] <= 0.0 ? 0.0 : rounded;
        tanhs[i] = tanh(rounded);
    }
    launched(hsgd_cuda_relu_value(f->stream, f->p, count, in, y));
    launched(hsgd_cuda_tanh_value(f->stream, f->p, count, in2, y2));
    check(f, y, count, relu, 0.0, 1.0);
    check(f, y2, count, tanhs, 4.0, 1.0);
}

static void values_body(fixture *f)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        values(f, sizes[i], false);
        values(f, sizes[i], true);
    }
}

static void derivatives(fixture *f, int64_t count, int64_t k, bool shared)
{
    const double *y = inputs(f, count, 2), *t = numbers(f, count * k, 3);
    double *relu = room(f, count * k), *tanhs = room(f, count * k);
    void *value = put(f, count, y);
    const hsgd_columns from = put_columns(f, count, k, t, shared);
    const hsgd_columns to = put_columns(f, count, k, relu, false), to2 = put_columns(f, count, k, relu, false);

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < count; i++) {
            const double own = t[(shared ? 0 : j) * count + i];

            relu[j * count + i] = y[i] > 0.0 ? own : 0.0;
            tanhs[j * count + i] = (1.0 - y[i] * y[i]) * own;
        }
    }
    launched(hsgd_cuda_relu_derivative(f->stream, f->p, count, k, value, from, to));
    launched(hsgd_cuda_tanh_derivative(f->stream, f->p, count, k, value, from, to2));
    check(f, to.data, count * k, relu, 0.0, 1.0);
    check(f, to2.data, count * k, tanhs, 8.0, 8.0);
    if (!shared) { /* in place */
        launched(hsgd_cuda_relu_derivative(f->stream, f->p, count, k, value, from, from));
        check(f, from.data, count * k, relu, 0.0, 1.0);
    }
}

static void derivatives_body(fixture *f)
{
    for (int64_t k = 1; k <= 5; k++) {
        derivatives(f, 259, k, k % 2 == 0);
    }
    derivatives(f, 1, 3, false);
}

static void second(fixture *f, int64_t count, int64_t k, bool shared)
{
    const double *y = numbers(f, count, 4), *ty = numbers(f, count * k, 5), *dy = numbers(f, count, 6);
    double *dx = numbers(f, count * k, 7);
    void *value = put(f, count, y), *adjoint = put(f, count, dy);
    const hsgd_columns tangent = put_columns(f, count, k, ty, shared), to = put_columns(f, count, k, dx, false);

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < count; i++) {
            dx[j * count + i] -= 2.0 * y[i] * ty[(shared ? 0 : j) * count + i] * dy[i];
        }
    }
    launched(hsgd_cuda_tanh_second(f->stream, f->p, count, k, value, tangent, adjoint, to));
    check(f, to.data, count * k, dx, 8.0, 16.0);
}

static void second_body(fixture *f)
{
    for (int64_t k = 1; k <= 5; k++) {
        second(f, 300, k, k == 3);
    }
}

static void nothing_body(fixture *f)
{
    const hsgd_columns none = {NULL, 0};

    launched(hsgd_cuda_relu_value(f->stream, f->p, 0, NULL, NULL));
    launched(hsgd_cuda_tanh_value(f->stream, f->p, 0, NULL, NULL));
    launched(hsgd_cuda_relu_derivative(f->stream, f->p, 0, 3, NULL, none, none));
    launched(hsgd_cuda_tanh_derivative(f->stream, f->p, 3, 0, NULL, none, none));
    launched(hsgd_cuda_tanh_second(f->stream, f->p, 0, 1, NULL, none, NULL, none));
    launched(cudaGetLastError());
}

static void values_are_right(void **state)
{
    (void)state;
    in_every_order(values_body);
}

static void derivatives_are_right(void **state)
{
    (void)state;
    in_every_order(derivatives_body);
}

static void second_derivatives_are_right(void **state)
{
    (void)state;
    in_every_order(second_body);
}

static void nothing_to_do_is_no_error(void **state)
{
    (void)state;
    in_every_order(nothing_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_right),
        cmocka_unit_test(derivatives_are_right),
        cmocka_unit_test(second_derivatives_are_right),
        cmocka_unit_test(nothing_to_do_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
