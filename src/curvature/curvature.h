/* src/curvature/curvature.h - the network's loss over a set of samples, as an objective and as linear operators. */
#pragma once
#include "curvature/linop.h"
#include "curvature/objective.h"
#include "data/dataset.h"
#include "model/layers.h"
#include "model/pass.h"

/* What a sweep over samples needs; all borrowed. */
typedef struct {
    const hsgd_network *network;
    const hsgd_backend *backend;
    hsgd_comm *comm;
    hsgd_reduction reduction;
    const hsgd_split *split;
    float mean, deviation; /* pixel normalisation; 0 and 1: none */
    /* Told by one thread, now and then in a sweep over samples, how many of this rank's groups have been handed to the
     * device, or on the CPU are done; NULL: nobody wants to know.  context: of it. */
    void (*told)(void *context, int64_t done, int64_t groups);
    void *context;
} hsgd_problem;

/* The mean cross-entropy of batches of problem->split, of at most `samples` each, as an objective over replicated weights.
 * problem (copied) and space (replicated) must outlive it in what they point to.  *out is freed by
 * hsgd_objective_destroy.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_network_objective_create(const hsgd_problem *problem, const hsgd_space *space, int64_t samples,
                                          hsgd_objective **out, hsgd_error *err);
void hsgd_objective_destroy(hsgd_objective **objective);

/* Loss, accuracy and (if not NULL) confusion [classes][classes] (row: label, column: prediction) of `count` samples
 * index[] at weights [n] (host, canonical order, the same on all ranks).  Collective.  Errors as evaluate. */
hsgd_status hsgd_network_evaluate(const hsgd_problem *problem, const double *weights, const int64_t *index,
                                  int64_t count, hsgd_loss *loss, int64_t *confusion, hsgd_error *err);

/* The losses of a set of samples at several points at once: each image is read once for all of them (where the first
 * layer has parameters). */
typedef struct hsgd_losses hsgd_losses;

/* Of samples index[0..count) (copied), at up to `points` >= 1 points at once.  Collective.  Errors: HSGD_ERR_USAGE (no
 * sample, no point), HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_losses_create(const hsgd_problem *problem, const int64_t *index, int64_t count, int64_t points,
                               hsgd_losses **out, hsgd_error *err);
void hsgd_losses_destroy(hsgd_losses **losses);

/* loss[j] at weights [k][n] (host, canonical order, the same on all ranks), k <= points; its bits depend on no other
 * point.  Collective.  Errors as evaluate. */
hsgd_status hsgd_losses_at(hsgd_losses *losses, int64_t k, const double *weights, hsgd_loss *loss, hsgd_error *err);

typedef struct {
    hsgd_operator kind;
    const int64_t *index; /* [count] studied samples, copied */
    int64_t count;
    const double *weights; /* [n] host, canonical order, copied */
    size_t cache_bytes;    /* base states of groups are kept up to so many bytes on this rank; 0: none.  No bit of any
                              result depends on it. */
    int64_t columns;       /* vectors advanced in one sweep; more are done in several sweeps; 0: 8 */
    int64_t batch;         /* samples of a rank between two looks for `stop`; 0: a group */
    bool (*stop)(void *context); /* optional; asked after blocks of samples, by one thread; one rank's yes stops all */
    void *context;
} hsgd_hessian_options;

/* The Hessian (almost everywhere) or the Gauss-Newton matrix of the mean cross-entropy over the samples.
 * Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_hessian_create(const hsgd_problem *problem, const hsgd_space *space,
                                const hsgd_hessian_options *options, hsgd_linop **out, hsgd_error *err);

/* Exact trace of the Gauss-Newton matrix, per layer with parameters (weight and bias together): traces [layers with
 * parameters].  Equal to the Hessian's, layer by layer, for piecewise-linear networks, because then the Hessian's
 * diagonal blocks are Gauss-Newton's.  Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_NUMERIC, HSGD_ERR_DEVICE. */
hsgd_status hsgd_exact_trace(const hsgd_problem *problem, const double *weights, const int64_t *index, int64_t count,
                             double *traces, hsgd_error *err);

/* The same, the weight's and the bias's apart: traces [2 * layers with parameters], in flat order. */
hsgd_status hsgd_exact_trace_parts(const hsgd_problem *problem, const double *weights, const int64_t *index,
                                   int64_t count, double *traces, hsgd_error *err);

/* Gradient [n] (host, canonical) of the mean loss at `weights`, with every ReLU and pooling choice frozen as at
 * `frozen_at`.  Collective.  Errors as evaluate. */
hsgd_status hsgd_frozen_gradient(const hsgd_problem *problem, const double *weights, const double *frozen_at,
                                 const int64_t *index, int64_t count, double *gradient, hsgd_loss *loss,
                                 hsgd_error *err);
