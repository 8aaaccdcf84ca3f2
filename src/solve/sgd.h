/* src/solve/sgd.h - stochastic gradient descent with the seed notebook's momentum rule:
 * d = lr (g + weight_decay p); first step buf = d, later buf = momentum buf + (1 - dampening) d;
 * with Nesterov d = d + momentum buf, else d = buf; p -= d.  (lr enters before the buffer.) */
#pragma once
#include "curvature/objective.h"

typedef enum { HSGD_SCHEDULE_CONSTANT, HSGD_SCHEDULE_STEP, HSGD_SCHEDULE_COSINE } hsgd_schedule_kind;

typedef struct {
    double lr, momentum, dampening, weight_decay;
    bool nesterov;
    hsgd_schedule_kind schedule;
    double step_epochs, step_factor; /* HSGD_SCHEDULE_STEP: lr *= factor every so many epochs */
    bool round_to_single;            /* weights are rounded to float after every update */
} hsgd_sgd_options;

enum { HSGD_SGD_PENDING = 128 }; /* updates that may be made before somebody settles them */

/* Weights, momentum and gradient: replicated single columns.  momentum is used only where options.momentum != 0. */
typedef struct {
    const hsgd_space *space; /* borrowed */
    hsgd_vector *weights, *momentum, *gradient;
    int64_t step;     /* updates made */
    double *outcomes; /* backend, [HSGD_SGD_PENDING][HSGD_OUTCOMES] */
    double *halted;   /* backend: not 0 once an outcome was bad; then no update changes anything */
    int pending;      /* the last so many updates are not settled */
    double rate[HSGD_SGD_PENDING];
    int64_t count[HSGD_SGD_PENDING]; /* samples of each */
} hsgd_sgd_state;

/* Take the memory of *state, all zero, on a replicated space; end it.  Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_sgd_create(const hsgd_space *space, hsgd_sgd_state *state, hsgd_error *err);
void hsgd_sgd_destroy(hsgd_sgd_state *state);

/* Learning rate of update number `step` (from 0) where an epoch has `steps_per_epoch` steps of `total_steps`:
 * constant; step: lr * factor^floor(epoch / step_epochs); cosine: lr (1 + cos(pi step / total_steps)) / 2.  Local. */
double hsgd_sgd_rate(const hsgd_sgd_options *options, int64_t step, int64_t steps_per_epoch, int64_t total_steps);

/* Queue one update on the batch index[count]; nothing waits.  At most HSGD_SGD_PENDING before they are settled.
 * Collective.  Errors: HSGD_ERR_USAGE (too many pending), HSGD_ERR_DEVICE. */
hsgd_status hsgd_sgd_step(const hsgd_sgd_options *options, double lr, hsgd_objective *objective, const int64_t *index,
                          int64_t count, hsgd_sgd_state *state, hsgd_error *err);

/* Wait for the pending updates; loss[pending]: each batch's before its update (may be NULL).
 * Collective.  Errors: HSGD_ERR_NUMERIC (loss or gradient not finite: weights, momentum and state->step are those before
 * that update, which the text names, and the next update goes on from there), the failures of an evaluation. */
hsgd_status hsgd_sgd_settle(hsgd_objective *objective, hsgd_sgd_state *state, double *loss, hsgd_error *err);
