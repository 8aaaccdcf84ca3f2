/* cuda/blas.c - linear layers and the products of tall columns, by cuBLAS.
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

hsgd_status hsgd_cuda_linear_value(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                   hsgd_columns w, hsgd_columns y, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t in = layer->in.channels, out = layer->out.channels;

    HSGD_TRY(hsgd_cuda_ready(b->device, err));
    for (int64_t j = 0; j < k; j++) {
        const product p = {.op_a = CUBLAS_OP_T,
                           .op_b = CUBLAS_OP_N,
                           .rows = out,
                           .columns = m,
                           .inner = in,
                           .a = hsgd_cuda_column(b->precision, w, j),
                           .lda = in,
                           .b = hsgd_cuda_column(b->precision, x, j),
                           .ldb = in,
                           .c = hsgd_cuda_column(b->precision, y, j),
                           .ldc = out,
                           .alpha = 1.0,
                           .beta = add ? 1.0 : 0.0};

        HSGD_TRY(multiply(b, b->precision, &p, err));
    }
done:
    return st;
}

hsgd_status hsgd_cuda_linear_adjoint_input(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                           hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t in = layer->in.channels, out = layer->out.channels;

    HSGD_TRY(hsgd_cuda_ready(b->device, err));
    for (int64_t j = 0; j < k; j++) {
        const product p = {.op_a = CUBLAS_OP_N,
                           .op_b = CUBLAS_OP_N,
                           .rows = in,
                           .columns = m,
                           .inner = out,
                           .a = hsgd_cuda_column(b->precision, w, j),
                           .lda = in,
                           .b = hsgd_cuda_column(b->precision, dy, j),
                           .ldb = out,
                           .c = hsgd_cuda_column(b->precision, dx, j),
                           .ldc = in,
                           .alpha = 1.0,
                           .beta = add ? 1.0 : 0.0};

        HSGD_TRY(multiply(b, b->precision, &p, err));
    }
done:
    return st;
}

hsgd_status hsgd_cuda_linear_adjoint_weight(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t m, int64_t k,
                                            hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t in = layer->in.channels, out = layer->out.channels;

    HSGD_TRY(hsgd_cuda_ready(b->device, err));
    for (int64_t j = 0; j < k; j++) {
        const product p = {.op_a = CUBLAS_OP_N,
                           .op_b = CUBLAS_OP_T,
                           .rows = in,
                           .columns = out,
                           .inner = m,
                           .a = hsgd_cuda_column(b->precision, x, j),
                           .lda = in,
                           .b = hsgd_cuda_column(b->precision, dy, j),
                           .ldb = out,
                           .c = hsgd_cuda_column(b->precision, dw, j),
                           .ldc = in,
                           .alpha = 1.0,
                           .beta = 1.0};

        HSGD_TRY(multiply(b, b->precision, &p, err));
    }
done:
    return st;
}

/* ---- products of tall columns ---- */

/* A block of rows of k columns, as cuBLAS gets it.  Which of its kernels runs - so, which bits come out - may depend on
 * whether columns begin at multiples of 16 bytes, and where the rows of a rank begin and how many they are depends on
 * the number of ranks.  Where all blocks of all columns begin so, cuBLAS reads them in place; else (an odd number of rows)
 * each is copied to a panel of even leading dimension. */
typedef struct {
    double *data;
    int64_t ld;
    double *home; /* where a panel was copied from; NULL: no copy */
    int64_t home_ld;
} tile;

static bool well_placed(const double *x, int64_t ld, int64_t block)
{
    return (uintptr_t)x % 16 == 0 && ld % 2 == 0 && ld <= INT_MAX && block % 2 == 0;
}

static hsgd_status move(hsgd_cuda_device *d, int64_t rows, int64_t k, const double *from, int64_t ld_from, double *to,
                        int64_t ld_to, hsgd_error *err)
{
    return hsgd_cuda_check(d,
                           cudaMemcpy2DAsync(to, (size_t)ld_to * sizeof *to, from, (size_t)ld_from * sizeof *from,
                                             (size_t)rows * sizeof *to, (size_t)k, cudaMemcpyDeviceToDevice, d->stream),
                           "cudaMemcpy2DAsync", err);
}

static int64_t panel_ld(int64_t block)
{
    return block + block % 2;
}

