/* src/curvature/sweep.c - see sweep.h.
 *
 * words, reproducible: [width * n] high, as many low, 1 bad; the tallies' [tallies] high, low, 1 bad; the news.
 * words, fast:         [width * n] sums; [tallies] sums; the news (doubles).
 * So one all-reduce carries the vector, the loss and the news of a failed rank.
 *
 * values: 2 counts of addends out of range, the vector in canonical order, the tallies, failed ranks (all read from
 * words), and the number of sums in trouble. */
#include "curvature/sweep.h"
#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { BADS = 2 };        /* of vector and of tallies */
enum { LAST_OF_ALL = 2 }; /* failed, trouble: behind the tallies */

static bool reproducible(const hsgd_sweep *sweep)
{
    return sweep->problem.reduction == HSGD_REDUCTION_REPRODUCIBLE;
}

/* Words that the sum of `count` numbers takes. */
static int64_t words_of(const hsgd_sweep *sweep, int64_t count)
{
    return reproducible(sweep) ? 2 * count + 1 : count;
}

int64_t hsgd_sweep_words(const hsgd_sweep *sweep)
{
    return words_of(sweep, sweep->width * sweep->n);
}

int64_t hsgd_sweep_news(const hsgd_sweep *sweep)
{
    return hsgd_sweep_words(sweep) + words_of(sweep, sweep->plan.tallies);
}

/* Numbers of `values` that are read from words, for a width of at most 1. */
static int64_t readings(const hsgd_sweep *sweep, int64_t width)
{
    return BADS + width * sweep->n + sweep->plan.tallies + 1;
}

/* ---- making and ending ---- */

hsgd_status hsgd_sweep_take(const hsgd_sweep *sweep, int64_t count, size_t size, void *out, hsgd_error *err)
{
    const hsgd_backend *backend = sweep->problem.backend;
    void *memory = NULL;
    const hsgd_status st = backend->ops->alloc(backend->self, (size_t)count * size, &memory, err);

    memcpy(out, &memory, sizeof memory); /* into a pointer of any type */
    return st;
}

static hsgd_status create_worker(hsgd_sweep *sweep, int id, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_sweep_plan *plan = &sweep->plan;
    hsgd_sweep_worker *worker = &sweep->workers[id];
    const int64_t most = plan->width * sweep->n;

    worker->id = id;
    HSGD_TRY(hsgd_sweep_take(sweep, plan->states, hsgd_pass_state_bytes(sweep->pass), &worker->state, err));
    HSGD_TRY(hsgd_sweep_take(sweep, most, hsgd_real_size(sweep->problem.backend->precision), &worker->result, err));
    HSGD_TRY(hsgd_sweep_take(sweep, plan->tallies, sizeof(double), &worker->tally, err));
    HSGD_TRY(hsgd_sweep_take(sweep, HSGD_TALLIES_OF_LOSS, sizeof(double), &worker->loss, err));
    HSGD_TRY(hsgd_sweep_take(sweep, words_of(sweep, most) + words_of(sweep, plan->tallies), sizeof(int64_t),
                             &worker->sum, err));
done:
    return st;
}

/* Most samples in a group that the passes will see. */
static int64_t largest_group(const hsgd_problem *problem, const hsgd_sweep_plan *plan)
{
    const int64_t group = hsgd_backend_group(problem->backend, problem->reduction, plan->samples, problem->comm->ranks);

    return plan->singly ? 1 : group;
}

static hsgd_status create_memory(hsgd_sweep *sweep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const hsgd_sweep_plan *plan = &sweep->plan;
    const int64_t words = words_of(sweep, plan->width * sweep->n) + words_of(sweep, plan->tallies) + HSGD_NEWS;
    const int64_t values = readings(sweep, plan->width > 0);

    HSGD_TRY(hsgd_sweep_take(sweep, sweep->n, hsgd_real_size(backend->precision), &sweep->params, err));
    HSGD_TRY(hsgd_sweep_take(sweep, sweep->n, sizeof(int64_t), &sweep->order, err));
    HSGD_TRY(hsgd_sweep_take(sweep, plan->samples, sizeof(int64_t), &sweep->index, err));
    HSGD_TRY(hsgd_sweep_take(sweep, sweep->n, sizeof(double), &sweep->wide, err));
    HSGD_TRY(hsgd_sweep_take(sweep, words, sizeof(int64_t), &sweep->words, err));
    HSGD_TRY(hsgd_sweep_take(sweep, 2 * values, sizeof(int64_t), &sweep->picked, err));
    HSGD_TRY(hsgd_sweep_take(sweep, values + 1, sizeof(double), &sweep->values, err));
    for (int w = 0; w < backend->workers; w++) {
        HSGD_TRY(create_worker(sweep, w, err));
    }
    HSGD_TRY(hsgd_exchange_reserve(&sweep->exchange, words, err));
done:
    return st;
}

