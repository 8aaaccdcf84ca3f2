/* mpi/comm_mpi.h - the communicator over all ranks of the launch. */
#pragma once
#include "base/comm.h"

/* Initialise MPI (MPI_THREAD_FUNNELED: only the main thread calls it) and make the communicator of all ranks; destroy
 * finalises MPI.  An error of MPI is returned with MPI's text.
 * Collective.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_comm_mpi_create(hsgd_comm **out, hsgd_error *err);
