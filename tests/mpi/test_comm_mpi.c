/* tests/mpi/test_comm_mpi.c - mirrors mpi/comm_mpi.c and mpi/hdf5_access.c: what only the MPI communicator promises.
 * What all communicators promise is in tests/conformance/test_comm.c.
 * ranks: 1 2 4 */
#include <hdf5.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "comm_mpi.h"
#include "support.h"

static void a_further_communicator_leaves_mpi_running_when_it_ends(void **state)
{
    hsgd_comm *first = test_comm(), *second = NULL;
    hsgd_error err = {0};
    int64_t one = 1;
    int finalised = 1;

    (void)state;
    assert_ok(hsgd_comm_mpi_create(&second, &err));
    assert_int_equal(second->rank, first->rank);
    assert_int_equal(second->ranks, first->ranks);
    hsgd_comm_destroy(&second);
    assert_null(second);
    assert_int_equal(MPI_Finalized(&finalised), MPI_SUCCESS);
    assert_false(finalised);
    assert_ok(hsgd_comm_sum(first, HSGD_TYPE_I64, 1, &one, &err));
    assert_int_equal(one, first->ranks);
}

static void a_block_that_was_not_freed_does_not_hinder_the_end(void **state)
{
    hsgd_comm *comm = NULL;
    hsgd_error err = {0};
    void *block, *handle;
    bool leader;

    (void)state;
    assert_ok(hsgd_comm_mpi_create(&comm, &err));
    assert_ok(hsgd_comm_shared_alloc(comm, 100, &block, &leader, &handle, &err));
    hsgd_comm_destroy(&comm);
}

/* A rank out of step must not join later calls: they all fail at once, here without any other rank taking part. */
static void after_a_failure_every_call_fails_with_its_text(void **state)
{
    static hsgd_comm *comm; /* never ended: that would end all ranks */
    hsgd_error err = {0}, later = {0};
    int64_t number = 1, counts[64] = {0};
    double real = 0.0;
    void *block = NULL, *handle = NULL;
    bool leader = false;

    (void)state;
    assert_ok(hsgd_comm_mpi_create(&comm, &err));
    assert_int_equal(hsgd_comm_broadcast(comm, comm->ranks, sizeof number, &number, &err), HSGD_ERR_DEVICE);
    assert_non_null(strstr(err.text, "MPI_Bcast"));
    assert_non_null(strstr(err.text, "root")); /* MPI's own words */
    assert_int_equal(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &number, &later), HSGD_ERR_DEVICE);
    assert_string_equal(later.text, err.text);
    assert_int_equal(hsgd_comm_agree(comm, HSGD_OK, &later), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &number, &later), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_comm_reduce_scatter(comm, HSGD_TYPE_F64, counts, &real, &real, &later), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_comm_all_gather(comm, HSGD_TYPE_F64, counts, &real, &real, &later), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_comm_shared_alloc(comm, 8, &block, &leader, &handle, &later), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_comm_node_barrier(comm, &later), HSGD_ERR_DEVICE);
    assert_null(handle);
}

/* Groups that lost one another would otherwise meet in a later call of the whole with different data. */
static void a_failure_in_a_group_is_one_of_the_whole(void **state)
{
    static hsgd_comm *comm; /* never ended: that would end all ranks */
    hsgd_comm *part = NULL, *other = NULL;
    hsgd_error err = {0}, later = {0};
    int64_t number = 1;
    char text[64];

    (void)state;
    assert_ok(hsgd_comm_mpi_create(&comm, &err));
    assert_ok(hsgd_comm_split(comm, comm->rank % 2, &part, &err));
    assert_ok(hsgd_comm_split(comm, 0, &other, &err));
    assert_int_equal(hsgd_comm_broadcast(part, part->ranks, sizeof number, &number, &err), HSGD_ERR_DEVICE);
    (void)snprintf(text, sizeof text, "MPI_Bcast failed on rank %d", comm->rank); /* its number in the whole */
    assert_non_null(strstr(err.text, text));
    assert_int_equal(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &number, &later), HSGD_ERR_DEVICE);
    assert_string_equal(later.text, err.text);
    assert_int_equal(hsgd_comm_sum(other, HSGD_TYPE_I64, 1, &number, &later), HSGD_ERR_DEVICE);
    hsgd_comm_destroy(&other); /* without the others, and without ending the process: it has yet to tell */
    hsgd_comm_destroy(&part);
    assert_int_equal(hsgd_comm_split(comm, 0, &part, &later), HSGD_ERR_DEVICE);
    assert_null(part);
}

