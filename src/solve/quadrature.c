/* src/solve/quadrature.c - spectral density by stochastic Lanczos quadrature. */
#include "solve/quadrature.h"
#include "solve/lanczos.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Probes that advance in lockstep, and the nodes of those before them. */
typedef struct {
    hsgd_linop *op;
    const hsgd_quadrature_options *options;
    double *ritz, *weights; /* [probes][steps], of the caller */
    int64_t held;           /* vectors that are deflated */
    int64_t block, most;    /* processes; steps of each */
    int64_t stride;         /* columns of a process */
    int64_t done, running;  /* probes with nodes; probes after them whose processes run */
    int64_t products;       /* so far */
    hsgd_vector *columns;   /* [n, block * stride]: all there is of the processes' vectors, so that it can be kept */
    hsgd_vector *rooms;     /* [block]: views of the columns of each */
    hsgd_lanczos **each;    /* [block], then room for [block] of those still going */
    hsgd_vector *x, *y;     /* [n, block] */
    hsgd_vector *start;     /* [n, 1] */
    double *s;              /* [most][most] */
} lockstep;

/* The quadrature must reproduce what was measured on the first product: 1, v'Av and norm(Av)^2.  LAPACK's eigenvectors
 * are orthogonal to a small multiple of eps * steps, so the sums are off by as much times norm(A)^power. */
static hsgd_status self_test(const hsgd_lanczos *lanczos, const double *ritz, const double *weights, hsgd_error *err)
{
    const double allowed = 64.0 * DBL_EPSILON * (double)(lanczos->steps + 1);
    const double measured[3] = {1.0, lanczos->alpha[0], lanczos->first * lanczos->first};
    const double unit[3] = {1.0, lanczos->norm, lanczos->norm * lanczos->norm};
    double sum[3] = {0};
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < lanczos->steps; i++) {
        sum[0] += weights[i];
        sum[1] += weights[i] * ritz[i];
        sum[2] += weights[i] * ritz[i] * ritz[i];
    }
    for (int power = 0; power < 3; power++) {
        HSGD_CHECK(fabs(sum[power] - measured[power]) <= allowed * unit[power], HSGD_ERR_NUMERIC, err,
                   "density: moment %d of the quadrature is %.17g but was measured as %.17g; the run-time check of "
                   "the density failed",
                   power, sum[power], measured[power]);
    }
done:
    return st;
}

/* Ritz values and weights [steps] of the process as it stands; s: [steps][steps] scratch. */
static hsgd_status read_nodes(const hsgd_lanczos *lanczos, int64_t steps, double *s, double *ritz, double *weights,
                              hsgd_error *err)
{
    const int64_t k = lanczos->steps;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_lanczos_ritz(lanczos, ritz, s, err));
    for (int64_t i = 0; i < k; i++) {
        weights[i] = s[i] * s[i]; /* row 0: components along the start vector */
    }
    HSGD_TRY(self_test(lanczos, ritz, weights, err));
    for (int64_t i = k; i < steps; i++) {
        ritz[i] = ritz[k - 1];
        weights[i] = 0.0;
    }
done:
    return st;
}

int64_t hsgd_quadrature_block(int64_t block, int64_t probes)
{
    enum { CHOSEN = 8 };
    const int64_t most = block > 0 ? block : CHOSEN;

    return most < probes ? most : probes;
}

void hsgd_quadrature_plan(int64_t n, double accuracy, double eta, int64_t *probes, int64_t *steps)
{
    static const double MANY = 1e9; /* what density.probes may be: nobody waits for as many */
    const double order = (double)n;

    *probes = (int64_t)fmin(ceil(4.0 * log(2.0 * order / eta) / ((order + 2.0) * accuracy * accuracy)), MANY);
    *steps = (int64_t)fmin(ceil(12.0 / accuracy + 0.5), order);
}

/* ---- the state between two steps ---- */

static const char MISFIT[] = "density: the state that was kept does not fit these probes; remove it";

/* Numbers of a process. */
static int64_t reals_of(const lockstep *l)
{
    return HSGD_LANCZOS_REALS + 2 * l->most;
}

/* Keep the nodes of finished probes, the processes of those that run, and the deflated vectors, by which a state of
 * others is known.  These head the first process's columns but one. */
