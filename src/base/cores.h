/* src/base/cores.h - the processor cores that a process may use.  A core here is what the system numbers: where it shows
 * two hardware threads of a core, each counts. */
#pragma once
#include <sched.h>
#include <stdbool.h>

/* The cores that the process `pid` (0: this one) may run on; false where the system does not tell (*out: none).  Local. */
bool hsgd_cores_of(int pid, cpu_set_t *out);

/* How many of n cores one may count on: at most what the control group grants, at least one.  Local. */
int hsgd_cores_within(int n, int quota);

/* Cores' worth of time that this process's control groups grant it and the processes beside it, rounded down but at
 * least 1; 0: no limit, or none that can be read.  Both generations of control groups are known.
 * membership: "/proc/self/cgroup"; mounts: "/sys/fs/cgroup"; both else in tests.  Local. */
int hsgd_cores_quota(const char *membership, const char *mounts);
int hsgd_cores_own_quota(void);