/* rows of x[.., k]; copied to `panel` (leading dimension ld, even) unless that is NULL. */
static hsgd_status take(hsgd_cuda_device *d, int64_t rows, int64_t k, double *x, int64_t ldx, double *panel, int64_t ld,
                        tile *out, hsgd_error *err)
{
    if (panel == NULL) {
        *out = (tile){x, ldx, NULL, 0};
        return HSGD_OK;
    }
    *out = (tile){panel, ld, x, ldx};
    return move(d, rows, k, x, ldx, panel, ld, err);
}

/* Panels of up to `block` rows for the kx columns of x and the ky of y; NULL where these lie well. */
static hsgd_status panels(hsgd_cuda_device *d, int64_t block, int64_t kx, const double *x, int64_t ldx, int64_t ky,
                          const double *y, int64_t ldy, double **x_panel, double **y_panel, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const bool x_well = well_placed(x, ldx, block), y_well = well_placed(y, ldy, block);
    const int64_t ld = panel_ld(block);

    HSGD_TRY(hsgd_cuda_ready(d, err));
    if (!x_well || !y_well) {
        HSGD_TRY(hsgd_cuda_scratch_grow(d, &d->panels, (size_t)(ld * (kx + ky)) * sizeof(double), err));
    }
    *x_panel = x_well ? NULL : d->panels.memory;
    *y_panel = y_well ? NULL : (double *)d->panels.memory + ld * kx;
done:
    return st;
}

hsgd_status hsgd_cuda_gram(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx,
                           int64_t ky, const double *y, int64_t ldy, double *partial, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_backend *b = self;
    const int64_t ld = panel_ld(block);
    double *x_panel = NULL, *y_panel = NULL;

    if (rows == 0 || kx == 0 || ky == 0) {
        return HSGD_OK;
    }
    ldx = kx == 1 ? ld : ldx; /* of a single column it means nothing */
    ldy = ky == 1 ? ld : ldy;
    HSGD_TRY(panels(b->device, block, kx, x, ldx, ky, y, ldy, &x_panel, &y_panel, err));
    for (int64_t at = 0; at < rows; at += block, partial += kx * ky) {
        const int64_t part = rows - at < block ? rows - at : block;
        tile xt, yt;

        HSGD_TRY(take(b->device, part, kx, (double *)x + at, ldx, x_panel, ld, &xt, err)); /* read alone */
        HSGD_TRY(take(b->device, part, ky, (double *)y + at, ldy, y_panel, ld, &yt, err));
        const product p = {.op_a = CUBLAS_OP_T,
                           .op_b = CUBLAS_OP_N,
                           .rows = ky,
                           .columns = kx,
                           .inner = part,
                           .a = yt.data,
                           .lda = yt.ld,
                           .b = xt.data,
                           .ldb = xt.ld,
                           .c = partial,
                           .ldc = ky,
                           .alpha = 1.0,
                           .beta = 0.0};
        HSGD_TRY(multiply(b, HSGD_DOUBLE, &p, err));
    }
done:
    return st;
}

hsgd_status hsgd_cuda_update(void *self, int64_t rows, int64_t block, double a, int64_t kx, const double *x,
                             int64_t ldx, const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_backend *b = self;
    const int64_t ld = panel_ld(block);
    double *x_panel = NULL, *y_panel = NULL;

    if (rows == 0 || kx == 0 || ky == 0) {
        return HSGD_OK;
    }
    ldx = kx == 1 ? ld : ldx; /* of a single column it means nothing */
    ldy = ky == 1 ? ld : ldy;
    HSGD_TRY(panels(b->device, block, kx, x, ldx, ky, y, ldy, &x_panel, &y_panel, err));
    for (int64_t at = 0; at < rows; at += block) {
        const int64_t part = rows - at < block ? rows - at : block;
        tile xt, yt;

        HSGD_TRY(take(b->device, part, kx, (double *)x + at, ldx, x_panel, ld, &xt, err)); /* read alone */
        HSGD_TRY(take(b->device, part, ky, y + at, ldy, y_panel, ld, &yt, err));
        const product p = {.op_a = CUBLAS_OP_N,
                           .op_b = CUBLAS_OP_T,
                           .rows = part,
                           .columns = ky,
                           .inner = kx,
                           .a = xt.data,
                           .lda = xt.ld,
                           .b = c,
                           .ldb = ky,
                           .c = yt.data,
                           .ldc = yt.ld,
                           .alpha = a,
                           .beta = 1.0};
        HSGD_TRY(multiply(b, HSGD_DOUBLE, &p, err));
        if (yt.home != NULL) {
            HSGD_TRY(move(b->device, part, ky, yt.data, yt.ld, yt.home, yt.home_ld, err));
        }
    }
done:
    return st;
}
