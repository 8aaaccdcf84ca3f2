/* src/cpu/kernels/tile.h - the inner product of all dense convolutions: a tile of sums held in registers. */
#pragma once
#include "cpu/kernels/kernel.h"
#include <string.h>

/* A tile is LANES broadcast operands by 2 vectors.  512 bits: 28 sums, 2 vectors and a broadcast in 32 registers, and
 * 14 divides MNIST's widths of 28 and 14.  Else: 10 sums, enough to hide the latency of the additions, in 16. */
#if VEC_BYTES == 64
enum { LANES = 14, HALF_LANES = 7 };
#else
enum { LANES = 5, HALF_LANES = 3 };
#endif

/* Where operands stand: step t of row r reads lane i at a[r * a_row + t * a_step + i * a_lane] and vector v at
 * b[r * b_row + t * b_step + v * V]. */
typedef struct {
    int64_t rows, steps;
    int64_t a_row, a_step, a_lane;
    int64_t b_row, b_step;
} tile_walk;

/* out[i][v] = sum over rows and steps of lane i times vector v.  lanes, vectors and, where it is 1, the lane stride are
 * compile-time constants. */
INLINE void tile_sum(const int lanes, const int vectors, const int64_t a_lane, const tile_walk *walk, const real *a,
                     const real *b, real *out)
{
    vec sum[LANES][2] = {0};

    for (int64_t r = 0; r < walk->rows; r++) {
        const real *restrict ar = a + r * walk->a_row;
        const real *restrict br = b + r * walk->b_row;

        for (int64_t t = 0; t < walk->steps; t++) {
#pragma GCC unroll 14
            for (int i = 0; i < lanes; i++) {
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) {
                    sum[i][v] += ar[i * a_lane] * load(br + v * V);
                }
            }
            ar += walk->a_step;
            br += walk->b_step;
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < lanes; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            store(out + (i * vectors + v) * V, sum[i][v]);
        }
    }
}

/* The lanes that need fewer steps to cover n: all of a tile, or half of it. */
INLINE int tile_lanes(int64_t n)
{
    return round_up(n, HALF_LANES) < round_up(n, LANES) ? HALF_LANES : LANES;
}

/* out [lanes][vectors * V]; lanes: LANES or HALF_LANES, vectors: 1 or 2. */
static inline void tile_run(int lanes, int vectors, const tile_walk *walk, const real *a, const real *b, real *out)
{
    if (walk->a_lane == 1) {
        if (lanes == LANES) {
            vectors == 2 ? tile_sum(LANES, 2, 1, walk, a, b, out) : tile_sum(LANES, 1, 1, walk, a, b, out);
        } else {
            vectors == 2 ? tile_sum(HALF_LANES, 2, 1, walk, a, b, out) : tile_sum(HALF_LANES, 1, 1, walk, a, b, out);
        }
    } else {
        const int64_t lane = walk->a_lane;

        if (lanes == LANES) {
            vectors == 2 ? tile_sum(LANES, 2, lane, walk, a, b, out) : tile_sum(LANES, 1, lane, walk, a, b, out);
        } else {
            vectors == 2 ? tile_sum(HALF_LANES, 2, lane, walk, a, b, out)
                         : tile_sum(HALF_LANES, 1, lane, walk, a, b, out);
        }
    }
}
