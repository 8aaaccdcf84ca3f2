/* src/cpu/kernels/gated_tabled.c - the linear map of a gated convolution of images of one channel, and its adjoint in the
 * weight: along the output channels, whole windows at a time. */
#include "cpu/kernels/gated_tabled.h"

/* ---- value ---- */

typedef struct {
    real *padded[HSGD_GATED_TERMS], *packed[HSGD_GATED_TERMS], *rows[HSGD_GATED_TERMS], *bias;
    patch_list patches[HSGD_GATED_TERMS];
} value_work;

static hsgd_status value_work_get(const row_plan *p, hsgd_cpu *cpu, int worker, int terms, value_work *work,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &p->g->c;
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t packed = (size_t)(c->edge * c->run * p->out_padded) * sizeof(real);
    const size_t bias = (size_t)p->out_padded * sizeof(real), rows = (size_t)rows_count(p) * sizeof(real);
    void *at = NULL;

    HSGD_TRY(
        hsgd_cpu_scratch_get(cpu, worker,
                             hsgd_cpu_round(bias) + (size_t)terms * (hsgd_cpu_round(padded) + hsgd_cpu_round(packed) +
                                                                     hsgd_cpu_round(rows) + patch_list_bytes(p->g)),
                             &at, err));
    work->bias = hsgd_cpu_take(&at, bias);
    for (int t = 0; t < terms; t++) {
        work->padded[t] = hsgd_cpu_take(&at, padded);
        work->packed[t] = hsgd_cpu_take(&at, packed);
        work->rows[t] = hsgd_cpu_take(&at, rows);
        work->patches[t] = patch_list_take(p->g, &at);
        memset(work->padded[t], 0, padded);
    }
done:
    return st;
}

/* Where choice[v] is `place`, all bits of lane v; else none. */
INLINE mask chosen_lanes(mask choice, int64_t place)
{
    return choice == (mask){0} + (mask_lane)place;
}

/* The choices of `channels` channels, SHUT beyond them. */
INLINE mask load_choice(const uint8_t *choice, int64_t channels)
{
    uint8_t own[V];
    mask wide = {0};

    if (channels < V) {
        memset(own, SHUT, sizeof own);
        memcpy(own, choice, (size_t)channels);
        choice = own;
    }
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
        wide[v] = choice[v];
    }
    return wide;
}

/* Window wx of the rows at each channel's choice, + bias; 0 where a gate is shut. */
INLINE vec pick_window(const int64_t size, const row_plan *p, const real *rows, vec bias, mask choice, int64_t wx)
{
    const int64_t row = p->tiles * p->lanes * V;
    const real *from = rows + wx * size * V;
    mask picked = {0};

    for (int64_t i = 0; i < size; i++) {
        for (int64_t j = 0; j < size; j++) {
            picked |= chosen_lanes(choice, i * size + j) & (mask)(load(from + i * row + j * V) + bias);
        }
    }
    return (vec)picked;
}

INLINE vec pick(const row_plan *p, const real *rows, vec bias, mask choice, int64_t wx)
{
    return p->g->size == 2 ? pick_window(2, p, rows, bias, choice, wx)
                           : pick_window(p->g->size, p, rows, bias, choice, wx);
}

