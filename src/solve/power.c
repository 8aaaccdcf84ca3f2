/* src/solve/power.c - deflated power iteration: the eigenvalues of largest magnitude, one after the other. */
#include "solve/eigen.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The columns found so far and the one in hand. */
typedef struct {
    hsgd_linop *op;
    hsgd_vector *found;   /* [n, count]; the first `done` columns are finished, column `done` is the iterate */
    hsgd_vector *y, *r;   /* [n, 1] */
    double *values;       /* [count] */
    double *coefficients; /* [count] */
    int64_t done;
    double scale; /* largest |eigenvalue| so far */
    int64_t products;
    int64_t last; /* of the products that the pair in hand may use; 0: none is in hand */
    double *kept; /* [1 + count]: what is kept of scale and values */
} power;

/* ---- the state between two products ---- */

enum { SAVED_DONE, SAVED_PRODUCTS, SAVED_LAST, SAVED };

static hsgd_status keep(const power *p, const hsgd_eigen_options *options, hsgd_error *err)
{
    hsgd_vector columns = hsgd_vector_view(p->found, 0, p->done + (p->last > 0));
    int64_t integer[SAVED] = {[SAVED_DONE] = p->done, [SAVED_PRODUCTS] = p->products, [SAVED_LAST] = p->last};
    const hsgd_snapshot snapshot = {.integers = SAVED,
                                    .integer = integer,
                                    .reals = 1 + p->done,
                                    .real = p->kept,
                                    .vectors = columns.columns > 0 ? &columns : NULL};

    p->kept[0] = p->scale;
    memcpy(p->kept + 1, p->values, (size_t)p->done * sizeof *p->values);
    return hsgd_keeper_keep(options->keeper, &snapshot, err);
}

/* A call that was stopped changed nothing: keep what there is.  st: the call's status. */
static hsgd_status keep_if_stopped(const power *p, const hsgd_eigen_options *options, hsgd_status st, hsgd_error *err)
{
    hsgd_error kept = {0};

    if (st == HSGD_STOPPED) {
        return hsgd_keeper_stopped(keep(p, options, &kept), &kept, err);
    }
    return st;
}

static hsgd_status recall(power *p, const hsgd_eigen_options *options, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_snapshot s = {0};
    bool found = false;

    HSGD_TRY(hsgd_keeper_recall(options->keeper, p->found->space, &s, &found, err));
    if (found) {
        const int64_t done = s.integers == SAVED ? s.integer[SAVED_DONE] : -1;
        const int64_t last = s.integers == SAVED ? s.integer[SAVED_LAST] : -1;
        const int64_t columns = done + (last > 0);

        HSGD_CHECK(done >= 0 && last >= 0 && columns <= options->count && s.reals == 1 + done &&
                       (s.vectors != NULL ? s.vectors->columns : 0) == columns,
                   HSGD_ERR_DATA, err, "eigen: the state that was kept does not fit this search; remove it");
        p->done = done;
        p->last = last;
        p->products = s.integer[SAVED_PRODUCTS];
        p->scale = s.real[0];
        memcpy(p->values, s.real + 1, (size_t)done * sizeof *p->values);
        if (columns > 0) {
            hsgd_vector to = hsgd_vector_view(p->found, 0, columns);

            HSGD_TRY(hsgd_vector_copy(s.vectors, &to, err));
        }
    }
done:
    hsgd_snapshot_clear(&s);
    return st;
}

/* ---- the iteration ---- */

/* Take out of x what lies along the finished columns; once is enough, as every product is projected afresh. */
static hsgd_status deflate(power *p, hsgd_vector *x, hsgd_error *err)
{
    const hsgd_vector found = hsgd_vector_view(p->found, 0, p->done);
    hsgd_status st = HSGD_OK;

    if (p->done > 0) {
        HSGD_TRY(hsgd_vector_gram(&found, x, p->coefficients, err));
        HSGD_TRY(hsgd_vector_update(-1.0, &found, p->coefficients, x, err));
    }
done:
    return st;
}

/* y = A x without its part along the finished columns, theta = x'y, rho = norm(y - theta x). */
static hsgd_status product(power *p, const hsgd_vector *x, double *theta, double *rho, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_linop_apply(p->op, x, p->y, err));
    p->products++;
    HSGD_TRY(deflate(p, p->y, err));
    HSGD_TRY(hsgd_vector_dot(x, p->y, theta, err));
    HSGD_TRY(hsgd_vector_copy(p->y, p->r, err));
    HSGD_TRY(hsgd_vector_axpy(-*theta, x, p->r, err));
    HSGD_TRY(hsgd_vector_norm(p->r, rho, err)); /* not sqrt(y'y - theta^2): that cancels at convergence */
done:
    return st;
}

/* A random column `done`, which may use so many products. */
static hsgd_status begin(power *p, int64_t products, const hsgd_eigen_options *options, hsgd_error *err)
{
    const hsgd_random stream = hsgd_random_stream(options->seed, HSGD_RANDOM_EIGEN, (uint32_t)p->done);
    hsgd_vector x = hsgd_vector_view(p->found, p->done, 1);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_random(&x, 0, HSGD_DRAW_NORMAL, &stream, err));
    for (int pass = 0; pass < 2; pass++) { /* twice: the drawn x may lie almost along the finished columns */
        HSGD_TRY(deflate(p, &x, err));
        HSGD_TRY(hsgd_vector_normalize(&x, err));
    }
    p->last = p->products + products;
