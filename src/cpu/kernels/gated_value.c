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

/* sums[i] = sum over the terms of filter times patch i: gates go side by side, to hide the latency of additions and to
 * share the loads of the filter.  terms and, in the common case, the shape are compile-time constants. */
INLINE void dot_patches(const int terms, const patch_shape s, const real *const *x, const real *const *w,
                        const open_gate *open, real *sums)
{
    vec sum[GATES_AT_ONCE][HSGD_GATED_TERMS] = {0};
    const real *patch[GATES_AT_ONCE][HSGD_GATED_TERMS];

    for (int i = 0; i < GATES_AT_ONCE; i++) {
        for (int t = 0; t < terms; t++) {
            patch[i][t] = x[t] + open[i].at;
        }
    }
#pragma GCC unroll 5
    for (int64_t r = 0; r < s.edge; r++) {
#pragma GCC unroll 5
        for (int64_t v = 0; v < s.run; v += V) {
#pragma GCC unroll 2
            for (int t = 0; t < terms; t++) {
                const vec filter = load(w[t] + r * s.run + v);

#pragma GCC unroll 8
                for (int i = 0; i < GATES_AT_ONCE; i++) {
                    sum[i][t] += filter * load(patch[i][t] + r * s.row + v);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < GATES_AT_ONCE; i++) {
        if (terms == 2) {
            sum[i][0] += sum[i][1];
        }
        sums[i] = sum_of_lanes(sum[i][0]);
    }
}

/* y [windows][out] at one channel's open gates. */
INLINE void value_channel(const int terms, const patch_shape s, int64_t out, const real *const *x, const real *const *w,
                          real b, int64_t count, open_gate *open, real *y)
{
    for (int i = 0; i < GATES_AT_ONCE && count > 0; i++) { /* fill up with the last */
        open[count + i] = open[count - 1];
    }
    for (int64_t i = 0; i < count; i += GATES_AT_ONCE) {
        real sums[GATES_AT_ONCE];

        dot_patches(terms, s, x, w, open + i, sums);
        for (int64_t j = 0; j < least(GATES_AT_ONCE, count - i); j++) {
            y[open[i + j].window * out] = sums[j] + b;
        }
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

        if (terms == 2 && is_common(shape)) {
            value_channel(2, COMMON_SHAPE, g->c.out, x, own, bias, count, work->open, y + o);
        } else if (terms == 2) {
            value_channel(2, shape, g->c.out, x, own, bias, count, work->open, y + o);
        } else {
            value_channel(1, shape, g->c.out, x, own, bias, count, work->open, y + o);
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
