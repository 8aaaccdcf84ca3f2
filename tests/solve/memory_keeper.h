/* tests/solve/memory_keeper.h - a keeper in memory, and an operator, that stop the work at a point of the test's choice. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include "curvature/linop.h"
#include "solve/snapshot.h"
#include "support.h"

typedef struct {
    hsgd_keeper keeper;
    hsgd_snapshot kept;
    bool holds;
    int keeps;   /* calls of keep so far */
    int stop_at; /* the call of keep, counted from 1, that tells of a stop; 0: none */
    bool quiet;  /* nothing is due: a state is kept only by who is stopped */
} memory_keeper;

static inline hsgd_status memory_due(void *context, bool *due, hsgd_error *err)
{
    const memory_keeper *k = context;

    (void)err;
    *due = !k->quiet;
    return HSGD_OK;
}

/* A deep copy: what the solver does to its state later must not reach it. */
static inline hsgd_status memory_copy(const hsgd_snapshot *from, hsgd_snapshot *to, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    *to = (hsgd_snapshot){.integers = from->integers, .reals = from->reals};
    to->integer = malloc((size_t)(from->integers + 1) * sizeof *to->integer);
    to->real = malloc((size_t)(from->reals + 1) * sizeof *to->real);
    assert_true(to->integer != NULL && to->real != NULL);
    memcpy(to->integer, from->integer, (size_t)from->integers * sizeof *to->integer);
    memcpy(to->real, from->real, (size_t)from->reals * sizeof *to->real);
    if (from->vectors != NULL) {
        HSGD_TRY(hsgd_vector_clone(from->vectors, &to->vectors, err));
    }
done:
    return st;
}

/* A state is written by all ranks together: each must hold the same numbers. */
static inline hsgd_status memory_compare(const hsgd_snapshot *x, hsgd_error *err)
{
    const size_t bytes = (size_t)x->reals * sizeof *x->real;
    double *first = malloc(bytes + 1);
    int64_t different = 0;
    hsgd_status st = HSGD_OK;

    assert_non_null(first);
    memcpy(first, x->real, bytes);
    if (x->vectors != NULL) {
        HSGD_TRY(hsgd_comm_broadcast(x->vectors->space->comm, 0, bytes, first, err));
        different = memcmp(first, x->real, bytes) != 0;
        HSGD_TRY(hsgd_comm_max(x->vectors->space->comm, HSGD_TYPE_I64, 1, &different, err)); /* so that all fail */
    }
    assert_int_equal(different, 0);
done:
    free(first);
    return st;
}

static inline hsgd_status memory_keep(void *context, const hsgd_snapshot *snapshot, hsgd_error *err)
{
    memory_keeper *k = context;
    hsgd_status st = HSGD_OK;

    hsgd_snapshot_clear(&k->kept);
    HSGD_TRY(memory_copy(snapshot, &k->kept, err));
    HSGD_TRY(memory_compare(&k->kept, err));
    k->holds = true;
    k->keeps++;
done:
    return st == HSGD_OK && k->keeps == k->stop_at ? HSGD_STOPPED : st;
}

/* The vectors kept, over the ranks of `space`. */
static inline hsgd_status memory_move(const hsgd_vector *kept, const hsgd_space *space, hsgd_vector **out,
                                      hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *full = malloc((size_t)(kept->columns * space->n + 1) * sizeof *full);

    assert_non_null(full);
    HSGD_TRY(hsgd_vector_gather(kept, full, err));
    HSGD_TRY(hsgd_vector_create(space, kept->columns, out, err));
    HSGD_TRY(hsgd_vector_set_full(*out, full, err));
done:
    free(full);
    return st;
}

static inline hsgd_status memory_recall(void *context, const hsgd_space *space, hsgd_snapshot *snapshot, bool *found,
                                        hsgd_error *err)
{
    const memory_keeper *k = context;
    hsgd_status st = HSGD_OK;

    *found = k->holds;
    *snapshot = (hsgd_snapshot){0};
    HSGD_TRY(k->holds ? memory_copy(&k->kept, snapshot, err) : HSGD_OK);
    if (snapshot->vectors != NULL && snapshot->vectors->space != space) {
        hsgd_vector_destroy(&snapshot->vectors);
        HSGD_TRY(memory_move(k->kept.vectors, space, &snapshot->vectors, err));
    }
done:
    return st;
}

static inline void memory_keeper_create(memory_keeper *k, int stop_at)
{
    *k = (memory_keeper){.keeper = {.due = memory_due, .keep = memory_keep, .recall = memory_recall},
                         .stop_at = stop_at};
    k->keeper.context = k;
}

static inline void memory_keeper_destroy(memory_keeper *k)
{
    hsgd_snapshot_clear(&k->kept);
}

/* An operator that is asked to stop in its product number `stop_at` (counted from 1; 0: never), once. */
typedef struct {
    hsgd_linop *inner; /* borrowed */
    int calls, stop_at;
} stopping;

static inline hsgd_status stopping_apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    stopping *s = self;

    return ++s->calls == s->stop_at ? HSGD_STOPPED : hsgd_linop_apply(s->inner, x, y, err);
}

static const hsgd_linop_ops stopping_ops = {.name = "stopping", .apply = stopping_apply};
