/* tests/support.c - see support.h. */
#include "support.h"
#include "cpu/cpu.h"
#include "wiring/devices.h"
#include <stdlib.h>
#ifdef HSGD_MPI
#include "comm_mpi.h"
#endif

static hsgd_comm *launch;
static hsgd_devices *devices; /* of CUDA */

hsgd_comm *test_comm(void)
{
    hsgd_error err = {0};

    if (launch == NULL) {
#ifdef HSGD_MPI
        const hsgd_status st = hsgd_comm_mpi_create(&launch, &err);
#else
        const hsgd_status st = hsgd_comm_serial_create(&launch, &err);
#endif
        if (st != HSGD_OK) {
            (void)fprintf(stderr, "%s\n", err.text);
            exit(6);
        }
    }
    return launch;
}

int test_finish(int failed)
{
    hsgd_error err = {0};
    int64_t all = failed;

    if (launch != NULL) {
        (void)hsgd_comm_max(launch, HSGD_TYPE_I64, 1, &all, &err);
        hsgd_devices_close(&devices);
        hsgd_comm_destroy(&launch);
    }
    return all != 0;
}

bool test_backend_is_cuda(void)
{
    const char *wanted = getenv("HSGD_TEST_BACKEND");

    return wanted != NULL && strcmp(wanted, "cuda") == 0;
}

/* No device: skipped, or, where there must be one, failed. */
static void end_without_device(const char *why)
{
    const char *required = getenv("HSGD_TEST_DEVICE_REQUIRED");
    const bool failed = required != NULL && strcmp(required, "1") == 0;

    if (launch->rank == 0) {
        (void)printf("%s: %s\n", failed ? "failed, for HSGD_TEST_DEVICE_REQUIRED=1" : "skipped", why);
    }
    hsgd_comm_destroy(&launch);
    exit(failed ? 1 : 77);
}

/* The device is opened once; its all-reduce goes through host memory, so that the launch's communicator stays. */
static void open_devices(void)
{
    const hsgd_device_choice choice = {.backend = HSGD_DEVICE_CUDA, .allreduce = HSGD_ALLREDUCE_MPI, .threads = 1};
    hsgd_comm *comm = test_comm();
    hsgd_error err = {0};
    char note[256];

    if (devices == NULL && hsgd_devices_open(&choice, &comm, note, sizeof note, &devices, &err) != HSGD_OK) {
        end_without_device(err.text);
    }
}

hsgd_status test_backend_create(hsgd_precision precision, int threads, hsgd_backend **out, hsgd_error *err)
{
    if (!test_backend_is_cuda()) {
        return hsgd_backend_cpu_create(precision, threads, out, err);
    }
    open_devices();
    return hsgd_devices_backend(devices, precision, out, err);
}

static const char *folder(const char *variable)
{
    const char *path = getenv(variable);

    if (path == NULL || path[0] == '\0') {
        print_message("skipped: %s names no folder\n", variable);
        return NULL;
    }
    return path;
}

const char *test_golden(void)
{
    return folder("HSGD_GOLDEN");
}
const char *test_data(void)
{
    return folder("HSGD_DATA");
}
