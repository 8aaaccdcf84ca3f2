/* cuda/failure.c - failures of CUDA and its libraries in our words; the first one stays. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

hsgd_status hsgd_cuda_ready(const hsgd_cuda_device *device, hsgd_error *err)
{
    if (device->failure.status != HSGD_OK && err != NULL) {
        *err = device->failure;
    }
    return device->failure.status;
}

/* The text of a call up to its arguments. */
static int name_length(const char *call)
{
    return (int)strcspn(call, "(");
}

/* Work is queued, so the failing call is often an earlier one than that which tells. */
static hsgd_status device_failed(hsgd_cuda_device *device, const char *call, const char *what, const char *name,
                                 hsgd_error *err)
{
    (void)cudaGetLastError();
    if (device->failure.status == HSGD_OK) {
        (void)hsgd_error_set(&device->failure, HSGD_ERR_DEVICE,
                             "cuda: %.*s: %s (%s) on %s at %s; it may come from earlier work: start again, and should "
                             "it return, set CUDA_LAUNCH_BLOCKING=1 to see which call it is",
                             name_length(call), call, what, name, device->name[0] != '\0' ? device->name : "the GPU",
                             device->bus_id[0] != '\0' ? device->bus_id : "an unknown place");
    }
    return hsgd_cuda_ready(device, err);
}

hsgd_status hsgd_cuda_no_memory(hsgd_cuda_device *device, size_t bytes, hsgd_error *err)
{
    const double mib = 1024.0 * 1024.0;
    size_t free = 0, total = 0;
    char asked[48] = "what a library asked for";

    (void)cudaGetLastError();
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) {
        (void)cudaGetLastError();
    }
    if (bytes > 0) {
        (void)snprintf(asked, sizeof asked, "%.1f MiB", (double)bytes / mib);
    }
    return hsgd_error_set(
        err, HSGD_ERR_MEMORY,
        "memory: the GPU %s has no room for %s: %.1f of its %.1f MiB are free; lower hessian.cache, take a "
        "smaller eigen.basis or fewer columns at once, or use more GPUs",
        device->name, asked, (double)free / mib, (double)total / mib);
}

hsgd_status hsgd_cuda_check(hsgd_cuda_device *device, cudaError_t result, const char *call, hsgd_error *err)
{
    if (result == cudaSuccess) {
        return HSGD_OK;
    }
    if (result == cudaErrorMemoryAllocation) {
        return hsgd_cuda_no_memory(device, 0, err);
    }
    return device_failed(device, call, cudaGetErrorString(result), cudaGetErrorName(result), err);
}

/* A library's failure says little; where CUDA knows more, that is told too. */
static hsgd_status library_failed(hsgd_cuda_device *device, const char *call, const char *what, const char *name,
                                  hsgd_error *err)
{
    const cudaError_t beneath = cudaPeekAtLastError();
    char text[256];

    if (beneath == cudaSuccess) {
        return device_failed(device, call, what, name, err);
    }
    (void)snprintf(text, sizeof text, "%s: %s", what, cudaGetErrorString(beneath));
    return device_failed(device, call, text, name, err);
}

hsgd_status hsgd_cuda_check_blas(hsgd_cuda_device *device, cublasStatus_t result, const char *call, hsgd_error *err)
{
    if (result == CUBLAS_STATUS_SUCCESS) {
        return HSGD_OK;
    }
    if (result == CUBLAS_STATUS_ALLOC_FAILED) {
        return hsgd_cuda_no_memory(device, 0, err);
    }
    return library_failed(device, call, cublasGetStatusString(result), cublasGetStatusName(result), err);
}

hsgd_status hsgd_cuda_check_dnn(hsgd_cuda_device *device, cudnnStatus_t result, const char *call, hsgd_error *err)
{
    char text[160] = "";

    if (result == CUDNN_STATUS_SUCCESS) {
        return HSGD_OK;
    }
    if (result == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED) {
        return hsgd_cuda_no_memory(device, 0, err);
    }
    cudnnGetLastErrorString(text, sizeof text);
    text[strcspn(text, "\n")] = '\0';
    return library_failed(device, call, text[0] != '\0' ? text : "cuDNN refused", cudnnGetErrorString(result), err);
}
