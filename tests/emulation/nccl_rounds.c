/* tests/emulation/nccl_rounds.c - how the emulated NCCL carries out a collective when the stream comes to it: in rounds in
 * which each rank shows a part of its words in the common memory and takes what it wants of the others'. */
#include "nccl_internal.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void emulation_nccl_release(struct ncclComm *comm)
{
    if (atomic_fetch_sub(&comm->users, 1) == 1) {
        (void)munmap(comm->meeting, sizeof *comm->meeting);
        free(comm);
    }
}

static bool all_shown(const struct ncclComm *comm, uint64_t rounds)
{
    for (int r = 0; r < comm->ranks; r++) {
        if (atomic_load(&comm->meeting->members[r].shown) < rounds) {
            return false;
        }
    }
    return true;
}

static bool all_taken(const struct ncclComm *comm, uint64_t rounds)
{
    for (int r = 0; r < comm->ranks; r++) {
        if (atomic_load(&comm->meeting->members[r].taken) < rounds) {
            return false;
        }
    }
    return true;
}

static void add(ncclDataType_t type, size_t n, const char *part, char *sum)
{
    for (size_t i = 0; i < n; i++) {
        if (type == ncclFloat64) {
            double a, b;

            memcpy(&a, sum + 8 * i, 8);
            memcpy(&b, part + 8 * i, 8);
            a += b;
            memcpy(sum + 8 * i, &a, 8);
        } else {
            uint64_t a, b;

            memcpy(&a, sum + 8 * i, 8);
            memcpy(&b, part + 8 * i, 8);
            a += b;
            memcpy(sum + 8 * i, &a, 8);
        }
    }
}

/* Show this rank's next n words to the others. */
static void show(const work *w, size_t n)
{
    if (w->what != BROADCAST || w->root == w->comm->rank) {
        memcpy(w->comm->meeting->parts[w->comm->rank], w->send + 8 * w->done, 8 * n);
    }
}

/* Take from what all have shown the n words that this rank wants. */
static void take(const work *w, size_t n)
{
    const meeting *m = w->comm->meeting;

    if (w->what == GATHER) {
        for (int r = 0; r < w->comm->ranks; r++) {
            memcpy(w->receive + 8 * ((size_t)r * w->count + w->done), m->parts[r], 8 * n);
        }
    } else if (w->what == BROADCAST) {
        memcpy(w->receive + 8 * w->done, m->parts[w->root], 8 * n);
    } else if (w->root < 0 || w->root == w->comm->rank) {
        memcpy(w->receive + 8 * w->done, m->parts[0], 8 * n);
        for (int r = 1; r < w->comm->ranks; r++) {
            add(w->type, n, m->parts[r], w->receive + 8 * w->done);
        }
    }
}

int emulation_nccl_carry_on(void *argument)
{
    work *w = *(work **)argument;
    struct ncclComm *comm = w->comm;
    member *me = &comm->meeting->members[comm->rank];

    while (w->done < w->count && !atomic_load(&comm->aborted)) {
        const size_t left = w->count - w->done, n = left < CHUNK ? left : CHUNK;

        if (w->fault == ASYNC_ERROR) {
            atomic_store(&comm->state, ncclRemoteError);
        }
        if (w->fault != NO_FAULT || (!w->shown && !all_taken(comm, comm->round))) {
            (void)sched_yield();
            return 0;
        }
        if (!w->shown) {
            show(w, n);
            atomic_store(&me->shown, comm->round + 1);
            w->shown = true;
        }
        if (!all_shown(comm, comm->round + 1)) {
            (void)sched_yield();
            return 0;
        }
        take(w, n);
        atomic_store(&me->taken, ++comm->round);
        w->shown = false;
        w->done += n;
    }
    free(w);
    emulation_nccl_release(comm);
    return 1;
}
