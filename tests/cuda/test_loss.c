/* tests/cuda/test_loss.c - softmax cross-entropy and its derivatives against plain loops. */
#include "device.h"

enum { SAMPLES = 700 }; /* of the data set, of which a group names some */

static const struct {
    int64_t m, classes, k;
} cases[] = {{1, 2, 1}, {7, 10, 2}, {300, 3, 3}, {33, 256, 4}, {64, 10, 5}};

enum { CASES = sizeof cases / sizeof *cases };

typedef struct {
    double *soft, *delta, tally[2];
    int64_t *confusion;
} expected_loss;

static double real_of(const fixture *f, double x)
{
    return f->p == HSGD_SINGLE ? (double)(float)x : x;
}

static void expect_sample(int64_t classes, const double *z, int64_t label, double *soft, double *delta,
                          expected_loss *e)
{
    int64_t best = 0;
    double sum = 0.0;

    for (int64_t c = 1; c < classes; c++) {
        best = z[c] > z[best] ? c : best;
    }
    for (int64_t c = 0; c < classes; c++) {
        sum += exp(z[c] - z[best]);
    }
    for (int64_t c = 0; c < classes; c++) {
        soft[c] = exp(z[c] - z[best]) / sum;
        delta[c] = soft[c] - (double)(c == label);
    }
    e->tally[HSGD_TALLY_LOSS] += log(sum) - (z[label] - z[best]);
    e->tally[HSGD_TALLY_CORRECT] += best == label;
    e->confusion[label * classes + best]++;
}

static void loss(fixture *f, int64_t m, int64_t classes, bool with_confusion)
{
    const int64_t count = m * classes, cells = classes * classes;
    double *z = numbers(f, count, 1);
    expected_loss e = {room(f, count), room(f, count), {0.0, 0.0}, (int64_t *)room(f, cells)};
    uint8_t *labels = (uint8_t *)room(f, SAMPLES);
    int64_t *index = (int64_t *)room(f, m);
    void *soft = put(f, count, e.soft), *delta = put(f, count, e.delta);
    double *tally = put_bytes(f, sizeof e.tally, numbers(f, 2, 2)),
           *scratch = put_bytes(f, 16 * (size_t)m, room(f, 2 * m));
    int64_t *confusion = NULL;

    for (int64_t i = 0; i < cells; i++) {
        e.confusion[i] = i % 5;
    }
    confusion = put_bytes(f, (size_t)cells * sizeof *confusion, e.confusion);
    for (int64_t i = 0; i < SAMPLES; i++) {
        labels[i] = (uint8_t)((i * i + 3) % classes);
    }
    for (int64_t s = 0; s < m; s++) {
        index[s] = (s * 331 + 17) % SAMPLES;
        for (int64_t c = 0; c < classes; c++) { /* ties of the largest, and logits that would overflow exp */
            z[s * classes + c] = s % 4 == 1 ? round(z[s * classes + c]) : z[s * classes + c] + 1000.0 * (s % 3);
        }
        expect_sample(classes, z + s * classes, labels[index[s]], e.soft + s * classes, e.delta + s * classes, &e);
    }
    launched(hsgd_cuda_softmax_loss(f->stream, f->p, m, classes, put(f, count, z), put_bytes(f, SAMPLES, labels),
                                    put_bytes(f, 8 * (size_t)m, index), soft, delta, tally,
                                    with_confusion ? confusion : NULL, scratch));
    check(f, soft, count, e.soft, 4.0, 1.0);
    check(f, delta, count, e.delta, 4.0, 1.0);
    check_doubles(f, tally, 2, e.tally, 64.0, 10.0 * (double)m);
    if (with_confusion) {
        check_bytes(f, confusion, (size_t)cells * sizeof *confusion, e.confusion);
    }
}

static void loss_body(fixture *f)
{
    for (int c = 0; c < CASES; c++) {
        loss(f, cases[c].m, cases[c].classes, c != 2);
    }
}

