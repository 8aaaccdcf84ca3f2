/* src/cpu/kernels/conv.c - convolutions, dense.  Images [sample][y][x][in], weights [out][y][x][in]; products run over a
 * zero-padded copy of the images, tile by tile (tile.h), with the channels of the result along the vectors. */
#include "cpu/kernels/conv.h"

/* Transposed weights, [y][x][in][out padded to whole vectors], and the bias padded alike. */
static void pack_weight(const conv *c, const real *restrict w, const real *b, real *restrict packed,
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

/* The weights of the adjoint, itself a convolution with the filters turned by half a turn and the channels exchanged:
 * [y][x][out][in padded]. */
static void pack_turned(const conv *c, const real *restrict w, real *restrict packed)
{
    const int64_t taps = c->edge * c->edge, padded = round_up(c->in, V);

    memset(packed, 0, (size_t)(taps * c->out * padded) * sizeof(real));
    for (int64_t t = 0; t < taps; t++) {
        for (int64_t o = 0; o < c->out; o++) {
            memcpy(packed + (t * c->out + o) * padded, w + (o * taps + taps - 1 - t) * c->in,
                   (size_t)c->in * sizeof(real));
        }
    }
}

/* y (+)= tile + bias for lanes [from, to) of the tile and `channels` channels, y_pixel reals from pixel to pixel. */
static void put_tile(const real *tile, int64_t tile_row, int64_t from, int64_t to, int64_t channels, const real *bias,
                     bool add, real *y, int64_t y_pixel)
{
    for (int64_t i = from; i < to; i++) {
        const real *restrict sum = tile + i * tile_row;
        real *restrict pixel = y + i * y_pixel;

        if (add) {
            for (int64_t v = 0; v < channels; v++) {
                pixel[v] += sum[v] + bias[v];
            }
        } else {
            for (int64_t v = 0; v < channels; v++) {
                pixel[v] = sum[v] + bias[v];
            }
        }
    }
}

/* y [height][width][to] (+)= one padded sample of `from` channels met with packed weights, + bias [to padded]. */
static void correlate(const conv *c, int64_t from, int64_t to, const real *padded, const real *packed, const real *bias,
                      bool add, real *y)
{
    const int64_t to_padded = round_up(to, V);
    const int lanes = tile_lanes(c->width);
    const tile_walk walk = {
        .rows = c->edge,
        .steps = c->edge * from,
        .a_row = c->padded_width * from,
        .a_step = 1,
        .a_lane = from,
        .b_row = c->edge * from * to_padded,
        .b_step = to_padded,
    };
    _Alignas(64) real tile[LANES * 2 * V];

    for (int64_t row = 0; row < c->height; row++) {
        for (int64_t x0 = 0; x0 < c->width; x0 += lanes) {
            const int64_t pixels = least(lanes, c->width - x0);

            for (int64_t o = 0; o < to; o += 2 * V) {
                const int vectors = o + V < to ? 2 : 1;

                tile_run(lanes, vectors, &walk, padded + (row * c->padded_width + x0) * from, packed + o, tile);
                put_tile(tile, vectors * V, 0, pixels, least(vectors * V, to - o), bias + o, add,
                         y + (row * c->width + x0) * to + o, to);
            }
        }
    }
}

hsgd_status KERNEL(conv_value)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                               hsgd_columns w, hsgd_columns b, hsgd_columns y, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv c = conv_of(layer);
    const size_t padded_bytes = (size_t)conv_padded_all(&c, m, c.in) * sizeof(real);
    const size_t packed_bytes = (size_t)(c.edge * c.run * round_up(c.out, V)) * sizeof(real);
    const size_t bias_bytes = (size_t)round_up(c.out, V) * sizeof(real);
    void *at = NULL;
    real *padded = NULL, *packed = NULL, *bias = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(
        cpu, worker, hsgd_cpu_round(padded_bytes) + hsgd_cpu_round(packed_bytes) + hsgd_cpu_round(bias_bytes), &at,
        err));
    padded = hsgd_cpu_take(&at, padded_bytes);
    packed = hsgd_cpu_take(&at, packed_bytes);
    bias = hsgd_cpu_take(&at, bias_bytes);
    for (int64_t j = 0; j < k; j++) {
        if (fresh(x, j)) {
            conv_pad(&c, m, c.in, column(x, j), padded);
        }
        if (fresh(w, j) || fresh(b, j)) {
            pack_weight(&c, column(w, j), b.data != NULL ? column(b, j) : NULL, packed, bias);
        }
        for (int64_t s = 0; s < m; s++) {
            correlate(&c, c.in, c.out, padded + s * conv_padded(&c, c.in), packed, bias, add,
                      column(y, j) + s * c.places * c.out);
        }
    }
done:
    return st;
}

