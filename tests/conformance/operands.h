/* tests/conformance/operands.h - k random arrays in a backend's layout, with their canonical originals. */
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

/* zeros: how many in 8 entries are zero.  lined: at multiples of LINE reals, as activations are; weights are anywhere. */
static inline operand operand_place(bool lined, int64_t m, int64_t count, int64_t k, bool shared, const int64_t *order,
                                    int64_t zeros)
{
    operand a = {.m = m, .count = count, .k = k, .shared = shared, .order = order};
    const int64_t arrays = operand_arrays(&a), close = m * count + GAP;
    const int64_t stride = lined ? (close + LINE - 1) / LINE * LINE : close;
    double *laid = malloc((size_t)(arrays * stride) * sizeof *laid);

    assert_non_null(laid);
    a.canonical = draw_reals(arrays * m * count, zeros);
    for (int64_t j = 0; j < arrays; j++) {
        for (int64_t i = 0; i < stride; i++) {
            const int64_t s = i / count;

            laid[j * stride + i] = s < m ? a.canonical[(j * m + s) * count + order[i % count]] : guard;
        }
    }
    a.stride = stride;
    a.columns = (hsgd_columns){to_backend(laid, arrays * stride), shared ? 0 : stride};
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
