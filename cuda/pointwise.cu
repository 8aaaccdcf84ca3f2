/* cuda/pointwise.cu - ReLU and tanh with their derivatives.  Input and output may be the same memory. */
#include "launch.cuh"

template <typename real> static __global__ void relu_value(int64_t count, const real *x, real *y)
{
    for (int64_t i = first_x(); i < count; i += step_x()) {
        y[i] = x[i] <= 0 ? 0 : x[i]; /* this way round NaN stays NaN */
    }
}

template <typename real> static __global__ void tanh_value(int64_t count, const real *x, real *y)
{
    for (int64_t i = first_x(); i < count; i += step_x()) {
        y[i] = tanh(x[i]);
    }
}

template <typename real>
static __global__ void relu_derivative(int64_t count, int64_t k, const real *y, columns<real> t, columns<real> out)
{
    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        const real *from = t.at(j);
        real *to = out.at(j);

        for (int64_t i = first_x(); i < count; i += step_x()) {
            to[i] = y[i] > 0 ? from[i] : 0;
        }
    }
}

template <typename real>
static __global__ void tanh_derivative(int64_t count, int64_t k, const real *y, columns<real> t, columns<real> out)
{
    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        const real *from = t.at(j);
        real *to = out.at(j);

        for (int64_t i = first_x(); i < count; i += step_x()) {
            to[i] = (1 - y[i] * y[i]) * from[i];
        }
    }
}

template <typename real>
static __global__ void tanh_second(int64_t count, int64_t k, const real *y, columns<real> ty, const real *dy,
                                   columns<real> dx)
{
    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        const real *tangent = ty.at(j);
        real *to = dx.at(j);

        for (int64_t i = first_x(); i < count; i += step_x()) {
            to[i] -= 2 * y[i] * tangent[i] * dy[i];
        }
    }
}

template <typename real>
static cudaError_t launch_relu_value(cudaStream_t stream, int64_t count, const void *x, void *y)
{
    const shape s = flat_shape(count, 1);

    return HSGD_LAUNCH(relu_value<real>, s.grid, s.block, stream, count, static_cast<const real *>(x),
                       static_cast<real *>(y));
}

template <typename real>
static cudaError_t launch_tanh_value(cudaStream_t stream, int64_t count, const void *x, void *y)
{
    const shape s = flat_shape(count, 1);

    return HSGD_LAUNCH(tanh_value<real>, s.grid, s.block, stream, count, static_cast<const real *>(x),
                       static_cast<real *>(y));
}

template <typename real>
static cudaError_t launch_relu_derivative(cudaStream_t stream, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                          hsgd_columns out)
{
    const shape s = flat_shape(count, k);

    return HSGD_LAUNCH(relu_derivative<real>, s.grid, s.block, stream, count, k, static_cast<const real *>(y),
                       columns<real>(t), columns<real>(out));
}

template <typename real>
static cudaError_t launch_tanh_derivative(cudaStream_t stream, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                          hsgd_columns out)
{
    const shape s = flat_shape(count, k);

    return HSGD_LAUNCH(tanh_derivative<real>, s.grid, s.block, stream, count, k, static_cast<const real *>(y),
                       columns<real>(t), columns<real>(out));
}

template <typename real>
static cudaError_t launch_tanh_second(cudaStream_t stream, int64_t count, int64_t k, const void *y, hsgd_columns ty,
                                      const void *dy, hsgd_columns dx)
{
    const shape s = flat_shape(count, k);

    return HSGD_LAUNCH(tanh_second<real>, s.grid, s.block, stream, count, k, static_cast<const real *>(y),
                       columns<real>(ty), static_cast<const real *>(dy), columns<real>(dx));
}

extern "C" cudaError_t hsgd_cuda_relu_value(cudaStream_t stream, hsgd_precision p, int64_t count, const void *x,
                                            void *y)
{
    if (count == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_relu_value, stream, count, x, y);
}

extern "C" cudaError_t hsgd_cuda_tanh_value(cudaStream_t stream, hsgd_precision p, int64_t count, const void *x,
                                            void *y)
{
    if (count == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_tanh_value, stream, count, x, y);
}

extern "C" cudaError_t hsgd_cuda_relu_derivative(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k,
                                                 const void *y, hsgd_columns t, hsgd_columns out)
{
    if (count == 0 || k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_relu_derivative, stream, count, k, y, t, out);
}

extern "C" cudaError_t hsgd_cuda_tanh_derivative(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k,
                                                 const void *y, hsgd_columns t, hsgd_columns out)
{
    if (count == 0 || k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_tanh_derivative, stream, count, k, y, t, out);
}

extern "C" cudaError_t hsgd_cuda_tanh_second(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k,
                                             const void *y, hsgd_columns ty, const void *dy, hsgd_columns dx)
{
    if (count == 0 || k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_tanh_second, stream, count, k, y, ty, dy, dx);
}
