/* tests/support.c - see support.h. */
#include "support.h"
#include <stdlib.h>
#ifdef HSGD_MPI
#include "comm_mpi.h"
#endif

static hsgd_comm *launch;

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
        hsgd_comm_destroy(&launch);
    }
    return all != 0;
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
