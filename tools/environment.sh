# shellcheck shell=bash
# tools/environment.sh - source it: what Open MPI and BLAS need to be told on a workstation or small machine.
# A variable that is already set is left alone.  Under a batch system's allocation do not source it.

# Open MPI refuses to run as root unless told twice.
if (($(id -u) == 0)); then
    export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
    export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
fi
# More ranks than cores: allowed, and a rank that waits yields its core (spinning is a hundred times slower there).
# What the launcher reads is PRTE_... in Open MPI 5.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
# Ranks are not tied to one core each: their threads need more, and so does more than one job at a time.
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"
# LAPACK solves small problems on one rank; threads of its own would only take cores from the program's.
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
# File systems without locks (many parallel ones) are fine: a results folder has one writer.
export HDF5_USE_FILE_LOCKING="${HDF5_USE_FILE_LOCKING:-BEST_EFFORT}"
