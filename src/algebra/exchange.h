/* src/algebra/exchange.h - sums and gathers over the ranks of arrays in backend memory: straight from there where backend
 * memory is host memory or the communicator takes the device's, else by way of (pinned) host memory. */
#pragma once
#include "backend.h"
#include "base/comm.h"

typedef struct {
    hsgd_comm *comm;             /* borrowed */
    const hsgd_backend *backend; /* borrowed */
    void *host;                  /* staging memory; owned */
    size_t bytes;
} hsgd_exchange;

/* An exchange without staging memory.  Local. */
hsgd_exchange hsgd_exchange_of(hsgd_comm *comm, const hsgd_backend *backend);

/* Make sure that arrays of up to `words` 8-byte words, sent and received together, can be staged; nothing is taken where
 * none is needed.  To be called before the collective calls below.  Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_exchange_reserve(hsgd_exchange *e, int64_t words, hsgd_error *err);

/* End the staging memory.  Local. */
void hsgd_exchange_release(hsgd_exchange *e);

/* As hsgd_comm_sum, _reduce_scatter and _all_gather, for arrays in backend memory that were reserved for.  Where there is
 * one rank nothing waits; send may be equal to receive there, and then nothing moves.  Collective.
 * Errors: HSGD_ERR_DEVICE. */
hsgd_status hsgd_exchange_sum(hsgd_exchange *e, hsgd_type type, int64_t count, void *memory, hsgd_error *err);
hsgd_status hsgd_exchange_reduce_scatter(hsgd_exchange *e, hsgd_type type, const int64_t *counts, const void *send,
                                         void *receive, hsgd_error *err);
hsgd_status hsgd_exchange_all_gather(hsgd_exchange *e, hsgd_type type, const int64_t *counts, const void *send,
                                     void *receive, hsgd_error *err);
