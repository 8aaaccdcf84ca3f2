/* src/base/comm.c - what all communicators have in common: dispatch, agreement, shares. */
#include "base/comm.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

void hsgd_comm_destroy(hsgd_comm **comm)
{
    if (comm == NULL || *comm == NULL) {
        return;
    }
    if ((*comm)->group == 0) { /* the node's memory that the watch looks at goes with the whole */
        hsgd_comm_unwatch(*comm);
    }
    if ((*comm)->ops->destroy != NULL) {
        (*comm)->ops->destroy((*comm)->self);
    }
    free(*comm);
    *comm = NULL;
}

void hsgd_comm_enter(hsgd_comm *comm, hsgd_watch_operation operation)
{
    comm->calls++;
    if (comm->watch != NULL) {
        hsgd_watch_enter(comm->watch, comm->group, comm->calls, operation);
    }
}

void hsgd_comm_leave(hsgd_comm *comm)
{
    if (comm->watch != NULL) {
        hsgd_watch_leave(comm->watch);
    }
}

void hsgd_comm_mark(const hsgd_comm *comm)
{
    if (comm->watch != NULL) {
        hsgd_watch_mark(comm->watch, comm->group, comm->calls);
    }
}

/* A call begins: marked, and its time. */
static double begin(hsgd_comm *comm, hsgd_watch_operation operation)
{
    hsgd_comm_enter(comm, operation);
    return hsgd_clock();
}

/* A call begun at `start` is over. */
static hsgd_status timed(hsgd_comm *comm, double start, hsgd_status st)
{
    comm->seconds += hsgd_clock() - start;
    hsgd_comm_leave(comm);
    return st;
}

hsgd_status hsgd_comm_sum(hsgd_comm *comm, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    const double start = begin(comm, HSGD_WATCH_SUM);

    return timed(comm, start, comm->ops->sum(comm->self, type, count, data, err));
}

hsgd_status hsgd_comm_max(hsgd_comm *comm, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    const double start = begin(comm, HSGD_WATCH_MAX);

    return timed(comm, start, comm->ops->max(comm->self, type, count, data, err));
}

hsgd_status hsgd_comm_reduce_scatter(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                     void *receive, hsgd_error *err)
{
    const double start = begin(comm, HSGD_WATCH_REDUCE_SCATTER);

    return timed(comm, start, comm->ops->reduce_scatter(comm->self, type, counts, send, receive, err));
}

hsgd_status hsgd_comm_all_gather(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                 void *receive, hsgd_error *err)
{
    const double start = begin(comm, HSGD_WATCH_ALL_GATHER);

    return timed(comm, start, comm->ops->all_gather(comm->self, type, counts, send, receive, err));
}

hsgd_status hsgd_comm_broadcast(hsgd_comm *comm, int root, size_t bytes, void *data, hsgd_error *err)
{
    const double start = begin(comm, HSGD_WATCH_BROADCAST);

    return timed(comm, start, comm->ops->broadcast(comm->self, root, bytes, data, err));
}

hsgd_status hsgd_comm_shared_alloc(hsgd_comm *comm, size_t bytes, void **out, bool *leader, void **handle,
                                   hsgd_error *err)
{
    hsgd_status st;

    hsgd_comm_enter(comm, HSGD_WATCH_SHARED_MEMORY);
    st = comm->ops->shared_alloc(comm->self, bytes, out, leader, handle, err);
    hsgd_comm_leave(comm);
    return st;
}

void hsgd_comm_shared_free(hsgd_comm *comm, void **handle)
{
    if (handle != NULL && *handle != NULL) {
        hsgd_comm_enter(comm, HSGD_WATCH_SHARED_MEMORY);
        comm->ops->shared_free(comm->self, handle);
        hsgd_comm_leave(comm);
        *handle = NULL;
    }
}

hsgd_status hsgd_comm_node_barrier(hsgd_comm *comm, hsgd_error *err)
{
    const double start = begin(comm, HSGD_WATCH_NODE_BARRIER);

    return timed(comm, start, comm->ops->node_barrier(comm->self, err));
}

hsgd_status hsgd_comm_split(hsgd_comm *comm, int colour, hsgd_comm **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    *out = NULL;
    HSGD_CHECK(comm->ops->split != NULL, HSGD_ERR_USAGE, err, "%s: this communicator cannot be split into groups",
               comm->ops->name);
    if (colour < 0) {
        st = hsgd_error_set(err, HSGD_ERR_USAGE, "%s: a group of the number %d; give 0 or more", comm->ops->name,
                            colour);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    hsgd_comm_enter(comm, HSGD_WATCH_SPLIT);
    st = comm->ops->split(comm->self, colour, out, err);
    hsgd_comm_leave(comm);
    HSGD_TRY(st);
    memcpy((*out)->host, comm->host, sizeof comm->host);
    (*out)->watch = comm->watch;
    (*out)->group = colour + 1;
    (*out)->calls = comm->calls; /* goes on where this one is: a later part of the same colour repeats no number */
done:
    return st;
}

static hsgd_status agree_in(hsgd_comm *comm, hsgd_watch_operation operation, hsgd_status mine, hsgd_error *err)
{
    hsgd_error shared = {0};
    int64_t worst = 0;
    double start = 0.0;
    hsgd_status st = HSGD_OK;

    /* status and rank in one number: the greatest status wins, among equals the lowest rank */
    worst = (int64_t)mine * comm->ranks + (comm->ranks - 1 - comm->rank);
    start = begin(comm, operation);
    HSGD_TRY(timed(comm, start, comm->ops->max(comm->self, HSGD_TYPE_I64, 1, &worst, err)));
    if (worst / comm->ranks == HSGD_OK) {
        return HSGD_OK;
    }
    if (err != NULL) {
        shared = *err;
    }
    shared.status = mine;
    HSGD_TRY(hsgd_comm_broadcast(comm, comm->ranks - 1 - (int)(worst % comm->ranks), sizeof shared, &shared, err));
    if (err != NULL) {
        *err = shared;
    }
    st = shared.status;
done:
    return st;
}

hsgd_status hsgd_comm_agree(hsgd_comm *comm, hsgd_status mine, hsgd_error *err)
{
    return agree_in(comm, HSGD_WATCH_MAX, mine, err);
}

hsgd_status hsgd_comm_meet(hsgd_comm *comm, hsgd_status mine, hsgd_error *err)
{
    return agree_in(comm, HSGD_WATCH_MEETING, mine, err);
}

hsgd_status hsgd_comm_watch(hsgd_comm *comm, hsgd_watch *watch, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_watch_place place = {comm->rank, comm->ranks, comm->local_rank, comm->local_ranks, comm->host};
    void *block = NULL, *handle = NULL; /* the block goes with the communicator */
    bool leader = false;

    comm->watch = watch;
    if (watch == NULL) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_comm_shared_alloc(comm, hsgd_watch_bytes(comm->local_ranks), &block, &leader, &handle, err));
    st = hsgd_watch_join(watch, block, &place, err);
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
done:
    return st;
}

void hsgd_comm_unwatch(hsgd_comm *comm)
{
    const bool failed = comm->ops->failed != NULL && comm->ops->failed(comm->self);

    if (comm->watch != NULL && !failed) {
        hsgd_watch_part(comm->watch);
    }
    comm->watch = NULL;
}

void hsgd_share(int64_t count, int rank, int ranks, int64_t *low, int64_t *high)
{
    const int64_t quotient = count / ranks, rest = count % ranks;

    *low = rank * quotient + (rank < rest ? rank : rest);
    *high = *low + quotient + (rank < rest ? 1 : 0);
}
