/* src/wiring/module.h - what the program takes out of the module hsgd-cuda.so, which is opened only where a GPU is asked
 * for: CUDA's libraries take longer to load than a small CPU run takes to finish. */
#pragma once
#include "../../cuda/cuda.h"
#include "../../mpi/comm_nccl.h"

enum { HSGD_CUDA_MODULE_VERSION = 3 }; /* of the table, backend.h and comm.h; checked by who opens it */
#define HSGD_CUDA_MODULE_SYMBOL "hsgd_cuda_module"

typedef struct {
    int version;
    size_t size; /* of this table */
    hsgd_status (*device_create)(int local_rank, bool tf32, hsgd_cuda_device **out, hsgd_error *err);
    void (*device_destroy)(hsgd_cuda_device **device);
    hsgd_status (*backend_create)(hsgd_cuda_device *device, hsgd_precision precision, hsgd_backend **out,
                                  hsgd_error *err);
    /* As hsgd_comm_nccl_create on the device's stream; NULL in a module built without NCCL. */
    hsgd_status (*comm_create)(hsgd_comm *inner, hsgd_cuda_device *device, double timeout, hsgd_comm **out, char *why,
                               size_t why_size, hsgd_error *err);
} hsgd_cuda_module_table;

extern const hsgd_cuda_module_table hsgd_cuda_module; /* the symbol */
