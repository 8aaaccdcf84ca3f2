#!/usr/bin/env bash
# sbatch jobs/slurm/spectrum.sh [section.key=value ...] - eigenvalues, spectral density and trace of the Hessian.
#
# It studies weights.h5 in run.output, which train.sh leaves: sbatch --dependency=afterok:JOB jobs/slurm/spectrum.sh
# Partition, account and size belong to the site: sbatch --partition=... --ntasks=... jobs/slurm/spectrum.sh
# On GPUs, one rank each:  sbatch --nodes=1 --ntasks=4 --cpus-per-task=8 --gpus-per-node=4 jobs/slurm/spectrum.sh
#
# common.sh tells the variables (HSGD_BIN, HSGD_DECK, HSGD_DATA, HSGD_LAUNCHER, ...).  A job near its time limit or
# preempted saves all, goes back into the queue and later goes on; submitted again, it goes on too, or finds all done.
#
#SBATCH --job-name=hsgd-spectrum
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -euo pipefail

# Slurm runs a copy of this file: common.sh lies beside the one that was submitted.
job=$(scontrol --oneliner show job "${SLURM_JOB_ID:-0}" 2>/dev/null) || true
submitted=$(sed -n 's|.* Command=\(/[^ ]*\)/.*|\1|p;q' <<<"$job")
for folder in "${HSGD_HOME:+$HSGD_HOME/jobs/slurm}" "$(dirname "$0")" "$submitted" "${SLURM_SUBMIT_DIR:-.}/jobs/slurm"; do
    if [[ -r $folder/common.sh ]]; then break; fi
done
if [[ ! -r $folder/common.sh ]]; then
    echo "common.sh was not found: let HSGD_HOME name the folder that has jobs/slurm" >&2
    exit 2
fi
# shellcheck source=jobs/slurm/common.sh
. "$folder/common.sh"

hsgd_job run.stages="verify eigen density trace" -- "$@"
