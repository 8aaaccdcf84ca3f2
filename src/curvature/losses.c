/* src/curvature/losses.c - the mean loss of a set of samples at several points of the weights in one sweep. */
#include "curvature/sweep.h"
#include <math.h>
#include <stdlib.h>

struct hsgd_losses {
    hsgd_sweep *sweep;
    int64_t count, points;
    int64_t k;     /* points of the sum being formed */
    void *params;  /* backend memory: reals [points][n] */
    double *means; /* [points][HSGD_TALLIES_OF_LOSS] */
};

static hsgd_status create(hsgd_losses *l, const hsgd_problem *problem, const int64_t *index, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_sweep_plan plan = {
        .samples = l->count, .columns = 1, .tallies = l->points * HSGD_TALLIES_OF_LOSS, .states = (int)l->points};

    l->means = calloc((size_t)plan.tallies, sizeof *l->means);
    HSGD_CHECK(l->means != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the losses of several points");
    HSGD_TRY(hsgd_sweep_create(problem, &plan, &l->sweep, err));
    HSGD_TRY(hsgd_sweep_take(l->sweep, l->points * l->sweep->n, hsgd_real_size(problem->backend->precision), &l->params,
                             err));
    HSGD_TRY(hsgd_sweep_select(l->sweep, index, l->count, err));
done:
    return st;
}

hsgd_status hsgd_losses_create(const hsgd_problem *problem, const int64_t *index, int64_t count, int64_t points,
                               hsgd_losses **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_losses *l = NULL;

    *out = NULL;
    HSGD_CHECK(count >= 1, HSGD_ERR_USAGE, err, "samples: the set is empty; give at least one sample");
    HSGD_CHECK(points >= 1, HSGD_ERR_USAGE, err, "losses: %lld points at once; give at least one", (long long)points);
    l = calloc(1, sizeof *l);
    if (l == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the losses of several points");
    } else {
        l->count = count;
        l->points = points;
        st = create(l, problem, index, err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    *out = l;
    l = NULL;
done:
    hsgd_losses_destroy(&l);
    return st;
}

void hsgd_losses_destroy(hsgd_losses **losses)
{
    hsgd_losses *l = losses != NULL ? *losses : NULL;

    if (l == NULL) {
        return;
    }
    if (l->sweep != NULL) {
        const hsgd_backend *backend = l->sweep->problem.backend;

        backend->ops->release(backend->self, l->params);
    }
    hsgd_sweep_destroy(&l->sweep);
    free(l->means);
    free(l);
    *losses = NULL;
}

static hsgd_status losses_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_losses *l = context;
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t taken = l->k * HSGD_TALLIES_OF_LOSS;

    (void)group;
    if (taken < sweep->plan.tallies) { /* an earlier call may have left a NaN there */
        HSGD_TRY(backend->ops->zero(backend->self, worker->id, (size_t)(sweep->plan.tallies - taken) * sizeof(double),
                                    worker->tally + taken, err));
    }
    HSGD_TRY(
        hsgd_pass_losses(sweep->pass, worker->id, l->params, l->k, samples, worker->state, worker->tally, NULL, err));
done:
    return st;
}

static hsgd_status local_losses(hsgd_losses *l, const double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t point = (size_t)l->sweep->n * hsgd_real_size(l->sweep->problem.backend->precision);

    for (int64_t j = 0; j < l->k; j++) {
        HSGD_TRY(hsgd_sweep_upload(l->sweep, weights + j * l->sweep->n, (char *)l->params + (size_t)j * point, err));
    }
    HSGD_TRY(hsgd_sweep_run(l->sweep, losses_group, l, err));
done:
    return st;
}

hsgd_status hsgd_losses_at(hsgd_losses *l, int64_t k, const double *weights, hsgd_loss *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK, local = HSGD_OK;

    HSGD_CHECK(k >= 1 && k <= l->points, HSGD_ERR_USAGE, err, "losses: %lld points at once, where %lld are planned",
               (long long)k, (long long)l->points);
    l->k = k;
    hsgd_sweep_begin(l->sweep, 0);
    local = local_losses(l, weights, err);
    HSGD_TRY(hsgd_sweep_reduce(l->sweep, local, err));
    HSGD_TRY(hsgd_sweep_finish(l->sweep, local, l->means, err));
    for (int64_t j = 0; j < k; j++) {
        const double *means = l->means + j * HSGD_TALLIES_OF_LOSS;

        loss[j] = (hsgd_loss){.loss = means[HSGD_TALLY_LOSS],
                              .accuracy = means[HSGD_TALLY_CORRECT],
                              .correct = llround(means[HSGD_TALLY_CORRECT] * (double)l->count)};
    }
done:
    return st;
}
