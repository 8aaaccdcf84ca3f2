/* tests/emulation/nccl.c - NCCL between processes of one node without a GPU, for tests: the calls of nccl.h that the
 * program uses, with NCCL's manners.  Collectives are queued on the stream and carried out when that is waited for.  A
 * non-blocking communicator says ncclInProgress for a few polls, puts its work on the stream only then, and refuses
 * calls before.  Two ranks on one GPU are refused.  Ranks may also live in one process.
 *
 * The ranks meet in a memory file without a name, opened through /proc/PID/fd of the process that made the unique id:
 * however the processes end, nothing stays behind.
 *
 * Environment, read when a communicator is made: HSGD_EMULATION_NCCL=FAULT:RANK[:N], the N-th collective (group) being
 * meant, from 1:
 *   init-fails:RANK               the start fails there at once
 *   in-progress-for-ever:RANK[:N] the start (or that collective) never gets beyond ncclInProgress there
 *   async-error:RANK:N            that collective fails there on the stream, and ncclCommGetAsyncError says so
 *   stall:RANK:N                  that collective never ends there, until ncclCommAbort */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include "nccl_internal.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Thread_local char last_error[256];
static _Thread_local int group_depth;
static _Thread_local struct ncclComm *grouped[MOST_RANKS];
static _Thread_local int grouped_count;

static ncclResult_t refuse(ncclResult_t code, const char *text)
{
    (void)snprintf(last_error, sizeof last_error, "%s", text);
    return code;
}

static void close_file(struct ncclComm *comm)
{
    if (comm->fd >= 0) {
        (void)close(comm->fd);
        comm->fd = -1;
    }
}

/* ---- what goes on after a call has returned ---- */

static void finish_start(struct ncclComm *comm)
{
    const meeting *m = comm->meeting;

    if (atomic_load(&m->joined) < comm->ranks) {
        return;
    }
    for (int r = 0; r < comm->ranks; r++) {
        if (r != comm->rank && strcmp(m->members[r].bus_id, m->members[comm->rank].bus_id) == 0) {
            (void)snprintf(last_error, sizeof last_error,
                           "Duplicate GPU detected : rank %d and rank %d both on CUDA device %s", comm->rank, r,
                           m->members[r].bus_id);
            atomic_store(&comm->state, ncclInvalidUsage);
            return;
        }
    }
    close_file(comm); /* all have opened it */
    atomic_store(&comm->state, ncclSuccess);
}

static void put_on_stream(struct ncclComm *comm)
{
    while (comm->pending != NULL) {
        work *w = comm->pending;

        comm->pending = w->next;
        comm->stream = w->stream;
        (void)atomic_fetch_add(&comm->users, 1);
        emulation_enqueue_polled(w->stream, emulation_nccl_carry_on, &w, sizeof(work *));
    }
    comm->last = &comm->pending;
    atomic_store(&comm->state, ncclSuccess);
}

static void finish_end(struct ncclComm *comm)
{
    /* the caller's handle is the last user when all work is done */
    if (atomic_load(&comm->users) > 1) {
        (void)cudaStreamQuery(comm->stream);
        (void)cudaGetLastError();
    } else if (atomic_load(&comm->meeting->finalized) == comm->ranks) {
        atomic_store(&comm->state, ncclSuccess);
    }
}

static void advance(struct ncclComm *comm)
{
    if (atomic_load(&comm->state) != ncclInProgress ||
        (comm->fault == IN_PROGRESS && comm->fault_at == comm->collectives && comm->doing != ENDING)) {
        return;
    }
    if (comm->polls > 0) {
        comm->polls--;
    } else if (comm->doing == STARTING) {
        finish_start(comm);
    } else if (comm->doing == QUEUEING) {
        put_on_stream(comm);
    } else {
        finish_end(comm);
    }
}

/* Begin something that goes on in the background; a blocking communicator sees it through. */
static ncclResult_t begin(struct ncclComm *comm, int doing)
{
    comm->doing = doing;
    comm->polls = comm->blocking ? 0 : POLLS;
    atomic_store(&comm->state, ncclInProgress);
    while (comm->blocking && atomic_load(&comm->state) == ncclInProgress) {
        advance(comm);
        (void)sched_yield();
    }
    return (ncclResult_t)atomic_load(&comm->state);
}

/* ---- start and end ---- */

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *uniqueId)
{
    address a = {.magic = "emulate", .pid = (int)getpid(), .fd = memfd_create("emulated-nccl", MFD_CLOEXEC)};

    if (a.fd < 0 || ftruncate(a.fd, sizeof(meeting)) != 0) {
        return refuse(ncclSystemError, "cannot make a memory file");
    }
    memset(uniqueId, 0, sizeof *uniqueId);
    memcpy(uniqueId->internal, &a, sizeof a);
    return ncclSuccess;
}

