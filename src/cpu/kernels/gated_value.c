/* src/cpu/kernels/gated_value.c - a gated convolution's linear map, at its open gates: dot products of filters with the
 * patches at their places.  Tabled gates, where rows are short: see gated_tabled.c. */
#include "cpu/kernels/gated.h"

enum { AT_ONCE = 4 }; /* gates whose dot products go side by side, to hide the latency of additions */

INLINE real sum_of_lanes(vec v)
{
#if defined(__AVX512F__) && defined(REAL_IS_float)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX512F__)
    return _mm512_reduce_add_pd((__m512d)v);
#else
    real sum = 0;

    for (int i = 0; i < V; i++) {
        sum += v[i];
    }
    return sum;
#endif
}

/* sums[i] = sum over the terms of filter times patch i, for `count` patches; terms, count: compile-time constants.  Every
 * sum is formed by the same steps, whatever the count. */
INLINE void dot_patches(const int terms, const int count, const conv *c, const real *const *x, const real *const *w,
                        const open_gate *open, real *sums)
{
    const int64_t row = c->padded_width * c->in;
    vec sum[AT_ONCE][HSGD_GATED_TERMS] = {0};

    for (int64_t r = 0; r < c->edge; r++) {
        for (int64_t v = 0; v < c->run_padded; v += V) {
#pragma GCC unroll 2
            for (int t = 0; t < terms; t++) {
                const vec filter = load(w[t] + r * c->run_padded + v);
                const real *from = x[t] + r * row + v;

#pragma GCC unroll 8
                for (int i = 0; i < count; i++) {
                    sum[i][t] += filter * load(from + open[i].at);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        if (terms == 2) {
            sum[i][0] += sum[i][1];
        }
        sums[i] = sum_of_lanes(sum[i][0]);
    }
}

/* y [windows][out] at one channel's open gates. */
INLINE void value_channel(const int terms, const gated *g, const real *const *x, const real *const *w, real b,
                          int64_t count, const open_gate *open, real *y)
{
    real sums[AT_ONCE];
    int64_t i = 0;

    for (; i + AT_ONCE <= count; i += AT_ONCE) {
        dot_patches(terms, AT_ONCE, &g->c, x, w, open + i, sums);
        for (int j = 0; j < AT_ONCE; j++) {
            y[open[i + j].window * g->c.out] = sums[j] + b;
        }
    }
    for (; i < count; i++) {
        dot_patches(terms, 1, &g->c, x, w, open + i, sums);
        y[open[i].window * g->c.out] = sums[0] + b;
    }
}

static void value_sample(const gated *g, int64_t m, const void *gates, int terms, int64_t s, const real *const *w,
                         const real *b, const gate_work *work, real *y)
{
    const int64_t filter = g->c.edge * g->c.run_padded;
    const real *x[HSGD_GATED_TERMS] = {work->padded[0], work->padded[1]};

    memset(y, 0, (size_t)g->count * sizeof(real));
    for (int64_t o = 0; o < g->c.out; o++) {
        const real *own[HSGD_GATED_TERMS] = {w[0] + o * filter, terms == 2 ? w[1] + o * filter : NULL};
        const int64_t count = list_open(g, m, gates, work->at, s, o, work->open);
        const real bias = b != NULL ? b[o] : 0;

        if (terms == 2) {
            value_channel(2, g, x, own, bias, count, work->open, y + o);
        } else {
            value_channel(1, g, x, own, bias, count, work->open, y + o);
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
            pad_sample(&g.c, (const real *)x[t] + s * g.c.places * g.c.in, work.padded[t]);
        }
        value_sample(&g, m, gates, terms, s, filters, b, &work, (real *)y + s * g.count);
    }
done:
    return st;
}
