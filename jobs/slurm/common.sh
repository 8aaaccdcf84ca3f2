# shellcheck shell=bash
# jobs/slurm/common.sh - what the batch scripts share: where ranks go, how a job is stopped, how it goes on.
#
# Read by the scripts beside it.  They find it in $HSGD_HOME/jobs/slurm, beside the script that was submitted, or in
# jobs/slurm under the folder of submission: Slurm runs a copy of the script from a folder of its own.  What they heed:
#
#   HSGD_BIN            the program; else hsgd-dist on PATH, else build/hsgd-dist of the sources that this file lies in
#   HSGD_DECK           the input deck; else the program's defaults, which are those of inputs/mnist.ini
#   HSGD_DATA           the folder of the images, unless the deck or a word says data.dir=...
#   HSGD_LAUNCHER       srun or mpirun; else srun where a trial shows that it can start the program's MPI
#   HSGD_REQUEUE        no: a stopped job ends with 75, and is submitted again by hand
#   HSGD_MOST_RESTARTS  how often a job is put back into the queue [20], so that one that cannot get on comes to an end
#   HSGD_PATIENCE       for how many seconds mpirun may go on without ranks [600; 0: for ever], see tend
#
# Slurm's warning before the time limit (--signal=B:USR1@180 in the scripts; with a limit below ten minutes ask for a
# shorter one) and a TERM (preemption) become USR1 to the launcher, which hands it to the ranks.  They save all within
# one block of samples and end with 75; the job goes back into the queue and later goes on to the same bits.  Any other
# exit code of the launcher is the job's: the program's, but 137 under srun where a rank fails alone and the others, who
# cannot go on without it, are killed; which it was stands in the log.  It is 6 where mpirun itself had to be ended.
set -euo pipefail

if [[ -n ${SLURM_ARRAY_JOB_ID:-} ]]; then # one task's own number may be that of the whole array
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
else
    job=${SLURM_JOB_ID:-}
fi
say() { echo "job ${job:-outside Slurm}: $*" >&2; }

sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=${HSGD_BIN:-$(command -v hsgd-dist || echo "$sources/build/hsgd-dist")}
patience=${HSGD_PATIENCE:-600}

export OPENBLAS_NUM_THREADS=1
export HDF5_USE_FILE_LOCKING=BEST_EFFORT # parallel file systems may have no locks
export SLURM_EXPORT_ENV=ALL # what is set here goes to the ranks also where sbatch --export gave less to the job

# Slurm's word on this job now, a line; empty where there is none.
job_line() { if [[ -n $job ]]; then scontrol --oneliner --details show job "$job" 2>/dev/null || true; fi; }

# What such a line on standard input says after $1=.
value_of() { sed -n "s/.*[[:space:]]$1=\([^ ]*\).*/\1/p"; }

facts=$(job_line) # that do not change while it runs: asked for once, since many jobs share one controller

# Slurm starts a script in /tmp on a node that cannot enter the job's folder: nothing there would be found again.
where=$(value_of WorkDir <<<"$facts")
if [[ $PWD == /tmp && ${where:-/tmp} != /tmp ]]; then
    say "$(hostname) cannot enter the job's folder $where: is it mounted there?"
    exit 5
fi

