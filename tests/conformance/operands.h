/* tests/conformance/operands.h - k random arrays in a backend's layout, with their canonical originals; and what bilinear
 * layers make of them, by plain loops in double. */
#pragma once
#include "backends.h"

enum { GAP = 3 };              /* reals at least between columns that no kernel may touch */
enum { LINE = 16 };            /* reals: columns of activations begin at multiples of it */
static const double guard = 7; /* what stands there */

/* k arrays of m * count reals; one array where `shared`. */
typedef struct {
    int64_t m, count, k;
    bool shared;
    double *canonical;    /* [k or 1][m][count] */
    const int64_t *order; /* [count]: backend[i] = canonical[order[i]]; borrowed */
    int64_t stride;       /* reals from one column to the next, in memory */
    hsgd_columns columns; /* in backend memory */
} operand;

static inline int64_t operand_arrays(const operand *a)
{
    return a->shared ? 1 : a->k;
}
static inline const double *operand_column(const operand *a, int64_t j)
{
    return a->canonical + (a->shared ? 0 : j) * a->m * a->count;
}

/* The canonical content as it lies in memory, gaps included: [arrays][stride].  To be freed. */
static inline double *operand_laid(const operand *a)
{
    const int64_t arrays = operand_arrays(a);
    double *laid = malloc((size_t)(arrays * a->stride) * sizeof *laid);

    assert_non_null(laid);
    for (int64_t j = 0; j < arrays; j++) {
        for (int64_t i = 0; i < a->stride; i++) {
            const int64_t s = i / a->count;

            laid[j * a->stride + i] =
                s < a->m ? a->canonical[(j * a->m + s) * a->count + a->order[i % a->count]] : guard;
        }
    }
    return laid;
}

/* zeros: how many in 8 entries are zero.  lined: at multiples of LINE reals, as activations are; weights are anywhere. */
static inline operand operand_place(bool lined, int64_t m, int64_t count, int64_t k, bool shared, const int64_t *order,
                                    int64_t zeros)
{
    operand a = {.m = m, .count = count, .k = k, .shared = shared, .order = order};
    const int64_t arrays = operand_arrays(&a), close = m * count + GAP;
    double *laid = NULL;

    a.stride = lined ? (close + LINE - 1) / LINE * LINE : close;
    a.canonical = draw_reals(arrays * m * count, zeros);
    laid = operand_laid(&a);
    a.columns = (hsgd_columns){to_backend(laid, arrays * a.stride), shared ? 0 : a.stride};
    free(laid);
    return a;
}

static inline operand operand_make(int64_t m, int64_t count, int64_t k, bool shared, const int64_t *order,
                                   int64_t zeros)
{
    return operand_place(true, m, count, k, shared, order, zeros);
}

static inline operand weights_make(int64_t count, int64_t k, bool shared, const int64_t *order)
{
    return operand_place(false, 1, count, k, shared, order, 0);
}

/* Put a changed canonical content into memory. */
static inline void operand_renew(operand *a)
{
    double *laid = operand_laid(a);

    release(a->columns.data);
    a->columns.data = to_backend(laid, operand_arrays(a) * a->stride);
    free(laid);
}

static inline void operand_free(operand *a)
{
    release(a->columns.data);
    free(a->canonical);
}

/* The present content, canonical, [k or 1][m][count]; fails where a gap was written to.  To be freed. */
static inline double *operand_read(const operand *a)
{
    const int64_t arrays = operand_arrays(a), stride = a->stride;
    double *laid = from_backend(a->columns.data, arrays * stride);
    double *out = malloc((size_t)(arrays * a->m * a->count) * sizeof *out);

    assert_non_null(out);
    for (int64_t j = 0; j < arrays; j++) {
        for (int64_t i = 0; i < stride; i++) {
            const int64_t s = i / a->count;

            if (s < a->m) {
                out[(j * a->m + s) * a->count + a->order[i % a->count]] = laid[j * stride + i];
            } else {
                check_near("a gap between columns", i, laid[j * stride + i], guard, 0.0);
            }
        }
    }
    free(laid);
    return out;
}

