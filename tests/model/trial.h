/* tests/model/trial.h - everything that a pass can tell of a random network on random images, for tests that hold one way
 * of computing it against another. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include "base/random.h"
#include "model/pass.h"
#include "support.h"

enum { MOST_SAMPLES = 10, MOST_COLUMNS = 17, IMAGES = 24 };

typedef enum {
    HALF_BLACK, /* as digits are */
    BLACK,
    CONSTANT,  /* every window of a convolution ties */
    TWO_TONES, /* black and white */
} image_kind;

/* What is tried; the rest is drawn. */
typedef struct {
    const char *layers;
    hsgd_shape input;
    int64_t m, k; /* samples; tangents */
    image_kind images;
    float mean, deviation; /* deviation 0: not normalised */
    double shift;          /* added to every bias of a convolution */
    double grain;          /* not 0: weights are multiples of this, so that sums are exact and often equal */
} trial_plan;

typedef struct {
    trial_plan plan;
    hsgd_network *network;
    hsgd_precision precision;
    size_t real;
    int64_t n;
    double *weights, *moved; /* [n]: two unlike points */
    double *tangents;        /* [k][n] */
    double *outputs;         /* [k][m][classes]: directions of the logits */
    uint8_t *pixels, labels[IMAGES];
    int64_t index[MOST_SAMPLES];
} trial;

/* How it is computed: with passes for so many samples and columns, by which worker, all columns in one call or each in a
 * call of its own. */
typedef struct {
    const hsgd_backend *backend;
    int64_t samples, columns;
    int worker;
    bool singly;
    bool spoiled; /* all weights are NaN */
} manner;

enum { GRADIENT, FROZEN_GRADIENT, HESSIAN, GAUSS_NEWTON, OUTPUT_ADJOINT, KINDS };
static const char *const kind_names[] = {"gradient", "frozen gradient", "hessian", "gauss-newton", "output adjoint"};

typedef struct {
    double tally[HSGD_TALLIES_OF_LOSS], frozen_tally[HSGD_TALLIES_OF_LOSS];
    double *vectors[KINDS]; /* [columns][n], in the backend's order */
    int64_t columns[KINDS];
} findings;

/* ---- numbers ---- */

static uint64_t draws; /* position in the stream */

static inline hsgd_random trial_stream(void)
{
    return hsgd_random_stream(13, HSGD_RANDOM_TEST, 0);
}

/* A whole number in [low, high]. */
static inline int64_t draw_between(int64_t low, int64_t high)
{
    const hsgd_random r = trial_stream();

    return low + (int64_t)hsgd_random_below(&r, draws++, (uint64_t)(high - low + 1));
}

static inline double *draw_normals(int64_t count)
{
    const hsgd_random r = trial_stream();
    double *x = malloc((size_t)count * sizeof *x);

    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = hsgd_random_normal(&r, draws++);
    }
    return x;
}

/* ---- trials ---- */

static inline uint8_t draw_pixel(image_kind kind)
{
    switch (kind) {
    case HALF_BLACK:
        return (uint8_t)(draw_between(0, 1) == 1 ? draw_between(0, 255) : 0);
    case BLACK:
        return 0;
    case CONSTANT:
        return 200;
    case TWO_TONES:
        break;
    }
    return (uint8_t)(draw_between(0, 1) * 255);
}

/* Weights of the usual size.  Within a layer they are drawn alike, so the backend's order needs no heed. */
static inline double *draw_weights(const trial *t)
{
    double *w = malloc((size_t)t->n * sizeof *w);

    assert_non_null(w);
    hsgd_network_init(t->network, (uint64_t)draw_between(0, 1000000), w);
    for (int64_t l = 0; l < t->network->count; l++) {
        const hsgd_layer *layer = &t->network->layers[l];

        for (int64_t i = 0; layer->kind == HSGD_LAYER_CONV && i < layer->bias_count; i++) {
            w[layer->bias + i] += t->plan.shift;
        }
    }
    for (int64_t i = 0; i < t->n && t->plan.grain > 0.0; i++) {
        w[i] = rint(w[i] / t->plan.grain) * t->plan.grain;
    }
    return w;
}

