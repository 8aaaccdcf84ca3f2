/* mpi/comm_nccl.c - see comm_nccl.h: host arrays by the inner communicator, device arrays by NCCL (nccl_link.h). */
#include "comm_nccl.h"
#include "nccl_link.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    hsgd_comm *inner;     /* owned once the whole is made */
    hsgd_nccl_link *link; /* owned */
    void *note_handle;    /* of the node's memory where link->note is */
    double timeout;
    void (*set_watch)(void *device, hsgd_status (*watch)(void *context, hsgd_error *err), void *context);
    void *device;
} nccl_state;

/* ---- host arrays and all else: the inner communicator's ----
 * After a failure this rank no longer takes part in these either: the others may be in other calls than it is. */

/* Leave by `done:` with the failure there was, if there was one. */
#define IN_STEP(state) HSGD_TRY(hsgd_nccl_link_failure((state)->link, err))

static hsgd_status sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    HSGD_TRY(hsgd_comm_sum(state->inner, type, count, data, err));
done:
    return st;
}

static hsgd_status max(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    HSGD_TRY(hsgd_comm_max(state->inner, type, count, data, err));
done:
    return st;
}

static hsgd_status reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    HSGD_TRY(hsgd_comm_reduce_scatter(state->inner, type, counts, send, receive, err));
done:
    return st;
}

static hsgd_status all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    HSGD_TRY(hsgd_comm_all_gather(state->inner, type, counts, send, receive, err));
done:
    return st;
}

static hsgd_status broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    HSGD_TRY(hsgd_comm_broadcast(state->inner, root, bytes, data, err));
done:
    return st;
}

static hsgd_status shared_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    *out = *handle = NULL;
    IN_STEP(state);
    HSGD_TRY(hsgd_comm_shared_alloc(state->inner, bytes, out, leader, handle, err));
done:
    return st;
}

static void shared_free(void *self, void **handle)
{
    const nccl_state *state = self;

    if (state->inner->ranks == 1 || hsgd_nccl_link_failure(state->link, NULL) == HSGD_OK) {
        hsgd_comm_shared_free(state->inner, handle);
    } /* else others would not come to this collective call; the block goes with the process */
}

static hsgd_status node_barrier(void *self, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    HSGD_TRY(hsgd_comm_node_barrier(state->inner, err));
done:
    return st;
}

static hsgd_status file_access(void *self, int64_t fapl, int64_t dxpl, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const nccl_state *state = self;

    IN_STEP(state);
    if (state->inner->ops->file_access != NULL) {
        HSGD_TRY(state->inner->ops->file_access(state->inner->self, fapl, dxpl, err));
    }
done:
    return st;
}

static void end_all(void *self, int exit_code)
{
    const nccl_state *state = self;

    state->inner->ops->abort(state->inner->self, exit_code);
}

/* ---- device arrays: NCCL's, queued on the stream ---- */

static ncclDataType_t type_of(hsgd_type type)
{
    return type == HSGD_TYPE_F64 ? ncclFloat64 : ncclInt64;
}

static int64_t total(const hsgd_nccl_link *link, const int64_t *counts, bool *equal)
{
    int64_t all = 0;

    *equal = true;
    for (int r = 0; r < link->ranks; r++) {
        *equal = *equal && counts[r] == counts[0];
        all += counts[r];
    }
    return all;
}

static hsgd_status device_sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_link *link = ((nccl_state *)self)->link;

    IN_STEP((nccl_state *)self);
    if (count > 0) {
        HSGD_TRY(hsgd_nccl_link_begin(link, "all-reduce", count, err));
        HSGD_TRY(hsgd_nccl_link_end(
            link, "ncclAllReduce",
            ncclAllReduce(data, data, (size_t)count, type_of(type), ncclSum, link->nccl, link->stream), err));
    }
done:
    return st;
}

/* A group's calls only note what is wanted: the first that is refused, else what its end says. */
static ncclResult_t end_group(ncclResult_t refused)
{
    const ncclResult_t ended = ncclGroupEnd();

    return refused != ncclSuccess && refused != ncclInProgress ? refused : ended;
}

/* Parts of unequal length: each is reduced to the rank that wants it. */
static ncclResult_t reduce_parts(const hsgd_nccl_link *link, hsgd_type type, const int64_t *counts, const char *send,
                                 void *receive)
{
    ncclResult_t code = ncclGroupStart();

    if (code != ncclSuccess) {
        return code;
    }
    for (int r = 0; r < link->ranks && (code == ncclSuccess || code == ncclInProgress); r++) {
        if (counts[r] > 0) {
            code = ncclReduce(send, r == link->rank ? receive : NULL, (size_t)counts[r], type_of(type), ncclSum, r,
                              link->nccl, link->stream);
        }
        send += 8 * counts[r];
    }
    return end_group(code);
}

