/* cuda/pool.cu - pooling over windows of size x size pixels, stride size.  A plane is one channel of one sample; a thread
 * stays at one pixel and goes from plane to plane. */
#include "launch.cuh"

struct pooling {
    int size;
    int in_height, in_width, out_height, out_width;
    int64_t in_places, out_places; /* pixels of a plane */
    int64_t planes;
};

static pooling pooling_of(const hsgd_layer *layer, int64_t m)
{
    pooling g;

    g.size = (int)layer->size;
    g.in_height = (int)layer->in.height;
    g.in_width = (int)layer->in.width;
    g.out_height = (int)layer->out.height;
    g.out_width = (int)layer->out.width;
    g.in_places = layer->in.height * layer->in.width;
    g.out_places = layer->out.height * layer->out.width;
    g.planes = m * layer->in.channels;
    return g;
}

/* Where the window of output pixel q begins in its plane. */
static __device__ __forceinline__ int64_t window_start(const pooling &g, int64_t q)
{
    const int y = (int)q / g.out_width, x = (int)q % g.out_width;

    return (int64_t)y * g.size * g.in_width + x * g.size;
}

/* The window that input pixel q is in, and its place there; a place of -1: in none. */
struct seat {
    int64_t window;
    int32_t place;
};

static __device__ __forceinline__ seat seat_of(const pooling &g, int64_t q)
{
    const int y = (int)q / g.in_width, x = (int)q % g.in_width;
    seat s;

    s.window = (int64_t)(y / g.size) * g.out_width + x / g.size;
    s.place = y / g.size < g.out_height && x / g.size < g.out_width ? y % g.size * g.size + x % g.size : -1;
    return s;
}

template <typename real>
static __global__ void maxpool_value(pooling g, const real *__restrict__ x, real *__restrict__ y,
                                     int32_t *__restrict__ choice)
{
    for (int64_t q = first_x(); q < g.out_places; q += step_x()) {
        const int64_t start = window_start(g, q);

        for (int64_t plane = first_y(); plane < g.planes; plane += step_y()) {
            const real *window = x + plane * g.in_places + start;
            real best = window[0];
            int32_t chosen = 0;

            for (int i = 0; i < g.size; i++) {
                for (int j = 0; j < g.size; j++) {
                    const real candidate = window[(int64_t)i * g.in_width + j];

                    if (candidate > best || candidate != candidate) { /* a NaN must not be hidden */
                        best = candidate;
                        chosen = i * g.size + j;
                    }
                }
            }
            y[plane * g.out_places + q] = best;
            choice[plane * g.out_places + q] = chosen;
        }
    }
}

template <typename real>
static __global__ void maxpool_tangent(pooling g, int64_t k, const int32_t *__restrict__ choice, columns<real> tx,
                                       columns<real> ty)
{
    for (int64_t column = blockIdx.z; column < k; column += gridDim.z) {
        const real *__restrict__ from = tx.at(column);
        real *__restrict__ to = ty.at(column);

        for (int64_t q = first_x(); q < g.out_places; q += step_x()) {
            const int64_t start = window_start(g, q);

            for (int64_t plane = first_y(); plane < g.planes; plane += step_y()) {
                const int chosen = choice[plane * g.out_places + q];
                const int64_t place = (int64_t)(chosen / g.size) * g.in_width + chosen % g.size;

                to[plane * g.out_places + q] = from[plane * g.in_places + start + place];
            }
        }
    }
}

template <typename real>
static __global__ void maxpool_adjoint(pooling g, int64_t k, const int32_t *__restrict__ choice, columns<real> dy,
                                       columns<real> dx)
{
    for (int64_t column = blockIdx.z; column < k; column += gridDim.z) {
        const real *__restrict__ from = dy.at(column);
        real *__restrict__ to = dx.at(column);

        for (int64_t q = first_x(); q < g.in_places; q += step_x()) {
            const seat own = seat_of(g, q);

            for (int64_t plane = first_y(); plane < g.planes; plane += step_y()) {
                const int64_t window = plane * g.out_places + own.window;

                to[plane * g.in_places + q] = own.place >= 0 && choice[window] == own.place ? from[window] : 0;
            }
        }
    }
}

template <typename real>
static __global__ void avgpool_value(pooling g, int64_t k, real share, columns<real> x, columns<real> y)
{
    for (int64_t column = blockIdx.z; column < k; column += gridDim.z) {
        const real *__restrict__ from = x.at(column);
        real *__restrict__ to = y.at(column);

        for (int64_t q = first_x(); q < g.out_places; q += step_x()) {
            const int64_t start = window_start(g, q);

            for (int64_t plane = first_y(); plane < g.planes; plane += step_y()) {
                const real *window = from + plane * g.in_places + start;
                real sum = 0;

                for (int i = 0; i < g.size; i++) {
                    for (int j = 0; j < g.size; j++) {
                        sum += window[(int64_t)i * g.in_width + j];
                    }
                }
                to[plane * g.out_places + q] = share * sum;
            }
        }
    }
}

