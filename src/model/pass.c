/* src/model/pass.c - the chain rule, once: every pass over a network is composed here from the backend's kernels.
 *
 * The gradient is J' delta, with J the derivative of the logits; a Gauss-Newton product is J' S J v, with S the
 * softmax's own Hessian.  A Hessian product is the tangent of the gradient: the same adjoint pass started from S J v,
 * with two more terms at an affine layer and one at a tanh, each a product of a tangent with an adjoint of the loss. */
#include "model/plan.h"

/* What tangent and adjoint passes work from. */
typedef struct {
    const void *params;
    const void *tangents; /* [k][n], or NULL: no second-order terms */
    const void *state;    /* values */
    const void *choices;  /* the state whose ReLU signs and pooling choices hold; mostly the same */
    int64_t m, k;
} pass_input;

/* The memory `bytes` behind `memory`; backend memory is only ever pointed into, never read here. */
static void *at(const void *memory, size_t bytes)
{
    return (char *)memory + bytes;
}

static hsgd_columns shared(const void *memory)
{
    return (hsgd_columns){(void *)memory, 0};
}

static const hsgd_columns none = {NULL, 0};

const void *hsgd_pass_probabilities(const hsgd_pass *pass, const void *state)
{
    return at(state, pass->probabilities);
}

/* Value of place p: the images, or the output of layer p - 1. */
static void *value(const hsgd_pass *pass, const void *state, int64_t p)
{
    return at(state, p == 0 ? 0 : pass->plan[p - 1].value);
}

/* Where a layer's weight (bias) stands in k parameter vectors. */
static hsgd_columns weight(const hsgd_pass *pass, const hsgd_layer *layer, const void *vectors, int64_t stride)
{
    return (hsgd_columns){at(vectors, (size_t)layer->weight * pass->real), stride};
}

static hsgd_columns bias(const hsgd_pass *pass, const hsgd_layer *layer, const void *vectors, int64_t stride)
{
    return (hsgd_columns){at(vectors, (size_t)layer->bias * pass->real), stride};
}

/* ---- values ---- */

