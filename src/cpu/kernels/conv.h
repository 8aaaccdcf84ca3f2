/* src/cpu/kernels/conv.h - what the kernels of a convolution share: its geometry and the forms of images and weights. */
#pragma once
#include "cpu/kernels/tile.h"

/* One convolution, stride 1, zero padding `margin` = edge / 2 on all sides. */
typedef struct {
    int64_t in, out; /* channels */
    int64_t height, width, edge, margin;
    int64_t padded_height, padded_width;
    int64_t places;     /* height * width */
    int64_t run;        /* edge * in: a filter's reals that meet consecutive reals of an image row */
    int64_t run_padded; /* to whole vectors */
} conv;

INLINE conv conv_of(const hsgd_layer *layer)
{
    const int64_t margin = layer->size / 2;

    return (conv){
        .in = layer->in.channels,
        .out = layer->out.channels,
        .height = layer->in.height,
        .width = layer->in.width,
        .edge = layer->size,
        .margin = margin,
        .padded_height = layer->in.height + 2 * margin,
        .padded_width = layer->in.width + 2 * margin,
        .places = layer->in.height * layer->in.width,
        .run = layer->size * layer->in.channels,
        .run_padded = round_up(layer->size * layer->in.channels, V),
    };
}

/* Reals of one sample, padded, of `channels` channels. */
INLINE int64_t conv_padded(const conv *c, int64_t channels)
{
    return c->padded_height * c->padded_width * channels;
}

/* Reals of m padded samples with room behind them for the lanes and vectors that overshoot a row. */
INLINE int64_t conv_padded_all(const conv *c, int64_t m, int64_t channels)
{
    return m * conv_padded(c, channels) + (LANES + c->edge) * channels + 2 * V;
}

/* Copy one sample of `channels` channels into the middle of a padded one, whose border is zero by now. */
static inline void pad_sample(const conv *c, int64_t channels, const real *restrict x, real *restrict padded)
{
    const int64_t row = c->width * channels;
    real *to = padded + (c->margin * c->padded_width + c->margin) * channels;

    for (int64_t y = 0; y < c->height; y++) {
        memcpy(to + y * c->padded_width * channels, x + y * row, (size_t)row * sizeof(real));
    }
}

/* Copy x [m][height][width][channels] into the padded form, zeros around; reads no border test is then needed for. */
static inline void conv_pad(const conv *c, int64_t m, int64_t channels, const real *restrict x, real *restrict padded)
{
    memset(padded, 0, (size_t)conv_padded_all(c, m, channels) * sizeof(real));
    for (int64_t s = 0; s < m; s++) {
        pad_sample(c, channels, x + s * c->places * channels, padded + s * conv_padded(c, channels));
    }
}

/* Transposed weights, [y][x][in][out padded to whole vectors], and the bias padded alike. */
static inline void pack_weight(const conv *c, const real *restrict w, const real *b, real *restrict packed,
                               real *restrict bias)
{
    const int64_t taps = c->edge * c->run, padded = round_up(c->out, V);

    memset(packed, 0, (size_t)(taps * padded) * sizeof(real));
    for (int64_t o = 0; o < c->out; o++) {
        for (int64_t t = 0; t < taps; t++) {
            packed[t * padded + o] = w[o * taps + t];
        }
    }
    for (int64_t o = 0; o < padded; o++) {
        bias[o] = b != NULL && o < c->out ? b[o] : 0;
    }
}

/* Filters with every row of one y padded to whole vectors: [out][y][run padded]. */
static inline void pack_rows(const conv *c, const real *restrict w, real *restrict packed)
{
    for (int64_t r = 0; r < c->out * c->edge; r++) {
        memset(packed + r * c->run_padded, 0, (size_t)c->run_padded * sizeof(real));
        memcpy(packed + r * c->run_padded, w + r * c->run, (size_t)c->run * sizeof(real));
    }
}

/* dw [out][edge * run] += sums' [edge * run][out padded]. */
static inline void put_taps(const conv *c, const real *restrict sums, real *restrict dw)
{
    const int64_t taps = c->edge * c->run, out_padded = round_up(c->out, V);

    for (int64_t o = 0; o < c->out; o++) {
        for (int64_t t = 0; t < taps; t++) {
            dw[o * taps + t] += sums[t * out_padded + o];
        }
    }
}

/* dw [out][edge][run] += sums [out][edge][run padded]. */
static inline void put_rows(const conv *c, const real *restrict sums, real *restrict dw)
{
    for (int64_t r = 0; r < c->out * c->edge; r++) {
        for (int64_t i = 0; i < c->run; i++) {
            dw[r * c->run + i] += sums[r * c->run_padded + i];
        }
    }
}
