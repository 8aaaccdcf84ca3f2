/* mpi/comm_mpi.c - the communicator over MPI: collectives in pieces that fit MPI's int counts, memory of a node. */
#include "comm_mpi.h"
#include "hdf5_access.h"
#include <limits.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 27, PAGE = 4096 }; /* entries of one MPI call: 1 GiB */

typedef struct {
    MPI_Comm all, node;
    int rank, ranks, node_rank;
    int *counts, *places; /* [ranks] scratch of the calls with a count for each rank */
} mpi_state;

/* Leave by `done:` with MPI's own text unless `call` succeeds. */
#define MPI_TRY(call, what)                                                                                            \
    do {                                                                                                               \
        const int mpi_code = (call);                                                                                   \
        if (mpi_code != MPI_SUCCESS) {                                                                                 \
            st = failure(mpi_code, what, err);                                                                         \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

static hsgd_status failure(int code, const char *what, hsgd_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;

    (void)MPI_Error_string(code, text, &length);
    return hsgd_error_set(err, HSGD_ERR_DEVICE, "mpi: %s failed: %s; check the nodes and the network", what, text);
}

static MPI_Datatype type_of(hsgd_type type)
{
    return type == HSGD_TYPE_F64 ? MPI_DOUBLE : MPI_INT64_T;
}

static hsgd_status all_reduce(mpi_state *mpi, hsgd_type type, MPI_Op op, int64_t count, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t done_so_far = 0; done_so_far < count; done_so_far += PIECE) {
        const int64_t left = count - done_so_far;

        MPI_TRY(MPI_Allreduce(MPI_IN_PLACE, (char *)data + done_so_far * 8, (int)(left < PIECE ? left : PIECE),
                              type_of(type), op, mpi->all),
                "all-reduce");
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

/* The counts as MPI's int; more than an int holds would need 16 GiB a rank in one call. */
static hsgd_status to_int(mpi_state *mpi, const int64_t *counts, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t place = 0;

    for (int r = 0; r < mpi->ranks; r++) {
        HSGD_CHECK(counts[r] <= INT_MAX && place <= INT_MAX, HSGD_ERR_DEVICE, err,
                   "mpi: a message of %lld entries is longer than MPI's counts; use fewer vectors at once",
                   (long long)(place + counts[r]));
        mpi->counts[r] = (int)counts[r];
        mpi->places[r] = (int)place;
        place += counts[r];
    }
done:
    return st;
}

static hsgd_status reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    HSGD_TRY(to_int(mpi, counts, err));
    MPI_TRY(MPI_Reduce_scatter(send, receive, mpi->counts, type_of(type), MPI_SUM, mpi->all), "reduce-scatter");
done:
    return st;
}

static hsgd_status all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    HSGD_TRY(to_int(mpi, counts, err));
    MPI_TRY(MPI_Allgatherv(send, mpi->counts[mpi->rank], type_of(type), receive, mpi->counts, mpi->places,
                           type_of(type), mpi->all),
            "all-gather");
done:
    return st;
}

static hsgd_status broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    for (size_t sent = 0; sent < bytes; sent += PIECE) {
        const size_t left = bytes - sent;

        MPI_TRY(MPI_Bcast((char *)data + sent, (int)(left < PIECE ? left : PIECE), MPI_BYTE, root, mpi->all),
                "broadcast");
    }
done:
    return st;
}

static hsgd_status shared_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;
    MPI_Win *window = malloc(sizeof *window);
    MPI_Aint size = 0;
    int unit = 1;
    void *base = NULL;
    int64_t missing = window == NULL;

    HSGD_TRY(max(mpi, HSGD_TYPE_I64, 1, &missing, err));
    HSGD_CHECK(missing == 0, HSGD_ERR_MEMORY, err, "memory: cannot allocate a handle");
    *window = MPI_WIN_NULL;
    *leader = mpi->node_rank == 0;
    MPI_TRY(
        MPI_Win_allocate_shared(*leader ? (MPI_Aint)(bytes + 2 * PAGE) : 0, 1, MPI_INFO_NULL, mpi->node, &base, window),
        "shared memory of the node (is /dev/shm large enough?)");
    MPI_TRY(MPI_Win_shared_query(*window, 0, &size, &unit, &base), "shared memory of the node");
    /* ranks may see the block at different addresses, but at the same offset within a page */
    base = (void *)(((uintptr_t)base + PAGE - 1) / PAGE * PAGE);
    if (*leader) {
        memset(base, 0, bytes);
    }
    *out = base;
    *handle = window;
    MPI_TRY(MPI_Win_lock_all(MPI_MODE_NOCHECK, *window), "shared memory of the node");
    window = NULL;
