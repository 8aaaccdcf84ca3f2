/* mpi/hdf5_access.c - the one file that knows both MPI and HDF5: what the store cannot set without mpi.h. */
#include "hdf5_access.h"
#include <hdf5.h>

bool hsgd_hdf5_access(MPI_Comm comm, int64_t fapl, int64_t dxpl)
{
    bool ok = true;

    if (fapl > 0) {
        ok = H5Pset_fapl_mpio(fapl, comm, MPI_INFO_NULL) >= 0 && H5Pset_coll_metadata_write(fapl, true) >= 0;
    }
    if (ok && dxpl > 0) {
        ok = H5Pset_dxpl_mpio(dxpl, H5FD_MPIO_COLLECTIVE) >= 0;
    }
    return ok;
}
