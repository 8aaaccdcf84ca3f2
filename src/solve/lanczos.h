/* src/solve/lanczos.h - the Lanczos process, one step at a time, as the density's probes take it.
 * Source: Golub and Van Loan, Matrix Computations, 4th ed., algorithm 10.1.1; re-orthogonalised twice (Parlett, The
 * Symmetric Eigenvalue Problem, section 6.9). */
#pragma once
#include "curvature/linop.h"

typedef struct {
    hsgd_linop *op;    /* borrowed */
    hsgd_vector *own;  /* the room of the columns below, or NULL where that is the caller's */
    hsgd_vector work;  /* [n, 1]: the residual (before the first step: the start vector), orthogonal to the basis */
    hsgd_vector basis; /* [n, held + capacity], orthonormal: vectors that are held off, then `steps` of the process */
    int64_t held, capacity, steps;
    double *alpha,
        *beta;        /* [capacity]: T's diagonal; beta[j] couples j and j + 1; beta[steps-1] is the residual's norm */
    double norm;      /* estimate of norm(A): the largest |alpha| + beta + previous beta so far */
    double first;     /* norm(A q) of the first basis vector q, measured on the product itself; off the held vectors */
    bool broken;      /* beta[steps-1] <= 64 eps norm: the basis spans an invariant subspace */
    double work_norm; /* norm of work */
    double *coefficients; /* [2 * (held + capacity) + 1] scratch of Gram-Schmidt */
} hsgd_lanczos;

/* Columns of a process: the residual, the vectors held off, the basis.  Local. */
int64_t hsgd_lanczos_columns(int64_t held, int64_t capacity);

/* Make a process of at most `capacity` >= 1 steps; it has no start yet.
 * held: orthonormal columns that it stays orthogonal to, copied, or NULL.  Where they span an invariant subspace the
 * process is that of A on the rest, else that of P A P for the projector P onto it.
 * room: [n, hsgd_lanczos_columns] of the caller's, to stay as long as the process; NULL: its own.
 * Collective.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_lanczos_create(hsgd_linop *op, const hsgd_vector *held, int64_t capacity, hsgd_vector *room,
                                hsgd_lanczos **out, hsgd_error *err);

/* Begin (again) from `start`: one column of any norm, copied.  Collective.
 * Errors: HSGD_ERR_NUMERIC (start is zero or not finite, or nothing of it is outside the held vectors). */
hsgd_status hsgd_lanczos_begin(hsgd_lanczos *lanczos, const hsgd_vector *start, hsgd_error *err);

/* One more step of each of `count` >= 1 processes on the same operator: one apply for all their products, then for each two
 * passes of Gram-Schmidt against its own basis alone, so that it takes the step it would take by itself, one alpha and
 * beta.  Needs steps < capacity and not broken.  x, y: scratch of at least `count` columns.  Collective.
 * Errors: HSGD_ERR_USAGE, HSGD_ERR_NUMERIC (a product is not finite), those of the product. */
hsgd_status hsgd_lanczos_step(int64_t count, hsgd_lanczos *const *each, hsgd_vector *x, hsgd_vector *y,
                              hsgd_error *err);

/* Eigenvalues theta[steps] (ascending) of T and, if not NULL, eigenvectors s[j][i] (row j: component along basis
 * vector j; column i: of theta[i]), solved on rank 0 by LAPACK and broadcast.  Collective.
 * Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY. */
hsgd_status hsgd_lanczos_ritz(const hsgd_lanczos *lanczos, double *theta, double *s, hsgd_error *err);

/* The state between two steps, beside the columns: put it down, and take it up in a process of the same capacity whose
 * columns the caller has filled.  real: [HSGD_LANCZOS_REALS + 2 capacity].  Local.
 * Errors: HSGD_ERR_DATA (no such state can be). */
enum { HSGD_LANCZOS_INTEGERS = 2, HSGD_LANCZOS_REALS = 3 };
void hsgd_lanczos_save(const hsgd_lanczos *lanczos, int64_t integer[HSGD_LANCZOS_INTEGERS], double *real);
hsgd_status hsgd_lanczos_restore(hsgd_lanczos *lanczos, const int64_t integer[HSGD_LANCZOS_INTEGERS],
                                 const double *real, hsgd_error *err);

/* End *lanczos and set it to NULL; accepts NULL.  Local. */
void hsgd_lanczos_destroy(hsgd_lanczos **lanczos);
