/* src/solve/snapshot.h - the state of a solver between two products, so that an interrupted study can go on.
 * A solver looks, at points from which it can go on, whether its state is to be kept, and asks at its start for one that
 * was.  In reproducible mode no bit of a result depends on what is kept, or when. */
#pragma once
#include "algebra/vector.h"

/* Everything the solver needs beside operator and options.  What the numbers mean is the solver's own affair. */
typedef struct {
    int64_t integers, reals; /* how many */
    int64_t *integer;        /* [integers], the same on all ranks */
    double *real;            /* [reals], the same on all ranks, all finite */
    hsgd_vector *vectors;    /* [n, columns] on the operator's space; NULL: none */
} hsgd_snapshot;

/* Where states are kept; the study has one for each stage, a test its own. */
typedef struct {
    void *context;
    /* Is a state to be kept now: time has passed, or somebody asked to stop?  The same on all ranks.  Collective. */
    hsgd_status (*due)(void *context, bool *due, hsgd_error *err);
    /* Keep it in place of the last one; borrowed.  Collective.  Errors: HSGD_ERR_IO; HSGD_STOPPED where it is kept
     * because somebody asked to stop. */
    hsgd_status (*keep)(void *context, const hsgd_snapshot *snapshot, hsgd_error *err);
    /* The last one kept for this very work; its arrays and vectors, made on `space`, become the caller's.
     * *found false: there is none, *snapshot is empty.  Collective.  Errors: HSGD_ERR_DATA, HSGD_ERR_MEMORY. */
    hsgd_status (*recall)(void *context, const hsgd_space *space, hsgd_snapshot *snapshot, bool *found,
                          hsgd_error *err);
} hsgd_keeper;

/* The three calls for a keeper that may be NULL: never due, nothing kept, nothing found.  As above. */
hsgd_status hsgd_keeper_due(const hsgd_keeper *keeper, bool *due, hsgd_error *err);
hsgd_status hsgd_keeper_keep(const hsgd_keeper *keeper, const hsgd_snapshot *snapshot, hsgd_error *err);
hsgd_status hsgd_keeper_recall(const hsgd_keeper *keeper, const hsgd_space *space, hsgd_snapshot *snapshot, bool *found,
                               hsgd_error *err);

/* A call that was stopped changed nothing, and the state was kept with status `saved` and text `kept`: the stop's own
 * status and text stay, but for a state that could not be kept.  Local. */
hsgd_status hsgd_keeper_stopped(hsgd_status saved, const hsgd_error *kept, hsgd_error *err);

/* A keeper whose state has been recalled, and looked at, before the solver asks for it: `face` hands it over, and is
 * `keeper` in all else. */
typedef struct {
    hsgd_keeper face;
    const hsgd_keeper *keeper; /* borrowed; may be NULL */
    hsgd_snapshot state;       /* until the solver takes it */
    bool found;
} hsgd_keeper_ahead;

/* Recall for vectors on `space` (NULL where the state has none).  *ahead must stay where it is, and is to be cleared, also
 * after a failure.  Collective.  Errors: those of the keeper. */
hsgd_status hsgd_keeper_recall_ahead(const hsgd_keeper *keeper, const hsgd_space *space, hsgd_keeper_ahead *ahead,
                                     hsgd_error *err);
void hsgd_keeper_ahead_clear(hsgd_keeper_ahead *ahead);

/* Free what a recalled snapshot holds (not the struct).  Local. */
void hsgd_snapshot_clear(hsgd_snapshot *snapshot);
