/* src/study/probe_groups.c - see probe_groups.h. */
#include "study/probe_groups.h"
#include "study/limits.h"
#include "study/probe_catch.h"
#include "study/selection.h"
#include <stdlib.h>

struct study_probe_groups {
    study_state *whole; /* borrowed */
    int groups, group;  /* how many, and which is this rank's */
    hsgd_comm *comm;    /* of the group; owned, as the space on it; both NULL where there is one group */
    hsgd_space *space;
    study_state part;        /* *whole with these */
    hsgd_vector *deflate;    /* the deflated vectors on the group's rows; NULL: none */
    probe_catch caught;      /* what the group had begun when it was asked to stop */
    hsgd_keeper_ahead ahead; /* the study's keeper, with the state that has been recalled */
    int64_t done, saved;     /* probes that are finished; of them those of the state that was recalled */
};

/* A round: every group takes up to `block` of the probes from `first` on. */
typedef struct {
    int64_t first, block, probes;
} probe_round;

static probe_round round_from(const hsgd_quadrature_options *options, int64_t first, int groups)
{
    const int64_t left = options->probes - first, share = (left + groups - 1) / groups;
    const int64_t most = hsgd_quadrature_block(options->block, left);

    return (probe_round){.first = first, .block = most < share ? most : share, .probes = options->probes};
}

/* The probes [*low, *high) that a group takes in a round; none where they are all taken. */
static void probes_of(const probe_round *round, int group, int64_t *low, int64_t *high)
{
    const int64_t from = round->first + group * round->block, to = from + round->block;

    *low = from < round->probes ? from : round->probes;
    *high = to < round->probes ? to : round->probes;
}

int study_group_of(const hsgd_comm *comm, int groups, int *low, int *high)
{
    int64_t from = 0, to = 0;
    int group = -1;

    while (to <= comm->rank) {
        hsgd_share(comm->ranks, ++group, groups, &from, &to);
    }
    *low = (int)from;
    *high = (int)to;
    return group;
}

/* ---- how many groups ---- */

/* The time of the density in units of one product of one group of samples, by the ranks that have most to do. */
static double time_with(const study_state *s, int groups, bool kept)
{
    /* A base pass that is not kept, beside a product of one column: measured with the default network, single precision,
     * one thread of a CPU, 200 samples: 96 products take 4.0 s one by one and 5.2 s where each makes it anew. */
    static const double BASE = 0.3;
    enum { COLUMNS = 8 }; /* that a product advances over one base pass */
    const hsgd_quadrature_options options = {.probes = s->extent.probes, .block = s->deck->density.block};
    const int ranks = s->comm->ranks / groups; /* of the smallest group of ranks */
    const int64_t samples =
        hsgd_backend_group(s->backend, (hsgd_reduction)s->deck->run.reduction, s->sample_count, ranks);
    const int64_t sets = (s->sample_count + samples - 1) / samples, share = (sets + ranks - 1) / ranks;
    const int64_t turns = (share + s->backend->workers - 1) / s->backend->workers;
    double columns = 0.0;

    for (int64_t first = 0; first < options.probes;) {
        const probe_round round = round_from(&options, first, groups);

        const int64_t passes = kept ? 0 : (round.block + COLUMNS - 1) / COLUMNS;

        columns += (double)round.block + BASE * (double)passes;
        first += groups * round.block;
    }
    return columns * (double)turns;
}

