/* src/curvature/sweep.h - sums over the groups of a sample set, on the workers of a rank and then over the ranks;
 * what objective, operators and exact trace share.  Known in this room alone.
 *
 * A sum is formed in three steps: begin (the same on all ranks), local work whose status is kept, and a reduction that
 * every rank joins whatever its status was, so that no rank is left waiting. */
#pragma once
#include "curvature/curvature.h"
#include "data/batch.h"

typedef struct {
    int64_t columns; /* tangents or logit directions that one pass takes at once, >= 1 */
    int64_t width;   /* vectors [n] that a group adds at most; 0: none */
    int64_t tallies; /* numbers on the host that a group adds */
    int states;      /* base states that a worker needs */
} hsgd_sweep_plan;

/* What belongs to one worker; `result` and `tally` are filled by the body, once for each group. */
typedef struct {
    int id;
    void *state;    /* backend, `states` blocks of hsgd_pass_state_bytes */
    void *result;   /* backend, reals [width][n], backend order */
    double *tally;  /* [tallies] */
    void *sum;      /* backend, as accumulate wants it */
    int64_t *words; /* [2 * tallies + 1]: the tallies' sums; in fast mode double [tallies] */
    bool used;      /* has summed something since begin */
} hsgd_sweep_worker;

typedef struct hsgd_sweep hsgd_sweep;

typedef hsgd_status (*hsgd_sweep_body)(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                       const hsgd_group *samples, hsgd_error *err);

struct hsgd_sweep {
    hsgd_problem problem;
    hsgd_sweep_plan plan;
    int64_t n;
    hsgd_pass *pass;
    void *params;   /* backend, reals [n] */
    int64_t *order; /* [n]: backend[i] = canonical[order[i]] */
    void *staging;  /* host, reals [columns][n] */
    hsgd_sweep_worker *workers;
    void **sums; /* [workers]: of the workers in use, for merge */
    void *words; /* host, 8-byte words: sums, tallies, failures; see sweep.c */
    /* of the sum being formed: */
    hsgd_groups groups;
    const int64_t *index;
    int64_t width;
    double scale;
    hsgd_sweep_body body;
    void *context;
};

/* Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_sweep_create(const hsgd_problem *problem, const hsgd_sweep_plan *plan, hsgd_sweep **out,
                              hsgd_error *err);
void hsgd_sweep_destroy(hsgd_sweep **sweep);

/* memory[k][n] (backend reals and order) = host[k][n] (canonical order); k <= columns.  Local. */
hsgd_status hsgd_sweep_upload(hsgd_sweep *sweep, int64_t k, const double *host, void *memory, hsgd_error *err);

/* Begin a sum over samples index[0..count) of `width` vectors and the tallies.  index: borrowed until it is reduced.
 * Local.  Errors, the same on every rank: HSGD_ERR_USAGE (no sample, or too many for the exact sums). */
hsgd_status hsgd_sweep_begin(hsgd_sweep *sweep, const int64_t *index, int64_t count, int64_t width, hsgd_error *err);

/* Call body for every group of this rank and merge what the workers summed.  Local. */
hsgd_status hsgd_sweep_run(hsgd_sweep *sweep, hsgd_sweep_body body, void *context, hsgd_error *err);

/* Add up over the ranks; `local` is this rank's status so far, err its text.  Collective.
 * Errors, the same on every rank: the worst of the local ones; HSGD_ERR_NUMERIC where a sum is not finite. */
hsgd_status hsgd_sweep_reduce(hsgd_sweep *sweep, hsgd_status local, hsgd_error *err);

/* After reduce: mean over the samples of vector 0, [n] in canonical order; total of a tally.  Local. */
void hsgd_sweep_mean(const hsgd_sweep *sweep, double *vector);
double hsgd_sweep_tally(const hsgd_sweep *sweep, int64_t tally);

/* Tallies of all sums over losses. */
enum { HSGD_TALLY_LOSS, HSGD_TALLY_CORRECT, HSGD_TALLIES_OF_LOSS };
void hsgd_sweep_put_loss(hsgd_sweep_worker *worker, const hsgd_group_loss *loss);
hsgd_loss hsgd_sweep_loss(const hsgd_sweep *sweep);
