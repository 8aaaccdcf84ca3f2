/* cuda/kernels.h - the launchers of our own kernels: arguments as the members of src/backend.h, queued on `stream`.
 *
 * Each returns what its launch says, or cudaSuccess where there is nothing to do (an empty launch is an error to CUDA,
 * an empty shard is normal to us).  `p` tells what `void *` reals are.  Results depend on the arguments'
 * values and sizes alone: reductions go by fixed trees, and atomics add whole numbers only. */
#pragma once
#include "backend.h"
#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sums.cu.  Is there code for the current device in this build?  cudaErrorNoKernelImageForDevice where not. */
cudaError_t hsgd_cuda_probe(void);

/* pointwise.cu */
cudaError_t hsgd_cuda_relu_value(cudaStream_t stream, hsgd_precision p, int64_t count, const void *x, void *y);
cudaError_t hsgd_cuda_relu_derivative(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k, const void *y,
                                      hsgd_columns t, hsgd_columns out);
cudaError_t hsgd_cuda_tanh_value(cudaStream_t stream, hsgd_precision p, int64_t count, const void *x, void *y);
cudaError_t hsgd_cuda_tanh_derivative(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k, const void *y,
                                      hsgd_columns t, hsgd_columns out);
cudaError_t hsgd_cuda_tanh_second(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k, const void *y,
                                  hsgd_columns ty, const void *dy, hsgd_columns dx);

/* bias.cu: y [m][channels][places] per column.
 * add:      y_j[s][c][q] += b_j[c].
 * gradient: db_j[c] += the sum over s and q of dy_j[s][c][q], in double by a fixed tree. */
cudaError_t hsgd_cuda_bias_add(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t channels, int64_t places,
                               int64_t k, hsgd_columns b, hsgd_columns y);
cudaError_t hsgd_cuda_bias_gradient(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t channels, int64_t places,
                                    int64_t k, hsgd_columns dy, hsgd_columns db);

/* pool.cu: activations are [m][channels][y][x] */
cudaError_t hsgd_cuda_maxpool_value(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer, int64_t m,
                                    const void *x, void *y, int32_t *choice);
cudaError_t hsgd_cuda_maxpool_tangent(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer, int64_t m,
                                      int64_t k, const int32_t *choice, hsgd_columns tx, hsgd_columns ty);
cudaError_t hsgd_cuda_maxpool_adjoint(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer, int64_t m,
                                      int64_t k, const int32_t *choice, hsgd_columns dy, hsgd_columns dx);
cudaError_t hsgd_cuda_avgpool_value(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer, int64_t m,
                                    int64_t k, hsgd_columns x, hsgd_columns y);
cudaError_t hsgd_cuda_avgpool_adjoint(cudaStream_t stream, hsgd_precision p, const hsgd_layer *layer, int64_t m,
                                      int64_t k, hsgd_columns dy, hsgd_columns dx);

/* loss.cu */
cudaError_t hsgd_cuda_softmax_loss(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t classes, const void *z,
                                   const uint8_t *labels, const int64_t *index, void *soft, void *delta, double *tally,
                                   int64_t *confusion, double *scratch); /* scratch: [2 * m] */
cudaError_t hsgd_cuda_softmax_tangent(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t classes, int64_t k,
                                      const void *soft, hsgd_columns tz, hsgd_columns tdelta);
cudaError_t hsgd_cuda_softmax_root(cudaStream_t stream, hsgd_precision p, int64_t classes, int64_t first, int64_t k,
                                   const void *soft, void *out);

/* sums.cu */
cudaError_t hsgd_cuda_images(cudaStream_t stream, hsgd_precision p, const uint8_t *pixels, int64_t count, int64_t m,
                             const int64_t *index, float mean, float deviation, void *x);
cudaError_t hsgd_cuda_accumulate(cudaStream_t stream, hsgd_precision p, hsgd_reduction reduction, int64_t count,
                                 const void *x, double scale, void *sum);
cudaError_t hsgd_cuda_merge(cudaStream_t stream, hsgd_reduction reduction, int64_t words, const void *from,
                            void *out); /* out += from */
cudaError_t hsgd_cuda_permute(cudaStream_t stream, int64_t count, const int64_t *index, const void *from, void *to);
cudaError_t hsgd_cuda_count_beyond(cudaStream_t stream, int64_t count, const double *x, double limit, double *out);

/* algebra.cu */
cudaError_t hsgd_cuda_squares(cudaStream_t stream, hsgd_precision p, int64_t count, int64_t k, hsgd_columns x,
                              double *out, double *scratch); /* scratch: [HSGD_CUDA_SQUARES] */
enum { HSGD_CUDA_SQUARES = 256 };                            /* partial sums of `squares`, whatever count and k are */
cudaError_t hsgd_cuda_exponents(cudaStream_t stream, int64_t n, int64_t k, const double *x, int32_t *exponents);
cudaError_t hsgd_cuda_narrow(cudaStream_t stream, hsgd_precision p, int64_t n, int64_t k, const double *x,
                             const int64_t *order, const int32_t *exponents, void *out);
cudaError_t hsgd_cuda_expand(cudaStream_t stream, hsgd_reduction reduction, int64_t rows, int64_t k, const void *words,
                             double scale, double divisor, const int32_t *exponents, double *y, int64_t ldy);
cudaError_t hsgd_cuda_sgd_update(cudaStream_t stream, const hsgd_sgd_rule *rule, int64_t n, const double *g,
                                 const double *halted, double *weights, double *momentum);
/* gram and update as backend.h says, block > 0; update needs no block, for every row is by itself. */
cudaError_t hsgd_cuda_gram_blocks(cudaStream_t stream, int64_t rows, int64_t block, int64_t kx, const double *x,
                                  int64_t ldx, int64_t ky, const double *y, int64_t ldy, double *partial);
cudaError_t hsgd_cuda_update_rows(cudaStream_t stream, int64_t rows, double a, int64_t kx, const double *x, int64_t ldx,
                                  const double *c, int64_t ky, double *y, int64_t ldy);
cudaError_t hsgd_cuda_add_blocks(cudaStream_t stream, int64_t blocks, int64_t products, const double *partial,
                                 double *g);

#ifdef __cplusplus
}
#endif
