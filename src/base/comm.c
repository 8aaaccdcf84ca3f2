/* src/base/comm.c - what all communicators have in common: dispatch, agreement, shares. */
#include "base/comm.h"
#include "base/clock.h"
#include <stdlib.h>

void hsgd_comm_destroy(hsgd_comm **comm)
{
    if (comm == NULL || *comm == NULL) {
        return;
    }
    if ((*comm)->ops->destroy != NULL) {
        (*comm)->ops->destroy((*comm)->self);
    }
    free(*comm);
    *comm = NULL;
}

/* A call begun at `start` is over. */
static hsgd_status timed(hsgd_comm *comm, double start, hsgd_status st)
{
    comm->seconds += hsgd_clock() - start;
    return st;
}

hsgd_status hsgd_comm_sum(hsgd_comm *comm, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    const double start = hsgd_clock();

    return timed(comm, start, comm->ops->sum(comm->self, type, count, data, err));
}

hsgd_status hsgd_comm_max(hsgd_comm *comm, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    const double start = hsgd_clock();

    return timed(comm, start, comm->ops->max(comm->self, type, count, data, err));
}

hsgd_status hsgd_comm_reduce_scatter(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                     void *receive, hsgd_error *err)
{
    const double start = hsgd_clock();

    return timed(comm, start, comm->ops->reduce_scatter(comm->self, type, counts, send, receive, err));
}

hsgd_status hsgd_comm_all_gather(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                 void *receive, hsgd_error *err)
{
    const double start = hsgd_clock();

    return timed(comm, start, comm->ops->all_gather(comm->self, type, counts, send, receive, err));
}

hsgd_status hsgd_comm_broadcast(hsgd_comm *comm, int root, size_t bytes, void *data, hsgd_error *err)
{
    const double start = hsgd_clock();

    return timed(comm, start, comm->ops->broadcast(comm->self, root, bytes, data, err));
}

hsgd_status hsgd_comm_shared_alloc(hsgd_comm *comm, size_t bytes, void **out, bool *leader, void **handle,
                                   hsgd_error *err)
{
    return comm->ops->shared_alloc(comm->self, bytes, out, leader, handle, err);
}

void hsgd_comm_shared_free(hsgd_comm *comm, void **handle)
{
    if (handle != NULL && *handle != NULL) {
        comm->ops->shared_free(comm->self, handle);
        *handle = NULL;
    }
}

hsgd_status hsgd_comm_node_barrier(hsgd_comm *comm, hsgd_error *err)
{
    const double start = hsgd_clock();

    return timed(comm, start, comm->ops->node_barrier(comm->self, err));
}

hsgd_status hsgd_comm_agree(hsgd_comm *comm, hsgd_status mine, hsgd_error *err)
{
    hsgd_error shared = {0};
    int64_t worst = 0;
    hsgd_status st = HSGD_OK;

    /* status and rank in one number: the greatest status wins, among equals the lowest rank */
    worst = (int64_t)mine * comm->ranks + (comm->ranks - 1 - comm->rank);
    HSGD_TRY(hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &worst, err));
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

void hsgd_share(int64_t count, int rank, int ranks, int64_t *low, int64_t *high)
{
    const int64_t quotient = count / ranks, rest = count % ranks;

    *low = rank * quotient + (rank < rest ? rank : rest);
    *high = *low + quotient + (rank < rest ? 1 : 0);
}
