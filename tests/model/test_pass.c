/* tests/model/test_pass.c - mirrors src/model/pass.c: the chain rule against differences of what it differentiates, for
 * every arrangement of layers that the passes treat in a way of its own.
 * devices: cuda */
#include <math.h>
#include <stdlib.h>
#include "base/random.h"
#include "model/pass.h"
#include "support.h"

#define EPS 2.220446049250313e-16
enum { EDGE = 8, PIXELS = EDGE * EDGE, SAMPLES = 64, COLUMNS = 5 };

typedef struct {
    hsgd_backend *backend;
    hsgd_network *network;
    hsgd_pass *pass;
    int64_t n, m;
    size_t real;
    int64_t *order;
    uint8_t pixels[SAMPLES * PIXELS], labels[SAMPLES];
    int64_t index[SAMPLES];
    hsgd_group group;
    double *weights, *directions; /* [n], [COLUMNS][n] */
    void *at, *tangents, *out;    /* backend: weights, tangents, results [COLUMNS][n] */
    void *frozen, *state;         /* backend: base states; frozen is of `weights` */
    double *tally;                /* backend: [HSGD_TALLIES_OF_LOSS] */
    int64_t *index_memory;        /* backend: index */
} bench;

static double draw(uint32_t stream, int64_t i)
{
    const hsgd_random r = hsgd_random_stream(3, HSGD_RANDOM_TEST, stream);

    return hsgd_random_normal(&r, (uint64_t)i);
}

static void *memory_of(const bench *b, size_t bytes)
{
    hsgd_error err = {0};
    void *memory = NULL;

    assert_ok(b->backend->ops->alloc(b->backend->self, bytes, &memory, &err));
    return memory;
}

/* memory[k][n] = host[k][n] in the backend's order and precision. */
static void put(const bench *b, int64_t k, const double *host, void *memory)
{
    hsgd_error err = {0};
    char *reals = malloc((size_t)(k * b->n) * b->real);

    assert_non_null(reals);
    for (int64_t i = 0; i < k * b->n; i++) {
        const double x = host[i / b->n * b->n + b->order[i % b->n]];

        if (b->real == sizeof(double)) {
            ((double *)reals)[i] = x;
        } else {
            ((float *)reals)[i] = (float)x;
        }
    }
    assert_ok(b->backend->ops->upload(b->backend->self, (size_t)(k * b->n) * b->real, reals, memory, &err));
    free(reals);
}

/* The reverse, of b->out. */
static double *get(const bench *b, int64_t k)
{
    hsgd_error err = {0};
    char *reals = malloc((size_t)(k * b->n) * b->real);
    double *host = malloc((size_t)(k * b->n) * sizeof *host);

    assert_true(reals != NULL && host != NULL);
    assert_ok(b->backend->ops->download(b->backend->self, (size_t)(k * b->n) * b->real, b->out, reals, &err));
    for (int64_t i = 0; i < k * b->n; i++) {
        host[i / b->n * b->n + b->order[i % b->n]] =
            b->real == sizeof(double) ? ((double *)reals)[i] : (double)((float *)reals)[i];
    }
    free(reals);
    return host;
}

static void base_at_weights(bench *b)
{
    hsgd_error err = {0};
    double tally[HSGD_TALLIES_OF_LOSS];

    put(b, 1, b->weights, b->at);
    assert_ok(hsgd_pass_base(b->pass, 0, b->at, &b->group, b->frozen, b->tally, NULL, &err));
    assert_ok(hsgd_pass_base_adjoint(b->pass, 0, b->at, b->m, b->frozen, &err));
    assert_ok(b->backend->ops->download(b->backend->self, sizeof tally, b->tally, tally, &err));
    assert_true(tally[HSGD_TALLY_LOSS] > 0.0);
    assert_true(tally[HSGD_TALLY_CORRECT] >= 0.0 && tally[HSGD_TALLY_CORRECT] <= (double)b->m);
}

