/* src/curvature/hessian.c - the Hessian and the Gauss-Newton matrix of the mean cross-entropy as linear operators.
 *
 * One apply, by chunks of columns: gather X, products of this rank's groups, then one reduce-scatter that hands every
 * rank its rows.  What a rank sends to another is [row][column][word] (two words a number in reproducible mode, one in
 * fast) and, behind them, three words of news - sums not finite, failed, asked to stop - so that all ranks learn these
 * without a further collective.
 *
 * The exact sums are of fixed point, so their error is absolute.  Each column is therefore brought to a norm between 1/2
 * and 1 by a power of two before the sweep and back after it, both exact: the product is as accurate for a vector of
 * norm 1e-16 as for one of norm 1e13, and A (2^k x) = 2^k A x to the last bit. */
#include "curvature/sweep.h"
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_COLUMNS = 8 }; /* amortises the shared base pass; more only takes memory */
enum { NEWS_BAD, NEWS_FAILED, NEWS_STOPPED, NEWS };
enum { MOST_EXPONENT = 900 }; /* norms beyond 2^900 are refused: what is left to 2^1024 holds the product */

typedef struct {
    hsgd_sweep *sweep;
    const hsgd_space *space;
    hsgd_hessian_options options;
    int64_t *index;       /* [count] */
    int64_t *position;    /* [n]: canonical[i] = backend[position[i]] */
    int64_t *counts;      /* [ranks]: words for each rank */
    int *exponents;       /* [columns]: full holds the column times 2^-exponent */
    double *full;         /* [columns][n] */
    double *local;        /* [columns][rows] */
    void *send, *receive; /* words */
    void *tangents;       /* backend, reals [columns][n] */
    char *cache;          /* backend, base states of the rank's first `cached` groups */
    bool *built;          /* [cached] */
    int64_t cached;
    int64_t words; /* of one number: 2 or 1 */
    int64_t groups_between_looks;
    atomic_bool stopped;
} hessian;

/* ---- columns at norm 1 ---- */

/* x[n] *= 2^exponent, exact unless the result is too small to matter beside a norm of about 1.  In two steps, as 2^-e
 * itself may overflow where x is tiny. */
static void shift(int64_t n, double *x, int exponent)
{
    const double half = ldexp(1.0, exponent / 2), rest = ldexp(1.0, exponent - exponent / 2);

    for (int64_t i = 0; i < n && exponent != 0; i++) {
        x[i] = x[i] * half * rest;
    }
}

/* Bring x[n] to a norm in [1/2, 1) by a power of two and return the exponent that takes it back; 0 for what is zero or
 * not finite.  First by the largest entry, so that no square overflows or vanishes; in the order of the entries, so with
 * the same outcome on every rank. */
static int to_unit(int64_t n, double *x)
{
    double largest = 0.0, squares = 0.0;
    int first = 0, second = 0;

    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(x[i]));
    }
    if (largest == 0.0 || !isfinite(largest)) {
        return 0;
    }
    (void)frexp(largest, &first);
    shift(n, x, -first);
    for (int64_t i = 0; i < n; i++) {
        squares += x[i] * x[i];
    }
    if (isfinite(squares)) { /* else there is a NaN, which the product reports */
        (void)frexp(sqrt(squares), &second);
    }
    shift(n, x, -second);
    return first + second;
}

static hsgd_status gather(hessian *h, const hsgd_vector *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_gather(x, h->full, err));
    for (int64_t j = 0; j < x->columns; j++) {
        h->exponents[j] = to_unit(h->sweep->n, h->full + j * h->sweep->n);
        HSGD_CHECK(h->exponents[j] <= MOST_EXPONENT, HSGD_ERR_NUMERIC, err,
                   "curvature: a vector's norm is beyond 2^%d; its product would overflow", MOST_EXPONENT);
    }
done:
    return st;
}

/* ---- products of a rank's groups ---- */

