/* cuda/conv.h - convolutions as cuDNN sees them: shapes, descriptors, algorithms; of no use outside cuda/. */
#pragma once
#include "internal.h"

/* Dimensions of the three tensors, fully packed, and the zero padding on each side. */
typedef struct {
    int x[4], y[4]; /* samples, channels, height, width */
    int w[4];       /* out, in, height, width */
    int pad;
} hsgd_cuda_conv_shape;

/* The shape of a layer's convolution of m >= 1 samples.
 * Local.  Errors: HSGD_ERR_DEVICE (cuDNN counts a tensor's entries in 31 bits; the layer is not of odd edge). */
hsgd_status hsgd_cuda_conv_shape_of(const hsgd_layer *layer, int64_t m, hsgd_cuda_conv_shape *out, hsgd_error *err);

typedef enum { HSGD_CUDA_FORWARD, HSGD_CUDA_BACKWARD_DATA, HSGD_CUDA_BACKWARD_FILTER, HSGD_CUDA_PASSES } hsgd_cuda_pass;

/* One shape in one precision; made when it is first met, kept with the device. */
struct hsgd_cuda_conv {
    hsgd_cuda_conv *next;
    hsgd_cuda_conv_shape shape;
    hsgd_precision precision;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    struct {
        bool known;
        int algorithm; /* of the pass's own enumeration */
        size_t workspace;
    } pass[HSGD_CUDA_PASSES];
};

/* Workspace that is taken without a thought.  The patches of a convolution written out, as some algorithms want them,
 * take gigabytes for a group of 1000 samples; copies of the tensors and tables of indices take tens of MiB, and a GPU's
 * memory is better spent on base passes that are kept (hessian.cache). */
enum { HSGD_CUDA_CONV_WORKSPACE = 64 * 1024 * 1024 };
/* And the most that is taken where nothing runs with less: a backward pass has one algorithm only. */
enum { HSGD_CUDA_CONV_LIMIT = 1024 * 1024 * 1024 };

/* Find the pass's algorithm, once.  Local.  Errors: HSGD_ERR_DEVICE (cuDNN offers none that will do). */
hsgd_status hsgd_cuda_conv_choose(hsgd_cuda_device *device, hsgd_cuda_conv *conv, hsgd_cuda_pass pass, hsgd_error *err);
