/* src/study/resample.c - see resample.h. */
#include "study/resample.h"
#include "solve/jackknife.h"
#include "solve/student.h"
#include "study/limits.h"
#include <stdlib.h>
#include <string.h>

/* The loop's own integers, before those of the main result. */
enum { SAVED_MARK, SAVED_DONE, SAVED_PRODUCTS, SAVED_WIDTH, SAVED_REALS, SAVED };

/* In place of the count that a solver's state begins with. */
static const int64_t MARK = -1;

hsgd_status study_resample_check(const study_state *s, hsgd_error *err)
{
    const bool runs = s->extent.pairs > 0 || study_runs(s, HSGD_STAGE_TRACE);
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(
        s->deck->hessian.resample == 0 || s->extent.pairs == 0 ||
            (hsgd_which)s->deck->eigen.which != HSGD_WHICH_MAGNITUDE,
        HSGD_ERR_USAGE, err,
        "hessian.resample: pairs belong together by their order, which changes with the samples where eigen.which = "
        "magnitude mixes both ends; set eigen.which = both, or hessian.resample = 0");
    HSGD_CHECK(!runs || s->deck->hessian.resample <= s->sample_count, HSGD_ERR_USAGE, err,
               "hessian.resample = %lld: there are only %lld studied samples; use at most as many",
               (long long)s->deck->hessian.resample, (long long)s->sample_count);
done:
    return st;
}

/* ---- keeping ---- */

static hsgd_status keep(study_resample *r, hsgd_error *err)
{
    hsgd_vector vectors = {0};
    hsgd_snapshot snapshot = {
        .integers = SAVED + r->integers, .reals = r->reals + r->done * r->width, .integer = r->state, .real = r->real};

    if (r->vectors != NULL) {
        vectors = hsgd_vector_view(r->vectors, 0, r->vectors->columns);
        snapshot.vectors = &vectors;
    }
    r->state[SAVED_DONE] = r->done;
    r->state[SAVED_PRODUCTS] = r->products;
    return hsgd_keeper_keep(r->s->keeper, &snapshot, err);
}

static hsgd_status keep_if_due(study_resample *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool due = false;

    HSGD_TRY(hsgd_keeper_due(r->s->keeper, &due, err));
    if (due) {
        HSGD_TRY(keep(r, err));
    }
done:
    return st;
}

/* Room for all groups behind `reals` of the main result, and for the samples of a solve.  Collective. */
static hsgd_status allocate(study_resample *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *real = realloc(r->real, (size_t)(r->reals + r->groups * r->width) * sizeof *real);

    r->real = real != NULL ? real : r->real;
    r->rest = malloc((size_t)r->s->sample_count * sizeof *r->rest);
    if (real == NULL || r->rest == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold %lld numbers of each of %lld groups of samples",
                            (long long)r->width, (long long)r->groups);
    }
    HSGD_TRY(hsgd_comm_agree(r->s->comm, st, err));
    r->value = r->real + r->reals;
done:
    return st;
}

/* Take up the loop where it was kept.  Collective. */
static hsgd_status take(study_resample *r, hsgd_snapshot *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(x->integers >= SAVED && x->integer[SAVED_DONE] >= 0 && x->integer[SAVED_DONE] <= r->groups &&
                   x->integer[SAVED_WIDTH] >= 1 &&
                   x->reals == x->integer[SAVED_REALS] + x->integer[SAVED_DONE] * x->integer[SAVED_WIDTH],
               HSGD_ERR_DATA, err, "hessian.resample: the state that was kept does not fit these groups; remove it");
    r->done = x->integer[SAVED_DONE];
    r->products = x->integer[SAVED_PRODUCTS];
    r->width = x->integer[SAVED_WIDTH];
    r->reals = x->integer[SAVED_REALS];
    r->integers = x->integers - SAVED;
    r->state = x->integer;
    r->real = x->real;
    r->main = x->vectors;
    r->vectors = x->vectors;
    *x = (hsgd_snapshot){0};
    HSGD_TRY(allocate(r, err));
    r->resumed = true;
done:
    return st;
}

