/* src/study/memory.c - what a study takes of the host's memory and of its device's, and what is left for base passes. */
#include "data/batch.h"
#include "solve/eigen.h"
#include "solve/quadrature.h"
#include "study/limits.h"
#include "study/probe_groups.h"
#include "study/selection.h"
#include <math.h>
#include <unistd.h>

static const double MIB = 1048576.0;

enum { COLUMNS = 8 }; /* vectors in one product: the default */

/* Bytes of a device left to what cannot be counted: CUDA's libraries load kernels when these are first used, cuDNN and
 * NCCL take buffers of their own.  That is some hundred MiB whatever the card; small ones give what they can. */
static double spare_of(double total)
{
    const double share = total / 16.0;

    return fmax(64.0 * MIB, fmin(1024.0 * MIB, share));
}

static double images_of(const study_state *s)
{
    const hsgd_split *train = &s->data->train;

    return (double)(train->count + s->data->test.count) * (double)(train->height * train->width + 1);
}

/* Bytes of one number in a sum: see base/sum.h. */
static double word_bytes(const study_state *s)
{
    return s->deck->run.reduction == 0 ? 16.0 : 8.0;
}

/* A sweep over `samples` samples that sums `width` vectors, `columns` at a time, on so many ranks, with `states` base
 * states a worker; *state: of one group. */
static hsgd_status sweep_bytes(const study_state *s, int ranks, int64_t samples, int64_t columns, int64_t width,
                               int states, double *bytes, double *state, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = s->backend;
    const int64_t group = hsgd_backend_group(backend, (hsgd_reduction)s->deck->run.reduction, samples, ranks);
    const double n = (double)s->n, real = (double)hsgd_real_size(backend->precision), sum = word_bytes(s);
    size_t one_state = 0, scratch = 0;

    HSGD_TRY(hsgd_pass_measure(s->network, backend, group, columns, &one_state, &scratch, err));
    *state = (double)one_state;
    *bytes = (double)backend->workers * ((double)states * *state + (double)scratch + (double)width * n * (real + sum)) +
             (double)width * n * sum + n * (real + 56.0) + 8.0 * (double)samples;
done:
    return st;
}

/* Vectors of the trace by probing: probes and products, a column by layers, and the sketch. */
static double trace_vectors(const study_state *s)
{
    const int64_t third = s->deck->trace.probes / 3;
    const int64_t columns_by_layers = s->parts;

    if (!study_runs(s, HSGD_STAGE_TRACE) || study_trace_is_exact(s)) {
        return 0.0;
    }
    return 2.0 * COLUMNS + 1.0 + (double)columns_by_layers +
           (study_trace_is_sketched(s) ? (double)(third < s->m ? third : s->m) : 0.0);
}

/* Vectors of the density that a group of ranks holds. */
static double density_vectors(const study_state *s)
{
    const hsgd_deck *deck = s->deck;
    const int64_t probes = s->extent.probes, share = (probes + s->groups - 1) / s->groups;
    const int64_t together = hsgd_quadrature_block(deck->density.block, share);
    const int64_t held = s->extent.deflates ? s->extent.pairs : 0;
    const int64_t lanczos = s->extent.steps < s->m ? s->extent.steps : s->m;

    return study_runs(s, HSGD_STAGE_DENSITY) ? (double)(together * (lanczos + 3 + held) + 2 * held + 1) : 0.0;
}

/* Most vectors of the studied rows that another stage holds spread over all ranks. */
static double spread_vectors(const study_state *s)
{
    const study_extent *e = &s->extent;
    const hsgd_deck *deck = s->deck;
    const hsgd_eigen_options options = {.count = study_eigen_count(s),
                                        .which = (hsgd_which)deck->eigen.which,
                                        .max_products = deck->eigen.max_products,
                                        .basis = deck->eigen.basis,
                                        .block = deck->eigen.block};
    const int64_t held = deck->hessian.resample > 0 ? 2 * e->pairs + deck->eigen.block + 2 : 0; /* and start vectors */
    const double eigen = e->pairs > 0 ? (double)(hsgd_lanczos_eigen_vectors(&options, s->m) + held) : 0.0;
    const double hvp = 2.0 * (double)e->vectors;

    return fmax(eigen, fmax(hvp, trace_vectors(s)));
}

/* Most vectors of the studied rows that a measurement along the training holds: its basis beside the vectors that it
 * starts from, then the pairs beside the probes of the trace. */
