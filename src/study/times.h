/* src/study/times.h - where the time of a study goes: compute, communication, input and output, stage by stage.
 * Communication: seconds in the communicator's calls, waiting for slower ranks included.  Input and output: seconds in
 * the calls of the store, in loading the images, and in writing metrics.jsonl, without the communicator's calls in them (but
 * with what MPI-IO sends within HDF5's).  Compute: all the rest, so that the three add up; collectives that a device
 * queues for itself (NCCL) are in it, as nobody but the device knows when they run.  A stage that another one needs first
 * counts as that one's. */
#pragma once
#include "study/internal.h"

/* This rank's clocks now.  Local. */
study_clock times_now(const study_state *s);
/* What this rank did since `since` was input: count it so, except for communication.  Local. */
void times_count_input(study_state *s, const study_clock *since);
/* The time since `since` was that of `part`: a stage, TIMES_SETUP or TIMES_STUDY.  Collective.  Errors: HSGD_ERR_DEVICE. */
hsgd_status times_add(study_state *s, int part, const study_clock *since, hsgd_error *err);
/* The table, into the summary and the metrics.  Local. */
void times_report(study_state *s);
