/* mpi/launch.c - see launch.h. */
#include "launch.h"
#include "base/cores.h"
#include <stdlib.h>
#include <unistd.h>

/* The ranks of this node, as the launcher tells them to each of its processes; 0: it does not. */
static long ranks_of_node(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);

        if (value != NULL) {
            return strtol(value, NULL, 10);
        }
    }
    return 0;
}

bool hsgd_launch_is_crowded(long ranks)
{
    cpu_set_t own, launcher;

    if (!hsgd_cores_of(0, &own)) {
        return false;
    }
    /* This rank may be bound to a core of its own; the launcher, its parent, has those of all. */
    (void)hsgd_cores_of(getppid(), &launcher);
    CPU_OR(&own, &own, &launcher);
    return ranks > hsgd_cores_within(CPU_COUNT(&own), hsgd_cores_own_quota());
}

void hsgd_launch_prepare(void)
{
    if (hsgd_launch_is_crowded(ranks_of_node())) {
        (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    }
}
