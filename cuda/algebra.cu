/* cuda/algebra.cu - vectors in double: powers of two, exact sums back into numbers, steps of descent. */
#include "launch.cuh"

/* 2^exponent as two factors, as it may itself overflow or vanish where the product does not. */
struct power {
    double half, rest;

    __device__ explicit power(int exponent) : half(ldexp(1.0, exponent / 2)), rest(ldexp(1.0, exponent - exponent / 2))
    {
    }
    __device__ __forceinline__ double times(double x) const { return x * half * rest; }
};

/* ---- sums of squares ---- */

/* Every block leaves one partial sum. */
template <typename real> static __global__ void squares(int64_t count, int64_t k, columns<real> x, double *partial)
{
    double sum = 0.0;

    for (int64_t j = 0; j < k; j++) {
        const real *from = x.at(j);

        for (int64_t i = first_x(); i < count; i += step_x()) {
            sum += (double)from[i] * (double)from[i];
        }
    }
    sum = over_block<plus>(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

static __global__ void add_squares(int blocks, const double *partial, double *out)
{
    const double sum = over_block<plus>((int)threadIdx.x < blocks ? partial[threadIdx.x] : 0.0);

    if (threadIdx.x == 0) {
        *out += sum;
    }
}

template <typename real>
static cudaError_t launch_squares(cudaStream_t stream, int blocks, int64_t count, int64_t k, hsgd_columns x,
                                  double *scratch)
{
    return HSGD_LAUNCH_WITH_BARRIERS(squares<real>, dim3((unsigned)blocks), dim3(THREADS), stream, count, k,
                                     columns<real>(x), scratch);
}

extern "C" cudaError_t hsgd_cuda_squares(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k,
                                         hsgd_columns x, double *out, double *scratch)
{
    /* 8 addends of a column a thread, before more blocks */
    const int blocks = (int)least(quotient_up(count, 8 * THREADS), HSGD_CUDA_SQUARES);
    cudaError_t error = cudaSuccess;

    if (count == 0 || k == 0) {
        return cudaSuccess;
    }
    error = HSGD_BY_PRECISION(p, launch_squares, stream, blocks, count, k, x, scratch);
    if (error != cudaSuccess) {
        return error;
    }
    return HSGD_LAUNCH_WITH_BARRIERS(add_squares, dim3(1), dim3(HSGD_CUDA_SQUARES), stream, blocks, scratch, out);
}

/* ---- columns at norm 1 ---- */

/* One block for a column.  First by the largest entry, so that no square overflows or vanishes. */
static __global__ void __launch_bounds__(1024)
    exponents_of(int64_t n, int64_t k, const double *__restrict__ x, int32_t *exponents)
{
    for (int64_t j = blockIdx.x; j < k; j += gridDim.x) {
        const double *column = x + j * n;
        double top = 0.0, sum = 0.0;
        int first = 0, second = 0;

#pragma unroll 4
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            top = fmax(top, fabs(column[i]));
        }
        top = over_block<larger>(top);
        if (top > 0.0 && isfinite(top)) { /* the same for all threads */
            (void)frexp(top, &first);
            const power down(-first);

#pragma unroll 4
            for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
                const double scaled = down.times(column[i]);

                sum += scaled * scaled;
            }
            sum = over_block<plus>(sum);
            if (isfinite(sum)) { /* else there is a NaN, which the product reports */
                (void)frexp(sqrt(sum), &second);
            }
        }
        if (threadIdx.x == 0) {
            exponents[j] = isfinite(sum) ? first + second : 0;
        }
    }
}

extern "C" cudaError_t hsgd_cuda_exponents(cudaStream_t stream, int64_t n, int64_t k, const double *x,
                                           int32_t *exponents)
{
    if (k == 0) {
        return cudaSuccess;
    }
    return HSGD_LAUNCH_WITH_BARRIERS(exponents_of, dim3((unsigned)least(k, MOST_BLOCKS)), dim3(1024), stream, n, k, x,
                                     exponents);
}

template <typename real>
static __global__ void narrow(int64_t n, int64_t k, const double *__restrict__ x, const int64_t *__restrict__ order,
                              const int32_t *__restrict__ exponents, real *__restrict__ out)
{
    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        const int exponent = exponents != NULL ? exponents[j] : 0;
        const power down(-exponent);

        for (int64_t i = first_x(); i < n; i += step_x()) {
            out[j * n + i] = exponent > HSGD_MOST_EXPONENT ? (real)NAN : (real)down.times(x[j * n + order[i]]);
        }
    }
}

