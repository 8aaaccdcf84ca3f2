/* tests/emulation/include/emulated_device.h - the language of kernels, on the host: qualifiers, places of threads,
 * barriers, shuffles, atomics and launches.
 *
 * One block runs at a time and one thread of it at a time, so that `__shared__` is a static variable.  A kernel is
 * launched with or without barriers: without, it runs as a plain loop over its threads and must not wait; with, each
 * thread of a block has a stack of its own. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmath>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__   static
#define __constant__ static

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulation
{
extern uint3 thread_index, block_index; /* of the thread that runs now */
extern dim3 block_size, grid_size;

enum { WARP = 32 };

/* A place in the source where threads meet. */
struct site {
    const char *file;
    int line;
};

/* Wait for all threads of the block, or for the lanes of `mask` in the warp.  `exchange` also hands `value` (at most 8
 * bytes) to the other lanes and returns the bits of lane `from`; a lane that is not in the mask must not be asked. */
void wait_block(site where);
void wait_warp(site where, unsigned mask);
uint64_t exchange(site where, unsigned mask, uint64_t value, int from);
int lane();

inline unsigned mask_or_all(unsigned mask = 0xffffffffu)
{
    return mask;
}

template <typename value> value shuffle(site where, unsigned mask, value own, int from)
{
    static_assert(sizeof(value) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    value other;

    memcpy(&bits, &own, sizeof own);
    bits = exchange(where, mask, bits, from);
    memcpy(&other, &bits, sizeof other);
    return other;
}

template <typename value> value shuffle_to(site where, unsigned mask, value own, int offset, int width)
{
    const int first = lane() / width * width, from = lane() + offset;

    return shuffle(where, mask, own, from < first || from >= first + width ? lane() : from);
}

/* Queue a kernel; `body` runs it for the thread at thread_index and block_index. */
cudaError_t enqueue_kernel(const char *name, dim3 grid, dim3 block, cudaStream_t stream, bool barriers,
                           std::function<void()> body);

template <typename... P, typename... A>
cudaError_t launch(const char *name, bool barriers, void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream,
                   A &&...arguments)
{
    std::tuple<P...> values(static_cast<P>(arguments)...);

    return enqueue_kernel(name, grid, block, stream, barriers, [kernel, values]() { std::apply(kernel, values); });
}
} // namespace emulation

#define threadIdx (::emulation::thread_index)
#define blockIdx  (::emulation::block_index)
#define blockDim  (::emulation::block_size)
#define gridDim   (::emulation::grid_size)

#define EMULATION_HERE                 (::emulation::site{__FILE__, __LINE__})
#define __syncthreads()                ::emulation::wait_block(EMULATION_HERE)
#define __syncwarp(...)                ::emulation::wait_warp(EMULATION_HERE, ::emulation::mask_or_all(__VA_ARGS__))
#define __shfl_sync(mask, value, from) ::emulation::shuffle(EMULATION_HERE, mask, value, (from)&31)
#define __shfl_xor_sync(mask, value, flip)                                                                             \
    ::emulation::shuffle(EMULATION_HERE, mask, value, ::emulation::lane() ^ (flip))
#define __shfl_down_sync(mask, value, offset) ::emulation::shuffle_to(EMULATION_HERE, mask, value, (int)(offset), 32)
#define __shfl_up_sync(mask, value, offset)   ::emulation::shuffle_to(EMULATION_HERE, mask, value, -(int)(offset), 32)

/* One thread runs at a time: plain additions are atomic. */
template <typename number> inline number atomicAdd(number *address, number addend)
{
    static_assert(std::is_same<number, int>::value || std::is_same<number, unsigned>::value ||
                      std::is_same<number, unsigned long long>::value || std::is_same<number, float>::value ||
                      std::is_same<number, double>::value,
                  "CUDA has no atomicAdd of this type");
    const number old = *address;

    *address = old + addend;
    return old;
}

inline float __fdiv_rn(float x, float y)
{
    return x / y;
}

inline float __fsub_rn(float x, float y)
{
    return x - y;
}

inline float __fadd_rn(float x, float y)
{
    return x + y;
}

inline float __fmul_rn(float x, float y)
{
    return x * y;
}

inline double __ddiv_rn(double x, double y)
{
    return x / y;
}

inline double __dsub_rn(double x, double y)
{
    return x - y;
}

inline double __dadd_rn(double x, double y)
{
    return x + y;
}

inline double __dmul_rn(double x, double y)
{
    return x * y;
}

using std::exp;
using std::fabs;
using std::fmax;
using std::frexp;
using std::isfinite;
using std::isnan;
using std::ldexp;
using std::log;
using std::sqrt;
using std::tanh;
