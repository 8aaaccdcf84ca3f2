/* mpi/comm_mpi.c - the communicator over MPI: collectives in pieces that fit MPI's int counts, memory of a node. */
#include "comm_mpi.h"
#include "base/clock.h"
#include "hdf5_access.h"
#include "launch.h"
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 }; /* blocks of shared memory begin at a multiple of it */

typedef struct window window;
struct window { /* one block of a node's shared memory; the handle of shared_alloc */
    MPI_Win win;
    window *next;
};

typedef struct {
    MPI_Comm all, node; /* owned: a duplicate of MPI_COMM_WORLD, or a part of one; and its ranks on this node */
    int rank, ranks;
    int named;            /* the rank that messages name: that in the whole */
    bool initialised;     /* MPI was initialised here, so it is finalised here */
    int64_t piece;        /* entries of one MPI call at most */
    int *counts, *places; /* [ranks] scratch of the calls with a count for each rank */
    window *windows;      /* all that are allocated */
    hsgd_error first;     /* the first failure: from then on the ranks may be out of step ... */
    hsgd_error *failed;   /* ... in every communicator that was split off: `first` of the whole */
} mpi_state;

/* Keep the failure of the MPI function `call` for all calls that follow, and report it with MPI's own text. */
static hsgd_status report(mpi_state *mpi, hsgd_status status, const char *call, int code, hsgd_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;

    (void)MPI_Error_string(code, text, &length);
    (void)hsgd_error_set(mpi->failed, status, "mpi: %s failed on rank %d: %.512s; check the nodes and the network",
                         call, mpi->named, text);
    return hsgd_error_set(err, status, "%s", mpi->failed->text);
}

/* Leave by `done:` unless the MPI call `function arguments` succeeds; needs `st`, `mpi` and `err` in scope. */
#define MPI_TRY(function, arguments)                                                                                   \
    do {                                                                                                               \
        const int mpi_code = function arguments;                                                                       \
        if (mpi_code != MPI_SUCCESS) {                                                                                 \
            st = report(mpi, HSGD_ERR_DEVICE, #function, mpi_code, err);                                               \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* The failure after which this rank no longer takes part, if there was one: joining a later collective call while
 * others wait in an earlier one would mix up their data. */
static hsgd_status in_step(const mpi_state *mpi, hsgd_error *err)
{
    return mpi->failed->status == HSGD_OK ? HSGD_OK : hsgd_error_set(err, mpi->failed->status, "%s", mpi->failed->text);
}

static MPI_Datatype type_of(hsgd_type type)
{
    return type == HSGD_TYPE_F64 ? MPI_DOUBLE : MPI_INT64_T;
}

static int smaller(int64_t piece, int64_t left)
{
    return (int)(piece < left ? piece : left);
}

/* ---- collective calls ---- */

static hsgd_status all_reduce(mpi_state *mpi, hsgd_type type, MPI_Op op, int64_t count, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(in_step(mpi, err));
    for (int64_t at = 0; at < count; at += mpi->piece) {
        MPI_TRY(MPI_Allreduce,
                (MPI_IN_PLACE, (char *)data + 8 * at, smaller(mpi->piece, count - at), type_of(type), op, mpi->all));
    }
done:
    return st;
}

static hsgd_status sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    return all_reduce(self, type, MPI_SUM, count, data, err);
}

static hsgd_status max(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    return all_reduce(self, type, MPI_MAX, count, data, err);
}

static hsgd_status broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    HSGD_TRY(in_step(mpi, err));
    for (size_t at = 0; at < bytes; at += (size_t)mpi->piece) {
        MPI_TRY(MPI_Bcast, ((char *)data + at, smaller(mpi->piece, (int64_t)(bytes - at)), MPI_BYTE, root, mpi->all));
    }
done:
    return st;
}

/* Fill the int counts and places of one call for all ranks; false where they are more than one call takes. */
static bool fits_one_call(mpi_state *mpi, const int64_t *counts)
{
    int64_t total = 0;

    for (int r = 0; r < mpi->ranks; r++) {
        if (counts[r] > mpi->piece - total) {
            return false;
        }
        mpi->counts[r] = (int)counts[r];
        mpi->places[r] = (int)total;
        total += counts[r];
    }
    return true;
}

/* A reduce-scatter too long for one call: piece by piece, each to the rank that wants it. */
static hsgd_status reduce_pieces(mpi_state *mpi, hsgd_type type, const int64_t *counts, const char *send, char *receive,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int r = 0; r < mpi->ranks; r++) {
        for (int64_t at = 0; at < counts[r]; at += mpi->piece) {
            MPI_TRY(MPI_Reduce, (send + 8 * at, r == mpi->rank ? receive + 8 * at : NULL,
                                 smaller(mpi->piece, counts[r] - at), type_of(type), MPI_SUM, r, mpi->all));
        }
        send += 8 * counts[r];
    }
done:
    return st;
}

