/* mpi/comm_nccl.h - a communicator whose sums and gathers of device arrays go from GPU to GPU by NCCL. */
#pragma once
#include "base/comm.h"

/* What it needs to know of this rank's GPU; it does not know the backend. */
typedef struct {
    void *stream;       /* cudaStream_t on which the backend computes: collectives are queued there; borrowed */
    const char *bus_id; /* which GPU of the node */
    double timeout;     /* seconds that a collective may be under way before all ranks are ended; > 0 */
    double patience;    /* seconds that a rank waits to be ended after a failure: HSGD_WATCH_OUTLAST, in tests less */
    /* Have `watch` asked now and then by whoever waits for the stream (cuda/cuda.h); set_watch(device, NULL, NULL) ends
     * that. */
    void (*set_watch)(void *device, hsgd_status (*watch)(void *context, hsgd_error *err), void *context);
    void *device;
} hsgd_nccl_options;

/* Wrap `inner` (MPI's or the serial communicator): host arrays, broadcasts, node memory and files go on through it, and
 * it carries NCCL's start.  Where two ranks use one GPU (same host and bus id), which NCCL refuses, nothing is wrapped:
 * *out is NULL and why[] says so, the same on all ranks; device arrays then go through host memory.
 * inner: owned by *out once that is made, ended with it; else still the caller's.
 * The communicator is non-blocking: calls are polled, NCCL's asynchronous errors and collectives under way for longer
 * than `timeout` are reported by `watch` and by later calls as HSGD_ERR_DEVICE, naming operation, rank and host, after
 * ncclCommAbort has freed the stream.
 * Collective.  Errors, the same on all ranks: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_comm_nccl_create(hsgd_comm *inner, const hsgd_nccl_options *options, hsgd_comm **out, char *why,
                                  size_t why_size, hsgd_error *err);
