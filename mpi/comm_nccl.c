/* mpi/comm_nccl.c - see comm_nccl.h: host arrays by the inner communicator, device arrays by NCCL (nccl_link.h). */
#include "comm_nccl.h"
#include "nccl_start.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nccl_state nccl_state;
struct nccl_state {
    hsgd_comm *inner;     /* owned once the whole is made */
    hsgd_nccl_link *link; /* owned */
    void *note_handle;    /* of the node's memory where link->note is; NULL in a part, which uses the whole's */
    hsgd_nccl_options options;
    nccl_state *whole; /* which this is a part of; borrowed; NULL: of none */
};

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

static void file_failing(void *self, void (*failing)(void *context), void *context)
{
    const nccl_state *state = self;

    if (state->inner->ops->file_failing != NULL) {
        state->inner->ops->file_failing(state->inner->self, failing, context);
    }
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
 *   only this rank had.  It outlasts main's limit, which ends such a rank as well: main can speak, this file cannot.
 * - A rank that has died comes nowhere; mpirun sees that and ends the rest.
 * Every way the exit code is that of the failure. */
static void leave(nccl_state *state, hsgd_status failure)
{
    if (state->inner->rank != 0) {
        hsgd_clock_sleep(state->options.patience);
    }
    state->inner->ops->abort(state->inner->self, hsgd_error_exit_code(failure));
}

/* A part and the whole both have collectives on the stream; whoever waits for it asks after the one made last. */
static hsgd_status watch(void *context, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (const nccl_state *state = context; state != NULL; state = state->whole) {
        HSGD_TRY(hsgd_nccl_link_watch(state->link, err));
    }
done:
    return st;
}

static void set_watch(nccl_state *state)
{
    state->options.set_watch(state->options.device, watch, state);
}

/* Has NCCL failed, among others, who may then not come to a collective end? */
static bool is_apart(const nccl_state *state)
{
    return state->inner->ranks > 1 && hsgd_nccl_link_failure(state->link, NULL) != HSGD_OK;
}

static bool failed(void *self)
{
    const nccl_state *state = self;
    const hsgd_comm *inner = state->inner;

    return is_apart(state) || (inner->ops->failed != NULL && inner->ops->failed(inner->self));
}

static void destroy(void *self)
{
    nccl_state *state = self;
    const hsgd_status failure = hsgd_nccl_link_failure(state->link, NULL);
    const bool apart = is_apart(state);

    if (state->whole != NULL) {
        set_watch(state->whole);
    } else {
        state->options.set_watch(state->options.device, NULL, NULL);
    }
    hsgd_nccl_link_destroy(&state->link);
    if (!apart) {
        hsgd_comm_shared_free(state->inner, &state->note_handle);
        hsgd_comm_destroy(&state->inner);
    } else if (state->whole == NULL) {
        leave(state, failure);
    } /* else main still has to tell what happened, and the whole's end then ends all */
    free(state);
}

static hsgd_status split(void *self, int colour, hsgd_comm **out, hsgd_error *err);

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
    .file_failing = file_failing,
    .device_sum = device_sum,
    .device_reduce_scatter = device_reduce_scatter,
    .device_all_gather = device_all_gather,
    .split = split,
    .abort = end_all,
    .failed = failed,
    .destroy = destroy,
};

/* ---- the beginning ---- */

/* What lives as long as the communicator around `inner`.  Collective; what is made is there also after a failure. */
static hsgd_status allocate(hsgd_comm *inner, const hsgd_nccl_options *options, nccl_state *whole, hsgd_comm **comm,
                            nccl_state **state, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_link *link = NULL;

    *comm = calloc(1, sizeof **comm);
    *state = calloc(1, sizeof **state);
    st = *comm == NULL || *state == NULL
             ? hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the communicator")
             : hsgd_nccl_link_create(inner, options->stream, options->timeout, &link, err);
    if (*state != NULL) {
        **state = (nccl_state){.inner = inner, .link = link, .options = *options, .whole = whole};
    }
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    **comm = *inner; /* the same ranks on the same nodes */
    (*comm)->ops = &nccl_ops;
    (*comm)->self = *state;
done:
    return st;
}

/* Undo allocate. */
static void discard(hsgd_comm *comm, nccl_state *state)
{
    if (state != NULL) {
        hsgd_nccl_link_destroy(&state->link);
        hsgd_comm_shared_free(state->inner, &state->note_handle);
    }
    free(state);
    free(comm);
}

hsgd_status hsgd_comm_nccl_create(hsgd_comm *inner, const hsgd_nccl_options *options, hsgd_comm **out, char *why,
                                  size_t why_size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    nccl_state *state = NULL;
    hsgd_comm *comm = NULL;
    void *block = NULL;
    bool leader = false;

    *out = NULL;
    HSGD_TRY(hsgd_nccl_find_shared_gpu(inner, options->bus_id, why, why_size, err));
    if (why[0] != '\0') {
        goto done;
    }
    HSGD_TRY(allocate(inner, options, NULL, &comm, &state, err));
    state->options.bus_id = NULL; /* the caller's, not needed any more */
    st = hsgd_comm_shared_alloc(inner, sizeof(hsgd_nccl_note), &block, &leader, &state->note_handle, err);
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    state->link->note = block; /* zeroed: nothing is noted */
    HSGD_TRY(hsgd_nccl_start(inner, state->link, err));
    comm->calls = inner->calls; /* one count and one marker: from here on the calls of the whole alone */
    inner->watch = NULL;
    set_watch(state);
    *out = comm;
    comm = NULL;
    state = NULL;
done:
    discard(comm, state);
    return st;
}

/* With a number of its own for NCCL's start; the ranks of a node have one note, so that those of other groups learn of a
 * failure as well. */
static hsgd_status split(void *self, int colour, hsgd_comm **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    nccl_state *whole = self, *state = NULL;
    hsgd_comm *inner = NULL, *comm = NULL;

    IN_STEP(whole);
    HSGD_TRY(hsgd_comm_split(whole->inner, colour, &inner, err));
    st = allocate(inner, &whole->options, whole, &comm, &state, err);
    if (st == HSGD_OK) {
        state->link->note = whole->link->note;
        state->link->named = whole->link->named;
        st = hsgd_nccl_start(inner, state->link, err);
    }
    HSGD_TRY(hsgd_comm_agree(whole->inner, st, err)); /* other groups may have failed */
    set_watch(state);
    *out = comm;
    inner = comm = NULL;
    state = NULL;
done:
    discard(comm, state);
    hsgd_comm_destroy(&inner);
    return st;
}
