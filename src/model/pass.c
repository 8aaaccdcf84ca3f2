/* src/model/pass.c - the chain rule, once: every pass over a network is composed here from the backend's kernels, layer
 * by layer, or a gated convolution at a time where the backend has kernels for it. */
#include "model/plan.h"

const void *hsgd_pass_probabilities(const hsgd_pass *pass, const void *state)
{
    return at(state, pass->probabilities);
}

/* ---- values ---- */

/* A gated convolution; see unit_value. */
static hsgd_status gated_unit(const hsgd_pass *pass, int worker, int64_t q, const void *params, int64_t m,
                              const void *frozen, bool choose, void *state, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const unit_plan *plan = &pass->plan[q];
    const hsgd_columns x = shared(value(pass, state, q)), y = shared(value(pass, state, q + 1));
    const hsgd_columns w = weight(pass, plan->layer, params, 0), b = bias(pass, plan->layer, params, 0);
    const void *from = x.data, *filter = w.data;

    if (frozen != NULL) {
        return ops->gated_value(self, worker, &plan->gated, m, gates(pass, frozen, q), 1, &from, &filter, b.data,
                                y.data, err);
    }
    return ops->gated_base(self, worker, &plan->gated, m, 1, x, w, b, y, choose ? gates(pass, state, q) : NULL, err);
}

/* Unit q at `params`; with `frozen`, ReLU and maxpool are the linear maps that they were in that state.  choose: its
 * choices will be asked for. */
static hsgd_status unit_value(const hsgd_pass *pass, int worker, int64_t q, const void *params, int64_t m,
                              const void *frozen, bool choose, void *state, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = pass->plan[q].layer;
    const hsgd_columns x = shared(value(pass, state, q)), y = shared(value(pass, state, q + 1));
    const int64_t count = m * elements(layer->out);
    const size_t choice = pass->plan[q].choice;

    if (pass->plan[q].is_gated) {
        return gated_unit(pass, worker, q, params, m, frozen, choose, state, err);
    }
    switch (layer->kind) {
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_LINEAR:
        return ops->affine_value(self, worker, layer, m, 1, x, weight(pass, layer, params, 0),
                                 bias(pass, layer, params, 0), y, false, err);
    case HSGD_LAYER_RELU:
        if (frozen != NULL) {
            return ops->relu_derivative(self, worker, count, 1, value(pass, frozen, q + 1), x, y, err);
        }
        return ops->relu_value(self, worker, count, x.data, y.data, err);
    case HSGD_LAYER_TANH:
        return ops->tanh_value(self, worker, count, x.data, y.data, err);
    case HSGD_LAYER_MAXPOOL:
        if (frozen != NULL) {
            return ops->maxpool_tangent(self, worker, layer, m, 1, at(frozen, choice), x, y, err);
        }
        return ops->maxpool_value(self, worker, layer, m, x.data, y.data, at(state, choice), err);
    case HSGD_LAYER_AVGPOOL:
        return ops->avgpool_value(self, worker, layer, m, 1, x, y, err);
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "pass: unit %d is of no known kind", (int)q);
}

static hsgd_status base(const hsgd_pass *pass, int worker, const void *params, const hsgd_group *group,
                        const void *frozen, void *state, double *tally, int64_t *confusion, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_network *net = pass->network;

    HSGD_TRY(ops->images(self, worker, group->pixels, elements(net->input), group->m, group->index, group->mean,
                         group->deviation, state, err));
    for (int64_t q = 0; q < pass->units; q++) {
        HSGD_TRY(unit_value(pass, worker, q, params, group->m, frozen, true, state, err));
    }
    HSGD_TRY(ops->softmax_loss(self, worker, group->m, net->classes, value(pass, state, pass->units), group->labels,
                               group->index, at(state, pass->probabilities), at(state, pass->delta), tally, confusion,
                               err));
done:
    return st;
}

/* The first unit for k points at once: the images are those of the first state. */
static hsgd_status first_values(const hsgd_pass *pass, int worker, const void *params, int64_t m, int64_t k,
                                void *states, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const unit_plan *plan = &pass->plan[0];
    const int64_t n = pass->network->parameters;
    const hsgd_columns x = shared(value(pass, states, 0));
    const hsgd_columns y = {value(pass, states, 1), (int64_t)(pass->state_bytes / pass->real)};
    const hsgd_columns w = weight(pass, plan->layer, params, n), b = bias(pass, plan->layer, params, n);

    return plan->is_gated ? ops->gated_base(self, worker, &plan->gated, m, k, x, w, b, y, NULL, err)
                          : ops->affine_value(self, worker, plan->layer, m, k, x, w, b, y, false, err);
}

