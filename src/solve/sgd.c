/* src/solve/sgd.c - stochastic gradient descent with momentum. */
#include "solve/sgd.h"
#include <math.h>

enum { CHUNK = 2048 }; /* parameters updated at a time: four arrays of them fit into the first-level cache or nearly */

double hsgd_sgd_rate(const hsgd_sgd_options *options, int64_t step, int64_t steps_per_epoch, int64_t total_steps)
{
    double rate = options->lr;

    switch (options->schedule) {
    case HSGD_SCHEDULE_CONSTANT:
        break;
    case HSGD_SCHEDULE_STEP:
        rate *= pow(options->step_factor, floor((double)step / ((double)steps_per_epoch * options->step_epochs)));
        break;
    case HSGD_SCHEDULE_COSINE:
        rate *= (1.0 + cos(M_PI * (double)step / (double)total_steps)) / 2.0;
        break;
    }
    return rate;
}

/* Update count <= CHUNK weights p and their momentum by the gradient g; `first`: the first update of all. */
static void update(const hsgd_sgd_options *options, double lr, bool first, int64_t count, const double *g, double *p,
                   double *momentum)
{
    for (int64_t i = 0; i < count; i++) {
        double d = lr * (g[i] + options->weight_decay * p[i]);

        if (options->momentum != 0.0) {
            momentum[i] = first ? d : options->momentum * momentum[i] + (1.0 - options->dampening) * d;
            d = options->nesterov ? d + options->momentum * momentum[i] : momentum[i];
        }
        p[i] -= d;
        if (options->round_to_single) {
            p[i] = (double)(float)p[i];
        }
    }
}

/* Update all weights, a chunk at a time through host memory. */
static hsgd_status update_all(const hsgd_sgd_options *options, double lr, hsgd_sgd_state *state, hsgd_error *err)
{
    const hsgd_space *space = state->weights->space;
    const hsgd_backend_ops *ops = space->backend->ops;
    void *self = space->backend->self;
    const bool with_momentum = options->momentum != 0.0;
    hsgd_status st = HSGD_OK;
    double g[CHUNK], p[CHUNK], momentum[CHUNK];

    for (int64_t low = 0; low < space->n; low += CHUNK) {
        const int64_t count = space->n - low < CHUNK ? space->n - low : CHUNK;
        const size_t bytes = (size_t)count * sizeof *p;

        HSGD_TRY(ops->download(self, bytes, state->gradient->data + low, g, err));
        HSGD_TRY(ops->download(self, bytes, state->weights->data + low, p, err));
        if (with_momentum) {
            HSGD_TRY(ops->download(self, bytes, state->momentum->data + low, momentum, err));
        }
        update(options, lr, state->step == 0, count, g, p, momentum);
        HSGD_TRY(ops->upload(self, bytes, p, state->weights->data + low, err));
        if (with_momentum) {
            HSGD_TRY(ops->upload(self, bytes, momentum, state->momentum->data + low, err));
        }
    }
done:
    return st;
}

hsgd_status hsgd_sgd_step(const hsgd_sgd_options *options, double lr, hsgd_objective *objective, const int64_t *index,
                          int64_t count, hsgd_sgd_state *state, hsgd_loss *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool finite = false;

    st = hsgd_objective_evaluate(objective, state->weights, index, count, state->gradient, loss, err);
    if (st == HSGD_OK) {
        HSGD_TRY(hsgd_vector_finite(state->gradient, &finite, err));
    }
    HSGD_CHECK(st != HSGD_ERR_NUMERIC && (st != HSGD_OK || (finite && isfinite(loss->loss))), HSGD_ERR_NUMERIC, err,
               "train: the loss or its gradient is NaN or Inf at step %lld (learning rate %g); lower train.lr",
               (long long)state->step + 1, lr);
    HSGD_TRY(st);
    HSGD_TRY(update_all(options, lr, state, err));
    state->step++;
done:
    return st;
}