hsgd_status study_resample_open(study_state *s, const hsgd_space *space, study_resample *r, hsgd_error *err)
{
    hsgd_snapshot *found = &r->ahead.state;
    hsgd_status st = HSGD_OK;

    *r = (study_resample){.s = s, .groups = s->deck->hessian.resample};
    if (r->groups == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_keeper_recall_ahead(s->keeper, space, &r->ahead, err));
    if (r->ahead.found && found->integers > 0 && found->integer[SAVED_MARK] == MARK) {
        r->ahead.found = false; /* it is not the main solver's */
        HSGD_TRY(take(r, found, err));
    }
done:
    return st;
}

void study_resample_close(study_resample *r)
{
    hsgd_keeper_ahead_clear(&r->ahead);
    hsgd_vector_destroy(&r->main);
    free(r->state);
    free(r->real);
    free(r->rest);
    free(r->jackknife.values);
    *r = (study_resample){0};
}

const hsgd_keeper *study_resample_keeper(study_resample *r)
{
    return r->groups > 0 && r->s->keeper != NULL ? &r->ahead.face : r->s->keeper;
}

/* ---- the loop ---- */

hsgd_status study_resample_begin(study_resample *r, int64_t width, int64_t integers, int64_t reals,
                                 const hsgd_vector *vectors, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    r->width = width;
    r->integers = integers;
    r->reals = reals;
    r->vectors = vectors;
    r->state = calloc((size_t)(SAVED + integers), sizeof *r->state);
    HSGD_TRY(hsgd_comm_agree(r->s->comm, r->state != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    r->state[SAVED_MARK] = MARK;
    r->state[SAVED_WIDTH] = width;
    r->state[SAVED_REALS] = reals;
    HSGD_TRY(allocate(r, err));
done:
    return st;
}

int64_t *study_resample_integers(const study_resample *r)
{
    return r->state + SAVED;
}

double *study_resample_reals(const study_resample *r)
{
    return r->real;
}

/* One group; asked to stop, it keeps those before.  Collective. */
static hsgd_status run_group(study_resample *r, bool without, study_resample_group group, void *context,
                             hsgd_error *err)
{
    const study_state *s = r->s;
    double *row = r->value + r->done * r->width;
    int64_t low = 0, high = 0;
    hsgd_status st = HSGD_OK;

    hsgd_jackknife_group(s->sample_count, r->groups, r->done, &low, &high);
    if (without) {
        hsgd_jackknife_without(s->sample_count, s->samples, low, high, r->rest);
        st = group(context, r->rest, s->sample_count - (high - low), row, err);
    } else {
        st = group(context, s->samples + low, high - low, row, err);
    }
    if (st == HSGD_STOPPED) {
        hsgd_error kept = {0};

        return hsgd_keeper_stopped(keep(r, &kept), &kept, err);
    }
    r->done += st == HSGD_OK;
    return st;
}

hsgd_status study_resample_run(study_resample *r, bool without, study_resample_group group, void *context,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    while (r->done < r->groups) {
        HSGD_TRY(keep_if_due(r, err));
        HSGD_TRY(run_group(r, without, group, context, err));
    }
done:
    return st;
}

/* ---- what comes of it ---- */

hsgd_status study_jackknife_create(study_resample *r, int64_t count, const double *values, const double *centre,
                                   const double *full, hsgd_error *err)
{
    const double quantile = hsgd_student(r->groups - 1);
    study_jackknife *j = &r->jackknife;
    hsgd_status st = HSGD_OK;

    j->values = malloc((size_t)((r->groups + 4) * count) * sizeof *j->values);
    HSGD_TRY(hsgd_comm_agree(r->s->comm, j->values != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    j->error = j->values + r->groups * count;
    j->bias = j->error + count;
    j->interval = j->bias + count;
    memcpy(j->values, values, (size_t)(r->groups * count) * sizeof *values);
    hsgd_jackknife(r->groups, count, centre, j->values, j->error, j->bias);
    for (int64_t i = 0; i < count; i++) {
        j->interval[2 * i] = full[i] - quantile * j->error[i];
        j->interval[2 * i + 1] = full[i] + quantile * j->error[i];
    }
done:
    return st;
}
