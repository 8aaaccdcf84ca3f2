/* mpi/nccl_link.c - see nccl_link.h.  No call here waits for another rank without a bound. */
#include "nccl_link.h"
#include "base/clock.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SPINS = 1000,      /* polls without a pause: a collective is queued in some ten microseconds */
    PAUSE = 50 * 1000, /* nanoseconds between further polls: short beside a start, long beside a poll */
    NOTHING = 0,       /* states of a note */
    WRITING = 1,
    WRITTEN = 2,
};

static void pause_briefly(void)
{
    const struct timespec t = {.tv_nsec = PAUSE};

    (void)nanosleep(&t, NULL);
}

/* ---- failures ---- */

static void *abort_nccl(void *argument)
{
    hsgd_nccl_link *link = argument;

    (void)cudaSetDevice(link->device); /* a new thread's is number 0 */
    (void)ncclCommAbort(link->nccl);
    atomic_store(&link->aborted, true);
    return NULL;
}

/* Take the collectives off the stream.  ncclCommAbort waits for the device and for NCCL's own threads; should one of
 * them be beyond help the failure must still be told, hence a thread that may be left behind. */
static void abort_in_time(hsgd_nccl_link *link)
{
    const double end = hsgd_clock() + HSGD_NCCL_PATIENCE;
    pthread_t aborting;

    if (link->nccl == NULL) {
        return;
    }
    if (pthread_create(&aborting, NULL, abort_nccl, link) != 0) {
        (void)abort_nccl(link);
    } else {
        while (!atomic_load(&link->aborted) && hsgd_clock() < end) {
            pause_briefly();
        }
        link->stuck = !atomic_load(&link->aborted);
        (void)(link->stuck ? pthread_detach(aborting) : pthread_join(aborting, NULL));
    }
    link->nccl = link->stuck ? link->nccl : NULL;
}

/* Keep `failure` for all calls that follow, tell the node of it, free the stream, and report it. */
static hsgd_status fail(hsgd_nccl_link *link, const hsgd_error *failure, hsgd_error *err)
{
    int nothing = NOTHING;

    link->failed = *failure;
    if (link->note != NULL && atomic_compare_exchange_strong(&link->note->state, &nothing, WRITING)) {
        link->note->failure = *failure;
        atomic_store(&link->note->state, WRITTEN);
    }
    abort_in_time(link);
    return hsgd_error_set(err, link->failed.status, "%s", link->failed.text);
}

static bool noted(const hsgd_nccl_link *link)
{
    return link->note != NULL && atomic_load(&link->note->state) == WRITTEN;
}

hsgd_status hsgd_nccl_link_failure(hsgd_nccl_link *link, hsgd_error *err)
{
    if (link->failed.status != HSGD_OK) {
        return hsgd_error_set(err, link->failed.status, "%s", link->failed.text);
    }
    return noted(link) ? fail(link, &link->note->failure, err) : HSGD_OK;
}

/* How to mend it: before the start there is nothing to go on with. */
static const char *again(const hsgd_nccl_link *link)
{
    return link->joined ? "run again with --restart" : "run again, or with device.allreduce = mpi";
}

static hsgd_status fail_by_stall(hsgd_nccl_link *link, const hsgd_nccl_work *work, hsgd_error *err)
{
    hsgd_error failure = {0};

    (void)hsgd_error_set(&failure, HSGD_ERR_DEVICE,
                         "nccl: %s of %lld %s did not finish in %g s on rank %d of %s (waiting for another rank); a "
                         "rank is lost or the network is down; see that node's log, then %s",
                         work->name, (long long)work->count, work->unit, link->timeout, link->named, link->host,
                         again(link));
    return fail(link, &failure, err);
}

/* Report what NCCL says; `call` is the function concerned. */
static hsgd_status fail_by_nccl(hsgd_nccl_link *link, const hsgd_nccl_work *work, const char *call, ncclResult_t code,
                                hsgd_error *err)
{
    hsgd_error failure = {0};
    char last[512] = "";
    const char *text = ncclGetLastError(link->nccl);

    if (text != NULL) {
        (void)snprintf(last, sizeof last, "%.*s", (int)strcspn(text, "\n"), text);
    }
    (void)hsgd_error_set(&failure, HSGD_ERR_DEVICE,
                         "nccl: %s of %lld %s failed on rank %d of %s: %s: %s%s%s; set NCCL_DEBUG=WARN to learn more, "
                         "then %s",
                         work->name, (long long)work->count, work->unit, link->named, link->host, call,
                         ncclGetErrorString(code), last[0] != '\0' ? ": " : "", last, again(link));
    return fail(link, &failure, err);
}