hsgd_status hsgd_pass_losses(hsgd_pass *pass, int worker, const void *params, int64_t k, const hsgd_group *group,
                             void *states, double *tallies, int64_t *confusion, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_network *net = pass->network;
    const int64_t together = is_affine(pass->plan[0].layer) ? 1 : 0; /* units */

    for (int64_t j = 0; j < (together > 0 ? 1 : k); j++) {
        HSGD_TRY(ops->images(self, worker, group->pixels, elements(net->input), group->m, group->index, group->mean,
                             group->deviation, at(states, (size_t)j * pass->state_bytes), err));
    }
    if (together > 0) {
        HSGD_TRY(first_values(pass, worker, params, group->m, k, states, err));
    }
    for (int64_t j = 0; j < k; j++) {
        const void *point = at(params, (size_t)(j * net->parameters) * pass->real);
        void *state = at(states, (size_t)j * pass->state_bytes);

        for (int64_t q = together; q < pass->units; q++) {
            HSGD_TRY(unit_value(pass, worker, q, point, group->m, NULL, false, state, err));
        }
        HSGD_TRY(ops->softmax_loss(self, worker, group->m, net->classes, value(pass, state, pass->units), group->labels,
                                   group->index, at(state, pass->probabilities), at(state, pass->delta),
                                   tallies + j * HSGD_TALLIES_OF_LOSS, confusion, err));
    }
done:
    return st;
}

hsgd_status hsgd_pass_base(hsgd_pass *pass, int worker, const void *params, const hsgd_group *group, void *state,
                           double *tally, int64_t *confusion, hsgd_error *err)
{
    return base(pass, worker, params, group, NULL, state, tally, confusion, err);
}

hsgd_status hsgd_pass_base_frozen(hsgd_pass *pass, int worker, const void *params, const hsgd_group *group,
                                  const void *frozen, void *state, double *tally, hsgd_error *err)
{
    return base(pass, worker, params, group, frozen, state, tally, NULL, err);
}

/* ---- passes ---- */

hsgd_status hsgd_pass_gradient(hsgd_pass *pass, int worker, const void *params, int64_t m, const void *state,
                               void *gradient, hsgd_error *err)
{
    return hsgd_pass_gradient_frozen(pass, worker, params, m, state, state, gradient, err);
}

hsgd_status hsgd_pass_gradient_frozen(hsgd_pass *pass, int worker, const void *params, int64_t m, const void *frozen,
                                      const void *state, void *gradient, hsgd_error *err)
{
    const pass_input in = {.params = params, .state = state, .choices = frozen, .m = m, .k = 1};

    return hsgd_pass_adjoint(pass, worker, &in, shared(at(state, pass->delta)), 0, gradient, err);
}

hsgd_status hsgd_pass_output_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, int64_t k,
                                     const void *u, const void *state, void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    pass_input in = {.params = params, .state = state, .choices = state, .m = m};
    const int64_t stride = m * pass->network->classes;

    for (int64_t j = 0; j < k; j += in.k) {
        in.k = k - j < pass->columns ? k - j : pass->columns;
        HSGD_TRY(hsgd_pass_adjoint(pass, worker, &in, (hsgd_columns){at(u, (size_t)(j * stride) * pass->real), stride},
                                   0, at(result, (size_t)(j * pass->network->parameters) * pass->real), err));
    }
done:
    return st;
}

/* Products of the in->k columns in->tangents, as many as go at once. */
static hsgd_status products_at_once(hsgd_pass *pass, int worker, hsgd_operator kind, pass_input in, void *products,
                                    hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_columns logits = {NULL, 0}, tdelta = {NULL, 0};
    int other = 0;

    HSGD_TRY(hsgd_pass_tangent(pass, worker, &in, &logits, err));
    other = logits.data == work(pass, worker, 0).data ? 1 : 0;
    tdelta = work(pass, worker, other);
    HSGD_TRY(pass->backend->ops->softmax_tangent(pass->backend->self, worker, in.m, pass->network->classes, in.k,
                                                 at(in.state, pass->probabilities), logits, tdelta, err));
    if (kind == HSGD_OPERATOR_GAUSS_NEWTON) {
        in.tangents = NULL; /* J' S J v: the first derivative alone */
    }
    HSGD_TRY(hsgd_pass_adjoint(pass, worker, &in, tdelta, 1 - other, products, err));
done:
    return st;
}

hsgd_status hsgd_pass_products(hsgd_pass *pass, int worker, hsgd_operator kind, const void *params, int64_t m,
                               int64_t k, const void *tangents, const void *state, void *products, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t column = (size_t)pass->network->parameters * pass->real;
    pass_input in = {.params = params, .state = state, .choices = state, .m = m};

    for (int64_t j = 0; j < k; j += in.k) {
        in.k = k - j < pass->columns ? k - j : pass->columns;
        in.tangents = at(tangents, (size_t)j * column);
        HSGD_TRY(products_at_once(pass, worker, kind, in, at(products, (size_t)j * column), err));
    }
done:
    return st;
}
