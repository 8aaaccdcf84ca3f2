/* tests/conformance/gated_case.h - random gated convolutions, and what they are by the definition in backend.h: plain loops
 * in double. */
#pragma once
#include "operands.h"

enum { LARGEST_GROUP = 10 };

typedef struct {
    hsgd_layer conv, pool;
    hsgd_gated gated;
    int64_t m, zeros; /* zeros: how many in 8 entries of the input are zero */
    double steps;     /* operands of the base are whole numbers up to this: their sums are exact, and often equal */
    bool bias;
    int64_t *x_order, *y_order, *w_order, *b_order;
} gated_case;

static inline hsgd_layer pool_behind(const hsgd_layer *conv, int64_t size)
{
    return (hsgd_layer){.kind = HSGD_LAYER_MAXPOOL,
                        .size = size,
                        .in = conv->out,
                        .out = {conv->out.channels, conv->out.height / size, conv->out.width / size}};
}

/* Kernels 1, 3, 5, 7 and windows of 2 and 3, with and without a ReLU: each pair in turn; the rest is drawn. */
static inline void draw_layers(gated_case *c, int64_t number)
{
    const int64_t edge = 2 * (number % 4) + 1, size = 2 + number / 4 % 2;

    do {
        const int64_t most = draw_between(0, 1) == 1 ? 8 : 64;

        c->conv =
            conv_layer(draw_between(1, most), draw_between(1, most), draw_between(5, 29), draw_between(5, 29), edge);
        c->m = draw_between(1, LARGEST_GROUP);
    } while (c->m * c->conv.weight_count * c->conv.out.height * c->conv.out.width > 1000000);
    c->pool = pool_behind(&c->conv, size);
    c->gated = (hsgd_gated){&c->conv, &c->pool, number / 8 % 2 == 0};
    c->zeros = number % 3 == 0 ? 7 : draw_between(0, 8);
    c->steps = draw_between(0, 1) == 1 ? 1.0 : 4.0;
    c->bias = draw_between(0, 3) > 0;
}

static inline void find_orders(gated_case *c)
{
    c->x_order = activation_order(c->conv.in);
    c->y_order = activation_order(c->pool.out);
    c->w_order = weight_order(&c->conv);
    c->b_order = activation_order((hsgd_shape){c->conv.bias_count, 1, 1});
}

static inline void free_orders(gated_case *c)
{
    free(c->x_order);
    free(c->y_order);
    free(c->w_order);
    free(c->b_order);
}

static inline operand inputs(const gated_case *c, int64_t k)
{
    return operand_make(c->m, elements(c->conv.in), k, false, c->x_order, c->zeros);
}

static inline operand outputs(const gated_case *c, int64_t k, int64_t zeros)
{
    return operand_make(c->m, elements(c->pool.out), k, false, c->y_order, zeros);
}

/* ---- the reference ---- */

/* Where output i, of m * (outputs of a sample), finds place `place` of its window in the convolution. */
static inline int64_t pooled_from(const gated_case *c, int64_t i, int64_t place)
{
    const hsgd_shape out = c->pool.out;
    const int64_t x = i % out.width, y = i / out.width % out.height, image = i / (out.width * out.height);

    return (image * c->conv.out.height + y * c->pool.size + place / c->pool.size) * c->conv.out.width +
           x * c->pool.size + place % c->pool.size;
}

/* The convolution [m][out] with the bias. */
static inline reference convolve(const gated_case *c, const double *x, const double *w, const double *b)
{
    const int64_t count = c->m * elements(c->conv.out), pixels = c->conv.out.height * c->conv.out.width;
    reference z = reference_make(count);

    for (int64_t i = 0; i < count; i++) {
        reference_add(&z, i, b[i / pixels % c->conv.out.channels]);
    }
    meet_all(VALUE, &z, &c->conv, c->m, x, w);
    return z;
}

/* [outputs of m samples]: the entry of the convolution that each output is taken from, or -1 where it is shut. */
static inline int64_t *gates_of(const gated_case *c, const double *z)
{
    const int64_t count = c->m * elements(c->pool.out);
    int64_t *from = malloc((size_t)count * sizeof *from);

    assert_non_null(from);
    for (int64_t i = 0; i < count; i++) {
        from[i] = pooled_from(c, i, 0);
        for (int64_t place = 1; place < c->pool.size * c->pool.size; place++) {
            const int64_t other = pooled_from(c, i, place);

            from[i] = z[other] > z[from[i]] ? other : from[i];
        }
        from[i] = c->gated.relu && !(z[from[i]] > 0.0) ? -1 : from[i];
    }
    return from;
}

/* All terms of output i, which is taken from entry `from` of the convolution.  a, b as in meet_all. */
static inline void meet_patch(role which, reference *r, const hsgd_layer *conv, int64_t i, int64_t from,
                              const double *a, const double *b)
{
    const int64_t h = conv->in.height, w = conv->in.width, edge = conv->size;
    const int64_t o = from / (h * w) % conv->out.channels, s = from / elements(conv->out);

    for (int64_t c = 0; c < conv->in.channels; c++) {
        for (int64_t tap = 0; tap < edge * edge; tap++) {
            const int64_t y = from / w % h + tap / edge - edge / 2, x = from % w + tap % edge - edge / 2;

            if (y >= 0 && y < h && x >= 0 && x < w) {
                meet(which, r, i, (o * conv->in.channels + c) * edge * edge + tap,
                     ((s * conv->in.channels + c) * h + y) * w + x, a, b);
            }
        }
    }
}

static inline void meet_open(role which, reference *r, const gated_case *c, const int64_t *from, const double *a,
                             const double *b)
{
    for (int64_t i = 0; i < c->m * elements(c->pool.out); i++) {
        if (from[i] >= 0) {
            meet_patch(which, r, &c->conv, i, from[i], a, b);
        }
    }
}