/* The base state of a group: kept, or rebuilt by the same kernels, so with the same bits. */
static hsgd_status base_state(hessian *h, hsgd_sweep_worker *worker, int64_t group, const hsgd_group *samples,
                              void **state, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_group_loss loss = {0};
    const hsgd_sweep *sweep = h->sweep;
    const bool kept = group < h->cached;

    *state = kept ? h->cache + (size_t)group * hsgd_pass_state_bytes(sweep->pass) : worker->state;
    if (!kept || !h->built[group]) {
        HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, samples, *state, &loss, NULL, err));
        if (h->options.kind == HSGD_OPERATOR_HESSIAN) {
            HSGD_TRY(hsgd_pass_base_adjoint(sweep->pass, worker->id, sweep->params, samples->m, *state, err));
        }
    }
    if (kept) {
        h->built[group] = true;
    }
done:
    return st;
}

static bool asked_to_stop(const hessian *h)
{
    return h->options.stop != NULL && h->options.stop(h->options.context);
}

static hsgd_status product_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                 const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hessian *h = context;
    void *state = NULL;

    if (atomic_load(&h->stopped)) {
        return HSGD_OK; /* the sum will not be used */
    }
    HSGD_TRY(base_state(h, worker, group, samples, &state, err));
    HSGD_TRY(hsgd_pass_products(sweep->pass, worker->id, h->options.kind, sweep->params, samples->m, sweep->width,
                                h->tangents, state, worker->result, err));
    if (worker->id == 0 && group % h->groups_between_looks == 0 &&
        asked_to_stop(h)) { /* one worker asks: the callback need not be safe for threads */
        atomic_store(&h->stopped, true);
    }
done:
    return st;
}

static hsgd_status local_products(hessian *h, int64_t k, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_upload(h->sweep, k, h->full, h->tangents, err));
    HSGD_TRY(hsgd_sweep_run(h->sweep, product_group, h, err));
    if (asked_to_stop(h)) { /* also where worker 0, or the whole rank, had no group */
        atomic_store(&h->stopped, true);
    }
done:
    return st;
}

/* ---- rows to their ranks ---- */

/* Numbers that are not finite, or so large that the sum over the ranks might not be, once shifted back (fast mode; exact
 * sums stay below 2^54). */
static double count_bad(const double *sums, int64_t count, int ranks)
{
    const double limit = ldexp(DBL_MAX, -MOST_EXPONENT) / (2.0 * ranks);
    double bad = 0.0;

    for (int64_t i = 0; i < count; i++) {
        bad += !(fabs(sums[i]) <= limit);
    }
    return bad;
}

/* Arrange the merged sums, backend order, for the reduce-scatter: canonical rows, rank by rank. */
static void pack(const hessian *h, int64_t k, hsgd_status local)
{
    const int64_t n = h->sweep->n, count = k * n;
    const bool exact = h->words == 2;
    const int64_t *words = h->sweep->words;
    const double *sums = h->sweep->words;
    const bool skip = local != HSGD_OK; /* then the sums are not defined */
    const double bad = skip || exact ? 0.0 : count_bad(sums, count, h->space->comm->ranks);
    int64_t *to = h->send;
    double *plain = h->send;
    int64_t row = 0, end = 0, place = 0;

    for (int rank = 0; rank < h->space->comm->ranks; rank++) {
        for (end += h->space->counts[rank]; row < end; row++) {
            for (int64_t j = 0; j < k; j++) {
                const int64_t from = j * n + h->position[row];

                if (exact) {
                    to[place++] = skip ? 0 : words[from];
                    to[place++] = skip ? 0 : words[count + from];
                } else {
                    plain[place++] = skip ? 0.0 : sums[from];
                }
            }
        }
        if (exact) {
            to[place + NEWS_BAD] = skip ? 0 : words[2 * count];
            to[place + NEWS_FAILED] = skip;
            to[place + NEWS_STOPPED] = atomic_load(&h->stopped);
        } else {
            plain[place + NEWS_BAD] = bad;
            plain[place + NEWS_FAILED] = skip;
            plain[place + NEWS_STOPPED] = atomic_load(&h->stopped);
        }
        place += NEWS;
    }
}

