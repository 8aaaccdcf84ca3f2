/* src/curvature/sweep.c - see sweep.h.
 *
 * words, reproducible: [width * n] high, as many low, 1 bad; then the tallies' [tallies] high, low, 1 bad; 1 failed.
 * words, fast:         [width * n] sums; [tallies] sums; 1 failed (doubles).
 * So one all-reduce carries the vector, the loss and the news of a failed rank. */
#include "curvature/sweep.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool reproducible(const hsgd_sweep *sweep)
{
    return sweep->problem.reduction == HSGD_REDUCTION_REPRODUCIBLE;
}

/* Words that the sum of `count` numbers takes. */
static int64_t words_of(const hsgd_sweep *sweep, int64_t count)
{
    return reproducible(sweep) ? 2 * count + 1 : count;
}

/* First word of the tallies; the word that counts failed ranks. */
static int64_t tally_word(const hsgd_sweep *sweep)
{
    return words_of(sweep, sweep->width * sweep->n);
}

static int64_t failed_word(const hsgd_sweep *sweep)
{
    return tally_word(sweep) + words_of(sweep, sweep->plan.tallies);
}

static hsgd_status create_worker(hsgd_sweep *sweep, int id, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const hsgd_sweep_plan *plan = &sweep->plan;
    hsgd_sweep_worker *worker = &sweep->workers[id];
    const int64_t most = plan->width * sweep->n;

    worker->id = id;
    HSGD_TRY(backend->ops->alloc(backend->self, (size_t)plan->states * hsgd_pass_state_bytes(sweep->pass),
                                 &worker->state, err));
    if (most > 0) {
        HSGD_TRY(backend->ops->alloc(backend->self, (size_t)most * hsgd_real_size(backend->precision), &worker->result,
                                     err));
        HSGD_TRY(
            backend->ops->alloc(backend->self, (size_t)words_of(sweep, most) * sizeof(int64_t), &worker->sum, err));
    }
    worker->tally = calloc((size_t)plan->tallies + 1, sizeof *worker->tally);
    worker->words = calloc((size_t)(2 * plan->tallies + 1), sizeof *worker->words);
    HSGD_CHECK(worker->tally != NULL && worker->words != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate a worker's sums");
done:
    return st;
}

hsgd_status hsgd_sweep_create(const hsgd_problem *problem, const hsgd_sweep_plan *plan, hsgd_sweep **out,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = problem->backend;
    const size_t real = hsgd_real_size(backend->precision);
    hsgd_sweep *sweep = calloc(1, sizeof *sweep);
    int64_t words = 0;

    *out = NULL;
    HSGD_CHECK(sweep != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the sums over samples");
    sweep->problem = *problem;
    sweep->plan = *plan;
    sweep->n = problem->network->parameters;
    words = words_of(sweep, plan->width * sweep->n) + words_of(sweep, plan->tallies) + 1;
    sweep->order = malloc((size_t)sweep->n * sizeof *sweep->order);
    sweep->staging = malloc((size_t)(plan->columns * sweep->n) * real);
    sweep->workers = calloc((size_t)backend->workers, sizeof *sweep->workers);
    sweep->sums = calloc((size_t)backend->workers, sizeof *sweep->sums);
    sweep->words = calloc((size_t)words, sizeof(int64_t));
    HSGD_CHECK(sweep->order != NULL && sweep->staging != NULL && sweep->workers != NULL && sweep->sums != NULL &&
                   sweep->words != NULL,
               HSGD_ERR_MEMORY, err, "memory: cannot allocate the sums over samples");
    hsgd_network_order(problem->network, backend, sweep->order);
    HSGD_TRY(hsgd_pass_create(problem->network, backend, plan->columns, &sweep->pass, err));
    HSGD_TRY(backend->ops->alloc(backend->self, (size_t)sweep->n * real, &sweep->params, err));
    for (int w = 0; w < backend->workers; w++) {
        HSGD_TRY(create_worker(sweep, w, err));
    }
    *out = sweep;
    sweep = NULL;
done:
    hsgd_sweep_destroy(&sweep);
    return st;
}

void hsgd_sweep_destroy(hsgd_sweep **sweep)
{
    const hsgd_backend *backend = NULL;

    if (sweep == NULL || *sweep == NULL) {
        return;
    }
    backend = (*sweep)->problem.backend;
    for (int w = 0; (*sweep)->workers != NULL && w < backend->workers; w++) {
        hsgd_sweep_worker *worker = &(*sweep)->workers[w];

        backend->ops->release(backend->self, worker->state);
        backend->ops->release(backend->self, worker->result);
        backend->ops->release(backend->self, worker->sum);
        free(worker->tally);
        free(worker->words);
    }
    backend->ops->release(backend->self, (*sweep)->params);
    hsgd_pass_destroy(&(*sweep)->pass);
    free((*sweep)->order);
    free((*sweep)->staging);
    free((*sweep)->workers);
    free((*sweep)->sums);
    free((*sweep)->words);
    free(*sweep);
    *sweep = NULL;
}

hsgd_status hsgd_sweep_upload(hsgd_sweep *sweep, int64_t k, const double *host, void *memory, hsgd_error *err)
{
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t n = sweep->n, *order = sweep->order;
    double *wide = sweep->staging;
    float *narrow = sweep->staging;

    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < n; i++) {
            if (backend->precision == HSGD_DOUBLE) {
                wide[j * n + i] = host[j * n + order[i]];
            } else {
                narrow[j * n + i] = (float)host[j * n + order[i]];
            }
        }
    }
    return backend->ops->upload(backend->self, (size_t)(k * n) * hsgd_real_size(backend->precision), sweep->staging,
                                memory, err);
}

