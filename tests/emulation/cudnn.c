/* tests/emulation/cudnn.c - cuDNN on the host: handles, descriptors, heuristics, and convolutions that are queued on the
 * handle's stream.
 *
 * Strict about its arguments: descriptors must agree with each other, arrays must lie in device memory, the workspace
 * must be as large as the query says, alpha must be 1 and beta 0 or 1 in the tensors' type.  The heuristics name first
 * what a caller in need of reproducible plain sums must pass over; and those algorithms compute slightly wrong results,
 * as DEFAULT_MATH does with floats (TF32), so that a wrong choice is seen. */
#include "cudnn_internal.h"
#include "reduced.h"
#include <stdio.h>

_Static_assert(CUDNN_STATUS_SUCCESS == 0 && CUDNN_STATUS_NOT_INITIALIZED == 1001 && CUDNN_STATUS_BAD_PARAM == 2000 &&
                   CUDNN_STATUS_BAD_PARAM_NULL_POINTER == 2002 && CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT == 2006 &&
                   CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH == 2008 && CUDNN_STATUS_NOT_SUPPORTED == 3000 &&
                   CUDNN_STATUS_INTERNAL_ERROR == 4000 && CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED == 4003 &&
                   CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED == 4004 &&
                   CUDNN_STATUS_EXECUTION_FAILED == 5000,
               "status");
_Static_assert(CUDNN_DATA_FLOAT == 0 && CUDNN_DATA_DOUBLE == 1 && CUDNN_DEFAULT_MATH == 0 &&
                   CUDNN_TENSOR_OP_MATH == 1 && CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION == 2 && CUDNN_FMA_MATH == 3 &&
                   CUDNN_TENSOR_NCHW == 0 && CUDNN_TENSOR_NHWC == 1 && CUDNN_NON_DETERMINISTIC == 0 &&
                   CUDNN_DETERMINISTIC == 1 && CUDNN_CONVOLUTION == 0 && CUDNN_CROSS_CORRELATION == 1,
               "types and modes");
_Static_assert(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM == 0 && CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM == 1 &&
                   CUDNN_CONVOLUTION_FWD_ALGO_GEMM == 2 && CUDNN_CONVOLUTION_FWD_ALGO_DIRECT == 3 &&
                   CUDNN_CONVOLUTION_FWD_ALGO_FFT == 4 && CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING == 5 &&
                   CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD == 6 && CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED == 7 &&
                   CUDNN_CONVOLUTION_FWD_ALGO_COUNT == 8,
               "forward");
_Static_assert(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 == 0 && CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 == 1 &&
                   CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT == 2 && CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3 == 3 &&
                   CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD == 4 &&
                   CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED == 5 &&
                   CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING == 6 && CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT == 7,
               "backward in the filter");
_Static_assert(CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 == 0 && CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 == 1 &&
                   CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT == 2 && CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING == 3 &&
                   CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD == 4 &&
                   CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED == 5 && CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT == 6,
               "backward in the data");

size_t cudnnGetVersion(void)
{
    return 91900;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch ((int)status) {
    case CUDNN_STATUS_SUCCESS:
        return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
        return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_NOT_SUPPORTED:
        return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
        return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    case CUDNN_STATUS_EXECUTION_FAILED:
        return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
        return "CUDNN_STATUS_BAD_PARAM";
    }
}