static hsgd_status reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    HSGD_TRY(in_step(mpi, err));
    if (fits_one_call(mpi, counts)) {
        MPI_TRY(MPI_Reduce_scatter, (send, receive, mpi->counts, type_of(type), MPI_SUM, mpi->all));
    } else {
        HSGD_TRY(reduce_pieces(mpi, type, counts, send, receive, err));
    }
done:
    return st;
}

/* An all-gather too long for one call: every rank broadcasts its part. */
static hsgd_status broadcast_parts(mpi_state *mpi, const int64_t *counts, const void *send, char *receive,
                                   hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int r = 0; r < mpi->ranks; r++) {
        const size_t bytes = 8 * (size_t)counts[r];

        if (r == mpi->rank && bytes > 0) {
            memcpy(receive, send, bytes);
        }
        HSGD_TRY(broadcast(mpi, r, bytes, receive, err));
        receive += bytes;
    }
done:
    return st;
}

static hsgd_status all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    HSGD_TRY(in_step(mpi, err));
    if (fits_one_call(mpi, counts)) {
        MPI_TRY(MPI_Allgatherv, (send, mpi->counts[mpi->rank], type_of(type), receive, mpi->counts, mpi->places,
                                 type_of(type), mpi->all));
    } else {
        HSGD_TRY(broadcast_parts(mpi, counts, send, receive, err));
    }
done:
    return st;
}

/* ---- memory shared by the ranks of a node ---- */

static hsgd_status node_barrier(void *self, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    HSGD_TRY(in_step(mpi, err));
    for (const window *w = mpi->windows; w != NULL; w = w->next) {
        MPI_TRY(MPI_Win_sync, (w->win)); /* what this rank wrote is complete before the barrier ... */
    }
    MPI_TRY(MPI_Barrier, (mpi->node));
    for (const window *w = mpi->windows; w != NULL; w = w->next) {
        MPI_TRY(MPI_Win_sync, (w->win)); /* ... and what others wrote is seen after it */
    }
done:
    return st;
}

/* The node leader's page-aligned block in window `w`: mappings start on a page, so all ranks skip equally much. */
static hsgd_status locate(mpi_state *mpi, const window *w, char **block, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    MPI_Aint size = 0;
    int unit = 0;
    void *base = NULL;

    MPI_TRY(MPI_Win_shared_query, (w->win, 0, &size, &unit, &base));
    *block = (char *)base + (PAGE - (uintptr_t)base % PAGE) % PAGE;
done:
    return st;
}

/* Allocate and list a window of `bytes` and a page, all of it on the node's first rank. */
static hsgd_status open_window(mpi_state *mpi, size_t bytes, bool leader, window **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    window *w = calloc(1, sizeof *w);
    void *base = NULL;
    int have = w != NULL, code = MPI_SUCCESS;

    MPI_TRY(MPI_Allreduce, (MPI_IN_PLACE, &have, 1, MPI_INT, MPI_MIN, mpi->node));
    HSGD_CHECK(have, HSGD_ERR_MEMORY, err, "memory: cannot allocate a handle of shared memory");
    code = MPI_Win_allocate_shared(leader ? (MPI_Aint)(bytes + PAGE) : 0, 1, MPI_INFO_NULL, mpi->node, &base, &w->win);
    if (code != MPI_SUCCESS) {
        HSGD_TRY(report(mpi, HSGD_ERR_MEMORY, "MPI_Win_allocate_shared (is /dev/shm large enough?)", code, err));
    }
    w->next = mpi->windows; /* listed from here on, so that destroy finds it */
    mpi->windows = *out = w;
    w = NULL;
    MPI_TRY(MPI_Win_set_errhandler, ((*out)->win, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Win_lock_all, (MPI_MODE_NOCHECK, (*out)->win)); /* the epoch that MPI_Win_sync wants */
done:
    free(w);
    return st;
}

static hsgd_status shared_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;
    window *w = NULL;
    char *block = NULL;
    int node_rank = 0;

    *out = *handle = NULL;
    HSGD_TRY(in_step(mpi, err));
    MPI_TRY(MPI_Comm_rank, (mpi->node, &node_rank));
    *leader = node_rank == 0;
    HSGD_TRY(open_window(mpi, bytes, *leader, &w, err));
    HSGD_TRY(locate(mpi, w, &block, err));
    if (*leader) {
        memset(block, 0, bytes);
    }
    HSGD_TRY(node_barrier(mpi, err));
    *out = block;
    *handle = w;
done:
    return st;
}

