#!/usr/bin/env bash
# sbatch jobs/slurm/train.sh [section.key=value ...] - train the network, evaluate it, certify its curvature.
#
# Submit it again to go on from the newest checkpoint, or to find all done.  spectrum.sh and landscape.sh study the
# weights it leaves.  Partition, account and size belong to the site: sbatch --partition=... --ntasks=... jobs/slurm/...
#
# On GPUs, one rank each:  sbatch --nodes=1 --ntasks=4 --cpus-per-task=8 --gpus-per-node=4 jobs/slurm/train.sh
#
#   HSGD_BIN   the program; else hsgd-dist on PATH, else build/hsgd-dist under the folder of submission
#   HSGD_DECK  the input deck; else the program's defaults, which are those of inputs/mnist.ini
#   HSGD_DATA  the folder of the images, unless the deck or a word says data.dir=...
#
#SBATCH --job-name=hsgd-train
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}" # relative paths of deck and results are meant from here
program=${HSGD_BIN:-$(command -v hsgd-dist || echo "$PWD/build/hsgd-dist")}

# Threads of a rank need the cores that Slurm gave it, not the single one that mpirun would bind it to: the program itself
# puts each of them on one of these.
export OMPI_MCA_hwloc_base_binding_policy=none OPENBLAS_NUM_THREADS=1
export HDF5_USE_FILE_LOCKING=BEST_EFFORT # parallel file systems may have no locks

# A rank for each GPU of the allocation, with its share of the cores; without GPUs, or where a word or the deck says
# backend=cpu, a rank for each of Slurm's tasks.  Every rank sees all GPUs of its node and takes that of its own number.
deck_says() { [[ -n ${HSGD_DECK:-} ]] && grep -Eq "^[[:space:]]*$1" "$HSGD_DECK"; }
gpus=${SLURM_GPUS_ON_NODE:-0} nodes=${SLURM_JOB_NUM_NODES:-1} threads=${SLURM_CPUS_PER_TASK:-1}
each=${SLURM_GPUS_PER_TASK:-} each=${each##*:} # "a100:1" names the kind as well
layout=() words=()
if ((gpus == 0)) && [[ -n ${SLURM_JOB_GPUS:-} ]]; then # an older Slurm tells their numbers alone
    commas=${SLURM_JOB_GPUS//[^,]/}
    gpus=$((${#commas} + 1))
fi
if [[ " $* " == *" device.backend=cpu "* ]] || deck_says 'backend[[:space:]]*[=:][[:space:]]*cpu'; then gpus=0; fi
if ((gpus > 0)); then
    total=${SLURM_GPUS:-$((gpus * nodes))} total=${total##*:}
    if [[ $each != 1 ]]; then # else Slurm's tasks are what is wanted, however they are spread
        if ((total != gpus * nodes)) || [[ -n $each && ${SLURM_TASKS_PER_NODE:-} == *,* ]]; then
            echo "train.sh: not each of $nodes nodes has $gpus GPUs; ask for as many on each: --gpus-per-node=N" >&2
            exit 2
        fi
        layout=(-np "$total" --map-by "ppr:$gpus:node:OVERSUBSCRIBE") # of slots: Slurm's tasks may be fewer
        if ((total != ${SLURM_NTASKS:-0})); then threads=$((${SLURM_CPUS_ON_NODE:-$gpus} / gpus)); fi
    fi
    # A GPU is there to be used: one that cannot be is an error, not a slow run.
    if ! deck_says 'backend[[:space:]]*[=:]'; then words+=(device.backend=cuda); fi
    # mpirun starts one process of its own on each node by srun, which must get all GPUs of the node, not one task's
    # and not the whole job's number.
    unset SLURM_GPUS SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK SLURM_NTASKS_PER_GPU SLURM_GPU_BIND SLURM_GPUS_PER_SOCKET
fi
if ! deck_says 'threads[[:space:]]*[=:]'; then words+=("device.threads=$((threads > 0 ? threads : 1))"); fi

# mpirun takes the hosts from Slurm, and without a layout the number of ranks and their places.  (An empty list is
# unset to a bash before 4.4.)
exec mpirun ${layout[@]+"${layout[@]}"} "$program" ${HSGD_DECK:+"$HSGD_DECK"} run.stages="train evaluate verify" \
    ${words[@]+"${words[@]}"} --restart "$@"
