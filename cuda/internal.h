/* cuda/internal.h - what the host side of the CUDA backend shares; of no use outside cuda/. */
#pragma once
#include "cuda.h"
#include "kernels.h"
#include <cublas_v2.h>
#include <cudnn.h>

/* Pinned memory through which uploads go: a copy out of it is queued and the host goes on.  Segments are filled one
 * after the other; an event marks the last copy out of each, and is waited for before the segment is filled again. */
enum { HSGD_CUDA_SEGMENTS = 8, HSGD_CUDA_SEGMENT = 512 * 1024 };
typedef struct {
    char *memory; /* [HSGD_CUDA_SEGMENTS][HSGD_CUDA_SEGMENT] */
    cudaEvent_t left[HSGD_CUDA_SEGMENTS];
    bool in_use[HSGD_CUDA_SEGMENTS]; /* `left` was recorded and not waited for */
    int segment;                     /* the one being filled */
    size_t used;                     /* bytes of it */
} hsgd_cuda_ring;

/* Pinned memory through which downloads to other host memory go, piece by piece. */
enum { HSGD_CUDA_LANDING = 4 * 1024 * 1024 };

enum { HSGD_CUDA_MARKS = 4 };

typedef struct hsgd_cuda_staging hsgd_cuda_staging; /* transfer.c */
typedef struct hsgd_cuda_held hsgd_cuda_held;       /* hold.c */
typedef struct hsgd_cuda_conv hsgd_cuda_conv;       /* conv.h */

/* Device memory that grows and is overwritten at will. */
typedef struct {
    void *memory;
    size_t bytes;
} hsgd_cuda_scratch;

struct hsgd_cuda_device {
    int ordinal, count;
    bool tf32;
    char name[64], bus_id[32], architecture[16], libraries[96];
    cudaStream_t stream;
    cublasHandle_t blas;
    void *blas_workspace;
    cudnnHandle_t dnn;
    hsgd_cuda_watch watch;
    void *watch_context;
    hsgd_error failure; /* the first; every later call fails with it */
    bool stuck;         /* it was the watch's: what is queued may never come to its end */
    hsgd_cuda_ring ring;
    char *landing;
    hsgd_cuda_staging *staging;
    hsgd_cuda_held *held;
    hsgd_cuda_conv *convs;
    hsgd_cuda_scratch conv_workspace, weights;
    int64_t queued; /* calls since the last mark: see hsgd_cuda_pace */
    int mark;
    cudaEvent_t marks[HSGD_CUDA_MARKS]; /* made when first needed */
};

/* `self` of the backend's table. */
typedef struct {
    hsgd_cuda_device *device;
    hsgd_precision precision;
    hsgd_cuda_scratch loss; /* partial sums of softmax_loss */
    double *squares;        /* [HSGD_CUDA_SQUARES] */
} hsgd_cuda_backend;

/* ---- failures (failure.c) ---- */

/* Whether the device still works; else its first failure.  Local. */
hsgd_status hsgd_cuda_ready(const hsgd_cuda_device *device, hsgd_error *err);

/* `result` of `call` (its text: the part before "(" is named).  A failure becomes the device's, but for want of memory;
 * CUDA's own memory of it is cleared, so that no later launch reports it again.
 * Local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_cuda_check(hsgd_cuda_device *device, cudaError_t result, const char *call, hsgd_error *err);
hsgd_status hsgd_cuda_check_blas(hsgd_cuda_device *device, cublasStatus_t result, const char *call, hsgd_error *err);
hsgd_status hsgd_cuda_check_dnn(hsgd_cuda_device *device, cudnnStatus_t result, const char *call, hsgd_error *err);

/* HSGD_ERR_MEMORY, with what was asked for, what the GPU has, and what to do.  bytes 0: not known.  Local. */
hsgd_status hsgd_cuda_no_memory(hsgd_cuda_device *device, size_t bytes, hsgd_error *err);

#define CUDA_TRY(device, call, err) HSGD_TRY(hsgd_cuda_check((device), (call), #call, (err)))
#define BLAS_TRY(device, call, err) HSGD_TRY(hsgd_cuda_check_blas((device), (call), #call, (err)))
#define DNN_TRY(device, call, err)  HSGD_TRY(hsgd_cuda_check_dnn((device), (call), #call, (err)))

/* ---- waiting (wait.c) ---- */

/* Wait for all work so far, or for `event`, asking the watch about every millisecond.
 * Local.  Errors: HSGD_ERR_DEVICE, the watch's. */
hsgd_status hsgd_cuda_wait(hsgd_cuda_device *device, hsgd_error *err);
hsgd_status hsgd_cuda_wait_event(hsgd_cuda_device *device, cudaEvent_t event, hsgd_error *err);

/* To be called before `calls` launches are queued, about: whether the device works, as hsgd_cuda_ready; and, where there
 * is a watch, that no more than some hundred launches are outstanding.  A stream takes about a thousand; then a launch
 * waits inside CUDA, asking nobody, and behind a collective of a lost rank for ever.
 * Local.  Errors: HSGD_ERR_DEVICE, the watch's. */
