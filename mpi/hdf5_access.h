/* mpi/hdf5_access.h - HDF5 property lists for access by all ranks together. */
#pragma once
#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

/* Set the file access list `fapl` to MPI-IO on `comm` with collective metadata writes, and the transfer list `dxpl` to
 * collective transfers.  Either may be 0: left out.  Returns false where HDF5 refuses.  Local. */
bool hsgd_hdf5_access(MPI_Comm comm, int64_t fapl, int64_t dxpl);
