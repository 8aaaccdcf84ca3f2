#!/usr/bin/env bash
# sbatch --array=0-3 jobs/slurm/array.sh [section.key=value ...] - one study for each of many seeds or decks.
#
# A task of the array is a whole study (the deck's stages) in a folder of its own, $HSGD_OUTPUT/TASK-DECK-seed-SEED:
#
#   sbatch --array=1-10 jobs/slurm/array.sh                           # seeds 1 to 10: without a list, the task's number
#   HSGD_SEEDS='7 11 13' sbatch --array=0-2 jobs/slurm/array.sh       # listed: task 0 takes the first
#   HSGD_DECKS="$(ls decks/*.ini)" sbatch --array=0-7%2 jobs/slurm/array.sh run.stages=train    # two at a time
#
# With both lists, each deck is studied with each seed (task = deck * seeds + seed).  HSGD_OUTPUT [results/array] is the
# folder above all; names in a list are split by blanks and ends of lines.
#
# Partition, account and size belong to the site: sbatch --partition=... --ntasks=... jobs/slurm/array.sh
# On GPUs, one rank each:  sbatch --nodes=1 --ntasks=4 --cpus-per-task=8 --gpus-per-node=4 jobs/slurm/array.sh
#
# common.sh tells the variables (HSGD_BIN, HSGD_DECK, HSGD_DATA, HSGD_LAUNCHER, ...).  A job near its time limit or
# preempted saves all, goes back into the queue and later goes on; submitted again, it goes on too, or finds all done.
#
#SBATCH --job-name=hsgd-array
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --output=%x-%A_%a.log
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

number=${SLURM_ARRAY_TASK_ID:-}
decks=${HSGD_DECKS:-${HSGD_DECK:-}} seeds=${HSGD_SEEDS:-}
if [[ -z $number ]]; then
    say "no task of an array: sbatch --array=0-3 jobs/slurm/array.sh"
    exit 2
fi
if [[ " $*" == *" run.output="* ]]; then
    say "run.output would be one folder for all tasks; HSGD_OUTPUT names the folder above theirs"
    exit 2
fi
if [[ " $*" == *" run.seed="* && (-n $seeds || -z ${HSGD_DECKS:-}) ]]; then
    say "run.seed would be one seed for all tasks; HSGD_SEEDS lists theirs"
    exit 2
fi
read -r -a decks <<<"${decks//$'\n'/ }"
read -r -a seeds <<<"${seeds//$'\n'/ }"

name=$number own=()
if [[ -z ${HSGD_DECKS:-}${HSGD_SEEDS:-} ]]; then seeds=("$number") item=0; else item=$number; fi
each=$((${#seeds[@]} > 0 ? ${#seeds[@]} : 1))
if ((item >= each * (${#decks[@]} > 0 ? ${#decks[@]} : 1))); then
    say "task $number is past the end of HSGD_DECKS and HSGD_SEEDS, which are counted from 0"
    exit 2
fi
if ((${#decks[@]} > 0)); then
    HSGD_DECK=${decks[item / each]}
    name+=-$(basename "$HSGD_DECK" .ini)
fi
if ((${#seeds[@]} > 0)); then
    own+=("run.seed=${seeds[item % each]}")
    name+=-seed-${seeds[item % each]}
fi

hsgd_job ${own[@]+"${own[@]}"} run.output="${HSGD_OUTPUT:-results/array}/$name" -- "$@"
