/* cuda/tall.cu - products of tall columns whose bits depend on the block of rows alone; a library's depend on how many rows
 * a rank holds and where they begin in memory.  Memory decides their speed: every column is read once a pair. */
#include "launch.cuh"

enum { DOT_THREADS = 32 }; /* one warp: a block of rows is some hundred of them, and there are many pairs */

/* One block of threads for one pair of columns over one block of rows. */
static __global__ void __launch_bounds__(DOT_THREADS)
    gram_blocks(int64_t rows, int64_t block, int64_t kx, const double *__restrict__ x, int64_t ldx, int64_t ky,
                const double *__restrict__ y, int64_t ldy, double *__restrict__ partial)
{
    const int64_t pairs = kx * ky, blocks = quotient_up(rows, block);

    for (int64_t at = blockIdx.x; at < blocks * pairs; at += gridDim.x) {
        const int64_t b = at / pairs, i = at % pairs / ky, j = at % ky;
        const int64_t end = least((b + 1) * block, rows);
        double sum = 0.0;

        for (int64_t r = b * block + threadIdx.x; r < end; r += DOT_THREADS) {
            sum += x[i * ldx + r] * y[j * ldy + r];
        }
        sum = over_warp<plus>(sum);
        if (threadIdx.x == 0) {
            partial[at] = sum;
        }
    }
}

extern "C" cudaError_t hsgd_cuda_gram_blocks(cudaStream_t stream, int64_t rows, int64_t block, int64_t kx,
                                             const double *x, int64_t ldx, int64_t ky, const double *y, int64_t ldy,
                                             double *partial)
{
    const int64_t work = rows > 0 ? quotient_up(rows, block) * kx * ky : 0;

    if (work == 0) {
        return cudaSuccess;
    }
    return HSGD_LAUNCH_WITH_BARRIERS(gram_blocks, dim3((unsigned)least(work, MOST_BLOCKS)), dim3(DOT_THREADS), stream,
                                     rows, block, kx, x, ldx, ky, y, ldy, partial);
}

/* One thread for one entry of y; the columns of x in order. */
static __global__ void update_rows(int64_t rows, double a, int64_t kx, const double *__restrict__ x, int64_t ldx,
                                   const double *__restrict__ c, int64_t ky, double *__restrict__ y, int64_t ldy)
{
    for (int64_t j = blockIdx.y; j < ky; j += gridDim.y) {
        for (int64_t r = first_x(); r < rows; r += step_x()) {
            double sum = y[j * ldy + r];

            for (int64_t i = 0; i < kx; i++) {
                sum += a * c[i * ky + j] * x[i * ldx + r];
            }
            y[j * ldy + r] = sum;
        }
    }
}

extern "C" cudaError_t hsgd_cuda_update_rows(cudaStream_t stream, int64_t rows, double a, int64_t kx, const double *x,
                                             int64_t ldx, const double *c, int64_t ky, double *y, int64_t ldy)
{
    const shape s = flat_shape(rows, ky);

    if (rows == 0 || kx == 0 || ky == 0) {
        return cudaSuccess;
    }
    return HSGD_LAUNCH(update_rows, s.grid, s.block, stream, rows, a, kx, x, ldx, c, ky, y, ldy);
}
