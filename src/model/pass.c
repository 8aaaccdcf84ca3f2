/* src/model/pass.c - the chain rule, once: every pass over a network is composed here from the backend's kernels.
 *
 * Place p stands for a value of the network: place 0 is the images, place l + 1 the output of layer l.  A ReLU or tanh
 * that follows a layer which never looks at its own output again works in place and shares that layer's memory.
 * Nothing before the first layer with parameters depends on them, so tangents start there and adjoints end there. */
#include "model/pass.h"
#include <stdlib.h>

enum { ALIGN = 64 }; /* bytes: a cache line, and the widest vector register */

typedef struct {
    size_t value;       /* byte offset of the output in a state */
    size_t choice;      /* maxpool: byte offset of the choices in a state */
    bool in_place;      /* the output lies over the input */
    bool keeps_tangent; /* the adjoint pass will ask for the output's tangent */
    size_t tangent;     /* its byte offset in a worker's scratch */
    int64_t stride;     /* reals from one column of it to the next */
} layer_plan;

struct hsgd_pass {
    const hsgd_network *network;
    const hsgd_backend *backend;
    size_t real;
    int64_t first;    /* first layer with parameters */
    layer_plan *plan; /* [layers] */
    size_t probabilities, delta, state_bytes;
    size_t work[2], base[2]; /* byte offsets in scratch: two arrays for k columns, two for one, used in turn */
    int64_t work_stride;     /* reals in one column of either */
    size_t scratch_bytes;
    void **scratch; /* [workers] */
};

/* What an adjoint pass works from. */
typedef struct {
    const void *params;
    const void *tangents; /* [k][n], or NULL: no second-order terms */
    const void *state;    /* values */
    const void *choices;  /* the state whose ReLU signs and pooling choices hold; mostly the same */
    int64_t m, k;
} adjoint_input;

static bool elementwise(const hsgd_layer *layer)
{
    return layer->kind == HSGD_LAYER_RELU || layer->kind == HSGD_LAYER_TANH;
}

static int64_t elements(hsgd_shape s)
{
    return s.channels * s.height * s.width;
}

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

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

/* ---- plan ---- */

static int64_t column_stride(const hsgd_pass *pass, int64_t per_sample)
{
    return (int64_t)(round_up((size_t)(per_sample * pass->backend->group) * pass->real) / pass->real);
}

static size_t take(size_t *end, size_t bytes)
{
    const size_t offset = *end;

    *end += round_up(bytes);
    return offset;
}

static void plan_state(hsgd_pass *pass)
{
    const hsgd_network *net = pass->network;
    const int64_t group = pass->backend->group;
    const size_t logits = (size_t)(group * net->classes) * pass->real;
    size_t value = take(&pass->state_bytes, (size_t)(group * elements(net->input)) * pass->real);

    for (int64_t l = 0; l < net->count; l++) {
        const hsgd_layer *layer = &net->layers[l];
        layer_plan *plan = &pass->plan[l];

        plan->in_place = elementwise(layer) && l > 0 && !elementwise(layer - 1);
        if (!plan->in_place) {
            value = take(&pass->state_bytes, (size_t)(group * elements(layer->out)) * pass->real);
        }
        plan->value = value;
        if (layer->kind == HSGD_LAYER_MAXPOOL) {
            plan->choice = take(&pass->state_bytes, (size_t)(group * elements(layer->out)) * sizeof(int32_t));
        }
    }
    pass->probabilities = take(&pass->state_bytes, logits);
    pass->delta = take(&pass->state_bytes, logits);
}

static void plan_scratch(hsgd_pass *pass, int64_t columns)
{
    const hsgd_network *net = pass->network;
    int64_t largest = 0;

    for (int64_t l = pass->first; l < net->count; l++) {
        const hsgd_layer *layer = &net->layers[l];
        layer_plan *plan = &pass->plan[l];

        largest = elements(layer->out) > largest ? elements(layer->out) : largest;
        largest = l > pass->first && elements(layer->in) > largest ? elements(layer->in) : largest;
        plan->keeps_tangent =
            layer->kind == HSGD_LAYER_TANH || (l + 1 < net->count && net->layers[l + 1].weight_count > 0);
        if (plan->keeps_tangent) {
            plan->stride = column_stride(pass, elements(layer->out));
            plan->tangent = take(&pass->scratch_bytes, (size_t)(columns * plan->stride) * pass->real);
        }
    }
    pass->work_stride = column_stride(pass, largest);
    for (int i = 0; i < 2; i++) {
        pass->work[i] = take(&pass->scratch_bytes, (size_t)(columns * pass->work_stride) * pass->real);
        pass->base[i] = take(&pass->scratch_bytes, (size_t)pass->work_stride * pass->real);
    }
}

