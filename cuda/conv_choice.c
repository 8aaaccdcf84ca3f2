/* cuda/conv_choice.c - which of cuDNN's algorithms computes a convolution.
 *
 * cuDNN's heuristics are asked, which know shapes and GPU alone: unlike its timings they say the same on every rank and
 * in every run.  Of their list we take the first that gives the same bits each time, is content with a bounded
 * workspace, and forms each output as a plain sum of products.  FFT and Winograd are not: they mix values that have
 * nothing to do with each other, so that equal inputs (the black background of images) no longer give equal outputs,
 * whose ties decide in max-pooling; and their rounding is beyond that of float sums. */
#include "conv.h"

enum { MOST = 16 }; /* more than any pass has algorithms */

typedef struct {
    const char *name;
    int allowed[3]; /* in the order in which they are tried where the heuristics name none of them */
    int count;
    /* The heuristics' list, best first: algorithms that would run and are deterministic. */
    cudnnStatus_t (*list)(cudnnHandle_t handle, const hsgd_cuda_conv *c, int *algorithms, int *count);
    cudnnStatus_t (*workspace)(cudnnHandle_t handle, const hsgd_cuda_conv *c, int algorithm, size_t *bytes);
} pass_of_cudnn;

/* The three kinds of answer are alike, but of three types. */
#define KEEP_USABLE(answers, number, algorithms, count)                                                                \
    do {                                                                                                               \
        *(count) = 0;                                                                                                  \
        for (int i = 0; i < (number); i++) {                                                                           \
            if ((answers)[i].status == CUDNN_STATUS_SUCCESS && (answers)[i].determinism == CUDNN_DETERMINISTIC) {      \
                (algorithms)[(*(count))++] = (int)(answers)[i].algo;                                                   \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

static cudnnStatus_t list_forward(cudnnHandle_t handle, const hsgd_cuda_conv *c, int *algorithms, int *count)
{
    cudnnConvolutionFwdAlgoPerf_t answers[MOST];
    int number = 0;
    const cudnnStatus_t result =
        cudnnGetConvolutionForwardAlgorithm_v7(handle, c->x, c->w, c->conv, c->y, MOST, &number, answers);

    KEEP_USABLE(answers, result == CUDNN_STATUS_SUCCESS ? number : 0, algorithms, count);
    return result;
}

static cudnnStatus_t list_backward_data(cudnnHandle_t handle, const hsgd_cuda_conv *c, int *algorithms, int *count)
{
    cudnnConvolutionBwdDataAlgoPerf_t answers[MOST];
    int number = 0;
    const cudnnStatus_t result =
        cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, c->w, c->y, c->conv, c->x, MOST, &number, answers);

    KEEP_USABLE(answers, result == CUDNN_STATUS_SUCCESS ? number : 0, algorithms, count);
    return result;
}

static cudnnStatus_t list_backward_filter(cudnnHandle_t handle, const hsgd_cuda_conv *c, int *algorithms, int *count)
{
    cudnnConvolutionBwdFilterAlgoPerf_t answers[MOST];
    int number = 0;
    const cudnnStatus_t result =
        cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, c->x, c->y, c->conv, c->w, MOST, &number, answers);

    KEEP_USABLE(answers, result == CUDNN_STATUS_SUCCESS ? number : 0, algorithms, count);
    return result;
}

static cudnnStatus_t forward_workspace(cudnnHandle_t handle, const hsgd_cuda_conv *c, int algorithm, size_t *bytes)
{
    return cudnnGetConvolutionForwardWorkspaceSize(handle, c->x, c->w, c->conv, c->y,
                                                   (cudnnConvolutionFwdAlgo_t)algorithm, bytes);
}

static cudnnStatus_t backward_data_workspace(cudnnHandle_t handle, const hsgd_cuda_conv *c, int algorithm,
                                             size_t *bytes)
{
    return cudnnGetConvolutionBackwardDataWorkspaceSize(handle, c->w, c->y, c->conv, c->x,
                                                        (cudnnConvolutionBwdDataAlgo_t)algorithm, bytes);
}

static cudnnStatus_t backward_filter_workspace(cudnnHandle_t handle, const hsgd_cuda_conv *c, int algorithm,
                                               size_t *bytes)
{
    return cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, c->x, c->y, c->conv, c->w,
                                                          (cudnnConvolutionBwdFilterAlgo_t)algorithm, bytes);
}

static const pass_of_cudnn passes[HSGD_CUDA_PASSES] = {
    [HSGD_CUDA_FORWARD] = {"forward",
                           {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
                            CUDNN_CONVOLUTION_FWD_ALGO_GEMM},
                           3,
                           list_forward,
                           forward_workspace},
    [HSGD_CUDA_BACKWARD_DATA] =
        {"backward in the data", {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1}, 1, list_backward_data, backward_data_workspace},
    [HSGD_CUDA_BACKWARD_FILTER] = {"backward in the filter",
                                   {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1},
                                   1,
                                   list_backward_filter,
                                   backward_filter_workspace},
};

static bool is_allowed(const pass_of_cudnn *pass, int algorithm)
{
    for (int i = 0; i < pass->count; i++) {
        if (pass->allowed[i] == algorithm) {
            return true;
        }
    }
    return false;
}

/* Of algorithms[count], the first allowed one whose workspace is within `limit`.  The query is the truth on workspace:
 * the heuristics' figure may be that of another arithmetic than ours. */
static bool first_within(cudnnHandle_t handle, const pass_of_cudnn *pass, const int *algorithms, int count,
                         size_t limit, hsgd_cuda_conv *conv, hsgd_cuda_pass number)
{
    for (int i = 0; i < count; i++) {
        size_t bytes = 0;

        if (is_allowed(pass, algorithms[i]) &&
            pass->workspace(handle, conv, algorithms[i], &bytes) == CUDNN_STATUS_SUCCESS && bytes <= limit) {
            conv->pass[number].algorithm = algorithms[i];
            conv->pass[number].workspace = bytes;
            conv->pass[number].known = true;
            return true;
        }
    }
    return false;
}

hsgd_status hsgd_cuda_conv_choose(hsgd_cuda_device *device, hsgd_cuda_conv *conv, hsgd_cuda_pass number,
                                  hsgd_error *err)
{
    const pass_of_cudnn *pass = &passes[number];
    hsgd_status st = HSGD_OK;
    int algorithms[MOST], count = 0;

    if (pass->list(device->dnn, conv, algorithms, &count) != CUDNN_STATUS_SUCCESS) {
        count = 0; /* no advice, then */
    }
    if (first_within(device->dnn, pass, algorithms, count, HSGD_CUDA_CONV_WORKSPACE, conv, number) ||
        first_within(device->dnn, pass, pass->allowed, pass->count, HSGD_CUDA_CONV_WORKSPACE, conv, number) ||
        first_within(device->dnn, pass, pass->allowed, pass->count, HSGD_CUDA_CONV_LIMIT, conv, number)) {
        return HSGD_OK;
    }
    HSGD_CHECK(false, HSGD_ERR_DEVICE, err,
               "cuda: cuDNN has no algorithm of ours for the convolution %s of %d samples %dx%dx%d by %dx%d to %d "
               "channels in %s; compute on the CPU, or in the other precision",
               pass->name, conv->shape.x[0], conv->shape.x[1], conv->shape.x[2], conv->shape.x[3], conv->shape.w[2],
               conv->shape.w[3], conv->shape.y[1], conv->precision == HSGD_DOUBLE ? "double" : "single");
done:
    return st;
}
