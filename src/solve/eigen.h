/* src/solve/eigen.h - what the eigen-solvers are asked for and what they answer. */
#pragma once
#include "curvature/linop.h"

typedef enum { HSGD_WHICH_BOTH, HSGD_WHICH_LARGEST, HSGD_WHICH_SMALLEST, HSGD_WHICH_MAGNITUDE } hsgd_which;

/* Told of progress now and then; may be NULL.  converged of wanted pairs, the worst wanted residual relative to the
 * largest eigenvalue's magnitude (Lanczos: as estimated). */
typedef void (*hsgd_eigen_monitor)(void *context, int64_t products, int64_t converged, int64_t wanted, double worst);

typedef struct {
    int64_t count; /* pairs wanted at each end asked for; >= 1 */
    hsgd_which which;
    double tolerance;     /* of the residual norm, relative to the largest eigenvalue's magnitude */
    int64_t max_products; /* >= 1; the products that measure the final residuals come on top */
    int64_t basis;        /* Lanczos vectors at most; 0: max_products */
    uint64_t seed;
    hsgd_eigen_monitor monitor;
    void *context;
} hsgd_eigen_options;

/* Pairs in descending algebraic order, no duplicates, at most n.  Vectors have unit norm and a positive entry of
 * largest magnitude (lowest row on ties).  The same on every rank. */
typedef struct {
    int64_t count;
    double *values, *residuals; /* [count]; residual: norm(A v - lambda v) by one more product */
    bool *converged;            /* [count] */
    hsgd_vector *vectors;       /* [n, count] */
    int64_t products;           /* columns given to the operator, residuals included */
    char reason[128];           /* why the solver stopped */
} hsgd_eigen_result;

/* Free what a result holds (not the struct).  Local. */
void hsgd_eigen_result_clear(hsgd_eigen_result *result);

/* Give the pairs (values [count], vectors [n, count]; vectors become the result's) their true residuals, order, sign
 * and converged flags.  scale: magnitude of the largest eigenvalue known.  On failure the caller clears *result.
 * Collective.  Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY, those of the product. */
hsgd_status hsgd_eigen_certify(hsgd_linop *op, const hsgd_eigen_options *options, const double *values,
                               hsgd_vector **vectors, double scale, hsgd_eigen_result *result, hsgd_error *err);

/* Deflated power iteration as PyHessian does it (which = MAGNITUDE only, else HSGD_ERR_USAGE), but it stops on the
 * residual and says whether it converged.  The pairs come in turn, each with an equal share of the products left; a pair
 * that none was left for is not returned.  Collective.  Errors: as hsgd_lanczos_eigen. */
hsgd_status hsgd_power(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result, hsgd_error *err);

/* Lanczos with full re-orthogonalisation (two passes), no restart.  A breakdown (invariant subspace) goes on with a
 * fresh random direction orthogonal to the basis until the wanted pairs are found or the space is exhausted; one
 * further direction then confirms that no multiple eigenvalue was missed.  (Without a breakdown a multiple eigenvalue
 * may show once: the process sees one vector of its eigenspace until rounding brings in the next.)
 * Collective.  Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY, HSGD_ERR_USAGE (count larger than n). */
hsgd_status hsgd_lanczos_eigen(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result,
                               hsgd_error *err);
