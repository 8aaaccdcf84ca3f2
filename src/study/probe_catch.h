/* src/study/probe_catch.h - what a group of ranks had begun when it was asked to stop: its processes, caught in host memory,
 * and put together with those of the groups behind it into a state of all ranks, as hsgd_quadrature keeps one. */
#pragma once
#include "solve/quadrature.h"
#include "study/internal.h"

typedef struct {
    hsgd_keeper face;        /* the keeper of the group's own hsgd_quadrature */
    hsgd_snapshot numbers;   /* of the processes; no vectors */
    const hsgd_space *space; /* of the group; borrowed */
    int64_t columns;
    double *rows; /* [columns][the rank's rows of space]; NULL: nothing is caught */
} probe_catch;

/* Make c->face ready to catch; what was caught before is gone.  c: zeroed, or cleared.  Local. */
void probe_catch_begin(probe_catch *c);
void probe_catch_clear(probe_catch *c);

/* Keep the nodes of the first `done` probes and behind them the processes of the groups from `first` on that were caught,
 * up to the first that was not, with options->keeper.  groups: of s->comm's ranks; group: this rank's.  *kept false:
 * group `first` has caught nothing, or there is no memory to put it together, and nothing was kept.
 * Collective over s->comm.  Errors: those of the keeper, of the device and of communication. */
hsgd_status probe_catch_keep(const probe_catch *c, study_state *s, int groups, int group, int first,
                             const hsgd_quadrature_options *options, int64_t done, const double *ritz,
                             const double *weights, bool *kept, hsgd_error *err);
