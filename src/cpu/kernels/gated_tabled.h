/* src/cpu/kernels/gated_tabled.h - tabled gates, of images of one channel: the places whose patch of the image is not all
 * zero, and the convolution there, along the output channels.  Passing over zero patches leaves out products with zero
 * alone, and in images of digits (not shifted by a mean) they are most. */
#pragma once
#include "cpu/kernels/gated_rows.h"

/* Sums side by side, to hide the latency of additions and to share the loads of weights. */
enum { PATCHES_AT_ONCE = 8 };

/* Of the places that windows cover, those with a patch: in row y, column[start[y]] to column[start[y + 1]]. */
typedef struct {
    uint16_t *column;
    uint32_t *start;
    uint64_t *marks;     /* scratch: [padded height] */
    uint32_t *from, *to; /* scratch: of the places of a row of windows, where patch and sum stand */
} patch_list;

enum { MARKS = 64 }; /* bits: the widest padded image that is looked through; in wider ones every patch is taken */

INLINE size_t patch_list_bytes(const gated *g)
{
    const conv *c = &g->c;
    const size_t most = (size_t)(g->size * c->width + PATCHES_AT_ONCE) * sizeof(uint32_t);

    return hsgd_cpu_round((size_t)c->places * sizeof(uint16_t)) +
           hsgd_cpu_round((size_t)(c->height + 1) * sizeof(uint32_t)) +
           hsgd_cpu_round((size_t)c->padded_height * sizeof(uint64_t)) + 2 * hsgd_cpu_round(most);
}

INLINE patch_list patch_list_take(const gated *g, void **at)
{
    const conv *c = &g->c;
    const size_t most = (size_t)(g->size * c->width + PATCHES_AT_ONCE) * sizeof(uint32_t);
    patch_list list;

    list.column = hsgd_cpu_take(at, (size_t)c->places * sizeof(uint16_t));
    list.start = hsgd_cpu_take(at, (size_t)(c->height + 1) * sizeof(uint32_t));
    list.marks = hsgd_cpu_take(at, (size_t)c->padded_height * sizeof(uint64_t));
    list.from = hsgd_cpu_take(at, most);
    list.to = hsgd_cpu_take(at, most);
    return list;
}

/* Bit x: whether row `row` of the patch at column x holds anything but zeros. */
INLINE uint64_t mark_row(const conv *c, const real *row)
{
    uint64_t pixels = 0, marks = 0;

    if (c->padded_width > MARKS) {
        return ~UINT64_C(0);
    }
    for (int64_t x = 0; x < c->padded_width; x += V) {
        pixels |= (uint64_t)nonzero_bits(row + x, c->padded_width - x) << x;
    }
    for (int64_t i = 0; i < c->edge; i++) {
        marks |= pixels >> i;
    }
    return marks;
}

static inline void find_patches(const gated *g, const real *padded, patch_list *list)
{
    const conv *c = &g->c;
    uint32_t n = 0;

    for (int64_t y = 0; y < c->padded_height; y++) {
        list->marks[y] = mark_row(c, padded + y * c->padded_width);
    }
    for (int64_t y = 0; y < g->rows * g->size; y++) {
        uint64_t marks = 0;

        list->start[y] = n;
        for (int64_t r = 0; r < c->edge; r++) {
            marks |= list->marks[y + r];
        }
        for (int64_t x = 0; x < g->columns * g->size; x++) { /* without a branch that nobody can foretell */
            list->column[n] = (uint16_t)x;
            n += (uint32_t)(marks >> x % MARKS & 1);
        }
    }
    list->start[g->rows * g->size] = n;
}

/* The sums of a group of patches: rows[to] = sum over taps of the patch at `from` times the weights of a vector of
 * channels.  packed: [edge][run][step]. */
INLINE void sum_patches(const conv *c, const real *padded, const uint32_t *from, const real *packed, int64_t step,
                        const uint32_t *to, real *rows)
{
    const real *patch[PATCHES_AT_ONCE];
    vec sum[PATCHES_AT_ONCE] = {0};

    for (int i = 0; i < PATCHES_AT_ONCE; i++) {
        patch[i] = padded + from[i];
    }
    for (int64_t r = 0; r < c->edge; r++) {
        for (int64_t t = 0; t < c->run; t++) {
            const vec weights = load(packed + (r * c->run + t) * step);
            const int64_t at = r * c->padded_width + t;

#pragma GCC unroll 8
            for (int i = 0; i < PATCHES_AT_ONCE; i++) {
                sum[i] += patch[i][at] * weights;
            }
        }
    }
    for (int i = 0; i < PATCHES_AT_ONCE; i++) {
        store(rows + to[i], sum[i]);
    }
}

/* The convolution's rows of window row `wy` for a vector of channels: rows [size][tiles * lanes][V]. */
static inline void convolve_patches(const row_plan *p, const patch_list *list, const real *padded, const real *packed,
                                    int64_t wy, real *rows)
{
    const conv *c = &p->g->c;
    const int64_t row = p->tiles * p->lanes;
    int64_t n = 0;

    memset(rows, 0, (size_t)(p->g->size * row * V) * sizeof(real));
    for (int64_t i = 0; i < p->g->size; i++) {
        const int64_t y = wy * p->g->size + i;

        for (uint32_t e = list->start[y]; e < list->start[y + 1]; e++, n++) {
            list->from[n] = (uint32_t)(y * c->padded_width + list->column[e]);
            list->to[n] = (uint32_t)((i * row + list->column[e]) * V);
        }
    }
    for (int64_t i = 0; i < PATCHES_AT_ONCE && n > 0; i++) { /* fill up with the last */
        list->from[n + i] = list->from[n - 1];
        list->to[n + i] = list->to[n - 1];
    }
    for (int64_t i = 0; i < n; i += PATCHES_AT_ONCE) {
        sum_patches(c, padded, list->from + i, packed, p->out_padded, list->to + i, rows);
    }
}
