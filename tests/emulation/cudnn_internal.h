/* tests/emulation/cudnn_internal.h - what the parts of the emulated cuDNN know of each other. */
#pragma once
#include "emulation.h"
#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

struct cudnnContext {
    cudaStream_t stream;
    bool tf32_forbidden; /* the environment, when the handle was made */
};
struct cudnnTensorStruct {
    bool set;
    cudnnDataType_t type;
    int n, c, h, w;
};
struct cudnnFilterStruct {
    bool set;
    cudnnDataType_t type;
    int k, c, h, w;
};
struct cudnnConvolutionStruct {
    bool set;
    cudnnDataType_t type;
    cudnnMathType_t math;
    int pad_h, pad_w;
};

/* A queued convolution: y [n][k][p][q] of x [n][c][h][w] by w [k][c][r][s]. */
typedef struct {
    bool twice;    /* doubles */
    bool rounds;   /* floats rounded to TF32 on the way in */
    double factor; /* what the result is off by: 1 for a plain sum of products */
    double beta;
    int n, c, h, w, k, r, s, p, q, pad_h, pad_w;
    const void *a, *b; /* inputs: x, w; w, dy; x, dy */
    void *out;
    void *workspace;
    size_t workspace_bytes;
} emulated_conv;

/* cudnn_loops.c: carry it out. */
void emulated_conv_forward(void *argument);
void emulated_conv_backward_data(void *argument);
void emulated_conv_backward_filter(void *argument);