static double curvature_vectors(const study_state *s)
{
    const int64_t pairs = s->extent.curvature;
    const hsgd_eigen_options options = {
        .count = pairs, .which = HSGD_WHICH_LARGEST, .max_products = s->deck->eigen.max_products, .block = pairs};
    const double search = (double)(hsgd_lanczos_eigen_vectors(&options, s->m) + pairs);

    return fmax(search, (double)pairs + 2.0 * COLUMNS + 1.0);
}

double study_state_vectors(const study_state *s)
{
    return fmax(spread_vectors(s), s->groups * density_vectors(s)); /* of all groups: see probe_catch.h */
}

/* Whole vectors on the host: weights, gradients, given vectors, directions, columns on their way into a block and back. */
static double host_vectors(const study_state *s)
{
    const study_extent *e = &s->extent;
    const double given = (double)(e->vectors + e->file_vectors + (e->eigenvectors || e->deflates ? e->pairs : 0) +
                                  e->lines + e->axes + e->curvature) +
                         (study_runs(s, HSGD_STAGE_DENSITY) && study_start_is_given(s) ? (double)e->probes : 0.0);

    return 8.0 * (double)s->n * (given + 10.0) + (selection_is_block(s) ? 8.0 * COLUMNS * (double)(s->n + s->m) : 0.0);
}

/* The density's nodes, and with those of the deflated pairs what is made of them: see density.c. */
static double node_bytes(const study_state *s)
{
    const study_extent *e = &s->extent;
    const double own = (double)e->probes * (double)e->steps;
    const double all = (double)e->probes * (double)(e->steps + (e->deflates ? e->pairs : 0));

    return study_runs(s, HSGD_STAGE_DENSITY) ? 8.0 * (2.0 * own + 5.0 * all) : 0.0;
}

/* Rows of a space over so many ranks that one of them holds. */
static double rows_of(const hsgd_space *space, int rank, int ranks)
{
    int64_t from, to;

    hsgd_share(space->blocks, rank, ranks, &from, &to);
    return fmin((double)space->n, (double)((to - from) * space->block));
}

/* An operator over the ranks [low, high), with `count` vectors spread over them: what this rank takes at most. */
static hsgd_status add_operator(const study_state *s, int low, int high, double count, study_memory *need,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_reduction reduction = (hsgd_reduction)s->deck->run.reduction;
    const int rank = s->comm->rank - low, ranks = high - low;
    const double n = (double)s->n, real = (double)hsgd_real_size(s->backend->precision);
    const hsgd_groups groups = hsgd_groups_deal(
        s->sample_count, hsgd_backend_group(s->backend, reduction, s->sample_count, ranks), rank, ranks);
    double products = 0.0, state = 0.0;

    HSGD_TRY(sweep_bytes(s, ranks, s->sample_count, COLUMNS, COLUMNS, 1, &products, &state, err));
    /* sums packed and received, two orders of packing, columns and tangents */
    products += COLUMNS * n * (4.0 * word_bytes(s) + 8.0 + real);
    if (selection_is_block(s)) { /* columns on their way into the whole and back */
        products += 8.0 * COLUMNS * 2.0 * rows_of(s->spread, rank, ranks);
    }
    need->operator_ = fmax(need->operator_, products + 8.0 * rows_of(s->studied, rank, ranks) * (count + 4.0));
    need->kept = fmax(need->kept, (double)(groups.high - groups.low) * state);
done:
    return st;
}

/* A training, *bytes, and the operator of its measurements beside it. */
static hsgd_status add_training(const study_state *s, study_memory *need, double *bytes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int ranks = s->comm->ranks;
    const int64_t count = s->data->train.count, batch = s->deck->train.batch < count ? s->deck->train.batch : count;
    study_memory along = {0};
    double state = 0.0;

    *bytes = 0.0;
    if (study_runs(s, HSGD_STAGE_TRAIN)) {
        HSGD_TRY(sweep_bytes(s, ranks, batch, 1, 1, 1, bytes, &state, err));
        *bytes += 6.0 * 8.0 * (double)s->n;
    }
    if (s->extent.curvature > 0) {
        HSGD_TRY(add_operator(s, 0, ranks, curvature_vectors(s), &along, err));
        *bytes += along.operator_;
        need->operator_ = fmax(need->operator_, along.operator_);
        need->kept = fmax(need->kept, along.kept);
    }
done:
    return st;
}

