/* src/cpu/kernels/algebra.c - vector algebra in double, block of rows by block of rows; part of the compilation for
 * double alone.  Our own loops and not BLAS: their bits depend on the instruction set and the block, on nothing else. */
#include "cpu/kernels/kernel.h"
#ifdef REAL_IS_double
#include "cpu/kernels/columns.h"

hsgd_status KERNEL(gram)(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx, int64_t ky,
                         const double *y, int64_t ldy, double *partial, hsgd_error *err)
{
    (void)self;
    (void)err;
    block = block > 0 ? block : rows;
    for (int64_t b = 0; b * block < rows; b++) {
        all_dots(least(block, rows - b * block), kx, x + b * block, ldx, ky, y + b * block, ldy, partial + b * kx * ky,
                 ky, 1);
    }
    return HSGD_OK;
}

hsgd_status KERNEL(update)(void *self, int64_t rows, int64_t block, double a, int64_t kx, const double *x, int64_t ldx,
                           const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err)
{
    (void)self;
    (void)err;
    block = block > 0 ? block : rows;
    for (int64_t b = 0; b * block < rows; b++) {
        for (int64_t j = 0; j < ky; j++) {
            combine(least(block, rows - b * block), kx, a, c + j, ky, x + b * block, ldx, y + j * ldy + b * block);
        }
    }
    return HSGD_OK;
}
#endif
