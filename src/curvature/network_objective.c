/* src/curvature/network_objective.c - the network's mean cross-entropy: of batches for the optimiser, of a whole set
 * for evaluation, and with frozen choices for finite differences. */
#include "curvature/sweep.h"
#include <stdlib.h>
#include <string.h>

/* ---- batches ---- */

typedef struct {
    hsgd_sweep *sweep;
    double *host; /* [n]: weights on the way in, gradient on the way out */
} network_objective;

static hsgd_status batch_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                               const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_group_loss loss = {0};

    (void)context, (void)group;
    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, samples, worker->state, &loss, NULL, err));
    if (sweep->width > 0) {
        HSGD_TRY(
            hsgd_pass_gradient(sweep->pass, worker->id, sweep->params, samples->m, worker->state, worker->result, err));
    }
    hsgd_sweep_put_loss(worker, &loss);
done:
    return st;
}

static hsgd_status batch_local(network_objective *f, const hsgd_vector *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_get_local(weights, f->host, err));
    HSGD_TRY(hsgd_sweep_upload(f->sweep, 1, f->host, f->sweep->params, err));
    HSGD_TRY(hsgd_sweep_run(f->sweep, batch_group, NULL, err));
done:
    return st;
}

static hsgd_status evaluate_batch(void *self, const hsgd_vector *weights, const int64_t *index, int64_t count,
                                  hsgd_vector *gradient, hsgd_loss *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    network_objective *f = self;

    HSGD_TRY(hsgd_sweep_begin(f->sweep, index, count, gradient == NULL ? 0 : 1, err));
    HSGD_TRY(hsgd_sweep_reduce(f->sweep, batch_local(f, weights, err), err));
    *loss = hsgd_sweep_loss(f->sweep);
    if (gradient != NULL) {
        hsgd_sweep_mean(f->sweep, f->host);
        HSGD_TRY(hsgd_vector_set_local(gradient, f->host, err));
    }
done:
    return st;
}

static void destroy_objective(void *self)
{
    network_objective *f = self;

    hsgd_sweep_destroy(&f->sweep);
    free(f->host);
    free(f);
}

static const hsgd_objective_ops network_ops = {.evaluate = evaluate_batch, .destroy = destroy_objective};

hsgd_status hsgd_network_objective_create(const hsgd_problem *problem, const hsgd_space *space, hsgd_objective **out,
                                          hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_sweep_plan plan = {.columns = 1, .width = 1, .tallies = HSGD_TALLIES_OF_LOSS, .states = 1};
    hsgd_objective *objective = calloc(1, sizeof *objective);
    network_objective *f = calloc(1, sizeof *f);

    *out = NULL;
    HSGD_CHECK(objective != NULL && f != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the objective");
    f->host = malloc((size_t)problem->network->parameters * sizeof *f->host);
    HSGD_CHECK(f->host != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the objective");
    HSGD_TRY(hsgd_sweep_create(problem, &plan, &f->sweep, err));
    *objective = (hsgd_objective){.ops = &network_ops, .self = f, .space = space};
    *out = objective;
    objective = NULL;
    f = NULL;
done:
    if (f != NULL) {
        destroy_objective(f);
    }
    free(objective);
    return st;
}

void hsgd_objective_destroy(hsgd_objective **objective)
{
    if (objective == NULL || *objective == NULL) {
        return;
    }
    if ((*objective)->ops->destroy != NULL) {
        (*objective)->ops->destroy((*objective)->self);
    }
    free(*objective);
    *objective = NULL;
}

/* ---- a whole set ---- */

/* Each worker counts for itself. */
typedef struct {
    int64_t *counts; /* [workers][classes][classes] */
    int64_t square;
} confusion_counts;

static hsgd_status evaluate_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                  const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const confusion_counts *confusion = context;
    hsgd_group_loss loss = {0};

    (void)group;
    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, samples, worker->state, &loss,
                            confusion->counts + worker->id * confusion->square, err));
    hsgd_sweep_put_loss(worker, &loss);
done:
    return st;
}

static hsgd_status evaluate_local(hsgd_sweep *sweep, const double *weights, confusion_counts *confusion,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_upload(sweep, 1, weights, sweep->params, err));
    HSGD_TRY(hsgd_sweep_run(sweep, evaluate_group, confusion, err));