hsgd_status hsgd_sweep_begin(hsgd_sweep *sweep, const int64_t *index, int64_t count, int64_t width, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_comm *comm = sweep->problem.comm;

    HSGD_CHECK(count >= 1, HSGD_ERR_USAGE, err, "samples: the set is empty; give at least one sample");
    sweep->groups = hsgd_groups_deal(count, sweep->problem.backend->group, comm->rank, comm->ranks);
    HSGD_CHECK(sweep->groups.groups <= HSGD_SUM_MAX_GROUPS, HSGD_ERR_USAGE, err,
               "samples: %lld are too many for exact sums; give at most %lld", (long long)count,
               (long long)(HSGD_SUM_MAX_GROUPS * sweep->groups.group));
    sweep->index = index;
    sweep->width = width;
    sweep->scale = hsgd_sum_scale(sweep->groups.groups);
    for (int w = 0; w < sweep->problem.backend->workers; w++) {
        sweep->workers[w].used = false;
    }
done:
    return st;
}

/* Empty a worker's sums at its first group, so that only those that work pay for it. */
static hsgd_status start_worker(hsgd_sweep *sweep, hsgd_sweep_worker *worker, hsgd_error *err)
{
    const hsgd_backend *backend = sweep->problem.backend;
    const size_t bytes = (size_t)words_of(sweep, sweep->width * sweep->n) * sizeof(int64_t);

    worker->used = true;
    memset(worker->words, 0, (size_t)words_of(sweep, sweep->plan.tallies) * sizeof(int64_t));
    return sweep->width == 0 ? HSGD_OK : backend->ops->zero(backend->self, worker->id, bytes, worker->sum, err);
}

static void add_tallies(const hsgd_sweep *sweep, hsgd_sweep_worker *worker)
{
    const int64_t count = sweep->plan.tallies;
    double *plain = (double *)worker->words;

    for (int64_t t = 0; t < count; t++) {
        if (reproducible(sweep)) {
            worker->words[2 * count] +=
                hsgd_sum_add(worker->tally[t], sweep->scale, &worker->words[t], &worker->words[count + t]);
        } else {
            plain[t] += worker->tally[t];
        }
    }
}

static hsgd_status run_group(void *context, int id, int64_t g, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_sweep *sweep = context;
    const hsgd_problem *problem = &sweep->problem;
    const hsgd_backend *backend = problem->backend;
    hsgd_sweep_worker *worker = &sweep->workers[id];
    int64_t first = 0, m = 0;
    hsgd_group samples = {.pixels = problem->split->pixels,
                          .labels = problem->split->labels,
                          .mean = problem->mean,
                          .deviation = problem->deviation};

    if (!worker->used) {
        HSGD_TRY(start_worker(sweep, worker, err));
    }
    hsgd_groups_range(&sweep->groups, sweep->groups.low + g, &first, &m);
    samples.index = sweep->index + first;
    samples.m = m;
    HSGD_TRY(sweep->body(sweep->context, sweep, worker, g, &samples, err));
    if (sweep->width > 0) {
        HSGD_TRY(backend->ops->accumulate(backend->self, id, problem->reduction, sweep->width * sweep->n,
                                          worker->result, sweep->scale, worker->sum, err));
    }
    add_tallies(sweep, worker);
done:
    return st;
}