/* Layer l at `params`; with `frozen`, ReLU and maxpool are the linear maps that they were in that state. */
static hsgd_status layer_value(const hsgd_pass *pass, int worker, int64_t l, const void *params, int64_t m,
                               const void *frozen, void *state, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const hsgd_columns x = shared(value(pass, state, l)), y = shared(value(pass, state, l + 1));
    const int64_t count = m * elements(layer->out);
    const size_t choice = pass->plan[l].choice;

    switch (layer->kind) {
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_LINEAR:
        return ops->affine_value(self, worker, layer, m, 1, x, weight(pass, layer, params, 0),
                                 bias(pass, layer, params, 0), y, false, err);
    case HSGD_LAYER_RELU:
        if (frozen != NULL) {
            return ops->relu_derivative(self, worker, count, 1, value(pass, frozen, l + 1), x, y, err);
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
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "pass: layer %d is of no known kind", (int)l);
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
    for (int64_t l = 0; l < net->count; l++) {
        HSGD_TRY(layer_value(pass, worker, l, params, group->m, frozen, state, err));
    }
    HSGD_TRY(ops->softmax_loss(self, worker, group->m, net->classes, value(pass, state, net->count), group->labels,
                               group->index, at(state, pass->probabilities), at(state, pass->delta), tally, confusion,
                               err));
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

/* ---- tangents ---- */

/* Tangent of an affine layer, y = W x + b: ty = W tx + V x + vb; at the first layer tx = 0. */
static hsgd_status affine_tangent(const hsgd_pass *pass, int worker, int64_t l, const pass_input *in, hsgd_columns tx,
                                  hsgd_columns ty, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    const hsgd_layer *layer = &pass->network->layers[l];
    const int64_t n = pass->network->parameters;
    const bool inner = l > pass->first;

    if (inner) {
        HSGD_TRY(ops->affine_value(pass->backend->self, worker, layer, in->m, in->k, tx,
                                   weight(pass, layer, in->params, 0), none, ty, false, err));
    }
    HSGD_TRY(ops->affine_value(pass->backend->self, worker, layer, in->m, in->k, shared(value(pass, in->state, l)),
                               weight(pass, layer, in->tangents, n), bias(pass, layer, in->tangents, n), ty, inner,
                               err));
done:
    return st;
}

static hsgd_status layer_tangent(const hsgd_pass *pass, int worker, int64_t l, const pass_input *in, hsgd_columns tx,
                                 hsgd_columns ty, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const void *y = value(pass, in->choices, l + 1);
    const int64_t count = in->m * elements(layer->out);

    switch (layer->kind) {
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_LINEAR:
        return affine_tangent(pass, worker, l, in, tx, ty, err);
    case HSGD_LAYER_RELU:
        return ops->relu_derivative(self, worker, count, in->k, y, tx, ty, err);
    case HSGD_LAYER_TANH:
        return ops->tanh_derivative(self, worker, count, in->k, value(pass, in->state, l + 1), tx, ty, err);
    case HSGD_LAYER_MAXPOOL:
        return ops->maxpool_tangent(self, worker, layer, in->m, in->k, at(in->choices, pass->plan[l].choice), tx, ty,
                                    err);
    case HSGD_LAYER_AVGPOOL:
        return ops->avgpool_value(self, worker, layer, in->m, in->k, tx, ty, err);
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "pass: layer %d is of no known kind", (int)l);
}

static hsgd_columns work(const hsgd_pass *pass, int worker, int which)
{
    return (hsgd_columns){at(pass->scratch[worker], pass->work[which]), pass->work_stride};
}

/* The kept tangents of layer l's output. */
static hsgd_columns kept(const hsgd_pass *pass, int worker, int64_t l)
{
    return (hsgd_columns){at(pass->scratch[worker], pass->plan[l].tangent), pass->plan[l].stride};
}

/* Tangents of all layers for in->k directions; those that the adjoint pass needs are kept.  *logits: theirs. */
static hsgd_status tangent(const hsgd_pass *pass, int worker, const pass_input *in, hsgd_columns *logits,
                           hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_columns from = none;
    int next = 0;

    for (int64_t l = pass->first; l < pass->network->count; l++) {
        hsgd_columns to = work(pass, worker, next);

        if (pass->plan[l].keeps_tangent) {
            to = kept(pass, worker, l);
        } else if (is_elementwise(&pass->network->layers[l]) && !pass->plan[l - 1].keeps_tangent) {
            to = from; /* already in work memory: no need to move it */
        } else {
            next = 1 - next;
        }
        HSGD_TRY(layer_tangent(pass, worker, l, in, from, to, err));
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
static hsgd_status route_back(const hsgd_pass *pass, int worker, int64_t l, const pass_input *in, int64_t k,
                              hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const int64_t count = in->m * elements(layer->out);

    switch (layer->kind) {
    case HSGD_LAYER_RELU:
        return ops->relu_derivative(self, worker, count, k, value(pass, in->choices, l + 1), dy, dx, err);
    case HSGD_LAYER_TANH:
        return ops->tanh_derivative(self, worker, count, k, value(pass, in->state, l + 1), dy, dx, err);
    case HSGD_LAYER_MAXPOOL:
        return ops->maxpool_adjoint(self, worker, layer, in->m, k, at(in->choices, pass->plan[l].choice), dy, dx, err);
    case HSGD_LAYER_AVGPOOL:
        return ops->avgpool_adjoint(self, worker, layer, in->m, k, dy, dx, err);
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_LINEAR:
        break;
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "pass: layer %d has an adjoint of its own", (int)l);
}

/* Take the loss's adjoint down through a layer without parameters. */
static hsgd_status base_down(const hsgd_pass *pass, int worker, int64_t l, const pass_input *in, adjoints *a,
                             hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    void *down = at(pass->scratch[worker], pass->base[a->base_next]);

    HSGD_TRY(route_back(pass, worker, l, in, 1, shared(a->u), shared(down), err));
    a->u = down;
    a->base_next = 1 - a->base_next;
done:
    return st;
}

/* Affine layer, u = adjoint of y = W x + b:  dW = tu x' + u tx', db = tu;  down: W' tu + V' u. */
static hsgd_status affine_down(const hsgd_pass *pass, int worker, int64_t l, const pass_input *in, adjoints *a,
                               void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const int64_t n = pass->network->parameters;
    const hsgd_columns dw = weight(pass, layer, result, n), down = work(pass, worker, a->next);

    HSGD_TRY(ops->affine_adjoint_weight(self, worker, layer, in->m, in->k, a->tu, shared(value(pass, in->state, l)), dw,
                                        bias(pass, layer, result, n), err));
    if (l == pass->first) {
        goto done;
    }
    HSGD_TRY(ops->affine_adjoint_input(self, worker, layer, in->m, in->k, a->tu, weight(pass, layer, in->params, 0),
                                       down, false, err));
    if (in->tangents != NULL) {
        HSGD_TRY(ops->affine_adjoint_weight(self, worker, layer, in->m, in->k, shared(a->u), kept(pass, worker, l - 1),
                                            dw, none, err));
        HSGD_TRY(ops->affine_adjoint_input(self, worker, layer, in->m, in->k, shared(a->u),
                                           weight(pass, layer, in->tangents, n), down, true, err));
        a->u = at(in->state, pass->plan[l].adjoint);
    }
    a->tu = down;
    a->next = 1 - a->next;
done:
    return st;
}

/* ReLU, tanh, pools.  tu is in work memory by now, because the last layer is affine: ReLU and tanh go in place. */
static hsgd_status plain_down(const hsgd_pass *pass, int worker, int64_t l, const pass_input *in, adjoints *a,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_layer *layer = &pass->network->layers[l];
    const bool in_place = is_elementwise(layer);
    const hsgd_columns down = in_place ? a->tu : work(pass, worker, a->next);

    HSGD_TRY(route_back(pass, worker, l, in, in->k, a->tu, down, err));
    if (in->tangents != NULL && layer->kind == HSGD_LAYER_TANH) { /* while u is still the adjoint of the output */
        HSGD_TRY(pass->backend->ops->tanh_second(pass->backend->self, worker, in->m * elements(layer->out), in->k,
                                                 value(pass, in->state, l + 1), kept(pass, worker, l), a->u, down,
                                                 err));
    }
    if (in->tangents != NULL) {
        HSGD_TRY(base_down(pass, worker, l, in, a, err));
    }
    a->tu = down;
    a->next = in_place ? a->next : 1 - a->next;
done:
    return st;
}

/* result[k][n] = J' tu_j for adjoints tu of the logits; with in->tangents also the terms of the second derivative, for
 * the tangents that were kept.  free_work: the work array that does not hold tu. */
static hsgd_status adjoint(const hsgd_pass *pass, int worker, const pass_input *in, hsgd_columns tu, int free_work,
                           void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    adjoints a = {.tu = tu, .u = at(in->state, pass->delta), .next = free_work};

    HSGD_TRY(pass->backend->ops->zero(pass->backend->self, worker,
                                      (size_t)(in->k * pass->network->parameters) * pass->real, result, err));
    for (int64_t l = pass->network->count - 1; l >= pass->first; l--) {
        if (is_affine(&pass->network->layers[l])) {
            HSGD_TRY(affine_down(pass, worker, l, in, &a, result, err));
        } else {
            HSGD_TRY(plain_down(pass, worker, l, in, &a, err));
        }
    }
done:
    return st;
}

hsgd_status hsgd_pass_base_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, void *state,
                                   hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    const pass_input in = {.params = params, .state = state, .choices = state, .m = m, .k = 1};
    adjoints a = {.u = at(state, pass->delta)};

    for (int64_t l = pass->network->count - 1; l > pass->first; l--) {
        const hsgd_layer *layer = &pass->network->layers[l];

        if (is_affine(layer)) {
            void *down = at(state, pass->plan[l].adjoint);

            HSGD_TRY(ops->affine_adjoint_input(pass->backend->self, worker, layer, m, 1, shared(a.u),
                                               weight(pass, layer, params, 0), shared(down), false, err));
            a.u = down;
        } else {
            HSGD_TRY(base_down(pass, worker, l, &in, &a, err));
        }
    }
done:
    return st;
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

    return adjoint(pass, worker, &in, shared(at(state, pass->delta)), 0, gradient, err);
}

hsgd_status hsgd_pass_output_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, int64_t k,
                                     const void *u, const void *state, void *result, hsgd_error *err)
{
    const pass_input in = {.params = params, .state = state, .choices = state, .m = m, .k = k};

    return adjoint(pass, worker, &in, (hsgd_columns){(void *)u, m * pass->network->classes}, 0, result, err);
}

hsgd_status hsgd_pass_products(hsgd_pass *pass, int worker, hsgd_operator kind, const void *params, int64_t m,
                               int64_t k, const void *tangents, const void *state, void *products, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    pass_input in = {.params = params, .tangents = tangents, .state = state, .choices = state, .m = m, .k = k};
    hsgd_columns logits = none, tdelta = none;
    int other = 0;

    HSGD_TRY(tangent(pass, worker, &in, &logits, err));
    other = logits.data == work(pass, worker, 0).data ? 1 : 0;
    tdelta = work(pass, worker, other);
    HSGD_TRY(pass->backend->ops->softmax_tangent(pass->backend->self, worker, m, pass->network->classes, k,
                                                 at(state, pass->probabilities), logits, tdelta, err));
    if (kind == HSGD_OPERATOR_GAUSS_NEWTON) {
        in.tangents = NULL; /* J' S J v: the first derivative alone */
    }
    HSGD_TRY(adjoint(pass, worker, &in, tdelta, 1 - other, products, err));
done:
    return st;
}
