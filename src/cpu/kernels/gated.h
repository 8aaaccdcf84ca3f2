/* src/cpu/kernels/gated.h - gated convolutions: what their kernels share.
 *
 * A gate's *place* is where in the convolution's output its value comes from.  Gates are kept in one of two forms:
 *
 * listed: for every sample and channel the codes of the open gates, (window << shift) + choice, in the order of the
 *     windows: uint32_t start[m * out + 1], then uint16_t code[]; those of sample s and channel c are code[start[i]] to
 *     code[start[i + 1]] with i = s * out + c.
 * tabled: uint8_t choice[m][windows][out], SHUT where a gate is not open.
 *
 * With lists the work goes along a filter, gate by gate.  In images of one channel a filter's row is shorter than a vector;
 * there the work goes along the output channels instead, over whole windows, and passes over patches of the image that
 * are zero (gated_tabled.h). */
#pragma once
#include "cpu/kernels/sparse.h"

enum { SHUT = 255 };

/* The block of a filter that stays in registers while the gates go by: all of a 5 x 5 one over 16 channels where there are
 * 32 registers; where there are 16, what leaves room for an operand and a factor. */
#if VEC_BYTES == 64
enum { BLOCK_WIDE = 5, BLOCK_ROWS = 5, BLOCK_ROWS_OF_TWO = 2 }; /* OF_TWO: of each of two filters */
#else
enum { BLOCK_WIDE = 2, BLOCK_ROWS = 3, BLOCK_ROWS_OF_TWO = 1 };
#endif

typedef struct {
    conv c;
    int64_t size, square; /* of a window: edge, places */
    int shift;            /* the least with 2^shift >= square */
    int64_t rows, columns, windows;
    int64_t count; /* gates of a sample */
    bool relu, listed;
} gated;

INLINE gated gated_of(const hsgd_gated *layers)
{
    const conv c = conv_of(layers->conv);
    const int64_t size = layers->pool->size, rows = layers->pool->out.height, columns = layers->pool->out.width;
    int shift = 0;

    while ((INT64_C(1) << shift) < size * size) {
        shift++;
    }
    return (gated){
        .c = c,
        .size = size,
        .square = size * size,
        .shift = shift,
        .rows = rows,
        .columns = columns,
        .windows = rows * columns,
        .count = rows * columns * c.out,
        .relu = layers->relu,
        .listed = c.in > 1 || c.run >= V,
    };
}

/* Where the codes of listed gates begin. */
INLINE uint16_t *gate_codes(const gated *g, int64_t m, void *gates)
{
    return (uint16_t *)(void *)((uint32_t *)gates + m * g->c.out + 1);
}

/* An open gate: where the patch of its place begins in a padded sample, and its window; adjoints: what comes back through
 * it, of every term. */
typedef struct {
    uint32_t at, window;
    real dy[HSGD_GATED_TERMS];
} open_gate;

/* Entries of a table of places. */
INLINE int64_t places_count(const gated *g)
{
    return g->windows << g->shift;
}

/* at[code] for all places, as in open_gate. */
static inline void place_table(const gated *g, uint32_t *at)
{
    for (int64_t wy = 0; wy < g->rows; wy++) {
        for (int64_t wx = 0; wx < g->columns; wx++, at += INT64_C(1) << g->shift) {
            const int64_t first = wy * g->size * g->c.padded_width + wx * g->size;

            for (int64_t i = 0; i < g->size; i++) {
                for (int64_t j = 0; j < g->size; j++) {
                    at[i * g->size + j] = (uint32_t)((first + i * g->c.padded_width + j) * g->c.in);
                }
            }
        }
    }
}

