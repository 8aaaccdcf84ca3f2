/* cuda/conv.c - convolutions by cuDNN, column by column. */
#include "conv.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

hsgd_status hsgd_cuda_conv_shape_of(const hsgd_layer *layer, int64_t m, hsgd_cuda_conv_shape *out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_shape *in = &layer->in, *to = &layer->out;
    const int64_t larger = in->channels > to->channels ? in->channels : to->channels;

    *out = (hsgd_cuda_conv_shape){.pad = 0};
    HSGD_CHECK(layer->size >= 1 && layer->size % 2 == 1 && in->height == to->height && in->width == to->width,
               HSGD_ERR_DEVICE, err, "cuda: %s is no convolution of odd edge with padding 'same'", layer->name);
    HSGD_CHECK(m >= 1 && larger <= INT_MAX / in->height / in->width / m &&
                   in->channels <= INT_MAX / to->channels / layer->size / layer->size,
               HSGD_ERR_DEVICE, err,
               "cuda: %s: %lld samples of %lld x %lld x %lld are more than cuDNN counts; use smaller groups or layers",
               layer->name, (long long)m, (long long)larger, (long long)in->height, (long long)in->width);
    *out = (hsgd_cuda_conv_shape){
        .x = {(int)m, (int)in->channels, (int)in->height, (int)in->width},
        .y = {(int)m, (int)to->channels, (int)to->height, (int)to->width},
        .w = {(int)to->channels, (int)in->channels, (int)layer->size, (int)layer->size},
        .pad = (int)(layer->size / 2), /* (size - 1) / 2 zeros on either side leave height and width as they were */
    };
done:
    return st;
}

/* ---- descriptors ---- */

static void conv_free(hsgd_cuda_conv *conv)
{
    if (conv->x != NULL) {
        (void)cudnnDestroyTensorDescriptor(conv->x);
    }
    if (conv->y != NULL) {
        (void)cudnnDestroyTensorDescriptor(conv->y);
    }
    if (conv->w != NULL) {
        (void)cudnnDestroyFilterDescriptor(conv->w);
    }
    if (conv->conv != NULL) {
        (void)cudnnDestroyConvolutionDescriptor(conv->conv);
    }
    free(conv);
}

void hsgd_cuda_conv_destroy(hsgd_cuda_device *device)
{
    while (device->convs != NULL) {
        hsgd_cuda_conv *conv = device->convs;

        device->convs = conv->next;
        conv_free(conv);
    }
}

/* Floats: multiply-adds of floats alone (CUDNN_FMA_MATH); with tf32 what cuDNN does by default, which since the Ampere
 * generation is TF32.  Doubles know one arithmetic only. */
static cudnnMathType_t math_type(const hsgd_cuda_device *device, hsgd_precision precision)
{
    return precision == HSGD_SINGLE && !device->tf32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}

static hsgd_status describe(hsgd_cuda_device *device, hsgd_cuda_conv *conv, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const cudnnDataType_t type = conv->precision == HSGD_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
    const hsgd_cuda_conv_shape *s = &conv->shape;

    DNN_TRY(device, cudnnCreateTensorDescriptor(&conv->x), err);
    DNN_TRY(device, cudnnCreateTensorDescriptor(&conv->y), err);
    DNN_TRY(device, cudnnCreateFilterDescriptor(&conv->w), err);
    DNN_TRY(device, cudnnCreateConvolutionDescriptor(&conv->conv), err);
    DNN_TRY(device, cudnnSetTensor4dDescriptor(conv->x, CUDNN_TENSOR_NCHW, type, s->x[0], s->x[1], s->x[2], s->x[3]),
            err);
    DNN_TRY(device, cudnnSetTensor4dDescriptor(conv->y, CUDNN_TENSOR_NCHW, type, s->y[0], s->y[1], s->y[2], s->y[3]),
            err);
    DNN_TRY(device, cudnnSetFilter4dDescriptor(conv->w, type, CUDNN_TENSOR_NCHW, s->w[0], s->w[1], s->w[2], s->w[3]),
            err);
    /* stride and dilation 1; what networks call a convolution is a cross-correlation */
    DNN_TRY(device,
            cudnnSetConvolution2dDescriptor(conv->conv, s->pad, s->pad, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, type),
            err);
    DNN_TRY(device, cudnnSetConvolutionMathType(conv->conv, math_type(device, conv->precision)), err);
done:
    return st;
}

