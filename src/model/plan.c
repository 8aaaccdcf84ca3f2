/* src/model/plan.c - lays out states and scratch memory; see plan.h. */
#include "model/plan.h"
#include <stdlib.h>

enum { ALIGN = 64 }; /* bytes: a cache line, and the widest vector register */

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t take(size_t *end, size_t bytes)
{
    const size_t offset = *end;

    *end += round_up(bytes);
    return offset;
}

/* Reals from one column of a group's values to the next. */
static int64_t column_stride(const hsgd_pass *pass, int64_t per_sample)
{
    return (int64_t)(round_up((size_t)(per_sample * pass->samples) * pass->real) / pass->real);
}

static size_t take_values(hsgd_pass *pass, int64_t per_sample)
{
    return take(&pass->state_bytes, (size_t)(pass->samples * per_sample) * pass->real);
}

/* The gated convolution that begins with layer l, and how many layers it has; 0: none, or none that the backend wants. */
static int64_t find_gated(const hsgd_pass *pass, int64_t l, hsgd_gated *gated)
{
    const hsgd_network *net = pass->network;
    const hsgd_backend_ops *ops = pass->backend->ops;
    int64_t end = l + 1;

    if (ops->gates_bytes == NULL || net->layers[l].kind != HSGD_LAYER_CONV) {
        return 0;
    }
    *gated = (hsgd_gated){.conv = &net->layers[l]};
    while (end < net->count) {
        const hsgd_layer *layer = &net->layers[end];

        if (layer->kind == HSGD_LAYER_RELU && !gated->relu) {
            gated->relu = true;
        } else if (layer->kind == HSGD_LAYER_MAXPOOL && gated->pool == NULL) {
            gated->pool = layer;
        } else {
            break;
        }
        end++;
    }
    return gated->pool != NULL && ops->gates_bytes(pass->backend->self, gated, pass->samples) > 0 ? end - l : 0;
}

static void plan_units(hsgd_pass *pass)
{
    const hsgd_network *net = pass->network;
    bool any_gated = false;

    for (int64_t l = 0; l < net->count; pass->units++) {
        unit_plan *plan = &pass->plan[pass->units];
        const int64_t layers = find_gated(pass, l, &plan->gated);

        plan->is_gated = layers > 0;
        plan->layer = &net->layers[l];
        l += plan->is_gated ? layers : 1;
        plan->out = net->layers[l - 1].out;
        any_gated = any_gated || plan->is_gated;
    }
    while (!is_affine(pass->plan[pass->first].layer)) {
        pass->first++; /* the last layer has parameters */
    }
    pass->lowest = pass->units - 1;
    for (int64_t q = pass->units - 1; q >= pass->first; q--) {
        const hsgd_layer *layer = pass->plan[q].layer;

        if ((is_affine(layer) && q > pass->first) || layer->kind == HSGD_LAYER_TANH) {
            pass->lowest = q;
        }
    }
    if (any_gated) {
        pass->columns = 1; /* those kernels take one, whose values then wait in the cache for the next unit */
    }
}

static void plan_state(hsgd_pass *pass)
{
    const hsgd_network *net = pass->network;
    size_t value = take_values(pass, elements(net->input));

    for (int64_t q = 0; q < pass->units; q++) {
        unit_plan *plan = &pass->plan[q];

        plan->in_place = is_elementwise(plan->layer) && q > 0 && !is_elementwise(plan[-1].layer);
        if (!plan->in_place) {
            value = take_values(pass, elements(plan->out));
        }
        plan->value = value;
        if (plan->is_gated) {
            plan->choice = take(&pass->state_bytes,
                                pass->backend->ops->gates_bytes(pass->backend->self, &plan->gated, pass->samples));
        } else if (plan->layer->kind == HSGD_LAYER_MAXPOOL) {
            plan->choice = take(&pass->state_bytes, (size_t)(pass->samples * elements(plan->out)) * sizeof(int32_t));
        }
        if (is_affine(plan->layer) && q > pass->lowest) {
            plan->adjoint = take_values(pass, elements(plan->layer->in));
        }
    }
    pass->probabilities = take_values(pass, net->classes);
    pass->delta = take_values(pass, net->classes);
}

static void plan_scratch(hsgd_pass *pass)
{
    int64_t largest = 0;

    for (int64_t q = pass->first; q < pass->units; q++) {
        unit_plan *plan = &pass->plan[q];

        largest = elements(plan->out) > largest ? elements(plan->out) : largest;
        plan->keeps_tangent = plan->layer->kind == HSGD_LAYER_TANH || (q + 1 < pass->units && is_affine(plan[1].layer));
        if (plan->keeps_tangent) {
            plan->stride = column_stride(pass, elements(plan->out));
            plan->tangent = take(&pass->scratch_bytes, (size_t)(pass->columns * plan->stride) * pass->real);
        }
    }
    pass->work_stride = column_stride(pass, largest);
    for (int i = 0; i < 2; i++) {
        pass->work[i] = take(&pass->scratch_bytes, (size_t)(pass->columns * pass->work_stride) * pass->real);
        pass->base[i] = take(&pass->scratch_bytes, (size_t)pass->work_stride * pass->real);
    }
}

/* All but the scratch memory itself. */
static hsgd_status plan_create(const hsgd_network *network, const hsgd_backend *backend, int64_t samples,
                               int64_t columns, hsgd_pass **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_pass *pass = calloc(1, sizeof *pass);

    *out = NULL;
    HSGD_CHECK(pass != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the passes of the network");
    pass->network = network;
    pass->backend = backend;
    pass->samples = samples;
    pass->columns = columns;
    pass->real = hsgd_real_size(backend->precision);
    pass->plan = calloc((size_t)network->count, sizeof *pass->plan);
    pass->scratch = calloc((size_t)backend->workers, sizeof *pass->scratch);
    HSGD_CHECK(pass->plan != NULL && pass->scratch != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the passes of the network");
    plan_units(pass);
    plan_state(pass);
    plan_scratch(pass);
    *out = pass;
    pass = NULL;
done:
    hsgd_pass_destroy(&pass);
    return st;
}

hsgd_status hsgd_pass_create(const hsgd_network *network, const hsgd_backend *backend, int64_t samples, int64_t columns,
                             hsgd_pass **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_pass *pass = NULL;

    *out = NULL;
    HSGD_TRY(plan_create(network, backend, samples, columns, &pass, err));
    for (int w = 0; w < backend->workers; w++) {
        HSGD_TRY(backend->ops->alloc(backend->self, pass->scratch_bytes, &pass->scratch[w], err));
    }
    *out = pass;
    pass = NULL;
done:
    hsgd_pass_destroy(&pass);
    return st;
}

hsgd_status hsgd_pass_measure(const hsgd_network *network, const hsgd_backend *backend, int64_t samples,
                              int64_t columns, size_t *state, size_t *scratch, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_pass *pass = NULL;

    HSGD_TRY(plan_create(network, backend, samples, columns, &pass, err));
    *state = pass->state_bytes;
    *scratch = pass->scratch_bytes;
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
