/* tests/bench/counting.c - see counting.h.  The communicator keeps its self: only the table is changed, so that calls
 * that are not counted go where they went. */
#include "counting.h"

static const hsgd_comm_ops *inner;
static hsgd_comm_ops counted;
static message_count so_far;
static int ranks;

enum { WORD = 8 }; /* bytes of both types */

static void add(int64_t bytes)
{
    so_far.calls++;
    so_far.bytes += bytes;
}

static void add_shares(const int64_t *counts)
{
    int64_t all = 0;

    for (int r = 0; r < ranks; r++) {
        all += counts[r];
    }
    add(all * WORD);
}

static hsgd_status sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    add(count * WORD);
    return inner->sum(self, type, count, data, err);
}

static hsgd_status max(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    add(count * WORD);
    return inner->max(self, type, count, data, err);
}

static hsgd_status reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                  hsgd_error *err)
{
    add_shares(counts);
    return inner->reduce_scatter(self, type, counts, send, receive, err);
}

static hsgd_status all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                              hsgd_error *err)
{
    add_shares(counts);
    return inner->all_gather(self, type, counts, send, receive, err);
}

static hsgd_status broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    add((int64_t)bytes);
    return inner->broadcast(self, root, bytes, data, err);
}

static hsgd_status device_sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    add(count * WORD);
    return inner->device_sum(self, type, count, data, err);
}

static hsgd_status device_reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send,
                                         void *receive, hsgd_error *err)
{
    add_shares(counts);
    return inner->device_reduce_scatter(self, type, counts, send, receive, err);
}

static hsgd_status device_all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                     hsgd_error *err)
{
    add_shares(counts);
    return inner->device_all_gather(self, type, counts, send, receive, err);
}

void messages_count(hsgd_comm *comm)
{
    inner = comm->ops;
    ranks = comm->ranks;
    so_far = (message_count){0};
    counted = *inner;
    counted.sum = sum;
    counted.max = max;
    counted.reduce_scatter = reduce_scatter;
    counted.all_gather = all_gather;
    counted.broadcast = broadcast;
    if (inner->device_sum != NULL) { /* all three or none */
        counted.device_sum = device_sum;
        counted.device_reduce_scatter = device_reduce_scatter;
        counted.device_all_gather = device_all_gather;
    }
    comm->ops = &counted;
}

message_count messages_so_far(void)
{
    return so_far;
}