/* m < 0: a full group. */
static bench *bench_create(const char *layers, hsgd_precision precision, int64_t m)
{
    bench *b = calloc(1, sizeof *b);
    hsgd_error err = {0};
    const void *pixels = NULL, *labels = NULL;

    assert_non_null(b);
    assert_ok(test_backend_create(precision, 1, &b->backend, &err));
    assert_ok(hsgd_network_create(layers, (hsgd_shape){1, EDGE, EDGE}, 3, &b->network, &err));
    assert_ok(hsgd_pass_create(b->network, b->backend, b->backend->least_group, COLUMNS, &b->pass, &err));
    b->n = b->network->parameters;
    b->m = m < 0 ? b->backend->least_group : m;
    b->real = hsgd_real_size(precision);
    b->order = malloc((size_t)b->n * sizeof *b->order);
    b->weights = malloc((size_t)b->n * sizeof *b->weights);
    b->directions = malloc((size_t)(COLUMNS * b->n) * sizeof *b->directions);
    assert_true(b->m <= SAMPLES && b->order != NULL && b->weights != NULL && b->directions != NULL);
    hsgd_network_order(b->network, b->backend, b->order);
    hsgd_network_init(b->network, 1, b->weights);
    for (int64_t i = 0; i < COLUMNS * b->n; i++) {
        b->directions[i] = draw(1, i) / sqrt((double)b->n); /* about unit norm */
    }
    for (int64_t i = 0; i < (int64_t)SAMPLES * PIXELS; i++) {
        b->pixels[i] = (uint8_t)fmax(0.0, fmin(255.0, 100.0 * draw(2, i))); /* half black, as digits are */
    }
    for (int64_t i = 0; i < SAMPLES; i++) {
        b->labels[i] = (uint8_t)(i % 3);
        b->index[i] = (5 * i + 2) % SAMPLES;
    }
    b->index_memory = memory_of(b, sizeof b->index);
    assert_ok(b->backend->ops->upload(b->backend->self, sizeof b->index, b->index, b->index_memory, &err));
    assert_ok(b->backend->ops->hold(b->backend->self, sizeof b->pixels, b->pixels, &pixels, &err));
    assert_ok(b->backend->ops->hold(b->backend->self, sizeof b->labels, b->labels, &labels, &err));
    b->group = (hsgd_group){pixels, labels, b->index_memory, b->m, 0.0f, 1.0f};
    b->tally = memory_of(b, HSGD_TALLIES_OF_LOSS * sizeof *b->tally);
    b->at = memory_of(b, (size_t)b->n * b->real);
    b->tangents = memory_of(b, (size_t)(COLUMNS * b->n) * b->real);
    b->out = memory_of(b, (size_t)(COLUMNS * b->n) * b->real);
    b->frozen = memory_of(b, hsgd_pass_state_bytes(b->pass));
    b->state = memory_of(b, hsgd_pass_state_bytes(b->pass));
    base_at_weights(b);
    return b;
}

static void bench_destroy(bench *b)
{
    void *all[] = {b->at, b->tangents, b->out, b->frozen, b->state, b->tally, b->index_memory};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        b->backend->ops->release(b->backend->self, all[i]);
    }
    b->backend->ops->let_go(b->backend->self, b->pixels);
    b->backend->ops->let_go(b->backend->self, b->labels);
    hsgd_pass_destroy(&b->pass);
    assert_null(b->pass);
    hsgd_network_destroy(&b->network);
    hsgd_backend_destroy(&b->backend);
    free(b->order);
    free(b->weights);
    free(b->directions);
    free(b);
}

static double *gradient(bench *b)
{
    hsgd_error err = {0};

    put(b, 1, b->weights, b->at);
    assert_ok(hsgd_pass_gradient(b->pass, 0, b->at, b->m, b->frozen, b->out, &err));
    return get(b, 1);
}

static double *products(bench *b, hsgd_operator kind, int64_t first, int64_t k)
{
    hsgd_error err = {0};

    put(b, 1, b->weights, b->at);
    put(b, k, b->directions + first * b->n, b->tangents);
    assert_ok(hsgd_pass_products(b->pass, 0, kind, b->at, b->m, k, b->tangents, b->frozen, b->out, &err));
    return get(b, k);
}

/* Loss and gradient at weights + t * direction 0, choices frozen. */
static double *frozen_at(bench *b, double t, double *loss)
{
    hsgd_error err = {0};
    double tally[HSGD_TALLIES_OF_LOSS], *moved = malloc((size_t)b->n * sizeof *moved);

    assert_non_null(moved);
    for (int64_t i = 0; i < b->n; i++) {
        moved[i] = b->weights[i] + t * b->directions[i];
    }
    put(b, 1, moved, b->at);
    free(moved);
    assert_ok(hsgd_pass_base_frozen(b->pass, 0, b->at, &b->group, b->frozen, b->state, b->tally, &err));
    assert_ok(hsgd_pass_gradient_frozen(b->pass, 0, b->at, b->m, b->frozen, b->state, b->out, &err));
    assert_ok(b->backend->ops->download(b->backend->self, sizeof tally, b->tally, tally, &err));
    *loss = tally[HSGD_TALLY_LOSS];
    return get(b, 1);
}

