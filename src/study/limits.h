/* src/study/limits.h - what the stages of a deck ask of the data, the network and the files that the deck names. */
#pragma once
#include "study/internal.h"

/* How much the stages that run will handle; 0 where a stage does not run. */
typedef struct {
    int64_t vectors;      /* rows of hvp.vectors */
    int64_t pairs;        /* eigenpairs that the deck's keys give */
    int64_t probes;       /* of the density: density.probes, or the rows of density.start */
    int64_t lines, axes;  /* directions of the landscape's lines and of its plane */
    bool eigenvectors;    /* the landscape looks along some */
    int64_t file_vectors; /* rows of landscape.vectors, where it looks along some */
} study_extent;

/* Is `stage` among those of the deck?  Local. */
bool study_runs(const study_state *s, hsgd_stage stage);
/* Does trace.method mean the exact trace?  Local. */
bool study_trace_is_exact(const study_state *s);

/* Check every limit that the data, the network and the named files set to the stages that run, before anything is
 * created; *extent (may be NULL) tells what was found.  Weights and vectors are read whole: what one of them lacks must
 * not show after hours of training.  Collective.
 * Errors: HSGD_ERR_USAGE, HSGD_ERR_DATA, HSGD_ERR_MEMORY. */
hsgd_status study_check_limits(study_state *s, study_extent *extent, hsgd_error *err);

/* The vectors [*probes][n] of density.start into *start, which becomes the caller's; NULL where the deck names none.
 * Collective.  Errors: HSGD_ERR_DATA, HSGD_ERR_MEMORY. */
hsgd_status study_read_start(study_state *s, double **start, int64_t *probes, hsgd_error *err);
