/* src/curvature/network_objective.c - the network's mean cross-entropy: of batches for the optimiser, of a whole set
 * for evaluation, and with frozen choices for finite differences. */
#include "curvature/sweep.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)HSGD_OUTCOME_LOSS == HSGD_TALLY_LOSS && (int)HSGD_OUTCOME_ACCURACY == HSGD_TALLY_CORRECT &&
                   (int)HSGD_OUTCOME_FAILED == HSGD_TALLIES_OF_LOSS && HSGD_OUTCOMES == HSGD_TALLIES_OF_LOSS + 2,
               "an outcome is what a sweep leaves: the means of the loss's tallies, failures, trouble");

/* ---- batches ---- */

typedef struct {
    hsgd_sweep *sweep;
    hsgd_comm *comm;
    hsgd_error failed; /* the first failure of this rank's share that nobody has been told of */
} network_objective;

static hsgd_status batch_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                               const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    (void)context, (void)group;
    if (sweep->width == 0) {
        return hsgd_pass_losses(sweep->pass, worker->id, sweep->params, 1, samples, worker->state, worker->tally, NULL,
                                err);
    }
    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, samples, worker->state, worker->tally, NULL, err));
    HSGD_TRY(
        hsgd_pass_gradient(sweep->pass, worker->id, sweep->params, samples->m, worker->state, worker->result, err));
done:
    return st;
}

static hsgd_status batch_local(network_objective *f, const hsgd_vector *weights, const int64_t *index, int64_t count,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_sweep *sweep = f->sweep;
    const hsgd_backend *backend = sweep->problem.backend;

    HSGD_TRY(hsgd_sweep_select(sweep, index, count, err));
    HSGD_TRY(backend->ops->narrow(backend->self, sweep->n, 1, weights->data, sweep->order, NULL, sweep->params, err));
    HSGD_TRY(hsgd_sweep_run(sweep, batch_group, NULL, err));
done:
    return st;
}

static hsgd_status begin_batch(void *self, const hsgd_vector *weights, const int64_t *index, int64_t count,
                               hsgd_vector *gradient, double *outcome, hsgd_error *err)
{
    hsgd_status st = HSGD_OK, local = HSGD_OK;
    network_objective *f = self;
    const hsgd_backend *backend = f->sweep->problem.backend;
    hsgd_error own = {0};

    hsgd_sweep_begin(f->sweep, gradient == NULL ? 0 : 1);
    local = batch_local(f, weights, index, count, &own);
    if (local != HSGD_OK && f->failed.status == HSGD_OK) {
        own.status = local;
        f->failed = own;
    }
    HSGD_TRY(hsgd_sweep_reduce(f->sweep, local, err));
    if (gradient != NULL) {
        HSGD_TRY(backend->ops->copy(backend->self, 0, (size_t)f->sweep->n * sizeof(double), hsgd_sweep_vector(f->sweep),
                                    gradient->data, err));
    }
    HSGD_TRY(backend->ops->copy(backend->self, 0, HSGD_OUTCOMES * sizeof *outcome, hsgd_sweep_outcome(f->sweep),
                                outcome, err));
done:
    return st;
}

static hsgd_status batch_failure(void *self, hsgd_error *err)
{
    network_objective *f = self;
    const hsgd_status mine = f->failed.status;

    if (mine != HSGD_OK) {
        (void)hsgd_error_set(err, mine, "%s", f->failed.text);
    }
    f->failed = (hsgd_error){0};
    return hsgd_comm_agree(f->comm, mine, err);
}

static void destroy_objective(void *self)
{
    network_objective *f = self;

    hsgd_sweep_destroy(&f->sweep);
    free(f);
}

static const hsgd_objective_ops network_ops = {
    .begin = begin_batch, .failure = batch_failure, .destroy = destroy_objective};

hsgd_status hsgd_network_objective_create(const hsgd_problem *problem, const hsgd_space *space, int64_t samples,
                                          hsgd_objective **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_sweep_plan plan = {
        .samples = samples, .columns = 1, .width = 1, .tallies = HSGD_TALLIES_OF_LOSS, .states = 1};
    hsgd_objective *objective = calloc(1, sizeof *objective);
    network_objective *f = calloc(1, sizeof *f);

    *out = NULL;
    HSGD_CHECK(objective != NULL && f != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the objective");
    f->comm = problem->comm;
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

/* Reduce, wait, and tell the loss. */
static hsgd_status finish(hsgd_sweep *sweep, hsgd_status local, int64_t count, hsgd_loss *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double means[HSGD_TALLIES_OF_LOSS] = {0};

    HSGD_TRY(hsgd_sweep_reduce(sweep, local, err));
    HSGD_TRY(hsgd_sweep_finish(sweep, local, means, err));
    *loss = (hsgd_loss){.loss = means[HSGD_TALLY_LOSS],
                        .accuracy = means[HSGD_TALLY_CORRECT],
                        .correct = llround(means[HSGD_TALLY_CORRECT] * (double)count)};
done:
    return st;
}

/* Each worker counts for itself. */
typedef struct {
    int64_t *counts; /* [workers][classes][classes], backend memory */
    int64_t square;
} confusion_counts;

static hsgd_status evaluate_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                  const hsgd_group *samples, hsgd_error *err)
{
    const confusion_counts *confusion = context;

    (void)group;
    return hsgd_pass_losses(sweep->pass, worker->id, sweep->params, 1, samples, worker->state, worker->tally,
                            confusion->counts + worker->id * confusion->square, err);
}

static hsgd_status evaluate_local(hsgd_sweep *sweep, const double *weights, const int64_t *index, int64_t count,
                                  confusion_counts *confusion, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_select(sweep, index, count, err));
    HSGD_TRY(hsgd_sweep_upload(sweep, weights, sweep->params, err));
    HSGD_TRY(hsgd_sweep_run(sweep, evaluate_group, confusion, err));
done:
    return st;
}