static hsgd_status keep(const lockstep *l, hsgd_error *err)
{
    const size_t nodes = (size_t)(l->done * l->options->steps);
    const int64_t integers = HSGD_QUADRATURE_HEAD + HSGD_LANCZOS_INTEGERS * l->running;
    const int64_t reals = 2 * (int64_t)nodes + reals_of(l) * l->running;
    hsgd_vector vectors = l->running > 0 ? hsgd_vector_view(l->columns, 0, l->running * l->stride)
                                         : hsgd_vector_view(l->columns, 1, l->held);
    hsgd_status st = HSGD_OK;
    int64_t *integer = malloc((size_t)integers * sizeof *integer);
    double *real = malloc(((size_t)reals + 1) * sizeof *real);
    const hsgd_snapshot snapshot = {.integers = integers,
                                    .integer = integer,
                                    .reals = reals,
                                    .real = real,
                                    .vectors = vectors.columns > 0 ? &vectors : NULL};

    HSGD_TRY(hsgd_comm_agree(hsgd_linop_space(l->op)->comm, integer != NULL && real != NULL ? HSGD_OK : HSGD_ERR_MEMORY,
                             err));
    integer[HSGD_QUADRATURE_DONE] = l->done;
    integer[HSGD_QUADRATURE_RUNNING] = l->running;
    memcpy(real, l->ritz, nodes * sizeof *real);
    memcpy(real + nodes, l->weights, nodes * sizeof *real);
    for (int64_t i = 0; i < l->running; i++) {
        hsgd_lanczos_save(l->each[i], integer + HSGD_QUADRATURE_HEAD + HSGD_LANCZOS_INTEGERS * i,
                          real + 2 * nodes + reals_of(l) * i);
    }
    HSGD_TRY(hsgd_keeper_keep(l->options->keeper, &snapshot, err));
done:
    free(real);
    free(integer);
    return st;
}

static hsgd_status offer(const lockstep *l, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool due = false;

    HSGD_TRY(hsgd_keeper_due(l->options->keeper, &due, err));
    if (due) {
        HSGD_TRY(keep(l, err));
    }
done:
    return st;
}

/* Were the vectors of `kept` from column `first` on those that are deflated now? */
static hsgd_status check_deflated(const hsgd_vector *deflated, const hsgd_snapshot *kept, int64_t first,
                                  hsgd_error *err)
{
    const hsgd_vector then = hsgd_vector_view(kept->vectors, first, deflated->columns);
    hsgd_vector *difference = NULL;
    hsgd_status st = HSGD_OK;

    st = hsgd_vector_clone(deflated, &difference, err);
    HSGD_TRY(hsgd_comm_agree(deflated->space->comm, st, err)); /* one rank alone may be short of memory */
    HSGD_TRY(hsgd_vector_axpy(-1.0, &then, difference, err));
    for (int64_t i = 0; i < deflated->columns; i++) {
        const hsgd_vector one = hsgd_vector_view(difference, i, 1);
        double norm = 0.0;

        HSGD_TRY(hsgd_vector_norm(&one, &norm, err));
        HSGD_CHECK(norm == 0.0, HSGD_ERR_DATA, err,
                   "density: the state that was kept has other eigenvectors deflated than there are now; remove it");
    }
done:
    hsgd_vector_destroy(&difference);
    return st;
}

bool hsgd_quadrature_counts(const hsgd_snapshot *state, int64_t probes, int64_t *done, int64_t *running)
{
    *done = *running = 0;
    if (state->integers < HSGD_QUADRATURE_HEAD) {
        return false;
    }
    *done = state->integer[HSGD_QUADRATURE_DONE];
    *running = state->integer[HSGD_QUADRATURE_RUNNING];
    return *done >= 0 && *done <= probes && *running >= 0 && *running <= probes - *done &&
           state->integers == HSGD_QUADRATURE_HEAD + HSGD_LANCZOS_INTEGERS * *running;
}

/* What was kept, if anything: the nodes of the *done first probes, and how many processes run. */
static hsgd_status recall_nodes(const hsgd_quadrature_options *options, const hsgd_space *space, double *ritz,
                                double *weights, int64_t *done, int64_t *running, hsgd_snapshot *kept, hsgd_error *err)
{
    const int64_t steps = options->steps, held = options->deflate != NULL ? options->deflate->columns : 0;
    hsgd_status st = HSGD_OK;
    bool found = false;

    *done = *running = 0;
    HSGD_TRY(hsgd_keeper_recall(options->keeper, space, kept, &found, err));
    if (found) {
        const bool counts = hsgd_quadrature_counts(kept, options->probes, done, running);
        const int64_t columns = kept->vectors != NULL ? kept->vectors->columns : 0;
        const size_t nodes = (size_t)(counts ? *done * steps : 0);

        HSGD_CHECK(counts && kept->reals >= 2 * *done * steps && columns >= held + (*running > 0), HSGD_ERR_DATA, err,
                   "%s", MISFIT);
        memcpy(ritz, kept->real, nodes * sizeof *ritz);
        memcpy(weights, kept->real + nodes, nodes * sizeof *weights);
        HSGD_TRY(held > 0 ? check_deflated(options->deflate, kept, *running > 0, err) : HSGD_OK);
    }
done:
    return st;
}

