/* cuda/memory.c - memory of the device. */
#include "internal.h"

/* Zeroed in the order of the stream, which is the only one that will touch it. */
hsgd_status hsgd_cuda_allocate(hsgd_cuda_device *device, size_t bytes, void **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t least = bytes > 0 ? bytes : 1; /* an address of its own even for nothing */
    void *memory = NULL;
    cudaError_t result = cudaSuccess;

    *out = NULL;
    HSGD_TRY(hsgd_cuda_ready(device, err));
    result = cudaMalloc(&memory, least);
    if (result == cudaErrorMemoryAllocation) {
        memory = NULL;
        HSGD_TRY(hsgd_cuda_no_memory(device, bytes, err));
    }
    HSGD_TRY(hsgd_cuda_check(device, result, "cudaMalloc", err));
    CUDA_TRY(device, cudaMemsetAsync(memory, 0, least, device->stream), err);
    *out = memory;
    memory = NULL;
done:
    if (memory != NULL) {
        (void)cudaFree(memory);
    }
    return st;
}

void hsgd_cuda_free(hsgd_cuda_device *device, void *memory)
{
    if (memory != NULL && hsgd_cuda_at_rest(device)) {
        (void)cudaFree(memory);
    }
}

hsgd_status hsgd_cuda_scratch_grow(hsgd_cuda_device *device, hsgd_cuda_scratch *scratch, size_t bytes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (bytes <= scratch->bytes) {
        return HSGD_OK;
    }
    hsgd_cuda_free(device, scratch->memory); /* first, so that both need not fit */
    *scratch = (hsgd_cuda_scratch){NULL, 0};
    HSGD_TRY(hsgd_cuda_allocate(device, bytes, &scratch->memory, err));
    scratch->bytes = bytes;
done:
    return st;
}

hsgd_status hsgd_cuda_memory_alloc(void *self, size_t bytes, void **out, hsgd_error *err)
{
    return hsgd_cuda_allocate(((const hsgd_cuda_backend *)self)->device, bytes, out, err);
}

void hsgd_cuda_memory_release(void *self, void *memory)
{
    hsgd_cuda_free(((const hsgd_cuda_backend *)self)->device, memory);
}

hsgd_status hsgd_cuda_memory_zero(void *self, int worker, size_t bytes, void *memory, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;

    (void)worker;
    HSGD_TRY(hsgd_cuda_pace(device, 1, err));
    if (bytes > 0) {
        CUDA_TRY(device, cudaMemsetAsync(memory, 0, bytes, device->stream), err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_memory_copy(void *self, int worker, size_t bytes, const void *from, void *to, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;

    (void)worker;
    HSGD_TRY(hsgd_cuda_pace(device, 1, err));
    if (bytes > 0) {
        CUDA_TRY(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device->stream), err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_memory_info(void *self, size_t *free, size_t *total, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_cuda_ready(device, err));
    CUDA_TRY(device, cudaMemGetInfo(free, total), err);
done:
    return st;
}
