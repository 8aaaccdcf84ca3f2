/* tests/emulation/cudnn_loops.c - convolutions by plain loops, summed in double. */
#include "cudnn_internal.h"
#include "reduced.h"

static double get(const emulated_conv *v, const void *array, size_t at)
{
    if (v->twice) {
        return ((const double *)array)[at];
    }
    return (double)(v->rounds ? emulated_tf32(((const float *)array)[at]) : ((const float *)array)[at]);
}

static void put(const emulated_conv *v, size_t at, double sum)
{
    sum *= v->factor;
    if (v->twice) {
        double *out = (double *)v->out + at;

        *out = sum + (v->beta != 0.0 ? *out : 0.0); /* beta 0: out is not read */
    } else {
        float *out = (float *)v->out + at;

        *out = (float)(sum + (v->beta != 0.0 ? (double)*out : 0.0));
    }
}

/* What an algorithm leaves in its workspace is nobody's business: so it is filled. */
static void use_workspace(const emulated_conv *v)
{
    if (v->workspace_bytes > 0) {
        memset(v->workspace, 0xff, v->workspace_bytes);
    }
}

static size_t at4(int a, int b, int bs, int c, int cs, int d, int ds)
{
    return (((size_t)a * (size_t)bs + (size_t)b) * (size_t)cs + (size_t)c) * (size_t)ds + (size_t)d;
}

static int largest(int a, int b)
{
    return a > b ? a : b;
}
static int least(int a, int b)
{
    return a < b ? a : b;
}

void emulated_conv_forward(void *argument)
{
    const emulated_conv *v = argument;
    double *plane = malloc((size_t)v->p * (size_t)v->q * sizeof *plane);

    use_workspace(v);
    for (int n = 0; n < v->n; n++) {
        for (int k = 0; k < v->k; k++) {
            memset(plane, 0, (size_t)v->p * (size_t)v->q * sizeof *plane);
            for (int t = 0; t < v->c * v->r * v->s; t++) {
                const int c = t / (v->r * v->s), r = t / v->s % v->r - v->pad_h, s = t % v->s - v->pad_w;
                const double w = get(v, v->b, (size_t)k * (size_t)(v->c * v->r * v->s) + (size_t)t);

                for (int p = largest(0, -r); p < least(v->p, v->h - r); p++) {
                    for (int q = largest(0, -s); q < least(v->q, v->w - s); q++) {
                        plane[p * v->q + q] += w * get(v, v->a, at4(n, c, v->c, p + r, v->h, q + s, v->w));
                    }
                }
            }
            for (int i = 0; i < v->p * v->q; i++) {
                put(v, ((size_t)n * (size_t)v->k + (size_t)k) * (size_t)(v->p * v->q) + (size_t)i, plane[i]);
            }
        }
    }
    free(plane);
}

void emulated_conv_backward_data(void *argument)
{
    const emulated_conv *v = argument;
    double *plane = malloc((size_t)v->h * (size_t)v->w * sizeof *plane);

    use_workspace(v);
    for (int n = 0; n < v->n; n++) {
        for (int c = 0; c < v->c; c++) {
            memset(plane, 0, (size_t)v->h * (size_t)v->w * sizeof *plane);
            for (int t = 0; t < v->k * v->r * v->s; t++) {
                const int k = t / (v->r * v->s), r = t / v->s % v->r - v->pad_h, s = t % v->s - v->pad_w;
                const double w = get(v, v->a, at4(k, c, v->c, r + v->pad_h, v->r, s + v->pad_w, v->s));

                for (int p = largest(0, -r); p < least(v->p, v->h - r); p++) {
                    for (int q = largest(0, -s); q < least(v->q, v->w - s); q++) {
                        plane[(p + r) * v->w + q + s] += w * get(v, v->b, at4(n, k, v->k, p, v->p, q, v->q));
                    }
                }
            }
            for (int i = 0; i < v->h * v->w; i++) {
                put(v, ((size_t)n * (size_t)v->c + (size_t)c) * (size_t)(v->h * v->w) + (size_t)i, plane[i]);
            }
        }
    }
    free(plane);
}

void emulated_conv_backward_filter(void *argument)
{
    const emulated_conv *v = argument;

    use_workspace(v);
    for (int k = 0; k < v->k; k++) {
        for (int t = 0; t < v->c * v->r * v->s; t++) {
            const int c = t / (v->r * v->s), r = t / v->s % v->r - v->pad_h, s = t % v->s - v->pad_w;
            double sum = 0.0;

            for (int n = 0; n < v->n; n++) {
                for (int p = largest(0, -r); p < least(v->p, v->h - r); p++) {
                    for (int q = largest(0, -s); q < least(v->q, v->w - s); q++) {
                        sum += get(v, v->a, at4(n, c, v->c, p + r, v->h, q + s, v->w)) *
                               get(v, v->b, at4(n, k, v->k, p, v->p, q, v->q));
                    }
                }
            }
            put(v, (size_t)k * (size_t)(v->c * v->r * v->s) + (size_t)t, sum);
        }
    }
}
