/* src/store/lock.h - one run at a time in an output folder: a file there names the run that writes, and is gone after it.
 *
 * The file is held by flock(2), which ends with the process, however it ends: on the same machine a lock that can be had is
 * free.  Between machines a file system may or may not share locks, so there the holder also touches the file every few
 * seconds: one that another job on another machine left, and that nobody touches any more, is left over. */
#pragma once
#include "base/comm.h"
#include "base/error.h"

#define HSGD_LOCK_NAME "hsgd-dist.lock"

typedef struct hsgd_lock hsgd_lock;

/* Take the lock of `folder` (made if needed).  warn: told of a lock that an ended run left, and when it takes up to
 * a minute to see whether the run on another machine is alive.  Collective.
 * Errors: HSGD_ERR_USAGE (another run has it, which is named), HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_lock_take(hsgd_comm *comm, const char *folder, void (*warn)(void *context, const char *text),
                           void *context, hsgd_lock **out, hsgd_error *err);

/* Give it back and set *lock to NULL; accepts NULL.  Local: not later than any other way of leaving. */
void hsgd_lock_release(hsgd_lock **lock);
