/* mpi/launch.h - what has to be settled before MPI is initialised. */
#pragma once
#include <stdbool.h>

/* Where the launch put more ranks on this node than it has cores for them, see to it that a waiting rank yields its core:
 * one that spins keeps it from the rank it waits for, and a step then takes ten times as long.  Open MPI knows by itself
 * where mpirun counted the cores, but not where a batch system, a host list or a container's limit says something else,
 * nor where srun started the ranks.
 * A choice of the user's stands ($OMPI_MCA_mpi_yield_when_idle, mpirun --mca).  Elsewhere ranks spin: next to another
 * job, one that yields gets its core back only after that one's turn.
 * Before MPI_Init.  Local. */
void hsgd_launch_prepare(void);

/* This process's rank, as the launcher tells it before MPI is up; -1: it tells none.  Local. */
int hsgd_launch_rank(void);

/* Are `ranks` of this node more than the cores that they may use?  Local. */
bool hsgd_launch_is_crowded(long ranks);
