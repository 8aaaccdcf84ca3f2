/* cuda/launch.cuh - what the kernels share: launches, their shapes, columns, and sums over a block. */
#pragma once
#include "kernels.h"

/* Launch kernel<<<grid, block, 0, stream>>>(arguments) and return what the launch itself says: cudaGetLastError() could
 * also tell of an older call, such as a query that found the stream busy.  WITH_BARRIERS: for kernels whose threads wait
 * for each other; to a GPU the two are the same. */
#ifdef __CUDACC__
#define HSGD_LAUNCH(kernel, grid, block, stream, ...)               launch(kernel, grid, block, stream, __VA_ARGS__)
#define HSGD_LAUNCH_WITH_BARRIERS(kernel, grid, block, stream, ...) launch(kernel, grid, block, stream, __VA_ARGS__)

template <typename... P, typename... A>
static cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... arguments)
{
    cudaLaunchConfig_t shape = {};

    shape.gridDim = grid;
    shape.blockDim = block;
    shape.stream = stream;
    return cudaLaunchKernelEx(&shape, kernel, static_cast<P>(arguments)...);
}
#else
#define HSGD_LAUNCH(kernel, grid, block, stream, ...)                                                                  \
    emulation::launch(#kernel, false, kernel, grid, block, stream, __VA_ARGS__)
#define HSGD_LAUNCH_WITH_BARRIERS(kernel, grid, block, stream, ...)                                                    \
    emulation::launch(#kernel, true, kernel, grid, block, stream, __VA_ARGS__)
#endif

/* The launcher `f`, a template of the real type, for precision p. */
#define HSGD_BY_PRECISION(p, f, ...) ((p) == HSGD_DOUBLE ? f<double>(__VA_ARGS__) : f<float>(__VA_ARGS__))

enum { THREADS = 256 }; /* of a block without better knowledge: 8 such blocks fill a multiprocessor */

enum {
#ifdef __CUDACC__
    MOST_BLOCKS = 16384, /* of a launch whose threads loop: 15 times what an H100 holds at once */
    MOST_GRID_YZ = 65535 /* CUDA's limit */
#else
    MOST_BLOCKS = 5, /* so few that small tests go round the loops */
    MOST_GRID_YZ = 2
#endif
};

static inline __host__ __device__ int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline __host__ __device__ int64_t quotient_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- shapes ----
 * flat: count items in x, k columns in y.  walk: `places` items that lie beside each other in x, `rows` of them in y, k
 * columns in z: for kernels whose threads keep their place (a pixel, a channel) from row to row, so that they work out
 * once what belongs to it.  Threads loop where the grid is smaller than the work. */

struct shape {
    dim3 grid, block;
};

static inline shape flat_shape(int64_t count, int64_t k)
{
    shape s;

    s.block = dim3(THREADS);
    s.grid = dim3((unsigned)least(quotient_up(count, THREADS), MOST_BLOCKS), (unsigned)least(k, MOST_GRID_YZ));
    return s;
}

static inline shape walk_shape(int64_t places, int64_t rows, int64_t k)
{
    shape s;
    unsigned width = 1;

    while (width < THREADS && width < places) {
        width *= 2;
    }
    s.block = dim3(width, THREADS / width);
    s.grid.x = (unsigned)least(quotient_up(places, width), MOST_BLOCKS);
    s.grid.z = (unsigned)least(k, MOST_GRID_YZ);
    s.grid.y = (unsigned)least(quotient_up(rows, s.block.y), 1 + MOST_BLOCKS / ((int64_t)s.grid.x * s.grid.z));
    return s;
}

/* Where a thread's work begins along x, y and z, and the steps of its loops. */
static __device__ __forceinline__ int64_t first_x()
{
    return blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ int64_t step_x()
{
    return gridDim.x * (int64_t)blockDim.x;
}

static __device__ __forceinline__ int64_t first_y()
{
    return blockIdx.y * (int64_t)blockDim.y + threadIdx.y;
}

static __device__ __forceinline__ int64_t step_y()
{
    return gridDim.y * (int64_t)blockDim.y;
}

/* ---- columns ---- */

template <typename real> struct columns {
    real *data;
    int64_t stride;

    explicit columns(hsgd_columns c) : data(static_cast<real *>(c.data)), stride(c.stride) {}
    __device__ __forceinline__ real *at(int64_t j) const { return data + j * stride; }
};

/* ---- over a block ----
 * `own` of all threads together, by a tree that the number of threads alone decides; every thread gets the result.  The
 * block: whole warps, one dimension.  To be called by all threads, more than once if need be. */

struct plus {
    static __device__ __forceinline__ double of(double a, double b) { return a + b; }
};

struct larger {
    static __device__ __forceinline__ double of(double a, double b) { return fmax(a, b); } /* passes over NaN */
};

template <typename op> static __device__ __forceinline__ double over_warp(double own)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        own = op::of(own, __shfl_xor_sync(0xffffffffu, own, offset));
    }
    return own;
}

template <typename op> static __device__ double over_block(double own)
{
    __shared__ double warps[32];
    const unsigned count = blockDim.x / 32;

    own = over_warp<op>(own);
    __syncthreads(); /* the last call's result has been read */
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = own;
    }
    __syncthreads();
    own = warps[threadIdx.x % 32 % count];
    /* count is a power of two: lanes that repeat others are left out by the offsets */
    for (unsigned offset = count / 2; offset > 0; offset /= 2) {
        own = op::of(own, __shfl_xor_sync(0xffffffffu, own, offset));
    }
    return own;
}