void cudnnGetLastErrorString(char *message, size_t max_size)
{
    (void)snprintf(message, max_size, "the emulated library was given something it cannot use");
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    int count = 0;

    *handle = NULL;
    if (emulation_fails("cudnnCreate") || cudaGetDeviceCount(&count) != cudaSuccess) {
        return CUDNN_STATUS_NOT_INITIALIZED;
    }
    *handle = calloc(1, sizeof **handle);
    if (*handle == NULL) {
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    }
    (*handle)->tf32_forbidden = environment_says("NVIDIA_TF32_OVERRIDE", "0");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    free(handle);
    return cudaDeviceSynchronize() == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t streamId)
{
    if (handle == NULL) {
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    }
    handle->stream = streamId;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- descriptors ---- */

#define MAKE(at)                                                                                                       \
    ((at) == NULL                                 ? CUDNN_STATUS_BAD_PARAM_NULL_POINTER                                \
     : (*(at) = calloc(1, sizeof **(at))) != NULL ? CUDNN_STATUS_SUCCESS                                               \
                                                  : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED)

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *tensorDesc)
{
    return MAKE(tensorDesc);
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *filterDesc)
{
    return MAKE(filterDesc);
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *convDesc)
{
    return MAKE(convDesc);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensorDesc)
{
    free(tensorDesc);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filterDesc)
{
    free(filterDesc);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t convDesc)
{
    free(convDesc);
    return CUDNN_STATUS_SUCCESS;
}

