/* src/cpu/bind.c - the workers' places on the cores; OpenMP keeps its threads, so one word to each of them lasts. */
#include "cpu/cpu.h"
#include <omp.h>
#include <stdlib.h>

/* The core of that number within the set, counted from 0. */
static int nth_core(const cpu_set_t *cores, int n)
{
    int core = 0;

    while (!CPU_ISSET(core, cores) || n-- > 0) {
        core++;
    }
    return core;
}

bool hsgd_cpu_bind(int threads, const cpu_set_t *cores)
{
    cpu_set_t before;
    int bound = 0;

    omp_set_dynamic(0); /* a smaller team would end threads, and their successors begin on this one's core */
    if (CPU_COUNT(cores) < threads || sched_getaffinity(0, sizeof before, &before) != 0) {
        return false;
    }
#pragma omp parallel num_threads(threads) reduction(+ : bound)
    {
        cpu_set_t own;

        CPU_ZERO(&own);
        CPU_SET(nth_core(cores, omp_get_thread_num()), &own);
        bound = sched_setaffinity(0, sizeof own, &own) == 0;
    }
    if (bound != threads) { /* refused, or OpenMP gives fewer threads, whose loops then wander */
        hsgd_cpu_unbind(threads, &before);
    }
    return bound == threads;
}

void hsgd_cpu_unbind(int threads, const cpu_set_t *cores)
{
#pragma omp parallel num_threads(threads)
    (void)sched_setaffinity(0, sizeof *cores, cores);
}

bool hsgd_cpu_places(cpu_set_t *out)
{
    const int places = omp_get_proc_bind() != omp_proc_bind_false ? omp_get_num_places() : 0;

    CPU_ZERO(out);
    for (int place = 0; place < places; place++) {
        const int count = omp_get_place_num_procs(place);
        int *ids = count > 0 ? calloc((size_t)count, sizeof *ids) : NULL;

        if (ids != NULL) {
            omp_get_place_proc_ids(place, ids);
        }
        for (int i = 0; ids != NULL && i < count; i++) {
            CPU_SET(ids[i], out);
        }
        free(ids);
    }
    return CPU_COUNT(out) > 0;
}
