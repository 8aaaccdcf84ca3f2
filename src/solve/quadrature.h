/* src/solve/quadrature.h - spectral density by stochastic Lanczos quadrature.
 * Source: Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal.
 * Appl. 38(4), 2017, doi:10.1137/16M1104974; the density as PyHessian's density_generate. */
#pragma once
#include "curvature/linop.h"
#include "solve/snapshot.h"

typedef struct {
    int64_t probes, steps; /* steps may exceed n: the process then ends early */
    int64_t block;         /* probes that advance together, one apply for all; 0: chosen */
    hsgd_draw draw;        /* HSGD_DRAW_SIGN: rademacher; HSGD_DRAW_NORMAL: normalised to the sphere */
    uint64_t seed;
    int64_t first;             /* number of the first probe, by which it is drawn: one of a longer series */
    const double *start;       /* [probes][n] given start vectors (host, the same on all ranks), or NULL: drawn */
    const hsgd_keeper *keeper; /* may be NULL: keeps finished probes; those of a block in progress are made again */
    void (*monitor)(void *context, int64_t products, int64_t total); /* may be NULL */
    void *context;
} hsgd_quadrature_options;

/* Probes that advance together: `block`, or where it is 0 the choice of 8, but not more than there are.  Local. */
int64_t hsgd_quadrature_block(int64_t block, int64_t probes);

/* Keep the nodes of the first `done` probes with options->keeper as hsgd_quadrature does, and recall how many were kept
 * (0: none) and their nodes: for who divides a series of probes.  ritz, weights: [options->probes][options->steps].
 * Collective over comm and space->comm, which are the keeper's ranks.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DATA (a kept
 * state of another work), those of the keeper. */
hsgd_status hsgd_quadrature_keep(const hsgd_quadrature_options *options, hsgd_comm *comm, int64_t done,
                                 const double *ritz, const double *weights, hsgd_error *err);
hsgd_status hsgd_quadrature_recall(const hsgd_quadrature_options *options, const hsgd_space *space, int64_t *done,
                                   double *ritz, double *weights, hsgd_error *err);

/* ritz, weights: [probes][steps], ascending per probe; weights sum to 1.  Where a probe's process ended early (an
 * invariant subspace) the rest has weight 0 and repeats the last Ritz value.  In reproducible mode no bit depends on the
 * block.  Collective.
 * Errors: HSGD_ERR_NUMERIC (also where the run-time self-test fails: sum of weights = 1, sum w theta = v'Av,
 * sum w theta^2 = norm(Av)^2), HSGD_ERR_MEMORY, HSGD_ERR_DATA (a kept state of another work), those of the product and of
 * the keeper; on HSGD_STOPPED the finished probes are kept. */
hsgd_status hsgd_quadrature(hsgd_linop *op, const hsgd_quadrature_options *options, double *ritz, double *weights,
                            hsgd_error *err);

/* grid, density [bins]: Gaussians of variance sigma_squared * max(1, range) at the Ritz values.
 * full false: range and grid from the means over probes of the extreme Ritz values, less and plus overhead, and the
 * density divided by its grid sum, exactly as PyHessian.  full true: from the extremes over all probes.
 * stderr_of: [bins] standard error over the probes, or NULL (needs probes >= 2).  bins >= 2.  Local. */
void hsgd_density(int64_t probes, int64_t steps, const double *ritz, const double *weights, int64_t bins,
                  double sigma_squared, double overhead, bool full, double *grid, double *density, double *stderr_of);

/* Moments 1..4 of the density, moment[j] = mean over probes of sum w theta^(j+1), and their standard errors (NULL where
 * probes < 2).  Local. */
void hsgd_density_moments(int64_t probes, int64_t steps, const double *ritz, const double *weights, double moment[4],
                          double *stderr_of);

/* The cumulative spectral measure, unblurred: eigenvalue [probes * steps] all Ritz values, ascending; measure: mean over
 * the probes of the weight up to and with each; its standard error (NULL where probes < 2).  Local.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_cumulative(int64_t probes, int64_t steps, const double *ritz, const double *weights,
                            double *eigenvalue, double *measure, double *stderr_of, hsgd_error *err);