/* Whether all ranks can hold their part of the study, and all their base passes, with so many groups. */
static hsgd_status look_at_memory(study_state *s, int groups, bool *fits, bool *kept, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t lacks[2] = {0};

    s->groups = groups;
    st = study_memory_fits(s, fits, kept, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    lacks[0] = !*fits;
    lacks[1] = !*kept;
    HSGD_TRY(hsgd_comm_max(s->comm, HSGD_TYPE_I64, 2, lacks, err));
    *fits = lacks[0] == 0;
    *kept = lacks[1] == 0;
done:
    return st;
}

/* One group, unless more save an eighth of the time or more.  What more groups cost beside the base passes is a few per
 * cent: 96 products of 200 samples take 4.0 s one by one and 3.7 s by eights.
 *
 * Groups pay where some ranks wait for others that have one group of samples more.  Measured with 8 ranks on two cores,
 * hence not by the clock but by the processor time of the busiest rank outside MPI: default network, 8 probes of 10 steps.
 *   100 samples, 10 groups of ten:  1 group of ranks 0.52 s, 2: 0.43 s, 4: 0.40 s, 8: 0.43 s; chosen: 4
 *   400 samples, 40 groups of ten:  1 group of ranks 0.94 s, 2: 0.94 s, 4: 0.95 s, 8: 1.00 s; chosen: 1
 * A rank's collective calls and bytes were 531 and 57 MB with 1 group, 353 and 28 MB with 2, 263 and 14 MB with 4, 172
 * and none with 8.  That is not counted here: it would decide only where the calls cost as much as the products do, where
 * the user can ask for groups. */
static hsgd_status choose(study_state *s, int most, int *out, hsgd_error *err)
{
    static const double PAYS = 0.875;
    hsgd_status st = HSGD_OK;
    double best = 0.0;
    bool fits = false, kept = false;

    *out = 1;
    for (int groups = 1; groups <= most; groups++) {
        double time;

        HSGD_TRY(look_at_memory(s, groups, &fits, &kept, err));
        time = time_with(s, groups, kept);
        if (groups == 1 || (fits && time <= PAYS * best)) {
            best = time;
            *out = groups;
        }
    }
done:
    return st;
}

hsgd_status study_choose_groups(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t asked = s->deck->density.groups, probes = s->extent.probes;
    const int most = probes < s->comm->ranks ? (int)probes : s->comm->ranks;
    int groups = 1;

    s->groups = 1;
    if (!study_runs(s, HSGD_STAGE_DENSITY) || most < 1) {
        return HSGD_OK;
    }
    if (asked == 0) {
        HSGD_TRY(choose(s, most, &groups, err));
    } else {
        groups = asked < most ? (int)asked : most;
    }
    if (asked > most) {
        hsgd_progress_warn(s->progress,
                           "density.groups = %lld: %lld probes and %d ranks make at most %d groups, which serve",
                           (long long)asked, (long long)probes, s->comm->ranks, most);
    }
    s->groups = groups;
    if (s->setup->dry_run) {
        hsgd_progress_say(s->progress, "density: %d ranks in %d %s", s->comm->ranks, groups,
                          groups == 1 ? "group" : "groups");
    }
done:
    return st;
}

/* ---- making and ending ---- */

hsgd_status study_probe_groups_open(study_state *s, study_probe_groups **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_probe_groups *g = calloc(1, sizeof *g);
    int low, high;

    *out = NULL;
    if (g == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the groups of ranks");
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    g->whole = s;
    g->groups = s->groups;
    if (g->groups > 1) {
        g->group = study_group_of(s->comm, g->groups, &low, &high);
        HSGD_TRY(hsgd_comm_split(s->comm, g->group, &g->comm, err));
        st = hsgd_space_create(s->n, HSGD_SPREAD, s->spread->reduction, g->comm, s->backend, &g->space, err);
        HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
        g->part = *s;
        g->part.comm = g->comm;
        g->part.spread = g->space;
        g->part.groups = 1;
        g->part.keeper = NULL; /* that of all ranks */
        g->part.studied = NULL;
        HSGD_TRY(hsgd_comm_agree(s->comm, selection_open_space(&g->part, err), err));
    }
    *out = g;
    g = NULL;
done:
    study_probe_groups_close(&g);
    return st;
}

void study_probe_groups_close(study_probe_groups **g)
{
    if (*g != NULL) {
        probe_catch_clear(&(*g)->caught);
        hsgd_keeper_ahead_clear(&(*g)->ahead);
        hsgd_vector_destroy(&(*g)->deflate);
        if ((*g)->groups > 1) {
            selection_close_space(&(*g)->part);
        }
        hsgd_space_destroy(&(*g)->space);
        if ((*g)->comm != NULL) { /* its calls were this rank's too */
            (*g)->whole->comm->seconds += (*g)->comm->seconds;
        }
        hsgd_comm_destroy(&(*g)->comm);
    }
    free(*g);
    *g = NULL;
}

study_state *study_probe_groups_state(study_probe_groups *g)
{
    return g->groups > 1 ? &g->part : g->whole;
}

hsgd_status study_probe_groups_operator(study_probe_groups *g, hsgd_linop **out, hsgd_error *err)
{
    const hsgd_status st = study_operator(study_probe_groups_state(g), out, err);

    return hsgd_comm_meet(g->whole->comm, st, err);
}

/* ---- what a half-done stage had begun ---- */

/* The probes that were begun, by all ranks together: their vectors are spread over these. */
static hsgd_status finish_begun(study_probe_groups *g, const hsgd_quadrature_options *options, double *ritz,
                                double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;

    hsgd_progress_say(g->whole->progress, "density: %d ranks together finish the probes that were begun",
                      g->whole->comm->ranks);
    HSGD_TRY(study_operator(g->whole, &op, err));
    HSGD_TRY(hsgd_quadrature(op, options, ritz, weights, err));
    g->done = options->probes;
done:
    hsgd_linop_destroy(&op);
    return st;
}

hsgd_status study_probe_groups_resume(study_probe_groups *g, const hsgd_quadrature_options *options, double *ritz,
                                      double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_quadrature_options own = *options;
    int64_t done, running;

    if (g->groups == 1) {
        return HSGD_OK; /* hsgd_quadrature sees to it */
    }
    HSGD_TRY(hsgd_keeper_recall_ahead(options->keeper, g->whole->studied, &g->ahead, err));
    own.keeper = &g->ahead.face;
    if (g->ahead.found && hsgd_quadrature_counts(&g->ahead.state, options->probes, &done, &running) && running > 0) {
        own.probes = done + running;
        g->saved = done;
        HSGD_TRY(finish_begun(g, &own, ritz, weights, err));
    } else {
        HSGD_TRY(hsgd_quadrature_recall(&own, g->whole->studied, &g->done, ritz, weights, err));
        g->saved = g->done;
    }
done:
    return st;
}

/* ---- rounds ---- */

/* The progress of all groups, as the first rank's own shows it. */
typedef struct {
    const hsgd_quadrature_options *options;
    int64_t before, groups, total; /* products of earlier rounds, groups at work, products in all */
} round_progress;

static void monitor(void *context, int64_t products, int64_t of_group)
{
    const round_progress *p = context;
    const int64_t done = p->before + p->groups * products;

    (void)of_group;
    p->options->monitor(p->options->context, done < p->total ? done : p->total, p->total);
}

/* This group's block of a round. */
static hsgd_status run_block(study_probe_groups *g, hsgd_linop *op, const hsgd_quadrature_options *options,
                             const probe_round *round, double *ritz, double *weights, hsgd_error *err)
{
    const int64_t n = g->whole->m, rest = n - (g->deflate != NULL ? g->deflate->columns : 0);
    const int64_t length = options->steps < rest ? options->steps : rest;
    const int64_t working = (options->probes - round->first + round->block - 1) / round->block;
    round_progress progress = {.options = options,
                               .before = round->first * length,
                               .groups = working < g->groups ? working : g->groups,
                               .total = options->probes * length};
    hsgd_quadrature_options own = *options;
    int64_t low, high;

    probes_of(round, g->group, &low, &high);
    probe_catch_begin(&g->caught);
    if (low == high) {
        return HSGD_OK;
    }
    own.probes = high - low;
    own.block = round->block;
    own.first = options->first + low;
    own.start = options->start != NULL ? options->start + low * n : NULL;
    own.deflate = g->deflate;
    own.keeper = &g->caught.face; /* all ranks keep, at their meeting */
    own.monitor = options->monitor != NULL ? monitor : NULL;
    own.context = &progress;
    return hsgd_quadrature(op, &own, ritz + low * options->steps, weights + low * options->steps, err);
}

/* The groups' nodes to all ranks, up to the first group that did not finish.  *done: probes from the first on that all
 * ranks then have.  unfinished: [groups]. */
static hsgd_status share_nodes(const study_probe_groups *g, const probe_round *round, int64_t steps,
                               const int64_t *unfinished, double *ritz, double *weights, int64_t *done, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_comm *comm = g->whole->comm;

    for (int group = 0; group < g->groups && unfinished[group] == 0; group++) {
        int64_t low, high, root, beyond;

        hsgd_share(comm->ranks, group, g->groups, &root, &beyond);
        probes_of(round, group, &low, &high);
        {
            const size_t bytes = (size_t)((high - low) * steps) * sizeof *ritz;

            HSGD_TRY(hsgd_comm_broadcast(comm, (int)root, bytes, ritz + low * steps, err));
            HSGD_TRY(hsgd_comm_broadcast(comm, (int)root, bytes, weights + low * steps, err));
        }
        *done = high;
    }
done:
    return st;
}

/* A round and the meeting after it.  *done: finished probes; *stopped: some group was stopped within its block, whose
 * probes and those behind them are to be made again.  unfinished: [groups] room. */
static hsgd_status run_round(study_probe_groups *g, hsgd_linop *op, const hsgd_quadrature_options *options,
                             int64_t *unfinished, double *ritz, double *weights, int64_t *done, bool *stopped,
                             hsgd_error *err)
{
    const probe_round round = round_from(options, *done, g->groups);
    hsgd_comm *comm = g->whole->comm;
    hsgd_status st = run_block(g, op, options, &round, ritz, weights, err);

    *stopped = false;
    for (int group = 0; group < g->groups; group++) {
        unfinished[group] = group == g->group && st != HSGD_OK;
    }
    HSGD_TRY(hsgd_comm_meet(comm, st == HSGD_STOPPED ? HSGD_OK : st, err)); /* some groups had less to do, or nothing */
    HSGD_TRY(hsgd_comm_max(comm, HSGD_TYPE_I64, g->groups, unfinished, err));
    for (int group = 0; group < g->groups; group++) {
        *stopped = *stopped || unfinished[group] != 0;
    }
    HSGD_TRY(share_nodes(g, &round, options->steps, unfinished, ritz, weights, done, err));
done:
    return st;
}

/* After a round in which some group was stopped: what it and those behind it had begun, or at least the finished probes;
 * where there is nothing new, a state that is there stays. */
static hsgd_status keep_stopped(const study_probe_groups *g, const hsgd_quadrature_options *options,
                                const int64_t *unfinished, int64_t done, const double *ritz, const double *weights,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool kept = false;
    int first = 0;

    while (unfinished[first] == 0) {
        first++;
    }
    HSGD_TRY(
        probe_catch_keep(&g->caught, g->whole, g->groups, g->group, first, options, done, ritz, weights, &kept, err));
    if (!kept && done > g->saved) {
        HSGD_TRY(hsgd_quadrature_keep(options, g->whole->studied, done, ritz, weights, err));
    }
done:
    return st;
}

static hsgd_status run_rounds(study_probe_groups *g, hsgd_linop *op, const hsgd_quadrature_options *options,
                              int64_t *unfinished, double *ritz, double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    while (g->done < options->probes) {
        bool stopped = false, due = false;

        HSGD_TRY(run_round(g, op, options, unfinished, ritz, weights, &g->done, &stopped, err));
        if (stopped) {
            HSGD_TRY(keep_stopped(g, options, unfinished, g->done, ritz, weights, err));
        } else {
            HSGD_TRY(hsgd_keeper_due(options->keeper, &due, err));
        }
        if (due) {
            HSGD_TRY(hsgd_quadrature_keep(options, g->whole->studied, g->done, ritz, weights, err));
            g->saved = g->done;
        }
        HSGD_CHECK(!stopped, HSGD_STOPPED, err, "density: stopped after %lld probes", (long long)g->done);
    }
done:
    return st;
}

/* The deflated vectors, which all ranks hold together, for each group's own ranks. */
static hsgd_status share_deflated(study_probe_groups *g, const hsgd_vector *deflate, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *rows = malloc((size_t)(deflate->columns * deflate->space->n) * sizeof *rows);

    if (rows == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold %lld deflated vectors",
                            (long long)deflate->columns);
    }
    st = st == HSGD_OK ? hsgd_vector_create(g->part.studied, deflate->columns, &g->deflate, err) : st;
    HSGD_TRY(hsgd_comm_agree(g->whole->comm, st, err));
    HSGD_TRY(hsgd_vector_gather(deflate, rows, err));
    HSGD_TRY(hsgd_comm_agree(g->whole->comm, hsgd_vector_set_full(g->deflate, rows, err), err));
done:
    free(rows);
    return st;
}

hsgd_status study_probe_groups_run(study_probe_groups *g, hsgd_linop *op, const hsgd_quadrature_options *options,
                                   double *ritz, double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_state *s = g->whole;
    int64_t *unfinished = NULL;

    if (g->groups == 1) {
        return hsgd_quadrature(op, options, ritz, weights, err);
    }
    hsgd_progress_say(s->progress, "density: %d ranks in %d groups, which take the %lld probes by blocks",
                      s->comm->ranks, g->groups, (long long)options->probes);
    unfinished = calloc((size_t)g->groups, sizeof *unfinished);
    if (unfinished == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the groups of ranks");
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    if (options->deflate != NULL) {
        HSGD_TRY(share_deflated(g, options->deflate, err));
    }
    HSGD_TRY(run_rounds(g, op, options, unfinished, ritz, weights, err));
done:
    free(unfinished);
    return st;
}
