/* src/solve/lanczos.h - the Lanczos process, one step at a time; eigen and density share it.
 * Source: Golub and Van Loan, Matrix Computations, 4th ed., algorithm 10.1.1; re-orthogonalised twice (Parlett, The
 * Symmetric Eigenvalue Problem, section 6.9). */
#pragma once
#include "curvature/linop.h"

typedef struct {
    hsgd_linop *op;     /* borrowed */
    hsgd_vector *basis; /* [n, capacity]: the first `steps` columns are orthonormal */
    int64_t capacity, steps;
    double *alpha,
        *beta;         /* [capacity]: T's diagonal; beta[j] couples j and j + 1; beta[steps-1] is the residual's norm */
    double norm;       /* estimate of norm(A): the largest |alpha| + beta + previous beta so far */
    double first;      /* norm(A q) of the first basis vector q, measured on the product itself */
    bool broken;       /* beta[steps-1] <= 64 eps norm: the basis spans an invariant subspace */
    hsgd_vector *work; /* [n, 1]: the residual (before the first step: the start vector), orthogonal to the basis */
    double work_norm;  /* its norm */
    double *coefficients; /* [2 * capacity + 1] scratch of Gram-Schmidt */
} hsgd_lanczos;

/* Take memory for `capacity` >= 1 steps; begin (again) from `start` (one column of any norm, copied).  Collective.
 * Errors: HSGD_ERR_MEMORY; HSGD_ERR_NUMERIC (start is zero or not finite). */
hsgd_status hsgd_lanczos_create(hsgd_linop *op, const hsgd_vector *start, int64_t capacity, hsgd_lanczos **out,
                                hsgd_error *err);
hsgd_status hsgd_lanczos_begin(hsgd_lanczos *lanczos, const hsgd_vector *start, hsgd_error *err);

/* Make room for more steps, keeping those made; holds both bases for a moment.  Collective.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_lanczos_reserve(hsgd_lanczos *lanczos, int64_t capacity, hsgd_error *err);

/* One more step: one product, two passes of Gram-Schmidt, one alpha and beta.  Needs steps < capacity and not broken.
 * Collective.  Errors: HSGD_ERR_NUMERIC (the product is not finite), those of the product. */
hsgd_status hsgd_lanczos_step(hsgd_lanczos *lanczos, hsgd_error *err);

/* One more step of each of `count` >= 1 processes on the same operator, with one apply for all their products; each
 * orthogonalises against its own basis alone, so it takes the step it would take by itself.  x, y: scratch of at least
 * `count` columns.  Needs, collective, errors: as hsgd_lanczos_step. */
hsgd_status hsgd_lanczos_step_together(int64_t count, hsgd_lanczos *const *each, hsgd_vector *x, hsgd_vector *y,
                                       hsgd_error *err);

/* Eigenvalues theta[steps] (ascending) of T and, if not NULL, eigenvectors s[j][i] (row j: component along basis
 * vector j; column i: of theta[i]), solved on rank 0 by LAPACK and broadcast.  Collective.
 * Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY. */
hsgd_status hsgd_lanczos_ritz(const hsgd_lanczos *lanczos, double *theta, double *s, hsgd_error *err);

/* End *lanczos and set it to NULL; accepts NULL.  Local. */
void hsgd_lanczos_destroy(hsgd_lanczos **lanczos);
