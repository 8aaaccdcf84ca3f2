/* src/solve/projected.h - the small dense problem of a Krylov basis: A V = V T + W B with V and W orthonormal. */
#pragma once
#include "base/comm.h"

typedef struct {
    int64_t capacity, most; /* columns of V at most; rows of B at most */
    int64_t size, rows;     /* columns of V, of W */
    double *t;              /* [size][size], symmetric, leading dimension `capacity` */
    double *b;              /* [rows][size], leading dimension `capacity` */
    double *theta;          /* [size] Ritz values, ascending */
    double *s;              /* [size][size], leading dimension `size`: row i: theta[i]'s vector in V */
    double *bound;          /* [size] norm(A v - theta v) of each */
    double *work;           /* LAPACK's */
    int *iwork;
} hsgd_projected;

/* Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_USAGE (more columns than LAPACK's counts hold). */
hsgd_status hsgd_projected_create(int64_t capacity, int64_t most, hsgd_projected *p, hsgd_error *err);
void hsgd_projected_destroy(hsgd_projected *p);

/* Ritz values, vectors and residual norms: solved on rank 0 by LAPACK and broadcast.  Collective.
 * Errors: HSGD_ERR_NUMERIC, HSGD_ERR_DEVICE. */
hsgd_status hsgd_projected_solve(hsgd_projected *p, hsgd_comm *comm, hsgd_error *err);

/* V becomes the Ritz vectors chosen[k]: T is their values, B is B S.  theta, s and bound are no longer valid.  Local. */
void hsgd_projected_keep(hsgd_projected *p, int64_t k, const int64_t *chosen);
