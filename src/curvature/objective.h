/* src/curvature/objective.h - loss and gradient of a batch, all that the optimiser ever learns of a model. */
#pragma once
#include "algebra/vector.h"
#include "base/error.h"

typedef struct {
    double loss;     /* mean over the batch, nats */
    double accuracy; /* share of the batch classified correctly, in [0, 1] */
    int64_t correct; /* the same as a count */
} hsgd_loss;

typedef struct hsgd_objective hsgd_objective;

/* What an implementation supplies. */
typedef struct {
    /* index: [count] sample numbers, the same on all ranks.  weights, gradient: replicated, one column; gradient NULL:
     * only the loss is wanted. */
    hsgd_status (*evaluate)(void *self, const hsgd_vector *weights, const int64_t *index, int64_t count,
                            hsgd_vector *gradient, hsgd_loss *loss, hsgd_error *err);
    void (*destroy)(void *self); /* optional */
} hsgd_objective_ops;

struct hsgd_objective {
    const hsgd_objective_ops *ops;
    void *self;
    const hsgd_space *space; /* of weights and gradient: replicated; borrowed */
};

/* Loss (and gradient) of the mean cross-entropy over the batch.  Collective.
 * Errors, the same on every rank: HSGD_ERR_NUMERIC (NaN or Inf), HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
static inline hsgd_status hsgd_objective_evaluate(hsgd_objective *f, const hsgd_vector *weights, const int64_t *index,
                                                  int64_t count, hsgd_vector *gradient, hsgd_loss *loss,
                                                  hsgd_error *err)
{
    return f->ops->evaluate(f->self, weights, index, count, gradient, loss, err);
}