/* The record of a shape, from those met before or new. */
static hsgd_status find(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, hsgd_cuda_conv **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *device = b->device;
    hsgd_cuda_conv_shape shape;
    hsgd_cuda_conv *conv = NULL;

    *out = NULL;
    HSGD_TRY(hsgd_cuda_conv_shape_of(layer, m, &shape, err));
    for (hsgd_cuda_conv *c = device->convs; c != NULL && *out == NULL; c = c->next) {
        if (c->precision == b->precision && memcmp(&c->shape, &shape, sizeof shape) == 0) {
            *out = c;
        }
    }
    if (*out == NULL) {
        conv = calloc(1, sizeof *conv);
        HSGD_CHECK(conv != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the record of a convolution");
        conv->shape = shape;
        conv->precision = b->precision;
        HSGD_TRY(describe(device, conv, err));
        conv->next = device->convs;
        device->convs = conv;
        *out = conv;
        conv = NULL;
    }
done:
    if (conv != NULL) {
        conv_free(conv);
    }
    return st;
}

/* What a pass needs: record, algorithm, and as much workspace as the device's buffer must have. */
static hsgd_status prepare(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_cuda_pass pass,
                           hsgd_cuda_conv **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_cuda_pace(b->device, 3 * k, err)); /* a call of cuDNN is a few launches */
    HSGD_TRY(find(b, layer, m, out, err));
    if (!(*out)->pass[pass].known) {
        HSGD_TRY(hsgd_cuda_conv_choose(b->device, *out, pass, err));
    }
    HSGD_TRY(hsgd_cuda_scratch_grow(b->device, &b->device->conv_workspace, (*out)->pass[pass].workspace, err));
done:
    return st;
}

/* ---- the three products ---- */

hsgd_status hsgd_cuda_conv_value(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                 hsgd_columns w, hsgd_columns y, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *d = b->device;
    const hsgd_precision p = b->precision;
    hsgd_cuda_conv *c = NULL;

    HSGD_TRY(prepare(b, layer, m, k, HSGD_CUDA_FORWARD, &c, err));
    for (int64_t j = 0; j < k; j++) {
        DNN_TRY(d,
                cudnnConvolutionForward(
                    d->dnn, hsgd_cuda_scalar(p, true), c->x, hsgd_cuda_column(p, x, j), c->w, hsgd_cuda_column(p, w, j),
                    c->conv, (cudnnConvolutionFwdAlgo_t)c->pass[HSGD_CUDA_FORWARD].algorithm, d->conv_workspace.memory,
                    c->pass[HSGD_CUDA_FORWARD].workspace, hsgd_cuda_scalar(p, add), c->y, hsgd_cuda_column(p, y, j)),
                err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_conv_adjoint_input(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                         hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *d = b->device;
    const hsgd_precision p = b->precision;
    hsgd_cuda_conv *c = NULL;

    HSGD_TRY(prepare(b, layer, m, k, HSGD_CUDA_BACKWARD_DATA, &c, err));
    for (int64_t j = 0; j < k; j++) {
        DNN_TRY(d,
                cudnnConvolutionBackwardData(d->dnn, hsgd_cuda_scalar(p, true), c->w, hsgd_cuda_column(p, w, j), c->y,
                                             hsgd_cuda_column(p, dy, j), c->conv,
                                             (cudnnConvolutionBwdDataAlgo_t)c->pass[HSGD_CUDA_BACKWARD_DATA].algorithm,
                                             d->conv_workspace.memory, c->pass[HSGD_CUDA_BACKWARD_DATA].workspace,
                                             hsgd_cuda_scalar(p, add), c->x, hsgd_cuda_column(p, dx, j)),
                err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_conv_adjoint_weight(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                          hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *d = b->device;
    const hsgd_precision p = b->precision;
    hsgd_cuda_conv *c = NULL;

    HSGD_TRY(prepare(b, layer, m, k, HSGD_CUDA_BACKWARD_FILTER, &c, err));
    for (int64_t j = 0; j < k; j++) {
        DNN_TRY(d,
                cudnnConvolutionBackwardFilter(
                    d->dnn, hsgd_cuda_scalar(p, true), c->x, hsgd_cuda_column(p, x, j), c->y,
                    hsgd_cuda_column(p, dy, j), c->conv,
                    (cudnnConvolutionBwdFilterAlgo_t)c->pass[HSGD_CUDA_BACKWARD_FILTER].algorithm,
                    d->conv_workspace.memory, c->pass[HSGD_CUDA_BACKWARD_FILTER].workspace, hsgd_cuda_scalar(p, true),
                    c->w, hsgd_cuda_column(p, dw, j)),
                err);
    }
done:
    return st;
}
