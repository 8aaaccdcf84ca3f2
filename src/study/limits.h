/* src/study/limits.h - what the stages of a deck ask of the data, the network and the files that the deck names. */
#pragma once
#include "study/internal.h"

/* Is `stage` among those of the deck?  Local. */
bool study_runs(const study_state *s, hsgd_stage stage);
/* Is there a training, and does it measure the curvature as it goes?  Local. */
bool study_measures_training(const study_state *s);
/* Does trace.method mean the exact trace?  Local. */
bool study_trace_is_exact(const study_state *s);
/* Does it mean Hutch++, which holds a sketch?  Local. */
bool study_trace_is_sketched(const study_state *s);

/* Eigenpairs at each end asked for: eigen.count, or all where the default is more than the operator has.  Local. */
int64_t study_eigen_count(const study_state *s);

/* Check every limit that the data, the network and the named files set to the stages that run, before anything is
 * created; s->extent tells what was found.  Weights and vectors are read whole: what one of them lacks must not show
 * after hours of training.  Collective.
 * Errors: HSGD_ERR_USAGE, HSGD_ERR_DATA, HSGD_ERR_MEMORY. */
hsgd_status study_check_limits(study_state *s, hsgd_error *err);

/* The probes of the density stage. */
typedef struct {
    int64_t probes, steps;
    bool sphere;          /* drawn on the sphere, else signs */
    double accuracy, eta; /* 0: as the deck says; else probes and steps keep the first, but for odds of the second */
    double *start;        /* [probes][m] of density.start, its studied rows; NULL: drawn */
} density_plan;

/* How to lower the number of the density's nodes, for messages.  Local. */
const char *study_fewer_nodes(const study_state *s);
/* Does density.start name a file?  Local. */
bool study_start_is_given(const study_state *s);
/* What the deck asks for; plan->start becomes the caller's.  Collective.
 * Errors: HSGD_ERR_DATA, HSGD_ERR_MEMORY, HSGD_ERR_USAGE (more probes than anybody makes). */
hsgd_status study_plan_density(study_state *s, density_plan *plan, hsgd_error *err);