template <typename real>
static cudaError_t launch_narrow(cudaStream_t stream, int64_t n, int64_t k, const double *x, const int64_t *order,
                                 const int32_t *exponents, void *out)
{
    const shape s = flat_shape(n, k);

    return HSGD_LAUNCH(narrow<real>, s.grid, s.block, stream, n, k, x, order, exponents, static_cast<real *>(out));
}

extern "C" cudaError_t hsgd_cuda_narrow(cudaStream_t stream, hsgd_precision p, int64_t n, int64_t k, const double *x,
                                        const int64_t *order, const int32_t *exponents, void *out)
{
    if (n == 0 || k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_narrow, stream, n, k, x, order, exponents, out);
}

/* ---- words back into numbers ---- */

struct exact_words {
    const int64_t *words;
    double scale;

    __device__ __forceinline__ double at(int64_t i) const
    {
        return hsgd_sum_value(words[2 * i], words[2 * i + 1], scale);
    }
};

struct plain_words {
    const double *words;

    __device__ __forceinline__ double at(int64_t i) const { return words[i]; }
};

/* A thread stays with its columns: x goes along the k numbers of a row, y from row to row. */
template <typename numbers>
static __global__ void expand(int64_t rows, int64_t k, numbers from, double divisor,
                              const int32_t *__restrict__ exponents, double *__restrict__ y, int64_t ldy)
{
    for (int64_t j = first_x(); j < k; j += step_x()) {
        const power up(exponents != NULL ? exponents[j] : 0);

        for (int64_t i = first_y(); i < rows; i += step_y()) {
            y[j * ldy + i] = up.times(from.at(i * k + j) / divisor);
        }
    }
}

extern "C" cudaError_t hsgd_cuda_expand(cudaStream_t stream, hsgd_reduction reduction, int64_t rows, int64_t k,
                                        const void *words, double scale, double divisor, const int32_t *exponents,
                                        double *y, int64_t ldy)
{
    if (rows == 0 || k == 0) {
        return cudaSuccess;
    }

    const shape s = walk_shape(k, rows, 1);
    const exact_words exact = {static_cast<const int64_t *>(words), scale};
    const plain_words plain = {static_cast<const double *>(words)};

    if (reduction == HSGD_REDUCTION_REPRODUCIBLE) {
        return HSGD_LAUNCH(expand<exact_words>, s.grid, s.block, stream, rows, k, exact, divisor, exponents, y, ldy);
    }
    return HSGD_LAUNCH(expand<plain_words>, s.grid, s.block, stream, rows, k, plain, divisor, exponents, y, ldy);
}

/* ---- descent ---- */

static __global__ void sgd_update(hsgd_sgd_rule rule, int64_t n, const double *__restrict__ g, const double *halted,
                                  double *__restrict__ weights, double *__restrict__ momentum)
{
    if (*halted != 0.0) {
        return;
    }
    for (int64_t i = first_x(); i < n; i += step_x()) {
        double w = weights[i], d = rule.lr * (g[i] + rule.weight_decay * w);

        if (rule.momentum != 0.0) {
            const double v = rule.first ? d : rule.momentum * momentum[i] + (1.0 - rule.dampening) * d;

            momentum[i] = v;
            d = rule.nesterov ? d + rule.momentum * v : v;
        }
        w -= d;
        weights[i] = rule.round_to_single ? (double)(float)w : w;
    }
}

extern "C" cudaError_t hsgd_cuda_sgd_update(cudaStream_t stream, const hsgd_sgd_rule *rule, int64_t n, const double *g,
                                            const double *halted, double *weights, double *momentum)
{
    if (n == 0) {
        return cudaSuccess;
    }

    const shape s = flat_shape(n, 1);

    return HSGD_LAUNCH(sgd_update, s.grid, s.block, stream, *rule, n, g, halted, weights, momentum);
}

/* ---- sums over blocks of rows ---- */

static __global__ void add_blocks(int64_t blocks, int64_t products, const double *__restrict__ partial,
                                  double *__restrict__ g)
{
    for (int64_t i = first_x(); i < products; i += step_x()) {
        double sum = 0.0;

#pragma unroll 8
        for (int64_t b = 0; b < blocks; b++) { /* in this order */
            sum += partial[b * products + i];
        }
        g[i] = sum;
    }
}

extern "C" cudaError_t hsgd_cuda_add_blocks(cudaStream_t stream, int64_t blocks, int64_t products,
                                            const double *partial, double *g)
{
    if (products == 0) {
        return cudaSuccess;
    }

    const shape s = flat_shape(products, 1);

    return HSGD_LAUNCH(add_blocks, s.grid, s.block, stream, blocks, products, partial, g);
}