/* y [windows][out] of one sample, for one vector of channels. */
INLINE void value_vector(const row_plan *p, int terms, const value_work *work, const uint8_t *table, int64_t o, real *y)
{
    const gated *g = p->g;
    const int64_t channels = least(V, g->c.out - o);
    const vec bias = load(work->bias + o), none = {0};

    for (int64_t wy = 0; wy < g->rows; wy++) {
        for (int t = 0; t < terms; t++) {
            convolve_patches(p, &work->patches[t], work->padded[t], work->packed[t] + o, wy, work->rows[t]);
        }
        for (int64_t wx = 0; wx < g->columns; wx++) {
            const int64_t at = (wy * g->columns + wx) * g->c.out + o;
            const mask choice = load_choice(table + at, channels);
            vec sum = pick(p, work->rows[0], bias, choice, wx);

            if (terms == 2) {
                sum += pick(p, work->rows[1], none, choice, wx);
            }
            store_part(y + at, channels, sum);
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
        for (int t = 0; t < terms; t++) {
            pad_sample(&g.c, g.c.in, (const real *)x[t] + s * g.c.places * g.c.in, work.padded[t]);
            find_patches(&g, work.padded[t], &work.patches[t]);
        }
        for (int64_t o = 0; o < g.c.out; o += V) {
            value_vector(&p, terms, &work, (const uint8_t *)gates + s * g.count, o, (real *)y + s * g.count);
        }
    }
done:
    return st;
}

/* ---- adjoint in the weight ---- */

/* Sums that registers hold beside an operand: of 5 x 5 taps in 32 registers, of two rows of them in 16. */
#if VEC_BYTES == 64
enum { GATHER_TAPS = 25 };
#else
enum { GATHER_TAPS = 10 };
#endif

typedef struct {
    real *padded, *sums, *bias; /* sums: [edge][run][out padded]; bias: [out padded] */
    real *rows;                 /* what comes back, of a row of windows: [size][columns * size][V] */
    patch_list patches;
} weight_work;

static hsgd_status weight_work_get(const gated *g, hsgd_cpu *cpu, int worker, weight_work *work, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &g->c;
    const int64_t out_padded = round_up(c->out, V);
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t sums = (size_t)(c->edge * c->run * out_padded) * sizeof(real);
    const size_t bias = (size_t)out_padded * sizeof(real);
    const size_t rows = (size_t)(g->square * g->columns * V) * sizeof(real);
    void *at = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker,
                                  hsgd_cpu_round(padded) + hsgd_cpu_round(sums) + hsgd_cpu_round(bias) +
                                      hsgd_cpu_round(rows) + patch_list_bytes(g),
                                  &at, err));
    work->padded = hsgd_cpu_take(&at, padded);
    work->sums = hsgd_cpu_take(&at, sums);
    work->bias = hsgd_cpu_take(&at, bias);
    work->rows = hsgd_cpu_take(&at, rows);
    work->patches = patch_list_take(g, &at);
    memset(work->padded, 0, padded);
    memset(work->sums, 0, sums);
    memset(work->bias, 0, bias);
done:
    return st;
}

/* What comes back through the gates of one vector of channels, in one sample. */
typedef struct {
    const gated *g;
    const weight_work *work;
    const real *dy;       /* [windows][out], from the vector's first channel */
    const uint8_t *table; /* likewise */
    int64_t channels;     /* in the vector */
} backflow;

/* Undo the pooling of window row wy: work->rows.  Returns the sum over the windows. */
INLINE vec open_rows(const int64_t size, const backflow *f, int64_t wy)
{
    const gated *g = f->g;
    const int64_t row = g->columns * size * V;
    vec total = {0};

    for (int64_t wx = 0; wx < g->columns; wx++) {
        const int64_t at = (wy * g->columns + wx) * g->c.out;
        real *to = f->work->rows + wx * size * V;
        const mask choice = load_choice(f->table + at, f->channels);
        const mask dy = (mask)load_part(f->dy + at, f->channels);

        total += (vec)(~chosen_lanes(choice, SHUT) & dy);
        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < size; j++) {
                store(to + i * row + j * V, (vec)(chosen_lanes(choice, i * size + j) & dy));
            }
        }
    }
    return total;
}

INLINE void open_window_row(const backflow *f, int64_t wy, real *bias)
{
    const vec total = f->g->size == 2 ? open_rows(2, f, wy) : open_rows(f->g->size, f, wy);

    if (bias != NULL) {
        store(bias, load(bias) + total);
    }
}

/* sums[r][i] += patch[first + r][i] times what comes back, for `rows` rows of the patches and `run` reals of each:
 * compile-time constants, so that the sums stay in registers.  step: reals from tap to tap of sums. */