static hsgd_status fail_by_cuda(hsgd_nccl_link *link, const hsgd_nccl_work *work, const char *call, cudaError_t code,
                                hsgd_error *err)
{
    hsgd_error failure = {0};

    (void)hsgd_error_set(&failure, HSGD_ERR_DEVICE,
                         "nccl: %s of %lld %s failed on rank %d of %s: %s: %s; check the GPU (nvidia-smi), then %s",
                         work->name, (long long)work->count, work->unit, link->named, link->host, call,
                         cudaGetErrorString(code), again(link));
    return fail(link, &failure, err);
}

/* ---- NCCL calls, which go on after they return ---- */

/* The outcome of a call that returned `code`.  ncclInProgress: none in `seconds`, or there is a failure to adopt. */
static ncclResult_t settle(const hsgd_nccl_link *link, ncclResult_t code, double seconds)
{
    const double end = hsgd_clock() + seconds;

    if (code == ncclSuccess && link->nccl != NULL) {
        code = ncclInProgress; /* it may say so before the work is on the stream: the communicator's own state tells */
    }
    for (int64_t polls = 0; code == ncclInProgress; polls++) {
        ncclResult_t asked;

        if (polls >= SPINS) {
            if (hsgd_clock() > end || noted(link)) {
                break;
            }
            pause_briefly();
        }
        asked = ncclCommGetAsyncError(link->nccl, &code);
        code = asked != ncclSuccess ? asked : code;
    }
    return code;
}

/* What a settled `code` means. */
static hsgd_status judge(hsgd_nccl_link *link, const hsgd_nccl_work *work, const char *call, ncclResult_t code,
                         hsgd_error *err)
{
    if (code == ncclSuccess) {
        return HSGD_OK;
    }
    if (code != ncclInProgress) {
        return fail_by_nccl(link, work, call, code, err);
    }
    return hsgd_nccl_link_failure(link, err) != HSGD_OK ? HSGD_ERR_DEVICE : fail_by_stall(link, work, err);
}

hsgd_status hsgd_nccl_link_start(hsgd_nccl_link *link, ncclUniqueId id, bool *late, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    const hsgd_nccl_work work = {"start", "ranks", link->ranks};
    ncclResult_t code;

    *late = false;
    config.blocking = 0;
    HSGD_TRY(hsgd_nccl_link_failure(link, err));
    code = settle(link, ncclCommInitRankConfig(&link->nccl, link->ranks, id, link->rank, &config), link->timeout);
    *late = code == ncclInProgress;
    HSGD_TRY(judge(link, &work, "ncclCommInitRankConfig", code, err));
    link->joined = true;
done:
    return st;
}

/* ---- collectives on the stream, and the watch over them ---- */

