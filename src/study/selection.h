/* src/study/selection.h - hessian.layers: the rows and columns of the operator that are studied, a diagonal block of it.
 * Solvers see vectors of these s->m rows on s->studied; files hold vectors of all s->n, 0 elsewhere. */
#pragma once
#include "study/internal.h"

enum { SELECTION_NAMES = 2048 }; /* characters of all names with blanks between them */

/* Resolve hessian.layers by the list of parameters: s->part, s->range, s->m.  Local: the same on every rank.
 * Errors: HSGD_ERR_USAGE (a name that is none, or stands there twice), HSGD_ERR_MEMORY. */
hsgd_status selection_resolve(study_state *s, hsgd_error *err);

/* Make s->studied on s->comm, beside s->spread, and end it.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status selection_open_space(study_state *s, hsgd_error *err);
void selection_close_space(study_state *s);

/* Free what selection_resolve made.  Local. */
void selection_clear(study_state *s);

/* Is less than the whole operator studied?  Local. */
bool selection_is_block(const study_state *s);

/* The selected rows, as the operator's block wants them; borrowed.  Local. */
hsgd_selection selection_of(const study_state *s);

/* The names of the parts with blanks between them.  Local. */
void selection_names(const study_state *s, char names[SELECTION_NAMES]);

/* x[n] = 0 outside the selection.  Local. */
void selection_confine(const study_state *s, double *x);

/* The columns of x, on s->studied, as columns of *out on s->spread, which becomes the caller's.  Collective.
 * Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status selection_embed(study_state *s, const hsgd_vector *x, hsgd_vector **out, hsgd_error *err);

/* study_read_rows, and of each row the selected entries: *rows [count][m].  Collective.  Errors: as study_read_rows. */
hsgd_status selection_read_rows(study_state *s, const char *file, const char *path, double **rows, int64_t *count,
                                hsgd_error *err);
