/* src/curvature/hessian.c - the Hessian and the Gauss-Newton matrix of the mean cross-entropy as linear operators.
 *
 * One apply, by chunks of columns: gather X, products of this rank's groups, then one reduce-scatter that hands every
 * rank its rows.  What a rank sends to another is [row][column][word] (two words a number in reproducible mode, one in
 * fast) and, behind them, three words of news - sums not finite, failed, asked to stop - so that all ranks learn these
 * without a further collective.  Vectors and sums stay in backend memory; the host waits for the news alone.
 *
 * The exact sums are of fixed point, so their error is absolute.  Each column is therefore brought to a norm between 1/2
 * and 1 by a power of two before the sweep and back after it, both exact: the product is as accurate for a vector of
 * norm 1e-16 as for one of norm 1e13, and A (2^k x) = 2^k A x to the last bit. */
#include "curvature/sweep.h"
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEFAULT_COLUMNS = 8 }; /* amortises the shared base pass; more only takes memory */
enum { NEWS_BAD, NEWS_FAILED, NEWS_STOPPED, NEWS };

/* How the words that a rank sends are picked out of its sums, for k columns. */
typedef struct {
    int64_t k;
    int64_t *index; /* backend, [k * n * words + NEWS * ranks] */
} packing;

enum { WHOLE_CHUNK, REST_CHUNK, PACKINGS };

typedef struct {
    hsgd_sweep *sweep;
    const hsgd_space *space;
    hsgd_hessian_options options;
    int64_t *counts;            /* [ranks]: words for each rank */
    packing packings[PACKINGS]; /* of whole chunks of columns, and of the last seen shorter one */
    /* backend memory: */
    double *full;            /* [columns][n]: room for the rows of all ranks */
    int32_t *exponents;      /* [columns]: the tangents are the columns times 2^-exponent */
    int64_t *send, *receive; /* words */
    void *tangents;          /* reals [columns][n] */
    char *cache;             /* base states of the rank's first `cached` groups */
    bool *built;             /* host, [cached] */
    int64_t cached;
    int64_t words;    /* of one number: 2 or 1 */
    int64_t products; /* columns asked for so far, those of the present chunk among them */
    int64_t groups_between_looks;
    atomic_bool stopped;
} hessian;

/* ---- products of a rank's groups ---- */

/* The base state of a group: kept, or rebuilt by the same kernels, so with the same bits. */
static hsgd_status base_state(hessian *h, hsgd_sweep_worker *worker, int64_t group, const hsgd_group *samples,
                              void **state, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_sweep *sweep = h->sweep;
    const bool kept = group < h->cached;

    *state = kept ? h->cache + (size_t)group * hsgd_pass_state_bytes(sweep->pass) : worker->state;
    if (!kept || !h->built[group]) {
        HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, samples, *state, worker->loss, NULL, err));
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

static hsgd_status local_products(hessian *h, const double *full, int64_t k, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;
    const int64_t n = h->sweep->n;

    HSGD_TRY(backend->ops->exponents(backend->self, n, k, full, h->exponents, err));
    HSGD_TRY(backend->ops->narrow(backend->self, n, k, full, h->sweep->order, h->exponents, h->tangents, err));
    HSGD_TRY(hsgd_sweep_run(h->sweep, product_group, h, err));
    if (asked_to_stop(h)) { /* also where worker 0, or the whole rank, had no group */
        atomic_store(&h->stopped, true);
    }
done:
    return st;
}

/* ---- rows to their ranks ---- */

/* Canonical rows, rank by rank, and the news behind each rank's. */
static void fill_packing(const hessian *h, int64_t k, int64_t *index)
{
    const int64_t n = h->sweep->n, count = k * n, news = hsgd_sweep_news(h->sweep);
    const bool exact = h->words == 2;
    int64_t row = 0, end = 0;

    for (int rank = 0; rank < h->space->comm->ranks; rank++) {
        for (end += h->space->counts[rank]; row < end; row++) {
            for (int64_t j = 0; j < k; j++) {
                const int64_t from = j * n + h->sweep->position[row];

                *index++ = from;
                if (exact) {
                    *index++ = count + from;
                }
            }
        }
        index[NEWS_BAD] = exact ? 2 * count : news + HSGD_NEWS_BAD;
        index[NEWS_FAILED] = news + HSGD_NEWS_FAILED;
        index[NEWS_STOPPED] = news + HSGD_NEWS_STOPPED;
        index += NEWS;
    }
}

static int64_t words_sent(const hessian *h, int64_t k)
{
    return k * h->sweep->n * h->words + (int64_t)NEWS * h->space->comm->ranks;
}

