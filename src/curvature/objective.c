/* src/curvature/objective.c - what all objectives have in common: waiting for an evaluation, and judging it. */
#include "curvature/objective.h"
#include <math.h>

hsgd_status hsgd_objective_judge(hsgd_objective *f, const double *outcome, int64_t count, hsgd_loss *loss,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (outcome[HSGD_OUTCOME_FAILED] != 0.0) {
        HSGD_TRY(f->ops->failure(f->self, err));
        HSGD_CHECK(false, HSGD_ERR_DEVICE, err,
                   "sums over samples: a rank failed and cannot say why; see its node's log");
    }
    HSGD_CHECK_FINITE(outcome[HSGD_OUTCOME_TROUBLE] == 0.0, err,
                      "sums over samples: NaN, Inf or out of range; check the weights, lower the learning rate");
    *loss = (hsgd_loss){.loss = outcome[HSGD_OUTCOME_LOSS],
                        .accuracy = outcome[HSGD_OUTCOME_ACCURACY],
                        .correct = llround(outcome[HSGD_OUTCOME_ACCURACY] * (double)count)};
done:
    return st;
}

hsgd_status hsgd_objective_evaluate(hsgd_objective *f, const hsgd_vector *weights, const int64_t *index, int64_t count,
                                    hsgd_vector *gradient, hsgd_loss *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = f->space->backend;
    void *memory = NULL;
    double outcome[HSGD_OUTCOMES];

    HSGD_TRY(hsgd_space_scratch(f->space, HSGD_SCRATCH_RESULT, sizeof outcome, &memory, err));
    HSGD_TRY(f->ops->begin(f->self, weights, index, count, gradient, memory, err));
    HSGD_TRY(backend->ops->download(backend->self, sizeof outcome, memory, outcome, err));
    HSGD_TRY(hsgd_objective_judge(f, outcome, count, loss, err));
done:
    return st;
}
