#!/usr/bin/env bash
# sbatch jobs/slurm/spectrum.sh [section.key=value ...] - eigenvalues, spectral density and trace of the Hessian.
#
# It studies weights.h5 in run.output, which train.sh leaves: sbatch --dependency=afterok:JOB jobs/slurm/spectrum.sh
# Submit it again to go on, or to find all done.
# Partition, account and size belong to the site: sbatch --partition=... --ntasks=... jobs/slurm/spectrum.sh
#
#   HSGD_BIN   the program; else hsgd-dist on PATH, else build/hsgd-dist under the folder of submission
#   HSGD_DECK  the input deck; else the program's defaults, which are those of inputs/mnist.ini
#   HSGD_DATA  the folder of the images, unless the deck or a word says data.dir=...
#
#SBATCH --job-name=hsgd-spectrum
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}" # relative paths of deck and results are meant from here
program=${HSGD_BIN:-$(command -v hsgd-dist || echo "$PWD/build/hsgd-dist")}

# Threads of a rank need the cores that Slurm gave it, not the single one that mpirun would bind it to.
export OMPI_MCA_hwloc_base_binding_policy=none OPENBLAS_NUM_THREADS=1
export HDF5_USE_FILE_LOCKING=BEST_EFFORT # parallel file systems may have no locks

# A rank has the threads that Slurm gave it cores for, unless the deck or a word says otherwise.
threads=device.threads=${SLURM_CPUS_PER_TASK:-1}
if [[ -n ${HSGD_DECK:-} ]] && grep -q '^[[:space:]]*threads[[:space:]]*[=:]' "$HSGD_DECK"; then
    threads=
fi

# mpirun takes the number of ranks and their places from Slurm.
exec mpirun "$program" ${HSGD_DECK:+"$HSGD_DECK"} run.stages="verify eigen density trace" \
    ${threads:+"$threads"} --restart "$@"