hsgd_status hsgd_pass_create(const hsgd_network *network, const hsgd_backend *backend, int64_t columns, hsgd_pass **out,
                             hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_pass *pass = calloc(1, sizeof *pass);

    *out = NULL;
    HSGD_CHECK(pass != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the passes of the network");
    pass->network = network;
    pass->backend = backend;
    pass->real = hsgd_real_size(backend->precision);
    pass->plan = calloc((size_t)network->count, sizeof *pass->plan);
    pass->scratch = calloc((size_t)backend->workers, sizeof *pass->scratch);
    HSGD_CHECK(pass->plan != NULL && pass->scratch != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the passes of the network");
    while (network->layers[pass->first].weight_count == 0) {
        pass->first++; /* the last layer has parameters */
    }
    plan_state(pass);
    plan_scratch(pass, columns);
    for (int w = 0; w < backend->workers; w++) {
        HSGD_TRY(backend->ops->alloc(backend->self, pass->scratch_bytes, &pass->scratch[w], err));
    }
    *out = pass;
    pass = NULL;
done:
    hsgd_pass_destroy(&pass);
    return st;
}

void hsgd_pass_destroy(hsgd_pass **pass)
{
    if (pass == NULL || *pass == NULL) {
        return;
    }
    for (int w = 0; (*pass)->scratch != NULL && w < (*pass)->backend->workers; w++) {
        (*pass)->backend->ops->release((*pass)->backend->self, (*pass)->scratch[w]);
    }
    free((*pass)->scratch);
    free((*pass)->plan);
    free(*pass);
    *pass = NULL;
}

size_t hsgd_pass_state_bytes(const hsgd_pass *pass)
{
    return pass->state_bytes;
}

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
                        const void *frozen, void *state, hsgd_group_loss *loss, int64_t *confusion, hsgd_error *err)
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
                               group->index, at(state, pass->probabilities), at(state, pass->delta), loss, confusion,
                               err));
done:
    return st;
}

hsgd_status hsgd_pass_base(hsgd_pass *pass, int worker, const void *params, const hsgd_group *group, void *state,
                           hsgd_group_loss *loss, int64_t *confusion, hsgd_error *err)
{
    return base(pass, worker, params, group, NULL, state, loss, confusion, err);
}

hsgd_status hsgd_pass_base_frozen(hsgd_pass *pass, int worker, const void *params, const hsgd_group *group,
                                  const void *frozen, void *state, hsgd_group_loss *loss, hsgd_error *err)
{
    return base(pass, worker, params, group, frozen, state, loss, NULL, err);
}

/* ---- tangents ---- */

/* Tangent of an affine layer, y = W x + b: ty = W tx + V x + vb; at the first layer tx = 0. */
static hsgd_status affine_tangent(const hsgd_pass *pass, int worker, int64_t l, const adjoint_input *in,
                                  hsgd_columns tx, hsgd_columns ty, hsgd_error *err)
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

