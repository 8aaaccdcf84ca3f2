/* src/cpu/kernels/sparse.h - adjoints behind a ReLU, or behind a max-pooling that is not part of a gated convolution, are
 * mostly zero: lists of the entries that are not, and the one loop that works through them. */
#pragma once
#include "cpu/kernels/conv.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

/* A non-zero entry of dy and where its operand stands in a source. */
typedef struct {
    uint32_t at;
    real value;
} entry;

/* Above this share of non-zeros the dense kernels are faster: they work at near the machine's peak, which these lists,
 * with an operand from memory for every product, cannot. */
#define SPARSE_SHARE 3 /* one in three */

/* Bit i is set where p[i] is not zero (a NaN is not), for the first vector of the `count` reals left of a row. */
INLINE uint32_t nonzero_bits(const real *p, int64_t count)
{
    uint32_t bits = 0;

#if defined(__AVX512F__) && defined(REAL_IS_float)
    if (count >= V) {
        return _mm512_cmp_ps_mask(_mm512_loadu_ps(p), _mm512_setzero_ps(), _CMP_NEQ_UQ);
    }
#elif defined(__AVX512F__)
    if (count >= V) {
        return _mm512_cmp_pd_mask(_mm512_loadu_pd(p), _mm512_setzero_pd(), _CMP_NEQ_UQ);
    }
#elif defined(__AVX2__) && defined(REAL_IS_float)
    if (count >= V) {
        return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p), _mm256_setzero_ps(), _CMP_NEQ_UQ));
    }
#elif defined(__AVX2__)
    if (count >= V) {
        return (uint32_t)_mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(p), _mm256_setzero_pd(), _CMP_NEQ_UQ));
    }
#endif
    for (int64_t i = 0; i < least(count, V); i++) {
        bits |= (uint32_t)(p[i] != 0) << i;
    }
    return bits;
}

/* Whether dy of m samples with `found` non-zeros is better listed.  The choice rests on what one column of one call
 * holds, on nothing else. */
INLINE bool mostly_zero(const conv *c, int64_t m, int64_t found)
{
    return found <= m * c->places * c->out / SPARSE_SHARE && conv_padded(c, c->in) <= UINT32_MAX &&
           c->out * c->edge * c->run_padded <= UINT32_MAX;
}

/* Reals from row to row of a canvas on which patches are spread by whole vectors. */
INLINE int64_t conv_pitch(const conv *c)
{
    return (c->width - 1) * c->in + c->run_padded;
}

/* Registers of sums: five rows of a 5 x 5 filter, with as many vectors of a row as there is room for. */
#if VEC_BYTES == 64
enum { SPAN_WIDE = 5 };
#else
enum { SPAN_WIDE = 2 };
#endif

/* to[r * to_row + v * V] += sum over the entries of value * source[at + r * source_row + v * V], for `rows` rows and
 * `vectors` vectors, both compile-time constants. */
INLINE void span_block(const int rows, const int vectors, int64_t count, const entry *list, const real *source,
                       int64_t source_row, real *to, int64_t to_row)
{
    vec sum[5][SPAN_WIDE];

#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = load(to + r * to_row + v * V);
        }
    }
    for (int64_t e = 0; e < count; e++) {
        const real *operand = source + list[e].at;
        const real value = list[e].value;

#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
            for (int v = 0; v < vectors; v++) {
                sum[r][v] += value * load(operand + r * source_row + v * V);
            }
        }
    }
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 5
        for (int v = 0; v < vectors; v++) {
            store(to + r * to_row + v * V, sum[r][v]);
        }
    }
}

/* The same for any number of vectors. */
INLINE void span_rows(const int rows, int64_t vectors, int64_t count, const entry *list, const real *source,
                      int64_t source_row, real *to, int64_t to_row)
{
    int64_t v = 0;

    for (; v + SPAN_WIDE <= vectors; v += SPAN_WIDE) {
        span_block(rows, SPAN_WIDE, count, list, source + v * V, source_row, to + v * V, to_row);
    }
    for (; v + 2 <= vectors; v += 2) {
        span_block(rows, 2, count, list, source + v * V, source_row, to + v * V, to_row);
    }
    if (v < vectors) {
        span_block(rows, 1, count, list, source + v * V, source_row, to + v * V, to_row);
    }
}

/* The same for any number of rows. */
static inline void span(int64_t rows, int64_t vectors, int64_t count, const entry *list, const real *source,
                        int64_t source_row, real *to, int64_t to_row)
{
    int64_t r = 0;

    for (; r + 5 <= rows; r += 5) {
        span_rows(5, vectors, count, list, source + r * source_row, source_row, to + r * to_row, to_row);
    }
    for (; r + 3 <= rows; r += 3) {
        span_rows(3, vectors, count, list, source + r * source_row, source_row, to + r * to_row, to_row);
    }
    for (; r < rows; r++) {
        span_rows(1, vectors, count, list, source + r * source_row, source_row, to + r * to_row, to_row);
    }
}