done:
    return st;
}

/* Iterate on column `done` until norm(r) <= tolerance * scale or its products are used up. */
static hsgd_status iterate(power *p, double tolerance, const hsgd_eigen_options *options, hsgd_error *err)
{
    hsgd_vector x = hsgd_vector_view(p->found, p->done, 1);
    hsgd_status st = HSGD_OK;
    double theta = 0.0, rho = 0.0, scale = 0.0;
    bool converged = false, due = false;

    for (;;) {
        HSGD_TRY(hsgd_keeper_due(options->keeper, &due, err));
        if (due) {
            HSGD_TRY(keep(p, options, err));
        }
        HSGD_TRY(keep_if_stopped(p, options, product(p, &x, &theta, &rho, err), err));
        scale = fmax(p->scale, fabs(theta));
        converged = rho <= tolerance * scale;
        if (options->monitor != NULL) {
            options->monitor(options->context, p->products, p->done + converged, options->count,
                             scale > 0.0 ? rho / scale : 0.0);
        }
        if (converged || p->products >= p->last) {
            break; /* before x moves on: x and theta belong together */
        }
        HSGD_TRY(hsgd_vector_normalize(p->y, err)); /* not zero: then rho were 0 */
        HSGD_TRY(hsgd_vector_copy(p->y, &x, err));
    }
    p->values[p->done] = theta;
    p->scale = scale;
    p->done++;
    p->last = 0;
done:
    return st;
}

static hsgd_status prepare(power *p, const hsgd_space *space, int64_t count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    p->values = calloc(3 * (size_t)count + 1, sizeof *p->values);
    HSGD_CHECK(p->values != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate %lld eigenvalues", (long long)count);
    p->coefficients = p->values + count;
    p->kept = p->coefficients + count;
    HSGD_TRY(hsgd_vector_create(space, count, &p->found, err));
    HSGD_TRY(hsgd_vector_create(space, 1, &p->y, err));
    HSGD_TRY(hsgd_vector_create(space, 1, &p->r, err));
done:
    return hsgd_comm_agree(space->comm, st, err);
}

/* The pairs in turn, each with an equal share of the products that are left, at least one. */
static hsgd_status find_pairs(power *p, const hsgd_eigen_options *options, hsgd_error *err)
{
    /* A pair's whole residual has its own part and, along each earlier vector, up to that one's residual.  With every
     * own part below tolerance / sqrt(count) the whole stays below the tolerance. */
    const double tolerance = options->tolerance / sqrt((double)options->count);
    hsgd_status st = HSGD_OK;

    while (p->done < options->count && p->products < options->max_products) {
        const int64_t share = (options->max_products - p->products) / (options->count - p->done);

        if (p->last == 0) {
            HSGD_TRY(begin(p, share > 0 ? share : 1, options, err));
        }
        HSGD_TRY(iterate(p, tolerance, options, err));
    }
done:
    return st;
}

/* Why it stopped, judged by the measured residuals. */
static void give_reason(const hsgd_eigen_options *options, hsgd_eigen_result *result)
{
    const int64_t converged = result->count - hsgd_eigen_open(result);

    if (converged == options->count) {
        (void)snprintf(result->reason, sizeof result->reason, "all %lld pairs converged", (long long)options->count);
    } else {
        (void)snprintf(result->reason, sizeof result->reason, "%lld of %lld pairs converged in %lld products",
                       (long long)converged, (long long)options->count, (long long)options->max_products);
    }
}

hsgd_status hsgd_power(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(op);
    hsgd_status st = HSGD_OK;
    hsgd_vector *found = NULL;
    power p = {.op = op};

    *result = (hsgd_eigen_result){0};
    HSGD_CHECK(options->which == HSGD_WHICH_MAGNITUDE, HSGD_ERR_USAGE, err,
               "eigen: power iteration finds the largest magnitudes only; set eigen.which = magnitude or "
               "eigen.method = lanczos");
    HSGD_CHECK(options->count >= 1 && options->count <= space->n && options->max_products >= 1, HSGD_ERR_USAGE, err,
               "eigen: %lld pairs in %lld products of a matrix of order %lld; ask for 1 to %lld pairs",
               (long long)options->count, (long long)options->max_products, (long long)space->n, (long long)space->n);
    HSGD_TRY(prepare(&p, space, options->count, err));
    HSGD_TRY(recall(&p, options, err));
    HSGD_TRY(find_pairs(&p, options, err));
    { /* fewer products than pairs: what was never begun is not returned */
        const hsgd_vector begun = hsgd_vector_view(p.found, 0, p.done);

        st = hsgd_vector_clone(&begun, &found, err);
        HSGD_TRY(hsgd_comm_agree(space->comm, st, err)); /* one rank alone may be short of memory */
    }
    HSGD_TRY(
        keep_if_stopped(&p, options, hsgd_eigen_certify(op, options, p.values, &found, p.scale, result, err), err));
    result->complete = p.done == options->count;
    result->products += p.products;
    give_reason(options, result);
done:
    hsgd_vector_destroy(&found);
    hsgd_vector_destroy(&p.r);
    hsgd_vector_destroy(&p.y);
    hsgd_vector_destroy(&p.found);
    free(p.values);
    if (st != HSGD_OK) {
        hsgd_eigen_result_clear(result);
    }
    return st;
}
