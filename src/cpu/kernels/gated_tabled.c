/* src/cpu/kernels/gated_tabled.c - the linear map of a gated convolution and its adjoint in the weight where a filter's
 * rows are shorter than a vector: along the output channels, whole windows at a time. */
#include "cpu/kernels/gated_rows.h"

/* ---- value ---- */

typedef struct {
    real *padded[HSGD_GATED_TERMS], *packed[HSGD_GATED_TERMS], *rows[HSGD_GATED_TERMS], *bias;
    uint8_t *blank[HSGD_GATED_TERMS];
} value_work;

static hsgd_status value_work_get(const row_plan *p, hsgd_cpu *cpu, int worker, int terms, value_work *work,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &p->g->c;
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t packed = (size_t)(c->edge * c->run * p->out_padded + 2 * V) * sizeof(real);
    const size_t bias = (size_t)(p->out_padded + 2 * V) * sizeof(real);
    const size_t rows = (size_t)rows_count(p) * sizeof(real), blank = (size_t)(c->padded_height * p->tiles);
    void *at = NULL;

    HSGD_TRY(
        hsgd_cpu_scratch_get(cpu, worker,
                             hsgd_cpu_round(bias) + (size_t)terms * (hsgd_cpu_round(padded) + hsgd_cpu_round(packed) +
                                                                     hsgd_cpu_round(rows) + hsgd_cpu_round(blank)),
                             &at, err));
    work->bias = hsgd_cpu_take(&at, bias);
    for (int t = 0; t < terms; t++) {
        work->padded[t] = hsgd_cpu_take(&at, padded);
        work->packed[t] = hsgd_cpu_take(&at, packed);
        work->rows[t] = hsgd_cpu_take(&at, rows);
        work->blank[t] = hsgd_cpu_take(&at, blank);
        memset(work->padded[t], 0, padded);
    }
done:
    return st;
}

/* y [channels] of window wx: what stands at each channel's choice, + bias. */
INLINE void pick_window(const int64_t size, const int vectors, const int terms, const row_plan *p, real *const *rows,
                        const real *bias, const uint8_t *choice, int64_t channels, int64_t wx, real *y)
{
    const int64_t row = p->tiles * p->lanes * vectors * V, at = wx * size * vectors * V;

#pragma omp simd
    for (int64_t v = 0; v < channels; v++) {
        real picked = 0;

        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < size; j++) {
                const int64_t from = at + i * row + j * vectors * V + v;
                const real candidate = (terms == 2 ? rows[0][from] + rows[1][from] : rows[0][from]) + bias[v];

                picked = choice[v] == i * size + j ? candidate : picked;
            }
        }
        y[v] = picked;
    }
}

/* y [windows][out] of one sample, for the channels of a block. */
INLINE void value_block(const int vectors, const row_plan *p, int terms, const value_work *work, const uint8_t *choice,
                        int64_t o, real *y)
{
    const gated *g = p->g;
    const int64_t channels = least(vectors * V, g->c.out - o);

    for (int64_t wy = 0; wy < g->rows; wy++) {
        for (int t = 0; t < terms; t++) {
            convolve_rows(p, vectors, work->padded[t], work->packed[t] + o, work->blank[t], wy, work->rows[t]);
        }
        for (int64_t wx = 0; wx < g->columns; wx++) {
            const int64_t at = (wy * g->columns + wx) * g->c.out + o;

            if (g->size == 2 && terms == 1 && channels == vectors * V) {
                pick_window(2, vectors, 1, p, work->rows, work->bias + o, choice + at, vectors * V, wx, y + at);
            } else {
                pick_window(g->size, vectors, terms, p, work->rows, work->bias + o, choice + at, channels, wx, y + at);
            }
        }
    }
}

hsgd_status KERNEL(tabled_value)(hsgd_cpu *cpu, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                 int terms, const void *const *x, const void *const *w, const void *b, void *y,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    const row_plan p = row_plan_of(&g);
    value_work work = {0};

    HSGD_TRY(value_work_get(&p, cpu, worker, terms, &work, err));
    for (int t = 0; t < terms; t++) {
        pack_weight(&g.c, w[t], b, work.packed[t], work.bias);
    }
    for (int64_t s = 0; s < m; s++) {
        const uint8_t *choice = (const uint8_t *)gates + s * g.count;
        real *to = (real *)y + s * g.count;

        for (int t = 0; t < terms; t++) {
            pad_sample(&g.c, (const real *)x[t] + s * g.c.places * g.c.in, work.padded[t]);
            find_blank(&p, work.padded[t], work.blank[t]);
        }
        for (int64_t o = 0; o < g.c.out; o += 2 * V) {
            if (o + V < g.c.out) {
                value_block(2, &p, terms, &work, choice, o, to);
            } else {
                value_block(1, &p, terms, &work, choice, o, to);
            }
        }
    }
done:
    return st;
}

