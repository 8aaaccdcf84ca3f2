#!/usr/bin/env bash
# bash jobs/slurm/pipeline.sh [--SBATCH-OPTION=... ...] [section.key=value ...] - three jobs, one after the other.
#
# Submits train.sh, spectrum.sh and landscape.sh, each to begin when the one before has ended well, and prints a line
# for each, "NUMBER SCRIPT".  Where one fails, those after it are cancelled; one that goes back into the queue is waited
# for.
# Options (--partition=..., --ntasks=...; an option and its value in one word) and words go to all three, as do the
# variables that common.sh tells.  Nothing is computed here: run it where jobs are submitted from.
set -euo pipefail

folder=$(cd "$(dirname "$0")" && pwd)
options=() words=() jobs=()
for word in "$@"; do
    if [[ $word == -* ]]; then options+=("$word"); else words+=("$word"); fi
done

# All or none: half a chain would be half a study.
give_up() {
    echo "pipeline.sh: $1 was not submitted; what was is cancelled" >&2
    if ((${#jobs[@]} > 0)); then scancel "${jobs[@]}"; fi
    exit 1
}

for script in train.sh spectrum.sh landscape.sh; do
    after=()
    if ((${#jobs[@]} > 0)); then after=(--dependency="afterok:${jobs[-1]}" --kill-on-invalid-dep=yes); fi
    job=$(sbatch --parsable ${options[@]+"${options[@]}"} ${after[@]+"${after[@]}"} "$folder/$script" \
        ${words[@]+"${words[@]}"}) || give_up "$script"
    jobs+=("${job%%;*}") # NUMBER;CLUSTER where there are several clusters
    echo "${jobs[-1]} $script"
done
