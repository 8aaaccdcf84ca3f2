/* src/base/watch.h - notices that this rank waits in vain for others, and ends it then with a message that says for whom.
 * A thread of each rank wakes now and then and looks at what the rank does: one word in memory that the ranks of a node
 * share, so that who waits can name who has not come.  It counts its own wakings, not the time, so that a job that was
 * suspended as a whole is not taken for a stuck one.  It knows no communicator: base/comm.c marks the calls. */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct hsgd_watch hsgd_watch;

/* What a rank can wait for others in. */
typedef enum {
    HSGD_WATCH_NOTHING,
    HSGD_WATCH_START,
    HSGD_WATCH_END,
    HSGD_WATCH_SUM,
    HSGD_WATCH_MAX,
    HSGD_WATCH_REDUCE_SCATTER,
    HSGD_WATCH_ALL_GATHER,
    HSGD_WATCH_BROADCAST,
    HSGD_WATCH_SHARED_MEMORY,
    HSGD_WATCH_NODE_BARRIER,
    HSGD_WATCH_SPLIT,
    HSGD_WATCH_WORK, /* no wait: see hsgd_watch_mark */
    /* Of groups, of which one may be at work for longer than any time-out.  No stall while a rank of the node gets on.
     * Where there are more nodes, none either while nobody of this one is late: a lost rank among those that are not seen
     * looks just as a long round does, so a meeting never ends where all ranks of a node have stopped, or MPI. */
    HSGD_WATCH_MEETING,
    HSGD_WATCH_FILE_CREATE, /* from here on: HDF5's, a failure of input/output */
    HSGD_WATCH_FILE_ATTRIBUTE,
    HSGD_WATCH_FILE_DATASET,
    HSGD_WATCH_FILE_WRITE,
    HSGD_WATCH_FILE_FLUSH,
    HSGD_WATCH_FILE_CLOSE,
    HSGD_WATCH_OPERATIONS
} hsgd_watch_operation;

/* Two reasons to end the rank after a while, whatever it does then: each has a limit of its own.  LEAVING with a text is
 * a failure on the way out: what this rank then waits for in vain follows from it, and is not told. */
typedef enum { HSGD_WATCH_LEAVING, HSGD_WATCH_ALONE, HSGD_WATCH_LIMITS } hsgd_watch_limit_kind;

/* Seconds: that ranks are given to leave together after a failure, by a limit of LEAVING; that a rank then lets itself be
 * ended by the failure that another of its node has told; and for who waits to be ended so, well beyond both. */
enum { HSGD_WATCH_PATIENCE = 8, HSGD_WATCH_SILENCE = 5, HSGD_WATCH_OUTLAST = 20 };
_Static_assert(HSGD_WATCH_OUTLAST > HSGD_WATCH_PATIENCE + HSGD_WATCH_SILENCE, "else who waits ends before it is told");

/* Called once, on the watch's thread: end the process with the exit code of `status` after telling `text`, which is ""
 * where another rank has told it.  Where it returns, nothing is watched any more. */
typedef void (*hsgd_watch_end)(void *context, hsgd_status status, const char *text);

/* Make a watch; no thread runs yet.  rank: of this process, as far as known, to put messages in order.
 * context: borrowed.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_watch_create(int rank, hsgd_watch_end end, void *context, hsgd_watch **out, hsgd_error *err);

/* Let it look; once is enough.  Local.  Errors: HSGD_ERR_MEMORY (no thread can be had). */
hsgd_status hsgd_watch_start(hsgd_watch *watch, hsgd_error *err);

/* End the thread, free *watch, set it to NULL; accepts NULL.  Local. */
void hsgd_watch_destroy(hsgd_watch **watch);

/* How long a rank may wait in one operation while nobody of the node whom it may wait for gets on: seconds > 0, or 0: for
 * ever.  At first 0.  Where a rank of the node is late, in an operation on a file, the status is HSGD_ERR_IO.  Local. */
void hsgd_watch_timeout(hsgd_watch *watch, int64_t seconds);

/* The ranks of a node see each other from `join` to `part`.
 * block: of hsgd_watch_bytes(local_ranks) bytes, zeroed, aligned as a page, the same memory on all ranks of the node;
 * borrowed until `part`.  Local.  Errors: HSGD_ERR_MEMORY. */
size_t hsgd_watch_bytes(int local_ranks);
typedef struct {
    int rank, ranks, local_rank, local_ranks;
    const char *host;
} hsgd_watch_place;
hsgd_status hsgd_watch_join(hsgd_watch *watch, void *block, const hsgd_watch_place *place, hsgd_error *err);
void hsgd_watch_part(hsgd_watch *watch);

/* Around what may wait for others.  number: counts the operations of group `group` (0: all ranks), the same on all its
 * ranks.  They may be nested: the innermost counts.  Two stores to memory; by the thread that made the watch alone. */
void hsgd_watch_enter(hsgd_watch *watch, int group, int64_t number, hsgd_watch_operation operation);
void hsgd_watch_leave(hsgd_watch *watch);

/* This rank gets on, outside of operations, after operation `number` of group `group`: others that wait for it see that.
 * As the two above. */
void hsgd_watch_mark(hsgd_watch *watch, int group, int64_t number);

/* End this rank with `status` and `text` (copied) in `seconds`, or, with 0, do not.  Where no thread runs one is started,
 * as far as that succeeds.  Local. */
void hsgd_watch_limit(hsgd_watch *watch, hsgd_watch_limit_kind kind, int64_t seconds, hsgd_status status,
                      const char *text);

/* May this rank tell a failure?  Once per node, as long as it has not parted: whoever asks first.  Local. */
bool hsgd_watch_may_tell(hsgd_watch *watch);
