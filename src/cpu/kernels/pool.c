/* src/cpu/kernels/pool.c - pooling over windows of size x size pixels, stride size; [sample][y][x][channel]. */
#include "cpu/kernels/kernel.h"

/* Pixels are dealt with whole, `channels` reals at a time. */
typedef struct {
    int64_t size, channels;
    int64_t in_height, in_width, out_height, out_width;
    int64_t in_count, out_count; /* reals of one sample */
} windows;

static windows windows_of(const hsgd_layer *layer)
{
    return (windows){
        .size = layer->size,
        .channels = layer->in.channels,
        .in_height = layer->in.height,
        .in_width = layer->in.width,
        .out_height = layer->out.height,
        .out_width = layer->out.width,
        .in_count = layer->in.channels * layer->in.height * layer->in.width,
        .out_count = layer->out.channels * layer->out.height * layer->out.width,
    };
}

/* Where the first pixel of window i (of all samples' windows, in order) stands in the input. */
static int64_t window_start(const windows *g, int64_t i)
{
    const int64_t row = i / g->out_width, x = i % g->out_width;
    const int64_t s = row / g->out_height, y = row % g->out_height;

    return s * g->in_count + (y * g->size * g->in_width + x * g->size) * g->channels;
}

/* A pixel takes the lead where it is greater, or NaN: a NaN must not be hidden. */
static void lead(int64_t channels, int32_t place, const real *restrict x, real *restrict best, int32_t *restrict choice)
{
    for (int64_t c = 0; c < channels; c++) {
        const bool wins = !(x[c] <= best[c]);

        best[c] = wins ? x[c] : best[c];
        choice[c] = wins ? place : choice[c];
    }
}

hsgd_status KERNEL(maxpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, const void *x, void *y,
                                  int32_t *choice, hsgd_error *err)
{
    const windows g = windows_of(layer);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t i = 0; i < m * g.out_height * g.out_width; i++) {
        const real *from = (const real *)x + window_start(&g, i);
        real *best = (real *)y + i * g.channels;
        int32_t *chosen = choice + i * g.channels;

        for (int64_t c = 0; c < g.channels; c++) {
            best[c] = from[c];
            chosen[c] = 0;
        }
        for (int64_t place = 1; place < g.size * g.size; place++) {
            lead(g.channels, (int32_t)place, from + (place / g.size * g.in_width + place % g.size) * g.channels, best,
                 chosen);
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(maxpool_tangent)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    const int32_t *choice, hsgd_columns tx, hsgd_columns ty, hsgd_error *err)
{
    const windows g = windows_of(layer);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < m * g.out_height * g.out_width; i++) {
            const real *from = column(tx, j) + window_start(&g, i);
            real *to = column(ty, j) + i * g.channels;
            const int32_t *chosen = choice + i * g.channels;

            for (int64_t c = 0; c < g.channels; c++) {
                const int64_t dy = chosen[c] / g.size, dx = chosen[c] % g.size;

                to[c] = from[(dy * g.in_width + dx) * g.channels + c];
            }
        }
    }
    return HSGD_OK;
}

/* Zero what no window covers: the columns to the right of the last window and the rows below it. */
static void zero_margin(const windows *g, real *dx)
{
    const int64_t covered = g->out_width * g->size * g->channels, row = g->in_width * g->channels;

    for (int64_t y = 0; y < g->in_height; y++) {
        for (int64_t i = y < g->out_height * g->size ? covered : 0; i < row; i++) {
            dx[y * row + i] = 0;
        }
    }
}

hsgd_status KERNEL(maxpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    const int32_t *choice, hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    const windows g = windows_of(layer);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t s = 0; s < m; s++) {
            zero_margin(&g, column(dx, j) + s * g.in_count);
        }
        for (int64_t i = 0; i < m * g.out_height * g.out_width; i++) {
            const real *restrict from = column(dy, j) + i * g.channels;
            const int32_t *restrict chosen = choice + i * g.channels;

            for (int32_t place = 0; place < g.size * g.size; place++) {
                real *restrict to =
                    column(dx, j) + window_start(&g, i) + (place / g.size * g.in_width + place % g.size) * g.channels;

                for (int64_t c = 0; c < g.channels; c++) {
                    to[c] = chosen[c] == place ? from[c] : 0;
                }
            }
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(avgpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                  hsgd_columns y, hsgd_error *err)
{
    const windows g = windows_of(layer);
    const real share = (real)1 / (real)(g.size * g.size);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < m * g.out_height * g.out_width; i++) {
            real *restrict to = column(y, j) + i * g.channels;

            for (int64_t c = 0; c < g.channels; c++) {
                to[c] = 0;
            }
            for (int64_t place = 0; place < g.size * g.size; place++) {
                const real *restrict from =
                    column(x, j) + window_start(&g, i) + (place / g.size * g.in_width + place % g.size) * g.channels;

                for (int64_t c = 0; c < g.channels; c++) {
                    to[c] += share * from[c];
                }
            }
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(avgpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    const windows g = windows_of(layer);
    const real share = (real)1 / (real)(g.size * g.size);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t s = 0; s < m; s++) {
            zero_margin(&g, column(dx, j) + s * g.in_count);
        }
        for (int64_t i = 0; i < m * g.out_height * g.out_width; i++) {
            const real *restrict from = column(dy, j) + i * g.channels;

            for (int64_t place = 0; place < g.size * g.size; place++) {
                real *restrict to =
                    column(dx, j) + window_start(&g, i) + (place / g.size * g.in_width + place % g.size) * g.channels;

                for (int64_t c = 0; c < g.channels; c++) {
                    to[c] = share * from[c];
                }
            }
        }
    }
    return HSGD_OK;
}
