/* src/cpu/kernels/gated_adjoint.c - adjoints of a gated convolution, at its open gates: filters spread on the patches at
 * their places, and patches gathered into filters. */
#include "cpu/kernels/gated.h"

/* canvas[at + r * s.row + v * V] += sum over terms of dy_t w_t[r * s.run + v * V] for all gates.  terms, rows and
 * vectors: compile-time constants. */
INLINE void spread_block(const int terms, const int rows, const int vectors, const patch_shape s, int64_t count,
                         const open_gate *open, const real *const *w, real *canvas)
{
    vec filter[HSGD_GATED_TERMS][BLOCK_ROWS][BLOCK_WIDE];

#pragma GCC unroll 2
    for (int t = 0; t < terms; t++) {
        load_block(rows, vectors, s.run, w[t], filter[t]);
    }
    for (int64_t i = 0; i < count; i++) {
        real *to = canvas + open[i].at;
        const real first = open[i].dy[0], second = terms == 2 ? open[i].dy[1] : 0;

#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
            for (int v = 0; v < vectors; v++) {
                vec sum = load(to + r * s.row + v * V) + first * filter[0][r][v];

                if (terms == 2) {
                    sum += second * filter[1][r][v];
                }
                store(to + r * s.row + v * V, sum);
            }
        }
    }
}

/* to[r * s.run + v * V] += sum over terms and gates of dy_t x_t[at + r * s.row + v * V], as spread_block. */
INLINE void gather_block(const int terms, const int rows, const int vectors, const patch_shape s, int64_t count,
                         const open_gate *open, const real *const *x, real *to)
{
    vec sum[BLOCK_ROWS][BLOCK_WIDE];

    load_block(rows, vectors, s.run, to, sum);
    for (int64_t i = 0; i < count; i++) {
#pragma GCC unroll 2
        for (int t = 0; t < terms; t++) {
            const real *from = x[t] + open[i].at;
            const real dy = open[i].dy[t];

#pragma GCC unroll 5
            for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
                for (int v = 0; v < vectors; v++) {
                    sum[r][v] += dy * load(from + r * s.row + v * V);
                }
            }
        }
    }
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
        for (int v = 0; v < vectors; v++) {
            store(to + r * s.run + v * V, sum[r][v]);
        }
    }
}

/* One block, `at` reals into the filters or patches it comes from. */
INLINE void any_block(const bool spreading, const int terms, const int rows, const int vectors, const patch_shape s,
                      int64_t count, const open_gate *open, const real *const *from, int64_t at, real *to)
{
    const real *own[HSGD_GATED_TERMS] = {from[0] + at, terms == 2 ? from[1] + at : NULL};

    if (spreading) {
        spread_block(terms, rows, vectors, s, count, open, own, to);
    } else {
        gather_block(terms, rows, vectors, s, count, open, own, to);
    }
}

/* `rows` rows of a filter from row r on. */
INLINE void block_rows(const bool spreading, const int terms, const int rows, const patch_shape s, int64_t r,
                       int64_t count, const open_gate *open, const real *const *from, real *to)
{
    const int64_t at = r * (spreading ? s.run : s.row), vectors = s.run / V;
    int64_t v = 0;

    to += r * (spreading ? s.row : s.run);
    for (; v + BLOCK_WIDE <= vectors; v += BLOCK_WIDE) {
        any_block(spreading, terms, rows, BLOCK_WIDE, s, count, open, from, at + v * V, to + v * V);
    }
    for (; v < vectors; v++) {
        any_block(spreading, terms, rows, 1, s, count, open, from, at + v * V, to + v * V);
    }
}

/* Whole filters: spread from `from` on a canvas, or gathered there out of the patches of `from`; `most_rows` at a time. */
INLINE void blocks(const bool spreading, const int terms, const int most_rows, const patch_shape s, int64_t count,
                   const open_gate *open, const real *const *from, real *to)
{
    int64_t r = 0;

    for (; r + most_rows <= s.edge; r += most_rows) {
        block_rows(spreading, terms, most_rows, s, r, count, open, from, to);
    }
    for (; r < s.edge; r++) {
        block_rows(spreading, terms, 1, s, r, count, open, from, to);
    }
}

/* The same, with the common shape's constants where it has that shape. */
INLINE void filters(const bool spreading, const int terms, const int most_rows, const conv *c, int64_t count,
                    const open_gate *open, const real *const *from, real *to)
{
    const patch_shape s = patch_shape_of(c);

    if (is_common(s)) {
        blocks(spreading, terms, most_rows, COMMON_SHAPE, count, open, from, to);
    } else {
        blocks(spreading, terms, most_rows, s, count, open, from, to);
    }
}