/* Both orders: the backend's, for the kernels, and its inverse. */
static hsgd_status create_order(hsgd_sweep *sweep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const size_t bytes = (size_t)sweep->n * sizeof(int64_t);
    int64_t *order = malloc(bytes);

    sweep->position = malloc(bytes);
    HSGD_CHECK(order != NULL && sweep->position != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the sums over samples");
    hsgd_network_order(sweep->problem.network, backend, order);
    for (int64_t i = 0; i < sweep->n; i++) {
        sweep->position[order[i]] = i;
    }
    HSGD_TRY(backend->ops->upload(backend->self, bytes, order, sweep->order, err));
done:
    free(order);
    return st;
}

/* Number `at` of the readings stands in these words: high and low, or one. */
static void put_spot(const hsgd_sweep *sweep, int64_t *spots, int64_t at, int64_t high, int64_t low)
{
    if (reproducible(sweep)) {
        spots[2 * at] = high;
        spots[2 * at + 1] = low;
    } else {
        spots[at] = high;
    }
}

static void fill_spots(const hsgd_sweep *sweep, int64_t width, int64_t *spots)
{
    const int64_t numbers = width * sweep->n, tallies = sweep->plan.tallies, tally = words_of(sweep, numbers);
    const int64_t news = tally + words_of(sweep, tallies), nothing = news + HSGD_NEWS_ZERO;
    const bool counted = reproducible(sweep);
    int64_t at = 0;

    put_spot(sweep, spots, at++, counted && numbers > 0 ? tally - 1 : nothing, nothing);
    put_spot(sweep, spots, at++, counted ? news - 1 : nothing, nothing);
    for (int64_t i = 0; i < numbers; i++) {
        put_spot(sweep, spots, at++, sweep->position[i], numbers + sweep->position[i]);
    }
    for (int64_t t = 0; t < tallies; t++) {
        put_spot(sweep, spots, at++, tally + t, tally + tallies + t);
    }
    put_spot(sweep, spots, at, news + HSGD_NEWS_FAILED, nothing);
}

/* For every width of a sum that hsgd_sweep_reduce may meet, ahead of all of them: a rank that fails at its share must
 * still find the news. */
static hsgd_status create_spots(hsgd_sweep *sweep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    int64_t *spots = NULL;

    for (int64_t width = 0; width <= sweep->plan.width && sweep->plan.width < HSGD_SWEEP_WIDTHS; width++) {
        const int64_t count = 2 * readings(sweep, width);

        free(spots);
        spots = calloc((size_t)count, sizeof *spots);
        HSGD_CHECK(spots != NULL, HSGD_ERR_MEMORY, err, "memory: cannot order the sums over samples");
        fill_spots(sweep, width, spots);
        HSGD_TRY(hsgd_sweep_take(sweep, count, sizeof *spots, &sweep->spots[width], err));
        HSGD_TRY(backend->ops->upload(backend->self, (size_t)count * sizeof *spots, spots, sweep->spots[width], err));
    }
done:
    free(spots);
    return st;
}

static hsgd_status hold_samples(hsgd_sweep *sweep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const hsgd_split *split = sweep->problem.split;
    const size_t count = (size_t)split->count, pixels = (size_t)(split->height * split->width);
    const void *memory = NULL;

    HSGD_TRY(backend->ops->hold(backend->self, count * pixels, split->pixels, &memory, err));
    sweep->pixels = memory;
    sweep->held[0] = split->pixels;
    HSGD_TRY(backend->ops->hold(backend->self, count, split->labels, &memory, err));
    sweep->labels = memory;
    sweep->held[1] = split->labels;
done:
    return st;
}

hsgd_status hsgd_sweep_create(const hsgd_problem *problem, const hsgd_sweep_plan *plan, hsgd_sweep **out,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = problem->backend;
    hsgd_sweep *sweep = calloc(1, sizeof *sweep);

    *out = NULL;
    HSGD_CHECK(sweep != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the sums over samples");
    sweep->problem = *problem;
    sweep->plan = *plan;
    sweep->n = problem->network->parameters;
    sweep->exchange = hsgd_exchange_of(problem->comm, backend);
    sweep->outcome = calloc((size_t)plan->tallies + LAST_OF_ALL, sizeof *sweep->outcome);
    sweep->workers = calloc((size_t)backend->workers, sizeof *sweep->workers);
    sweep->sums = calloc((size_t)backend->workers, sizeof *sweep->sums);
    HSGD_CHECK(sweep->outcome != NULL && sweep->workers != NULL && sweep->sums != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the sums over samples");
    HSGD_TRY(
        hsgd_pass_create(problem->network, backend, largest_group(problem, plan), plan->columns, &sweep->pass, err));
    HSGD_TRY(create_memory(sweep, err));
    HSGD_TRY(create_order(sweep, err));
    HSGD_TRY(create_spots(sweep, err));
    HSGD_TRY(hold_samples(sweep, err));
    *out = sweep;
    sweep = NULL;
done:
    hsgd_sweep_destroy(&sweep);
    return st;
}

static void destroy_memory(hsgd_sweep *sweep)
{
    const hsgd_backend *backend = sweep->problem.backend;
    void *const all[] = {sweep->params,   sweep->order,    sweep->index,  sweep->wide,  sweep->words,
                         sweep->spots[0], sweep->spots[1], sweep->picked, sweep->values};

    for (int w = 0; sweep->workers != NULL && w < backend->workers; w++) {
        backend->ops->release(backend->self, sweep->workers[w].state);
        backend->ops->release(backend->self, sweep->workers[w].result);
        backend->ops->release(backend->self, sweep->workers[w].tally);
        backend->ops->release(backend->self, sweep->workers[w].loss);
        backend->ops->release(backend->self, sweep->workers[w].sum);
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        backend->ops->release(backend->self, all[i]);
    }
    backend->ops->let_go(backend->self, sweep->held[0]);
    backend->ops->let_go(backend->self, sweep->held[1]);
}

void hsgd_sweep_destroy(hsgd_sweep **sweep)
{
    if (sweep == NULL || *sweep == NULL) {
        return;
    }
    destroy_memory(*sweep);
    hsgd_exchange_release(&(*sweep)->exchange);
    hsgd_pass_destroy(&(*sweep)->pass);
    free((*sweep)->position);
    free((*sweep)->outcome);
    free((*sweep)->workers);
    free((*sweep)->sums);
    free(*sweep);
    *sweep = NULL;
}

/* ---- what goes in ---- */

hsgd_status hsgd_sweep_upload(hsgd_sweep *sweep, const double *weights, void *params, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;

    HSGD_TRY(backend->ops->upload(backend->self, (size_t)sweep->n * sizeof *weights, weights, sweep->wide, err));
    HSGD_TRY(backend->ops->narrow(backend->self, sweep->n, 1, sweep->wide, sweep->order, NULL, params, err));
done:
    return st;
}

hsgd_status hsgd_sweep_select(hsgd_sweep *sweep, const int64_t *index, int64_t count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_problem *problem = &sweep->problem;
    const hsgd_backend *backend = problem->backend;
    const hsgd_comm *comm = problem->comm;
    int64_t group = 0, first = 0, end = 0, last = 0;

    HSGD_CHECK(count >= 1, HSGD_ERR_USAGE, err, "samples: the set is empty; give at least one sample");
    HSGD_CHECK(count <= sweep->plan.samples, HSGD_ERR_USAGE, err, "samples: %lld of a set planned for %lld",
               (long long)count, (long long)sweep->plan.samples);
    group = hsgd_backend_group(backend, problem->reduction, count, comm->ranks);
    sweep->groups = hsgd_groups_deal(count, group, comm->rank, comm->ranks);
    HSGD_CHECK(sweep->groups.groups <= HSGD_SUM_MAX_GROUPS, HSGD_ERR_USAGE, err,
               "samples: %lld are too many for exact sums; give at most %lld", (long long)count,
               (long long)(HSGD_SUM_MAX_GROUPS * sweep->groups.group));
    sweep->scale = hsgd_sum_scale(sweep->groups.groups);
    if (sweep->groups.high > sweep->groups.low) {
        hsgd_groups_range(&sweep->groups, sweep->groups.low, &first, &last);
        hsgd_groups_range(&sweep->groups, sweep->groups.high - 1, &end, &last);
        HSGD_TRY(backend->ops->upload(backend->self, (size_t)(end + last - first) * sizeof *index, index + first,
                                      sweep->index + first, err));
    }
done:
    return st;
}

void hsgd_sweep_begin(hsgd_sweep *sweep, int64_t width)
{
    sweep->width = width;
    for (int w = 0; w < sweep->problem.backend->workers; w++) {
        sweep->workers[w].used = false;
    }
}

/* ---- the rank's own sum ---- */

/* Where the sum of the tallies begins in a worker's sum. */
static int64_t *tally_sum(const hsgd_sweep *sweep, const hsgd_sweep_worker *worker)
{
    return (int64_t *)worker->sum + hsgd_sweep_words(sweep);
}

static hsgd_status add_group(hsgd_sweep *sweep, hsgd_sweep_worker *worker, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const hsgd_reduction reduction = sweep->problem.reduction;

    if (sweep->width > 0) {
        HSGD_TRY(backend->ops->accumulate(backend->self, worker->id, reduction, sweep->width * sweep->n, worker->result,
                                          sweep->scale, worker->sum, err));
    }
    if (sweep->plan.tallies > 0) {
        HSGD_TRY(backend->ops->accumulate_double(backend->self, worker->id, reduction, sweep->plan.tallies,
                                                 worker->tally, sweep->scale, tally_sum(sweep, worker), err));
    }
done:
    return st;
}

static hsgd_status run_group(void *context, int id, int64_t g, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_sweep *sweep = context;
    const hsgd_problem *problem = &sweep->problem;
    const hsgd_backend *backend = problem->backend;
    hsgd_sweep_worker *worker = &sweep->workers[id];
    int64_t first = 0;
    hsgd_group samples = {
        .pixels = sweep->pixels, .labels = sweep->labels, .mean = problem->mean, .deviation = problem->deviation};

    if (!worker->used) { /* empty the sum at the first group, so that only workers in use pay for it */
        HSGD_TRY(
            backend->ops->zero(backend->self, id, (size_t)hsgd_sweep_news(sweep) * sizeof(int64_t), worker->sum, err));
        worker->used = true;
    }
    hsgd_groups_range(&sweep->groups, sweep->groups.low + g, &first, &samples.m);
    samples.index = sweep->index + first;
    HSGD_TRY(sweep->body(sweep->context, sweep, worker, g, &samples, err));
    HSGD_TRY(add_group(sweep, worker, err));
    if (id == 0) { /* the thread that makes the calls */
        hsgd_comm_mark(problem->comm);
    }
    if (problem->told != NULL) {
        const int64_t done = (int64_t)atomic_fetch_add(&sweep->done, 1) + 1;

        if (id == 0) { /* whoever listens need not be safe for threads */
            problem->told(problem->context, done, sweep->groups.high - sweep->groups.low);
        }
    }
done:
    return st;
}

hsgd_status hsgd_sweep_run(hsgd_sweep *sweep, hsgd_sweep_body body, void *context, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t words = hsgd_sweep_news(sweep);
    int used = 0;

    sweep->body = body;
    sweep->context = context;
    atomic_store(&sweep->done, 0);
    hsgd_comm_mark(sweep->problem.comm); /* worker 0 may have no group */
    HSGD_TRY(backend->ops->for_groups(backend->self, sweep->groups.high - sweep->groups.low, !reproducible(sweep),
                                      run_group, sweep, err));
    for (int w = 0; w < backend->workers; w++) {
        if (sweep->workers[w].used) {
            sweep->sums[used++] = sweep->workers[w].sum;
        }
    }
    if (used == 0) {
        HSGD_TRY(backend->ops->zero(backend->self, 0, (size_t)words * sizeof(int64_t), sweep->words, err));
    } else {
        HSGD_TRY(
            backend->ops->merge(backend->self, sweep->problem.reduction, words, used, sweep->sums, sweep->words, err));
    }
done:
    return st;
}

hsgd_status hsgd_sweep_close(hsgd_sweep *sweep, hsgd_status local, bool stopped, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t place = hsgd_sweep_news(sweep);
    int64_t exact[HSGD_NEWS] = {0};
    double plain[HSGD_NEWS] = {0};

    exact[HSGD_NEWS_FAILED] = local != HSGD_OK;
    exact[HSGD_NEWS_STOPPED] = stopped;
    for (int i = 0; i < HSGD_NEWS; i++) {
        plain[i] = (double)exact[i];
    }
    if (local != HSGD_OK) {
        HSGD_TRY(backend->ops->zero(backend->self, 0, (size_t)place * sizeof(int64_t), sweep->words, err));
    }
    HSGD_TRY(backend->ops->upload(backend->self, sizeof exact, reproducible(sweep) ? (const void *)exact : plain,
                                  sweep->words + place, err));
done:
    return st;
}

/* ---- over the ranks ---- */

const double *hsgd_sweep_vector(const hsgd_sweep *sweep)
{
    return sweep->values + BADS;
}

const double *hsgd_sweep_outcome(const hsgd_sweep *sweep)
{
    return sweep->values + BADS + sweep->width * sweep->n;
}

/* The means and what is wrong with them. */
static hsgd_status find_values(hsgd_sweep *sweep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const hsgd_backend_ops *ops = backend->ops;
    const int64_t count = readings(sweep, sweep->width);
    double *trouble = sweep->values + count;

    HSGD_TRY(ops->permute(backend->self, reproducible(sweep) ? 2 * count : count, sweep->spots[sweep->width],
                          sweep->words, sweep->picked, err));
    HSGD_TRY(ops->expand(backend->self, sweep->problem.reduction, count, 1, sweep->picked, sweep->scale,
                         (double)sweep->groups.count, NULL, sweep->values, count, err));
    HSGD_TRY(ops->zero(backend->self, 0, sizeof *trouble, trouble, err));
    if (reproducible(sweep)) {
        HSGD_TRY(ops->count_beyond(backend->self, BADS, sweep->values, 0.0, trouble, err));
    } else {
        HSGD_TRY(ops->count_beyond(backend->self, count, sweep->values, DBL_MAX, trouble, err));
    }
done:
    return st;
}

hsgd_status hsgd_sweep_reduce(hsgd_sweep *sweep, hsgd_status local, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_close(sweep, local, false, err));
    /* the other news is for operators and stays 0 here on every rank: a step sends no word more than it must */
    HSGD_TRY(hsgd_exchange_sum(&sweep->exchange, reproducible(sweep) ? HSGD_TYPE_I64 : HSGD_TYPE_F64,
                               hsgd_sweep_news(sweep) + HSGD_NEWS_FAILED + 1, sweep->words, err));
    HSGD_TRY(find_values(sweep, err));
done:
    return st;
}

hsgd_status hsgd_sweep_finish(hsgd_sweep *sweep, hsgd_status local, double *means, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t tallies = sweep->plan.tallies;
    const double *outcome = sweep->outcome;

    HSGD_TRY(backend->ops->download(backend->self, (size_t)(tallies + LAST_OF_ALL) * sizeof *outcome,
                                    hsgd_sweep_outcome(sweep), sweep->outcome, err));
    if (outcome[tallies] != 0.0 || local != HSGD_OK) {
        HSGD_TRY(hsgd_comm_agree(sweep->problem.comm, local, err));
        HSGD_CHECK(false, HSGD_ERR_DEVICE, err,
                   "sums over samples: a rank failed and cannot say why; see its node's log");
    }
    HSGD_CHECK_FINITE(outcome[tallies + 1] == 0.0, err,
                      "sums over samples: NaN, Inf or out of range; check the weights, lower the learning rate");
    memcpy(means, outcome, (size_t)tallies * sizeof *means);
done:
    return st;
}
