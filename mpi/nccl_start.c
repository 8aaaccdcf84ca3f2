/* mpi/nccl_start.c - see nccl_start.h. */
#include "nccl_start.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which GPU a rank uses, as it is gathered. */
typedef struct {
    char host[64], bus_id[64];
} place;

hsgd_status hsgd_nccl_find_shared_gpu(hsgd_comm *inner, const char *bus_id, char *why, size_t why_size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int ranks = inner->ranks;
    place mine = {{0}, {0}}, *places = calloc((size_t)ranks, sizeof *places);
    int64_t *counts = calloc((size_t)ranks, sizeof *counts);

    why[0] = '\0';
    if (places == NULL || counts == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the communicator");
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

hsgd_status hsgd_nccl_start(hsgd_comm *inner, hsgd_nccl_link *link, hsgd_error *err)
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
