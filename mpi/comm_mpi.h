/* mpi/comm_mpi.h - the communicator over MPI_COMM_WORLD. */
#pragma once
#include "base/comm.h"

/* Initialise MPI (MPI_THREAD_FUNNELED) and make the communicator of all ranks; destroy finalises MPI.
 * Collective.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_comm_mpi_create(hsgd_comm **out, hsgd_error *err);