/* The open gates of a sample's channel, without dy; returns how many. */
INLINE int64_t list_open(const gated *g, int64_t m, const void *gates, const uint32_t *at, int64_t sample,
                         int64_t channel, open_gate *open)
{
    int64_t n = 0;

    if (g->listed) {
        const uint32_t *start = (const uint32_t *)gates + sample * g->c.out + channel;
        const uint16_t *code = gate_codes(g, m, (void *)gates) + start[0];

        n = start[1] - start[0];
        for (int64_t i = 0; i < n; i++) {
            open[i].at = at[code[i]];
            open[i].window = (uint32_t)code[i] >> g->shift;
        }
    } else {
        const uint8_t *choice = (const uint8_t *)gates + sample * g->count + channel;

        for (int64_t w = 0; w < g->windows; w++) {
            if (choice[w * g->c.out] != SHUT) {
                open[n].at = at[(w << g->shift) + choice[w * g->c.out]];
                open[n++].window = (uint32_t)w;
            }
        }
    }
    return n;
}

/* How patches and filters lie: a patch's rows are `row` reals apart, a filter's `run`, both of `run` reals, whole
 * vectors. */
typedef struct {
    int64_t edge, run, row;
} patch_shape;

INLINE patch_shape patch_shape_of(const conv *c)
{
    return (patch_shape){c->edge, c->run_padded, c->padded_width * c->in};
}

/* That of 5 x 5 filters over 16 channels of 14 x 14 places, the second convolution on MNIST: kernels are compiled for it
 * apart, with these numbers as constants, so that no address is computed in their loops. */
#define COMMON_SHAPE ((patch_shape){5, 80, 288})

INLINE bool is_common(patch_shape s)
{
    return s.edge == COMMON_SHAPE.edge && s.run == COMMON_SHAPE.run && s.row == COMMON_SHAPE.row;
}

/* A block of `rows` rows, `step` reals apart, and `vectors` vectors, compile-time constants, into registers. */
INLINE void load_block(const int rows, const int vectors, int64_t step, const real *from,
                       vec block[BLOCK_ROWS][BLOCK_WIDE])
{
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
        for (int v = 0; v < vectors; v++) {
            block[r][v] = load(from + r * step + v * V);
        }
    }
}

/* The filters with their rows padded to whole vectors, [out][edge][run padded]: w itself where it has that form. */
INLINE const real *filter_rows(const conv *c, const real *w, real *packed)
{
    if (c->run == c->run_padded) {
        return w;
    }
    pack_rows(c, w, packed);
    return packed;
}

/* Scratch of the kernels that go gate by gate. */
typedef struct {
    real *padded[HSGD_GATED_TERMS]; /* operands of one sample, their borders zero; the first also serves as a canvas */
    real *rows[HSGD_GATED_TERMS];   /* [out][edge][run padded]: filters, or sums of them */
    uint32_t *at;                   /* see place_table */
    open_gate *open;                /* [windows] */
    real *partial;                  /* [windows][V]: sums not yet added up over their lanes */
} gate_work;

static inline hsgd_status gate_work_get(const gated *g, hsgd_cpu *cpu, int worker, int terms, gate_work *work,
                                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv *c = &g->c;
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const size_t rows = (size_t)(c->out * c->edge * c->run_padded) * sizeof(real);
    const size_t at = (size_t)places_count(g) * sizeof(uint32_t), open = (size_t)g->windows * sizeof(open_gate);
    const size_t partial = (size_t)(g->windows * V) * sizeof(real);
    void *memory = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker,
                                  (size_t)terms * (hsgd_cpu_round(padded) + hsgd_cpu_round(rows)) +
                                      hsgd_cpu_round(partial) + hsgd_cpu_round(at) + hsgd_cpu_round(open),
                                  &memory, err));
    for (int t = 0; t < terms; t++) {
        work->padded[t] = hsgd_cpu_take(&memory, padded);
        work->rows[t] = hsgd_cpu_take(&memory, rows);
        memset(work->padded[t], 0, padded);
    }
    work->at = hsgd_cpu_take(&memory, at);
    work->open = hsgd_cpu_take(&memory, open);
    work->partial = hsgd_cpu_take(&memory, partial);
    place_table(g, work->at);
done:
    return st;
}
