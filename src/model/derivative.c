/* src/model/derivative.c - tangent and adjoint passes: the chain rule, once for all networks and devices.
 *
 * The gradient is J' delta, with J the derivative of the logits; a Gauss-Newton product is J' S J v, with S the
 * softmax's own Hessian.  A Hessian product is the tangent of the gradient: the same adjoint pass started from S J v,
 * with two more terms at an affine layer and one at a tanh, each a product of a tangent with an adjoint of the loss. */
#include "model/plan.h"

static const hsgd_columns none = {NULL, 0};

/* ---- tangents ---- */

/* Tangent of an affine layer, y = W x + b: ty = W tx + V x + vb; at the first layer tx = 0. */
static hsgd_status affine_tangent(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, hsgd_columns tx,
                                  hsgd_columns ty, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    const hsgd_layer *layer = pass->plan[q].layer;
    const int64_t n = pass->network->parameters;
    const bool inner = q > pass->first;

    if (inner) {
        HSGD_TRY(ops->affine_value(pass->backend->self, worker, layer, in->m, in->k, tx,
                                   weight(pass, layer, in->params, 0), none, ty, false, err));
    }
    HSGD_TRY(ops->affine_value(pass->backend->self, worker, layer, in->m, in->k, shared(value(pass, in->state, q)),
                               weight(pass, layer, in->tangents, n), bias(pass, layer, in->tangents, n), ty, inner,
                               err));
done:
    return st;
}

/* The same of a gated convolution, for one column. */
static hsgd_status gated_tangent(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, hsgd_columns tx,
                                 hsgd_columns ty, hsgd_error *err)
{
    const unit_plan *plan = &pass->plan[q];
    const void *x[HSGD_GATED_TERMS] = {value(pass, in->state, q), tx.data};
    const void *w[HSGD_GATED_TERMS] = {weight(pass, plan->layer, in->tangents, 0).data,
                                       weight(pass, plan->layer, in->params, 0).data};

    return pass->backend->ops->gated_value(pass->backend->self, worker, &plan->gated, in->m,
                                           gates(pass, in->choices, q), q > pass->first ? 2 : 1, x, w,
                                           bias(pass, plan->layer, in->tangents, 0).data, ty.data, err);
}

static hsgd_status unit_tangent(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, hsgd_columns tx,
                                hsgd_columns ty, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = pass->plan[q].layer;
    const void *y = value(pass, in->choices, q + 1);
    const int64_t count = in->m * elements(layer->out);

    if (pass->plan[q].is_gated) {
        return gated_tangent(pass, worker, q, in, tx, ty, err);
    }
    switch (layer->kind) {
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_LINEAR:
        return affine_tangent(pass, worker, q, in, tx, ty, err);
    case HSGD_LAYER_RELU:
        return ops->relu_derivative(self, worker, count, in->k, y, tx, ty, err);
    case HSGD_LAYER_TANH:
        return ops->tanh_derivative(self, worker, count, in->k, value(pass, in->state, q + 1), tx, ty, err);
    case HSGD_LAYER_MAXPOOL:
        return ops->maxpool_tangent(self, worker, layer, in->m, in->k, at(in->choices, pass->plan[q].choice), tx, ty,
                                    err);
    case HSGD_LAYER_AVGPOOL:
        return ops->avgpool_value(self, worker, layer, in->m, in->k, tx, ty, err);
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "pass: unit %d is of no known kind", (int)q);
}

hsgd_status hsgd_pass_tangent(const hsgd_pass *pass, int worker, const pass_input *in, hsgd_columns *logits,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_columns from = none;
    int next = 0;

    for (int64_t q = pass->first; q < pass->units; q++) {
        hsgd_columns to = work(pass, worker, next);

        if (pass->plan[q].keeps_tangent) {
            to = kept(pass, worker, q);
        } else if (is_elementwise(pass->plan[q].layer) && !pass->plan[q - 1].keeps_tangent) {
            to = from; /* already in work memory: no need to move it */
        } else {
            next = 1 - next;
        }
        HSGD_TRY(unit_tangent(pass, worker, q, in, from, to, err));
        from = to;
    }
    *logits = from;
done:
    return st;
}

