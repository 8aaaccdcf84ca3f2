/* src/store/lock.h - one run at a time in an output folder: a file there names the run that writes, and is gone after it.
 *
 * The file is held by flock(2), which ends with the process, however it ends: on the same machine a lock that can be had is
 * free.  Between machines a file system may or may not share locks, so there the holder also touches the file every ten
 * seconds: one that a run on another machine left, and that nobody touches for thirty, is left over.  Who takes such a
 * one over writes his name in it and looks a second later whether it still stands there. */
#pragma once
#include "base/comm.h"
#include "base/error.h"

#define HSGD_LOCK_NAME "hsgd-dist.lock"

typedef struct hsgd_lock hsgd_lock;

/* Take the lock of `folder` (made if needed).  warn: told, on rank 0, of a lock that an ended run left, and when it takes
 * 30 seconds to see whether the run on another machine is alive; it does not where this is the same job of Slurm's,
 * started again since.  No rank waits for another for more than a second.  Collective.
 * Errors: HSGD_ERR_USAGE (another run has it, which is named), HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_lock_take(hsgd_comm *comm, const char *folder, void (*warn)(void *context, const char *text),
                           void *context, hsgd_lock **out, hsgd_error *err);

/* Give it back and set *lock to NULL; accepts NULL.  Local: not later than any other way of leaving. */
void hsgd_lock_release(hsgd_lock **lock);
