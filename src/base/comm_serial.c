/* src/base/comm_serial.c - the communicator of one process: every collective is a copy or nothing. */
#include "base/comm.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static hsgd_status keep(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    (void)self, (void)type, (void)count, (void)data, (void)err;
    return HSGD_OK;
}

static hsgd_status copy(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                        hsgd_error *err)
{
    (void)self, (void)type, (void)err;
    if (counts[0] > 0) {
        memcpy(receive, send, (size_t)counts[0] * 8);
    }
    return HSGD_OK;
}

static hsgd_status broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    (void)self, (void)root, (void)bytes, (void)data, (void)err;
    return HSGD_OK;
}

static hsgd_status shared_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err)
{
    const size_t page = 4096, whole = (bytes / page + 1) * page;

    (void)self;
    *handle = *out = aligned_alloc(page, whole);
    if (*out == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %zu bytes for the data; use a smaller set",
                              whole);
    }
    memset(*out, 0, whole);
    *leader = true;
    return HSGD_OK;
}

static void shared_free(void *self, void **handle)
{
    (void)self;
    free(*handle);
}

static hsgd_status node_barrier(void *self, hsgd_error *err)
{
    (void)self, (void)err;
    return HSGD_OK;
}

/* One rank makes one group, whatever the colour. */
static hsgd_status split(void *self, int colour, hsgd_comm **out, hsgd_error *err)
{
    (void)self, (void)colour;
    return hsgd_comm_serial_create(out, err);
}

static void end_process(void *self, int exit_code)
{
    (void)self;
    _exit(exit_code);
}

static const hsgd_comm_ops serial_ops = {
    .name = "serial",
    .sum = keep,
    .max = keep,
    .reduce_scatter = copy,
    .all_gather = copy,
    .broadcast = broadcast,
    .shared_alloc = shared_alloc,
    .shared_free = shared_free,
    .node_barrier = node_barrier,
    .split = split,
    .abort = end_process,
};

hsgd_status hsgd_comm_serial_create(hsgd_comm **out, hsgd_error *err)
{
    hsgd_comm *comm = calloc(1, sizeof *comm);

    *out = comm;
    if (comm == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the communicator");
    }
    comm->ops = &serial_ops;
    comm->ranks = comm->local_ranks = 1;
    if (gethostname(comm->host, sizeof comm->host - 1) != 0) {
        strcpy(comm->host, "localhost");
    }
    return HSGD_OK;
}