hsgd_status hsgd_cuda_pace(hsgd_cuda_device *device, int64_t calls, hsgd_error *err);

/* Wait before something is given back: CUDA's calls that free and destroy wait for the device by themselves, and ask no
 * watch.  False: the device is stuck, and what it has must be left to the end of the process.  Local. */
bool hsgd_cuda_at_rest(hsgd_cuda_device *device);

/* ---- memory (memory.c: the device's; transfer.c: to and from the host; hold.c: shared copies) ---- */

/* `bytes` of device memory, zeroed in the order of the stream; and its end, after all work so far.  NULL is accepted.
 * Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_cuda_allocate(hsgd_cuda_device *device, size_t bytes, void **out, hsgd_error *err);
void hsgd_cuda_free(hsgd_cuda_device *device, void *memory);

/* Have at least `bytes` in *scratch; what it held is lost when it grows, which waits for all work so far.  Local. */
hsgd_status hsgd_cuda_scratch_grow(hsgd_cuda_device *device, hsgd_cuda_scratch *scratch, size_t bytes, hsgd_error *err);

/* Pinned memory and events for transfers; and their end, after all work so far.  Local. */
hsgd_status hsgd_cuda_transfer_create(hsgd_cuda_device *device, hsgd_error *err);
void hsgd_cuda_transfer_destroy(hsgd_cuda_device *device);

/* End what is still held.  Local. */
void hsgd_cuda_held_destroy(hsgd_cuda_device *device);

/* Members of the table, as backend.h says. */
hsgd_status hsgd_cuda_memory_alloc(void *self, size_t bytes, void **out, hsgd_error *err);
void hsgd_cuda_memory_release(void *self, void *memory);
hsgd_status hsgd_cuda_memory_upload(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err);
hsgd_status hsgd_cuda_memory_download(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err);
hsgd_status hsgd_cuda_memory_zero(void *self, int worker, size_t bytes, void *memory, hsgd_error *err);
hsgd_status hsgd_cuda_memory_copy(void *self, int worker, size_t bytes, const void *from, void *to, hsgd_error *err);
hsgd_status hsgd_cuda_memory_hold(void *self, size_t bytes, const void *host, const void **memory, hsgd_error *err);
void hsgd_cuda_memory_let_go(void *self, const void *host);
hsgd_status hsgd_cuda_memory_staging_alloc(void *self, size_t bytes, void **host, hsgd_error *err);
void hsgd_cuda_memory_staging_release(void *self, void *host);
hsgd_status hsgd_cuda_memory_info(void *self, size_t *free, size_t *total, hsgd_error *err);

/* ---- convolutions (conv.c, conv_choice.c) and products of matrices (blas.c) ---- */

/* The products of affine_value, _adjoint_input and _adjoint_weight, without biases.  Local. */
hsgd_status hsgd_cuda_conv_value(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                 hsgd_columns w, hsgd_columns y, bool add, hsgd_error *err);
hsgd_status hsgd_cuda_conv_adjoint_input(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                         hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err);
hsgd_status hsgd_cuda_conv_adjoint_weight(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                          hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_error *err);
hsgd_status hsgd_cuda_linear_value(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                   hsgd_columns w, hsgd_columns y, bool add, hsgd_error *err);
hsgd_status hsgd_cuda_linear_adjoint_input(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                           hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err);
hsgd_status hsgd_cuda_linear_adjoint_weight(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                            hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_error *err);

/* (weights.c) k columns of a layer's weight as the libraries get them: *used is w itself or copies at multiples of 64
 * bytes in the device's scratch memory, good until the next call; and the copies' content back to w, where they are
 * results.  Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_cuda_weights_in(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t k, hsgd_columns w,
                                 hsgd_columns *used, hsgd_error *err);
hsgd_status hsgd_cuda_weights_out(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t k, hsgd_columns used,
                                  hsgd_columns w, hsgd_error *err);

/* End what is known of the convolutions met so far.  Local. */
void hsgd_cuda_conv_destroy(hsgd_cuda_device *device);

/* Members of the table, as backend.h says. */
hsgd_status hsgd_cuda_gram(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx,
                           int64_t ky, const double *y, int64_t ldy, double *partial, hsgd_error *err);
hsgd_status hsgd_cuda_update(void *self, int64_t rows, int64_t block, double a, int64_t kx, const double *x,
                             int64_t ldx, const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err);

/* Column j.  Local. */
static inline void *hsgd_cuda_column(hsgd_precision precision, hsgd_columns columns, int64_t j)
{
    return (char *)columns.data + (size_t)(j * columns.stride) * hsgd_real_size(precision);
}

/* 0 and 1 in host memory, of the type that the libraries expect for reals of that precision.  Local. */
static inline const void *hsgd_cuda_scalar(hsgd_precision precision, bool one)
{
    static const float singles[] = {0.0f, 1.0f};
    static const double doubles[] = {0.0, 1.0};

    return precision == HSGD_DOUBLE ? (const void *)&doubles[one] : (const void *)&singles[one];
}
