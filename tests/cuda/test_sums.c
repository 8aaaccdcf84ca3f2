/* tests/cuda/test_sums.c - pixels, exact sums, permutations and counts against plain loops; all to the last bit. */
#include "device.h"

static void images(fixture *f, int64_t count, int64_t m)
{
    enum { STORED = 9 };
    const float mean = 0.1307f, deviation = 0.3081f;
    uint8_t *pixels = (uint8_t *)room(f, STORED * count);
    int64_t *index = (int64_t *)room(f, m);
    double *x = room(f, m * count);
    void *to = put(f, m * count, x);

    for (int64_t i = 0; i < STORED * count; i++) {
        pixels[i] = (uint8_t)(i * 37 + i / 256);
    }
    for (int64_t s = 0; s < m; s++) {
        index[s] = (s * 5 + 2) % STORED;
        for (int64_t i = 0; i < count; i++) {
            const float share = (float)pixels[index[s] * count + i] / 255.0f, centred = share - mean;

            x[s * count + i] = (double)(centred / deviation);
        }
    }
    launched(hsgd_cuda_images(f->stream, f->p, put_bytes(f, (size_t)(STORED * count), pixels), count, m,
                              put_bytes(f, 8 * (size_t)m, index), mean, deviation, to));
    check(f, to, m * count, x, 0.0, 1.0);
}

static void images_body(fixture *f)
{
    images(f, 784, 13);
    images(f, 1, 1);
    images(f, 3 * 7 * 5, 40);
    launched(hsgd_cuda_images(f->stream, f->p, NULL, 784, 0, NULL, 0.0f, 1.0f, NULL));
}

/* Addends with what is out of range, as reals of the precision. */
static double *addends(fixture *f, int64_t count, uint64_t seed)
{
    static const double special[] = {
        NAN, INFINITY, -INFINITY, HSGD_SUM_LIMIT, -HSGD_SUM_LIMIT, 1e30, 0.5 * HSGD_SUM_LIMIT, 1e-20, -1e-25, 3e9};
    double *x = numbers(f, count, seed);

    for (int64_t i = 0; i < count; i++) {
        x[i] = i < (int64_t)(sizeof special / sizeof *special) ? special[i] : x[i] * exp(10.0 * sin((double)i));
        x[i] = f->p == HSGD_SINGLE ? (double)(float)x[i] : x[i];
    }
    return x;
}

static void exact(fixture *f, int64_t count)
{
    const double scale = hsgd_sum_scale(6);
    int64_t *words = (int64_t *)room(f, 2 * count + 1), *more = (int64_t *)room(f, 2 * count + 1);
    int64_t *to = put_bytes(f, (size_t)(2 * count + 1) * sizeof *words, words);
    void *from = NULL;

    for (int group = 0; group < 3; group++) {
        const double *x = addends(f, count, (uint64_t)group);

        for (int64_t i = 0; i < count; i++) {
            words[2 * count] += hsgd_sum_add(x[i], scale, &words[i], &words[count + i]);
        }
        launched(
            hsgd_cuda_accumulate(f->stream, f->p, HSGD_REDUCTION_REPRODUCIBLE, count, put(f, count, x), scale, to));
    }
    check_bytes(f, to, (size_t)(2 * count + 1) * sizeof *words, words);
    for (int64_t i = 0; i < 2 * count + 1; i++) {
        more[i] = i * INT64_C(1234567890123) - 99;
        words[i] += more[i];
    }
    from = put_bytes(f, (size_t)(2 * count + 1) * sizeof *words, more);
    launched(hsgd_cuda_merge(f->stream, HSGD_REDUCTION_REPRODUCIBLE, 2 * count + 1, from, to));
    check_bytes(f, to, (size_t)(2 * count + 1) * sizeof *words, words);
}

static void fast(fixture *f, int64_t count)
{
    double *sum = numbers(f, count, 5);
    void *to = put_bytes(f, (size_t)count * sizeof *sum, sum);
    const double *x = numbers(f, count, 6), *more = numbers(f, count, 7);

    for (int64_t i = 0; i < count; i++) {
        sum[i] += x[i] + more[i];
    }
    launched(hsgd_cuda_accumulate(f->stream, f->p, HSGD_REDUCTION_FAST, count, put(f, count, x), 0.0, to));
    launched(
        hsgd_cuda_merge(f->stream, HSGD_REDUCTION_FAST, count, put_bytes(f, (size_t)count * sizeof *more, more), to));
    check_doubles(f, to, count, sum, 0.0, 1.0);
}

static void sums_body(fixture *f)
{
    static const int64_t sizes[] = {1, 10, 255, 1025};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        exact(f, sizes[i]);
        fast(f, sizes[i]);
    }
    launched(hsgd_cuda_accumulate(f->stream, f->p, HSGD_REDUCTION_REPRODUCIBLE, 0, NULL, 1.0, NULL));
    launched(hsgd_cuda_merge(f->stream, HSGD_REDUCTION_FAST, 0, NULL, NULL));
}

static void there_is_code_for_the_device(void **state)
{
    (void)state;
    launched(hsgd_cuda_probe());
}

static void permute_body(fixture *f)
{
    enum { COUNT = 1013 };
    int64_t *index = (int64_t *)room(f, COUNT);
    const double *from = numbers(f, COUNT, 8);
    double *to = room(f, COUNT);
    void *target = put_bytes(f, COUNT * sizeof *to, to);

    for (int64_t i = 0; i < COUNT; i++) {
        index[i] = (i * 57 + 4) % COUNT;
        to[i] = from[index[i]];
    }
    launched(hsgd_cuda_permute(f->stream, COUNT, put_bytes(f, COUNT * sizeof *index, index),
                               put_bytes(f, COUNT * sizeof *from, from), target));
    check_bytes(f, target, COUNT * sizeof *to, to);
    launched(hsgd_cuda_permute(f->stream, 0, NULL, NULL, NULL));
}

static void beyond_body(fixture *f)
{
    static const int64_t sizes[] = {1, 256, 9001};
    double beyond = 3.0;
    double *out = put_bytes(f, sizeof beyond, &beyond);

    for (int s = 0; s < 3; s++) {
        double *x = numbers(f, sizes[s], 9);

        x[0] = NAN;
        x[sizes[s] / 2] = s == 1 ? -INFINITY : x[sizes[s] / 2];
        for (int64_t i = 0; i < sizes[s]; i++) {
            beyond += !(fabs(x[i]) <= 1.5);
        }
        launched(hsgd_cuda_count_beyond(f->stream, sizes[s], put_bytes(f, (size_t)sizes[s] * sizeof *x, x), 1.5, out));
        check_doubles(f, out, 1, &beyond, 0.0, 1.0);
    }
    launched(hsgd_cuda_count_beyond(f->stream, 0, NULL, 1.0, NULL));
    launched(cudaGetLastError());
}

static void pixels_are_divided_as_on_the_cpu(void **state)
{
    (void)state;
    in_every_order(images_body);
}

static void sums_are_exact_and_count_what_does_not_fit(void **state)
{
    (void)state;
    in_every_order(sums_body);
}

static void permutes(void **state)
{
    (void)state;
    in_every_order(permute_body);
}

static void counts_what_is_beyond(void **state)
{
    (void)state;
    in_every_order(beyond_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_code_for_the_device),
        cmocka_unit_test(pixels_are_divided_as_on_the_cpu),
        cmocka_unit_test(sums_are_exact_and_count_what_does_not_fit),
        cmocka_unit_test(permutes),
        cmocka_unit_test(counts_what_is_beyond),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
