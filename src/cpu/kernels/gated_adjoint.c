/* src/cpu/kernels/gated_adjoint.c - adjoints of a gated convolution, at its open gates: filters spread on the patches at
 * their places, and patches gathered into filters. */
#include "cpu/kernels/gated.h"

/* A filter's block that stays in registers while the gates go by. */
#if VEC_BYTES == 64
enum { SPREAD_WIDE = 5, SPREAD_ROWS = 5, SPREAD_ROWS_OF_TWO = 2 };
#else
enum { SPREAD_WIDE = 2, SPREAD_ROWS = 3, SPREAD_ROWS_OF_TWO = 1 };
#endif

/* An open gate with what comes back through it, of every term. */
typedef struct {
    uint32_t at;
    real dy[HSGD_GATED_TERMS];
} flow;

/* canvas[at + r * row + v * V] += sum over terms of dy_t w_t[r * run_padded + v * V] for all gates.  terms, rows and
 * vectors: compile-time constants. */
INLINE void spread_block(const int terms, const int rows, const int vectors, const conv *c, int64_t count,
                         const flow *flows, const real *const *w, real *canvas)
{
    const int64_t row = c->padded_width * c->in;
    vec filter[HSGD_GATED_TERMS][SPREAD_ROWS][SPREAD_WIDE];

#pragma GCC unroll 2
    for (int t = 0; t < terms; t++) {
#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
            for (int v = 0; v < vectors; v++) {
                filter[t][r][v] = load(w[t] + r * c->run_padded + v * V);
            }
        }
    }
    for (int64_t i = 0; i < count; i++) {
        real *to = canvas + flows[i].at;
        const real first = flows[i].dy[0], second = terms == 2 ? flows[i].dy[1] : 0;

#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
            for (int v = 0; v < vectors; v++) {
                vec sum = load(to + r * row + v * V) + first * filter[0][r][v];

                if (terms == 2) {
                    sum += second * filter[1][r][v];
                }
                store(to + r * row + v * V, sum);
            }
        }
    }
}

/* The same for any number of vectors. */
INLINE void spread_rows(const int terms, const int rows, const conv *c, int64_t count, const flow *flows,
                        const real *const *w, real *canvas)
{
    const int64_t vectors = c->run_padded / V;
    int64_t v = 0;

    for (; v + SPREAD_WIDE <= vectors; v += SPREAD_WIDE) {
        const real *from[HSGD_GATED_TERMS] = {w[0] + v * V, terms == 2 ? w[1] + v * V : NULL};

        spread_block(terms, rows, SPREAD_WIDE, c, count, flows, from, canvas + v * V);
    }
    for (; v < vectors; v++) {
        const real *from[HSGD_GATED_TERMS] = {w[0] + v * V, terms == 2 ? w[1] + v * V : NULL};

        spread_block(terms, rows, 1, c, count, flows, from, canvas + v * V);
    }
}

/* The same for any number of rows. */
INLINE void spread_terms(const int terms, const int most_rows, const conv *c, int64_t count, const flow *flows,
                         const real *const *w, real *canvas)
{
    const int64_t row = c->padded_width * c->in;
    int64_t r = 0;

    for (; r + most_rows <= c->edge; r += most_rows) {
        const real *from[HSGD_GATED_TERMS] = {w[0] + r * c->run_padded, terms == 2 ? w[1] + r * c->run_padded : NULL};

        spread_rows(terms, most_rows, c, count, flows, from, canvas + r * row);
    }
    for (; r < c->edge; r++) {
        const real *from[HSGD_GATED_TERMS] = {w[0] + r * c->run_padded, terms == 2 ? w[1] + r * c->run_padded : NULL};

        spread_rows(terms, 1, c, count, flows, from, canvas + r * row);
    }
}

/* ---- adjoint in the input ---- */

typedef struct {
    real *canvas, *packed[HSGD_GATED_TERMS];
    uint32_t *at;
    open_gate *open;
    flow *flows;
} input_work;

static hsgd_status input_work_get(const gated *g, hsgd_cpu *cpu, int worker, int terms, input_work *work,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &g->c;
    const size_t canvas = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t packed = (size_t)(c->out * c->edge * c->run_padded) * sizeof(real);
    const size_t at = (size_t)places_count(g) * sizeof(uint32_t);
    const size_t open = (size_t)g->windows * sizeof(open_gate), flows = (size_t)g->windows * sizeof(flow);
    void *memory = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker,
                                  hsgd_cpu_round(canvas) + (size_t)terms * hsgd_cpu_round(packed) + hsgd_cpu_round(at) +
                                      hsgd_cpu_round(open) + hsgd_cpu_round(flows),
                                  &memory, err));
    work->canvas = hsgd_cpu_take(&memory, canvas);
    for (int t = 0; t < terms; t++) {
        work->packed[t] = hsgd_cpu_take(&memory, packed);
    }
    work->at = hsgd_cpu_take(&memory, at);
    work->open = hsgd_cpu_take(&memory, open);
    work->flows = hsgd_cpu_take(&memory, flows);
    place_table(g, work->at);
done:
    return st;
}