/* The sum of the used workers' sums into sweep->words. */
static hsgd_status merge(hsgd_sweep *sweep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t place = tally_word(sweep), count = words_of(sweep, sweep->plan.tallies);
    int64_t *words = sweep->words;
    double *plain = sweep->words;
    int used = 0;

    memset(words + place, 0, (size_t)(count + 1) * sizeof *words);
    for (int w = 0; w < backend->workers; w++) {
        const hsgd_sweep_worker *worker = &sweep->workers[w];

        for (int64_t i = 0; i < count && worker->used; i++) {
            if (reproducible(sweep)) {
                words[place + i] += worker->words[i];
            } else {
                plain[place + i] += ((const double *)worker->words)[i];
            }
        }
        if (worker->used) {
            sweep->sums[used++] = worker->sum;
        }
    }
    if (used == 0 || sweep->width == 0) {
        memset(words, 0, (size_t)place * sizeof *words);
    } else {
        HSGD_TRY(backend->ops->merge(backend->self, sweep->problem.reduction, sweep->width * sweep->n, used,
                                     sweep->sums, words, err));
    }
done:
    return st;
}

hsgd_status hsgd_sweep_run(hsgd_sweep *sweep, hsgd_sweep_body body, void *context, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;

    sweep->body = body;
    sweep->context = context;
    HSGD_TRY(backend->ops->for_groups(backend->self, sweep->groups.high - sweep->groups.low, !reproducible(sweep),
                                      run_group, sweep, err));
    HSGD_TRY(merge(sweep, err));
done:
    return st;
}

/* After the all-reduce every rank holds the same words and comes to the same answer. */
static hsgd_status check_finite(const hsgd_sweep *sweep, hsgd_error *err)
{
    const int64_t *words = sweep->words;
    const double *plain = sweep->words;
    bool finite = true;

    if (reproducible(sweep)) {
        finite = words[failed_word(sweep) - 1] == 0 && (sweep->width == 0 || words[tally_word(sweep) - 1] == 0);
    } else {
        for (int64_t i = 0; i < failed_word(sweep); i++) {
            finite = finite && isfinite(plain[i]);
        }
    }
    return finite ? HSGD_OK
                  : hsgd_error_set(err, HSGD_ERR_NUMERIC,
                                   "sums over samples: NaN, Inf or out of range; check the weights, lower the "
                                   "learning rate");
}

hsgd_status hsgd_sweep_reduce(hsgd_sweep *sweep, hsgd_status local, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_comm *comm = sweep->problem.comm;
    const int64_t last = failed_word(sweep);
    int64_t *words = sweep->words;
    double *plain = sweep->words;
    bool failed = false;

    if (local != HSGD_OK) {
        memset(words, 0, (size_t)last * sizeof *words);
    }
    if (reproducible(sweep)) {
        words[last] = local != HSGD_OK;
        HSGD_TRY(hsgd_comm_sum(comm, HSGD_TYPE_I64, last + 1, words, err));
        failed = words[last] != 0;
    } else {
        plain[last] = local != HSGD_OK;
        HSGD_TRY(hsgd_comm_sum(comm, HSGD_TYPE_F64, last + 1, plain, err));
        failed = plain[last] != 0.0;
    }
    if (failed) {
        HSGD_TRY(hsgd_comm_agree(comm, local, err));
    }
    HSGD_TRY(check_finite(sweep, err));
done:
    return st;
}

/* Number i of the `count` whose words begin at `first`. */
static double total(const hsgd_sweep *sweep, int64_t first, int64_t count, int64_t i)
{
    const int64_t *words = (const int64_t *)sweep->words + first;
    const double *plain = (const double *)sweep->words + first;

    return reproducible(sweep) ? hsgd_sum_value(words[i], words[count + i], sweep->scale) : plain[i];
}

void hsgd_sweep_mean(const hsgd_sweep *sweep, double *vector)
{
    const double samples = (double)sweep->groups.count;

    for (int64_t i = 0; i < sweep->n; i++) {
        vector[sweep->order[i]] = total(sweep, 0, sweep->width * sweep->n, i) / samples;
    }
}

double hsgd_sweep_tally(const hsgd_sweep *sweep, int64_t tally)
{
    return total(sweep, tally_word(sweep), sweep->plan.tallies, tally);
}

void hsgd_sweep_put_loss(hsgd_sweep_worker *worker, const hsgd_group_loss *loss)
{
    worker->tally[HSGD_TALLY_LOSS] = loss->loss;
    worker->tally[HSGD_TALLY_CORRECT] = (double)loss->correct; /* whole numbers stay exact */
}

hsgd_loss hsgd_sweep_loss(const hsgd_sweep *sweep)
{
    const double samples = (double)sweep->groups.count;
    const int64_t correct = llround(hsgd_sweep_tally(sweep, HSGD_TALLY_CORRECT));

    return (hsgd_loss){.loss = hsgd_sweep_tally(sweep, HSGD_TALLY_LOSS) / samples,
                       .accuracy = (double)correct / samples,
                       .correct = correct};
}
