/* src/cpu/kernels/gated_value.c - a gated convolution's linear map, at its open gates: dot products of filters with the
 * patches at their places.  Tabled gates, where rows are short: see gated_tabled.c. */
#include "cpu/kernels/gated.h"

INLINE real sum_of_lanes(vec v)
{
#if defined(__AVX512F__) && defined(REAL_IS_float)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX512F__)
    return _mm512_reduce_add_pd((__m512d)v);
#else
    real sum[V];

    store(sum, v);
    for (int half = V / 2; half > 0; half /= 2) { /* in halves: few additions wait for one another */
        for (int i = 0; i < half; i++) {
            sum[i] += sum[i + half];
        }
    }
    return sum[0];
#endif
}

/* partial[i] (+)= a block of the filter times that of patch i, lane by lane; `begin`: nothing is there yet.  The block
 * stays in registers while the gates go by, each with a sum for every row.  rows and vectors: compile-time constants. */
INLINE void dot_block(const int rows, const int vectors, const patch_shape s, int64_t count, const open_gate *open,
                      const real *w, const real *x, bool begin, real *partial)
{
    vec filter[BLOCK_ROWS][BLOCK_WIDE];

    load_block(rows, vectors, s.run, w, filter);
    for (int64_t i = 0; i < count; i++) {
        const real *patch = x + open[i].at;
        vec sum[BLOCK_ROWS];

#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
            sum[r] = filter[r][0] * load(patch + r * s.row);
#pragma GCC unroll 5
            for (int v = 1; v < vectors; v++) {
                sum[r] += filter[r][v] * load(patch + r * s.row + v * V);
            }
        }
#pragma GCC unroll 5
        for (int r = 1; r < rows; r++) {
            sum[0] += sum[r];
        }
        if (!begin) {
            sum[0] += load(partial + i * V);
        }
        store(partial + i * V, sum[0]);
    }
}

/* The same for `rows` rows of the filter, of any length, from row r on. */
INLINE void dot_rows(const int rows, const patch_shape s, int64_t r, int64_t count, const open_gate *open,
                     const real *w, const real *x, bool begin, real *partial)
{
    int64_t v = 0;

    w += r * s.run;
    x += r * s.row;
    for (; v + BLOCK_WIDE * V <= s.run; v += BLOCK_WIDE * V) {
        dot_block(rows, BLOCK_WIDE, s, count, open, w + v, x + v, begin && v == 0, partial);
    }
    for (; v < s.run; v += V) {
        dot_block(rows, 1, s, count, open, w + v, x + v, begin && v == 0, partial);
    }
}

/* y [windows][out] at one channel's open gates. */
INLINE void value_channel(const patch_shape s, int terms, int64_t out, const real *const *x, const real *const *w,
                          real b, int64_t count, const open_gate *open, real *partial, real *y)
{
    for (int t = 0; t < terms; t++) {
        int64_t r = 0;

        for (; r + BLOCK_ROWS <= s.edge; r += BLOCK_ROWS) {
            dot_rows(BLOCK_ROWS, s, r, count, open, w[t], x[t], t == 0 && r == 0, partial);
        }
        for (; r < s.edge; r++) {
            dot_rows(1, s, r, count, open, w[t], x[t], t == 0 && r == 0, partial);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        y[open[i].window * out] = sum_of_lanes(load(partial + i * V)) + b;
    }
}

static void value_sample(const gated *g, int64_t m, const void *gates, int terms, int64_t s, const real *const *w,
                         const real *b, const gate_work *work, real *y)
{
    const int64_t filter = g->c.edge * g->c.run_padded;
    const real *x[HSGD_GATED_TERMS] = {work->padded[0], work->padded[1]};
    const patch_shape shape = patch_shape_of(&g->c);

    memset(y, 0, (size_t)g->count * sizeof(real));
    for (int64_t o = 0; o < g->c.out; o++) {
        const real *own[HSGD_GATED_TERMS] = {w[0] + o * filter, terms == 2 ? w[1] + o * filter : NULL};
        const int64_t count = list_open(g, m, gates, work->at, s, o, work->open);
        const real bias = b != NULL ? b[o] : 0;

        if (is_common(shape)) {
            value_channel(COMMON_SHAPE, terms, g->c.out, x, own, bias, count, work->open, work->partial, y + o);
        } else {
            value_channel(shape, terms, g->c.out, x, own, bias, count, work->open, work->partial, y + o);
        }
    }
}

hsgd_status KERNEL(gated_value)(void *self, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                int terms, const void *const *x, const void *const *w, const void *b, void *y,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    const real *filters[HSGD_GATED_TERMS] = {NULL};
    gate_work work = {0};

    if (!g.listed) {
        return KERNEL(tabled_value)(self, worker, layers, m, gates, terms, x, w, b, y, err);
    }
    HSGD_TRY(gate_work_get(&g, self, worker, terms, &work, err));
    for (int t = 0; t < terms; t++) {
        filters[t] = filter_rows(&g.c, w[t], work.rows[t]);
    }
    for (int64_t s = 0; s < m; s++) {
        for (int t = 0; t < terms; t++) {
            pad_sample(&g.c, g.c.in, (const real *)x[t] + s * g.c.places * g.c.in, work.padded[t]);
        }
        value_sample(&g, m, gates, terms, s, filters, b, &work, (real *)y + s * g.count);
    }
done:
    return st;
}
