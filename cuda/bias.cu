/* cuda/bias.cu - biases of convolutions and linear layers. */
#include "launch.cuh"

/* A thread stays at one place of a sample, so with one bias, and goes from sample to sample. */
template <typename real>
static __global__ void bias_add(int64_t m, int64_t channels, int64_t places, int64_t k, columns<real> b,
                                columns<real> y)
{
    const int64_t width = channels * places;

    for (int64_t j = blockIdx.z; j < k; j += gridDim.z) {
        for (int64_t i = first_x(); i < width; i += step_x()) {
            const real bias = b.at(j)[i / places];

            for (int64_t s = first_y(); s < m; s += step_y()) {
                y.at(j)[s * width + i] += bias;
            }
        }
    }
}

/* One block for a channel of a column.  `group` threads, a power of two, go along the places of a sample, and the block's
 * groups from sample to sample. */
template <typename real>
static __global__ void __launch_bounds__(1024) bias_gradient(int64_t m, int64_t channels, int64_t places, int64_t k,
                                                             unsigned group, columns<real> dy, columns<real> db)
{
    const int64_t c = blockIdx.x, groups = blockDim.x / group;

    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        double sum = 0.0;

        for (int64_t s = threadIdx.x / group; s < m; s += groups) {
            const real *plane = dy.at(j) + (s * channels + c) * places;

#pragma unroll 4
            for (int64_t q = threadIdx.x % group; q < places; q += group) {
                sum += (double)plane[q];
            }
        }
        sum = over_block<plus>(sum);
        if (threadIdx.x == 0) {
            db.at(j)[c] += (real)sum;
        }
    }
}

enum { CHANNELS = 32, SHARES = 8 };

/* The same where a sample has one place: 32 channels, which lie beside each other, in SHARES shares of the samples. */
template <typename real>
static __global__ void bias_gradient_flat(int64_t m, int64_t channels, int64_t k, columns<real> dy, columns<real> db)
{
    __shared__ double shares[SHARES][CHANNELS];
    const int64_t c = blockIdx.x * (int64_t)CHANNELS + threadIdx.x;

    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        double sum = 0.0;

#pragma unroll 4
        for (int64_t s = threadIdx.y; s < m && c < channels; s += SHARES) {
            sum += (double)dy.at(j)[s * channels + c];
        }
        __syncthreads(); /* the last column's shares have been read */
        shares[threadIdx.y][threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0 && c < channels) {
            for (int i = 1; i < SHARES; i++) {
                sum += shares[i][threadIdx.x];
            }
            db.at(j)[c] += (real)sum;
        }
    }
}

template <typename real>
static cudaError_t launch_bias_add(cudaStream_t stream, int64_t m, int64_t channels, int64_t places, int64_t k,
                                   hsgd_columns b, hsgd_columns y)
{
    const shape s = walk_shape(channels * places, m, k);

    return HSGD_LAUNCH(bias_add<real>, s.grid, s.block, stream, m, channels, places, k, columns<real>(b),
                       columns<real>(y));
}

template <typename real>
static cudaError_t launch_bias_gradient(cudaStream_t stream, int64_t m, int64_t channels, int64_t places, int64_t k,
                                        hsgd_columns dy, hsgd_columns db)
{
    const unsigned columns_at_once = (unsigned)least(k, MOST_GRID_YZ);
    unsigned group = 1, threads = 32;

    if (places == 1) {
        return HSGD_LAUNCH_WITH_BARRIERS(
            bias_gradient_flat<real>, dim3((unsigned)quotient_up(channels, CHANNELS), columns_at_once),
            dim3(CHANNELS, SHARES), stream, m, channels, k, columns<real>(dy), columns<real>(db));
    }
    while (group < 32 && group < places) {
        group *= 2;
    }
    while (threads < 1024 && threads * 4 < m * places) { /* 4 addends each, before more threads */
        threads *= 2;
    }
    return HSGD_LAUNCH_WITH_BARRIERS(bias_gradient<real>, dim3((unsigned)channels, columns_at_once), dim3(threads),
                                     stream, m, channels, places, k, group, columns<real>(dy), columns<real>(db));
}

extern "C" cudaError_t hsgd_cuda_bias_add(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t channels,
                                          int64_t places, int64_t k, hsgd_columns b, hsgd_columns y)
{
    if (m * channels * places * k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_bias_add, stream, m, channels, places, k, b, y);
}

extern "C" cudaError_t hsgd_cuda_bias_gradient(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t channels,
                                               int64_t places, int64_t k, hsgd_columns dy, hsgd_columns db)
{
    if (m * channels * places * k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_bias_gradient, stream, m, channels, places, k, dy, db);
}
