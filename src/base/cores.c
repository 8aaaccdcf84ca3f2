/* src/base/cores.c - see cores.h. */
#include "base/cores.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 1024, TEXT = 64 };

bool hsgd_cores_of(int pid, cpu_set_t *out)
{
    CPU_ZERO(out);
    return sched_getaffinity(pid, sizeof *out, out) == 0; /* fails beyond 1024 cores: the caller then does without */
}

int hsgd_cores_within(int n, int quota)
{
    const int granted = quota > 0 && quota < n ? quota : n;

    return granted > 1 ? granted : 1;
}

/* The first line of the file folder/name; false where there is none. */
static bool read_line(const char *folder, const char *name, char text[TEXT])
{
    char path[2 * NAME];
    FILE *file = NULL;
    bool found = false;

    (void)snprintf(path, sizeof path, "%.1900s/%.100s", folder, name);
    file = fopen(path, "r");
    if (file != NULL) {
        found = fgets(text, TEXT, file) != NULL;
        (void)fclose(file);
    }
    return found;
}

/* Cores that one group's own limit allows; 0: it has none.  The first generation tells time and period in two files, the
 * second in one line "TIME PERIOD", or "max PERIOD". */
static int limit_of(const char *folder, bool first_generation)
{
    char text[TEXT] = "", length[TEXT] = "";
    char *end = text;
    long long time = 0, period = 0;

    if (first_generation) {
        if (read_line(folder, "cpu.cfs_quota_us", text) && read_line(folder, "cpu.cfs_period_us", length)) {
            time = strtoll(text, NULL, 10);
            period = strtoll(length, NULL, 10);
        }
    } else if (read_line(folder, "cpu.max", text)) {
        time = strtoll(text, &end, 10);
        period = strtoll(end, NULL, 10);
    }
    if (time <= 0 || period <= 0) {
        return 0;
    }
    return time < period ? 1 : (int)(time / period);
}

static int tighter(int a, int b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* The tightest limit of the group `path` below `mount` and of those around it.  In a container the path may be the
 * host's, of which only the root is to be seen here: so a missing group is no end. */
static int limit_up_from(const char *mount, const char *path, bool first_generation)
{
    char folder[NAME];
    const size_t root = strlen(mount);
    int limit = 0;

    if (snprintf(folder, sizeof folder, "%s%s", mount, path) >= (int)sizeof folder) {
        return 0;
    }
    for (;;) {
        char *slash = NULL;

        limit = tighter(limit, limit_of(folder, first_generation));
        slash = strrchr(folder, '/');
        if (slash == NULL || slash < folder + root) {
            return limit;
        }
        *slash = '\0';
    }
}

/* Is `cpu` one of the names, separated by commas? */
static bool names_cpu(const char *names)
{
    for (const char *at = names; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strcspn(at, ",") == 3 && strncmp(at, "cpu", 3) == 0) {
            return true;
        }
    }
    return false;
}

int hsgd_cores_quota(const char *membership, const char *mounts)
{
    FILE *file = fopen(membership, "r");
    char line[NAME], mount[NAME];
    int limit = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) { /* NUMBER:CONTROLLERS:PATH */
        char *names = strchr(line, ':'), *path = names != NULL ? strchr(names + 1, ':') : NULL;

        if (path == NULL) {
            continue;
        }
        *path++ = '\0';
        names++;
        path[strcspn(path, "\n")] = '\0';
        if (names[0] == '\0') { /* the second generation has no names */
            limit = tighter(limit, limit_up_from(mounts, path, false));
        } else if (names_cpu(names)) {
            (void)snprintf(mount, sizeof mount, "%.1000s/cpu", mounts);
            limit = tighter(limit, limit_up_from(mount, path, true));
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return limit;
}

int hsgd_cores_own_quota(void)
{
    return hsgd_cores_quota("/proc/self/cgroup", "/sys/fs/cgroup");
}
