/* tests/emulation/copies.cpp - copies between host and device, and fills. */
#include "internal.h"
#include <cstring>

using namespace emulation;

typedef std::lock_guard<std::recursive_mutex> locked;

static bool sides_fit(const void *dst, const void *src, size_t count, enum cudaMemcpyKind kind)
{
    const bool to_device = on_any_device(dst), from_device = on_any_device(src);

    if ((to_device && !on_device(dst, count)) || (from_device && !on_device(src, count))) {
        return false;
    }
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    case cudaMemcpyDefault:
        return true;
    }
    return false;
}

/* Pageable host memory is read at once, any other when the copy runs. */
static cudaError_t enqueue_copy(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    if (count == 0) {
        return cudaSuccess;
    }
    if (!sides_fit(dst, src, count, kind)) {
        return cudaErrorInvalidValue;
    }
    if (on_any_device(src) || pinned(src)) {
        return enqueue(stream, "cudaMemcpyAsync", [dst, src, count]() {
            memmove(dst, src, count);
            return true;
        });
    }
    auto staged = std::make_shared<std::string>((const char *)src, count);

    return enqueue(stream, "cudaMemcpyAsync", [dst, staged]() {
        memcpy(dst, staged->data(), staged->size());
        return true;
    });
}

extern "C" cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind,
                                       cudaStream_t stream)
{
    const locked held(lock());
    cudaError_t error = enter("cudaMemcpyAsync");

    error = error == cudaSuccess ? enqueue_copy(dst, src, count, kind, stream) : error;
    return leave(error);
}

/* On the default stream, so that it does not wait for streams that are not blocking. */
extern "C" cudaError_t cudaMemcpy(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind)
{
    const locked held(lock());
    cudaError_t error = enter("cudaMemcpy");

    error = error == cudaSuccess ? enqueue_copy(dst, src, count, kind, NULL) : error;
    if (error != cudaSuccess) {
        return leave(error);
    }
    drain_default();
    return outcome();
}

static cudaError_t enqueue_set(void *devPtr, int value, size_t count, cudaStream_t stream)
{
    if (count == 0) {
        return cudaSuccess;
    }
    if (!on_device(devPtr, count)) {
        return cudaErrorInvalidValue;
    }
    return enqueue(stream, "cudaMemsetAsync", [devPtr, value, count]() {
        memset(devPtr, value, count);
        return true;
    });
}

extern "C" cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream)
{
    const locked held(lock());
    cudaError_t error = enter("cudaMemsetAsync");

    error = error == cudaSuccess ? enqueue_set(devPtr, value, count, stream) : error;
    return leave(error);
}

extern "C" cudaError_t cudaMemset(void *devPtr, int value, size_t count)
{
    const locked held(lock());
    cudaError_t error = enter("cudaMemset");

    error = error == cudaSuccess ? enqueue_set(devPtr, value, count, NULL) : error;
    return leave(error);
}