static void shared_free(void *self, void **handle)
{
    mpi_state *mpi = self;
    window *w = *handle;

    for (window **at = &mpi->windows; *at != NULL; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    if (mpi->failed->status == HSGD_OK) { /* else others would not come to this collective call */
        (void)MPI_Win_unlock_all(w->win);
        (void)MPI_Win_free(&w->win);
    }
    free(w);
}

/* ---- files, beginning and end ---- */

static hsgd_status file_access(void *self, int64_t fapl, int64_t dxpl, hsgd_error *err)
{
    const mpi_state *mpi = self;

    return hsgd_hdf5_access(mpi->all, fapl, dxpl)
               ? HSGD_OK
               : hsgd_error_set(err, HSGD_ERR_IO,
                                "hdf5: this HDF5 refuses access by several ranks; install the parallel one");
}

static void end_all(void *self, int exit_code)
{
    (void)self;
    (void)MPI_Abort(MPI_COMM_WORLD, exit_code);
    _Exit(exit_code); /* MPI_Abort may return where MPI is broken; this call may not */
}

static bool failed(void *self)
{
    const mpi_state *mpi = self;

    return mpi->failed->status != HSGD_OK;
}

static void destroy(void *self)
{
    mpi_state *mpi = self;
    const bool in_step = !failed(mpi);

    if (!in_step && mpi->failed == &mpi->first) { /* after the end of a part main still has to tell what happened */
        /* Rank 0 has told it.  Where another failed alone its limit tells it, and ends it meanwhile. */
        if (mpi->rank != 0) {
            hsgd_clock_sleep(HSGD_WATCH_OUTLAST);
        }
        end_all(mpi, hsgd_error_exit_code(mpi->failed->status));
    }
    while (mpi->windows != NULL) {
        void *handle = mpi->windows;

        shared_free(mpi, &handle);
    }
    if (in_step) {
        (void)MPI_Comm_free(&mpi->node);
        (void)MPI_Comm_free(&mpi->all);
    }
    if (mpi->initialised) {
        (void)MPI_Finalize();
    }
    free(mpi->counts);
    free(mpi->places);
    free(mpi);
}

static hsgd_status split(void *self, int colour, hsgd_comm **out, hsgd_error *err);

static const hsgd_comm_ops mpi_ops = {
    .name = "mpi",
    .sum = sum,
    .max = max,
    .reduce_scatter = reduce_scatter,
    .all_gather = all_gather,
    .broadcast = broadcast,
    .shared_alloc = shared_alloc,
    .shared_free = shared_free,
    .node_barrier = node_barrier,
    .file_access = file_access,
    .file_failing = hsgd_hdf5_failing,
    .split = split,
    .abort = end_all,
    .failed = failed,
    .destroy = destroy,
};

/* Initialise MPI where that is still to be done. */
static hsgd_status start(mpi_state *mpi, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int before = 0, provided = 0;

    MPI_TRY(MPI_Initialized, (&before));
    if (before) {
        MPI_TRY(MPI_Query_thread, (&provided));
    } else {
        hsgd_launch_prepare();
        MPI_TRY(MPI_Init_thread, (NULL, NULL, MPI_THREAD_FUNNELED, &provided));
        mpi->initialised = true;
    }
    HSGD_CHECK(provided >= MPI_THREAD_FUNNELED, HSGD_ERR_DEVICE, err,
               "mpi: this MPI does not support threads (MPI_THREAD_FUNNELED); use one that does");
done:
    return st;
}

/* Find this rank's node and its place in the communicator mpi->all, and make what is left of `comm`. */
static hsgd_status settle(mpi_state *mpi, hsgd_comm *comm, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    MPI_TRY(MPI_Comm_set_errhandler, (mpi->all, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_rank, (mpi->all, &mpi->rank));
    MPI_TRY(MPI_Comm_size, (mpi->all, &mpi->ranks));
    MPI_TRY(MPI_Comm_split_type, (mpi->all, MPI_COMM_TYPE_SHARED, mpi->rank, MPI_INFO_NULL, &mpi->node));
    MPI_TRY(MPI_Comm_set_errhandler, (mpi->node, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_rank, (mpi->node, &comm->local_rank));
    MPI_TRY(MPI_Comm_size, (mpi->node, &comm->local_ranks));
    comm->rank = mpi->rank;
    comm->ranks = mpi->ranks;
    comm->ops = &mpi_ops;
    comm->self = mpi;
done:
    return st;
}

/* Make the communicator of all ranks, and say where this one is. */
static hsgd_status join(mpi_state *mpi, hsgd_comm *comm, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;

    MPI_TRY(MPI_Comm_set_errhandler,
            (MPI_COMM_WORLD, MPI_ERRORS_RETURN)); /* also reaches the communicators made of it */
    MPI_TRY(MPI_Comm_dup, (MPI_COMM_WORLD, &mpi->all));
    MPI_TRY(MPI_Get_processor_name, (host, &length));
    (void)snprintf(comm->host, sizeof comm->host, "%.63s", host);
    HSGD_TRY(settle(mpi, comm, err));
    mpi->named = mpi->rank;
done:
    return st;
}

/* Undo allocate; MPI keeps what it has made. */
static void discard(hsgd_comm *comm, mpi_state *mpi)
{
    if (mpi != NULL) {
        free(mpi->counts);
        free(mpi->places);
    }
    free(mpi);
    free(comm);
}

/* A communicator yet without MPI's; false where there is no memory. */
static bool allocate(hsgd_comm **comm, mpi_state **mpi)
{
    *comm = calloc(1, sizeof **comm);
    *mpi = calloc(1, sizeof **mpi);
    if (*mpi != NULL) {
        (*mpi)->piece = INT_MAX;
        (*mpi)->failed = &(*mpi)->first;
    }
    return *comm != NULL && *mpi != NULL;
}

/* Room for a count and a place of each of `ranks` ranks. */
static bool make_room(mpi_state *mpi, int ranks)
{
    mpi->counts = calloc((size_t)ranks, sizeof *mpi->counts);
    mpi->places = calloc((size_t)ranks, sizeof *mpi->places);
    return mpi->counts != NULL && mpi->places != NULL;
}

static const char NO_MEMORY[] = "memory: cannot allocate the communicator";

hsgd_status hsgd_comm_mpi_create(hsgd_comm **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_comm *comm = NULL;
    mpi_state *mpi = NULL;

    *out = NULL;
    HSGD_CHECK(allocate(&comm, &mpi), HSGD_ERR_MEMORY, err, "%s", NO_MEMORY);
    HSGD_TRY(start(mpi, err));
    HSGD_TRY(join(mpi, comm, err));
    HSGD_CHECK(make_room(mpi, mpi->ranks), HSGD_ERR_MEMORY, err, "%s", NO_MEMORY);
    *out = comm;
    comm = NULL;
    mpi = NULL;
done: /* after a failure MPI stays up: the caller leaves with an error, and mpirun then ends the other ranks */
    discard(comm, mpi);
    return st;
}

static hsgd_status split(void *self, int colour, hsgd_comm **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self, *part = NULL;
    hsgd_comm *comm = NULL;
    int have = allocate(&comm, &part) && make_room(part, mpi->ranks);

    HSGD_TRY(in_step(mpi, err));
    MPI_TRY(MPI_Allreduce, (MPI_IN_PLACE, &have, 1, MPI_INT, MPI_MIN, mpi->all));
    HSGD_CHECK(have, HSGD_ERR_MEMORY, err, "%s", NO_MEMORY);
    part->piece = mpi->piece;
    part->named = mpi->named;
    part->failed = mpi->failed; /* of the whole, which lives longer */
    MPI_TRY(MPI_Comm_split, (mpi->all, colour, mpi->rank, &part->all));
    HSGD_TRY(settle(part, comm, err));
    *out = comm;
    comm = NULL;
    part = NULL;
done:
    discard(comm, part);
    return st;
}

void hsgd_comm_mpi_set_piece(hsgd_comm *comm, int64_t entries)
{
    mpi_state *mpi = comm->self;

    mpi->piece = entries;
}
