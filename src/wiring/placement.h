/* src/wiring/placement.h - how many threads a rank has and which cores they run on, so that the ranks of a node share its
 * cores and never one core while another is free. */
#pragma once
#include "base/comm.h"
#include <sched.h>

/* What a rank knows of itself before the ranks of its node have met. */
typedef struct {
    cpu_set_t cores;  /* that it may run on: the launcher's and the batch system's binding */
    int quota;        /* cores' worth of time that the ranks of the node have together; 0: no limit */
    int asked;        /* threads that the deck names; 0: none */
    bool environment; /* OpenMP's own variables say where threads run */
} hsgd_rank_cores;

typedef enum {
    HSGD_BINDING_NONE,       /* the system moves the threads over `cores` */
    HSGD_BINDING_CORES,      /* each thread has one of `cores` to itself */
    HSGD_BINDING_ENVIRONMENT /* as OpenMP's variables say */
} hsgd_binding;

typedef struct {
    int threads; /* of this rank */
    hsgd_binding binding;
    cpu_set_t cores;   /* that its threads use: where they are bound as many as threads */
    char warning[384]; /* "", or a sentence: a node has more threads than cores; the same on all ranks */
} hsgd_placement;

/* What rank `mine` of a node's `count` ranks gets; the warning is left alone.
 * Threads: those asked for; else its cores over the ranks that share any of them, and no more than its share of the
 * quota, but one at least: so the node's threads are no more than its cores, unless its ranks are.
 * Bound: where the ranks that share its cores have the same cores and these fall to them evenly, as many as threads, it
 * has a part of its own; else the system moves threads better than we can.  Local. */
void hsgd_placement_choose(const hsgd_rank_cores *ranks, int count, int mine, hsgd_placement *out);

/* Threads and cores of all these ranks together.  Local. */
void hsgd_placement_total(const hsgd_rank_cores *ranks, int count, int *threads, int *cores);

/* Find this rank's placement for device.threads = asked; nothing is bound yet.  Collective.
 * Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_placement_find(hsgd_comm *comm, int asked, hsgd_placement *out, hsgd_error *err);

/* "none", "core" or "environment".  Local. */
const char *hsgd_binding_name(hsgd_binding binding);

/* The cores as "0-3,8" into text, cut to its room.  Local. */
void hsgd_cores_text(const cpu_set_t *cores, char *text, size_t size);