INLINE void gather_taps(const int rows, const int run, const backflow *f, int64_t wy, int64_t first, int64_t step,
                        real *sums)
{
    const gated *g = f->g;
    const patch_list *list = &f->work->patches;
    const int64_t row = g->c.padded_width;
    vec sum[GATHER_TAPS];

#pragma GCC unroll 25
    for (int i = 0; i < rows * run; i++) {
        sum[i] = load(sums + (first * run + i) * step);
    }
    for (int64_t y = wy * g->size; y < (wy + 1) * g->size; y++) {
        const real *from = f->work->padded + (y + first) * row;
        const real *back = f->work->rows + y % g->size * g->columns * g->size * V;

        for (uint32_t e = list->start[y]; e < list->start[y + 1]; e++) {
            const real *patch = from + list->column[e];
            const vec dy = load(back + list->column[e] * V);

#pragma GCC unroll 5
            for (int r = 0; r < rows; r++) {
#pragma GCC unroll 7
                for (int i = 0; i < run; i++) {
                    sum[r * run + i] += patch[r * row + i] * dy;
                }
            }
        }
    }
#pragma GCC unroll 25
    for (int i = 0; i < rows * run; i++) {
        store(sums + (first * run + i) * step, sum[i]);
    }
}

/* A row of the patches, of any length, in memory. */
static void gather_row(const backflow *f, int64_t wy, int64_t r, int64_t step, real *sums)
{
    const gated *g = f->g;
    const patch_list *list = &f->work->patches;

    for (int64_t y = wy * g->size; y < (wy + 1) * g->size; y++) {
        for (uint32_t e = list->start[y]; e < list->start[y + 1]; e++) {
            const real *patch = f->work->padded + (y + r) * g->c.padded_width + list->column[e];
            const vec dy = load(f->work->rows + (y % g->size * g->columns * g->size + list->column[e]) * V);

            for (int64_t i = 0; i < g->c.run; i++) {
                real *to = sums + (r * g->c.run + i) * step;

                store(to, load(to) + patch[i] * dy);
            }
        }
    }
}

/* All taps: as many rows at once as registers hold. */
static void gather_window_row(const backflow *f, int64_t wy, int64_t step, real *sums)
{
    const int64_t edge = f->g->c.edge;
    int64_t r = 0;

    if (edge == 5 && GATHER_TAPS >= 25) {
        gather_taps(5, 5, f, wy, 0, step, sums);
        return;
    }
    if (edge == 3 && GATHER_TAPS >= 9) {
        gather_taps(3, 3, f, wy, 0, step, sums);
        return;
    }
    for (; r + 2 <= edge && edge == 5; r += 2) {
        gather_taps(2, 5, f, wy, r, step, sums);
    }
    for (; r < edge; r++) {
        if (edge == 7) {
            gather_taps(1, 7, f, wy, r, step, sums);
        } else if (edge == 5) {
            gather_taps(1, 5, f, wy, r, step, sums);
        } else {
            gather_row(f, wy, r, step, sums);
        }
    }
}

/* sums [edge][run][out padded] and bias += one sample's share. */
static void gather_sample(const gated *g, const uint8_t *table, const real *dy, const weight_work *work, bool biased)
{
    const conv *c = &g->c;
    const int64_t out_padded = round_up(c->out, V);

    for (int64_t o = 0; o < c->out; o += V) {
        const backflow f = {.g = g, .work = work, .dy = dy + o, .table = table + o, .channels = least(V, c->out - o)};

        for (int64_t wy = 0; wy < g->rows; wy++) {
            open_window_row(&f, wy, biased ? work->bias + o : NULL);
            gather_window_row(&f, wy, out_padded, work->sums + o);
        }
    }
}

hsgd_status KERNEL(tabled_adjoint_weight)(hsgd_cpu *cpu, int worker, const hsgd_gated *layers, int64_t m,
                                          const void *gates, int terms, const void *const *dy, const void *const *x,
                                          void *dw, void *db, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    weight_work work = {0};

    HSGD_TRY(weight_work_get(&g, cpu, worker, &work, err));
    for (int64_t s = 0; s < m; s++) {
        for (int t = 0; t < terms; t++) {
            pad_sample(&g.c, g.c.in, (const real *)x[t] + s * g.c.places * g.c.in, work.padded);
            find_patches(&g, work.padded, &work.patches);
            gather_sample(&g, (const uint8_t *)gates + s * g.count, (const real *)dy[t] + s * g.count, &work,
                          t == 0 && db != NULL);
        }
    }
    put_taps(&g.c, work.sums, dw);
    for (int64_t o = 0; o < g.c.out && db != NULL; o++) {
        ((real *)db)[o] += work.bias[o];
    }
done:
    return st;
}