/* Column j of the operand alone, as a kernel takes it. */
static inline hsgd_columns operand_at(const operand *a, int64_t j)
{
    const int64_t offset = (a->shared ? 0 : j) * a->stride;

    return (hsgd_columns){(char *)a->columns.data + (size_t)offset * hsgd_real_size(subject->precision), 0};
}

/* ---- bilinear layers ---- */

static inline hsgd_layer conv_layer(int64_t in, int64_t out, int64_t height, int64_t width, int64_t edge)
{
    return (hsgd_layer){.kind = HSGD_LAYER_CONV,
                        .in = {in, height, width},
                        .out = {out, height, width},
                        .size = edge,
                        .weight_count = in * out * edge * edge,
                        .bias_count = out};
}

/* Where the backend keeps a layer's weights: backend[i] = canonical[order[i]].  To be freed. */
static inline int64_t *weight_order(const hsgd_layer *layer)
{
    int64_t *order = malloc((size_t)layer->weight_count * sizeof *order);

    assert_non_null(order);
    for (int64_t i = 0; i < layer->weight_count; i++) {
        order[i] = i;
    }
    if (subject->ops->weight_order != NULL) {
        subject->ops->weight_order(subject->self, layer, order);
    }
    return order;
}

/* The three kernels of a bilinear layer: which of (y, weight, x) is the result; the other two are given. */
typedef enum { VALUE, ADJOINT_INPUT, ADJOINT_WEIGHT } role;

/* Sums with what their error bound needs. */
typedef struct {
    double *sum, *absolute; /* sum of terms and of their absolute values */
    int64_t *terms;
} reference;

static inline reference reference_make(int64_t count)
{
    reference r = {calloc((size_t)count, sizeof(double)), calloc((size_t)count, sizeof(double)),
                   calloc((size_t)count, sizeof(int64_t))};

    assert_true(r.sum != NULL && r.absolute != NULL && r.terms != NULL);
    return r;
}

static inline void reference_free(reference *r)
{
    free(r->sum);
    free(r->absolute);
    free(r->terms);
}

static inline void reference_add(reference *r, int64_t at, double term)
{
    r->sum[at] += term;
    r->absolute[at] += fabs(term);
    r->terms[at]++;
}

static inline void meet(role which, reference *r, int64_t y, int64_t w, int64_t x, const double *a, const double *b)
{
    switch (which) {
    case VALUE:
        reference_add(r, y, a[x] * b[w]);
        break;
    case ADJOINT_INPUT:
        reference_add(r, x, a[y] * b[w]);
        break;
    case ADJOINT_WEIGHT:
        reference_add(r, w, a[y] * b[x]);
        break;
    }
}

/* All output pixels that one weight (o, i, ky, kx) of a convolution meets in sample s. */
static inline void meet_weight(role which, reference *r, const hsgd_layer *layer, int64_t s, int64_t o, int64_t i,
                               int64_t tap, const double *a, const double *b)
{
    const int64_t h = layer->in.height, w = layer->in.width, edge = layer->size;

    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++) {
            const int64_t from_y = y + tap / edge - edge / 2, from_x = x + tap % edge - edge / 2;

            if (from_y >= 0 && from_y < h && from_x >= 0 && from_x < w) {
                meet(which, r, ((s * layer->out.channels + o) * h + y) * w + x,
                     (o * layer->in.channels + i) * edge * edge + tap,
                     ((s * layer->in.channels + i) * h + from_y) * w + from_x, a, b);
            }
        }
    }
}

/* Every term of the layer.  VALUE: a = x, b = w.  ADJOINT_INPUT: a = dy, b = w.  ADJOINT_WEIGHT: a = dy, b = x. */
static inline void meet_all(role which, reference *r, const hsgd_layer *layer, int64_t m, const double *a,
                            const double *b)
{
    const bool conv = layer->kind == HSGD_LAYER_CONV;
    const int64_t taps = conv ? layer->size * layer->size : 1;

    for (int64_t s = 0; s < m; s++) {
        for (int64_t o = 0; o < layer->out.channels; o++) {
            for (int64_t i = 0; i < layer->in.channels; i++) {
                for (int64_t tap = 0; tap < taps; tap++) {
                    meet_weight(which, r, layer, s, o, i, tap, a, b);
                }
            }
        }
    }
}