/* The packing of k columns; made anew where k is not that of the calls before. */
static hsgd_status packing_of(hessian *h, int64_t k, const int64_t **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;
    packing *p = &h->packings[k == h->options.columns ? WHOLE_CHUNK : REST_CHUNK];
    const size_t bytes = (size_t)words_sent(h, k) * sizeof(int64_t);
    int64_t *index = NULL;

    if (p->k != k) {
        index = malloc(bytes);
        HSGD_CHECK(index != NULL, HSGD_ERR_MEMORY, err, "memory: cannot order the products for the ranks");
        fill_packing(h, k, index);
        p->k = 0;
        HSGD_TRY(backend->ops->upload(backend->self, bytes, index, p->index, err));
        p->k = k;
    }
    *out = p->index;
done:
    free(index);
    return st;
}

/* In fast mode the sums themselves tell what is not finite, or so large that the sum over the ranks might not be, once
 * scaled back; exact sums stay below 2^54 and count what was not. */
static hsgd_status count_bad(const hessian *h, int64_t k, hsgd_error *err)
{
    const hsgd_backend *backend = h->sweep->problem.backend;
    const double limit = ldexp(DBL_MAX, -HSGD_MOST_EXPONENT) / (2.0 * h->space->comm->ranks);
    double *sums = (double *)(void *)h->sweep->words;

    return h->words == 2 ? HSGD_OK
                         : backend->ops->count_beyond(backend->self, k * h->sweep->n, sums, limit,
                                                      sums + hsgd_sweep_news(h->sweep) + HSGD_NEWS_BAD, err);
}

/* Nothing but the news that this rank failed, to every rank. */
static hsgd_status send_failure(hessian *h, int64_t k, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;
    const int64_t exact[NEWS] = {[NEWS_FAILED] = 1};
    const double plain[NEWS] = {[NEWS_FAILED] = 1.0};
    int64_t *to = h->send;

    HSGD_TRY(backend->ops->zero(backend->self, 0, (size_t)words_sent(h, k) * sizeof *to, to, err));
    for (int rank = 0; rank < h->space->comm->ranks; rank++) {
        to += h->counts[rank];
        HSGD_TRY(backend->ops->upload(backend->self, sizeof exact, h->words == 2 ? (const void *)exact : plain,
                                      to - NEWS, err));
    }
done:
    return st;
}

/* The rank's sums, with its news, in the order of sending. */
static hsgd_status pack(hessian *h, int64_t k, const int64_t *index, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;

    HSGD_TRY(hsgd_sweep_close(h->sweep, HSGD_OK, atomic_load(&h->stopped), err));
    HSGD_TRY(count_bad(h, k, err));
    HSGD_TRY(backend->ops->permute(backend->self, words_sent(h, k), index, h->sweep->words, h->send, err));
done:
    return st;
}

/* What the ranks together have to tell; the same on every rank. */
static hsgd_status read_news(const hessian *h, int64_t k, int64_t first, hsgd_status local, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;
    int64_t words[NEWS];
    const int64_t first_of_chunk = h->products - k + 1;
    char number[64];
    bool news[NEWS];

    HSGD_TRY(backend->ops->download(backend->self, sizeof words, h->receive + first, words, err));
    for (int i = 0; i < NEWS; i++) {
        news[i] = words[i] != 0; /* 0.0 is made of zero bits too */
    }
    if (news[NEWS_FAILED]) {
        HSGD_TRY(hsgd_comm_agree(h->space->comm, local, err));
    }
    HSGD_CHECK(!news[NEWS_STOPPED], HSGD_STOPPED, err, "curvature: asked to stop in the middle of a product");
    if (k == 1) {
        (void)snprintf(number, sizeof number, "product %lld", (long long)h->products);
    } else {
        (void)snprintf(number, sizeof number, "one of products %lld to %lld", (long long)first_of_chunk,
                       (long long)h->products);
    }
    HSGD_CHECK_FINITE(!news[NEWS_BAD], err,
                      "curvature: %s holds NaN, Inf or numbers out of range; check the weights, and that the vector is "
                      "finite and of a norm below 2^%d",
                      number, HSGD_MOST_EXPONENT);
done:
    return st;
}