/* Central differences with step h: of the loss, and (returned) of the gradient. */
static double *difference(bench *b, double h, double *slope)
{
    double above = 0.0, below = 0.0;
    double *up = frozen_at(b, h, &above), *down = frozen_at(b, -h, &below);

    for (int64_t i = 0; i < b->n; i++) {
        up[i] = (up[i] - down[i]) / (2.0 * h);
    }
    *slope = (above - below) / (2.0 * h);
    free(down);
    return up;
}

static double distance(int64_t n, const double *x, const double *y)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    }
    return sqrt(sum);
}

static const char *const arrangements[] = {
    "linear 3",
    "conv 2 3 / relu / maxpool 2 / conv 3 3 / tanh / avgpool 2 / linear 5 / relu / linear 3",
    "conv 2 5 / tanh / maxpool 3 / linear 6 / tanh / linear 3",
    "conv 2 3 / relu / conv 3 3 / avgpool 3 / relu / linear 3",
    "maxpool 2 / relu / linear 4 / relu / tanh / relu / linear 3",
    "avgpool 2 / tanh / conv 2 3 / maxpool 2 / tanh / relu / linear 3",
    "conv 2 1 / conv 2 3 / relu / linear 4 / linear 3",
    "conv 3 7 / maxpool 2 / maxpool 2 / tanh / tanh / linear 4",
};

/* A central difference with step h is off by c h^2, so two steps, h and h/2, differ by three times the error of the
 * second: their difference bounds it.  Rounding of either adds some hundred eps over h. */
static void agrees_with_central_differences(void **state)
{
    const double h = 1e-3;

    (void)state;
    for (size_t i = 0; i < sizeof arrangements / sizeof arrangements[0]; i++) {
        bench *b = bench_create(arrangements[i], HSGD_DOUBLE, -1);
        const double *v = b->directions;
        double *g = gradient(b), *hv = products(b, HSGD_OPERATOR_HESSIAN, 0, 1);
        double slope[2], exact = 0.0;
        double *wide = difference(b, h, &slope[0]), *narrow = difference(b, h / 2, &slope[1]);
        const double rounding = 500.0 * EPS / h * (double)b->m;
        const double bound = distance(b->n, wide, narrow) + rounding;
        double *nil = calloc((size_t)b->n, sizeof *nil);

        assert_non_null(nil);
        for (int64_t j = 0; j < b->n; j++) {
            exact += g[j] * v[j];
        }
        assert_near(slope[1], exact, fabs(slope[0] - slope[1]) + rounding);
        assert_near(distance(b->n, narrow, hv), 0.0, bound);
        assert_true(bound < 1e-4 * distance(b->n, hv, nil)); /* the test can tell */
        free(nil);
        free(wide);
        free(narrow);
        free(g);
        free(hv);
        bench_destroy(b);
    }
}

/* So far away that values which the frozen ReLUs let through have become negative. */
static void frozen_choices_hold_far_away(void **state)
{
    const double h = 1e-3, far = 3.0;

    (void)state;
    for (size_t i = 0; i < sizeof arrangements / sizeof arrangements[0]; i++) {
        bench *b = bench_create(arrangements[i], HSGD_DOUBLE, -1);
        double loss = 0.0, side[4], exact = 0.0, *g = frozen_at(b, far, &loss);
        const double t[4] = {far + h, far - h, far + h / 2, far - h / 2};

        for (int j = 0; j < 4; j++) {
            free(frozen_at(b, t[j], &side[j]));
        }
        for (int64_t j = 0; j < b->n; j++) {
            exact += g[j] * b->directions[j];
        }
        /* the bound of the differences above; the loss itself is larger here */
        assert_near((side[2] - side[3]) / h, exact,
                    fabs((side[2] - side[3]) / h - (side[0] - side[1]) / (2.0 * h)) + 100.0 * EPS * loss / h);
        free(g);
        bench_destroy(b);
    }
}

static void products_of_many_columns_are_those_of_each_bit_for_bit(void **state)
{
    (void)state;
    for (int kind = HSGD_OPERATOR_HESSIAN; kind <= HSGD_OPERATOR_GAUSS_NEWTON; kind++) {
        for (size_t i = 0; i < sizeof arrangements / sizeof arrangements[0]; i++) {
            bench *b = bench_create(arrangements[i], HSGD_SINGLE, -1);
            double *all = products(b, (hsgd_operator)kind, 0, COLUMNS);

            for (int64_t j = 0; j < COLUMNS; j++) {
                double *one = products(b, (hsgd_operator)kind, j, 1);

                assert_memory_equal(one, all + j * b->n, (size_t)b->n * sizeof *one);
                free(one);
            }
            free(all);
            bench_destroy(b);
        }
    }
}