static void file_access_sets_mpi_io_and_collective_transfers(void **state)
{
    hsgd_comm *comm = test_comm();
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS), transfer = H5Pcreate(H5P_DATASET_XFER);
    H5FD_mpio_xfer_t mode = H5FD_MPIO_INDEPENDENT;
    hsgd_error err = {0};

    (void)state;
    assert_ok(comm->ops->file_access(comm->self, access, transfer, &err));
    assert_true(H5Pget_driver(access) == H5FD_MPIO);
    assert_true(H5Pget_dxpl_mpio(transfer, &mode) >= 0);
    assert_int_equal(mode, H5FD_MPIO_COLLECTIVE);
    assert_true(H5Pclose(transfer) >= 0 && H5Pclose(access) >= 0);
}

static void file_access_refuses_what_is_no_access_list(void **state)
{
    hsgd_comm *comm = test_comm();
    const hid_t other = H5Pcreate(H5P_DATASET_CREATE);
    hsgd_error err = {0};

    (void)state;
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    assert_int_equal(comm->ops->file_access(comm->self, other, 0, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "hdf5"));
    assert_true(H5Pclose(other) >= 0);
}

static void count_one(void *context)
{
    ++*(int *)context;
}

/* As on a full disk.  Open MPI itself calls such a write a success, and HDF5 may wait for ever after it. */
static void a_write_that_fails_is_told_at_once(void **state)
{
    const hsgd_comm *comm = test_comm();
    char name[] = "/tmp/hsgd-file-XXXXXX";
    const int fd = mkstemp(name);
    const char bytes[100] = {0};
    struct rlimit limit, full;
    int failures = 0;
    MPI_File file;

    (void)state;
    assert_true(fd >= 0 && close(fd) == 0);
    comm->ops->file_failing(comm->self, count_one, &failures);
    assert_int_equal(MPI_File_open(MPI_COMM_SELF, name, MPI_MODE_RDWR, MPI_INFO_NULL, &file), MPI_SUCCESS);
    assert_int_equal(MPI_File_write_at(file, 0, bytes, sizeof bytes, MPI_BYTE, MPI_STATUS_IGNORE), MPI_SUCCESS);
    assert_int_equal(MPI_File_write_at_all(file, 0, bytes, sizeof bytes, MPI_BYTE, MPI_STATUS_IGNORE), MPI_SUCCESS);
    assert_int_equal(failures, 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && getrlimit(RLIMIT_FSIZE, &limit) == 0);
    full = (struct rlimit){.rlim_cur = sizeof bytes, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    (void)MPI_File_write_at(file, sizeof bytes, bytes, sizeof bytes, MPI_BYTE, MPI_STATUS_IGNORE);
    assert_int_equal(failures, 1);
    (void)MPI_File_write_at_all(file, sizeof bytes, bytes, sizeof bytes, MPI_BYTE, MPI_STATUS_IGNORE);
    assert_int_equal(failures, 2);
    comm->ops->file_failing(comm->self, NULL, NULL);
    (void)MPI_File_write_at(file, sizeof bytes, bytes, sizeof bytes, MPI_BYTE, MPI_STATUS_IGNORE);
    assert_int_equal(failures, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(MPI_File_close(&file), MPI_SUCCESS);
    assert_int_equal(unlink(name), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_further_communicator_leaves_mpi_running_when_it_ends),
        cmocka_unit_test(a_block_that_was_not_freed_does_not_hinder_the_end),
        cmocka_unit_test(after_a_failure_every_call_fails_with_its_text),
        cmocka_unit_test(a_failure_in_a_group_is_one_of_the_whole),
        cmocka_unit_test(file_access_sets_mpi_io_and_collective_transfers),
        cmocka_unit_test(file_access_refuses_what_is_no_access_list),
        cmocka_unit_test(a_write_that_fails_is_told_at_once),
    };
    return test_run(tests);
}