static bool packable(cudnnDataType_t type, cudnnTensorFormat_t format, int a, int b, int c, int d)
{
    return (type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE) && format == CUDNN_TENSOR_NCHW && a > 0 && b > 0 &&
           c > 0 && d > 0 && (double)a * b * c * d <= 2147483647.0;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensorDesc, cudnnTensorFormat_t format,
                                         cudnnDataType_t dataType, int n, int c, int h, int w)
{
    if (tensorDesc == NULL || !packable(dataType, format, n, c, h, w)) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    *tensorDesc = (struct cudnnTensorStruct){true, dataType, n, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filterDesc, cudnnDataType_t dataType,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w)
{
    if (filterDesc == NULL || !packable(dataType, format, k, c, h, w)) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    *filterDesc = (struct cudnnFilterStruct){true, dataType, k, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convDesc, int pad_h, int pad_w, int u, int v,
                                              int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t computeType)
{
    if (convDesc == NULL || pad_h < 0 || pad_w < 0) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    if (u != 1 || v != 1 || dilation_h != 1 || dilation_w != 1 || mode != CUDNN_CROSS_CORRELATION) {
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    *convDesc = (struct cudnnConvolutionStruct){true, computeType, CUDNN_DEFAULT_MATH, pad_h, pad_w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convDesc, cudnnMathType_t mathType)
{
    if (convDesc == NULL || (mathType != CUDNN_DEFAULT_MATH && mathType != CUDNN_FMA_MATH)) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    convDesc->math = mathType;
    return CUDNN_STATUS_SUCCESS;
}

static bool agree(cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv,
                  cudnnTensorDescriptor_t y)
{
    return x != NULL && w != NULL && conv != NULL && y != NULL && x->set && w->set && conv->set && y->set &&
           x->type == w->type && x->type == conv->type && x->type == y->type && x->c == w->c && x->n == y->n &&
           y->c == w->k && y->h == x->h + 2 * conv->pad_h - w->h + 1 && y->w == x->w + 2 * conv->pad_w - w->w + 1;
}

/* ---- algorithms ---- */

enum { FORWARD, DATA, FILTER };
static const size_t unsupported = SIZE_MAX;

/* Bytes of workspace; `unsupported`. */
static size_t workspace(int pass, int algorithm, const struct cudnnTensorStruct *x, const struct cudnnFilterStruct *w)
{
    const size_t size = x->type == CUDNN_DATA_DOUBLE ? sizeof(double) : sizeof(float);

    switch (pass * 16 + algorithm) {
    case FORWARD * 16 + CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM:
        return 0;
    case FORWARD * 16 + CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM:
        return 4096;
    case FORWARD * 16 + CUDNN_CONVOLUTION_FWD_ALGO_GEMM: /* the patches of all samples, and some more */
        return (size_t)x->n * (size_t)(x->c * x->h * x->w) * (size_t)(w->h * w->w) * size + 128 * 1024 * 1024;
    case FORWARD * 16 + CUDNN_CONVOLUTION_FWD_ALGO_DIRECT:
        return unsupported;
    case DATA * 16 + CUDNN_CONVOLUTION_BWD_DATA_ALGO_1:
        return 8192 + (size_t)x->n * 16;
    case FILTER * 16 + CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1:
        return 16384 + (size_t)w->k * 16;
    default:
        return 1024 * 1024;
    }
}

/* One answer of the heuristics. */
typedef struct {
    int algorithm;
    cudnnStatus_t status;
    cudnnDeterminism_t determinism;
} advice;

static const advice forward_advice[] = {
    {CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_STATUS_SUCCESS, CUDNN_NON_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_STATUS_NOT_SUPPORTED, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_GEMM, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_FWD_ALGO_DIRECT, CUDNN_STATUS_NOT_SUPPORTED, CUDNN_DETERMINISTIC},
};
static const advice data_advice[] = {
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_STATUS_SUCCESS, CUDNN_NON_DETERMINISTIC},
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
};
static const advice filter_advice[] = {
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_STATUS_SUCCESS, CUDNN_NON_DETERMINISTIC},
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3, CUDNN_STATUS_SUCCESS, CUDNN_NON_DETERMINISTIC},
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
    {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, CUDNN_STATUS_SUCCESS, CUDNN_DETERMINISTIC},
};

#define ADVISE(name, pass, list, type, x, w, conv, y)                                                                  \
    do {                                                                                                               \
        const int most = (int)(sizeof(list) / sizeof(list)[0]);                                                        \
        if (handle == NULL || returnedAlgoCount == NULL || perfResults == NULL || requestedAlgoCount < 1 ||            \
            !agree((x), (w), (conv), (y))) {                                                                           \
            return CUDNN_STATUS_BAD_PARAM;                                                                             \
        }                                                                                                              \
        if (emulation_fails(name)) {                                                                                   \
            return CUDNN_STATUS_NOT_SUPPORTED;                                                                         \
        }                                                                                                              \
        *returnedAlgoCount = requestedAlgoCount < most ? requestedAlgoCount : most;                                    \
        for (int i = 0; i < *returnedAlgoCount; i++) {                                                                 \
            perfResults[i].algo = (type)(list)[i].algorithm;                                                           \
            perfResults[i].status = (list)[i].status;                                                                  \
            perfResults[i].time = -1.0f;                                                                               \
            perfResults[i].memory = workspace((pass), (list)[i].algorithm, (x), (w));                                  \
            perfResults[i].determinism = (list)[i].determinism;                                                        \
            perfResults[i].mathType = (conv)->math;                                                                    \
        }                                                                                                              \
        return CUDNN_STATUS_SUCCESS;                                                                                   \
    } while (0)

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t srcDesc,
                                                     const cudnnFilterDescriptor_t filterDesc,
                                                     const cudnnConvolutionDescriptor_t convDesc,
                                                     const cudnnTensorDescriptor_t destDesc,
                                                     const int requestedAlgoCount, int *returnedAlgoCount,
                                                     cudnnConvolutionFwdAlgoPerf_t *perfResults)
{
    ADVISE("cudnnGetConvolutionForwardAlgorithm_v7", FORWARD, forward_advice, cudnnConvolutionFwdAlgo_t, srcDesc,
           filterDesc, convDesc, destDesc);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t filterDesc, const cudnnTensorDescriptor_t diffDesc,
    const cudnnConvolutionDescriptor_t convDesc, const cudnnTensorDescriptor_t gradDesc, const int requestedAlgoCount,
    int *returnedAlgoCount, cudnnConvolutionBwdDataAlgoPerf_t *perfResults)
{
    ADVISE("cudnnGetConvolutionBackwardDataAlgorithm_v7", DATA, data_advice, cudnnConvolutionBwdDataAlgo_t, gradDesc,
           filterDesc, convDesc, diffDesc);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t srcDesc,
                                                            const cudnnTensorDescriptor_t diffDesc,
                                                            const cudnnConvolutionDescriptor_t convDesc,
                                                            const cudnnFilterDescriptor_t gradDesc,
                                                            const int requestedAlgoCount, int *returnedAlgoCount,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t *perfResults)
{
    ADVISE("cudnnGetConvolutionBackwardFilterAlgorithm_v7", FILTER, filter_advice, cudnnConvolutionBwdFilterAlgo_t,
           srcDesc, gradDesc, convDesc, diffDesc);
}

