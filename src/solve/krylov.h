/* src/solve/krylov.h - a block Krylov basis that can be restarted: the vectors' part of block Lanczos. */
#pragma once
#include "curvature/linop.h"
#include "solve/projected.h"

typedef struct {
    hsgd_linop *op; /* borrowed */
    int64_t block;
    uint64_t seed;
    hsgd_vector *basis;       /* [n, locked at most + capacity + block]: locked, V, W */
    hsgd_vector *scratch;     /* [n, columns]: as wide as a restart keeps, narrower where n is small */
    hsgd_projected projected; /* A V = V T + W B */
    int64_t locked, next;     /* columns of the locked part and of W */
    int64_t drawn;            /* random directions so far */
    double norm;              /* largest norm(A x) of a unit x so far: a lower bound of norm(A) */
    double coupling;          /* norm of the last step's part of B */
    double dropped;           /* sum of the couplings that were taken for rounding */
    double *c, *coefficients; /* host scratch */
    double seconds_products, seconds_communication,
        seconds_orthogonalization; /* this rank's, each without the others */
} hsgd_krylov;

/* Columns of `basis`, for the arguments of hsgd_krylov_create.  Local. */
static inline int64_t hsgd_krylov_columns(int64_t block, int64_t capacity, int64_t locked)
{
    return locked + capacity + 2 * block;
}

/* Memory for blocks of `block`, V of up to `capacity` columns and `locked` locked ones.  Collective.
 * Errors: HSGD_ERR_MEMORY, HSGD_ERR_USAGE. */
hsgd_status hsgd_krylov_create(hsgd_linop *op, int64_t block, int64_t capacity, int64_t locked, uint64_t seed,
                               hsgd_krylov *k, hsgd_error *err);
void hsgd_krylov_destroy(hsgd_krylov *k);

/* Memory for restarts, apart so that it need not stand beside a state that is taken up.  Collective.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_krylov_reserve(hsgd_krylov *k, hsgd_error *err);

/* An empty V and a W of `block` columns (fewer where the space has no more), orthogonal to the locked part: those of
 * `start` (NULL: none), then random ones.  Collective.  Errors: HSGD_ERR_NUMERIC. */
hsgd_status hsgd_krylov_begin(hsgd_krylov *k, const hsgd_vector *start, hsgd_error *err);

/* V takes W, for which A is applied, and W becomes what of the products is orthogonal to all; its columns are fewer, or
 * none, where the sequence has shown all it has.  The failure of a product leaves everything as it was.
 * Collective.  Errors: HSGD_ERR_NUMERIC, those of the product. */
hsgd_status hsgd_krylov_step(hsgd_krylov *k, hsgd_error *err);

/* Take the coupling to W for rounding: the sequence ends.  Local. */
void hsgd_krylov_end(hsgd_krylov *k);

/* V becomes the Ritz vectors chosen[count] (after hsgd_projected_solve), T and B with it; W stays.  Local. */
hsgd_status hsgd_krylov_keep(hsgd_krylov *k, int64_t count, const int64_t *chosen, hsgd_error *err);

/* The locked column `from` becomes column `to` <= from.  Local. */
hsgd_status hsgd_krylov_move(hsgd_krylov *k, int64_t from, int64_t to, hsgd_error *err);

/* The first `old` locked columns stay, V's `fresh` become locked behind them; V and W are empty.  Local. */
hsgd_status hsgd_krylov_lock(hsgd_krylov *k, int64_t old, int64_t fresh, hsgd_error *err);