/* Leave by `done:` with a failure of `work` unless the CUDA call `function arguments` succeeds. */
#define EVENT_TRY(work, function, arguments)                                                                           \
    do {                                                                                                               \
        const cudaError_t event_code = function arguments;                                                             \
        if (event_code != cudaSuccess) {                                                                               \
            st = fail_by_cuda(link, (work), #function, event_code, err);                                               \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* Has the stream come past `event`? */
static cudaError_t passed(cudaEvent_t event, bool *yes)
{
    const cudaError_t code = cudaEventQuery(event);

    *yes = code == cudaSuccess;
    if (code == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* else the next kernel launch would take it for its own */
        return cudaSuccess;
    }
    return code;
}

static hsgd_nccl_collective *slot(hsgd_nccl_link *link, int64_t i)
{
    return &link->ring[i % HSGD_NCCL_OUTSTANDING];
}

/* Take leave of the collectives that are done and time the oldest that is not. */
static hsgd_status look_at_stream(hsgd_nccl_link *link, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (; link->first < link->next; link->first++) {
        hsgd_nccl_collective *c = slot(link, link->first);
        bool done = false;

        EVENT_TRY(&c->work, passed, (c->after, &done));
        if (done) {
            continue;
        }
        if (!c->begun) {
            EVENT_TRY(&c->work, passed, (c->before, &c->begun));
            c->began = hsgd_clock();
        } else if (hsgd_clock() - c->began > link->timeout) {
            HSGD_TRY(fail_by_stall(link, &c->work, err));
        }
        break; /* what is behind it on the stream cannot have begun */
    }
done:
    return st;
}

hsgd_status hsgd_nccl_link_watch(void *context, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_link *link = context;
    const hsgd_nccl_work idle = {"a connection", "ranks", link->ranks};
    ncclResult_t state = ncclSuccess, asked;

    HSGD_TRY(hsgd_nccl_link_failure(link, err));
    asked = ncclCommGetAsyncError(link->nccl, &state);
    state = asked != ncclSuccess ? asked : state;
    if (state != ncclSuccess && state != ncclInProgress) {
        const hsgd_nccl_work *work = link->first < link->next ? &slot(link, link->first)->work : &idle;

        HSGD_TRY(fail_by_nccl(link, work, "asynchronous error", state, err));
    }
    HSGD_TRY(look_at_stream(link, err));
done:
    return st;
}

hsgd_status hsgd_nccl_link_begin(hsgd_nccl_link *link, const char *name, int64_t words, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_collective *c = slot(link, link->next);

    HSGD_TRY(hsgd_nccl_link_failure(link, err));
    while (link->next - link->first == HSGD_NCCL_OUTSTANDING) {
        HSGD_TRY(hsgd_nccl_link_watch(link, err));
        if (link->next - link->first == HSGD_NCCL_OUTSTANDING) {
            pause_briefly();
        }
    }
    c->work = (hsgd_nccl_work){name, "words", words};
    c->begun = false;
    EVENT_TRY(&c->work, cudaEventRecord, (c->before, link->stream));
done:
    return st;
}

hsgd_status hsgd_nccl_link_end(hsgd_nccl_link *link, const char *call, ncclResult_t code, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_collective *c = slot(link, link->next);

    /* only a settled call has put its work on the stream: an event recorded earlier would stand before that */
    HSGD_TRY(judge(link, &c->work, call, settle(link, code, link->timeout), err));
    EVENT_TRY(&c->work, cudaEventRecord, (c->after, link->stream));
    link->next++;
done:
    return st;
}

/* ---- beginning and end ---- */

/* Say farewell to the other ranks, or leave without them. */
static void finalize(hsgd_nccl_link *link)
{
    const double patience = link->timeout < HSGD_NCCL_PATIENCE ? link->timeout : HSGD_NCCL_PATIENCE;

    if (settle(link, ncclCommFinalize(link->nccl), patience) == ncclSuccess) {
        (void)ncclCommDestroy(link->nccl);
    } else {
        abort_in_time(link);
    }
}

void hsgd_nccl_link_destroy(hsgd_nccl_link **link)
{
    hsgd_nccl_link *old = *link;

    *link = NULL;
    if (old == NULL) {
        return;
    }
    if (old->nccl != NULL && !old->stuck) {
        old->joined ? finalize(old) : abort_in_time(old);
    }
    for (int i = 0; i < HSGD_NCCL_OUTSTANDING; i++) {
        if (old->ring[i].before != NULL) {
            (void)cudaEventDestroy(old->ring[i].before);
        }
        if (old->ring[i].after != NULL) {
            (void)cudaEventDestroy(old->ring[i].after);
        }
    }
    if (!old->stuck) {
        free(old);
    }
}

hsgd_status hsgd_nccl_link_create(const hsgd_comm *comm, cudaStream_t stream, double timeout, hsgd_nccl_link **out,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_nccl_link *link = calloc(1, sizeof *link);
    const hsgd_nccl_work work = {"start", "ranks", comm->ranks};

    *out = NULL;
    HSGD_CHECK(link != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the communicator");
    link->rank = link->named = comm->rank;
    link->ranks = comm->ranks;
    memcpy(link->host, comm->host, sizeof link->host);
    link->stream = stream;
    link->timeout = timeout;
    EVENT_TRY(&work, cudaGetDevice, (&link->device));
    for (int i = 0; i < HSGD_NCCL_OUTSTANDING; i++) {
        EVENT_TRY(&work, cudaEventCreateWithFlags, (&link->ring[i].before, cudaEventDisableTiming));
        EVENT_TRY(&work, cudaEventCreateWithFlags, (&link->ring[i].after, cudaEventDisableTiming));
    }
    *out = link;
    link = NULL;
done:
    hsgd_nccl_link_destroy(&link);
    return st;
}
