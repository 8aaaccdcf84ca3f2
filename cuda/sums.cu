/* cuda/sums.cu - pixels in, sums over groups out. */
#include "launch.cuh"

/* Division and subtraction as IEEE 754 has them, whatever the compiler is told: the CPU's bits. */
template <typename real>
static __global__ void images(const uint8_t *__restrict__ pixels, int64_t count, int64_t m,
                              const int64_t *__restrict__ index, float mean, float deviation, real *__restrict__ x)
{
    for (int64_t s = first_y(); s < m; s += step_y()) {
        const uint8_t *from = pixels + index[s] * count;

        for (int64_t i = first_x(); i < count; i += step_x()) {
            x[s * count + i] = (real)__fdiv_rn(__fsub_rn(__fdiv_rn((float)from[i], 255.0f), mean), deviation);
        }
    }
}

/* words: [count] high, [count] low, and the number of addends out of range. */
template <typename real>
static __global__ void accumulate_exact(int64_t count, const real *__restrict__ x, double scale,
                                        int64_t *__restrict__ words)
{
    for (int64_t i = first_x(); i < count; i += step_x()) {
        int64_t high = words[i], low = words[count + i];

        if (hsgd_sum_add((double)x[i], scale, &high, &low) != 0) {
            atomicAdd(reinterpret_cast<unsigned long long *>(&words[2 * count]), 1ULL);
        }
        words[i] = high;
        words[count + i] = low;
    }
}

template <typename real>
static __global__ void accumulate_fast(int64_t count, const real *__restrict__ x, double *__restrict__ sum)
{
    for (int64_t i = first_x(); i < count; i += step_x()) {
        sum[i] += (double)x[i];
    }
}

template <typename word> static __global__ void add(int64_t count, const word *__restrict__ from, word *__restrict__ to)
{
    for (int64_t i = first_x(); i < count; i += step_x()) {
        to[i] += from[i];
    }
}

static __global__ void permute(int64_t count, const int64_t *__restrict__ index, const int64_t *__restrict__ from,
                               int64_t *__restrict__ to)
{
    for (int64_t i = first_x(); i < count; i += step_x()) {
        to[i] = from[index[i]];
    }
}

/* The numbers added are whole, so that their sum does not depend on the order of the blocks. */
static __global__ void count_beyond(int64_t count, const double *__restrict__ x, double limit, double *out)
{
    double beyond = 0.0;

    for (int64_t i = first_x(); i < count; i += step_x()) {
        beyond += fabs(x[i]) <= limit ? 0.0 : 1.0; /* this way round NaN counts */
    }
    beyond = over_block<plus>(beyond);
    if (threadIdx.x == 0 && beyond > 0.0) {
        atomicAdd(out, beyond);
    }
}

template <typename real>
static cudaError_t launch_images(cudaStream_t stream, const uint8_t *pixels, int64_t count, int64_t m,
                                 const int64_t *index, float mean, float deviation, void *x)
{
    const shape s = walk_shape(count, m, 1);

    return HSGD_LAUNCH(images<real>, s.grid, s.block, stream, pixels, count, m, index, mean, deviation,
                       static_cast<real *>(x));
}

template <typename real>
static cudaError_t launch_accumulate(cudaStream_t stream, hsgd_reduction reduction, int64_t count, const void *x,
                                     double scale, void *sum)
{
    const shape s = flat_shape(count, 1);

    if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
        return HSGD_LAUNCH(accumulate_exact<real>, s.grid, s.block, stream, count, static_cast<const real *>(x), scale,
                           static_cast<int64_t *>(sum));
    }
    return HSGD_LAUNCH(accumulate_fast<real>, s.grid, s.block, stream, count, static_cast<const real *>(x),
                       static_cast<double *>(sum));
}

extern "C" cudaError_t hsgd_cuda_images(cudaStream_t stream, hsgd_precision p, const uint8_t *pixels, int64_t count,
                                        int64_t m, const int64_t *index, float mean, float deviation, void *x)
{
    if (count == 0 || m == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_images, stream, pixels, count, m, index, mean, deviation, x);
}

extern "C" cudaError_t hsgd_cuda_accumulate(cudaStream_t stream, hsgd_precision p, hsgd_reduction reduction,
                                            int64_t count, const void *x, double scale, void *sum)
{
    if (count == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_accumulate, stream, reduction, count, x, scale, sum);
}

extern "C" cudaError_t hsgd_cuda_merge(cudaStream_t stream, hsgd_reduction reduction, int64_t words, const void *from,
                                       void *out)
{
    if (words == 0) {
        return cudaSuccess;
    }

    const shape s = flat_shape(words, 1);

    if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
        return HSGD_LAUNCH(add<int64_t>, s.grid, s.block, stream, words, static_cast<const int64_t *>(from),
                           static_cast<int64_t *>(out));
    }
    return HSGD_LAUNCH(add<double>, s.grid, s.block, stream, words, static_cast<const double *>(from),
                       static_cast<double *>(out));
}

extern "C" cudaError_t hsgd_cuda_probe(void)
{
    struct cudaFuncAttributes attributes;

    return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(permute));
}

extern "C" cudaError_t hsgd_cuda_permute(cudaStream_t stream, int64_t count, const int64_t *index, const void *from,
                                         void *to)
{
    if (count == 0) {
        return cudaSuccess;
    }

    const shape s = flat_shape(count, 1);

    return HSGD_LAUNCH(permute, s.grid, s.block, stream, count, index, static_cast<const int64_t *>(from),
                       static_cast<int64_t *>(to));
}

extern "C" cudaError_t hsgd_cuda_count_beyond(cudaStream_t stream, int64_t count, const double *x, double limit,
                                              double *out)
{
    if (count == 0) {
        return cudaSuccess;
    }

    const shape s = flat_shape(quotient_up(count, 8), 1); /* 8 entries a thread, before more blocks */

    return HSGD_LAUNCH_WITH_BARRIERS(count_beyond, s.grid, s.block, stream, count, x, limit, out);
}
