/* src/cpu/kernels/pool.c - pooling over windows of size x size pixels, stride size; [sample][y][x][channel]. */
#include "cpu/kernels/kernel.h"

typedef struct {
    int64_t size, channels;
    int64_t in_height, in_width, out_height, out_width;
    int64_t in_row, in_count; /* reals of one row, of one sample */
    int64_t windows;          /* of all samples */
} pooling;

static pooling pooling_of(const hsgd_layer *layer, int64_t m)
{
    return (pooling){
        .size = layer->size,
        .channels = layer->in.channels,
        .in_height = layer->in.height,
        .in_width = layer->in.width,
        .out_height = layer->out.height,
        .out_width = layer->out.width,
        .in_row = layer->in.width * layer->in.channels,
        .in_count = layer->in.channels * layer->in.height * layer->in.width,
        .windows = m * layer->out.height * layer->out.width,
    };
}

/* Which window: its number among all samples' windows and where its first pixel stands in the input. */
typedef struct {
    int64_t number, start;
    int64_t x, y; /* in its sample */
} window;

/* The window after w. */
INLINE window next_window(const pooling *g, window w)
{
    w.number++;
    w.start += g->size * g->channels;
    if (++w.x == g->out_width) {
        w.x = 0;
        w.start += g->size * g->in_row - g->out_width * g->size * g->channels;
        if (++w.y == g->out_height) {
            w.y = 0;
            w.start += (g->in_height - g->out_height * g->size) * g->in_row;
        }
    }
    return w;
}

/* One window, channel by channel.  size: a compile-time constant in the common cases, so that its loops are unrolled and
 * the one over channels runs in vectors. */
INLINE void window_max(const int64_t size, const pooling *g, const real *restrict x, real *restrict y,
                       int32_t *restrict choice)
{
#pragma omp simd
    for (int64_t c = 0; c < g->channels; c++) {
        real best = x[c];
        int32_t chosen = 0;

        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < size; j++) {
                const real candidate = x[i * g->in_row + j * g->channels + c];
                const bool wins = (candidate > best) | (candidate != candidate); /* a NaN must not be hidden */

                best = wins ? candidate : best;
                chosen = wins ? (int32_t)(i * size + j) : chosen;
            }
        }
        y[c] = best;
        choice[c] = chosen;
    }
}

INLINE void window_pick(const int64_t size, const pooling *g, const int32_t *restrict choice, const real *restrict x,
                        real *restrict y)
{
#pragma omp simd
    for (int64_t c = 0; c < g->channels; c++) {
        real picked = 0;

        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < size; j++) {
                const real candidate = x[i * g->in_row + j * g->channels + c];

                picked = choice[c] == i * size + j ? candidate : picked;
            }
        }
        y[c] = picked;
    }
}

INLINE void window_place(const int64_t size, const pooling *g, const int32_t *restrict choice, const real *restrict dy,
                         real *restrict dx)
{
    for (int64_t i = 0; i < size; i++) {
        for (int64_t j = 0; j < size; j++) {
            const int32_t place = (int32_t)(i * size + j);

#pragma omp simd
            for (int64_t c = 0; c < g->channels; c++) {
                dx[i * g->in_row + j * g->channels + c] = choice[c] == place ? dy[c] : 0;
            }
        }
    }
}

hsgd_status KERNEL(maxpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, const void *x, void *y,
                                  int32_t *choice, hsgd_error *err)
{
    const pooling g = pooling_of(layer, m);

    (void)self;
    (void)worker;
    (void)err;
    for (window w = {0}; w.number < g.windows; w = next_window(&g, w)) {
        const real *from = (const real *)x + w.start;
        const int64_t to = w.number * g.channels;

        if (g.size == 2) {
            window_max(2, &g, from, (real *)y + to, choice + to);
        } else {
            window_max(g.size, &g, from, (real *)y + to, choice + to);
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(maxpool_tangent)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    const int32_t *choice, hsgd_columns tx, hsgd_columns ty, hsgd_error *err)
{
    const pooling g = pooling_of(layer, m);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (window w = {0}; w.number < g.windows; w = next_window(&g, w)) {
            const real *from = column(tx, j) + w.start;
            const int64_t to = w.number * g.channels;

            if (g.size == 2) {
                window_pick(2, &g, choice + to, from, column(ty, j) + to);
            } else {
                window_pick(g.size, &g, choice + to, from, column(ty, j) + to);
            }
        }
    }
    return HSGD_OK;
}

/* Zero what no window covers: the columns to the right of the last window and the rows below it. */
static void zero_margin(const pooling *g, int64_t m, real *dx)
{
    const int64_t covered = g->out_width * g->size * g->channels;

    for (int64_t row = 0; row < m * g->in_height; row++) {
        for (int64_t i = row % g->in_height < g->out_height * g->size ? covered : 0; i < g->in_row; i++) {
            dx[row * g->in_row + i] = 0;
        }
    }
}

hsgd_status KERNEL(maxpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    const int32_t *choice, hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    const pooling g = pooling_of(layer, m);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        zero_margin(&g, m, column(dx, j));
        for (window w = {0}; w.number < g.windows; w = next_window(&g, w)) {
            const int64_t from = w.number * g.channels;

            if (g.size == 2) {
                window_place(2, &g, choice + from, column(dy, j) + from, column(dx, j) + w.start);
            } else {
                window_place(g.size, &g, choice + from, column(dy, j) + from, column(dx, j) + w.start);
            }
        }
    }
    return HSGD_OK;
}

/* ---- averages ---- */

INLINE void window_mean(const int64_t size, const pooling *g, real share, const real *restrict x, real *restrict y)
{
#pragma omp simd
    for (int64_t c = 0; c < g->channels; c++) {
        real sum = 0;

        for (int64_t i = 0; i < size; i++) {
            for (int64_t j = 0; j < size; j++) {
                sum += x[i * g->in_row + j * g->channels + c];
            }
        }
        y[c] = share * sum;
    }
}

INLINE void window_share(const int64_t size, const pooling *g, real share, const real *restrict dy, real *restrict dx)
{
    for (int64_t i = 0; i < size; i++) {
        for (int64_t j = 0; j < size; j++) {
#pragma omp simd
            for (int64_t c = 0; c < g->channels; c++) {
                dx[i * g->in_row + j * g->channels + c] = share * dy[c];
            }
        }
    }
}

hsgd_status KERNEL(avgpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                  hsgd_columns y, hsgd_error *err)
{
    const pooling g = pooling_of(layer, m);
    const real share = (real)1 / (real)(g.size * g.size);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        for (window w = {0}; w.number < g.windows; w = next_window(&g, w)) {
            const real *from = column(x, j) + w.start;
            real *to = column(y, j) + w.number * g.channels;

            if (g.size == 2) {
                window_mean(2, &g, share, from, to);
            } else {
                window_mean(g.size, &g, share, from, to);
            }
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(avgpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    const pooling g = pooling_of(layer, m);
    const real share = (real)1 / (real)(g.size * g.size);

    (void)self;
    (void)worker;
    (void)err;
    for (int64_t j = 0; j < k; j++) {
        zero_margin(&g, m, column(dx, j));
        for (window w = {0}; w.number < g.windows; w = next_window(&g, w)) {
            const real *from = column(dy, j) + w.number * g.channels;
            real *to = column(dx, j) + w.start;

            if (g.size == 2) {
                window_share(2, &g, share, from, to);
            } else {
                window_share(g.size, &g, share, from, to);
            }
        }
    }
    return HSGD_OK;
}