static void read_fault(struct ncclComm *comm)
{
    static const char *const names[] = {[INIT_FAILS] = "init-fails",
                                        [IN_PROGRESS] = "in-progress-for-ever",
                                        [ASYNC_ERROR] = "async-error",
                                        [STALL] = "stall"};
    const char *wish = getenv("HSGD_EMULATION_NCCL"), *colon = wish != NULL ? strchr(wish, ':') : NULL;
    char *end = NULL;

    if (colon == NULL || strtol(colon + 1, &end, 10) != comm->rank || end == colon + 1) {
        return;
    }
    for (int f = INIT_FAILS; f <= STALL; f++) {
        if (strncmp(wish, names[f], (size_t)(colon - wish)) == 0 && names[f][colon - wish] == '\0') {
            comm->fault = (fault)f;
            comm->fault_at = *end == ':' ? (int)strtol(end + 1, NULL, 10) : 0;
        }
    }
}

/* Open the meeting of `a` and sit down there. */
static ncclResult_t join(struct ncclComm *comm, const address *a)
{
    char path[64];
    int device = 0, fd;
    member *me;

    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", a->pid, a->fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return refuse(ncclSystemError, "cannot open the memory file of the rank that made the unique id");
    }
    comm->meeting = mmap(NULL, sizeof *comm->meeting, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (comm->meeting == MAP_FAILED) {
        return refuse(ncclSystemError, "cannot map the memory file");
    }
    me = &comm->meeting->members[comm->rank];
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetPCIBusId(me->bus_id, (int)sizeof me->bus_id, device) != cudaSuccess) {
        (void)munmap(comm->meeting, sizeof *comm->meeting);
        return refuse(ncclUnhandledCudaError, "no device");
    }
    if (atomic_exchange(&me->present, true)) {
        (void)munmap(comm->meeting, sizeof *comm->meeting);
        return refuse(ncclInvalidUsage, "two ranks have the same number");
    }
    comm->fd = comm->rank == 0 && a->pid == (int)getpid() ? a->fd : -1;
    (void)atomic_fetch_add(&comm->meeting->joined, 1);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t *config)
{
    struct ncclComm *made = NULL;
    address a;
    ncclResult_t code;

    *comm = NULL;
    memcpy(&a, commId.internal, sizeof a);
    if (nranks < 1 || nranks > MOST_RANKS || rank < 0 || rank >= nranks || strcmp(a.magic, "emulate") != 0 ||
        (config != NULL && config->magic != 0xcafebeef)) {
        return refuse(ncclInvalidArgument, "a rank, a number of ranks, an id or a configuration that cannot be");
    }
    made = calloc(1, sizeof *made);
    if (made == NULL) {
        return refuse(ncclSystemError, "out of memory");
    }
    made->rank = rank;
    made->ranks = nranks;
    made->blocking = config == NULL || config->blocking != 0;
    made->last = &made->pending;
    atomic_store(&made->users, 1);
    read_fault(made);
    code = made->fault == INIT_FAILS ? refuse(ncclSystemError, "the start fails, as the test wants") : join(made, &a);
    if (code != ncclSuccess) {
        free(made);
        return code;
    }
    *comm = made;
    return begin(made, STARTING);
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank)
{
    return ncclCommInitRankConfig(comm, nranks, commId, rank, NULL);
}

static void forget_pending(struct ncclComm *comm)
{
    while (comm->pending != NULL) {
        work *w = comm->pending;

        comm->pending = w->next;
        free(w);
    }
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    if (atomic_load(&comm->state) != ncclSuccess) {
        return refuse(ncclInvalidArgument, "the communicator is still busy, or has failed");
    }
    (void)atomic_fetch_add(&comm->meeting->finalized, 1);
    return begin(comm, ENDING);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm != NULL) {
        close_file(comm);
        forget_pending(comm);
        emulation_nccl_release(comm);
    }
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (comm != NULL) {
        atomic_store(&comm->aborted, true);
    }
    return ncclCommDestroy(comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *asyncError)
{
    advance(comm);
    *asyncError = (ncclResult_t)atomic_load(&comm->state);
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = {
        [ncclSuccess] = "no error",
        [ncclUnhandledCudaError] = "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        [ncclSystemError] = "unhandled system error (run with NCCL_DEBUG=INFO for details)",
        [ncclInternalError] = "internal error - please report this issue to the NCCL developers",
        [ncclInvalidArgument] = "invalid argument (run with NCCL_DEBUG=WARN for details)",
        [ncclInvalidUsage] = "invalid usage (run with NCCL_DEBUG=WARN for details)",
        [ncclRemoteError] = "remote process exited or there was a network error",
        [ncclInProgress] = "NCCL operation in progress"};

    return (size_t)result < sizeof texts / sizeof texts[0] ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return last_error;
}

