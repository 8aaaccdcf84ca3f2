/* cuda/blas.c - linear layers and the products of tall columns, by cuBLAS; where the bits of the latter must not depend on
 * the ranks, by kernels of our own (tall.cu).
 *
 * cuBLAS counts in columns: a matrix [r][c] stored row by row is, to it, one of c rows and r columns with leading
 * dimension c - the transpose.  With x [m][in], W [out][in], y [m][out] that reads
 *   y  = x W'  :  (out x m)  = (in x out)' (in x m)
 *   dx = dy W  :  (in x m)   = (in x out)  (out x m)
 *   dW = dy' x :  (in x out) = (in x m)    (out x m)'
 * Columns of vectors are cuBLAS's own order; partial [kx][ky] and c [kx][ky] are (ky x kx):
 *   partial = X'Y  :  (ky x kx)   = Y' X
 *   Y += a X c     :  (rows x ky) += a X (ky x kx)' */
#include "internal.h"
#include <limits.h>

/* C = alpha op(A) op(B) + beta C; C is rows x columns, `inner` the sum's length. */
typedef struct {
    cublasOperation_t op_a, op_b;
    int64_t rows, columns, inner;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
    double alpha, beta;
} product;

static hsgd_status multiply(hsgd_cuda_backend *b, hsgd_precision precision, const product *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *d = b->device;
    const float alpha = (float)p->alpha, beta = (float)p->beta; /* host memory: read before the call returns */

    HSGD_CHECK(p->rows <= INT_MAX && p->columns <= INT_MAX && p->inner <= INT_MAX && p->lda <= INT_MAX &&
                   p->ldb <= INT_MAX && p->ldc <= INT_MAX,
               HSGD_ERR_DEVICE, err, "cuda: a product of %lld x %lld x %lld is more than cuBLAS counts; use more GPUs",
               (long long)p->rows, (long long)p->inner, (long long)p->columns);
    if (precision == HSGD_DOUBLE) {
        BLAS_TRY(d,
                 cublasDgemm(d->blas, p->op_a, p->op_b, (int)p->rows, (int)p->columns, (int)p->inner, &p->alpha, p->a,
                             (int)p->lda, p->b, (int)p->ldb, &p->beta, p->c, (int)p->ldc),
                 err);
    } else {
        BLAS_TRY(d,
                 cublasSgemm(d->blas, p->op_a, p->op_b, (int)p->rows, (int)p->columns, (int)p->inner, &alpha, p->a,
                             (int)p->lda, p->b, (int)p->ldb, &beta, p->c, (int)p->ldc),
                 err);
    }
done:
    return st;
}

/* ---- linear layers ---- */

/* p in the backend's precision for each of k columns: A, B and C are the j-th of a, b and c. */
static hsgd_status multiply_columns(hsgd_cuda_backend *backend, product p, int64_t k, hsgd_columns a, hsgd_columns b,
                                    hsgd_columns c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_precision precision = backend->precision;

    HSGD_TRY(hsgd_cuda_pace(backend->device, 2 * k, err));
    for (int64_t j = 0; j < k; j++) {
        p.a = hsgd_cuda_column(precision, a, j);
        p.b = hsgd_cuda_column(precision, b, j);
        p.c = hsgd_cuda_column(precision, c, j);
        HSGD_TRY(multiply(backend, precision, &p, err));
    }
done:
    return st;
}

hsgd_status hsgd_cuda_linear_value(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                   hsgd_columns w, hsgd_columns y, bool add, hsgd_error *err)
{
    const int64_t in = layer->in.channels, out = layer->out.channels;
    const product p = {.op_a = CUBLAS_OP_T,
                       .op_b = CUBLAS_OP_N,
                       .rows = out,
                       .columns = m,
                       .inner = in,
                       .lda = in,
                       .ldb = in,
                       .ldc = out,
                       .alpha = 1.0,
                       .beta = add ? 1.0 : 0.0};

    return multiply_columns(b, p, k, w, x, y, err);
}

hsgd_status hsgd_cuda_linear_adjoint_input(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                           hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    const int64_t in = layer->in.channels, out = layer->out.channels;
    const product p = {.op_a = CUBLAS_OP_N,
                       .op_b = CUBLAS_OP_N,
                       .rows = in,
                       .columns = m,
                       .inner = out,
                       .lda = in,
                       .ldb = out,
                       .ldc = in,
                       .alpha = 1.0,
                       .beta = add ? 1.0 : 0.0};

    return multiply_columns(b, p, k, w, dy, dx, err);
}

hsgd_status hsgd_cuda_linear_adjoint_weight(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                            hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_error *err)
{
    const int64_t in = layer->in.channels, out = layer->out.channels;
    const product p = {.op_a = CUBLAS_OP_N,
                       .op_b = CUBLAS_OP_T,
                       .rows = in,
                       .columns = out,
                       .inner = m,
                       .lda = in,
                       .ldb = out,
                       .ldc = in,
                       .alpha = 1.0,
                       .beta = 1.0};

    return multiply_columns(b, p, k, x, dy, dw, err);
}

/* ---- products of tall columns ---- */

hsgd_status hsgd_cuda_gram(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx,
                           int64_t ky, const double *y, int64_t ldy, double *partial, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_backend *b = self;
    hsgd_cuda_device *d = b->device;
    const product p = {.op_a = CUBLAS_OP_T,
                       .op_b = CUBLAS_OP_N,
                       .rows = ky,
                       .columns = kx,
                       .inner = rows,
                       .a = y,
                       .lda = ldy,
                       .b = x,
                       .ldb = ldx,
                       .c = partial,
                       .ldc = ky,
                       .alpha = 1.0,
                       .beta = 0.0};

    if (rows == 0 || kx == 0 || ky == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_cuda_pace(d, 1, err));
    if (block == 0) {
        HSGD_TRY(multiply(b, HSGD_DOUBLE, &p, err));
    } else {
        CUDA_TRY(d, hsgd_cuda_gram_blocks(d->stream, rows, block, kx, x, ldx, ky, y, ldy, partial), err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_update(void *self, int64_t rows, int64_t block, double a, int64_t kx, const double *x,
                             int64_t ldx, const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_backend *b = self;
    hsgd_cuda_device *d = b->device;
    const product p = {.op_a = CUBLAS_OP_N,
                       .op_b = CUBLAS_OP_T,
                       .rows = rows,
                       .columns = ky,
                       .inner = kx,
                       .a = x,
                       .lda = ldx,
                       .b = c,
                       .ldb = ky,
                       .c = y,
                       .ldc = ldy,
                       .alpha = a,
                       .beta = 1.0};

    if (rows == 0 || kx == 0 || ky == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_cuda_pace(d, 1, err));
    if (block == 0) {
        HSGD_TRY(multiply(b, HSGD_DOUBLE, &p, err));
    } else {
        CUDA_TRY(d, hsgd_cuda_update_rows(d->stream, rows, a, kx, x, ldx, c, ky, y, ldy), err);
    }
done:
    return st;
}
