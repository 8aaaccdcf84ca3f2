/* mpi/launch.c - see launch.h. */
#include "launch.h"
#include "base/cores.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The number for this node out of a list over all as srun writes it, "4" or "8(x3),5"; 0: there is none. */
static long slurms_ranks(const char *list, const char *node)
{
    long before = node != NULL ? strtol(node, NULL, 10) : 0;

    while (list != NULL && *list != '\0') {
        char *end;
        const long ranks = strtol(list, &end, 10);
        const long nodes = strncmp(end, "(x", 2) == 0 ? strtol(end + 2, &end, 10) : 1;

        if (before < nodes) {
            return ranks;
        }
        before -= nodes;
        list = strchr(end, ',');
        list = list != NULL ? list + 1 : NULL;
    }
    return 0;
}

/* The ranks of this node, as a launcher of MPI tells them to each of its processes; 0: it does not. */
static long launchers_ranks(void)
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

int hsgd_launch_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);

        if (value != NULL) {
            return (int)strtol(value, NULL, 10);
        }
    }
    return -1;
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
    const char *step = getenv("SLURM_STEP_TASKS_PER_NODE"), *cores = getenv("SLURM_CPUS_ON_NODE");
    long ranks = launchers_ranks();
    bool crowded = false;

    if (ranks == 0 && step != NULL) { /* slurmd's helper, the parent, has all cores of the node, the step maybe fewer */
        ranks = slurms_ranks(step, getenv("SLURM_NODEID"));
        crowded = cores != NULL && ranks > strtol(cores, NULL, 10);
    }
    if (crowded || hsgd_launch_is_crowded(ranks)) {
        (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    }
}
