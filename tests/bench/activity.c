/* tests/bench/activity.c - see activity.h. */
#include "activity.h"
#include <stdlib.h>

enum { FIRST = 16, SECOND = 32, EDGE = 5, MARGIN = EDGE / 2, WINDOW = 2 };

typedef struct {
    int64_t in, out, height, width; /* channels; of the image */
    const double *weight, *bias;    /* [out][in][EDGE][EDGE]; [out] */
} convolution;

/* y[height][width] += w x moved by (down, right), zeros around x. */
static void add_moved(const convolution *c, const float *x, float w, int64_t down, int64_t right, float *y)
{
    const int64_t low = right < 0 ? -right : 0, high = right > 0 ? c->width - right : c->width;

    for (int64_t row = 0; row < c->height; row++) {
        const int64_t from = row + down;

        if (from < 0 || from >= c->height) {
            continue;
        }
        for (int64_t i = low; i < high; i++) {
            y[row * c->width + i] += w * x[from * c->width + i + right];
        }
    }
}

/* x: [in][height][width]; y: [height][width], one channel. */
static void convolve(const convolution *c, int64_t channel, const float *x, float *y)
{
    const int64_t area = c->height * c->width;

    for (int64_t i = 0; i < area; i++) {
        y[i] = (float)c->bias[channel];
    }
    for (int64_t in = 0; in < c->in; in++) {
        const double *w = c->weight + (channel * c->in + in) * EDGE * EDGE;

        for (int64_t k = 0; k < EDGE * EDGE; k++) {
            add_moved(c, x + in * area, (float)w[k], k / EDGE - MARGIN, k % EDGE - MARGIN, y);
        }
    }
}

/* ReLU and pooling of one channel: pooled[height / WINDOW][width / WINDOW]; the windows whose largest is > 0. */
static int64_t pool(const convolution *c, const float *y, float *pooled)
{
    const int64_t height = c->height / WINDOW, width = c->width / WINDOW;
    int64_t active = 0;

    for (int64_t i = 0; i < height * width; i++) {
        const float *corner = y + i / width * WINDOW * c->width + i % width * WINDOW;
        float most = 0.0f;

        for (int64_t k = 0; k < (int64_t)WINDOW * WINDOW; k++) {
            const float here = corner[k / WINDOW * c->width + k % WINDOW];

            most = here > most ? here : most;
        }
        pooled[i] = most;
        active += most > 0.0f;
    }
    return active;
}

/* All channels; the share of the outputs that is active.  y: scratch, [height][width]. */
static double layer(const convolution *c, const float *x, float *y, float *pooled)
{
    const int64_t windows = (c->height / WINDOW) * (c->width / WINDOW);
    int64_t active = 0;

    for (int64_t channel = 0; channel < c->out; channel++) {
        convolve(c, channel, x, y);
        active += pool(c, y, pooled + channel * windows);
    }
    return (double)active / (double)(c->out * c->height * c->width);
}

hsgd_status activity_measure(const hsgd_split *split, int64_t samples, const double *weights, activity *out,
                             hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t area = split->height * split->width;
    const convolution first = {1, FIRST, split->height, split->width, weights, weights + FIRST * EDGE * EDGE};
    const double *rest = first.bias + FIRST;
    const convolution second = {
        FIRST, SECOND, split->height / WINDOW, split->width / WINDOW, rest, rest + SECOND * FIRST * EDGE * EDGE};
    float *x = calloc((size_t)area, sizeof *x), *y = calloc((size_t)area, sizeof *y);
    float *pooled = calloc((size_t)(FIRST * area), sizeof *pooled),
          *last = calloc((size_t)(SECOND * area), sizeof *last);

    *out = (activity){0};
    HSGD_CHECK(x != NULL && y != NULL && pooled != NULL && last != NULL, HSGD_ERR_MEMORY, err, "memory");
    for (int64_t sample = 0; sample < samples; sample++) {
        for (int64_t i = 0; i < area; i++) {
            x[i] = (float)split->pixels[sample * area + i] / 255.0f;
            out->pixels += (x[i] != 0.0f) / (double)(samples * area);
        }
        out->active[0] += layer(&first, x, y, pooled) / (double)samples;
        out->active[1] += layer(&second, pooled, y, last) / (double)samples;
    }
done:
    free(last);
    free(pooled);
    free(y);
    free(x);
    return st;
}
