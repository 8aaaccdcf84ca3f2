/* src/store/lock.h - one run at a time in an output folder: a file there names the run that writes, and is gone after it.
 *
 * The file is held by flock(2), which ends with the process, however it ends: on the same machine a lock that can be had
 * is free.  Between machines a file system may or may not share locks, so there the holder also touches the file every
 * ten seconds: one that a run on another machine left, and that nobody touches for thirty, is left over.  That holds for
 * a job that was started again as for any: its first ranks may still run on a node that nobody reaches.  Who takes over
 * such a file, or one that names nobody, writes his name in it and looks a second later whether it still stands there.
 * What flock refuses is never taken: a server may keep it for a machine that went down, or for a process that stands
 * still.
 *
 * A holder that stood still for so long finds another's name in the file when it goes on.  It has lost the lock then, and
 * is to write, rename and remove nothing more: the other run's files have the same names.  So it looks right before each
 * time that it does; what is left is to stand still between the look and the deed. */
#pragma once
#include "base/comm.h"
#include "base/error.h"
#include <stdbool.h>

#define HSGD_LOCK_NAME "hsgd-dist.lock"

typedef struct hsgd_lock hsgd_lock;

/* Take the lock of `folder` (made if needed).  warn: told, on rank 0, of a lock that an ended run left, and when it takes
 * 30 seconds to see whether the run on another machine is alive.  No rank waits for another for more than a second.
 * *out: on rank 0; elsewhere NULL.  Collective.
 * Errors: HSGD_ERR_USAGE (another run has it, which is named), HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_lock_take(hsgd_comm *comm, const char *folder, void (*warn)(void *context, const char *text),
                           void *context, hsgd_lock **out, hsgd_error *err);

/* Has another run been seen to have taken it over?  Noticed within ten seconds of going on, or by hsgd_lock_check.  false
 * for NULL.  Cheap.  Local. */
bool hsgd_lock_is_lost(const hsgd_lock *lock);

/* Look now, at the file of that name and not at what was opened long ago: to be asked right before what must not meet
 * another run's files.  HSGD_OK also for NULL, and where it cannot be told.  Local.  Errors: HSGD_ERR_IO (it is lost; who
 * took it is named). */
hsgd_status hsgd_lock_check(hsgd_lock *lock, hsgd_error *err);

/* Give it back and set *lock to NULL; accepts NULL.  Local: not later than any other way of leaving. */
void hsgd_lock_release(hsgd_lock **lock);
