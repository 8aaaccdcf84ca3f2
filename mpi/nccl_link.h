/* mpi/nccl_link.h - this rank's end of NCCL: started, polled, watched and ended without ever waiting for good.
 * Known to mpi/comm_nccl.c and its start alone. */
#pragma once
#include "base/comm.h"
#include <nccl.h>
#include <stdatomic.h>

enum {
    HSGD_NCCL_OUTSTANDING = 64 /* collectives queued at once; one more waits for the oldest.  A step queues a few. */
};

/* What a message says is being done: "all-reduce of 57878 words", "start of 4 ranks". */
typedef struct {
    const char *name, *unit;
    int64_t count;
} hsgd_nccl_work;

/* A collective on the stream.  It is under way from when `before` is done until `after` is: a stream that still
 * computes what was queued earlier waits for no other rank. */
typedef struct {
    hsgd_nccl_work work;
    cudaEvent_t before, after; /* owned */
    bool begun;                /* `before` was seen done, at `began` on hsgd_clock */
    double began;
} hsgd_nccl_collective;

/* The first failure that any rank of a node knows of, in memory that they share: so all of them, and among them the one
 * that prints, learn of it at once and in the words of the rank that knows the cause. */
typedef struct {
    atomic_int state; /* 0: nothing; 1: being written; 2: failure may be read */
    hsgd_error failure;
} hsgd_nccl_note;

typedef struct {
    int rank, ranks;
    int named; /* the rank that messages name: where `comm` is a part of a whole, that in the whole */
    char host[64];
    double timeout;       /* seconds */
    cudaStream_t stream;  /* borrowed */
    int device;           /* the calling thread's, which the stream belongs to */
    hsgd_nccl_note *note; /* borrowed, one for the node; NULL: none */
    ncclComm_t nccl;      /* owned; NULL before the start and after an abort */
    bool joined;          /* the start succeeded */
    hsgd_nccl_collective ring[HSGD_NCCL_OUTSTANDING];
    int64_t first, next; /* outstanding: ring[i % HSGD_NCCL_OUTSTANDING] for first <= i < next */
    hsgd_error failed;   /* the first failure, which all later calls report */
    atomic_bool aborted; /* ncclCommAbort has come back */
    bool stuck;          /* it did not: its thread still uses this struct, which must then stay */
} hsgd_nccl_link;

/* Make the end of `comm`'s rank, not yet started; its collectives go on `stream`.
 * Local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_nccl_link_create(const hsgd_comm *comm, cudaStream_t stream, double timeout, hsgd_nccl_link **out,
                                  hsgd_error *err);

/* Join the ranks that hold `id`.  *late: this rank waited in vain for others, which know better what is wrong.
 * Not collective in that it comes back after the timeout, whatever others do.  Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_nccl_link_start(hsgd_nccl_link *link, ncclUniqueId id, bool *late, hsgd_error *err);

/* Around the NCCL calls of one collective: `code` is what the last of them gave, `call` its name.
 * When `end` returns all is on the stream.  Local.  Errors: HSGD_ERR_DEVICE, now or in an earlier collective. */
hsgd_status hsgd_nccl_link_begin(hsgd_nccl_link *link, const char *name, int64_t words, hsgd_error *err);
hsgd_status hsgd_nccl_link_end(hsgd_nccl_link *link, const char *call, ncclResult_t code, hsgd_error *err);

/* Is all well?  Errors: HSGD_ERR_DEVICE, after freeing the stream from its collectives: an asynchronous error, a
 * collective under way for longer than the timeout, a failure noted by another rank of the node, or any earlier one.
 * Local.  `link` is a hsgd_nccl_link: the signature is that of a device's watch. */
hsgd_status hsgd_nccl_link_watch(void *link, hsgd_error *err);

/* The failure there was, if there was one: this rank's, or one that a rank of its node has noted.  Local. */
hsgd_status hsgd_nccl_link_failure(hsgd_nccl_link *link, hsgd_error *err);

/* End *link and set it to NULL; accepts NULL.  Waits for the other ranks to come here, but not longer than the timeout
 * or HSGD_NCCL_PATIENCE seconds.  Cannot fail. */
void hsgd_nccl_link_destroy(hsgd_nccl_link **link);

enum {
    HSGD_NCCL_PATIENCE = 30 /* seconds: more than HSGD_WATCH_PATIENCE, since main can speak */
};
