/* src/cpu/kernels/affine.c - linear layers; convolutions go on to conv.c. */
#include "cpu/kernels/columns.h"
#include <string.h>

/* y[m][out] = W x + b, + y where `add`. */
static void linear_value(int64_t m, int64_t in, int64_t out, const real *x, const real *w, const real *b, bool add,
                         real *y)
{
    for (int64_t s0 = 0; s0 < m; s0 += DOT_X) {
        for (int64_t o0 = 0; o0 < out; o0 += DOT_Y) {
            const int64_t samples = least(DOT_X, m - s0), outputs = least(DOT_Y, out - o0);
            real tile[DOT_X * DOT_Y];

            all_dots(in, samples, x + s0 * in, in, outputs, w + o0 * in, in, tile, DOT_Y, 1);
            for (int64_t s = 0; s < samples; s++) {
                for (int64_t o = 0; o < outputs; o++) {
                    real *to = &y[(s0 + s) * out + o0 + o];

                    *to = (add ? *to : 0) + (tile[s * DOT_Y + o] + (b != NULL ? b[o0 + o] : 0));
                }
            }
        }
    }
}

hsgd_status KERNEL(affine_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                 hsgd_columns w, hsgd_columns b, hsgd_columns y, bool add, hsgd_error *err)
{
    if (layer->kind == HSGD_LAYER_CONV) {
        return KERNEL(conv_value)(self, worker, layer, m, k, x, w, b, y, add, err);
    }
    for (int64_t j = 0; j < k; j++) {
        linear_value(m, layer->in.channels, layer->out.channels, column(x, j), column(w, j),
                     b.data != NULL ? column(b, j) : NULL, add, column(y, j));
    }
    return HSGD_OK;
}

hsgd_status KERNEL(affine_adjoint_input)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                         hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    const int64_t in = layer->in.channels, out = layer->out.channels;

    if (layer->kind == HSGD_LAYER_CONV) {
        return KERNEL(conv_adjoint_input)(self, worker, layer, m, k, dy, w, dx, add, err);
    }
    for (int64_t j = 0; j < k; j++) {
        if (!add) {
            memset(column(dx, j), 0, (size_t)(m * in) * sizeof(real));
        }
        for (int64_t s = 0; s < m; s++) {
            combine(in, out, 1, column(dy, j) + s * out, 1, column(w, j), in, column(dx, j) + s * in);
        }
    }
    return HSGD_OK;
}

hsgd_status KERNEL(affine_adjoint_weight)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                          hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                          hsgd_error *err)
{
    const int64_t in = layer->in.channels, out = layer->out.channels;

    if (layer->kind == HSGD_LAYER_CONV) {
        return KERNEL(conv_adjoint_weight)(self, worker, layer, m, k, dy, x, dw, db, err);
    }
    for (int64_t j = 0; j < k; j++) {
        for (int64_t o = 0; o < out; o++) {
            combine(in, m, 1, column(dy, j) + o, out, column(x, j), in, column(dw, j) + o * in);
            for (int64_t s = 0; s < m && db.data != NULL; s++) {
                column(db, j)[o] += column(dy, j)[s * out + o];
            }
        }
    }
    return HSGD_OK;
}