/* The open gates of a sample's channel with what comes back through them; returns how many. */
static int64_t list_flows(const gated *g, int64_t m, const void *gates, int terms, int64_t sample, int64_t channel,
                          const void *const *dy, const gate_work *work)
{
    const int64_t count = list_open(g, m, gates, work->at, sample, channel, work->open);

    for (int t = 0; t < terms; t++) {
        const real *from = (const real *)dy[t] + sample * g->count + channel;

        for (int64_t i = 0; i < count; i++) {
            work->open[i].dy[t] = from[work->open[i].window * g->c.out];
        }
    }
    return count;
}

/* ---- adjoint in the input ---- */

/* One sample's adjoint on the canvas. */
static void spread_sample(const gated *g, int64_t m, const void *gates, int terms, int64_t s, const void *const *dy,
                          const real *const *w, const gate_work *work)
{
    const conv *c = &g->c;
    real *canvas = work->padded[0];

    memset(canvas, 0, (size_t)conv_padded_all(c, 1, c->in) * sizeof(real));
    for (int64_t o = 0; o < c->out; o++) {
        const int64_t filter = o * c->edge * c->run_padded;
        const real *own[HSGD_GATED_TERMS] = {w[0] + filter, terms == 2 ? w[1] + filter : NULL};
        const int64_t count = list_flows(g, m, gates, terms, s, o, dy, work);

        if (terms == 2) {
            filters(true, 2, BLOCK_ROWS_OF_TWO, c, count, work->open, own, canvas);
        } else {
            filters(true, 1, BLOCK_ROWS, c, count, work->open, own, canvas);
        }
    }
}

hsgd_status KERNEL(gated_adjoint_input)(void *self, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                        int terms, const void *const *dy, const void *const *w, void *dx,
                                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    const conv *c = &g.c;
    const int64_t row = c->width * c->in;
    const real *filters[HSGD_GATED_TERMS] = {NULL};
    gate_work work = {0};

    HSGD_TRY(gate_work_get(&g, self, worker, terms, &work, err));
    for (int t = 0; t < terms; t++) {
        filters[t] = filter_rows(c, w[t], work.rows[t]);
    }
    for (int64_t s = 0; s < m; s++) {
        const real *inner = work.padded[0] + (c->margin * c->padded_width + c->margin) * c->in;

        spread_sample(&g, m, gates, terms, s, dy, filters, &work);
        for (int64_t y = 0; y < c->height; y++) {
            memcpy((real *)dx + (s * c->height + y) * row, inner + y * c->padded_width * c->in,
                   (size_t)row * sizeof(real));
        }
    }
done:
    return st;
}

/* ---- adjoint in the weight ---- */

/* The sum of what comes back in term 0: four sums at a time, to hide the latency of additions. */
INLINE real sum_flows(int64_t count, const open_gate *open)
{
    real a = 0, b = 0, c = 0, d = 0;
    int64_t i = 0;

    for (; i + 4 <= count; i += 4) {
        a += open[i].dy[0];
        b += open[i + 1].dy[0];
        c += open[i + 2].dy[0];
        d += open[i + 3].dy[0];
    }
    for (; i < count; i++) {
        a += open[i].dy[0];
    }
    return (a + b) + (c + d);
}

/* sums [out][edge][run padded] += one sample's patches; db += what comes back in term 0. */
static void gather_sample(const gated *g, int64_t m, const void *gates, int terms, int64_t s, const void *const *dy,
                          const gate_work *work, real *sums, real *db)
{
    const conv *c = &g->c;
    const real *x[HSGD_GATED_TERMS] = {work->padded[0], work->padded[1]};

    for (int64_t o = 0; o < c->out; o++) {
        const int64_t count = list_flows(g, m, gates, terms, s, o, dy, work);
        real *to = sums + o * c->edge * c->run_padded;

        if (terms == 2) {
            filters(false, 2, BLOCK_ROWS, c, count, work->open, x, to);
        } else {
            filters(false, 1, BLOCK_ROWS, c, count, work->open, x, to);
        }
        if (db != NULL) {
            db[o] += sum_flows(count, work->open);
        }
    }
}

hsgd_status KERNEL(gated_adjoint_weight)(void *self, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                         int terms, const void *const *dy, const void *const *x, void *dw, void *db,
                                         hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    const conv *c = &g.c;
    const bool direct = c->run == c->run_padded;
    gate_work work = {0};

    if (!g.listed) {
        return KERNEL(tabled_adjoint_weight)(self, worker, layers, m, gates, terms, dy, x, dw, db, err);
    }
    HSGD_TRY(gate_work_get(&g, self, worker, terms, &work, err));
    if (!direct) {
        memset(work.rows[0], 0, (size_t)(c->out * c->edge * c->run_padded) * sizeof(real));
    }
    for (int64_t s = 0; s < m; s++) {
        for (int t = 0; t < terms; t++) {
            pad_sample(c, c->in, (const real *)x[t] + s * c->places * c->in, work.padded[t]);
        }
        gather_sample(&g, m, gates, terms, s, dy, &work, direct ? dw : work.rows[0], db);
    }
    if (!direct) {
        put_rows(c, work.rows[0], dw);
    }
done:
    return st;
}