/* ---- adjoints ---- */

/* The adjoints on their way down: of the k columns (tu) and, for second-order terms, of the loss (u). */
typedef struct {
    hsgd_columns tu;
    const void *u;
    int next, base_next; /* which of the two work arrays, and of the two base arrays, is free */
} adjoints;

/* dx = adjoint of ReLU, tanh or a pool for k columns; ReLU and tanh may work in place. */
static hsgd_status route_back(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, int64_t k,
                              hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = pass->plan[q].layer;
    const int64_t count = in->m * elements(layer->out);

    switch (layer->kind) {
    case HSGD_LAYER_RELU:
        return ops->relu_derivative(self, worker, count, k, value(pass, in->choices, q + 1), dy, dx, err);
    case HSGD_LAYER_TANH:
        return ops->tanh_derivative(self, worker, count, k, value(pass, in->state, q + 1), dy, dx, err);
    case HSGD_LAYER_MAXPOOL:
        return ops->maxpool_adjoint(self, worker, layer, in->m, k, at(in->choices, pass->plan[q].choice), dy, dx, err);
    case HSGD_LAYER_AVGPOOL:
        return ops->avgpool_adjoint(self, worker, layer, in->m, k, dy, dx, err);
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_LINEAR:
        break;
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "pass: unit %d has an adjoint of its own", (int)q);
}

/* Take the loss's adjoint down through unit q: as it was kept, or through a layer without parameters. */
static hsgd_status base_down(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, adjoints *a,
                             hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    void *down = at(pass->scratch[worker], pass->base[a->base_next]);

    if (is_affine(pass->plan[q].layer)) {
        a->u = at(in->state, pass->plan[q].adjoint);
        return HSGD_OK;
    }
    HSGD_TRY(route_back(pass, worker, q, in, 1, shared(a->u), shared(down), err));
    a->u = down;
    a->base_next = 1 - a->base_next;
done:
    return st;
}

/* Affine layer, u = adjoint of y = W x + b:  dW = tu x' + u tx', db = tu;  down: W' tu + V' u. */
static hsgd_status affine_down(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, const adjoints *a,
                               hsgd_columns down, void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = pass->plan[q].layer;
    const int64_t n = pass->network->parameters;
    const hsgd_columns dw = weight(pass, layer, result, n);

    HSGD_TRY(ops->affine_adjoint_weight(self, worker, layer, in->m, in->k, a->tu, shared(value(pass, in->state, q)), dw,
                                        bias(pass, layer, result, n), err));
    if (q == pass->first) {
        goto done;
    }
    HSGD_TRY(ops->affine_adjoint_input(self, worker, layer, in->m, in->k, a->tu, weight(pass, layer, in->params, 0),
                                       down, false, err));
    if (in->tangents != NULL) {
        HSGD_TRY(ops->affine_adjoint_weight(self, worker, layer, in->m, in->k, shared(a->u), kept(pass, worker, q - 1),
                                            dw, none, err));
        HSGD_TRY(ops->affine_adjoint_input(self, worker, layer, in->m, in->k, shared(a->u),
                                           weight(pass, layer, in->tangents, n), down, true, err));
    }
done:
    return st;
}

/* The same of a gated convolution, for one column. */
static hsgd_status gated_down(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, const adjoints *a,
                              hsgd_columns down, void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const unit_plan *plan = &pass->plan[q];
    const int terms = in->tangents != NULL && q > pass->first ? 2 : 1;
    const void *dy[HSGD_GATED_TERMS] = {a->tu.data, a->u}, *x[HSGD_GATED_TERMS] = {value(pass, in->state, q)};
    const void *w[HSGD_GATED_TERMS] = {weight(pass, plan->layer, in->params, 0).data};

    if (terms == 2) {
        x[1] = kept(pass, worker, q - 1).data;
        w[1] = weight(pass, plan->layer, in->tangents, 0).data;
    }
    HSGD_TRY(ops->gated_adjoint_weight(self, worker, &plan->gated, in->m, gates(pass, in->choices, q), terms, dy, x,
                                       weight(pass, plan->layer, result, 0).data,
                                       bias(pass, plan->layer, result, 0).data, err));
    if (q > pass->first) {
        HSGD_TRY(ops->gated_adjoint_input(self, worker, &plan->gated, in->m, gates(pass, in->choices, q), terms, dy, w,
                                          down.data, err));
    }
done:
    return st;
}