/* What the ranks together have to tell; the same on every rank. */
static hsgd_status read_news(const hessian *h, int64_t first, hsgd_status local, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool news[NEWS];

    for (int i = 0; i < NEWS; i++) {
        news[i] = h->words == 2 ? ((const int64_t *)h->receive)[first + i] != 0
                                : ((const double *)h->receive)[first + i] != 0.0;
    }
    if (news[NEWS_FAILED]) {
        HSGD_TRY(hsgd_comm_agree(h->space->comm, local, err));
    }
    HSGD_CHECK(!news[NEWS_STOPPED], HSGD_STOPPED, err, "curvature: asked to stop in the middle of a product");
    HSGD_CHECK(!news[NEWS_BAD], HSGD_ERR_NUMERIC, err,
               "curvature: a product holds NaN, Inf or numbers out of range; check the weights and the vector");
done:
    return st;
}

static void unpack(const hessian *h, int64_t k)
{
    const int64_t rows = hsgd_space_rows(h->space);
    const double samples = (double)h->options.count;
    const int64_t *words = h->receive;
    const double *sums = h->receive;

    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < k; j++) {
            const int64_t from = i * k + j;
            const double sum =
                h->words == 2 ? hsgd_sum_value(words[2 * from], words[2 * from + 1], h->sweep->scale) : sums[from];

            h->local[j * rows + i] = sum / samples;
        }
    }
    for (int64_t j = 0; j < k; j++) {
        shift(rows, h->local + j * rows, h->exponents[j]);
    }
}

static hsgd_status apply_chunk(hessian *h, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK, local = HSGD_OK;
    const int64_t k = x->columns;
    hsgd_comm *comm = h->space->comm;

    HSGD_TRY(gather(h, x, err));
    HSGD_TRY(hsgd_sweep_begin(h->sweep, h->index, h->options.count, k, err));
    atomic_store(&h->stopped, false);
    local = local_products(h, k, err);
    pack(h, k, local);
    for (int rank = 0; rank < comm->ranks; rank++) {
        h->counts[rank] = h->space->counts[rank] * k * h->words + NEWS;
    }
    HSGD_TRY(hsgd_comm_reduce_scatter(comm, h->words == 2 ? HSGD_TYPE_I64 : HSGD_TYPE_F64, h->counts, h->send,
                                      h->receive, err));
    HSGD_TRY(read_news(h, h->counts[comm->rank] - NEWS, local, err));
    unpack(h, k);
    HSGD_TRY(hsgd_vector_set_local(y, h->local, err));
done:
    return st;
}

static hsgd_status apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hessian *h = self;
    const int64_t most = h->options.columns;

    for (int64_t first = 0; first < x->columns; first += most) {
        const int64_t k = x->columns - first < most ? x->columns - first : most;
        const hsgd_vector from = hsgd_vector_view(x, first, k);
        hsgd_vector to = hsgd_vector_view(y, first, k);

        HSGD_TRY(apply_chunk(h, &from, &to, err));
    }
done:
    return st;
}

/* ---- making and ending ---- */

static void destroy(void *self)
{
    hessian *h = self;

    if (h->sweep != NULL) {
        const hsgd_backend *backend = h->sweep->problem.backend;

        backend->ops->release(backend->self, h->tangents);
        backend->ops->release(backend->self, h->cache);
    }
    hsgd_sweep_destroy(&h->sweep);
    free(h->index);
    free(h->position);
    free(h->counts);
    free(h->exponents);
    free(h->full);
    free(h->local);
    free(h->send);
    free(h->receive);
    free(h->built);
    free(h);
}

static const hsgd_linop_ops hessian_ops = {.name = "hessian", .apply = apply, .destroy = destroy};
static const hsgd_linop_ops gauss_newton_ops = {.name = "gauss-newton", .apply = apply, .destroy = destroy};

