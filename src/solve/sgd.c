/* src/solve/sgd.c - stochastic gradient descent with momentum. */
#include "solve/sgd.h"
#include <math.h>

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

hsgd_status hsgd_sgd_create(const hsgd_space *space, hsgd_sgd_state *state, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = space->backend;
    void *memory = NULL;

    *state = (hsgd_sgd_state){.space = space};
    HSGD_TRY(hsgd_vector_create(space, 1, &state->weights, err));
    HSGD_TRY(hsgd_vector_create(space, 1, &state->momentum, err));
    HSGD_TRY(hsgd_vector_create(space, 1, &state->gradient, err));
    HSGD_TRY(backend->ops->alloc(backend->self, (HSGD_SGD_PENDING * HSGD_OUTCOMES + 1) * sizeof *state->outcomes,
                                 &memory, err));
    state->outcomes = memory;
    state->halted = state->outcomes + HSGD_SGD_PENDING * HSGD_OUTCOMES;
done:
    return st;
}

void hsgd_sgd_destroy(hsgd_sgd_state *state)
{
    if (state->space == NULL) {
        return;
    }
    state->space->backend->ops->release(state->space->backend->self, state->outcomes);
    hsgd_vector_destroy(&state->gradient);
    hsgd_vector_destroy(&state->momentum);
    hsgd_vector_destroy(&state->weights);
    *state = (hsgd_sgd_state){0};
}

hsgd_status hsgd_sgd_step(const hsgd_sgd_options *options, double lr, hsgd_objective *objective, const int64_t *index,
                          int64_t count, hsgd_sgd_state *state, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = state->space->backend;
    const hsgd_sgd_rule rule = {.lr = lr,
                                .weight_decay = options->weight_decay,
                                .momentum = options->momentum,
                                .dampening = options->dampening,
                                .nesterov = options->nesterov,
                                .first = state->step == 0,
                                .round_to_single = options->round_to_single};
    double *outcome = state->outcomes + state->pending * HSGD_OUTCOMES;

    HSGD_CHECK(state->pending < HSGD_SGD_PENDING, HSGD_ERR_USAGE, err,
               "train: %d updates are pending; settle them first", state->pending);
    HSGD_TRY(objective->ops->begin(objective->self, state->weights, index, count, state->gradient, outcome, err));
    _Static_assert(HSGD_OUTCOME_TROUBLE == HSGD_OUTCOME_FAILED + 1, "one look serves both");
    HSGD_TRY(backend->ops->count_beyond(backend->self, 2, outcome + HSGD_OUTCOME_FAILED, 0.0, state->halted, err));
    HSGD_TRY(backend->ops->sgd_update(backend->self, &rule, state->space->n, state->gradient->data, state->halted,
                                      state->weights->data, state->momentum->data, err));
    state->rate[state->pending] = lr;
    state->count[state->pending] = count;
    state->pending++;
    state->step++;
done:
    return st;
}

hsgd_status hsgd_sgd_settle(hsgd_objective *objective, hsgd_sgd_state *state, double *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = state->space->backend;
    const int pending = state->pending;
    const int64_t before = state->step - pending;
    double outcomes[HSGD_SGD_PENDING * HSGD_OUTCOMES];

    HSGD_TRY(backend->ops->download(backend->self, (size_t)(pending * HSGD_OUTCOMES) * sizeof *outcomes,
                                    state->outcomes, outcomes, err));
    state->pending = 0;
    for (int i = 0; i < pending; i++) {
        hsgd_loss value = {0};

        state->step = before + i; /* unless this one is good, the last update was the one before */
        st = hsgd_objective_judge(objective, outcomes + i * HSGD_OUTCOMES, state->count[i], &value, err);
        HSGD_CHECK(st != HSGD_ERR_NUMERIC, HSGD_ERR_NUMERIC, err,
                   "train: the loss or its gradient is NaN or Inf at step %lld (learning rate %g); lower train.lr, in "
                   "another run.output",
                   (long long)state->step + 1, state->rate[i]);
        HSGD_TRY(st);
        if (loss != NULL) {
            loss[i] = value.loss;
        }
    }
    state->step = before + pending;
done:
    if (st != HSGD_OK) { /* weights and momentum are those of state->step: who goes on goes on from there */
        hsgd_error unheard = {0};

        (void)backend->ops->zero(backend->self, 0, sizeof *state->halted, state->halted, &unheard);
    }
    return st;
}
