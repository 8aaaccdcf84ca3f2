/* src/solve/lapack.h - LAPACK's symmetric eigenproblems, all eigenvalues ascending and, for jobz "V", eigenvectors as
 * columns.  They are solved by one thread: with several OpenBLAS's bits depend on how many cores a rank was given. */
#pragma once
#include <stddef.h>

/* A dense symmetric matrix a, eigenvectors in its place; a symmetric tridiagonal matrix of diagonal d and off-diagonal e. */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length, size_t uplo_length);
void dstevd_(const char *jobz, const int *n, double *d, double *e, double *z, const int *ldz, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length);

void openblas_set_num_threads(int threads);

/* To be called before either. */
static inline void hsgd_lapack_alone(void)
{
    openblas_set_num_threads(1);
}
