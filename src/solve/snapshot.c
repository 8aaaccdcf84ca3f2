/* src/solve/snapshot.c - see snapshot.h. */
#include "solve/snapshot.h"
#include <stdlib.h>

hsgd_status hsgd_keeper_due(const hsgd_keeper *keeper, bool *due, hsgd_error *err)
{
    *due = false;
    return keeper == NULL ? HSGD_OK : keeper->due(keeper->context, due, err);
}

hsgd_status hsgd_keeper_keep(const hsgd_keeper *keeper, const hsgd_snapshot *snapshot, hsgd_error *err)
{
    return keeper == NULL ? HSGD_OK : keeper->keep(keeper->context, snapshot, err);
}

hsgd_status hsgd_keeper_recall(const hsgd_keeper *keeper, const hsgd_space *space, hsgd_snapshot *snapshot, bool *found,
                               hsgd_error *err)
{
    *snapshot = (hsgd_snapshot){0};
    *found = false;
    return keeper == NULL ? HSGD_OK : keeper->recall(keeper->context, space, snapshot, found, err);
}

void hsgd_snapshot_clear(hsgd_snapshot *snapshot)
{
    free(snapshot->integer);
    free(snapshot->real);
    hsgd_vector_destroy(&snapshot->vectors);
    *snapshot = (hsgd_snapshot){0};
}
