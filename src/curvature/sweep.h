/* src/curvature/sweep.h - sums over the groups of a sample set, on the workers of a rank and then over the ranks;
 * what objective, operators and exact trace share.  Known in this room alone.
 *
 * A sum is formed in three steps: begin (the same on all ranks), local work whose status is kept, and a reduction that
 * every rank joins whatever its status was, so that no rank is left waiting.  All of it stays in backend memory; the host
 * waits only in hsgd_sweep_finish. */
#pragma once
#include "algebra/exchange.h"
#include "curvature/curvature.h"
#include "data/batch.h"
#include <stdatomic.h>

typedef struct {
    int64_t samples; /* in a sum at most */
    bool singly;     /* the body hands samples to the passes one at a time */
    int64_t columns; /* tangents or logit directions that one pass takes at once, >= 1 */
    int64_t width;   /* vectors [n] that a group adds at most; 0: none */
    int64_t tallies; /* further numbers that a group adds */
    int states;      /* base states that a worker needs */
} hsgd_sweep_plan;

/* What belongs to one worker, in backend memory; `result` and `tally` are filled by the body, once for each group. */
typedef struct {
    int id;
    void *state;   /* `states` blocks of hsgd_pass_state_bytes */
    void *result;  /* reals [width][n], backend order */
    double *tally; /* [tallies] */
    double *loss;  /* [HSGD_TALLIES_OF_LOSS]: for base passes whose loss nobody asks for */
    void *sum;     /* of result and of tally, as accumulate wants them, one behind the other */
    bool used;     /* has summed something since begin */
} hsgd_sweep_worker;

typedef struct hsgd_sweep hsgd_sweep;

typedef hsgd_status (*hsgd_sweep_body)(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                                       const hsgd_group *samples, hsgd_error *err);

/* Words behind the sums: what the ranks tell each other; ZERO is a word that is 0.  Numbers as the sums are. */
enum { HSGD_NEWS_FAILED, HSGD_NEWS_STOPPED, HSGD_NEWS_BAD, HSGD_NEWS_ZERO, HSGD_NEWS };

enum { HSGD_SWEEP_WIDTHS = 2 }; /* 0 and 1: those of which hsgd_sweep_reduce finds the means */

struct hsgd_sweep {
    hsgd_problem problem;
    hsgd_sweep_plan plan;
    int64_t n;
    hsgd_pass *pass;
    int64_t *position; /* host, [n]: canonical[i] = backend[position[i]] */
    double *outcome;   /* host: see hsgd_sweep_outcome */
    hsgd_sweep_worker *workers;
    void **sums; /* [workers]: of the workers in use, for merge */
    hsgd_exchange exchange;
    const void *held[2]; /* host memory: pixels and labels, as held */
    /* backend memory: */
    const uint8_t *pixels, *labels;    /* held */
    void *params;                      /* reals [n] */
    int64_t *order;                    /* [n]: backend[i] = canonical[order[i]] */
    int64_t *index;                    /* [samples of the set]: of the set being summed over */
    double *wide;                      /* [n] on the way from the host to params */
    int64_t *words;                    /* 8-byte words: sums, news; see sweep.c */
    int64_t *spots[HSGD_SWEEP_WIDTHS]; /* [width]: where the numbers of `values` stand in `words` */
    int64_t *picked;                   /* these words, in order */
    double *values;                    /* see hsgd_sweep_vector */
    /* of the sum being formed: */
    hsgd_groups groups;
    int64_t width;
    double scale;
    hsgd_sweep_body body;
    void *context;
    atomic_int_fast64_t done; /* groups, by all workers */
};

/* Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_sweep_create(const hsgd_problem *problem, const hsgd_sweep_plan *plan, hsgd_sweep **out,
                              hsgd_error *err);
void hsgd_sweep_destroy(hsgd_sweep **sweep);

/* count * size bytes of the sweep's backend memory into *out, a pointer of any type; the caller releases them.  Local. */
hsgd_status hsgd_sweep_take(const hsgd_sweep *sweep, int64_t count, size_t size, void *out, hsgd_error *err);

/* params = weights [n] (host, canonical order), rounded to reals.  Local. */
hsgd_status hsgd_sweep_upload(hsgd_sweep *sweep, const double *weights, void *params, hsgd_error *err);

/* The set that is summed over from now on: this rank's groups of index[0..count) (host) are put where kernels read them.
 * Local.  Errors: HSGD_ERR_USAGE (no sample, or too many for the exact sums; the same on every rank), HSGD_ERR_DEVICE. */
hsgd_status hsgd_sweep_select(hsgd_sweep *sweep, const int64_t *index, int64_t count, hsgd_error *err);

/* Begin a sum of `width` vectors and the tallies over the set, for the calls below.  Local. */
void hsgd_sweep_begin(hsgd_sweep *sweep, int64_t width);

/* Call body for every group of this rank and merge what the workers summed.  Local. */
hsgd_status hsgd_sweep_run(hsgd_sweep *sweep, hsgd_sweep_body body, void *context, hsgd_error *err);

/* Close this rank's sum: `local` is its status so far; on failure the sum is emptied.  Writes the news.  Local. */
hsgd_status hsgd_sweep_close(hsgd_sweep *sweep, hsgd_status local, bool stopped, hsgd_error *err);

/* Close, add up over the ranks, and find the means (for a plan of width at most 1).  Nothing waits.  Collective.
 * Errors: HSGD_ERR_DEVICE.  A rank's failure is told by hsgd_sweep_finish, or by the outcome. */
hsgd_status hsgd_sweep_reduce(hsgd_sweep *sweep, hsgd_status local, hsgd_error *err);

/* After reduce, in backend memory: the mean over the samples of vector 0, [n] in canonical order; and behind it the
 * outcome: the means of the tallies, how many ranks failed, and how many sums are not finite or out of range (both 0 where
 * all is well). */
const double *hsgd_sweep_vector(const hsgd_sweep *sweep);
const double *hsgd_sweep_outcome(const hsgd_sweep *sweep);

/* Wait for the sum: means [tallies] (host) of the tallies.  `local` and err as in reduce.  Collective.
 * Errors, the same on every rank: the worst of the local ones; HSGD_ERR_NUMERIC where a sum is not finite. */
hsgd_status hsgd_sweep_finish(hsgd_sweep *sweep, hsgd_status local, double *means, hsgd_error *err);

/* First word of the news; first word and number of words of the sum of result.  Local. */
int64_t hsgd_sweep_news(const hsgd_sweep *sweep);
int64_t hsgd_sweep_words(const hsgd_sweep *sweep);