hsgd_status KERNEL(conv_adjoint_input)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                       hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv c = conv_of(layer);
    const size_t padded_bytes = (size_t)conv_padded_all(&c, m, c.out) * sizeof(real);
    const size_t packed_bytes = (size_t)(c.edge * c.edge * c.out * round_up(c.in, V)) * sizeof(real);
    const size_t bias_bytes = (size_t)round_up(c.in, V) * sizeof(real);
    void *at = NULL;
    real *padded = NULL, *packed = NULL, *bias = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(
        cpu, worker, hsgd_cpu_round(padded_bytes) + hsgd_cpu_round(packed_bytes) + hsgd_cpu_round(bias_bytes), &at,
        err));
    padded = hsgd_cpu_take(&at, padded_bytes);
    packed = hsgd_cpu_take(&at, packed_bytes);
    bias = hsgd_cpu_take(&at, bias_bytes);
    memset(bias, 0, bias_bytes);
    for (int64_t j = 0; j < k; j++) {
        if (fresh(dy, j)) {
            conv_pad(&c, m, c.out, column(dy, j), padded);
        }
        if (fresh(w, j)) {
            pack_turned(&c, column(w, j), packed);
        }
        for (int64_t s = 0; s < m; s++) {
            correlate(&c, c.out, c.in, padded + s * conv_padded(&c, c.out), packed, bias, add,
                      column(dx, j) + s * c.places * c.in);
        }
    }
done:
    return st;
}

/* sums [edge * run][out padded] += one padded sample met with its dy [height][width][out padded]. */
static void correlate_weight(const conv *c, const real *padded, const real *dy, real *sums)
{
    const int64_t out_padded = round_up(c->out, V);
    const int lanes = tile_lanes(c->run);
    const tile_walk walk = {
        .rows = c->height,
        .steps = c->width,
        .a_row = c->padded_width * c->in,
        .a_step = c->in,
        .a_lane = 1,
        .b_row = c->width * out_padded,
        .b_step = out_padded,
    };
    _Alignas(64) real tile[LANES * 2 * V];

    for (int64_t row = 0; row < c->edge; row++) {
        for (int64_t r0 = 0; r0 < c->run; r0 += lanes) {
            for (int64_t o = 0; o < out_padded; o += 2 * V) {
                const int vectors = o + V < out_padded ? 2 : 1;
                real *to = sums + (row * c->run + r0) * out_padded + o;

                tile_run(lanes, vectors, &walk, padded + row * c->padded_width * c->in + r0, dy + o, tile);
                for (int64_t i = 0; i < least(lanes, c->run - r0); i++) {
                    for (int64_t v = 0; v < vectors * V; v++) {
                        to[i * out_padded + v] += tile[i * vectors * V + v];
                    }
                }
            }
        }
    }
}

/* dy [pixels][out] with the channels padded to whole vectors. */
static void pad_channels(const conv *c, int64_t pixels, const real *restrict dy, real *restrict padded)
{
    const int64_t out_padded = round_up(c->out, V);

    memset(padded, 0, (size_t)(pixels * out_padded) * sizeof(real));
    for (int64_t p = 0; p < pixels; p++) {
        memcpy(padded + p * out_padded, dy + p * c->out, (size_t)c->out * sizeof(real));
    }
}

/* dw [out][edge * run] += sums', db [out] += sum of dy over the pixels. */
static void put_weight(const conv *c, const real *restrict sums, real *restrict dw)
{
    const int64_t taps = c->edge * c->run, out_padded = round_up(c->out, V);

    for (int64_t o = 0; o < c->out; o++) {
        for (int64_t t = 0; t < taps; t++) {
            dw[o * taps + t] += sums[t * out_padded + o];
        }
    }
}

/* db [out] += sum of dy [m * places][out], one sample's sum at a time. */
static void add_bias(const conv *c, int64_t m, const real *restrict dy, real *restrict sums, real *restrict db)
{
    for (int64_t s = 0; s < m; s++) {
        memset(sums, 0, (size_t)c->out * sizeof(real));
        for (int64_t p = 0; p < c->places; p++) {
            for (int64_t o = 0; o < c->out; o++) {
                sums[o] += dy[(s * c->places + p) * c->out + o];
            }
        }
        for (int64_t o = 0; o < c->out; o++) {
            db[o] += sums[o];
        }
    }
}

hsgd_status KERNEL(conv_adjoint_weight)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                        hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv c = conv_of(layer);
    const int64_t out_padded = round_up(c.out, V);
    const size_t padded_bytes = (size_t)conv_padded_all(&c, m, c.in) * sizeof(real);
    const size_t dy_bytes = (size_t)(m * c.places * out_padded) * sizeof(real);
    const size_t sums_bytes = (size_t)(c.edge * c.run * out_padded) * sizeof(real);
    void *at = NULL;
    real *padded = NULL, *whole = NULL, *sums = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(
        cpu, worker, hsgd_cpu_round(padded_bytes) + hsgd_cpu_round(dy_bytes) + hsgd_cpu_round(sums_bytes), &at, err));
    padded = hsgd_cpu_take(&at, padded_bytes);
    whole = hsgd_cpu_take(&at, dy_bytes);
    sums = hsgd_cpu_take(&at, sums_bytes);
    for (int64_t j = 0; j < k; j++) {
        if (fresh(x, j)) {
            conv_pad(&c, m, c.in, column(x, j), padded);
        }
        if (fresh(dy, j)) {
            pad_channels(&c, m * c.places, column(dy, j), whole);
        }
        if (db.data != NULL) {
            add_bias(&c, m, column(dy, j), sums, column(db, j));
        }
        memset(sums, 0, sums_bytes);
        for (int64_t s = 0; s < m; s++) {
            correlate_weight(&c, padded + s * conv_padded(&c, c.in), whole + s * c.places * out_padded, sums);
        }
        put_weight(&c, sums, column(dw, j));
    }
done:
    return st;
}
