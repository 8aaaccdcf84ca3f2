/* src/study/limits.h - what the stages of a deck ask of the data, the network and the files that the deck names. */
#pragma once
#include "study/internal.h"

/* Is `stage` among those of the deck?  Local. */
bool study_runs(const study_state *s, hsgd_stage stage);
/* Does trace.method mean the exact trace?  Local. */
bool study_trace_is_exact(const study_state *s);
/* Does it mean Hutch++, which holds a sketch?  Local. */
bool study_trace_is_sketched(const study_state *s);

/* Check every limit that the data, the network and the named files set to the stages that run, before anything is
 * created; s->extent tells what was found.  Weights and vectors are read whole: what one of them lacks must not show
 * after hours of training.  Collective.
 * Errors: HSGD_ERR_USAGE, HSGD_ERR_DATA, HSGD_ERR_MEMORY. */
hsgd_status study_check_limits(study_state *s, hsgd_error *err);

/* The vectors [*probes][m] of density.start, of which the selected rows are taken, into *start, which becomes the caller's; NULL where the deck names none.
 * Collective.  Errors: HSGD_ERR_DATA, HSGD_ERR_MEMORY. */
hsgd_status study_read_start(study_state *s, double **start, int64_t *probes, hsgd_error *err);
