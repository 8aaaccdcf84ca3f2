/* src/cpu/kernels/columns.h - the two shapes of work behind linear layers and vector algebra: many dot products of long
 * columns, and sums of columns. */
#pragma once
#include "cpu/kernels/kernel.h"

#if VEC_BYTES == 64
enum { DOT_X = 5, DOT_Y = 5 }; /* 25 sums and 6 operands in 32 registers; divides 10 samples by 10 classes */
#else
enum { DOT_X = 3, DOT_Y = 3 }; /* 9 sums and 4 operands in 16 registers */
#endif

/* out[i][j] = x_i' y_j for DOT_X by DOT_Y columns of n reals: every dot product by the same steps, wherever it stands
 * in the tile.  x, y: pointers to the columns; repeat one where there are fewer. */
INLINE void dots(int64_t n, const real *const *x, const real *const *y, real out[DOT_X][DOT_Y])
{
    vec sum[DOT_X][DOT_Y] = {0};
    int64_t r = 0;

    for (; r + V <= n; r += V) {
        for (int i = 0; i < DOT_X; i++) {
            for (int j = 0; j < DOT_Y; j++) {
                sum[i][j] += load(x[i] + r) * load(y[j] + r);
            }
        }
    }
    for (int i = 0; i < DOT_X; i++) {
        for (int j = 0; j < DOT_Y; j++) {
            real total = 0;

            for (int v = 0; v < V; v++) {
                total += sum[i][j][v];
            }
            for (int64_t t = r; t < n; t++) {
                total += x[i][t] * y[j][t];
            }
            out[i][j] = total;
        }
    }
}

/* out[i * out_x + j * out_y] = x_i' y_j for kx by ky columns of n reals, ldx and ldy apart. */
INLINE void all_dots(int64_t n, int64_t kx, const real *x, int64_t ldx, int64_t ky, const real *y, int64_t ldy,
                     real *out, int64_t out_x, int64_t out_y)
{
    for (int64_t i0 = 0; i0 < kx; i0 += DOT_X) {
        for (int64_t j0 = 0; j0 < ky; j0 += DOT_Y) {
            const real *xs[DOT_X], *ys[DOT_Y];
            real tile[DOT_X][DOT_Y];

            for (int i = 0; i < DOT_X; i++) {
                xs[i] = x + least(i0 + i, kx - 1) * ldx;
            }
            for (int j = 0; j < DOT_Y; j++) {
                ys[j] = y + least(j0 + j, ky - 1) * ldy;
            }
            dots(n, xs, ys, tile);
            for (int64_t i = i0; i < least(i0 + DOT_X, kx); i++) {
                for (int64_t j = j0; j < least(j0 + DOT_Y, ky); j++) {
                    out[i * out_x + j * out_y] = tile[i - i0][j - j0];
                }
            }
        }
    }
}

/* y += sum over i < k of a c[i * ldc] x_i for columns of n reals, ldx apart; five at a time, so that y is read and
 * written a fifth as often as x is read. */
INLINE void combine(int64_t n, int64_t k, real a, const real *restrict c, int64_t ldc, const real *restrict x,
                    int64_t ldx, real *restrict y)
{
    int64_t i = 0;

    for (; i + 5 <= k; i += 5) {
        const real *from = x + i * ldx;
        const real c0 = a * c[i * ldc], c1 = a * c[(i + 1) * ldc], c2 = a * c[(i + 2) * ldc], c3 = a * c[(i + 3) * ldc],
                   c4 = a * c[(i + 4) * ldc];

        for (int64_t r = 0; r < n; r++) {
            y[r] += c0 * from[r] + c1 * from[ldx + r] + c2 * from[2 * ldx + r] + c3 * from[3 * ldx + r] +
                    c4 * from[4 * ldx + r];
        }
    }
    for (; i < k; i++) {
        const real ci = a * c[i * ldc];

        for (int64_t r = 0; r < n; r++) {
            y[r] += ci * x[i * ldx + r];
        }
    }
}
