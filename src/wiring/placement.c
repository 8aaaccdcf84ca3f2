/* src/wiring/placement.c - see placement.h. */
#include "wiring/placement.h"
#include "base/cores.h"
#include "cpu/cpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the rule ---- */

static bool share_a_core(const cpu_set_t *a, const cpu_set_t *b)
{
    cpu_set_t both;

    CPU_AND(&both, a, b);
    return CPU_COUNT(&both) > 0;
}

/* Each core counts for the ranks that share it at least as often as they are, so shares never add up to more than it. */
static int threads_of(const hsgd_rank_cores *ranks, int count, int mine)
{
    const hsgd_rank_cores *own = &ranks[mine];
    int sharers = 0, limited = 0, granted = 0;

    if (own->asked > 0) {
        return own->asked;
    }
    for (int r = 0; r < count; r++) {
        sharers += r == mine || share_a_core(&ranks[r].cores, &own->cores);
        limited += ranks[r].quota > 0;
    }
    if (own->quota > 0) {
        granted = own->quota > limited ? own->quota / limited : 1;
    }
    return hsgd_cores_within(CPU_COUNT(&own->cores) / sharers, granted);
}

/* May this rank have cores of its own?  Then they are those from *first on, in number order. */
static bool has_own_cores(const hsgd_rank_cores *ranks, int count, int mine, int threads, int *first)
{
    const hsgd_rank_cores *own = &ranks[mine];
    const int cores = CPU_COUNT(&own->cores);
    int sharers = 0, place = 0;
    cpu_set_t all;

    CPU_ZERO(&all);
    for (int r = 0; r < count; r++) {
        CPU_OR(&all, &all, &ranks[r].cores);
    }
    if (own->quota > 0 && own->quota < CPU_COUNT(&all)) { /* a share of the node's time: let the system choose where */
        return false;
    }
    for (int r = 0; r < count; r++) {
        if (r == mine || share_a_core(&ranks[r].cores, &own->cores)) {
            if (!CPU_EQUAL(&ranks[r].cores, &own->cores)) {
                return false;
            }
            place = r == mine ? sharers : place;
            sharers++;
        }
    }
    *first = place * threads;
    return cores == sharers * threads;
}

void hsgd_placement_choose(const hsgd_rank_cores *ranks, int count, int mine, hsgd_placement *out)
{
    const hsgd_rank_cores *own = &ranks[mine];
    int first = 0, at = 0;

    out->threads = threads_of(ranks, count, mine);
    out->binding = own->environment ? HSGD_BINDING_ENVIRONMENT : HSGD_BINDING_NONE;
    out->cores = own->cores;
    if (own->environment || !has_own_cores(ranks, count, mine, out->threads, &first)) {
        return;
    }
    out->binding = HSGD_BINDING_CORES;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &own->cores)) {
            if (at < first || at >= first + out->threads) {
                CPU_CLR(core, &out->cores);
            }
            at++;
        }
    }
}

void hsgd_placement_total(const hsgd_rank_cores *ranks, int count, int *threads, int *cores)
{
    cpu_set_t all;
    int quota = 0;

    CPU_ZERO(&all);
    *threads = 0;
    for (int r = 0; r < count; r++) {
        CPU_OR(&all, &all, &ranks[r].cores);
        quota = quota == 0 || (ranks[r].quota > 0 && ranks[r].quota < quota) ? ranks[r].quota : quota;
        *threads += threads_of(ranks, count, r);
    }
    *cores = hsgd_cores_within(CPU_COUNT(&all), quota);
}

/* ---- finding it ---- */

static hsgd_rank_cores know_oneself(int asked)
{
    static const char *const variables[] = {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"};
    hsgd_rank_cores own = {.quota = hsgd_cores_own_quota(), .asked = asked};

    if (!hsgd_cpu_places(&own.cores) &&
        !hsgd_cores_of(0, &own.cores)) { /* then at least as many as there are, as far as their numbers reach */
        for (int core = 0; core < CPU_SETSIZE && core < sysconf(_SC_NPROCESSORS_ONLN); core++) {
            CPU_SET(core, &own.cores);
        }
    }
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        own.environment = own.environment || getenv(variables[i]) != NULL;
    }
    return own;
}

/* Where the deck's number overfills this node: a sentence. */
static void judge(const hsgd_comm *comm, const hsgd_rank_cores *ranks, int asked, char *text, size_t size)
{
    int threads = 0, cores = 0;

    hsgd_placement_total(ranks, comm->local_ranks, &threads, &cores);
    if (asked > 0 && threads > cores) {
        (void)snprintf(
            text, size,
            "device.threads = %d: the %d ranks of node %s have %d threads for the %d cores that they may use, "
            "which changes no result but takes longer; take device.threads = 0 or fewer ranks, or, where "
            "mpirun gave each rank one core, mpirun --bind-to none",
            asked, comm->local_ranks, comm->host, threads, cores);
    }
}

/* Of the ranks that have something to say the first is heard.  Collective. */
static hsgd_status share_warning(hsgd_comm *comm, hsgd_placement *placement, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t last = placement->warning[0] != '\0' ? comm->ranks - comm->rank : 0;

    HSGD_TRY(hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &last, err));
    if (last > 0) {
        HSGD_TRY(
            hsgd_comm_broadcast(comm, comm->ranks - (int)last, sizeof placement->warning, placement->warning, err));
    }
done:
    return st;
}

hsgd_status hsgd_placement_find(hsgd_comm *comm, int asked, hsgd_placement *out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_rank_cores own = know_oneself(asked);
    hsgd_rank_cores *node = NULL;
    void *block = NULL, *handle = NULL;
    bool leader = false;

    memset(out, 0, sizeof *out);
    HSGD_TRY(hsgd_comm_shared_alloc(comm, (size_t)comm->local_ranks * sizeof *node, &block, &leader, &handle, err));
    node = block;
    node[comm->local_rank] = own;
    HSGD_TRY(hsgd_comm_node_barrier(comm, err));
    hsgd_placement_choose(node, comm->local_ranks, comm->local_rank, out);
    judge(comm, node, asked, out->warning, sizeof out->warning);
    HSGD_TRY(share_warning(comm, out, err));
done:
    hsgd_comm_shared_free(comm, &handle);
    return st;
}

/* ---- in words ---- */

const char *hsgd_binding_name(hsgd_binding binding)
{
    static const char *const names[] = {"none", "core", "environment"};

    return names[binding];
}

void hsgd_cores_text(const cpu_set_t *cores, char *text, size_t size)
{
    size_t length = 0;

    text[0] = '\0';
    for (int first = 0; first < CPU_SETSIZE && length + 1 < size; first++) {
        int last = first;

        if (!CPU_ISSET(first, cores)) {
            continue;
        }
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, cores)) {
            last++;
        }
        length += (size_t)snprintf(text + length, size - length, last > first ? "%s%d-%d" : "%s%d",
                                   length > 0 ? "," : "", first, last);
        first = last;
    }
}