done:
    free(window);
    return st;
}

static void shared_free(void *self, void **handle)
{
    MPI_Win *window = *handle;

    (void)self;
    (void)MPI_Win_unlock_all(*window);
    (void)MPI_Win_free(window);
    free(window);
}

static hsgd_status node_barrier(void *self, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    mpi_state *mpi = self;

    /* what the ranks of the node wrote before is seen by all of them after */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    MPI_TRY(MPI_Barrier(mpi->node), "barrier of the node");
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
done:
    return st;
}

static hsgd_status file_access(void *self, int64_t fapl, int64_t dxpl, hsgd_error *err)
{
    mpi_state *mpi = self;

    return hsgd_hdf5_access(mpi->all, fapl, dxpl)
               ? HSGD_OK
               : hsgd_error_set(err, HSGD_ERR_IO,
                                "hdf5: this HDF5 refuses access by several ranks; install the parallel one");
}

static void end_all(void *self, int exit_code)
{
    mpi_state *mpi = self;

    (void)MPI_Abort(mpi->all, exit_code);
}

static void destroy(void *self)
{
    mpi_state *mpi = self;

    (void)MPI_Comm_free(&mpi->node);
    (void)MPI_Comm_free(&mpi->all);
    free(mpi->counts);
    free(mpi->places);
    free(mpi);
    (void)MPI_Finalize();
}

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
    .abort = end_all,
    .destroy = destroy,
};

static hsgd_status initialise(mpi_state *mpi, hsgd_comm *comm, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int level = 0, length = 0;
    char host[MPI_MAX_PROCESSOR_NAME] = "";

    MPI_TRY(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "initialisation");
    HSGD_CHECK(level >= MPI_THREAD_FUNNELED, HSGD_ERR_DEVICE, err,
               "mpi: this MPI does not allow threads beside it; use one with MPI_THREAD_FUNNELED");
    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &mpi->all), "duplicating the communicator");
    MPI_TRY(MPI_Comm_set_errhandler(mpi->all, MPI_ERRORS_RETURN), "setting the error handler");
    MPI_TRY(MPI_Comm_rank(mpi->all, &mpi->rank), "asking for the rank");
    MPI_TRY(MPI_Comm_size(mpi->all, &mpi->ranks), "asking for the number of ranks");
    MPI_TRY(MPI_Comm_split_type(mpi->all, MPI_COMM_TYPE_SHARED, mpi->rank, MPI_INFO_NULL, &mpi->node),
            "finding the node");
    MPI_TRY(MPI_Comm_rank(mpi->node, &mpi->node_rank), "asking for the node's rank");
    MPI_TRY(MPI_Comm_size(mpi->node, &comm->local_ranks), "asking for the node's ranks");
    MPI_TRY(MPI_Get_processor_name(host, &length), "asking for the host");
    comm->rank = mpi->rank;
    comm->ranks = mpi->ranks;
    comm->local_rank = mpi->node_rank;
    (void)snprintf(comm->host, sizeof comm->host, "%.63s", host);
    mpi->counts = calloc((size_t)mpi->ranks, sizeof *mpi->counts);
    mpi->places = calloc((size_t)mpi->ranks, sizeof *mpi->places);
    HSGD_CHECK(mpi->counts != NULL && mpi->places != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate %d counts",
               mpi->ranks);
done:
    return st;
}

hsgd_status hsgd_comm_mpi_create(hsgd_comm **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_comm *comm = calloc(1, sizeof *comm);
    mpi_state *mpi = calloc(1, sizeof *mpi);

    *out = NULL;
    HSGD_CHECK(comm != NULL && mpi != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the communicator");
    HSGD_TRY(initialise(mpi, comm, err));
    comm->ops = &mpi_ops;
    comm->self = mpi;
    *out = comm;
    comm = NULL;
    mpi = NULL;
done:
    if (mpi != NULL) {
        free(mpi->counts);
        free(mpi->places);
    }
    free(mpi);
    free(comm);
    return st;
}
