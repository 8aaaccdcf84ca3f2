/* src/cpu/kernels/gated_rows.h - a convolution row of windows at a time, a block of channels at a time: what gated_base
 * pools and tabled gates pick from.  A block is at most two vectors of output channels. */
#pragma once
#include "cpu/kernels/gated.h"

/* A vector of which only `channels` reals are there, zeros beyond them; and its way back. */
INLINE vec load_part(const real *from, int64_t channels)
{
    real part[V] = {0};

    if (channels == V) {
        return load(from);
    }
    memcpy(part, from, (size_t)channels * sizeof(real));
    return load(part);
}
INLINE void store_part(real *to, int64_t channels, vec v)
{
    real part[V];

    if (channels == V) {
        store(to, v);
    } else {
        store(part, v);
        memcpy(to, part, (size_t)channels * sizeof(real));
    }
}

typedef struct {
    const gated *g;
    int lanes;
    int64_t tiles;      /* in a row */
    int64_t out_padded; /* channels, to whole vectors */
} row_plan;

INLINE row_plan row_plan_of(const gated *g)
{
    const int lanes = tile_lanes(g->columns * g->size);

    return (row_plan){
        .g = g,
        .lanes = lanes,
        .tiles = (g->columns * g->size + lanes - 1) / lanes,
        .out_padded = round_up(g->c.out, V),
    };
}

/* Reals of a block's rows of windows, [size][tiles * lanes][2 * V]. */
INLINE int64_t rows_count(const row_plan *p)
{
    return p->g->size * p->tiles * p->lanes * 2 * V;
}

/* The convolution's rows of window row `wy` for the channels of a block: to [size][tiles * lanes][vectors * V].  packed:
 * the block's first channel in [edge][run][out padded]. */
static inline void convolve_rows(const row_plan *p, int vectors, const real *padded, const real *packed, int64_t wy,
                                 real *to)
{
    const conv *c = &p->g->c;
    const tile_walk walk = {
        .rows = c->edge,
        .steps = c->run,
        .a_row = c->padded_width * c->in,
        .a_step = 1,
        .a_lane = c->in,
        .b_row = c->run * p->out_padded,
        .b_step = p->out_padded,
    };

    for (int64_t i = 0; i < p->g->size; i++) {
        for (int64_t t = 0; t < p->tiles; t++) {
            tile_run(p->lanes, vectors, &walk, padded + (wy * p->g->size + i) * walk.a_row + t * p->lanes * c->in,
                     packed, to + (i * p->tiles + t) * p->lanes * vectors * V);
        }
    }
}
