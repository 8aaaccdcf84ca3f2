/* src/solve/quadrature.c - spectral density by stochastic Lanczos quadrature. */
#include "solve/quadrature.h"
#include "solve/lanczos.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The start vector of a probe. */
static hsgd_status draw(const hsgd_quadrature_options *options, int64_t probe, hsgd_vector *v, hsgd_error *err)
{
    const hsgd_random stream = hsgd_random_stream(options->seed, HSGD_RANDOM_DENSITY, (uint32_t)probe);

    if (options->start != NULL) {
        return hsgd_vector_set_full(v, options->start + probe * v->space->n, err);
    }
    return hsgd_vector_random(v, 0, options->draw, &stream, err);
}

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

/* Probes that advance in lockstep. */
typedef struct {
    int64_t block, most; /* processes; steps of each */
    hsgd_lanczos **each; /* [block] then room for [block] of those still going */
    hsgd_vector *x, *y;  /* [n, block] */
    hsgd_vector *start;  /* [n, 1] */
    double *s;           /* [most][most] */
    int64_t products;    /* so far */
} lockstep;

static void destroy(lockstep *l)
{
    for (int64_t i = 0; l->each != NULL && i < l->block; i++) {
        hsgd_lanczos_destroy(&l->each[i]);
    }
    hsgd_vector_destroy(&l->start);
    hsgd_vector_destroy(&l->y);
    hsgd_vector_destroy(&l->x);
    free(l->each);
    free(l->s);
}

static hsgd_status create(const hsgd_space *space, lockstep *l, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    l->s = malloc((size_t)(l->most * l->most) * sizeof *l->s);
    l->each = calloc(2 * (size_t)l->block, sizeof(hsgd_lanczos *));
    if (l->s == NULL || l->each == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld Lanczos steps; use fewer",
                            (long long)l->most);
    }
    st = st == HSGD_OK ? hsgd_vector_create(space, l->block, &l->x, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(space, l->block, &l->y, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(space, 1, &l->start, err) : st;
    return hsgd_comm_agree(space->comm, st, err);
}

/* Begin the processes of `count` probes from `first` on. */
static hsgd_status begin(hsgd_linop *op, const hsgd_quadrature_options *options, lockstep *l, int64_t first,
                         int64_t count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < count; i++) {
        HSGD_TRY(draw(options, first + i, l->start, err));
        if (l->each[i] == NULL) {
            HSGD_TRY(hsgd_lanczos_create(op, l->start, l->most, &l->each[i], err));
        } else {
            HSGD_TRY(hsgd_lanczos_begin(l->each[i], l->start, err));
        }
    }
done:
    return st;
}

/* Step `count` processes to their ends; one that ends early drops out of the products. */
static hsgd_status advance(const hsgd_quadrature_options *options, lockstep *l, int64_t count, hsgd_error *err)
{
    hsgd_lanczos **going = l->each + l->block;
    hsgd_status st = HSGD_OK;

    for (int64_t step = 0; step < l->most; step++) {
        int64_t left = 0;

        for (int64_t i = 0; i < count; i++) {
            if (!l->each[i]->broken) {
                going[left++] = l->each[i];
            }
        }
        if (left == 0) {
            break;
        }
        HSGD_TRY(hsgd_lanczos_step_together(left, going, l->x, l->y, err));
        l->products += left;
        if (options->monitor != NULL) {
            options->monitor(options->context, l->products, options->probes * l->most);
        }
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

/* Keep the Ritz values and weights of the first `done` probes. */
static hsgd_status keep_probes(const hsgd_quadrature_options *options, hsgd_comm *comm, int64_t done,
                               const double *ritz, const double *weights, hsgd_error *err)
{
    const size_t nodes = (size_t)(done * options->steps);
    hsgd_status st = HSGD_OK;
    double *real = malloc((2 * nodes + 1) * sizeof *real);
    hsgd_snapshot snapshot = {.integers = 1, .integer = &done, .reals = 2 * (int64_t)nodes, .real = real};

    HSGD_TRY(hsgd_comm_agree(comm, real != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    memcpy(real, ritz, nodes * sizeof *real);
    memcpy(real + nodes, weights, nodes * sizeof *real);
    HSGD_TRY(hsgd_keeper_keep(options->keeper, &snapshot, err));
done:
    free(real);
    return st;
}

/* The probes that were kept, if any: *finished of them. */
static hsgd_status recall_probes(const hsgd_quadrature_options *options, const hsgd_space *space, int64_t *finished,
                                 double *ritz, double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_snapshot snapshot = {0};
    bool found = false;

    *finished = 0;
    HSGD_TRY(hsgd_keeper_recall(options->keeper, space, &snapshot, &found, err));
    if (found) {
        const int64_t count = snapshot.integers == 1 ? snapshot.integer[0] : -1;
        const size_t nodes = (size_t)(count * options->steps);

        HSGD_CHECK(count >= 0 && count <= options->probes && snapshot.reals == 2 * count * options->steps,
                   HSGD_ERR_DATA, err, "density: the state that was kept does not fit these probes; remove it");
        memcpy(ritz, snapshot.real, nodes * sizeof *ritz);
        memcpy(weights, snapshot.real + nodes, nodes * sizeof *weights);
        *finished = count;
    }
done:
    hsgd_snapshot_clear(&snapshot);
    return st;
}

/* The probes first .. first + count - 1 from their start to their nodes. */
static hsgd_status run_block(hsgd_linop *op, const hsgd_quadrature_options *options, lockstep *l, int64_t first,
                             int64_t count, double *ritz, double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(begin(op, options, l, first, count, err));
    HSGD_TRY(advance(options, l, count, err));
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = (first + i) * options->steps;

        HSGD_TRY(read_nodes(l->each[i], options->steps, l->s, ritz + at, weights + at, err));
    }
done:
    return st;
}

hsgd_status hsgd_quadrature(hsgd_linop *op, const hsgd_quadrature_options *options, double *ritz, double *weights,
                            hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(op);
    const int64_t steps = options->steps, probes = options->probes;
    lockstep l = {.block = hsgd_quadrature_block(options->block, probes), .most = steps < space->n ? steps : space->n};
    hsgd_status st = HSGD_OK;
    int64_t done = 0; /* probes */

    HSGD_CHECK(probes >= 1 && steps >= 1, HSGD_ERR_USAGE, err,
               "density: %lld probes of %lld steps; both must be at least 1", (long long)probes, (long long)steps);
    HSGD_TRY(create(space, &l, err));
    HSGD_TRY(recall_probes(options, space, &done, ritz, weights, err));
    l.products = done * l.most;
    while (done < probes) {
        const int64_t count = probes - done < l.block ? probes - done : l.block;
        bool due = false;

        st = run_block(op, options, &l, done, count, ritz, weights, err);
        if (st == HSGD_STOPPED && options->keeper != NULL) { /* what is finished; the rest is made again */
            st = keep_probes(options, space->comm, done, ritz, weights, err);
            st = st == HSGD_OK
                     ? hsgd_error_set(err, HSGD_STOPPED, "density: stopped after %lld probes", (long long)done)
                     : st;
        }
        HSGD_TRY(st);
        done += count;
        HSGD_TRY(hsgd_keeper_due(options->keeper, &due, err));
        if (due) {
            HSGD_TRY(keep_probes(options, space->comm, done, ritz, weights, err));
        }
    }
done:
    destroy(&l);
    return st;
}