static void a_repeated_pass_has_the_same_bits(void **state)
{
    bench *b = bench_create(arrangements[1], HSGD_SINGLE, -1);
    double *first = products(b, HSGD_OPERATOR_HESSIAN, 0, COLUMNS), *again = NULL;

    (void)state;
    free(gradient(b)); /* whatever it leaves in scratch memory must not matter */
    base_at_weights(b);
    again = products(b, HSGD_OPERATOR_HESSIAN, 0, COLUMNS);
    assert_memory_equal(first, again, (size_t)(COLUMNS * b->n) * sizeof *first);
    free(first);
    free(again);
    bench_destroy(b);
}

/* Sums over samples: the group's is that of its samples taken one by one.  Each entry sums at most m times
 * (places of a layer) terms, so some hundred eps of the largest entry. */
static void a_group_is_the_sum_of_its_samples(void **state)
{
    bench *b = bench_create(arrangements[1], HSGD_DOUBLE, 5);
    double *whole = products(b, HSGD_OPERATOR_HESSIAN, 0, 1), *sum = calloc((size_t)b->n, sizeof *sum);
    double largest = 0.0;

    (void)state;
    assert_non_null(sum);
    b->m = b->group.m = 1;
    for (int64_t s = 0; s < 5; s++) {
        double *one = NULL;

        b->group.index = b->index_memory + s;
        base_at_weights(b);
        one = products(b, HSGD_OPERATOR_HESSIAN, 0, 1);
        for (int64_t i = 0; i < b->n; i++) {
            sum[i] += one[i];
            largest = fmax(largest, fabs(whole[i]));
        }
        free(one);
    }
    for (int64_t i = 0; i < b->n; i++) {
        assert_near(whole[i], sum[i], 500.0 * EPS * largest);
    }
    free(whole);
    free(sum);
    bench_destroy(b);
}

static void single_precision_agrees_with_double(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof arrangements / sizeof arrangements[0]; i++) {
        bench *s = bench_create(arrangements[i], HSGD_SINGLE, 7), *d = bench_create(arrangements[i], HSGD_DOUBLE, 7);
        double *x = products(s, HSGD_OPERATOR_HESSIAN, 0, 1), *y = products(d, HSGD_OPERATOR_HESSIAN, 0, 1);
        double *nil = calloc((size_t)s->n, sizeof *nil);

        assert_non_null(nil);
        /* a chain of at most ten layers, each a sum of at most some hundred terms: about 100 float eps */
        assert_true(distance(s->n, x, y) <= 1e-5 * distance(s->n, y, nil));
        assert_true(distance(s->n, x, y) > 0.0);
        free(nil);
        free(x);
        free(y);
        bench_destroy(s);
        bench_destroy(d);
    }
}

static void the_adjoint_of_delta_is_the_gradient(void **state)
{
    bench *b = bench_create(arrangements[1], HSGD_DOUBLE, 6);
    hsgd_error err = {0};
    const int64_t classes = 3;
    double p[6 * 3], *g = gradient(b), *by_adjoint = NULL;
    void *u = memory_of(b, sizeof p);

    (void)state;
    assert_ok(
        b->backend->ops->download(b->backend->self, sizeof p, hsgd_pass_probabilities(b->pass, b->frozen), p, &err));
    for (int64_t i = 0; i < 6; i++) {
        double sum = 0.0;

        for (int64_t c = 0; c < classes; c++) {
            sum += p[i * classes + c];
        }
        assert_near(sum, 1.0, 4.0 * EPS);
        p[i * classes + b->labels[b->index[i]]] -= 1.0;
    }
    assert_ok(b->backend->ops->upload(b->backend->self, sizeof p, p, u, &err));
    assert_ok(hsgd_pass_output_adjoint(b->pass, 0, b->at, 6, 1, u, b->frozen, b->out, &err));
    by_adjoint = get(b, 1);
    assert_memory_equal(g, by_adjoint, (size_t)b->n * sizeof *g);
    b->backend->ops->release(b->backend->self, u);
    free(g);
    free(by_adjoint);
    bench_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_central_differences),
        cmocka_unit_test(frozen_choices_hold_far_away),
        cmocka_unit_test(products_of_many_columns_are_those_of_each_bit_for_bit),
        cmocka_unit_test(a_repeated_pass_has_the_same_bits),
        cmocka_unit_test(a_group_is_the_sum_of_its_samples),
        cmocka_unit_test(single_precision_agrees_with_double),
        cmocka_unit_test(the_adjoint_of_delta_is_the_gradient),
    };
    return test_run(tests);
}
