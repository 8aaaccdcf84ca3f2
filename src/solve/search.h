/* src/solve/search.h - a search for eigenpairs in progress, shared by the solver and what is kept of it; of this room. */
#pragma once
#include "solve/eigen.h"
#include "solve/krylov.h"

/* A pair of the search: a locked one (column `at`), or a Ritz pair (number `at`). */
typedef struct {
    double value, bound;
    bool locked;
    int64_t at;
} eigen_candidate;

typedef struct {
    hsgd_krylov k;
    const hsgd_eigen_options *options;
    int64_t wanted, products;
    eigen_candidate *all, *chosen; /* [locked + size] ascending; [wanted] */
    int64_t count, chosen_count, converged;
    int64_t *kept;                      /* [basis] */
    int64_t sequence, restarts, looked; /* looked: size of V at the last look */
    double scale, worst;
    bool settled, finished; /* finished: what is left is to measure the pairs */
    double *locked;         /* [wanted] values */
    hsgd_eigen_mark *history;
    int64_t marks, marks_capacity;
} eigen_search;

/* Keep the search's state as it stands between two products; go on from one.  Collective.
 * Errors: those of the keeper; HSGD_ERR_DATA (the state does not fit). */
hsgd_status eigen_search_keep(const eigen_search *f, hsgd_error *err);
hsgd_status eigen_search_take(eigen_search *f, const hsgd_snapshot *snapshot, hsgd_error *err);

/* Do the vectors held span the whole space?  Local. */
static inline bool eigen_search_is_whole(const eigen_search *f)
{
    return f->k.locked + f->k.projected.size == f->k.basis->space->n;
}

/* Put `count` of the `total` values, ascending and `stride` apart, into the order in which `which` wants them: from the two
 * ends inwards, none twice.  taken [count]: their numbers.  Local. */
void eigen_search_order(hsgd_which which, int64_t total, const double *value, size_t stride, int64_t count,
                        int64_t *taken);

/* Look at the Ritz pairs: find those wanted, and whether the search is settled.  Collective.  Errors: HSGD_ERR_NUMERIC. */
hsgd_status eigen_search_judge(eigen_search *f, hsgd_error *err);