static hsgd_status layer_tangent(const hsgd_pass *pass, int worker, int64_t l, const adjoint_input *in, hsgd_columns tx,
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
static hsgd_status tangent(const hsgd_pass *pass, int worker, const adjoint_input *in, hsgd_columns *logits,
                           hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_columns from = none;
    int next = 0;

    for (int64_t l = pass->first; l < pass->network->count; l++) {
        hsgd_columns to = work(pass, worker, next);

        if (pass->plan[l].keeps_tangent) {
            to = kept(pass, worker, l);
        } else if (elementwise(&pass->network->layers[l]) && !pass->plan[l - 1].keeps_tangent) {
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

/* The adjoints on their way down: of the k columns (tu) and, for second-order terms, of the base pass (u). */
typedef struct {
    hsgd_columns tu;
    const void *u;
    int next; /* which of the two work arrays (and base arrays) is free */
} adjoints;

/* Affine layer, u = adjoint of y = W x + b:  dW = tu x' + u tx', db = tu;  down: W' tu + V' u, and W' u. */
static hsgd_status affine_adjoint(const hsgd_pass *pass, int worker, int64_t l, const adjoint_input *in, adjoints *a,
                                  void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const int64_t n = pass->network->parameters;
    const hsgd_columns w = weight(pass, layer, in->params, 0), dw = weight(pass, layer, result, n);
    const hsgd_columns down = work(pass, worker, a->next);
    void *base_down = at(pass->scratch[worker], pass->base[a->next]);

    HSGD_TRY(ops->affine_adjoint_weight(self, worker, layer, in->m, in->k, a->tu, shared(value(pass, in->state, l)), dw,
                                        bias(pass, layer, result, n), err));
    if (l == pass->first) {
        goto done;
    }
    HSGD_TRY(ops->affine_adjoint_input(self, worker, layer, in->m, in->k, a->tu, w, down, false, err));
    if (in->tangents != NULL) {
        HSGD_TRY(ops->affine_adjoint_weight(self, worker, layer, in->m, in->k, shared(a->u), kept(pass, worker, l - 1),
                                            dw, none, err));
        HSGD_TRY(ops->affine_adjoint_input(self, worker, layer, in->m, in->k, shared(a->u),
                                           weight(pass, layer, in->tangents, n), down, true, err));
        HSGD_TRY(
            ops->affine_adjoint_input(self, worker, layer, in->m, 1, shared(a->u), w, shared(base_down), false, err));
    }
    *a = (adjoints){down, base_down, 1 - a->next};
done:
    return st;
}

/* ReLU and tanh, in place: both columns are in work memory by now, because the last layer is affine. */
static hsgd_status elementwise_adjoint(const hsgd_pass *pass, int worker, int64_t l, const adjoint_input *in,
                                       adjoints *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const int64_t count = in->m * elements(layer->out);
    const bool relu = layer->kind == HSGD_LAYER_RELU;
    const void *y = value(pass, relu ? in->choices : in->state, l + 1);
    hsgd_status (*derivative)(void *, int, int64_t, int64_t, const void *, hsgd_columns, hsgd_columns, hsgd_error *) =
        relu ? ops->relu_derivative : ops->tanh_derivative;

    HSGD_TRY(derivative(self, worker, count, in->k, y, a->tu, a->tu, err));
    if (in->tangents != NULL) {
        if (!relu) { /* before u becomes the adjoint of the input */
            HSGD_TRY(ops->tanh_second(self, worker, count, in->k, y, kept(pass, worker, l), a->u, a->tu, err));
        }
        HSGD_TRY(derivative(self, worker, count, 1, y, shared(a->u), shared(a->u), err));
    }
done:
    return st;
}

static hsgd_status pool_adjoint(const hsgd_pass *pass, int worker, int64_t l, const adjoint_input *in, adjoints *a,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    void *self = pass->backend->self;
    const hsgd_layer *layer = &pass->network->layers[l];
    const hsgd_columns down = work(pass, worker, a->next);
    const hsgd_columns base_down = shared(at(pass->scratch[worker], pass->base[a->next]));
    const int32_t *choice = at(in->choices, pass->plan[l].choice);

    if (layer->kind == HSGD_LAYER_MAXPOOL) {
        HSGD_TRY(ops->maxpool_adjoint(self, worker, layer, in->m, in->k, choice, a->tu, down, err));
        if (in->tangents != NULL) {
            HSGD_TRY(ops->maxpool_adjoint(self, worker, layer, in->m, 1, choice, shared(a->u), base_down, err));
        }
    } else {
        HSGD_TRY(ops->avgpool_adjoint(self, worker, layer, in->m, in->k, a->tu, down, err));
        if (in->tangents != NULL) {
            HSGD_TRY(ops->avgpool_adjoint(self, worker, layer, in->m, 1, shared(a->u), base_down, err));
        }
    }
    *a = (adjoints){down, base_down.data, 1 - a->next};
done:
    return st;
}

/* result[k][n] = J' tu_j for adjoints tu of the logits; with in->tangents also the terms of the second derivative, for
 * u = delta and the tangents that were kept.  free_work: the work array that does not hold tu. */
static hsgd_status adjoint(const hsgd_pass *pass, int worker, const adjoint_input *in, hsgd_columns tu, int free_work,
                           void *result, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend_ops *ops = pass->backend->ops;
    adjoints a = {tu, at(in->state, pass->delta), free_work};

    HSGD_TRY(
        ops->zero(pass->backend->self, worker, (size_t)(in->k * pass->network->parameters) * pass->real, result, err));
    for (int64_t l = pass->network->count - 1; l >= pass->first; l--) {
        const hsgd_layer *layer = &pass->network->layers[l];

        if (layer->weight_count > 0) {
            HSGD_TRY(affine_adjoint(pass, worker, l, in, &a, result, err));
        } else if (elementwise(layer)) {
            HSGD_TRY(elementwise_adjoint(pass, worker, l, in, &a, err));
        } else {
            HSGD_TRY(pool_adjoint(pass, worker, l, in, &a, err));
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
    const adjoint_input in = {.params = params, .state = state, .choices = frozen, .m = m, .k = 1};

    return adjoint(pass, worker, &in, shared(at(state, pass->delta)), 0, gradient, err);
}

hsgd_status hsgd_pass_output_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, int64_t k,
                                     const void *u, const void *state, void *result, hsgd_error *err)
{
    const adjoint_input in = {.params = params, .state = state, .choices = state, .m = m, .k = k};

    return adjoint(pass, worker, &in, (hsgd_columns){(void *)u, m * pass->network->classes}, 0, result, err);
}

hsgd_status hsgd_pass_products(hsgd_pass *pass, int worker, hsgd_operator kind, const void *params, int64_t m,
                               int64_t k, const void *tangents, const void *state, void *products, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    adjoint_input in = {.params = params, .tangents = tangents, .state = state, .choices = state, .m = m, .k = k};
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