hsgd_status study_memory_need(const study_state *s, study_memory *need, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int ranks = s->comm->ranks;
    double training = 0.0, tests = 0.0, lines = 0.0, state = 0.0, most = 0.0;
    int low = 0, high = ranks;

    *need = (study_memory){.images = images_of(s), .nodes = node_bytes(s)};
    need->host = host_vectors(s) + need->nodes;
    HSGD_TRY(add_training(s, need, &training, err));
    if (study_runs(s, HSGD_STAGE_TRAIN) || study_runs(s, HSGD_STAGE_EVALUATE)) {
        HSGD_TRY(sweep_bytes(s, ranks, s->data->test.count, 1, 1, 1, &tests, &state, err)); /* also during training */
    }
    if (s->sample_count > 0) {
        HSGD_TRY(add_operator(s, low, high, spread_vectors(s), need, err));
        (void)study_group_of(s->comm, s->groups, &low, &high);
        HSGD_TRY(add_operator(s, low, high, density_vectors(s), need, err));
    }
    if (study_runs(s, HSGD_STAGE_LANDSCAPE)) {
        HSGD_TRY(sweep_bytes(s, ranks, s->sample_count, 1, 0, STUDY_POINTS, &lines, &state, err));
        lines += STUDY_POINTS * (double)s->n * (double)hsgd_real_size(s->backend->precision);
    }
    most = fmax(training + tests, fmax(need->operator_, lines));
    *(s->backend->host_memory ? &need->host : &need->device) += most;
    need->device += s->backend->host_memory ? 0.0 : need->images;
done:
    return st;
}

hsgd_status study_memory_free(const study_state *s, double *free, double *total, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = s->backend;
    const double page = (double)sysconf(_SC_PAGESIZE);
    size_t device_free = 0, device_total = 0;

    if (backend->host_memory) {
        *free = page * (double)sysconf(_SC_AVPHYS_PAGES);
        *total = page * (double)sysconf(_SC_PHYS_PAGES);
    } else {
        HSGD_TRY(backend->ops->memory(backend->self, &device_free, &device_total, err));
        *free = (double)device_free;
        *total = (double)device_total;
    }
done:
    return st;
}

hsgd_status study_memory_fits(const study_state *s, bool *fits, bool *kept, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_memory need = {0};
    double free = 0.0, total = 0.0;
    size_t room = 0;

    HSGD_TRY(study_memory_need(s, &need, err));
    HSGD_TRY(study_memory_free(s, &free, &total, err));
    HSGD_TRY(study_cache_bytes(s, &room, err));
    *fits = s->backend->host_memory || s->sharers * (need.device + spare_of(total)) <= free;
    *kept = need.kept <= (double)room;
done:
    return st;
}

hsgd_status study_memory_check(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_memory need = {0};
    double free = 0.0, total = 0.0;

    if (s->backend->host_memory) {
        return HSGD_OK; /* what is free on a host changes from minute to minute; --dry-run compares with all there is */
    }
    st = study_memory_need(s, &need, err);
    if (st == HSGD_OK) {
        st = study_memory_free(s, &free, &total, err);
    }
    if (st == HSGD_OK && s->sharers * (need.device + spare_of(total)) > free) {
        st = hsgd_error_set(
            err, HSGD_ERR_MEMORY,
            "memory: this study needs about %.0f MiB of the %s (%s) of rank %d, without kept base passes, "
            "but %.0f of its %.0f MiB are free for %d ranks; lower eigen.basis, or "
            "use more GPUs",
            need.device / MIB, s->backend->device, s->backend->place, s->comm->rank, free / MIB, total / MIB,
            s->sharers);
    }
    return hsgd_comm_agree(s->comm, st, err);
}

/* No bit of any result depends on what is kept, so memory may decide: of a host half of what is free; of a device, which
 * nobody else uses, what the operator and the vectors leave. */
hsgd_status study_cache_bytes(const study_state *s, size_t *bytes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const bool host = s->backend->host_memory;
    const double asked = (double)s->deck->cache_bytes;
    double free = 0.0, total = 0.0, room = 0.0;

    HSGD_TRY(study_memory_free(s, &free, &total, err));
    if (host) {
        room = asked >= 0.0 ? asked / s->sharers : free / 2.0 / s->sharers;
    } else {
        study_memory need = {0};

        HSGD_TRY(study_memory_need(s, &need, err));
        /* in a dry run the images are not there yet */
        room = free / s->sharers - need.operator_ - spare_of(total) - (s->setup->dry_run ? need.images : 0.0);
        room = asked >= 0.0 && asked / s->sharers < room ? asked / s->sharers : room;
    }
    *bytes = room > 0.0 ? (size_t)room : 0;
done:
    return st;
}
