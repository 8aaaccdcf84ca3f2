/* src/base/comm.h - the ranks that work together; serial, MPI and NCCL implement it.
 * Every function marked Collective is called by all ranks in the same order with matching arguments. */
#pragma once
#include "base/error.h"
#include "base/watch.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { HSGD_TYPE_I64, HSGD_TYPE_F64 } hsgd_type; /* both 8 bytes */

typedef struct hsgd_comm hsgd_comm;

/* What an implementation supplies; shapes and errors as in the functions below. */
typedef struct {
    const char *name; /* "serial", "mpi", "nccl" */
    hsgd_status (*sum)(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err);
    hsgd_status (*max)(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err);
    hsgd_status (*reduce_scatter)(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                  hsgd_error *err);
    hsgd_status (*all_gather)(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                              hsgd_error *err);
    hsgd_status (*broadcast)(void *self, int root, size_t bytes, void *data, hsgd_error *err);
    hsgd_status (*shared_alloc)(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err);
    void (*shared_free)(void *self, void **handle);
    hsgd_status (*node_barrier)(void *self, hsgd_error *err);
    /* Prepare HDF5 property lists (hid_t, 64 bits) for collective access; NULL where one process writes alone. */
    hsgd_status (*file_access)(void *self, int64_t fapl, int64_t dxpl, hsgd_error *err);
    /* Call failing(context) on this rank as soon as access to a file opened so from now on fails here, from within HDF5,
     * which may not come back; failing = NULL: no more.  For one file at a time.  NULL as file_access. */
    void (*file_failing)(void *self, void (*failing)(void *context), void *context);
    /* The same three for arrays in a device's memory, queued behind the device's work so far; they may return before
     * they are done, and a failure may come to light where the device's work is waited for.  NULL: host arrays only. */
    hsgd_status (*device_sum)(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err);
    hsgd_status (*device_reduce_scatter)(void *self, hsgd_type type, const int64_t *counts, const void *send,
                                         void *receive, hsgd_error *err);
    hsgd_status (*device_all_gather)(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                     hsgd_error *err);
    hsgd_status (*split)(void *self, int colour, hsgd_comm **out, hsgd_error *err); /* optional; sets no host */
    void (*abort)(void *self, int exit_code); /* end all ranks at once; does not return */
    /* Has it failed, so that the ranks may be out of step?  `destroy` then waits to be ended, and ends all ranks; the
     * node's memory stays.  Optional: it never does. */
    bool (*failed)(void *self);
    void (*destroy)(void *self); /* optional */
} hsgd_comm_ops;

struct hsgd_comm {
    const hsgd_comm_ops *ops;
    void *self;
    int rank, ranks;
    int local_rank, local_ranks; /* among the ranks of this node */
    char host[64];
    /* This rank's seconds so far: in the calls below, waiting for slower ranks included, but not in a device's calls; and
     * in the calls of the store, without what these spend in the calls below. */
    double seconds, file_seconds;
    hsgd_watch *watch; /* borrowed; marked by the calls below.  NULL: nobody watches */
    int group;         /* 0: all ranks; else, of a part, its colour + 1 */
    int64_t calls;     /* begun so far: the number of a call is the same on all ranks */
};

/* Make the communicator of a single process.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_comm_serial_create(hsgd_comm **out, hsgd_error *err);

/* End *comm, unwatch it unless it is a part, and set it to NULL; *comm may be NULL.  Local (the MPI one finalises MPI if
 * it initialised it). */
void hsgd_comm_destroy(hsgd_comm **comm);

/* data[count] becomes the element-wise sum (maximum) over the ranks, in place, identical on every rank.
 * Collective.  Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_comm_sum(hsgd_comm *comm, hsgd_type type, int64_t count, void *data, hsgd_error *err);
hsgd_status hsgd_comm_max(hsgd_comm *comm, hsgd_type type, int64_t count, void *data, hsgd_error *err);

/* Sum send[sum of counts] over the ranks; rank r receives its counts[r] entries, in rank order.
 * counts: [ranks], the same everywhere.  send and receive do not overlap.  Collective.  Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_comm_reduce_scatter(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                     void *receive, hsgd_error *err);

/* receive[sum of counts] becomes the ranks' send[counts[r]] one after the other, in rank order.
 * Collective.  Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_comm_all_gather(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                 void *receive, hsgd_error *err);

/* data[bytes] of rank `root` appears on every rank.  Collective.  Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_comm_broadcast(hsgd_comm *comm, int root, size_t bytes, void *data, hsgd_error *err);

/* Memory that stands once per node: *out is the node's block (page-aligned or better, zeroed), *leader tells the one
 * rank of the node that fills it.  After filling, all ranks of the node call hsgd_comm_node_barrier.
 * The block lives until hsgd_comm_shared_free(handle), which is collective, sets *handle to NULL, accepts NULL.
 * Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_comm_shared_alloc(hsgd_comm *comm, size_t bytes, void **out, bool *leader, void **handle,
                                   hsgd_error *err);
void hsgd_comm_shared_free(hsgd_comm *comm, void **handle);
hsgd_status hsgd_comm_node_barrier(hsgd_comm *comm, hsgd_error *err);

/* A communicator of the ranks that give the same colour >= 0, in the order in which they are here; it goes the same way
 * as this one (NCCL's by NCCL).  It must be ended before this one, and of several the last made first.  A failure in it
 * is one here too.
 * Collective.  Errors, the same on every rank: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY; HSGD_ERR_USAGE (it cannot be split, or
 * a colour is negative). */
hsgd_status hsgd_comm_split(hsgd_comm *comm, int colour, hsgd_comm **out, hsgd_error *err);

/* The worst status of all ranks, with its text (of the lowest rank that has it), on every rank: what one rank alone
 * knows to be wrong is shared here before anyone leaves.  `mine` is this rank's status, err its text.
 * Collective.  Returns the agreed status. */
hsgd_status hsgd_comm_agree(hsgd_comm *comm, hsgd_status mine, hsgd_error *err);

/* The same after work of which parts of this communicator have unequal amounts: ranks may come at any time, and the
 * watch does not take those for lost that get on. */
hsgd_status hsgd_comm_meet(hsgd_comm *comm, hsgd_status mine, hsgd_error *err);

/* Have `watch` (borrowed) see how long this rank is in each collective call, and the ranks of a node each other, until
 * unwatch or the end of the communicator.  Splitting passes it on.  NULL watches nothing.
 * Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE.  Unwatch: Local; for the end, in which nothing is shared any more:
 * unless the communicator has failed, when ranks must still see whether another has told it. */
hsgd_status hsgd_comm_watch(hsgd_comm *comm, hsgd_watch *watch, hsgd_error *err);
void hsgd_comm_unwatch(hsgd_comm *comm);

/* Around work that waits for the other ranks by other means, as HDF5's collective calls do.  Collective: the same on all
 * ranks, whether or not the work succeeds.  Errors: none. */
void hsgd_comm_enter(hsgd_comm *comm, hsgd_watch_operation operation);
void hsgd_comm_leave(hsgd_comm *comm);

/* This rank gets on with its share of what lies between two calls; said now and then where that may take long, whatever the
 * ranks and the device, so that those who wait for it do not take it for lost.  By the thread that makes the calls; costs
 * two stores to memory.  Local. */
void hsgd_comm_mark(const hsgd_comm *comm);

/* The contiguous share [*low, *high) of `count` items that rank `rank` of `ranks` takes; shares differ by at most one.
 * Local. */
void hsgd_share(int64_t count, int rank, int ranks, int64_t *low, int64_t *high);
