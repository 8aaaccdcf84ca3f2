/* tests/emulation/copy2d.cpp - copies of columns that lie apart, within device memory. */
#include "internal.h"
#include <cstring>

using namespace emulation;

static bool fits(const void *memory, size_t pitch, size_t width, size_t height)
{
    return pitch >= width && on_device(memory, (height - 1) * pitch + width);
}

extern "C" cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width,
                                         size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> held(lock());
    const cudaError_t error = enter("cudaMemcpy2DAsync");

    if (error != cudaSuccess || width == 0 || height == 0) {
        return leave(error);
    }
    if (kind != cudaMemcpyDeviceToDevice || !fits(dst, dpitch, width, height) || !fits(src, spitch, width, height)) {
        return leave(cudaErrorInvalidValue);
    }
    return leave(enqueue(stream, "cudaMemcpy2DAsync", [=]() {
        for (size_t i = 0; i < height; i++) {
            memcpy((char *)dst + i * dpitch, (const char *)src + i * spitch, width);
        }
        return true;
    }));
}