/* One sample's adjoint on the canvas. */
static void spread_sample(const gated *g, int64_t m, const void *gates, int terms, int64_t s, const real *const *dy,
                          const real *const *w, const input_work *work)
{
    const conv *c = &g->c;

    memset(work->canvas, 0, (size_t)conv_padded_all(c, 1, c->in) * sizeof(real));
    for (int64_t o = 0; o < c->out; o++) {
        const int64_t filter = o * c->edge * c->run_padded;
        const real *own[HSGD_GATED_TERMS] = {w[0] + filter, terms == 2 ? w[1] + filter : NULL};
        const int64_t count = list_open(g, m, gates, work->at, s, o, work->open);

        for (int64_t i = 0; i < count; i++) {
            const int64_t from = s * g->count + work->open[i].window * c->out + o;

            work->flows[i] = (flow){work->open[i].at, {dy[0][from], terms == 2 ? dy[1][from] : 0}};
        }
        if (terms == 2) {
            spread_terms(2, SPREAD_ROWS_OF_TWO, c, count, work->flows, own, work->canvas);
        } else {
            spread_terms(1, SPREAD_ROWS, c, count, work->flows, own, work->canvas);
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
    const real *filters[HSGD_GATED_TERMS] = {NULL}, *from[HSGD_GATED_TERMS] = {NULL};
    input_work work = {0};

    HSGD_TRY(input_work_get(&g, self, worker, terms, &work, err));
    for (int t = 0; t < terms; t++) {
        filters[t] = filter_rows(c, w[t], work.packed[t]);
        from[t] = dy[t];
    }
    for (int64_t s = 0; s < m; s++) {
        const real *inner = work.canvas + (c->margin * c->padded_width + c->margin) * c->in;

        spread_sample(&g, m, gates, terms, s, from, filters, &work);
        for (int64_t y = 0; y < c->height; y++) {
            memcpy((real *)dx + (s * c->height + y) * row, inner + y * c->padded_width * c->in,
                   (size_t)row * sizeof(real));
        }
    }
done:
    return st;
}

/* ---- adjoint in the weight ---- */

typedef struct {
    real *padded[HSGD_GATED_TERMS], *sums;
    uint32_t *at;
    open_gate *open;
    entry *entries;
} weight_work;

static hsgd_status weight_work_get(const gated *g, hsgd_cpu *cpu, int worker, int terms, weight_work *work,
                                   hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &g->c;
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t sums = (size_t)(c->out * c->edge * c->run_padded) * sizeof(real);
    const size_t at = (size_t)places_count(g) * sizeof(uint32_t);
    const size_t open = (size_t)g->windows * sizeof(open_gate), entries = (size_t)g->windows * sizeof(entry);
    void *memory = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker,
                                  (size_t)terms * hsgd_cpu_round(padded) + hsgd_cpu_round(sums) + hsgd_cpu_round(at) +
                                      hsgd_cpu_round(open) + hsgd_cpu_round(entries),
                                  &memory, err));
    for (int t = 0; t < terms; t++) {
        work->padded[t] = hsgd_cpu_take(&memory, padded);
        memset(work->padded[t], 0, padded);
    }
    work->sums = hsgd_cpu_take(&memory, sums);
    work->at = hsgd_cpu_take(&memory, at);
    work->open = hsgd_cpu_take(&memory, open);
    work->entries = hsgd_cpu_take(&memory, entries);
    place_table(g, work->at);
done:
    return st;
}

/* The sum of what comes back: four sums at a time, to hide the latency of additions. */
INLINE real sum_entries(int64_t count, const entry *entries)
{
    real sum[4] = {0};

    for (int64_t i = 0; i < count; i++) {
        sum[i % 4] += entries[i].value;
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* sums [out][edge][run padded] += one sample's patches; db += what comes back in term 0. */
static void gather_sample(const gated *g, int64_t m, const void *gates, int terms, int64_t s, const real *const *dy,
                          const weight_work *work, real *sums, real *db)
{
    const conv *c = &g->c;

    for (int64_t o = 0; o < c->out; o++) {
        const int64_t count = list_open(g, m, gates, work->at, s, o, work->open);

        for (int t = 0; t < terms && count > 0; t++) {
            const real *from = dy[t] + s * g->count + o;

            for (int64_t i = 0; i < count; i++) {
                work->entries[i] = (entry){work->open[i].at, from[work->open[i].window * c->out]};
            }
            if (t == 0 && db != NULL) {
                db[o] += sum_entries(count, work->entries);
            }
            span(c->edge, c->run_padded / V, count, work->entries, work->padded[t], c->padded_width * c->in,
                 sums + o * c->edge * c->run_padded, c->run_padded);
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
    const real *from[HSGD_GATED_TERMS] = {dy[0], terms == 2 ? dy[1] : NULL};
    weight_work work = {0};

    if (!g.listed) {
        return KERNEL(tabled_adjoint_weight)(self, worker, layers, m, gates, terms, dy, x, dw, db, err);
    }
    HSGD_TRY(weight_work_get(&g, self, worker, terms, &work, err));
    if (!direct) {
        memset(work.sums, 0, (size_t)(c->out * c->edge * c->run_padded) * sizeof(real));
    }
    for (int64_t s = 0; s < m; s++) {
        for (int t = 0; t < terms; t++) {
            pad_sample(c, (const real *)x[t] + s * c->places * c->in, work.padded[t]);
        }
        gather_sample(&g, m, gates, terms, s, from, &work, direct ? dw : work.sums, db);
    }
    for (int64_t r = 0; r < c->out * c->edge && !direct; r++) {
        for (int64_t i = 0; i < c->run; i++) {
            ((real *)dw)[r * c->run + i] += work.sums[r * c->run_padded + i];
        }
    }
done:
    return st;
}
