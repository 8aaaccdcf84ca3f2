/* mpi/comm_mpi.h - the communicator over all ranks of the launch. */
#pragma once
#include "base/comm.h"

/* Initialise MPI (MPI_THREAD_FUNNELED: only the main thread calls it) and make the communicator of all ranks; destroy
 * finalises MPI if it was initialised here.  An error of MPI is returned with MPI's text.  After one, this rank's
 * collective calls fail at once with that text, and destroy ends all ranks: others may wait in the call that failed.
 * Collective.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_comm_mpi_create(hsgd_comm **out, hsgd_error *err);

/* Cut messages into pieces of at most `entries`, 1 to INT_MAX (the default, as MPI counts in int).  Results of integer
 * sums do not depend on it.  Local, the same on all ranks. */
void hsgd_comm_mpi_set_piece(hsgd_comm *comm, int64_t entries);
