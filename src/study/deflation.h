/* src/study/deflation.h - the eigenpairs that the density takes out of its process and puts into its measure exactly. */
#pragma once
#include "study/internal.h"

typedef struct {
    int64_t count;
    double *values; /* [count], descending */
    hsgd_vector
        *vectors; /* [m, count] on the studied rows, spread over the ranks, orthonormal; NULL where count is 0 */
} deflation;

/* The converged pairs of eigen.h5, which the eigen stage makes first where it is missing or stale; at most m - 1, so that
 * something is left.  Collective.  Errors: those of the eigen stage; HSGD_ERR_DATA, HSGD_ERR_MEMORY; HSGD_ERR_NUMERIC
 * (the vectors are not independent). */
hsgd_status deflation_make(study_state *s, deflation *d, hsgd_error *err);
void deflation_clear(deflation *d);

/* The measure of all n eigenvalues of the operator from the nodes [probes][steps] of the others: out_* [probes][steps + count], each row
 * the probe's nodes with mass (n - count) / n in all, then the pairs' values with 1 / n each.  Local. */
void deflation_join(const deflation *d, int64_t n, int64_t probes, int64_t steps, const double *ritz,
                    const double *weights, double *out_ritz, double *out_weights);