done:
    return st;
}

/* The workers' counts into `out`, summed over the ranks.  Collective. */
static hsgd_status sum_confusion(const hsgd_problem *problem, const confusion_counts *confusion, int64_t *out,
                                 hsgd_error *err)
{
    memset(out, 0, (size_t)confusion->square * sizeof *out);
    for (int64_t i = 0; i < problem->backend->workers * confusion->square; i++) {
        out[i % confusion->square] += confusion->counts[i];
    }
    return hsgd_comm_sum(problem->comm, HSGD_TYPE_I64, confusion->square, out, err);
}

hsgd_status hsgd_network_evaluate(const hsgd_problem *problem, const double *weights, const int64_t *index,
                                  int64_t count, hsgd_loss *loss, int64_t *confusion, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_sweep_plan plan = {.columns = 1, .tallies = HSGD_TALLIES_OF_LOSS, .states = 1};
    confusion_counts counts = {.square = problem->network->classes * problem->network->classes};
    hsgd_sweep *sweep = NULL;

    counts.counts = calloc((size_t)(problem->backend->workers * counts.square), sizeof *counts.counts);
    st = counts.counts == NULL ? hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the confusion counts")
                               : hsgd_sweep_create(problem, &plan, &sweep, err);
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    HSGD_TRY(hsgd_sweep_begin(sweep, index, count, 0, err));
    HSGD_TRY(hsgd_sweep_reduce(sweep, evaluate_local(sweep, weights, &counts, err), err));
    *loss = hsgd_sweep_loss(sweep);
    if (confusion != NULL) {
        HSGD_TRY(sum_confusion(problem, &counts, confusion, err));
    }
done:
    hsgd_sweep_destroy(&sweep);
    free(counts.counts);
    return st;
}

/* ---- frozen choices ---- */

static hsgd_status frozen_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const void *frozen_params = context;
    void *frozen = worker->state, *state = (char *)worker->state + hsgd_pass_state_bytes(sweep->pass);
    hsgd_group_loss loss = {0};

    (void)group;
    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, frozen_params, samples, frozen, &loss, NULL, err));
    HSGD_TRY(hsgd_pass_base_frozen(sweep->pass, worker->id, sweep->params, samples, frozen, state, &loss, err));
    HSGD_TRY(hsgd_pass_gradient_frozen(sweep->pass, worker->id, sweep->params, samples->m, frozen, state,
                                       worker->result, err));
    hsgd_sweep_put_loss(worker, &loss);
done:
    return st;
}

static hsgd_status frozen_local(hsgd_sweep *sweep, const double *weights, const double *frozen_at, void *frozen_params,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_upload(sweep, 1, weights, sweep->params, err));
    HSGD_TRY(hsgd_sweep_upload(sweep, 1, frozen_at, frozen_params, err));
    HSGD_TRY(hsgd_sweep_run(sweep, frozen_group, frozen_params, err));
done:
    return st;
}

hsgd_status hsgd_frozen_gradient(const hsgd_problem *problem, const double *weights, const double *frozen_at,
                                 const int64_t *index, int64_t count, double *gradient, hsgd_loss *loss,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = problem->backend;
    const hsgd_sweep_plan plan = {.columns = 1, .width = 1, .tallies = HSGD_TALLIES_OF_LOSS, .states = 2};
    hsgd_sweep *sweep = NULL;
    void *frozen_params = NULL;

    st = hsgd_sweep_create(problem, &plan, &sweep, err);
    if (st == HSGD_OK) {
        st = backend->ops->alloc(backend->self, (size_t)sweep->n * hsgd_real_size(backend->precision), &frozen_params,
                                 err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    HSGD_TRY(hsgd_sweep_begin(sweep, index, count, 1, err));
    HSGD_TRY(hsgd_sweep_reduce(sweep, frozen_local(sweep, weights, frozen_at, frozen_params, err), err));
    hsgd_sweep_mean(sweep, gradient);
    *loss = hsgd_sweep_loss(sweep);
done:
    backend->ops->release(backend->self, frozen_params);
    hsgd_sweep_destroy(&sweep);
    return st;
}
