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

/* Weights and momentum: replicated single columns.  momentum is used only where options.momentum != 0. */
typedef struct {
    hsgd_vector *weights, *momentum, *gradient;
    int64_t step; /* updates made */
} hsgd_sgd_state;

/* Learning rate of update number `step` (from 0) where an epoch has `steps_per_epoch` steps of `total_steps`:
 * constant; step: lr * factor^floor(epoch / step_epochs); cosine: lr (1 + cos(pi step / total_steps)) / 2.  Local. */
double hsgd_sgd_rate(const hsgd_sgd_options *options, int64_t step, int64_t steps_per_epoch, int64_t total_steps);

/* One update on the batch index[count]; *loss is the batch's before it.  Collective.
 * Errors: HSGD_ERR_NUMERIC (loss or gradient not finite; the weights are then unchanged), HSGD_ERR_DEVICE. */
hsgd_status hsgd_sgd_step(const hsgd_sgd_options *options, double lr, hsgd_objective *objective, const int64_t *index,
                          int64_t count, hsgd_sgd_state *state, hsgd_loss *loss, hsgd_error *err);