template <typename real>
static __global__ void avgpool_adjoint(pooling g, int64_t k, real share, columns<real> dy, columns<real> dx)
{
    for (int64_t column = blockIdx.z; column < k; column += gridDim.z) {
        const real *__restrict__ from = dy.at(column);
        real *__restrict__ to = dx.at(column);

        for (int64_t q = first_x(); q < g.in_places; q += step_x()) {
            const seat own = seat_of(g, q);

            for (int64_t plane = first_y(); plane < g.planes; plane += step_y()) {
                to[plane * g.in_places + q] = own.place >= 0 ? share * from[plane * g.out_places + own.window] : 0;
            }
        }
    }
}

template <typename real>
static cudaError_t launch_maxpool_value(cudaStream_t stream, const pooling &g, const void *x, void *y, int32_t *choice)
{
    const shape s = walk_shape(g.out_places, g.planes, 1);

    return HSGD_LAUNCH(maxpool_value<real>, s.grid, s.block, stream, g, static_cast<const real *>(x),
                       static_cast<real *>(y), choice);
}

template <typename real>
static cudaError_t launch_maxpool_tangent(cudaStream_t stream, const pooling &g, int64_t k, const int32_t *choice,
                                          hsgd_columns tx, hsgd_columns ty)
{
    const shape s = walk_shape(g.out_places, g.planes, k);

    return HSGD_LAUNCH(maxpool_tangent<real>, s.grid, s.block, stream, g, k, choice, columns<real>(tx),
                       columns<real>(ty));
}

template <typename real>
static cudaError_t launch_maxpool_adjoint(cudaStream_t stream, const pooling &g, int64_t k, const int32_t *choice,
                                          hsgd_columns dy, hsgd_columns dx)
{
    const shape s = walk_shape(g.in_places, g.planes, k);

    return HSGD_LAUNCH(maxpool_adjoint<real>, s.grid, s.block, stream, g, k, choice, columns<real>(dy),
                       columns<real>(dx));
}

template <typename real>
static cudaError_t launch_avgpool_value(cudaStream_t stream, const pooling &g, int64_t k, hsgd_columns x,
                                        hsgd_columns y)
{
    const shape s = walk_shape(g.out_places, g.planes, k);
    const real share = (real)1 / (real)(g.size * g.size);

    return HSGD_LAUNCH(avgpool_value<real>, s.grid, s.block, stream, g, k, share, columns<real>(x), columns<real>(y));
}

template <typename real>
static cudaError_t launch_avgpool_adjoint(cudaStream_t stream, const pooling &g, int64_t k, hsgd_columns dy,
                                          hsgd_columns dx)
{
    const shape s = walk_shape(g.in_places, g.planes, k);
    const real share = (real)1 / (real)(g.size * g.size);

    return HSGD_LAUNCH(avgpool_adjoint<real>, s.grid, s.block, stream, g, k, share, columns<real>(dy),
                       columns<real>(dx));
}

extern "C" cudaError_t hsgd_cuda_maxpool_value(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer,
                                               int64_t m, const void *x, void *y, int32_t *choice)
{
    const pooling g = pooling_of(layer, m);

    if (g.planes * g.out_places == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_maxpool_value, stream, g, x, y, choice);
}

extern "C" cudaError_t hsgd_cuda_maxpool_tangent(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer,
                                                 int64_t m, int64_t k, const int32_t *choice, hsgd_columns tx,
                                                 hsgd_columns ty)
{
    const pooling g = pooling_of(layer, m);

    if (g.planes * g.out_places * k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_maxpool_tangent, stream, g, k, choice, tx, ty);
}

extern "C" cudaError_t hsgd_cuda_maxpool_adjoint(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer,
                                                 int64_t m, int64_t k, const int32_t *choice, hsgd_columns dy,
                                                 hsgd_columns dx)
{
    const pooling g = pooling_of(layer, m);

    if (g.planes * g.in_places * k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_maxpool_adjoint, stream, g, k, choice, dy, dx);
}

extern "C" cudaError_t hsgd_cuda_avgpool_value(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer,
                                               int64_t m, int64_t k, hsgd_columns x, hsgd_columns y)
{
    const pooling g = pooling_of(layer, m);

    if (g.planes * g.out_places * k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_avgpool_value, stream, g, k, x, y);
}

extern "C" cudaError_t hsgd_cuda_avgpool_adjoint(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer,
                                                 int64_t m, int64_t k, hsgd_columns dy, hsgd_columns dx)
{
    const pooling g = pooling_of(layer, m);

    if (g.planes * g.in_places * k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_avgpool_adjoint, stream, g, k, dy, dx);
}