/* ReLU, tanh, pools. */
static hsgd_status plain_down(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, const adjoints *a,
                              hsgd_columns down, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_layer *layer = pass->plan[q].layer;

    HSGD_TRY(route_back(pass, worker, q, in, in->k, a->tu, down, err));
    if (in->tangents != NULL && layer->kind == HSGD_LAYER_TANH) { /* while u is still the adjoint of the output */
        HSGD_TRY(pass->backend->ops->tanh_second(pass->backend->self, worker, in->m * elements(layer->out), in->k,
                                                 value(pass, in->state, q + 1), kept(pass, worker, q), a->u, down,
                                                 err));
    }
done:
    return st;
}

hsgd_status hsgd_pass_adjoint(const hsgd_pass *pass, int worker, const pass_input *in, hsgd_columns tu, int free_work,
                              void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    adjoints a = {.tu = tu, .u = at(in->state, pass->delta), .next = free_work};

    HSGD_TRY(pass->backend->ops->zero(pass->backend->self, worker,
                                      (size_t)(in->k * pass->network->parameters) * pass->real, result, err));
    for (int64_t q = pass->units - 1; q >= pass->first; q--) {
        const unit_plan *plan = &pass->plan[q];
        /* tu is in work memory at a ReLU or tanh, because the last layer is affine: they go in place */
        const bool in_place = is_elementwise(plan->layer);
        const hsgd_columns down = in_place ? a.tu : work(pass, worker, a.next);

        if (plan->is_gated) {
            HSGD_TRY(gated_down(pass, worker, q, in, &a, down, result, err));
        } else if (is_affine(plan->layer)) {
            HSGD_TRY(affine_down(pass, worker, q, in, &a, down, result, err));
        } else {
            HSGD_TRY(plain_down(pass, worker, q, in, &a, down, err));
        }
        if (in->tangents != NULL && q > pass->lowest) {
            HSGD_TRY(base_down(pass, worker, q, in, &a, err));
        }
        a.tu = down;
        a.next = in_place ? a.next : 1 - a.next;
    }
done:
    return st;
}

/* Keep the loss's adjoint at the input of affine unit q, from u at its output. */
static hsgd_status keep_adjoint(const hsgd_pass *pass, int worker, int64_t q, const pass_input *in, const void *u,
                                void *down, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    const unit_plan *plan = &pass->plan[q];
    const hsgd_columns w = weight(pass, plan->layer, in->params, 0);
    const void *filter = w.data;

    if (plan->is_gated) {
        return ops->gated_adjoint_input(pass->backend->self, worker, &plan->gated, in->m, gates(pass, in->choices, q),
                                        1, &u, &filter, down, err);
    }
    return ops->affine_adjoint_input(pass->backend->self, worker, plan->layer, in->m, 1, shared(u), w, shared(down),
                                     false, err);
}

hsgd_status hsgd_pass_base_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, void *state,
                                   hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const pass_input in = {.params = params, .state = state, .choices = state, .m = m, .k = 1};
    adjoints a = {.u = at(state, pass->delta)};

    for (int64_t q = pass->units - 1; q > pass->lowest; q--) {
        if (is_affine(pass->plan[q].layer)) {
            HSGD_TRY(keep_adjoint(pass, worker, q, &in, a.u, at(state, pass->plan[q].adjoint), err));
        }
        HSGD_TRY(base_down(pass, worker, q, &in, &a, err));
    }
done:
    return st;
}