static inline trial *trial_create(const trial_plan *plan, hsgd_precision precision)
{
    trial *t = calloc(1, sizeof *t);
    const int64_t pixels = plan->input.height * plan->input.width * IMAGES;
    hsgd_error err = {0};

    assert_non_null(t);
    t->plan = *plan;
    t->precision = precision;
    t->real = hsgd_real_size(precision);
    assert_ok(hsgd_network_create(plan->layers, plan->input, 2, &t->network, &err));
    t->n = t->network->parameters;
    t->weights = draw_weights(t);
    t->moved = draw_weights(t);
    t->tangents = draw_normals(plan->k * t->n);
    t->outputs = draw_normals(plan->k * plan->m * t->network->classes);
    t->pixels = malloc((size_t)pixels);
    assert_non_null(t->pixels);
    for (int64_t i = 0; i < pixels; i++) {
        t->pixels[i] = draw_pixel(plan->images);
    }
    for (int64_t i = 0; i < IMAGES; i++) {
        t->labels[i] = (uint8_t)draw_between(0, t->network->classes - 1);
    }
    for (int64_t i = 0; i < plan->m; i++) {
        t->index[i] = draw_between(0, IMAGES - 1);
    }
    return t;
}

static inline void trial_destroy(trial *t)
{
    hsgd_network_destroy(&t->network);
    free(t->weights);
    free(t->moved);
    free(t->tangents);
    free(t->outputs);
    free(t->pixels);
    free(t);
}

/* ---- backend memory ---- */

static inline void *take(const hsgd_backend *b, size_t bytes)
{
    hsgd_error err = {0};
    void *memory = NULL;

    assert_ok(b->ops->alloc(b->self, bytes, &memory, &err));
    return memory;
}

/* memory = count numbers as reals; NaN instead of them where `spoiled`. */
static inline void put(const hsgd_backend *b, int64_t count, const double *host, bool spoiled, void *memory)
{
    const size_t real = hsgd_real_size(b->precision);
    char *reals = malloc((size_t)count * real);
    hsgd_error err = {0};

    assert_non_null(reals);
    for (int64_t i = 0; i < count; i++) {
        const double x = spoiled ? NAN : host[i];

        if (real == sizeof(double)) {
            ((double *)reals)[i] = x;
        } else {
            ((float *)reals)[i] = (float)x;
        }
    }
    assert_ok(b->ops->upload(b->self, (size_t)count * real, reals, memory, &err));
    free(reals);
}

static inline void *take_reals(const hsgd_backend *b, int64_t count, const double *host)
{
    void *memory = take(b, (size_t)count * hsgd_real_size(b->precision));

    put(b, count, host, false, memory);
    return memory;
}

/* Append k vectors of `memory` to the findings of a kind. */
static inline void note(const trial *t, const hsgd_backend *b, int kind, int64_t k, const void *memory, findings *f)
{
    const int64_t before = f->columns[kind] * t->n, count = k * t->n;
    char *reals = malloc((size_t)count * t->real);
    double *to = realloc(f->vectors[kind], (size_t)(before + count) * sizeof *to);
    hsgd_error err = {0};

    assert_true(reals != NULL && to != NULL);
    f->vectors[kind] = to;
    f->columns[kind] += k;
    assert_ok(b->ops->download(b->self, (size_t)count * t->real, memory, reals, &err));
    for (int64_t i = 0; i < count; i++) {
        to[before + i] = t->real == sizeof(double) ? ((double *)reals)[i] : (double)((float *)reals)[i];
    }
    free(reals);
}

/* ---- findings ---- */

/* What a trial keeps in backend memory, and where its passes stand. */
typedef struct {
    hsgd_pass *pass;
    hsgd_group group;
    void *at, *tangents, *outputs, *out, *index, *state, *other;
    double *tally;
} stand;

