/* src/study/metrics.h - metrics.jsonl in run.output: one JSON object a line for each thing that happens in a run, written
 * by rank 0 as it happens (docs/output.md tells every event and field).
 *
 * Nothing is written of a run that is refused.  A line that cannot be written (a full disk) neither stops the stage on the
 * spot nor is it passed over: the run ends as one that is asked to stop, with a checkpoint or the stage's state where these
 * can be written, and then with exit 5, as a log that silently misses lines is worth little to whoever watches a long
 * run, and hours of work are worth more than the log. */
#pragma once
#include "base/json.h"
#include "study/internal.h"

/* The stage in lines that tell of the run as a whole. */
#define METRICS_STUDY "study"

/* Begin: lines are held in memory until metrics_open; warnings go there from now on.  Collective.  Errors: HSGD_ERR_MEMORY. */
hsgd_status metrics_create(study_state *s, hsgd_error *err);
void metrics_destroy(study_state *s);

/* Set-up is done: tell what it found.  Local. */
void metrics_describe(study_state *s);

/* From here on the run is not refused any more: open the file.  Collective.  Errors: HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status metrics_open(study_state *s, hsgd_error *err);

/* Has a line not been written?  Local; true on rank 0 alone. */
bool metrics_failed(const study_state *s);
/* Seconds spent in writing.  Local. */
double metrics_seconds(const study_state *s);

/* Begin a line with time, elapsed, event and stage; the caller adds members (base/json.h) and hands it back to metrics_add
 * before the next one is begun.  NULL where this rank writes nothing: all that is done to it does nothing.  Local. */
hsgd_json *metrics_event(const study_state *s, const char *event, const char *stage);
void metrics_add(const study_state *s, hsgd_json *line);

/* The same for a stage's progress, of which a line a second is written, and always the first and the last: after
 * hsgd_progress_update of the same numbers, whose pace is told.  Local. */
hsgd_json *metrics_progress(const study_state *s, const char *stage, const char *unit, int64_t done, int64_t total);
void metrics_add_progress(const study_state *s, hsgd_json *line);

/* The progress of a stage that is one sweep over the samples, for people and programs: groups of rank 0.  Local. */
void metrics_sweep(const study_state *s, hsgd_stage stage, int64_t done, int64_t groups);

/* A stage begins; it ends after so many seconds.  Local. */
void metrics_begin(const study_state *s, hsgd_stage stage);
void metrics_end(const study_state *s, hsgd_stage stage, hsgd_status status, double seconds);

/* `file` of run.output was written, taken up or kept: step where it is >= 0, seconds that it took where >= 0.  Local. */
void metrics_file(const study_state *s, const char *event, hsgd_stage stage, const char *file, int64_t step,
                  double seconds);

/* The run ends with `status`, whose text is in err: write the last line and close the file.  Returns the status of the run:
 * HSGD_ERR_IO instead of success or a stop where lines are missing.  Collective after success or a stop, else local. */
hsgd_status metrics_finish(study_state *s, hsgd_status status, hsgd_error *err);
