/* mpi/hdf5_access.h - HDF5 property lists for access by all ranks together. */
#pragma once
#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

/* Set the file access list `fapl` to MPI-IO on `comm` with collective metadata writes, and the transfer list `dxpl` to
 * collective transfers.  Either may be 0: left out.  Returns false where HDF5 refuses.  Local. */
bool hsgd_hdf5_access(MPI_Comm comm, int64_t fapl, int64_t dxpl);

/* Call failing(context) whenever MPI-IO fails on this rank, in a file opened from now on or in opening one; NULL: no more.
 * self: a communicator's, for its table; not looked at.  Local. */
void hsgd_hdf5_failing(void *self, void (*failing)(void *context), void *context);