/* ---- adjoint in the weight ---- */

typedef struct {
    real *padded, *sums, *bias; /* sums: [edge][run][out padded]; bias: [out padded] */
    uint8_t *blank;             /* [places], then room to find them in: [padded height][width] */
} weight_work;

static hsgd_status weight_work_get(const gated *g, hsgd_cpu *cpu, int worker, weight_work *work, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &g->c;
    const int64_t out_padded = round_up(c->out, V);
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t sums = (size_t)(c->edge * c->run * out_padded) * sizeof(real);
    const size_t bias = (size_t)out_padded * sizeof(real);
    const size_t blank = (size_t)(c->places + c->padded_height * c->width);
    void *at = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(
        cpu, worker, hsgd_cpu_round(padded) + hsgd_cpu_round(sums) + hsgd_cpu_round(bias) + hsgd_cpu_round(blank), &at,
        err));
    work->padded = hsgd_cpu_take(&at, padded);
    work->sums = hsgd_cpu_take(&at, sums);
    work->bias = hsgd_cpu_take(&at, bias);
    work->blank = hsgd_cpu_take(&at, blank);
    memset(work->padded, 0, padded);
    memset(work->sums, 0, sums);
    memset(work->bias, 0, bias);
done:
    return st;
}

/* blank[place]: whether the patch there is all zero. */
static void find_blank_patches(const conv *c, const real *restrict padded, uint8_t *blank)
{
    uint8_t *any = blank + c->places; /* [padded height][width]: in one row of the patch */

    for (int64_t y = 0; y < c->padded_height; y++) {
        for (int64_t x = 0; x < c->width; x++) {
            const real *from = padded + (y * c->padded_width + x) * c->in;
            uint8_t found = 0;

            for (int64_t i = 0; i < c->run; i++) {
                found |= from[i] != 0;
            }
            any[y * c->width + x] = found;
        }
    }
    for (int64_t p = 0; p < c->places; p++) {
        uint8_t found = 0;

        for (int64_t r = 0; r < c->edge; r++) {
            found |= any[p + r * c->width];
        }
        blank[p] = !found;
    }
}

/* What comes back through the gates of one vector of channels, in one sample; a place of the convolution at a time. */
typedef struct {
    const gated *g;
    const real *padded, *dy; /* dy: [windows][out], from the vector's first channel */
    const uint8_t *choice, *blank;
    int64_t channels; /* in the vector */
} backflow;

/* dy of the vector's channels whose gate leads to this choice; false where there is none. */
INLINE bool flow_at(const backflow *f, int64_t window, int64_t choice, vec *out)
{
    const uint8_t *chosen = f->choice + window * f->g->c.out;
    const real *dy = f->dy + window * f->g->c.out;
    real held[V];
    int any = 0;

    if (f->channels == V) {
#pragma omp simd reduction(| : any)
        for (int v = 0; v < V; v++) {
            any |= chosen[v] == choice;
            held[v] = chosen[v] == choice ? dy[v] : 0;
        }
    } else {
        for (int v = 0; v < V; v++) {
            const bool here = v < f->channels && chosen[v] == choice;

            any |= here;
            held[v] = here ? dy[v] : 0;
        }
    }
    *out = load(held);
    return any != 0;
}

/* sums[r][i] += patch[r][i] times what comes back, for rows [0, rows) of the patches from row `first` on, and `run` reals
 * of each: compile-time constants, so that the sums stay in registers.  step: reals from tap to tap of sums. */