static hsgd_status apply_chunk(hessian *h, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK, local = HSGD_OK;
    const hsgd_problem *problem = &h->sweep->problem;
    const hsgd_backend *backend = problem->backend;
    const int64_t k = x->columns, rows = hsgd_space_rows(h->space);
    const hsgd_comm *comm = h->space->comm;
    const int64_t *index = NULL;
    const double *full = NULL;

    HSGD_TRY(hsgd_vector_whole(x, h->full, &full, err));
    for (int rank = 0; rank < comm->ranks; rank++) {
        h->counts[rank] = h->space->counts[rank] * k * h->words + NEWS;
    }
    hsgd_sweep_begin(h->sweep, k);
    atomic_store(&h->stopped, false);
    local = packing_of(h, k, &index, err);
    if (local == HSGD_OK) {
        local = local_products(h, full, k, err);
    }
    HSGD_TRY(local == HSGD_OK ? pack(h, k, index, err) : send_failure(h, k, err));
    HSGD_TRY(hsgd_exchange_reduce_scatter(&h->sweep->exchange, h->words == 2 ? HSGD_TYPE_I64 : HSGD_TYPE_F64, h->counts,
                                          h->send, h->receive, err));
    if (rows > 0) {
        HSGD_TRY(backend->ops->expand(backend->self, problem->reduction, rows, k, h->receive, h->sweep->scale,
                                      (double)h->options.count, h->exponents, y->data, rows, err));
    }
    HSGD_TRY(read_news(h, k, h->counts[comm->rank] - NEWS, local, err));
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

        h->products += k;
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
        void *const all[] = {h->tangents,
                             h->cache,
                             h->full,
                             h->exponents,
                             h->send,
                             h->receive,
                             h->packings[WHOLE_CHUNK].index,
                             h->packings[REST_CHUNK].index};

        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            backend->ops->release(backend->self, all[i]);
        }
    }
    hsgd_sweep_destroy(&h->sweep);
    free(h->counts);
    free(h->built);
    free(h);
}

static const hsgd_linop_ops hessian_ops = {.name = "hessian", .apply = apply, .destroy = destroy};
static const hsgd_linop_ops gauss_newton_ops = {.name = "gauss-newton", .apply = apply, .destroy = destroy};

/* Keep as many of this rank's groups as cache_bytes holds, or as there turns out to be memory for; they are filled when
 * first used. */
static hsgd_status create_cache(hessian *h, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = h->sweep->problem.backend;
    const size_t bytes = hsgd_pass_state_bytes(h->sweep->pass);
    const int64_t mine = h->sweep->groups.high - h->sweep->groups.low, room = (int64_t)(h->options.cache_bytes / bytes);
    void *cache = NULL;

    h->cached = mine < room ? mine : room;
    while (h->cached > 0 && st == HSGD_OK && cache == NULL) {
        hsgd_error own = {0};

        st = backend->ops->alloc(backend->self, (size_t)h->cached * bytes, &cache, &own);
        if (st == HSGD_ERR_MEMORY) { /* no result depends on what is kept */
            st = HSGD_OK;
            h->cached /= 2;
        }
        HSGD_CHECK(st == HSGD_OK, st, err, "%s", own.text);
    }
    if (h->cached > 0) {
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
    const int64_t n = h->sweep->n, k = h->options.columns, rows = hsgd_space_rows(h->space);
    const int64_t sent = words_sent(h, k), received = k * rows * h->words + NEWS;

    h->counts = malloc((size_t)h->space->comm->ranks * sizeof *h->counts);
    HSGD_CHECK(h->counts != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the operator's buffers");
    HSGD_TRY(hsgd_sweep_take(h->sweep, h->space->comm->ranks > 1 ? k * n : 0, sizeof(double), &h->full, err));
    HSGD_TRY(hsgd_sweep_take(h->sweep, k, sizeof(int32_t), &h->exponents, err));
    HSGD_TRY(hsgd_sweep_take(h->sweep, sent, sizeof(int64_t), &h->send, err));
    HSGD_TRY(hsgd_sweep_take(h->sweep, received, sizeof(int64_t), &h->receive, err));
    HSGD_TRY(hsgd_sweep_take(h->sweep, sent, sizeof(int64_t), &h->packings[WHOLE_CHUNK].index, err));
    HSGD_TRY(hsgd_sweep_take(h->sweep, sent, sizeof(int64_t), &h->packings[REST_CHUNK].index, err));
    HSGD_TRY(hsgd_sweep_take(h->sweep, k * n, hsgd_real_size(h->sweep->problem.backend->precision), &h->tangents, err));
    HSGD_TRY(hsgd_exchange_reserve(&h->sweep->exchange, sent + received, err));
    HSGD_TRY(hsgd_space_reserve(h->space, err));
done:
    return st;
}

static hsgd_status create(hessian *h, const hsgd_problem *problem, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t k = h->options.columns;
    const hsgd_sweep_plan plan = {.samples = h->options.count, .columns = k, .width = k, .states = 1};

    HSGD_CHECK(h->space->n == problem->network->parameters &&
                   hsgd_space_rows(h->space) == h->space->counts[h->space->comm->rank],
               HSGD_ERR_USAGE, err, "curvature: the space must be spread over the ranks, one row for each parameter");
    HSGD_TRY(hsgd_sweep_create(problem, &plan, &h->sweep, err));
    HSGD_TRY(hsgd_sweep_select(h->sweep, h->options.index, h->options.count, err));
    h->groups_between_looks = 1 + h->options.batch / (h->sweep->groups.group + 1);
    HSGD_TRY(create_buffers(h, err));
    HSGD_TRY(hsgd_sweep_upload(h->sweep, h->options.weights, h->sweep->params, err));
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
