/* tests/cuda/test_bias.c - biases against plain loops. */
#include "device.h"

/* Every path: one place or many, fewer and more channels than a block takes, more samples than a block has threads. */
static const struct {
    int64_t m, channels, places, k;
} cases[] = {
    {1, 1, 1, 1}, {7, 10, 1, 3},   {1000, 33, 1, 2}, {5, 130, 1, 5},  {1, 3, 25, 2},
    {9, 4, 7, 5}, {50, 2, 196, 3}, {3, 5, 1024, 1},  {2, 1, 5000, 4}, {333, 3, 2, 2},
};

static void adding(fixture *f, int64_t m, int64_t channels, int64_t places, int64_t k, bool shared)
{
    const int64_t count = m * channels * places;
    const double *b = numbers(f, channels * k, 1);
    double *y = numbers(f, count * k, 2);
    const hsgd_columns bias = put_columns(f, channels, k, b, shared), to = put_columns(f, count, k, y, false);

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < count; i++) {
            y[j * count + i] += b[(shared ? 0 : j * channels) + i / places % channels];
        }
    }
    launched(hsgd_cuda_bias_add(f->stream, f->p, m, channels, places, k, bias, to));
    check(f, to.data, count * k, y, 0.0, 1.0);
}

static void gradient(fixture *f, int64_t m, int64_t channels, int64_t places, int64_t k, bool shared)
{
    const int64_t count = m * channels * places;
    const double *dy = numbers(f, count * k, 3);
    double *db = numbers(f, channels * k, 4);
    const hsgd_columns from = put_columns(f, count, k, dy, shared), to = put_columns(f, channels, k, db, false);

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < count; i++) {
            db[j * channels + i / places % channels] += dy[(shared ? 0 : j * count) + i];
        }
    }
    launched(hsgd_cuda_bias_gradient(f->stream, f->p, m, channels, places, k, from, to));
    check(f, to.data, channels * k, db, 0.0, 1.0); /* multiples of 1/128 below 2^16: no sum is rounded */
}

static void adding_body(fixture *f)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adding(f, cases[i].m, cases[i].channels, cases[i].places, cases[i].k, i % 3 == 1);
    }
}

static void gradient_body(fixture *f)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gradient(f, cases[i].m, cases[i].channels, cases[i].places, cases[i].k, i % 3 == 1);
    }
}

/* Sums of numbers far apart: exact in double, in whatever order, and lost in float. */
static void wide(fixture *f, int64_t places)
{
    enum { M = 36, CHANNELS = 3 };
    static const double addends[] = {0x1p26, 1.0, -0x1p26};
    const int64_t count = M * CHANNELS * places;
    double *dy = room(f, count), *db = room(f, CHANNELS);
    const hsgd_columns to = put_columns(f, CHANNELS, 1, db, false);

    for (int64_t i = 0; i < count; i++) {
        dy[i] = addends[i / (CHANNELS * places) % 3];
    }
    for (int c = 0; c < CHANNELS; c++) {
        db[c] = (double)(M / 3 * places);
    }
    launched(hsgd_cuda_bias_gradient(f->stream, f->p, M, CHANNELS, places, 1, put_columns(f, count, 1, dy, false), to));
    check(f, to.data, CHANNELS, db, 0.0, 1.0);
}

static void wide_body(fixture *f)
{
    wide(f, 1);
    wide(f, 50);
}

static void nothing_body(fixture *f)
{
    const hsgd_columns none = {NULL, 0};

    launched(hsgd_cuda_bias_add(f->stream, f->p, 0, 3, 4, 1, none, none));
    launched(hsgd_cuda_bias_gradient(f->stream, f->p, 2, 3, 4, 0, none, none));
    launched(cudaGetLastError());
}

static void adds_the_channels_bias(void **state)
{
    (void)state;
    in_every_order(adding_body);
}

static void sums_over_samples_and_places(void **state)
{
    (void)state;
    in_every_order(gradient_body);
}

static void sums_in_double(void **state)
{
    (void)state;
    in_every_order(wide_body);
}

static void nothing_to_do_is_no_error(void **state)
{
    (void)state;
    in_every_order(nothing_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_the_channels_bias),
        cmocka_unit_test(sums_over_samples_and_places),
        cmocka_unit_test(sums_in_double),
        cmocka_unit_test(nothing_to_do_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
