#!/usr/bin/env bash
# tests/slurm-local.sh start|stop|env FOLDER - a one-node Slurm of one's own, to try the batch scripts on.
#
#   tests/slurm-local.sh start /tmp/slurm && eval "$(tests/slurm-local.sh env /tmp/slurm)"
#   sbatch --wait jobs/slurm/train.sh
#   tests/slurm-local.sh stop /tmp/slurm
#
# All it writes is in FOLDER; it needs root, slurm-wlm and munge, but no systemd, cgroups or accounting, and listens on
# the loopback only.  The node pretends to have 8 CPUs, so that --ntasks=8 fits any machine.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "slurm-local: $*" >&2
    exit 1
}

# Wait up to 30 s until the command given succeeds.
wait_for() {
    local tenths
    for ((tenths = 0; tenths < 300; tenths++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    return 1
}

# Has no process of this machine the TCP port $1 open?
port_is_free() {
    ! awk -v port=":$(printf '%04X' "$1")" '$2 ~ port "$" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6
}

# The first of two consecutive free ports.
two_free_ports() {
    local port
    for ((port = 26000; port < 32000; port += 2)); do
        if port_is_free "$port" && port_is_free $((port + 1)); then
            echo "$port"
            return 0
        fi
    done
    return 1
}

write_configuration() {
    local port host
    port=$(two_free_ports) || fail "no free port"
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
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
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
NodeName=here NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=8 State=UNKNOWN
PartitionName=test Nodes=here Default=YES MaxTime=INFINITE State=UP
EOF
}

node_is_up() { [[ $(sinfo --noheader --format=%T) == idle ]]; }

start() {
    local tool
    for tool in munged slurmctld slurmd sbatch; do
        command -v "$tool" >/dev/null || fail "$tool is missing; install slurm-wlm and munge"
    done
    (($(id -u) == 0)) || fail "must be started as root"
    ((${#folder} < 90)) || fail "$folder: take a shorter path, a socket's name is limited to 107 bytes"
    mkdir -p "$folder/state" "$folder/spool"
    chmod 0755 "$folder"
    write_configuration
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge.pid" \
        --log-file="$folder/munge.log" --seed-file="$folder/munge.seed" || fail "munged: see $folder/munge.log"
    wait_for test -S "$folder/munge.socket" || fail "munged made no socket: see $folder/munge.log"
    slurmctld -i || fail "slurmctld: see $folder/slurmctld.log"
    wait_for test -s "$folder/slurmctld.pid" || fail "slurmctld did not start: see $folder/slurmctld.log"
    slurmd -N here || fail "slurmd: see $folder/slurmd.log"
    wait_for node_is_up || fail "the node did not come up: see $folder/slurmctld.log and $folder/slurmd.log"
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

queue_is_empty() { [[ -z $(squeue --noheader) ]]; }

stop() {
    if [[ -s $folder/slurmctld.pid ]]; then
        squeue --noheader --format=%A | xargs --no-run-if-empty scancel --quiet || true
        wait_for queue_is_empty || true
    fi
    end slurmd "$folder/slurmd.pid"
    end slurmctld "$folder/slurmctld.pid"
    end munged "$folder/munge.pid"
}

# Open MPI believes the 8 CPUs that Slurm pretends to have; the program sees by itself that its ranks must yield.
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