static hsgd_status device_reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send,
                                         void *receive, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_link *link = ((nccl_state *)self)->link;
    bool equal;
    const int64_t words = total(link, counts, &equal);

    IN_STEP((nccl_state *)self);
    if (words > 0) {
        HSGD_TRY(hsgd_nccl_link_begin(link, "reduce-scatter", words, err));
        HSGD_TRY(hsgd_nccl_link_end(link, equal ? "ncclReduceScatter" : "ncclReduce",
                                    equal ? ncclReduceScatter(send, receive, (size_t)counts[0], type_of(type), ncclSum,
                                                              link->nccl, link->stream)
                                          : reduce_parts(link, type, counts, send, receive),
                                    err));
    }
done:
    return st;
}

/* Parts of unequal length: each rank broadcasts its own. */
static ncclResult_t broadcast_parts(const hsgd_nccl_link *link, hsgd_type type, const int64_t *counts, const void *send,
                                    char *receive)
{
    ncclResult_t code = ncclGroupStart();

    if (code != ncclSuccess) {
        return code;
    }
    for (int r = 0; r < link->ranks && (code == ncclSuccess || code == ncclInProgress); r++) {
        if (counts[r] > 0) {
            code = ncclBroadcast(r == link->rank ? send : receive, receive, (size_t)counts[r], type_of(type), r,
                                 link->nccl, link->stream);
        }
        receive += 8 * counts[r];
    }
    return end_group(code);
}

static hsgd_status device_all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                     hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_link *link = ((nccl_state *)self)->link;
    bool equal;
    const int64_t words = total(link, counts, &equal);

    IN_STEP((nccl_state *)self);
    if (words > 0) {
        HSGD_TRY(hsgd_nccl_link_begin(link, "all-gather", words, err));
        HSGD_TRY(hsgd_nccl_link_end(
            link, equal ? "ncclAllGather" : "ncclBroadcast",
            equal ? ncclAllGather(send, receive, (size_t)counts[0], type_of(type), link->nccl, link->stream)
                  : broadcast_parts(link, type, counts, send, receive),
            err));
    }
done:
    return st;
}

/* ---- the end ---- */

/* End all ranks after a failure.  Who tells it?  main prints on rank 0 alone, before it comes here.
 * - A stall is found by every rank, by its own clock; by ranks of one node at once, from the note.  The clocks begin when
 *   a rank comes to the collective, so another rank may get here before rank 0 has found the stall and printed.
 * - So rank 0 ends all at once: it has printed.  Any other rank waits to be ended by that, and ends all itself only
 *   where rank 0 does not come: rank 0 is then the lost one, or is on another node and sees nothing of an error that
 *   only this rank had.  It waits as long as a collective may take, but not much longer than main's alarm (20 s after a
 *   failure), which ends such a rank as well: main can speak, this file cannot.
 * - A rank that has died comes nowhere; mpirun sees that and ends the rest.
 * Every way the exit code is that of the failure. */
static void leave(nccl_state *state, hsgd_status failure)
{
    const double patience = state->timeout < HSGD_NCCL_PATIENCE ? state->timeout : HSGD_NCCL_PATIENCE;
    const double end = hsgd_clock() + patience;

    while (state->inner->rank != 0 && hsgd_clock() < end) {
        const struct timespec t = {.tv_nsec = 10 * 1000 * 1000};

        (void)nanosleep(&t, NULL);
    }
    state->inner->ops->abort(state->inner->self, hsgd_error_exit_code(failure));
}

static void destroy(void *self)
{
    nccl_state *state = self;
    const hsgd_status failure = hsgd_nccl_link_failure(state->link, NULL);

    state->set_watch(state->device, NULL, NULL);
    hsgd_nccl_link_destroy(&state->link);
    if (failure != HSGD_OK && state->inner->ranks > 1) {
        leave(state, failure); /* the inner communicator's end is collective: others may not come to it */
    } else {
        hsgd_comm_shared_free(state->inner, &state->note_handle);
        hsgd_comm_destroy(&state->inner);
    }
    free(state);
}

static const hsgd_comm_ops nccl_ops = {
    .name = "nccl",
    .sum = sum,
    .max = max,
    .reduce_scatter = reduce_scatter,
    .all_gather = all_gather,
    .broadcast = broadcast,
    .shared_alloc = shared_alloc,
    .shared_free = shared_free,
    .node_barrier = node_barrier,
    .file_access = file_access,
    .device_sum = device_sum,
    .device_reduce_scatter = device_reduce_scatter,
    .device_all_gather = device_all_gather,
    .abort = end_all,
    .destroy = destroy,
};

/* ---- the beginning ---- */

static const char NO_MEMORY[] = "memory: cannot allocate the communicator";

/* Which GPU a rank uses, as it is gathered. */
typedef struct {
    char host[64], bus_id[64];
} place;

