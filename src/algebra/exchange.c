/* src/algebra/exchange.c - which way an array in backend memory goes to the other ranks; see exchange.h. */
#include "algebra/exchange.h"

enum { WORD = 8 }; /* bytes */

static bool has_device_calls(const hsgd_exchange *e)
{
    return e->comm->ops->device_sum != NULL;
}

/* Must arrays pass through host memory on their way? */
static bool is_staged(const hsgd_exchange *e)
{
    return e->comm->ranks > 1 && !e->backend->host_memory && !has_device_calls(e);
}

hsgd_exchange hsgd_exchange_of(hsgd_comm *comm, const hsgd_backend *backend)
{
    return (hsgd_exchange){.comm = comm, .backend = backend};
}

hsgd_status hsgd_exchange_reserve(hsgd_exchange *e, int64_t words, hsgd_error *err)
{
    const size_t bytes = (size_t)words * WORD;
    hsgd_status st = HSGD_OK;
    void *host = NULL;

    if (!is_staged(e) || bytes <= e->bytes) {
        return HSGD_OK;
    }
    HSGD_TRY(e->backend->ops->staging_alloc(e->backend->self, bytes, &host, err));
    hsgd_exchange_release(e);
    e->host = host;
    e->bytes = bytes;
done:
    return st;
}

void hsgd_exchange_release(hsgd_exchange *e)
{
    if (e->host != NULL) {
        e->backend->ops->staging_release(e->backend->self, e->host);
    }
    e->host = NULL;
    e->bytes = 0;
}

/* The host array of a staged call: first what is sent, behind it what is received. */
static hsgd_status stage(hsgd_exchange *e, int64_t words, const void *memory, int64_t more, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_CHECK((size_t)(words + more) * WORD <= e->bytes, HSGD_ERR_DEVICE, err,
               "exchange: %lld words were not reserved for; report this with the deck", (long long)(words + more));
    HSGD_TRY(e->backend->ops->download(e->backend->self, (size_t)words * WORD, memory, e->host, err));
done:
    return st;
}

hsgd_status hsgd_exchange_sum(hsgd_exchange *e, hsgd_type type, int64_t count, void *memory, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (e->comm->ranks == 1) {
        return HSGD_OK;
    }
    if (e->backend->host_memory) {
        return hsgd_comm_sum(e->comm, type, count, memory, err);
    }
    if (has_device_calls(e)) {
        return e->comm->ops->device_sum(e->comm->self, type, count, memory, err);
    }
    HSGD_TRY(stage(e, count, memory, 0, err));
    HSGD_TRY(hsgd_comm_sum(e->comm, type, count, e->host, err));
    HSGD_TRY(e->backend->ops->upload(e->backend->self, (size_t)count * WORD, e->host, memory, err));
done:
    return st;
}

/* One rank: send becomes receive, if that is another array. */
static hsgd_status keep(hsgd_exchange *e, int64_t count, const void *send, void *receive, hsgd_error *err)
{
    return send == receive || count == 0
               ? HSGD_OK
               : e->backend->ops->copy(e->backend->self, 0, (size_t)count * WORD, send, receive, err);
}

static int64_t total_of(const hsgd_exchange *e, const int64_t *counts)
{
    int64_t total = 0;

    for (int rank = 0; rank < e->comm->ranks; rank++) {
        total += counts[rank];
    }
    return total;
}

/* A reduce-scatter or an all-gather of host arrays, and a communicator's own of device arrays. */
typedef hsgd_status (*host_call)(hsgd_comm *comm, hsgd_type type, const int64_t *counts, const void *send,
                                 void *receive, hsgd_error *err);
typedef hsgd_status (*device_call)(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                   hsgd_error *err);

/* `sent` words become `received` by one of the two calls, whichever the memory asks for. */
static hsgd_status carry(hsgd_exchange *e, host_call on_host, device_call on_device, hsgd_type type,
                         const int64_t *counts, int64_t sent, const void *send, int64_t received, void *receive,
                         hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char *landing = NULL;

    if (e->comm->ranks == 1) {
        return keep(e, sent, send, receive, err);
    }
    if (e->backend->host_memory) {
        return on_host(e->comm, type, counts, send, receive, err);
    }
    if (has_device_calls(e)) {
        return on_device(e->comm->self, type, counts, send, receive, err);
    }
    HSGD_TRY(stage(e, sent, send, received, err));
    landing = (char *)e->host + sent * WORD;
    HSGD_TRY(on_host(e->comm, type, counts, e->host, landing, err));
    HSGD_TRY(e->backend->ops->upload(e->backend->self, (size_t)received * WORD, landing, receive, err));
done:
    return st;
}

hsgd_status hsgd_exchange_reduce_scatter(hsgd_exchange *e, hsgd_type type, const int64_t *counts, const void *send,
                                         void *receive, hsgd_error *err)
{
    return carry(e, hsgd_comm_reduce_scatter, e->comm->ops->device_reduce_scatter, type, counts, total_of(e, counts),
                 send, counts[e->comm->rank], receive, err);
}

hsgd_status hsgd_exchange_all_gather(hsgd_exchange *e, hsgd_type type, const int64_t *counts, const void *send,
                                     void *receive, hsgd_error *err)
{
    return carry(e, hsgd_comm_all_gather, e->comm->ops->device_all_gather, type, counts, counts[e->comm->rank], send,
                 total_of(e, counts), receive, err);
}