# The fewest CPUs that the job has on one of its nodes, out of "56,8" or "64(x2)".
fewest_cpus() {
    local list=${SLURM_JOB_CPUS_PER_NODE:-${SLURM_CPUS_ON_NODE:-$gpus}} one fewest=''
    for one in ${list//,/ }; do
        one=${one%%(*}
        if [[ -z $fewest ]] || ((one < fewest)); then fewest=$one; fi
    done
    echo "$fewest"
}

# The job's nodes in one line, each $1 times.
each_node_times() {
    scontrol show hostnames "$SLURM_JOB_NODELIST" |
        awk -v times="$1" '{ for (i = 0; i < times; i++) printf "%s%s", n++ ? "," : "", $0 }'
}

# (A deck that is missing is the program's to tell.)
deck_says() { [[ -n ${HSGD_DECK:-} ]] && grep -Eqs "^[[:space:]]*$1" "$HSGD_DECK"; }

# Are there GPUs to use?  Slurm's variables do not tell: a job submitted from inside another inherits that one's.
has_gpus() {
    if [[ " $* " == *" device.backend=cpu "* ]] || deck_says 'backend[[:space:]]*[=:][[:space:]]*cpu'; then return 1; fi
    [[ -z $facts || $facts =~ [[:space:]][A-Za-z_]*(GRES|Gres|GRES_IDX|TRES|TresPer[A-Za-z]+)=[^[:space:]]*gpu ]]
}

# The number of tasks by Slurm's own count, "16(x2),3": SLURM_NTASKS is the --ntasks of the script even where
# --ntasks-per-node asked for more.
count_tasks() {
    local list=${SLURM_TASKS_PER_NODE:-${SLURM_NTASKS:-}}
    list=${list//(x/*} list=${list//)/}
    if [[ -n $list ]]; then echo $((${list//,/+})); fi
}

# A rank for each GPU of the allocation, with its share of the cores; without GPUs, or where a word or the deck says
# backend=cpu, a rank for each of Slurm's tasks.  Every rank sees all GPUs of its node and takes that of its own number.
# Sets ranks, per_node (empty: Slurm's tasks as they are), threads, gpus, crowded and the words that tell the program.
place_ranks() {
    local nodes=${SLURM_JOB_NUM_NODES:-1} each total commas share name
    threads=${SLURM_CPUS_PER_TASK:-1} per_node='' words=() crowded=no
    ranks=$(count_tasks)
    if ! has_gpus "$@"; then
        for name in ${!SLURM_@}; do
            if [[ $name == *GPU* ]]; then unset "$name"; fi
        done
    fi
    gpus=${SLURM_GPUS_ON_NODE:-0} each=${SLURM_GPUS_PER_TASK:-}
    each=${each##*:} # "a100:1" names the kind as well
    if ((gpus == 0)) && [[ -n ${SLURM_JOB_GPUS:-} ]]; then # an older Slurm tells their numbers alone
        commas=${SLURM_JOB_GPUS//[^,]/}
        gpus=$((${#commas} + 1))
    fi
    if ((gpus > 0)); then
        total=${SLURM_GPUS:-$((gpus * nodes))} total=${total##*:}
        if [[ $each != 1 ]]; then # else Slurm's tasks are what is wanted, however they are spread
            if ((total != gpus * nodes)) || [[ -n $each && ${SLURM_TASKS_PER_NODE:-} == *,* ]]; then
                say "not each of $nodes nodes has $gpus GPUs; ask for as many on each: --gpus-per-node=N"
                exit 2
            fi
            # All ranks have as many threads: those that the node with the fewest cores has for each.
            share=$(($(fewest_cpus) / gpus))
            if ((total != ${ranks:-0} || share < threads)); then threads=$share; fi
            if ((share == 0)); then crowded=yes; fi
            ranks=$total per_node=$gpus
        fi
        # A GPU is there to be used: one that cannot be is an error, not a slow run.
        if ! deck_says 'backend[[:space:]]*[=:]'; then words+=(device.backend=cuda); fi
    fi
    threads=$((threads > 0 ? threads : 1))
    if ! deck_says 'threads[[:space:]]*[=:]'; then words+=("device.threads=$threads"); fi
}

# Can srun start the program's MPI?  Ranks that found each other tell the version once, those that did not once each.
srun_serves() {
    local nodes=${SLURM_JOB_NUM_NODES:-1} told="it has no PMIx"
    if [[ -z $job ]]; then return 1; fi
    if [[ $(srun --mpi=list 2>&1) == *pmix* ]] &&
        told=$(timeout 120 srun --quiet --mpi=pmix --overcommit --nodes="$nodes" --ntasks=$((nodes + 1)) \
            --cpus-per-task=1 "$program" --version 2>&1) && (($(grep -c '^hsgd-dist ' <<<"$told") == 1)); then
        return
    fi
    told=${told##*$'\n'}
    say "srun does not serve: ${told:-its trial said nothing}"
    return 1
}

# Sets launch, the command line in front of the program's.
choose_launcher() {
    local launcher=${HSGD_LAUNCHER:-}
    # What the job asked for is not for srun to read, neither here nor where mpirun starts a process on each node by it,
    # which must get all GPUs of the node, not one task's and not the whole job's number.
    unset SLURM_TRES_PER_TASK
    if ((gpus > 0)); then
        unset SLURM_GPUS SLURM_GPUS_PER_TASK SLURM_NTASKS_PER_GPU SLURM_GPU_BIND SLURM_GPUS_PER_SOCKET
    fi
    if [[ -z $launcher ]]; then launcher=$(srun_serves && echo srun || echo mpirun); fi
    case $launcher in
        mpirun) # has the hosts from Slurm, and without a layout the number of ranks and their places
            # It would bind a rank to one core; the program itself puts its threads on those that Slurm gave.
            launch=(mpirun --bind-to none)
            if [[ -n $per_node ]]; then # OVERSUBSCRIBE: Slurm's tasks, its slots, may be fewer
                launch+=(-np "$ranks" --map-by "ppr:$per_node:node:OVERSUBSCRIBE")
            fi
            ;;
        srun) # by itself it waits for the others where a rank is lost
            launch=(srun --mpi=pmix --kill-on-bad-exit=1 ${ranks:+--ntasks="$ranks"} --cpus-per-task="$threads")
            if [[ -n $per_node ]]; then
                launch+=(--ntasks-per-node="$per_node" --gpus-per-node="$per_node")
                if [[ $crowded == yes ]]; then launch+=(--overcommit); fi
                if [[ ${SLURM_JOB_CPUS_PER_NODE:-} == *,* ]]; then # else it puts more where there are more cores
                    launch+=(--distribution=arbitrary --nodelist="$(each_node_times "$per_node")")
                fi
            elif ((gpus > 0)); then
                launch+=(--gpus-per-task=1)
            fi
            # Where a task sees its own GPU alone, NCCL cannot reach the neighbours' memory.
            if ((gpus > 0)); then launch+=(--gpu-bind=none); fi
            ;;
        *)
            say "HSGD_LAUNCHER=$launcher: say srun or mpirun"
            exit 2
            ;;
    esac
    say "${ranks:-all} ranks by $launcher"
}

# Hand a request to stop to the launcher, if it is there; run tells it otherwise.
on_request() {
    say "asked to stop"
    asked=yes
    if [[ -n $pid ]]; then kill -USR1 "$pid" 2>/dev/null || true; fi
}

# End mpirun, process $1, where it goes on without ranks: when one was lost, that of Open MPI 4 sometimes waits for ever
# at its own end, and the job would last to its limit.  (Ranks on other nodes are seen as the srun that started them.)
# It gets RTMAX, which nobody else sends and it does not catch, so that run knows.  Ends by itself when its input does.
tend() {
    local idle=0
    trap '' USR1 TERM # which a whole job may get
    while read -r -t "$patience" || (($? > 128)); do
        # Nothing is known where ps fails, nor of one that waits for a disk (D).  A rank that has ended (Z) is none.
        if ps -o pid=,stat= -p "$1" --ppid "$1" |
            awk -v self="$1" '$1 == self { waits = $2 !~ /^[DZ]/; next } $2 !~ /^Z/ { ranks = 1 }
                              END { exit !waits || ranks }'; then
            idle=$((idle + 1))
        else
            idle=0
        fi
        if ((idle == 2)); then # at two looks in a row: it may just have begun
            say "mpirun goes on without ranks; ended, for there is nothing to wait for"
            kill -RTMAX "$1"
            break
        fi
    done
}

# Run the command line given; sets code, and how it stopped where that is 75.
run() {
    local second=0 last=0 tender=''
    (
        # USR1 until the launcher listens; PIPE for good: at its end Open MPI 4's no longer catches it, and one that
        # writes to a lost rank's socket then would die of it, with 141 and its files left behind.  Ranks don't inherit it.
        trap '' USR1 PIPE
        exec "$@"
    ) &
    pid=$!
    if [[ $1 == mpirun && $patience != 0 ]] && ps -o pid=,stat= -p $$ --ppid $$ &>/dev/null; then # not each ps can
        exec {tender}> >(tend "$pid") # (from here on a wait for all would wait for that one)
    fi
    how="with everything saved" code=127 # nothing is known of the launcher's end
    if [[ $asked == no ]]; then
        if wait "$pid"; then code=0; else code=$?; fi # a signal ends it early
    else
        kill -USR1 "$pid" 2>/dev/null || true
    fi
    while [[ $asked == yes ]] && kill -0 "$pid" 2>/dev/null; do
        sleep 1 &
        wait $! || true
        # Told again every 10 s: a launcher that had just begun did not hear.
        if ((++second % 10 == 0)); then kill -USR1 "$pid" 2>/dev/null || true; fi
    done
    wait "$pid" 2>/dev/null || last=$?
    if ((last != 127)); then code=$last; fi # 127: waited for before
    if [[ -n $tender ]]; then exec {tender}>&-; fi
    if ((code == 128 + 64)); then # tend's RTMAX
        code=6
        if [[ $asked == yes ]]; then code=75 how="and saved, as far as is known"; fi
    fi
    if ((code == 128 + 10)) && [[ $asked == yes ]]; then # USR1 came before the ranks listened
        code=75 how="before there was anything to save"
    fi
}

# Put a job that stopped back into the queue, if it may go there.
go_on() {
    local state count=${SLURM_RESTART_COUNT:-0} most=${HSGD_MOST_RESTARTS:-20}
    local by_hand="submit the same job again to go on"
    if [[ -z $job ]]; then return; fi
    state=$(job_line | value_of JobState)
    if [[ ${HSGD_REQUEUE:-yes} == no ]]; then
        say "stopped $how; $by_hand"
    elif [[ $state != RUNNING ]]; then # else a job that was cancelled would come back
        say "stopped $how, and ${state:-unknown to Slurm}; $by_hand"
    elif ((count >= most)); then
        say "stopped $how, for the last of $most restarts (HSGD_MOST_RESTARTS); $by_hand"
    else
        say "stopped $how; back into the queue, restart $((count + 1))"
        scontrol requeue "$job" || say "it could not go there; $by_hand"
    fi
}

# hsgd_job WORDS... -- WORDS...: the study of deck and words; the user's own, after --, come last and so decide.
hsgd_job() {
    local own=() end
    pid='' asked=no
    trap on_request USR1 TERM
    if [[ ! $patience =~ ^(0|[1-9][0-9]*)$ ]]; then
        say "HSGD_PATIENCE=$patience: say whole seconds, 0 for ever"
        exit 2
    fi
    if ! command -v "$program" >/dev/null; then
        say "no program at $program: build it (tools/build.sh), or let HSGD_BIN name it"
        exit 127
    fi
    while [[ $1 != -- ]]; do
        own+=("$1")
        shift
    done
    shift
    # For run.time_limit: an older Slurm does not tell.  (Of an unlimited job it says Unknown, which is no date.)
    end=$(value_of EndTime <<<"$facts")
    if [[ -z ${SLURM_JOB_END_TIME:-} ]] && end=$(date --date="${end:-Unknown}" +%s 2>/dev/null); then
        export SLURM_JOB_END_TIME=$end
    fi
    place_ranks "$@"
    choose_launcher
    # (An empty list is unset to a bash before 4.4.)
    run "${launch[@]}" "$program" ${HSGD_DECK:+"$HSGD_DECK"} ${own[@]+"${own[@]}"} ${words[@]+"${words[@]}"} \
        --restart "$@"
    if ((code == 75)); then go_on; fi
    exit "$code"
}