/* Do two ranks share a GPU?  why[] names the first two that do, or is "".  Collective; the same answer on all ranks. */
static hsgd_status find_shared_gpu(hsgd_comm *inner, const char *bus_id, char *why, size_t why_size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int ranks = inner->ranks;
    place mine = {{0}, {0}}, *places = calloc((size_t)ranks, sizeof *places);
    int64_t *counts = calloc((size_t)ranks, sizeof *counts);

    why[0] = '\0';
    if (places == NULL || counts == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "%s", NO_MEMORY);
    }
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    (void)snprintf(mine.host, sizeof mine.host, "%s", inner->host);
    (void)snprintf(mine.bus_id, sizeof mine.bus_id, "%s", bus_id);
    for (int r = 0; r < ranks; r++) {
        counts[r] = sizeof mine / 8;
    }
    HSGD_TRY(hsgd_comm_all_gather(inner, HSGD_TYPE_I64, counts, &mine, places, err));
    for (int high = 1; high < ranks && why[0] == '\0'; high++) {
        for (int low = 0; low < high && why[0] == '\0'; low++) {
            if (memcmp(&places[low], &places[high], sizeof mine) == 0) {
                (void)snprintf(why, why_size,
                               "nccl: ranks %d and %d share GPU %s of %s; device arrays go through host memory", low,
                               high, places[low].bus_id, places[low].host);
            }
        }
    }
done:
    free(counts);
    free(places);
    return st;
}

/* The number by which the ranks find each other, made by rank 0.  Collective. */
static hsgd_status make_id(hsgd_comm *inner, ncclUniqueId *id, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (inner->rank == 0) {
        const ncclResult_t code = ncclGetUniqueId(id);

        if (code != ncclSuccess) {
            st = hsgd_error_set(err, HSGD_ERR_DEVICE,
                                "nccl: ncclGetUniqueId failed on rank 0 of %s: %s; set NCCL_DEBUG=WARN to learn more, "
                                "then run again, or with device.allreduce = mpi",
                                inner->host, ncclGetErrorString(code));
        }
    }
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    HSGD_TRY(hsgd_comm_broadcast(inner, 0, sizeof *id, id, err));
done:
    return st;
}

/* Start NCCL on all ranks or on none.  Collective. */
static hsgd_status start(hsgd_comm *inner, hsgd_nccl_link *link, hsgd_error *err)
{
    hsgd_status st = HSGD_OK, started;
    hsgd_error mine = {0};
    ncclUniqueId id = {{0}};
    bool late;

    HSGD_TRY(make_id(inner, &id, err));
    started = hsgd_nccl_link_start(link, id, &late, &mine);
    if (started != HSGD_OK) {
        (void)hsgd_error_set(err, started, "%s", mine.text);
    }
    HSGD_TRY(hsgd_comm_agree(inner, late ? HSGD_OK : started, err)); /* the ranks that know what is wrong speak first */
    HSGD_TRY(hsgd_comm_agree(inner, started, err));
done:
    return st;
}

/* Make the parts, all that can fail before NCCL starts.  Collective; the parts made are there also after a failure. */
static hsgd_status prepare(hsgd_comm *inner, const hsgd_nccl_options *options, hsgd_comm **comm, nccl_state **state,
                           hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    void *block = NULL;
    bool leader = false;

    *comm = calloc(1, sizeof **comm);
    *state = calloc(1, sizeof **state);
    st = *comm == NULL || *state == NULL
             ? hsgd_error_set(err, HSGD_ERR_MEMORY, "%s", NO_MEMORY)
             : hsgd_nccl_link_create(inner, options->stream, options->timeout, &(*state)->link, err);
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    **state = (nccl_state){.inner = inner,
                           .link = (*state)->link,
                           .timeout = options->timeout,
                           .set_watch = options->set_watch,
                           .device = options->device};
    **comm = *inner; /* the same ranks on the same nodes */
    (*comm)->ops = &nccl_ops;
    (*comm)->self = *state;
    st = hsgd_comm_shared_alloc(inner, sizeof(hsgd_nccl_note), &block, &leader, &(*state)->note_handle, err);
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    (*state)->link->note = block; /* zeroed: nothing is noted */
done:
    return st;
}

hsgd_status hsgd_comm_nccl_create(hsgd_comm *inner, const hsgd_nccl_options *options, hsgd_comm **out, char *why,
                                  size_t why_size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    nccl_state *state = NULL;
    hsgd_comm *comm = NULL;

    *out = NULL;
    HSGD_TRY(find_shared_gpu(inner, options->bus_id, why, why_size, err));
    if (why[0] != '\0') {
        goto done;
    }
    HSGD_TRY(prepare(inner, options, &comm, &state, err));
    HSGD_TRY(start(inner, state->link, err));
    state->set_watch(state->device, hsgd_nccl_link_watch, state->link);
    *out = comm;
    comm = NULL;
    state = NULL;
done:
    if (state != NULL) {
        hsgd_nccl_link_destroy(&state->link);
        hsgd_comm_shared_free(inner, &state->note_handle);
    }
    free(state);
    free(comm);
    return st;
}
