/* src/study/resample.h - how much a result depends on the samples: each of hessian.resample groups of them is left out in
 * turn, and the jackknife makes standard errors and intervals of what changes (solve/jackknife.h).  Groups are positions
 * in the list of the studied samples, so that no bit depends on the ranks. */
#pragma once
#include "solve/eigen.h"
#include "study/internal.h"

/* What the jackknife makes of `count` results. */
typedef struct {
    double *values;   /* owned, with all that follow: [groups][count], without each group */
    double *error;    /* [count]: standard errors */
    double *bias;     /* [count] */
    double *interval; /* [count][2]: -+ Student's quantile of groups - 1 degrees times the error */
} study_jackknife;

/* A stage's loop over the groups, with what it found over all samples before: both are kept together, so that a stage
 * that is interrupted among the groups goes on behind the last one that is finished. */
typedef struct {
    study_state *s;
    int64_t groups;             /* hessian.resample; 0: nothing is resampled */
    int64_t width;              /* numbers that a group gives */
    int64_t done;               /* groups that are finished */
    int64_t products;           /* that they took */
    int64_t integers;           /* of the main result, behind the loop's own */
    int64_t reals;              /* of the main result */
    int64_t *state;             /* owned: the loop's own integers, then the main result's */
    double *real;               /* owned: [reals], then value */
    double *value;              /* [groups][width] */
    int64_t *rest;              /* owned [samples]: those of a solve */
    hsgd_vector *main;          /* recalled with the main result, until it is taken; NULL: none */
    const hsgd_vector *vectors; /* borrowed: of the main result; NULL: none */
    bool resumed;               /* the main result was recalled */
    bool given_up;              /* nothing was resampled; told */
    hsgd_keeper_ahead ahead;    /* what was recalled, and is the main solver's where it is not the loop's */
    study_jackknife jackknife;  /* when all is done; its arrays are NULL before */
} study_resample;

/* What a group gives: row [width] for the samples index[count].  Collective. */
typedef hsgd_status (*study_resample_group)(void *context, const int64_t *index, int64_t count, double *row,
                                            hsgd_error *err);

/* hessian.resample against the number of studied samples, where a stage that resamples runs.  Local.
 * Errors: HSGD_ERR_USAGE. */
hsgd_status study_resample_check(const study_state *s, hsgd_error *err);

/* Begin, with what was kept of an interrupted stage: r->resumed where that is the main result and some groups.
 * space: of kept vectors; NULL where none are kept.  *r is to be closed, also after a failure.  Collective.
 * Errors: HSGD_ERR_MEMORY, HSGD_ERR_DATA, HSGD_ERR_IO. */
hsgd_status study_resample_open(study_state *s, const hsgd_space *space, study_resample *r, hsgd_error *err);
void study_resample_close(study_resample *r);

/* The main solver's keeper: the stage's own, where nothing is resampled.  Valid until close.  Local. */
const hsgd_keeper *study_resample_keeper(study_resample *r);

/* The main result is found: room for groups of `width` numbers each, and for so many integers and reals of the main
 * result, which the caller writes to the two places below; vectors: borrowed until close, kept as well; NULL: none.
 * Collective.  Errors: HSGD_ERR_MEMORY. */
hsgd_status study_resample_begin(study_resample *r, int64_t width, int64_t integers, int64_t reals,
                                 const hsgd_vector *vectors, hsgd_error *err);
int64_t *study_resample_integers(const study_resample *r);
double *study_resample_reals(const study_resample *r);

/* The groups that are left, in order.  without: `group` gets the samples that are in all other groups, else the group's
 * own.  Collective.  Errors: those of `group` and of the keeper; HSGD_STOPPED: what is finished is kept. */
hsgd_status study_resample_run(study_resample *r, bool without, study_resample_group group, void *context,
                               hsgd_error *err);

/* The jackknife of `count` results, into r->jackknife.  values [groups][count] (copied): without each group; centre [count]:
 * what bias is counted from; full [count]: the middles of the intervals.  Collective.  Errors: HSGD_ERR_MEMORY. */
hsgd_status study_jackknife_create(study_resample *r, int64_t count, const double *values, const double *centre,
                                   const double *full, hsgd_error *err);

/* ---- resample_eigen.c ---- */

/* The main result as it was kept, where r->resumed.  Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DATA. */
hsgd_status study_resample_eigen_take(study_resample *r, hsgd_eigen_result *full, hsgd_error *err);

/* Solve without each group in turn, from the vectors of `full` on, as `options` say; with a warning not at all where a pair
 * of `full` did not converge.  Pairs belong together by their order: the first without a group to the first of all,
 * whatever eigenvectors they have, so that for close eigenvalues that change places it is the i-th largest whose error
 * is told.  full: must live until close.  Collective.  Errors: as the solver's; HSGD_STOPPED. */
hsgd_status study_resample_eigen(study_resample *r, const hsgd_eigen_options *options, const hsgd_eigen_result *full,
                                 hsgd_error *err);

/* Pairs without some group that did not converge.  Local. */
int64_t study_resample_eigen_open(const study_resample *r);

/* /jackknife of eigen.h5 (after /pair and /end); nothing where nothing was resampled.  Collective.
 * Errors: HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status study_resample_eigen_write(const study_resample *r, hsgd_store *store, hsgd_error *err);

/* Its lines of the summary.  Local. */
void study_resample_eigen_summarize(const study_resample *r);

/* ---- resample_trace.c ---- */

/* How the groups' own traces are found. */
typedef struct {
    bool exact;
    int64_t probes;        /* else: of Hutchinson's estimate, the same for all groups */
    int64_t layers;        /* with parameters */
    const int64_t *bounds; /* [layers + 1]: their rows; borrowed */
} study_trace_plan;

/* The trace of each group alone, whole and of every layer; without one it is the mean of the others' (the trace of a mean
 * over samples is the mean of their traces).  The caller has begun r, with this width, unless r->resumed.
 * full [1 + layers]: the middles of the intervals.  Collective.  Errors: as the traces'; HSGD_STOPPED. */
hsgd_status study_resample_trace(study_resample *r, const study_trace_plan *plan, const double *full, hsgd_error *err);

/* /jackknife of trace.h5 (after /layer); nothing where nothing was resampled.  Collective.
 * Errors: HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status study_resample_trace_write(const study_resample *r, hsgd_store *store, hsgd_error *err);

/* Its line of the summary.  Local. */
void study_resample_trace_summarize(const study_resample *r);
