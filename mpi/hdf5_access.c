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

/* Neither an error handler of MPI nor a function of its profiling interface has a context of its own: here it is. */
static struct {
    void (*failing)(void *context);
    void *context;
    bool installed;
} handler;

static void fail(void)
{
    if (handler.failing != NULL) {
        handler.failing(handler.context);
    }
}

static void on_error(MPI_File *file, int *code, ...)
{
    (void)file;
    (void)code; /* goes back to HDF5, as without a handler */
    fail();
}

void hsgd_hdf5_failing(void *self, void (*failing)(void *context), void *context)
{
    MPI_Errhandler mpi;

    (void)self;
    if (!handler.installed && MPI_File_create_errhandler(on_error, &mpi) == MPI_SUCCESS) {
        /* that of no file is where a file's comes from when it is opened (MPI 3.1, 13.7) */
        handler.installed = MPI_File_set_errhandler(MPI_FILE_NULL, mpi) == MPI_SUCCESS;
        (void)MPI_Errhandler_free(&mpi);
    }
    handler.failing = failing;
    handler.context = context;
}

/* Open MPI 4.1 calls a write that failed a success of fewer bytes, to which no error handler is called. */
static void check_count(int count, MPI_Datatype type, const MPI_Status *status)
{
    MPI_Count size = 0, written = 0;

    (void)MPI_Type_size_x(type, &size);
    (void)MPI_Get_elements_x(status, MPI_BYTE, &written);
    if (written != count * size) {
        fail();
    }
}

typedef int writer(MPI_File file, MPI_Offset offset, const void *data, int count, MPI_Datatype type,
                   MPI_Status *status);

static int write_and_check(writer *mpi, MPI_File file, MPI_Offset offset, const void *data, int count,
                           MPI_Datatype type, MPI_Status *status)
{
    MPI_Status own;
    MPI_Status *const out = status != MPI_STATUS_IGNORE ? status : &own;
    const int code = mpi(file, offset, data, count, type, out);

    if (code == MPI_SUCCESS) {
        check_count(count, type, out);
    }
    return code;
}

/* Instead of MPI's own (its profiling interface, MPI 3.1, 14.2), for HDF5's calls. */
int MPI_File_write_at(MPI_File file, MPI_Offset offset, const void *data, int count, MPI_Datatype type,
                      MPI_Status *status)
{
    return write_and_check(PMPI_File_write_at, file, offset, data, count, type, status);
}

int MPI_File_write_at_all(MPI_File file, MPI_Offset offset, const void *data, int count, MPI_Datatype type,
                          MPI_Status *status)
{
    return write_and_check(PMPI_File_write_at_all, file, offset, data, count, type, status);
}