INLINE void gather_taps(const int rows, const int run, const backflow *f, int64_t first, int64_t step, real *sums)
{
    const gated *g = f->g;
    const int64_t row = g->c.padded_width * g->c.in;
    vec sum[5][5];

#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
        for (int i = 0; i < run; i++) {
            sum[r][i] = load(sums + (r * run + i) * step);
        }
    }
    for (int64_t window = 0; window < g->windows; window++) {
        const int64_t y0 = window / g->columns * g->size, x0 = window % g->columns * g->size;

        for (int64_t choice = 0; choice < g->square; choice++) {
            const int64_t y = y0 + choice / g->size, x = x0 + choice % g->size;
            vec dy;

            if (!f->blank[y * g->c.width + x] && flow_at(f, window, choice, &dy)) {
                const real *patch = f->padded + ((y + first) * g->c.padded_width + x) * g->c.in;

#pragma GCC unroll 5
                for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
                    for (int i = 0; i < run; i++) {
                        sum[r][i] += patch[r * row + i] * dy;
                    }
                }
            }
        }
    }
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
        for (int i = 0; i < run; i++) {
            store(sums + (r * run + i) * step, sum[r][i]);
        }
    }
}

/* The same for any number of taps, one row at a time and in memory. */
static void gather_row(const backflow *f, int64_t first, int64_t step, real *sums)
{
    const gated *g = f->g;

    for (int64_t window = 0; window < g->windows; window++) {
        const int64_t y0 = window / g->columns * g->size, x0 = window % g->columns * g->size;

        for (int64_t choice = 0; choice < g->square; choice++) {
            const int64_t y = y0 + choice / g->size, x = x0 + choice % g->size;
            vec dy;

            if (!f->blank[y * g->c.width + x] && flow_at(f, window, choice, &dy)) {
                const real *patch = f->padded + ((y + first) * g->c.padded_width + x) * g->c.in;

                for (int64_t i = 0; i < g->c.run; i++) {
                    store(sums + i * step, load(sums + i * step) + patch[i] * dy);
                }
            }
        }
    }
}

static void gather_vector(const backflow *f, int64_t step, real *sums)
{
    const conv *c = &f->g->c;

    if (c->edge == 5 && c->run == 5 && V > 4) { /* images of one channel, 5 x 5 */
        if (VEC_BYTES == 64) {
            gather_taps(5, 5, f, 0, step, sums);
        } else {
            gather_taps(2, 5, f, 0, step, sums);
            gather_taps(2, 5, f, 2, step, sums + 10 * step);
            gather_taps(1, 5, f, 4, step, sums + 20 * step);
        }
    } else if (c->edge == 3 && c->run == 3) {
        gather_taps(3, 3, f, 0, step, sums);
    } else {
        for (int64_t r = 0; r < c->edge; r++) {
            gather_row(f, r, step, sums + r * c->run * step);
        }
    }
}

/* sums and bias += one sample's share, term by term. */
static void gather_sample(const gated *g, const uint8_t *choice, const real *dy, const weight_work *work, bool biased)
{
    const int64_t out_padded = round_up(g->c.out, V);

    for (int64_t o = 0; o < g->c.out; o += V) {
        const backflow f = {.g = g,
                            .padded = work->padded,
                            .dy = dy + o,
                            .choice = choice + o,
                            .blank = work->blank,
                            .channels = least(V, g->c.out - o)};

        gather_vector(&f, out_padded, work->sums + o);
    }
    for (int64_t w = 0; w < g->windows && biased; w++) {
        for (int64_t o = 0; o < g->c.out; o++) {
            work->bias[o] += choice[w * g->c.out + o] != SHUT ? dy[w * g->c.out + o] : 0;
        }
    }
}

hsgd_status KERNEL(tabled_adjoint_weight)(hsgd_cpu *cpu, int worker, const hsgd_gated *layers, int64_t m,
                                          const void *gates, int terms, const void *const *dy, const void *const *x,
                                          void *dw, void *db, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    const int64_t taps = g.c.edge * g.c.run, out_padded = round_up(g.c.out, V);
    weight_work work = {0};

    HSGD_TRY(weight_work_get(&g, cpu, worker, &work, err));
    for (int64_t s = 0; s < m; s++) {
        for (int t = 0; t < terms; t++) {
            pad_sample(&g.c, (const real *)x[t] + s * g.c.places * g.c.in, work.padded);
            find_blank_patches(&g.c, work.padded, work.blank);
            gather_sample(&g, (const uint8_t *)gates + s * g.count, (const real *)dy[t] + s * g.count, &work,
                          t == 0 && db != NULL);
        }
    }
    for (int64_t o = 0; o < g.c.out; o++) {
        for (int64_t t = 0; t < taps; t++) {
            ((real *)dw)[o * taps + t] += work.sums[t * out_padded + o];
        }
        if (db != NULL) {
            ((real *)db)[o] += work.bias[o];
        }
    }
done:
    return st;
}
