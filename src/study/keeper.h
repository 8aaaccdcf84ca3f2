/* src/study/keeper.h - the state of a half-done stage in run.output, from which --restart goes on: written now and then,
 * trusted only where it is whole and of the same keys, weights and samples, removed when the stage is done. */
#pragma once
#include "study/internal.h"

typedef struct study_keeper study_keeper;

/* Does the stage keep states: eigen, density, trace, landscape?  Local. */
bool study_keeper_serves(hsgd_stage stage);

/* Begin to keep `stage`'s states in STAGE-state.h5 of run.output.  With --restart a state that is there is looked at: of
 * this very stage, it will be recalled; damaged, or of other weights, it is set aside as .old, and the user is told.
 * s: borrowed, must outlive *out.  Collective.
 * Errors: HSGD_ERR_USAGE (the state is that of other keys or samples), HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status study_keeper_open(study_state *s, hsgd_stage stage, study_keeper **out, hsgd_error *err);

/* What solvers see of it; valid until close.  NULL for NULL.  Local. */
const hsgd_keeper *study_keeper_face(const study_keeper *keeper);

/* The stage is done, its result is written: remove its state.  keeper may be NULL.  Collective.  Errors: HSGD_ERR_IO. */
hsgd_status study_keeper_finish(study_keeper *keeper, hsgd_error *err);

/* End *keeper and set it to NULL; *keeper may be NULL.  st: how the stage ended.  One that failed by its numbers will fail
 * again; its state, which must not hold on to the keys that made it fail, goes as well.  Local.  Cannot fail. */
void study_keeper_close(study_keeper **keeper, hsgd_status st);

/* Remove states that lie beside the very results they led to: the run was ended between the one and the other, and no
 * stage is half done.  Collective.  Errors: HSGD_ERR_IO. */
hsgd_status study_keeper_sweep(study_state *s, hsgd_error *err);