static inline stand stand_make(const trial *t, const manner *how)
{
    const hsgd_backend *b = how->backend;
    const trial_plan *p = &t->plan;
    const float deviation = p->deviation > 0.0f ? p->deviation : 1.0f;
    const void *pixels = NULL, *labels = NULL;
    stand s = {0};
    hsgd_error err = {0};

    assert_ok(hsgd_pass_create(t->network, b, how->samples, how->columns, &s.pass, &err));
    assert_ok(b->ops->hold(b->self, (size_t)(p->input.height * p->input.width * IMAGES), t->pixels, &pixels, &err));
    assert_ok(b->ops->hold(b->self, sizeof t->labels, t->labels, &labels, &err));
    s.index = take(b, sizeof t->index);
    assert_ok(b->ops->upload(b->self, sizeof t->index, t->index, s.index, &err));
    s.at = take_reals(b, t->n, t->weights);
    s.tangents = take_reals(b, p->k * t->n, t->tangents);
    s.outputs = take_reals(b, p->k * p->m * t->network->classes, t->outputs);
    s.out = take(b, (size_t)(p->k * t->n) * t->real);
    s.state = take(b, hsgd_pass_state_bytes(s.pass));
    s.other = take(b, hsgd_pass_state_bytes(s.pass));
    s.tally = take(b, HSGD_TALLIES_OF_LOSS * sizeof *s.tally);
    s.group = (hsgd_group){pixels, labels, s.index, p->m, p->mean, deviation};
    return s;
}

static inline void stand_end(const trial *t, const hsgd_backend *b, stand *s)
{
    void *const all[] = {s->at, s->tangents, s->outputs, s->out, s->index, s->state, s->other, s->tally};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        b->ops->release(b->self, all[i]);
    }
    b->ops->let_go(b->self, t->pixels);
    b->ops->let_go(b->self, t->labels);
    hsgd_pass_destroy(&s->pass);
}

/* What is linear in given vectors: all of them in one call, or one by one. */
static inline void find_columns(const trial *t, const manner *how, const stand *s, findings *f)
{
    const int64_t step = how->singly ? 1 : t->plan.k, m = t->plan.m, outputs = m * t->network->classes;
    hsgd_error err = {0};

    for (int64_t j = 0; j < t->plan.k; j += step) {
        const char *tangents = (const char *)s->tangents + (size_t)(j * t->n) * t->real;
        const char *u = (const char *)s->outputs + (size_t)(j * outputs) * t->real;

        assert_ok(hsgd_pass_products(s->pass, how->worker, HSGD_OPERATOR_HESSIAN, s->at, m, step, tangents, s->state,
                                     s->out, &err));
        note(t, how->backend, HESSIAN, step, s->out, f);
        assert_ok(hsgd_pass_products(s->pass, how->worker, HSGD_OPERATOR_GAUSS_NEWTON, s->at, m, step, tangents,
                                     s->state, s->out, &err));
        note(t, how->backend, GAUSS_NEWTON, step, s->out, f);
        assert_ok(hsgd_pass_output_adjoint(s->pass, how->worker, s->at, m, step, u, s->state, s->out, &err));
        note(t, how->backend, OUTPUT_ADJOINT, step, s->out, f);
    }
}

/* All of it.  To be freed. */
static inline findings find(const trial *t, const manner *how)
{
    const hsgd_backend *b = how->backend;
    stand s = stand_make(t, how);
    findings f = {0};
    hsgd_error err = {0};

    put(b, t->n, t->weights, how->spoiled, s.at);
    assert_ok(hsgd_pass_base(s.pass, how->worker, s.at, &s.group, s.state, s.tally, NULL, &err));
    assert_ok(hsgd_pass_base_adjoint(s.pass, how->worker, s.at, t->plan.m, s.state, &err));
    assert_ok(b->ops->download(b->self, sizeof f.tally, s.tally, f.tally, &err));
    assert_ok(hsgd_pass_gradient(s.pass, how->worker, s.at, t->plan.m, s.state, s.out, &err));
    note(t, b, GRADIENT, 1, s.out, &f);
    find_columns(t, how, &s, &f);
    put(b, t->n, t->moved, how->spoiled, s.at);
    assert_ok(hsgd_pass_base_frozen(s.pass, how->worker, s.at, &s.group, s.state, s.other, s.tally, &err));
    assert_ok(b->ops->download(b->self, sizeof f.frozen_tally, s.tally, f.frozen_tally, &err));
    assert_ok(hsgd_pass_gradient_frozen(s.pass, how->worker, s.at, t->plan.m, s.state, s.other, s.out, &err));
    note(t, b, FROZEN_GRADIENT, 1, s.out, &f);
    stand_end(t, b, &s);
    return f;
}

static inline void findings_free(findings *f)
{
    for (int kind = 0; kind < KINDS; kind++) {
        free(f->vectors[kind]);
    }
}