static cudnnStatus_t workspace_query(cudnnHandle_t handle, int pass, int algorithm, cudnnTensorDescriptor_t x,
                                     cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv,
                                     cudnnTensorDescriptor_t y, size_t *bytes)
{
    if (handle == NULL || bytes == NULL || !agree(x, w, conv, y)) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    *bytes = workspace(pass, algorithm, x, w);
    return *bytes == unsupported ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t xDesc,
                                                      const cudnnFilterDescriptor_t wDesc,
                                                      const cudnnConvolutionDescriptor_t convDesc,
                                                      const cudnnTensorDescriptor_t yDesc,
                                                      cudnnConvolutionFwdAlgo_t algo, size_t *sizeInBytes)
{
    return workspace_query(handle, FORWARD, (int)algo, xDesc, wDesc, convDesc, yDesc, sizeInBytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t handle, const cudnnFilterDescriptor_t wDesc,
                                                           const cudnnTensorDescriptor_t dyDesc,
                                                           const cudnnConvolutionDescriptor_t convDesc,
                                                           const cudnnTensorDescriptor_t dxDesc,
                                                           cudnnConvolutionBwdDataAlgo_t algo, size_t *sizeInBytes)
{
    return workspace_query(handle, DATA, (int)algo, dxDesc, wDesc, convDesc, dyDesc, sizeInBytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t xDesc,
                                                             const cudnnTensorDescriptor_t dyDesc,
                                                             const cudnnConvolutionDescriptor_t convDesc,
                                                             const cudnnFilterDescriptor_t gradDesc,
                                                             cudnnConvolutionBwdFilterAlgo_t algo, size_t *sizeInBytes)
{
    return workspace_query(handle, FILTER, (int)algo, xDesc, gradDesc, convDesc, dyDesc, sizeInBytes);
}

/* ---- convolutions ---- */

static double scalar(bool twice, const void *at)
{
    return at == NULL ? -1.0 : twice ? *(const double *)at : (double)*(const float *)at;
}

static bool here(const emulated_conv *v, const void *array, size_t count)
{
    const size_t size = v->twice ? sizeof(double) : sizeof(float);

    return (uintptr_t)array % size == 0 && emulation_on_device(array, count * size);
}

/* Fill in shape and type, and check what all passes have in common. */
static cudnnStatus_t prepare(emulated_conv *v, cudnnHandle_t handle, int pass, int algorithm, cudnnTensorDescriptor_t x,
                             cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y,
                             const void *alpha, const void *beta)
{
    size_t needed = 0;
    const cudnnStatus_t st = workspace_query(handle, pass, algorithm, x, w, conv, y, &needed);

    if (st != CUDNN_STATUS_SUCCESS) {
        return st;
    }
    if (handle->stream == NULL) {
        return CUDNN_STATUS_NOT_INITIALIZED;
    }
    v->twice = x->type == CUDNN_DATA_DOUBLE;
    v->rounds = !v->twice && conv->math != CUDNN_FMA_MATH && !handle->tf32_forbidden;
    v->factor = needed == 1024 * 1024 ? 1.001 : 1.0; /* what no plain sum of products gives */
    v->beta = scalar(v->twice, beta);
    v->n = x->n, v->c = x->c, v->h = x->h, v->w = x->w;
    v->k = w->k, v->r = w->h, v->s = w->w, v->p = y->h, v->q = y->w;
    v->pad_h = conv->pad_h, v->pad_w = conv->pad_w;
    if (scalar(v->twice, alpha) != 1.0 || (v->beta != 0.0 && v->beta != 1.0)) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    if (v->workspace_bytes < needed || (needed > 0 && !emulation_on_device(v->workspace, needed))) {
        return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    }
    v->workspace_bytes = needed;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t queue(const char *name, cudnnHandle_t handle, emulated_conv *v, void (*run)(void *), bool placed)
{
    if (!placed) {
        return CUDNN_STATUS_BAD_PARAM;
    }
    if (emulation_fails(name)) {
        return CUDNN_STATUS_EXECUTION_FAILED;
    }
    emulation_enqueue(handle->stream, run, v, sizeof *v);
    return CUDNN_STATUS_SUCCESS;
}

static size_t x_count(const emulated_conv *v)
{
    return (size_t)v->n * (size_t)v->c * (size_t)v->h * (size_t)v->w;
}
static size_t w_count(const emulated_conv *v)
{
    return (size_t)v->k * (size_t)v->c * (size_t)v->r * (size_t)v->s;
}
static size_t y_count(const emulated_conv *v)
{
    return (size_t)v->n * (size_t)v->k * (size_t)v->p * (size_t)v->q;
}

/* Some of cuDNN's kernels take weights at aligned addresses for granted; here all do. */
static bool weight_here(const emulated_conv *v, const void *w)
{
    return (uintptr_t)w % 64 == 0 && here(v, w, w_count(v));
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t xDesc,
                                      const void *x, const cudnnFilterDescriptor_t wDesc, const void *w,
                                      const cudnnConvolutionDescriptor_t convDesc, cudnnConvolutionFwdAlgo_t algo,
                                      void *workSpace, size_t workSpaceSizeInBytes, const void *beta,
                                      const cudnnTensorDescriptor_t yDesc, void *y)
{
    emulated_conv v = {.a = x, .b = w, .out = y, .workspace = workSpace, .workspace_bytes = workSpaceSizeInBytes};
    const cudnnStatus_t st = prepare(&v, handle, FORWARD, (int)algo, xDesc, wDesc, convDesc, yDesc, alpha, beta);

    return st != CUDNN_STATUS_SUCCESS
               ? st
               : queue("cudnnConvolutionForward", handle, &v, emulated_conv_forward,
                       here(&v, x, x_count(&v)) && weight_here(&v, w) && here(&v, y, y_count(&v)));
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha, const cudnnFilterDescriptor_t wDesc,
                                           const void *w, const cudnnTensorDescriptor_t dyDesc, const void *dy,
                                           const cudnnConvolutionDescriptor_t convDesc,
                                           cudnnConvolutionBwdDataAlgo_t algo, void *workSpace,
                                           size_t workSpaceSizeInBytes, const void *beta,
                                           const cudnnTensorDescriptor_t dxDesc, void *dx)
{
    emulated_conv v = {.a = w, .b = dy, .out = dx, .workspace = workSpace, .workspace_bytes = workSpaceSizeInBytes};
    const cudnnStatus_t st = prepare(&v, handle, DATA, (int)algo, dxDesc, wDesc, convDesc, dyDesc, alpha, beta);

    return st != CUDNN_STATUS_SUCCESS
               ? st
               : queue("cudnnConvolutionBackwardData", handle, &v, emulated_conv_backward_data,
                       weight_here(&v, w) && here(&v, dy, y_count(&v)) && here(&v, dx, x_count(&v)));
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha,
                                             const cudnnTensorDescriptor_t xDesc, const void *x,
                                             const cudnnTensorDescriptor_t dyDesc, const void *dy,
                                             const cudnnConvolutionDescriptor_t convDesc,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void *workSpace,
                                             size_t workSpaceSizeInBytes, const void *beta,
                                             const cudnnFilterDescriptor_t dwDesc, void *dw)
{
    emulated_conv v = {.a = x, .b = dy, .out = dw, .workspace = workSpace, .workspace_bytes = workSpaceSizeInBytes};
    const cudnnStatus_t st = prepare(&v, handle, FILTER, (int)algo, xDesc, dwDesc, convDesc, dyDesc, alpha, beta);

    return st != CUDNN_STATUS_SUCCESS
               ? st
               : queue("cudnnConvolutionBackwardFilter", handle, &v, emulated_conv_backward_filter,
                       here(&v, x, x_count(&v)) && here(&v, dy, y_count(&v)) && weight_here(&v, dw));
}
