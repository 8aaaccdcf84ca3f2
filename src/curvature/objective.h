/* src/curvature/objective.h - loss and gradient of a batch, all that the optimiser ever learns of a model. */
#pragma once
#include "algebra/vector.h"
#include "base/error.h"

typedef struct {
    double loss;     /* mean over the batch, nats */
    double accuracy; /* share of the batch classified correctly, in [0, 1] */
    int64_t correct; /* the same as a count */
} hsgd_loss;

/* What an evaluation leaves in backend memory, for who does not wait for it. */
enum {
    HSGD_OUTCOME_LOSS,
    HSGD_OUTCOME_ACCURACY,
    HSGD_OUTCOME_FAILED,  /* ranks that could not do their share; `failure` tells why */
    HSGD_OUTCOME_TROUBLE, /* numbers that are not finite or out of range, the loss among them */
    HSGD_OUTCOMES
};

typedef struct hsgd_objective hsgd_objective;

/* What an implementation supplies. */
typedef struct {
    /* Queue an evaluation.  index: [count] sample numbers, the same on all ranks; not used after the return.  weights,
     * gradient: replicated, one column; gradient NULL: only the loss is wanted.  outcome: [HSGD_OUTCOMES], backend
     * memory.  Collective.  A rank that fails at its share says so in the outcome; returns failures of the communicator
     * or the device alone. */
    hsgd_status (*begin)(void *self, const hsgd_vector *weights, const int64_t *index, int64_t count,
                         hsgd_vector *gradient, double *outcome, hsgd_error *err);
    /* After an outcome with FAILED, the failure of its share, the same on all ranks.  Collective. */
    hsgd_status (*failure)(void *self, hsgd_error *err);
    void (*destroy)(void *self); /* optional */
} hsgd_objective_ops;

struct hsgd_objective {
    const hsgd_objective_ops *ops;
    void *self;
    const hsgd_space *space; /* of weights and gradient: replicated; borrowed */
};

/* Loss (and gradient) of the mean cross-entropy over the batch; waits for them.  Collective.
 * Errors, the same on every rank: HSGD_ERR_USAGE (no sample, or too many), HSGD_ERR_NUMERIC (NaN or Inf),
 * HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_objective_evaluate(hsgd_objective *f, const hsgd_vector *weights, const int64_t *index, int64_t count,
                                    hsgd_vector *gradient, hsgd_loss *loss, hsgd_error *err);

/* Read an outcome [HSGD_OUTCOMES] (host) of a batch of `count` samples.  Collective where it tells of a failure, else
 * local.  Errors as evaluate. */
hsgd_status hsgd_objective_judge(hsgd_objective *f, const double *outcome, int64_t count, hsgd_loss *loss,
                                 hsgd_error *err);