/* ---- collectives ---- */

ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}

/* Start what a call or a group has asked of `comm`. */
static ncclResult_t launch(struct ncclComm *comm)
{
    comm->collectives++;
    if ((comm->fault == STALL || comm->fault == ASYNC_ERROR) && comm->fault_at == comm->collectives) {
        comm->pending->fault = comm->fault;
    }

    const ncclResult_t begun = begin(comm, QUEUEING);

    /* NCCL may well say success although the call is still in progress; here every second time */
    return begun == ncclInProgress && comm->collectives % 2 == 0 ? ncclSuccess : begun;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t code = ncclSuccess;

    if (group_depth == 0) {
        return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    }
    if (--group_depth > 0) {
        return ncclSuccess;
    }
    for (int i = 0; i < grouped_count; i++) {
        const ncclResult_t one = launch(grouped[i]);

        code = one != ncclSuccess ? one : code;
    }
    grouped_count = 0;
    return code;
}

/* Note that this is wanted, within a group. */
static ncclResult_t want(const work *wish)
{
    struct ncclComm *comm = wish->comm;
    const size_t wide = wish->what == GATHER ? (size_t)comm->ranks : 1;
    const bool sends = wish->what != BROADCAST || wish->root == comm->rank;
    const bool receives = wish->what != REDUCE || wish->root < 0 || wish->root == comm->rank;
    work *w;

    if (atomic_load(&comm->state) != ncclSuccess) {
        return refuse(ncclInvalidArgument, "the communicator is still busy, or has failed");
    }
    if ((sends && !emulation_on_device(wish->send, 8 * wish->count)) ||
        (receives && !emulation_on_device(wish->receive, 8 * wish->count * wide))) {
        return refuse(ncclInvalidArgument, "not memory of a device");
    }
    w = malloc(sizeof *w);
    if (w == NULL) {
        return refuse(ncclSystemError, "out of memory");
    }
    *w = *wish;
    if (comm->pending == NULL) {
        grouped[grouped_count++] = comm;
    }
    *comm->last = w;
    comm->last = &w->next;
    return ncclSuccess;
}

/* Is it a collective that is emulated?  A root of -1 means all. */
static bool usable(const work *wish, ncclRedOp_t op)
{
    return wish->comm != NULL && op == ncclSum && wish->root >= -1 && wish->root < wish->comm->ranks &&
           (wish->type == ncclInt64 || wish->type == ncclUint64 || wish->type == ncclFloat64);
}

/* A call is a group of its own where it is not part of one. */
static ncclResult_t ask(const work *wish, ncclRedOp_t op)
{
    ncclResult_t code, ended;

    if (!usable(wish, op)) {
        return refuse(ncclInvalidArgument, "a type, an operation or a root that is not emulated");
    }
    (void)ncclGroupStart();
    code = want(wish);
    ended = ncclGroupEnd();
    return code != ncclSuccess ? code : ended;
}

ncclResult_t ncclAllReduce(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    const work wish = {comm, stream, REDUCE, datatype, -1, sendbuff, recvbuff, count, 0, false, NO_FAULT, NULL};

    return ask(&wish, op);
}

ncclResult_t ncclReduce(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                        int root, ncclComm_t comm, cudaStream_t stream)
{
    const work wish = {comm, stream, REDUCE, datatype, root, sendbuff, recvbuff, count, 0, false, NO_FAULT, NULL};

    return ask(&wish, op);
}

ncclResult_t ncclBroadcast(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    const work wish = {comm, stream, BROADCAST, datatype, root, sendbuff, recvbuff, count, 0, false, NO_FAULT, NULL};

    return ask(&wish, ncclSum);
}

ncclResult_t ncclAllGather(const void *sendbuff, void *recvbuff, size_t sendcount, ncclDataType_t datatype,
                           ncclComm_t comm, cudaStream_t stream)
{
    const work wish = {comm, stream, GATHER, datatype, -1, sendbuff, recvbuff, sendcount, 0, false, NO_FAULT, NULL};

    return ask(&wish, ncclSum);
}

ncclResult_t ncclReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount, ncclDataType_t datatype,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    const char *part = sendbuff;
    ncclResult_t code = ncclSuccess, ended;

    (void)ncclGroupStart();
    for (int r = 0; r < comm->ranks && code == ncclSuccess; r++, part += 8 * recvcount) {
        code = ncclReduce(part, recvbuff, recvcount, datatype, op, r, comm, stream);
    }
    ended = ncclGroupEnd();
    return code != ncclSuccess ? code : ended;
}
