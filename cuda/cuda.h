/* cuda/cuda.h - the CUDA backend, as the rest of the program sees it: a GPU, and backends that compute there. */
#pragma once
#include "backend.h"

/* One GPU of this process: its stream, on which all work of all its backends runs in order, and its library handles. */
typedef struct hsgd_cuda_device hsgd_cuda_device;

typedef struct {
    char name[64];         /* "NVIDIA H100 80GB HBM3" */
    char bus_id[32];       /* "0000:1b:00.0": the same for all processes of a node that use this GPU */
    char architecture[16]; /* "sm_90" */
    char libraries[96];    /* "CUDA 13.0, cuDNN 9.19.0, cuBLAS 13.1.0" */
    int ordinal, count;    /* which of the visible devices */
    size_t free, total;    /* bytes of its memory */
    void *stream;          /* a cudaStream_t */
} hsgd_cuda_description;

/* Take visible device number local_rank modulo their number (CUDA_VISIBLE_DEVICES and a batch system's binding decide
 * what is visible).  tf32: products of floats may be rounded to TF32; else they never are, whatever the environment says.
 * Local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_cuda_device_create(int local_rank, bool tf32, hsgd_cuda_device **out, hsgd_error *err);

/* End *device, after all its backends, and set it to NULL; accepts NULL.  Local. */
void hsgd_cuda_device_destroy(hsgd_cuda_device **device);

/* What there is to say of it; free memory as of now.  Local.  Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_cuda_device_describe(hsgd_cuda_device *device, hsgd_cuda_description *out, hsgd_error *err);

/* Who waits for the device asks `watch` about every millisecond and gives up with its failure; NULL: nobody is asked.
 * A communicator sees there to it that nobody waits for ever for a lost rank.  Local. */
typedef hsgd_status (*hsgd_cuda_watch)(void *context, hsgd_error *err);
void hsgd_cuda_device_set_watch(hsgd_cuda_device *device, hsgd_cuda_watch watch, void *context);

/* Make a backend on the device, which must outlive it.  Local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_backend_cuda_create(hsgd_cuda_device *device, hsgd_precision precision, hsgd_backend **out,
                                     hsgd_error *err);