/* Keep as many of this rank's groups as cache_bytes holds; they are filled when first used. */
static hsgd_status create_cache(hessian *h, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;
    const size_t bytes = hsgd_pass_state_bytes(h->sweep->pass);
    const int64_t mine = h->sweep->groups.high - h->sweep->groups.low, room = (int64_t)(h->options.cache_bytes / bytes);
    void *cache = NULL;

    h->cached = mine < room ? mine : room;
    if (h->cached > 0) {
        HSGD_TRY(backend->ops->alloc(backend->self, (size_t)h->cached * bytes, &cache, err));
        h->cache = cache;
        h->built = calloc((size_t)h->cached, sizeof *h->built);
        HSGD_CHECK(h->built != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the kept base passes");
    }
done:
    return st;
}

static hsgd_status create_buffers(hessian *h, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t n = (size_t)h->sweep->n, k = (size_t)h->options.columns, ranks = (size_t)h->space->comm->ranks;
    const size_t rows = (size_t)hsgd_space_rows(h->space), words = (size_t)h->words;
    const hsgd_backend *backend = h->sweep->problem.backend;

    h->index = malloc((size_t)h->options.count * sizeof *h->index);
    h->position = malloc(n * sizeof *h->position);
    h->counts = malloc(ranks * sizeof *h->counts);
    h->exponents = malloc(k * sizeof *h->exponents);
    h->full = malloc(k * n * sizeof *h->full);
    h->local = malloc((k * rows + 1) * sizeof *h->local);
    h->send = malloc((k * n * words + NEWS * ranks) * sizeof(int64_t));
    h->receive = malloc((k * rows * words + NEWS) * sizeof(int64_t));
    HSGD_CHECK(h->index != NULL && h->position != NULL && h->counts != NULL && h->exponents != NULL &&
                   h->full != NULL && h->local != NULL && h->send != NULL && h->receive != NULL,
               HSGD_ERR_MEMORY, err, "memory: cannot allocate the operator's buffers; use fewer columns at once");
    HSGD_TRY(backend->ops->alloc(backend->self, k * n * hsgd_real_size(backend->precision), &h->tangents, err));
done:
    return st;
}

static hsgd_status create(hessian *h, const hsgd_problem *problem, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t k = h->options.columns;
    const hsgd_sweep_plan plan = {.columns = k, .width = k, .tallies = 0, .states = 1};

    HSGD_CHECK(h->space->n == problem->network->parameters &&
                   hsgd_space_rows(h->space) == h->space->counts[h->space->comm->rank],
               HSGD_ERR_USAGE, err, "curvature: the space must be spread over the ranks, one row for each parameter");
    HSGD_TRY(hsgd_sweep_create(problem, &plan, &h->sweep, err));
    HSGD_TRY(hsgd_sweep_begin(h->sweep, h->options.index, h->options.count, k, err));
    HSGD_TRY(create_buffers(h, err));
    memcpy(h->index, h->options.index, (size_t)h->options.count * sizeof *h->index);
    for (int64_t i = 0; i < h->sweep->n; i++) {
        h->position[h->sweep->order[i]] = i;
    }
    HSGD_TRY(hsgd_sweep_upload(h->sweep, 1, h->options.weights, h->sweep->params, err));
    h->options.index = NULL; /* the caller's, as the weights: copied by now */
    h->options.weights = NULL;
    HSGD_TRY(create_cache(h, err));
done:
    return st;
}

hsgd_status hsgd_hessian_create(const hsgd_problem *problem, const hsgd_space *space,
                                const hsgd_hessian_options *options, hsgd_linop **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hessian *h = calloc(1, sizeof *h);
    const hsgd_linop_ops *ops = options->kind == HSGD_OPERATOR_HESSIAN ? &hessian_ops : &gauss_newton_ops;

    *out = NULL;
    if (h == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the operator");
    } else {
        h->space = space;
        h->options = *options;
        h->options.columns = options->columns > 0 ? options->columns : DEFAULT_COLUMNS;
        h->groups_between_looks = 1 + options->batch / (problem->backend->group + 1);
        h->words = problem->reduction == HSGD_REDUCTION_REPRODUCIBLE ? 2 : 1;
        st = create(h, problem, err);
    }
    if (st == HSGD_OK) {
        st = hsgd_linop_create(space, ops, h, out, err);
        h = NULL; /* the operator's, also on failure */
    }
    st = hsgd_comm_agree(problem->comm, st, err);
    if (st != HSGD_OK) {
        hsgd_linop_destroy(out);
    }
    if (h != NULL) {
        destroy(h);
    }
    return st;
}
