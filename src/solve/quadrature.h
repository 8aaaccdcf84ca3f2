/* src/solve/quadrature.h - spectral density by stochastic Lanczos quadrature.
 * Source: Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIAM J. Matrix Anal.
 * Appl. 38(4), 2017, doi:10.1137/16M1104974. */
#pragma once
#include "curvature/linop.h"
#include "solve/density.h"
#include "solve/snapshot.h"

typedef struct {
    int64_t probes, steps; /* steps may exceed n: the process then ends early */
    int64_t block;         /* probes that advance together, one apply for all; 0: chosen */
    hsgd_draw draw;        /* HSGD_DRAW_SIGN: rademacher; HSGD_DRAW_NORMAL: normalised to the sphere */
    uint64_t seed;
    int64_t first;              /* number of the first probe, by which it is drawn: one of a longer series */
    const double *start;        /* [probes][n] given start vectors (host, the same on all ranks), or NULL: drawn */
    const hsgd_vector *deflate; /* orthonormal vectors that the processes are kept off, or NULL; see below */
    const hsgd_keeper *keeper;  /* may be NULL: keeps finished probes, and the processes of a block in progress */
    void (*monitor)(void *context, int64_t products, int64_t total); /* may be NULL */
    void *context;
} hsgd_quadrature_options;

/* Probes that advance together: `block`, or where it is 0 the choice of 8, but not more than there are.  Local. */
int64_t hsgd_quadrature_block(int64_t block, int64_t probes);

/* The head of the integers of a kept state: probes with nodes, and the processes that run of those behind them; each of these
 * has HSGD_LANCZOS_INTEGERS more, its numbers behind the nodes, and its columns.  For who puts states together. */
enum { HSGD_QUADRATURE_DONE, HSGD_QUADRATURE_RUNNING, HSGD_QUADRATURE_HEAD };

/* Whether a state's head can be of so many probes; what it tells.  Local. */
bool hsgd_quadrature_counts(const hsgd_snapshot *state, int64_t probes, int64_t *done, int64_t *running);

/* Keep the nodes of the first `done` probes with options->keeper as hsgd_quadrature does between two blocks, and recall how
 * many were kept (0: none) and their nodes: for who divides a series of probes.  Processes that ran are not taken up.
 * ritz, weights: [options->probes][options->steps].  options->deflate: on the space.
 * Collective over space->comm, which are the keeper's ranks.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DATA (a kept
 * state of another work), those of the keeper. */
hsgd_status hsgd_quadrature_keep(const hsgd_quadrature_options *options, const hsgd_space *space, int64_t done,
                                 const double *ritz, const double *weights, hsgd_error *err);
hsgd_status hsgd_quadrature_recall(const hsgd_quadrature_options *options, const hsgd_space *space, int64_t *done,
                                   double *ritz, double *weights, hsgd_error *err);

/* Probes and steps (at most n: then it ends by itself) with which the mean of the probes' measures is within accuracy *
 * (largest - smallest eigenvalue) of the spectrum's own in Wasserstein distance, but for odds of eta, where the start
 * vectors are uniform on the sphere.  0 < accuracy, eta <= 1.  Local.
 * Source: Chen, Trogdon, Ubaru, "Analysis of stochastic Lanczos quadrature for spectrum approximation", ICML 2021,
 * arXiv:2105.06595: ceil(4 ln(2 n / eta) / ((n + 2) accuracy^2)) probes of ceil(12 / accuracy + 1/2) steps. */
void hsgd_quadrature_plan(int64_t n, double accuracy, double eta, int64_t *probes, int64_t *steps);

/* ritz, weights: [probes][steps], ascending per probe; weights sum to 1.  Where a probe's process ended early (an
 * invariant subspace) the rest has weight 0 and repeats the last Ritz value.  In reproducible mode no bit depends on the
 * block.  With `deflate` the nodes are those of P A P on the complement, which P projects onto, and stand for n - columns
 * eigenvalues: where the vectors are eigenvectors these are the other eigenvalues of A.  Collective.
 * Errors: HSGD_ERR_NUMERIC (also where the run-time self-test fails: sum of weights = 1, sum w theta = v'Av,
 * sum w theta^2 = norm(Av)^2), HSGD_ERR_MEMORY, HSGD_ERR_DATA (a kept state of another work), those of the product and of
 * the keeper; on HSGD_STOPPED the state is kept. */
hsgd_status hsgd_quadrature(hsgd_linop *op, const hsgd_quadrature_options *options, double *ritz, double *weights,
                            hsgd_error *err);