/* The workers' counts into `out`, summed over the ranks.  Collective. */
static hsgd_status sum_confusion(const hsgd_problem *problem, const confusion_counts *confusion, int64_t *out,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = problem->backend;
    const size_t all = (size_t)(backend->workers * confusion->square) * sizeof *out;
    int64_t *counts = malloc(all);

    st = counts != NULL ? HSGD_OK : hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot read the confusion counts");
    if (st == HSGD_OK) {
        st = backend->ops->download(backend->self, all, confusion->counts, counts, err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    memset(out, 0, (size_t)confusion->square * sizeof *out);
    for (int64_t i = 0; i < backend->workers * confusion->square; i++) {
        out[i % confusion->square] += counts[i];
    }
    HSGD_TRY(hsgd_comm_sum(problem->comm, HSGD_TYPE_I64, confusion->square, out, err));
done:
    free(counts);
    return st;
}

hsgd_status hsgd_network_evaluate(const hsgd_problem *problem, const double *weights, const int64_t *index,
                                  int64_t count, hsgd_loss *loss, int64_t *confusion, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = problem->backend;
    const hsgd_sweep_plan plan = {.samples = count, .columns = 1, .tallies = HSGD_TALLIES_OF_LOSS, .states = 1};
    confusion_counts counts = {.square = problem->network->classes * problem->network->classes};
    hsgd_sweep *sweep = NULL;
    void *memory = NULL;

    HSGD_CHECK(count >= 1, HSGD_ERR_USAGE, err, "samples: the set is empty; give at least one sample");
    st = backend->ops->alloc(backend->self, (size_t)(backend->workers * counts.square) * sizeof(int64_t), &memory, err);
    if (st == HSGD_OK) {
        counts.counts = memory;
        st = hsgd_sweep_create(problem, &plan, &sweep, err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    hsgd_sweep_begin(sweep, 0);
    st = evaluate_local(sweep, weights, index, count, &counts, err);
    HSGD_TRY(finish(sweep, st, count, loss, err));
    if (confusion != NULL) {
        HSGD_TRY(sum_confusion(problem, &counts, confusion, err));
    }
done:
    hsgd_sweep_destroy(&sweep);
    backend->ops->release(backend->self, memory);
    return st;
}

/* ---- frozen choices ---- */

static hsgd_status frozen_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const void *frozen_params = context;
    void *frozen = worker->state, *state = (char *)worker->state + hsgd_pass_state_bytes(sweep->pass);

    (void)group;
    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, frozen_params, samples, frozen, worker->loss, NULL, err));
    HSGD_TRY(hsgd_pass_base_frozen(sweep->pass, worker->id, sweep->params, samples, frozen, state, worker->tally, err));
    HSGD_TRY(hsgd_pass_gradient_frozen(sweep->pass, worker->id, sweep->params, samples->m, frozen, state,
                                       worker->result, err));
done:
    return st;
}

static hsgd_status frozen_local(hsgd_sweep *sweep, const double *weights, const double *frozen_at, const int64_t *index,
                                int64_t count, void *frozen_params, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_select(sweep, index, count, err));
    HSGD_TRY(hsgd_sweep_upload(sweep, weights, sweep->params, err));
    HSGD_TRY(hsgd_sweep_upload(sweep, frozen_at, frozen_params, err));
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
    const hsgd_sweep_plan plan = {
        .samples = count, .columns = 1, .width = 1, .tallies = HSGD_TALLIES_OF_LOSS, .states = 2};
    hsgd_sweep *sweep = NULL;
    void *frozen_params = NULL;

    HSGD_CHECK(count >= 1, HSGD_ERR_USAGE, err, "samples: the set is empty; give at least one sample");
    st = hsgd_sweep_create(problem, &plan, &sweep, err);
    if (st == HSGD_OK) {
        st = backend->ops->alloc(backend->self, (size_t)sweep->n * hsgd_real_size(backend->precision), &frozen_params,
                                 err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    hsgd_sweep_begin(sweep, 1);
    st = frozen_local(sweep, weights, frozen_at, index, count, frozen_params, err);
    HSGD_TRY(finish(sweep, st, count, loss, err));
    HSGD_TRY(backend->ops->download(backend->self, (size_t)sweep->n * sizeof *gradient, hsgd_sweep_vector(sweep),
                                    gradient, err));
done:
    backend->ops->release(backend->self, frozen_params);
    hsgd_sweep_destroy(&sweep);
    return st;
}
