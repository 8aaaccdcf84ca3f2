/* src/store/journal.h - a file of lines that is only ever appended to: what a run tells while it goes.
 * One process writes it; each line is one write() to the system, so that it is there for readers at once and outlives the
 * process (not a power failure: nothing is flushed to the disk).  A line that a killed run, or a full disk, left half
 * written is cut off; whole lines never are. */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct hsgd_journal hsgd_journal;

/* All calls are local, and accept NULL, for which they do nothing, so that ranks that do not write need no cases. */

/* Make the journal `folder`/`name`.  No file is touched yet: lines are held in memory.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_journal_create(const char *folder, const char *name, hsgd_journal **out, hsgd_error *err);

/* Open the file for appending, make its folder where there is none, cut off half a line at its end, and write what was
 * held.  Nothing where it is open already.  Errors: HSGD_ERR_IO, also of an earlier failure; HSGD_ERR_MEMORY. */
hsgd_status hsgd_journal_open(hsgd_journal *journal, hsgd_error *err);
bool hsgd_journal_is_open(const hsgd_journal *journal);

/* Add a line, which ends with a newline.  After a failure, which hsgd_journal_state tells, nothing more is written. */
void hsgd_journal_add(hsgd_journal *journal, const char *line);

/* HSGD_OK, or the first failure of all that was written.  Errors: HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_journal_state(const hsgd_journal *journal, hsgd_error *err);

/* Seconds spent in writing so far. */
double hsgd_journal_seconds(const hsgd_journal *journal);

/* Close the file, which may tell of a failure that writing did not (a quota over a network).  Errors: as state. */
hsgd_status hsgd_journal_close(hsgd_journal *journal, hsgd_error *err);

/* End it and set it to NULL; what is still held is dropped.  Cannot fail. */
void hsgd_journal_destroy(hsgd_journal **journal);
