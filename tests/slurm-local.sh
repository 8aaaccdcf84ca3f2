#!/usr/bin/env bash
# tests/slurm-local.sh start|stop|env FOLDER - a Slurm of one's own on this machine, to try the batch scripts on.
#
#   tests/slurm-local.sh start /tmp/slurm && eval "$(tests/slurm-local.sh env /tmp/slurm)"
#   sbatch --wait jobs/slurm/train.sh
#   tests/slurm-local.sh stop /tmp/slurm
#
# All it writes is in FOLDER; it needs root, slurm-wlm and munge, but no systemd, cgroups or accounting, and listens on
# the loopback only.  The node pretends to have 32 CPUs, so that several jobs of --ntasks=8 fit any machine.  A second
# one, of two CPUs, serves the partitions spare and urgent: a job in urgent takes them from one in spare, which has 30 s
# to end.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "slurm-local: $*" >&2
    exit 1
}

# Wait up to 30 s until the command given succeeds.
wait_for() {
    local end=$((SECONDS + 30))
    while ((SECONDS < end)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    return 1
}

# Has no process of this machine the TCP port $1 open?
port_is_free() {
    ! awk -v port=":$(printf '%04X' "$1")" '$2 ~ port "$" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6
}

# The first of three consecutive free ports, from a place of this process on: another may be looking as well.
three_free_ports() {
    local port try
    for ((try = 0; try < 1000; try++)); do
        port=$((26000 + ($$ + try) % 1900 * 3))
        if port_is_free "$port" && port_is_free $((port + 1)) && port_is_free $((port + 2)); then
            echo "$port"
            return 0
        fi
    done
    return 1
}

write_configuration() {
    local port host
    port=$(three_free_ports) || fail "no free port"
    host=$(hostname -s)
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    echo "CgroupMountpoint=/sys/fs/cgroup" >"$folder/cgroup.conf"
    cat >"$folder/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
# The CPUs named below count, not the machine's.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=5
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=here NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=32 State=UNKNOWN
NodeName=spare NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 State=UNKNOWN
PartitionName=test Nodes=here Default=YES MaxTime=INFINITE State=UP PreemptMode=OFF
PartitionName=spare Nodes=spare MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=spare MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
EOF
}

nodes_are_up() { [[ $(sinfo --noheader --Node --partition=test,spare --format=%T | sort -u) == idle ]]; }

start() {
    local tool node
    for tool in munged slurmctld slurmd sbatch; do
        command -v "$tool" >/dev/null || fail "$tool is missing; install slurm-wlm and munge"
    done
    (($(id -u) == 0)) || fail "must be started as root"
    ((${#folder} < 90)) || fail "$folder: take a shorter path, a socket's name is limited to 107 bytes"
    mkdir -p "$folder/state"
    chmod 0755 "$folder"
    write_configuration
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge.pid" \
        --log-file="$folder/munge.log" --seed-file="$folder/munge.seed" || fail "munged: see $folder/munge.log"
    wait_for test -S "$folder/munge.socket" || fail "munged made no socket: see $folder/munge.log"
    slurmctld -i || fail "slurmctld: see $folder/slurmctld.log"
    wait_for test -s "$folder/slurmctld.pid" || fail "slurmctld did not start: see $folder/slurmctld.log"
    for node in here spare; do
        slurmd -N "$node" || fail "slurmd: see $folder/slurmd-$node.log"
    done
    wait_for nodes_are_up || fail "the nodes did not come up: see $folder/slurmctld.log and $folder/slurmd-*.log"
}

# End the daemon $1 by its pid file $2, after a look that the number still belongs to it.
end() {
    local pid
    [[ -s $2 ]] || return 0
    pid=$(<"$2")
    if [[ $(readlink "/proc/$pid/exe") != */"$1"* ]]; then return 0; fi
    kill "$pid"
    wait_for test ! -d "/proc/$pid" || kill -KILL "$pid"
}

# End what is left of jobs, where the daemons were ended before it.
end_jobs() {
    local entry
    for entry in /proc/[0-9]*; do
        if grep -qzx "SLURM_CONF=$folder/slurm.conf" "$entry/environ" 2>/dev/null &&
            { grep -qz '^SLURM_JOB_ID=' "$entry/environ" || [[ $(readlink "$entry/exe") == */slurmstepd* ]]; }; then
            kill -KILL "${entry#/proc/}" || true
        fi
    done
}

# (A daemon that is gone keeps its clients waiting.)
queue_is_empty() { [[ -z $(timeout 10 squeue --noheader) ]]; }

stop() {
    if [[ -s $folder/slurmctld.pid ]]; then
        timeout 10 squeue --noheader --format=%A | xargs --no-run-if-empty timeout 10 scancel --quiet || true
        wait_for queue_is_empty || true
    fi
    end slurmd "$folder/slurmd-here.pid"
    end slurmd "$folder/slurmd-spare.pid"
    end slurmctld "$folder/slurmctld.pid"
    end munged "$folder/munge.pid"
    end_jobs
}

# Open MPI believes the CPUs that Slurm pretends to have; the program sees by itself that its ranks must yield.
environment() {
    echo "export SLURM_CONF=$folder/slurm.conf"
    echo "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
}

if (($# != 2)); then
    sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
folder=$(realpath -m "$2")
export SLURM_CONF=$folder/slurm.conf
case $1 in
    start) start ;;
    stop) stop ;;
    env) environment ;;
    *) fail "unknown command '$1': start, stop or env" ;;
esac