/* A logit that is no number makes the loss no number, and the tally of no samples is zero. */
static void special_body(fixture *f)
{
    const double z[] = {0.0, NAN, 1.0, 2.0, INFINITY, 0.0}, no_number[] = {NAN, 0.0}, zero[] = {0.0, 0.0};
    const uint8_t labels[] = {0, 1};
    const int64_t index[] = {1, 0};
    void *soft = put(f, 6, z), *delta = put(f, 6, z);
    double *tally = put_bytes(f, sizeof zero, z), *scratch = put_bytes(f, 32, z);

    launched(hsgd_cuda_softmax_loss(f->stream, f->p, 2, 3, put(f, 6, z), put_bytes(f, 2, labels),
                                    put_bytes(f, 16, index), soft, delta, tally, NULL, scratch));
    check_doubles(f, tally, 2, no_number, 0.0, 1.0);
    launched(hsgd_cuda_softmax_loss(f->stream, f->p, 0, 3, NULL, NULL, NULL, NULL, NULL, tally, NULL, scratch));
    check_doubles(f, tally, 2, zero, 0.0, 1.0);
}

static void tangent(fixture *f, int64_t m, int64_t classes, int64_t k, bool shared)
{
    const int64_t count = m * classes;
    const double *soft = numbers(f, count, 3), *tz = numbers(f, count * k, 4);
    double *tdelta = room(f, count * k);
    const hsgd_columns to = put_columns(f, count, k, tdelta, false);

    for (int64_t j = 0; j < k; j++) {
        for (int64_t s = 0; s < m; s++) {
            const double *p = soft + s * classes, *t = tz + (shared ? 0 : j * count) + s * classes;
            double mean = 0.0;

            for (int64_t c = 0; c < classes; c++) {
                mean += p[c] * t[c];
            }
            for (int64_t c = 0; c < classes; c++) {
                tdelta[j * count + s * classes + c] = p[c] * (t[c] - mean);
            }
        }
    }
    launched(hsgd_cuda_softmax_tangent(f->stream, f->p, m, classes, k, put(f, count, soft),
                                       put_columns(f, count, k, tz, shared), to));
    check(f, to.data, count * k, tdelta, 1.0, 2.0 * (double)classes * 4.0);
}

static void tangent_body(fixture *f)
{
    const hsgd_columns none = {NULL, 0};

    for (int c = 0; c < CASES; c++) {
        tangent(f, cases[c].m, cases[c].classes, cases[c].k, c == 1);
    }
    launched(hsgd_cuda_softmax_tangent(f->stream, f->p, 0, 10, 2, NULL, none, none));
    launched(hsgd_cuda_softmax_tangent(f->stream, f->p, 5, 10, 0, NULL, none, none));
    launched(hsgd_cuda_softmax_root(f->stream, f->p, 10, 0, 0, NULL, NULL));
}

/* Some of the classes, from the middle of them on. */
static void root_body(fixture *f)
{
    for (int64_t classes = 2; classes <= 256; classes = classes * 2 + 1) {
        const int64_t first = classes / 3, k = classes - first < 5 ? classes - first : 5;
        double *p = numbers(f, classes, 5), *out = room(f, k * classes);
        void *to = put(f, k * classes, out);

        for (int64_t c = 0; c < classes; c++) {
            p[c] = real_of(f, (p[c] + 2.0) / 4.0);
        }
        for (int64_t j = 0; j < k; j++) {
            for (int64_t c = 0; c < classes; c++) {
                out[j * classes + c] = sqrt(p[first + j]) * ((double)(c == first + j) - p[c]);
            }
        }
        launched(hsgd_cuda_softmax_root(f->stream, f->p, classes, first, k, put(f, classes, p), to));
        check(f, to, k * classes, out, 4.0, 1.0);
    }
}

static void loss_and_its_adjoint_are_right(void **state)
{
    (void)state;
    in_every_order(loss_body);
}

static void what_is_no_number_is_told(void **state)
{
    (void)state;
    in_every_order(special_body);
}

static void tangents_are_right(void **state)
{
    (void)state;
    in_every_order(tangent_body);
}

static void roots_are_right(void **state)
{
    (void)state;
    in_every_order(root_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_its_adjoint_are_right),
        cmocka_unit_test(what_is_no_number_is_told),
        cmocka_unit_test(tangents_are_right),
        cmocka_unit_test(roots_are_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
