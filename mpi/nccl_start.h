/* mpi/nccl_start.h - NCCL's start, carried by the communicator within.  Known to mpi/comm_nccl.c alone. */
#pragma once
#include "nccl_link.h"

/* Do two ranks share a GPU?  why[] names the first two that do, or is "".  bus_id: of this rank's.
 * Collective; the same answer on all ranks.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_nccl_find_shared_gpu(hsgd_comm *inner, const char *bus_id, char *why, size_t why_size,
                                      hsgd_error *err);

/* Start NCCL on all ranks of `inner` or on none; `link` is that of this rank.  Collective.
 * Errors, the same on every rank: HSGD_ERR_DEVICE. */
hsgd_status hsgd_nccl_start(hsgd_comm *inner, hsgd_nccl_link *link, hsgd_error *err);
