/* src/base/progress.h - what a user reads while a study runs: rank 0's messages and one line of progress. */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct hsgd_progress hsgd_progress;

/* Make the progress of this rank; all calls do nothing where rank is not 0.  quiet: warnings only.
 * Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_progress_create(int rank, bool quiet, bool verbose, hsgd_progress **out, hsgd_error *err);
void hsgd_progress_destroy(hsgd_progress **progress);

/* A line on standard output; a line only with --verbose; a warning on standard error.  Local. */
void hsgd_progress_say(hsgd_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void hsgd_progress_detail(hsgd_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void hsgd_progress_warn(hsgd_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Tell `hear` of every warning, with its text; NULL ends that.  context must live until then.  Local. */
void hsgd_progress_listen(hsgd_progress *progress, void (*hear)(void *context, const char *warning), void *context);

/* How far a stage is: `done` of `total` units of work and a text; the rate ("products" in a second; unit NULL: the text
 * tells it) and the time left are added.  One redrawn line on a terminal, elsewhere a plain line every few seconds.
 * Local. */
void hsgd_progress_update(hsgd_progress *progress, const char *stage, const char *unit, int64_t done, int64_t total,
                          const char *format, ...) __attribute__((format(printf, 6, 7)));

/* At the last update, also of a quiet progress: units in a second since the first one, and the seconds that are left at
 * that rate, at most; NaN where they cannot be known yet, and where rank is not 0.  Local. */
void hsgd_progress_pace(const hsgd_progress *progress, double *rate, double *left);

/* End the redrawn line; the next update begins a new estimate.  Local. */
void hsgd_progress_done(hsgd_progress *progress);