/* And what the processes need is there. */
static hsgd_status recall(lockstep *l, hsgd_snapshot *kept, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(recall_nodes(l->options, hsgd_linop_space(l->op), l->ritz, l->weights, &l->done, &l->running, kept, err));
    if (kept->integers > 0) {
        const int64_t columns = kept->vectors != NULL ? kept->vectors->columns : 0;

        HSGD_CHECK(columns == (l->running > 0 ? l->running * l->stride : l->held) &&
                       kept->reals == 2 * l->done * l->options->steps + l->running * reals_of(l),
                   HSGD_ERR_DATA, err, "%s", MISFIT);
    }
    if (l->running > l->block || l->done + l->running == l->options->probes) {
        l->block = l->running > 0 ? l->running : l->block; /* these go on together, whatever the block is now */
    }
done:
    return st;
}

hsgd_status hsgd_quadrature_recall(const hsgd_quadrature_options *options, const hsgd_space *space, int64_t *done,
                                   double *ritz, double *weights, hsgd_error *err)
{
    hsgd_snapshot kept = {0};
    int64_t running = 0;
    const hsgd_status st = recall_nodes(options, space, ritz, weights, done, &running, &kept, err);

    hsgd_snapshot_clear(&kept);
    return st;
}

hsgd_status hsgd_quadrature_keep(const hsgd_quadrature_options *options, const hsgd_space *space, int64_t done,
                                 const double *ritz, const double *weights, hsgd_error *err)
{
    const size_t nodes = (size_t)(done * options->steps);
    hsgd_status st = HSGD_OK;
    int64_t integer[HSGD_QUADRATURE_HEAD] = {[HSGD_QUADRATURE_DONE] = done};
    double *real = malloc((2 * nodes + 1) * sizeof *real);
    hsgd_vector held = {0};
    hsgd_snapshot snapshot = {
        .integers = HSGD_QUADRATURE_HEAD, .integer = integer, .reals = 2 * (int64_t)nodes, .real = real};

    HSGD_TRY(hsgd_comm_agree(space->comm, real != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    memcpy(real, ritz, nodes * sizeof *real);
    memcpy(real + nodes, weights, nodes * sizeof *real);
    if (options->deflate != NULL) {
        held = *options->deflate;
        snapshot.vectors = &held;
    }
    HSGD_TRY(hsgd_keeper_keep(options->keeper, &snapshot, err));
done:
    free(real);
    return st;
}

/* Take up the processes that ran. */
static hsgd_status restore(lockstep *l, const hsgd_snapshot *kept, hsgd_error *err)
{
    const double *real = kept->real + 2 * l->done * l->options->steps;
    hsgd_status st = HSGD_OK;

    l->products = l->done * l->most;
    if (l->running > 0 && kept->vectors != NULL) {
        hsgd_vector columns = hsgd_vector_view(l->columns, 0, l->running * l->stride);

        HSGD_TRY(hsgd_vector_copy(kept->vectors, &columns, err));
    }
    for (int64_t i = 0; i < l->running; i++) {
        HSGD_TRY(hsgd_lanczos_restore(l->each[i], kept->integer + HSGD_QUADRATURE_HEAD + HSGD_LANCZOS_INTEGERS * i,
                                      real + reals_of(l) * i, err));
        l->products += l->each[i]->steps;
    }
done:
    return st;
}

/* ---- the probes ---- */

static void destroy(lockstep *l)
{
    for (int64_t i = 0; l->each != NULL && i < l->block; i++) {
        hsgd_lanczos_destroy(&l->each[i]);
    }
    hsgd_vector_destroy(&l->start);
    hsgd_vector_destroy(&l->y);
    hsgd_vector_destroy(&l->x);
    hsgd_vector_destroy(&l->columns);
    free(l->rooms);
    free(l->each);
    free(l->s);
}

/* kept: its vectors become the processes' where they are as many, so that they need not stand twice. */
static hsgd_status create(lockstep *l, hsgd_snapshot *kept, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(l->op);
    hsgd_status st = HSGD_OK;

    l->s = malloc((size_t)(l->most * l->most) * sizeof *l->s);
    l->each = calloc(2 * (size_t)l->block, sizeof(hsgd_lanczos *));
    l->rooms = calloc((size_t)l->block, sizeof *l->rooms);
    if (l->s == NULL || l->each == NULL || l->rooms == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld Lanczos steps; use fewer",
                            (long long)l->most);
    }
    if (l->running > 0 && kept->vectors->columns == l->block * l->stride) {
        l->columns = kept->vectors;
        kept->vectors = NULL;
    } else {
        st = st == HSGD_OK ? hsgd_vector_create(space, l->block * l->stride, &l->columns, err) : st;
    }
    st = st == HSGD_OK ? hsgd_vector_create(space, l->block, &l->x, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(space, l->block, &l->y, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(space, 1, &l->start, err) : st;
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    for (int64_t i = 0; i < l->block; i++) {
        l->rooms[i] = hsgd_vector_view(l->columns, i * l->stride, l->stride);
        HSGD_TRY(hsgd_lanczos_create(l->op, l->options->deflate, l->most, &l->rooms[i], &l->each[i], err));
    }
done:
    return st;
}

/* The start vector of a probe. */
static hsgd_status draw(const hsgd_quadrature_options *options, int64_t probe, hsgd_vector *v, hsgd_error *err)
{
    const hsgd_random stream =
        hsgd_random_stream(options->seed, HSGD_RANDOM_DENSITY, (uint32_t)(options->first + probe));

    if (options->start != NULL) {
        return hsgd_vector_set_full(v, options->start + probe * v->space->n, err);
    }
    return hsgd_vector_random(v, 0, options->draw, &stream, err);
}

/* Begin the processes of the next probes. */
static hsgd_status begin(lockstep *l, hsgd_error *err)
{
    const int64_t left = l->options->probes - l->done;
    const int64_t block = hsgd_quadrature_block(l->options->block, l->options->probes);
    const int64_t count = left < block ? left : block;
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < count; i++) {
        HSGD_TRY(draw(l->options, l->done + i, l->start, err));
        HSGD_TRY(hsgd_lanczos_begin(l->each[i], l->start, err));
    }
    l->running = count;
done:
    return st;
}

/* Those that are not at their ends, to the second half of each[]: how many. */
static int64_t still_going(const lockstep *l)
{
    int64_t left = 0;

    for (int64_t i = 0; i < l->running; i++) {
        if (!l->each[i]->broken && l->each[i]->steps < l->most) {
            l->each[l->block + left++] = l->each[i];
        }
    }
    return left;
}

/* Step the processes to their ends; one that ends early drops out of the products. */
static hsgd_status advance(lockstep *l, hsgd_error *err)
{
    const hsgd_quadrature_options *options = l->options;
    hsgd_status st = HSGD_OK;
    int64_t left = still_going(l);

    while (left > 0) {
        st = hsgd_lanczos_step(left, l->each + l->block, l->x, l->y, err);
        if (st == HSGD_STOPPED && options->keeper != NULL) { /* within the product, before any process changed */
            HSGD_TRY(keep(l, err));
            st = hsgd_error_set(err, HSGD_STOPPED, "density: stopped after %lld probes", (long long)l->done);
        }
        HSGD_TRY(st);
        l->products += left;
        if (options->monitor != NULL) {
            options->monitor(options->context, l->products, options->probes * l->most);
        }
        left = still_going(l);
        HSGD_TRY(left > 0 ? offer(l, err) : HSGD_OK);
    }
done:
    return st;
}

/* The processes have ended: their nodes. */
static hsgd_status finish(lockstep *l, hsgd_error *err)
{
    const int64_t steps = l->options->steps;
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < l->running; i++) {
        const int64_t at = (l->done + i) * steps;

        HSGD_TRY(read_nodes(l->each[i], steps, l->s, l->ritz + at, l->weights + at, err));
    }
    l->done += l->running;
    l->running = 0;
done:
    return st;
}

hsgd_status hsgd_quadrature(hsgd_linop *op, const hsgd_quadrature_options *options, double *ritz, double *weights,
                            hsgd_error *err)
{
    const int64_t held = options->deflate != NULL ? options->deflate->columns : 0;
    const int64_t rest = hsgd_linop_space(op)->n - held; /* rows of the projected matrix that are not 0 */
    hsgd_status st = HSGD_OK;
    hsgd_snapshot kept = {0};
    lockstep l = {.op = op,
                  .options = options,
                  .ritz = ritz,
                  .weights = weights,
                  .held = held,
                  .block = hsgd_quadrature_block(options->block, options->probes),
                  .most = options->steps < rest ? options->steps : rest};

    HSGD_CHECK(options->probes >= 1 && l.most >= 1, HSGD_ERR_USAGE, err,
               "density: %lld probes of %lld steps, %lld rows not deflated; all must be at least 1",
               (long long)options->probes, (long long)options->steps, (long long)rest);
    l.stride = hsgd_lanczos_columns(held, l.most);
    HSGD_TRY(recall(&l, &kept, err));
    HSGD_TRY(create(&l, &kept, err));
    if (kept.integers > 0) {
        HSGD_TRY(restore(&l, &kept, err));
    }
    hsgd_snapshot_clear(&kept);
    while (l.done < options->probes) {
        HSGD_TRY(l.running == 0 ? begin(&l, err) : HSGD_OK);
        HSGD_TRY(advance(&l, err));
        HSGD_TRY(finish(&l, err));
        HSGD_TRY(offer(&l, err));
    }
done:
    hsgd_snapshot_clear(&kept);
    destroy(&l);
    return st;
}
