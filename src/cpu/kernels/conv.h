/* src/cpu/kernels/conv.h - what the dense and the sparse kernels of a convolution share. */
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

/* Copy x [m][height][width][channels] into the padded form, zeros around; reads no border test is then needed for. */
static inline void conv_pad(const conv *c, int64_t m, int64_t channels, const real *restrict x, real *restrict padded)
{
    const int64_t row = c->width * channels;

    memset(padded, 0, (size_t)conv_padded_all(c, m, channels) * sizeof(real));
    for (int64_t s = 0; s < m; s++) {
        real *to = padded + s * conv_padded(c, channels) + (c->margin * c->padded_width + c->margin) * channels;

        for (int64_t y = 0; y < c->height; y++) {
            memcpy(to + y * c->padded_width * channels, x + (s * c->height + y) * row, (size_t)row * sizeof(real));
        }
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
