/* src/solve/lanczos_eigen.c - eigenpairs at the ends of the spectrum by block Lanczos with thick restarts.
 *
 * The columns of `basis` are [locked | V | W]: pairs that are finished, the basis of the present sequence, the block that
 * the operator is applied to next.  A V = V T + W B; T and B are in `projected`.  Gram-Schmidt takes every new block
 * against all columns, so locked pairs never come back. */
#include "solve/search.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1, LEAST_BASIS = 128, PER_PAIR = 4, LOOK_SHARE = 10 }; /* what is chosen: see docs/curvature.md */

/* A coupling that small against norm(A), in tolerances, says that a sequence has shown all it has: it may be dropped.  What
 * lies below is rounding as far as the tolerance can tell, be it that of products in single precision. */
static const double DROPPED_AT = 0.1;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Record a look: at restarts, and the last. */
static hsgd_status mark(eigen_search *f, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (f->marks == f->marks_capacity) {
        const int64_t capacity = larger(16, 2 * f->marks_capacity);
        hsgd_eigen_mark *more = realloc(f->history, (size_t)capacity * sizeof *more);

        f->history = more != NULL ? more : f->history;
        HSGD_TRY(hsgd_comm_agree(f->k.basis->space->comm, more != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
        f->marks_capacity = capacity;
    }
    f->history[f->marks++] = (hsgd_eigen_mark){.products = f->products,
                                               .converged = f->converged,
                                               .basis = f->k.locked + f->k.projected.size,
                                               .worst = f->worst,
                                               .largest = f->scale,
                                               .seconds_products = f->k.seconds_products,
                                               .seconds_communication = f->k.seconds_communication,
                                               .seconds_orthogonalization = f->k.seconds_orthogonalization};
    if (f->options->record != NULL) {
        f->options->record(f->options->context, &f->history[f->marks - 1]);
    }
done:
    return st;
}

/* The basis is full: keep the pairs that have converged and half of the others, those nearest to the wanted ends. */
static hsgd_status restart(eigen_search *f, hsgd_error *err)
{
    const hsgd_projected *p = &f->k.projected;
    const int64_t least = smaller(f->wanted + f->k.block, p->size);
    const int64_t converged = larger(f->converged - f->k.locked, 0), half = converged + (p->size - converged) / 2;
    const int64_t most = p->capacity - 2 * f->k.block; /* so that a step has room */
    const int64_t count = smaller(larger(least, half), larger(most, 1));
    hsgd_status st = HSGD_OK;

    eigen_search_order(f->options->which, p->size, p->theta, 1, count, f->kept);
    HSGD_TRY(hsgd_krylov_keep(&f->k, count, f->kept, err));
    f->restarts++;
    HSGD_TRY(mark(f, err));
done:
    return st;
}

/* Is locked column i among the wanted pairs? */
static bool is_wanted(const eigen_search *f, int64_t i)
{
    for (int64_t j = 0; j < f->chosen_count; j++) {
        if (f->chosen[j].locked && f->chosen[j].at == i) {
            return true;
        }
    }
    return false;
}

/* Locked columns that are wanted no more go; *left stay, in order. */
static hsgd_status release_unwanted(eigen_search *f, int64_t *left, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    *left = 0;
    for (int64_t i = 0; i < f->k.locked; i++) {
        if (is_wanted(f, i)) {
            f->locked[*left] = f->locked[i];
            HSGD_TRY(hsgd_krylov_move(&f->k, i, (*left)++, err));
        }
    }
done:
    return st;
}

/* Lock the wanted pairs of the sequence, which span an invariant subspace but for their residuals, and begin anew in their
 * complement. */
static hsgd_status begin_sequence(eigen_search *f, hsgd_error *err)
{
    int64_t fresh = 0, old = 0;
    double squares = 0.0;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(release_unwanted(f, &old, err));
    for (int64_t i = 0; i < f->chosen_count; i++) {
        if (!f->chosen[i].locked) {
            const double bound = f->k.projected.bound[f->chosen[i].at];

            squares += bound * bound;
            f->kept[fresh++] = f->chosen[i].at;
        }
    }
    f->k.dropped += sqrt(squares);
    HSGD_TRY(hsgd_krylov_keep(&f->k, fresh, f->kept, err));
    for (int64_t i = 0; i < fresh; i++) {
        f->locked[old + i] = f->k.projected.t[i * f->k.projected.capacity + i];
    }
    HSGD_TRY(hsgd_krylov_lock(&f->k, old, fresh, err));
    f->sequence++;
    HSGD_TRY(hsgd_krylov_begin(&f->k, NULL, err));
done:
    return st;
}

/* A search that was kept goes on; else it begins. */
static hsgd_status begin(eigen_search *f, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_snapshot snapshot = {0};
    bool found = false;

    HSGD_TRY(hsgd_keeper_recall(f->options->keeper, f->k.basis->space, &snapshot, &found, err));
    HSGD_TRY(found ? eigen_search_take(f, &snapshot, err) : hsgd_krylov_begin(&f->k, f->options->start, err));
    hsgd_snapshot_clear(&snapshot); /* before there is more */
    HSGD_TRY(hsgd_krylov_reserve(&f->k, err));
done:
    hsgd_snapshot_clear(&snapshot);
    return st;
}

/* A call that was stopped in the middle of a product, before anything changed: keep what there is.  st: its status. */
static hsgd_status keep_if_stopped(const eigen_search *f, hsgd_status st, hsgd_error *err)
{
    hsgd_error kept = {0};

    if (st == HSGD_STOPPED) {
        return hsgd_keeper_stopped(eigen_search_keep(f, &kept), &kept, err);
    }
    return st;
}

/* Is it time to look?  A look costs size^3, so that one a tenth keeps all looks at a few times the last. */
static bool is_look_due(const eigen_search *f)
{
    const hsgd_projected *p = &f->k.projected;
    const int64_t room = p->capacity - p->size, tenth = p->size / LOOK_SHARE;

    return f->k.next == 0 || room < 2 * f->k.block || p->size - f->looked >= tenth ||
           f->products + f->k.block > f->options->max_products;
}

/* All wanted pairs are found, some of them by this sequence: what is left is to confirm that no copies are hidden. */
static bool is_found(const eigen_search *f)
{
    bool fresh = false;

    for (int64_t i = 0; i < f->chosen_count; i++) {
        fresh = fresh || !f->chosen[i].locked;
    }
    return f->options->confirm && fresh && f->converged == f->wanted;
}

/* Go on after a look that was not content: where the sequence has done its work with a new one, where V is full with its
 * half. */
static hsgd_status make_ready(eigen_search *f, hsgd_error *err)
{
    const hsgd_projected *p = &f->k.projected;
    hsgd_status st = HSGD_OK;

    if (f->k.next == 0 || is_found(f)) {
        HSGD_TRY(begin_sequence(f, err));
        f->looked = 0;
    } else if (p->size + 2 * f->k.block > p->capacity) {
        HSGD_TRY(restart(f, err));
        f->looked = p->size;
    }
done:
    return st;
}

/* Ends with a look at all that is held. */
static hsgd_status run(eigen_search *f, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(begin(f, err));
    if (f->finished) { /* and its last look is marked already */
        return eigen_search_judge(f, err);
    }
    for (;;) {
        const int64_t columns = f->k.next;
        bool due = false;

        HSGD_TRY(hsgd_keeper_due(f->options->keeper, &due, err));
        if (due) {
            HSGD_TRY(eigen_search_keep(f, err));
        }
        HSGD_TRY(keep_if_stopped(f, hsgd_krylov_step(&f->k, err), err));
        f->products += columns;
        if (f->k.coupling <= DROPPED_AT * f->options->tolerance * f->k.norm) {
            hsgd_krylov_end(&f->k);
        }
        if (!is_look_due(f)) {
            continue;
        }
        HSGD_TRY(eigen_search_judge(f, err));
        f->looked = f->k.projected.size;
        if (f->settled || eigen_search_is_whole(f) || f->products + f->k.block > f->options->max_products) {
            break;
        }
        HSGD_TRY(make_ready(f, err));
    }
    f->finished = true;
    HSGD_TRY(mark(f, err));
done:
    return st;
}

/* Choose what was left to choose: pairs, columns of a block, of V. */
static void choose_sizes(const hsgd_eigen_options *o, int64_t n, int64_t *wanted, int64_t *block, int64_t *basis)
{
    *wanted = smaller(o->which == HSGD_WHICH_BOTH ? 2 * o->count : o->count, n);
    *block = smaller(o->block > 0 ? o->block : BLOCK, smaller(n, o->max_products));
    *basis = o->basis > 0 ? o->basis : larger(LEAST_BASIS, PER_PAIR * *wanted);
    *basis = smaller(larger(*basis, *wanted + 4 * *block), n + 2 * *block);
}

int64_t hsgd_lanczos_eigen_vectors(const hsgd_eigen_options *options, int64_t n)
{
    int64_t wanted = 0, block = 0, basis = 0;

    choose_sizes(options, n, &wanted, &block, &basis);
    /* the basis; beside it scratch while it searches, a kept state when it takes that up, and at last the pairs, as they are
     * formed and in their order, and a block of their products */
    return hsgd_krylov_columns(block, basis, wanted) + larger(basis + wanted + block, 2 * wanted + 8);
}

/* Check what is asked for, and choose the rest. */
static hsgd_status plan(eigen_search *f, int64_t n, int64_t *block, int64_t *basis, hsgd_error *err)
{
    const hsgd_eigen_options *o = f->options;
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(o->count >= 1 && o->count <= n && o->max_products >= 1 && o->basis >= 0 && o->block >= 0, HSGD_ERR_USAGE,
               err, "eigen: %lld pairs in %lld products of a matrix of order %lld; ask for 1 to %lld",
               (long long)o->count, (long long)o->max_products, (long long)n, (long long)n);
    choose_sizes(o, n, &f->wanted, block, basis);
done:
    return st;
}

static hsgd_status create(eigen_search *f, hsgd_linop *op, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(op);
    hsgd_status st = HSGD_OK;
    int64_t block = 0, basis = 0;

    HSGD_TRY(plan(f, space->n, &block, &basis, err));
    f->all = calloc((size_t)(2 * f->wanted + basis), sizeof *f->all);
    f->locked = calloc((size_t)f->wanted, sizeof *f->locked);
    f->kept = calloc((size_t)(f->wanted + basis), sizeof *f->kept);
    if (f->all == NULL || f->locked == NULL || f->kept == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate a basis of %lld vectors", (long long)basis);
    }
    f->chosen = f->all != NULL ? f->all + f->wanted + basis : NULL;
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    HSGD_TRY(hsgd_krylov_create(op, block, basis, f->wanted, f->options->seed, &f->k, err));
done:
    return st;
}

/* The chosen pairs as vectors.  values: [chosen_count].  *out is the caller's. */
static hsgd_status form_vectors(const eigen_search *f, double **values, hsgd_vector **out, hsgd_error *err)
{
    const hsgd_projected *p = &f->k.projected;
    const int64_t held = f->k.locked + p->size, m = f->chosen_count;
    const hsgd_vector basis = hsgd_vector_view(f->k.basis, 0, held);
    hsgd_status st = HSGD_OK;
    double *c = calloc((size_t)(held * m) + 1, sizeof *c);

    *values = malloc((size_t)(m + 1) * sizeof **values);
    if (c == NULL || *values == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld eigenpairs", (long long)m);
    } else {
        st = hsgd_vector_create(basis.space, m, out, err);
    }
    HSGD_TRY(hsgd_comm_agree(basis.space->comm, st, err));
    for (int64_t i = 0; i < m; i++) {
        const eigen_candidate *pair = &f->chosen[i];

        (*values)[i] = pair->value;
        if (pair->locked) {
            c[pair->at * m + i] = 1.0;
        }
        for (int64_t j = 0; j < p->size && !pair->locked; j++) {
            c[(f->k.locked + j) * m + i] = p->s[pair->at * p->size + j];
        }
    }
    HSGD_TRY(hsgd_vector_update(1.0, &basis, c, *out, err));
done:
    free(c);
    return st;
}

/* Distance of every returned value to the nearest other Ritz value, less that one's residual. */
static void find_gaps(const eigen_search *f, hsgd_eigen_result *result)
{
    for (int64_t i = 0; i < result->count; i++) {
        int64_t same = 0; /* the pair itself is the nearest, once */
        double gap = INFINITY;

        for (int64_t j = 0; j < f->count; j++) {
            const double distance = fabs(f->all[j].value - result->values[i]);

            if (distance == 0.0 && same++ == 0) {
                continue;
            }
            gap = fmin(gap, distance - f->all[j].bound);
        }
        result->gaps[i] = isfinite(gap) ? fmax(gap, 0.0) : 0.0;
    }
}

/* Why it stopped, and what the measured residuals say of it. */
static void give_reason(const eigen_search *f, hsgd_eigen_result *result)
{
    const int64_t converged = result->count - hsgd_eigen_open(result);

    if (f->settled && converged == f->wanted) {
        (void)snprintf(result->reason, sizeof result->reason,
                       "all %lld pairs converged in %lld products, %lld restarts", (long long)f->wanted,
                       (long long)f->products, (long long)f->restarts);
    } else if (converged == f->wanted) {
        (void)snprintf(
            result->reason, sizeof result->reason,
            "the limit of %lld products came before it was confirmed that no copy of the %lld pairs is hidden",
            (long long)f->options->max_products, (long long)converged);
    } else if (f->settled) {
        (void)snprintf(result->reason, sizeof result->reason,
                       "converged by estimate, but %lld of %lld measured residuals are above the tolerance: noise of A",
                       (long long)(f->wanted - converged), (long long)f->wanted);
    } else {
        (void)snprintf(result->reason, sizeof result->reason,
                       "the limit of %lld products was used up; %lld of %lld pairs converged",
                       (long long)f->options->max_products, (long long)converged, (long long)f->wanted);
    }
}

static void destroy(eigen_search *f)
{
    hsgd_krylov_destroy(&f->k);
    free(f->all);
    free(f->locked);
    free(f->kept);
    free(f->history);
}

hsgd_status hsgd_lanczos_eigen(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_vector *vectors = NULL;
    double *values = NULL;
    eigen_search f = {.options = options};

    *result = (hsgd_eigen_result){0};
    HSGD_TRY(create(&f, op, err));
    HSGD_TRY(run(&f, err));
    hsgd_vector_destroy(&f.k.scratch); /* makes room; the basis is what a stop now would keep */
    HSGD_TRY(form_vectors(&f, &values, &vectors, err));
    HSGD_TRY(keep_if_stopped(&f, hsgd_eigen_certify(op, options, values, &vectors, f.scale, result, err), err));
    result->products += f.products;
    result->block = f.k.block;
    result->basis = f.k.projected.capacity;
    result->complete = f.settled || eigen_search_is_whole(&f);
    find_gaps(&f, result);
    give_reason(&f, result);
    result->history = f.history;
    result->marks = f.marks;
    f.history = NULL;
done:
    hsgd_vector_destroy(&vectors);
    destroy(&f);
    free(values);
    if (st != HSGD_OK) {
        hsgd_eigen_result_clear(result);
    }
    return st;
}
