/* src/solve/lanczos.h - the Lanczos process, one step at a time; eigen and density share it.
 * Source: Golub and Van Loan, Matrix Computations, 4th ed., algorithm 10.1.1; re-orthogonalised twice (Parlett, The
 * Symmetric Eigenvalue Problem, section 6.9). */
#pragma once
#include "curvature/linop.h"

typedef struct {
    hsgd_linop *op;            /* borrowed */
    hsgd_vector *basis;        /* [n, capacity]: orthonormal columns, the first `steps` (+ 1 while not broken down) */
    int64_t capacity, steps;
    double *alpha, *beta;      /* [capacity]: T's diagonal; beta[j] couples j and j + 1; beta[steps-1] is the residual's norm */
    double norm;               /* estimate of norm(A): the largest |alpha| + beta + previous beta so far */
    bool broken;               /* beta[steps-1] <= 64 eps norm: the basis spans an invariant subspace */
    hsgd_vector *work;
    double *coefficients;
} hsgd_lanczos;

/* Start from `start` (one column, copied and normalised; HSGD_ERR_NUMERIC where it is zero).  Collective. */
hsgd_status hsgd_lanczos_create(hsgd_linop *op, const hsgd_vector *start, int64_t capacity, hsgd_lanczos **out,
                                hsgd_error *err);
/* One more step: one product, two passes of Gram-Schmidt, one alpha and beta.  Needs steps < capacity.  Collective. */
hsgd_status hsgd_lanczos_step(hsgd_lanczos *lanczos, hsgd_error *err);
/* Eigenvalues theta[steps] (ascending) of T and, if not NULL, eigenvectors s[j][i] (row j: component along basis
 * vector j; column i: of theta[i]), solved on rank 0 by LAPACK and broadcast.  Collective.  Errors: HSGD_ERR_NUMERIC. */
hsgd_status hsgd_lanczos_ritz(const hsgd_lanczos *lanczos, double *theta, double *s, hsgd_error *err);
void hsgd_lanczos_destroy(hsgd_lanczos **lanczos);
