/* tests/curvature/fixture.h - a small network with pixels, labels and weights drawn from a seed, for the tests of
 * curvature and of linear operators.  Pixels are half black, as digits are: pooling windows have ties. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include "base/random.h"
#include "curvature/curvature.h"
#include "support.h"

#define EPS 2.220446049250313e-16

typedef struct {
    hsgd_comm *serial;
    hsgd_backend *backend;
    hsgd_network *network;
    uint8_t *pixels, *labels;
    hsgd_split split;
    hsgd_problem problem; /* over the communicator that was given, or `serial` */
    hsgd_space *spread, *replicated;
    int64_t n, count;
    int64_t *index;  /* [count] */
    double *weights; /* [n] */
} fixture;

typedef struct {
    const char *layers;
    int64_t edge, classes;
    int64_t groups, rest; /* count = groups * (samples in a group at least) + rest */
    hsgd_precision precision;
    hsgd_reduction reduction;
    int threads;     /* 0: 1 */
    hsgd_comm *comm; /* NULL: serial */
} fixture_plan;

static const char *const mixed_layers =
    "conv 2 3 / relu / maxpool 2 / conv 3 3 / tanh / avgpool 2 / linear 5 / relu / linear 3";
static const char *const relu_layers = "conv 2 3 / relu / maxpool 2 / conv 3 3 / relu / linear 5 / relu / linear 3";

static inline void draw_samples(fixture *f, int64_t samples, int64_t pixels, int64_t classes)
{
    const hsgd_random r = hsgd_random_stream(7, HSGD_RANDOM_TEST, 0), l = hsgd_random_stream(7, HSGD_RANDOM_TEST, 1);

    for (int64_t i = 0; i < samples * pixels; i++) {
        const uint64_t bits = hsgd_random_bits(&r, (uint64_t)i);

        f->pixels[i] = bits & 256 ? (uint8_t)bits : 0;
    }
    for (int64_t i = 0; i < samples; i++) {
        f->labels[i] = (uint8_t)hsgd_random_below(&l, (uint64_t)i, (uint64_t)classes);
    }
}

static inline fixture fixture_create(const fixture_plan *plan)
{
    fixture f = {0};
    hsgd_error err = {0};
    const hsgd_shape input = {1, plan->edge, plan->edge};
    int64_t samples = 0;

    assert_ok(hsgd_comm_serial_create(&f.serial, &err));
    assert_ok(test_backend_create(plan->precision, plan->threads > 0 ? plan->threads : 1, &f.backend, &err));
    assert_ok(hsgd_network_create(plan->layers, input, plan->classes, &f.network, &err));
    f.n = f.network->parameters;
    f.count = plan->groups * f.backend->least_group + plan->rest;
    samples = f.count + 5;
    f.pixels = malloc((size_t)(samples * plan->edge * plan->edge));
    f.labels = malloc((size_t)samples);
    f.index = malloc((size_t)f.count * sizeof *f.index);
    f.weights = malloc((size_t)f.n * sizeof *f.weights);
    assert_true(f.pixels != NULL && f.labels != NULL && f.index != NULL && f.weights != NULL);
    draw_samples(&f, samples, plan->edge * plan->edge, plan->classes);
    for (int64_t i = 0; i < f.count; i++) {
        f.index[i] = (3 + 7 * i) % samples;
    }
    hsgd_network_init(f.network, 11, f.weights);
    f.split = (hsgd_split){.pixels = f.pixels,
                           .labels = f.labels,
                           .count = samples,
                           .height = plan->edge,
                           .width = plan->edge,
                           .classes = plan->classes};
    f.problem = (hsgd_problem){.network = f.network,
                               .backend = f.backend,
                               .comm = plan->comm != NULL ? plan->comm : f.serial,
                               .reduction = plan->reduction,
                               .deviation = 1.0f};
    assert_ok(hsgd_space_create(f.n, HSGD_SPREAD, plan->reduction, f.problem.comm, f.backend, &f.spread, &err));
    assert_ok(hsgd_space_create(f.n, HSGD_REPLICATED, plan->reduction, f.problem.comm, f.backend, &f.replicated, &err));
    return f;
}

/* The problem, with the split where the fixture now lies. */
static inline const hsgd_problem *problem_of(fixture *f)
{
    f->problem.split = &f->split;
    return &f->problem;
}

static inline void fixture_destroy(fixture *f)
{
    hsgd_space_destroy(&f->spread);
    hsgd_space_destroy(&f->replicated);
    free(f->weights);
    free(f->index);
    free(f->labels);
    free(f->pixels);
    hsgd_network_destroy(&f->network);
    hsgd_backend_destroy(&f->backend);
    hsgd_comm_destroy(&f->serial);
}

/* Standard normal numbers, the same everywhere. */
static inline double *normals(int64_t count, uint32_t stream)
{
    const hsgd_random r = hsgd_random_stream(5, HSGD_RANDOM_TEST, 100 + stream);
    double *x = malloc((size_t)count * sizeof *x);

    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = hsgd_random_normal(&r, (uint64_t)i);
    }
    return x;
}

static inline double dot(int64_t n, const double *x, const double *y)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

static inline double norm(int64_t n, const double *x)
{
    return sqrt(dot(n, x, x));
}

/* Options that study the fixture's samples at its weights, one sweep a product, nothing kept. */
static inline hsgd_hessian_options options_of(const fixture *f, hsgd_operator kind)
{
    return (hsgd_hessian_options){.kind = kind, .index = f->index, .count = f->count, .weights = f->weights};
}

static inline hsgd_linop *operator_of(fixture *f, const hsgd_hessian_options *options)
{
    hsgd_error err = {0};
    hsgd_linop *op = NULL;

    assert_ok(hsgd_hessian_create(problem_of(f), f->spread, options, &op, &err));
    return op;
}

/* y[k][n] = A x, whole on every rank. */
static inline hsgd_status apply_full(hsgd_linop *op, int64_t k, const double *x, double *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_vector *from = NULL, *to = NULL;

    HSGD_TRY(hsgd_vector_create(hsgd_linop_space(op), k, &from, err));
    HSGD_TRY(hsgd_vector_create(hsgd_linop_space(op), k, &to, err));
    HSGD_TRY(hsgd_vector_set_full(from, x, err));
    HSGD_TRY(hsgd_linop_apply(op, from, to, err));
    HSGD_TRY(hsgd_vector_gather(to, y, err));
done:
    hsgd_vector_destroy(&from);
    hsgd_vector_destroy(&to);
    return st;
}

/* New memory with the products of k vectors. */
static inline double *products_of(fixture *f, const hsgd_hessian_options *options, int64_t k, const double *x)
{
    hsgd_error err = {0};
    hsgd_linop *op = operator_of(f, options);
    double *y = malloc((size_t)(k * f->n) * sizeof *y);

    assert_non_null(y);
    assert_ok(apply_full(op, k, x, y, &err));
    hsgd_linop_destroy(&op);
    return y;
}
