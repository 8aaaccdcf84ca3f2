/* src/solve/eigen.h - what the eigen-solvers are asked for and what they answer. */
#pragma once
#include "curvature/linop.h"
#include "solve/snapshot.h"

typedef enum { HSGD_WHICH_BOTH, HSGD_WHICH_LARGEST, HSGD_WHICH_SMALLEST, HSGD_WHICH_MAGNITUDE } hsgd_which;

/* Told of progress now and then; may be NULL.  converged of wanted pairs, the worst wanted residual relative to the
 * largest eigenvalue's magnitude (Lanczos: as estimated). */
typedef void (*hsgd_eigen_monitor)(void *context, int64_t products, int64_t converged, int64_t wanted, double worst);

/* One look at the Ritz pairs: those at restarts and the last one are recorded. */
typedef struct {
    int64_t products, converged, basis; /* so far; wanted pairs within the tolerance by estimate; vectors held */
    double worst;                       /* worst wanted residual by estimate, absolute */
    double largest;                     /* magnitude of the largest Ritz value */
    double seconds_products, seconds_communication,
        seconds_orthogonalization; /* this rank's, each without the others */
} hsgd_eigen_mark;

typedef struct {
    int64_t count; /* pairs wanted at each end asked for; >= 1 */
    hsgd_which which;
    double tolerance;     /* of the residual norm, relative to the largest eigenvalue's magnitude */
    int64_t max_products; /* >= 1; the products that measure the final residuals come on top */
    int64_t basis;        /* Lanczos vectors at most, raised to what a restart needs; 0: chosen */
    int64_t block;        /* columns advanced at once; 0: chosen */
    bool confirm;         /* Lanczos: look for hidden copies of multiple eigenvalues once all pairs are found */
    uint64_t seed;
    const hsgd_vector *start;  /* borrowed [n, any]: directions to begin with, random ones beside them; NULL: none */
    const hsgd_keeper *keeper; /* borrowed; NULL: nothing is kept */
    hsgd_eigen_monitor monitor;
    void (*record)(void *context, const hsgd_eigen_mark *mark); /* told of what is recorded, as it is; may be NULL */
    void *context;
} hsgd_eigen_options;

/* Pairs in descending algebraic order, no duplicates, at most n.  Vectors have unit norm and a positive entry of
 * largest magnitude (lowest row on ties).  The same on every rank. */
typedef struct {
    int64_t count;
    double *values, *residuals; /* [count]; residual: norm(A v - lambda v) by one more product */
    bool *converged;            /* [count] */
    hsgd_vector *vectors;       /* [n, count] */
    double *gaps;         /* [count]: distance to the nearest other Ritz value less that one's residual; 0: unknown */
    double orthogonality; /* largest |v_i'v_j - (i == j)| of the returned vectors */
    hsgd_eigen_mark *history; /* [marks] */
    int64_t marks;
    int64_t block, basis; /* Lanczos: as asked for, or chosen */
    int64_t products;     /* columns given to the operator, residuals included */
    bool complete;        /* it ended of itself: not for want of products before all was found, or confirmed */
    char reason[128];     /* why the solver stopped */
} hsgd_eigen_result;

/* Pairs of a result that did not converge.  Local. */
int64_t hsgd_eigen_open(const hsgd_eigen_result *result);

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

/* Lanczos in blocks with thick restarts (the Hermitian Krylov-Schur method) and two passes of Gram-Schmidt against the
 * whole basis.  A block of b columns shows up to b copies of a multiple eigenvalue; when a sequence ends in an invariant
 * subspace, and with `confirm` when it has found all pairs, its wanted pairs are locked and a further one, from random
 * directions in their complement, must find nothing more extreme before the search ends.
 * Chosen where 0: block 1; basis max(128, 4 * wanted).  Nothing is allocated after the first product but the history.
 * Sources: Wu and Simon, SIAM J. Matrix Anal. Appl. 22(2), 2000, doi:10.1137/S0895479898334605; Stewart, SIAM J. Matrix
 * Anal. Appl. 23(3), 2001, doi:10.1137/S0895479800371529; Golub and Underwood, "The block Lanczos method for computing
 * eigenvalues", 1977.
 * Collective.  Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY, HSGD_ERR_USAGE (count larger than n), those of the product
 * (HSGD_STOPPED: the keeper has the state before it) and of the keeper. */
hsgd_status hsgd_lanczos_eigen(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result,
                               hsgd_error *err);

/* Vectors on the space that hsgd_lanczos_eigen holds at once at most, for vectors of length n.  Local. */
int64_t hsgd_lanczos_eigen_vectors(const hsgd_eigen_options *options, int64_t n);

/* A sample of the noise of the operator's own arithmetic relative to its norm: norm(A(cv)/c - Av) / (sqrt(2) norm(Av)), as
 * two products round, for a v rich in the top eigenspaces and a c that changes every rounding.  Residuals much below it are
 * chance.  Three products.
 * Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_NUMERIC, those of the product. */
hsgd_status hsgd_eigen_noise(hsgd_linop *op, uint64_t seed, double *noise, hsgd_error *err);
