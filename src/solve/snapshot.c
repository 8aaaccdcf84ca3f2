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

hsgd_status hsgd_keeper_stopped(hsgd_status saved, const hsgd_error *kept, hsgd_error *err)
{
    return saved == HSGD_OK || saved == HSGD_STOPPED ? HSGD_STOPPED : hsgd_error_set(err, saved, "%s", kept->text);
}

/* ---- a state that is recalled ahead ---- */

static hsgd_status ahead_due(void *context, bool *due, hsgd_error *err)
{
    return hsgd_keeper_due(((hsgd_keeper_ahead *)context)->keeper, due, err);
}

static hsgd_status ahead_keep(void *context, const hsgd_snapshot *snapshot, hsgd_error *err)
{
    return hsgd_keeper_keep(((hsgd_keeper_ahead *)context)->keeper, snapshot, err);
}

static hsgd_status ahead_recall(void *context, const hsgd_space *space, hsgd_snapshot *snapshot, bool *found,
                                hsgd_error *err)
{
    hsgd_keeper_ahead *ahead = context;

    (void)space; /* as when it was recalled */
    (void)err;
    *snapshot = ahead->state;
    *found = ahead->found;
    ahead->state = (hsgd_snapshot){0};
    ahead->found = false;
    return HSGD_OK;
}

hsgd_status hsgd_keeper_recall_ahead(const hsgd_keeper *keeper, const hsgd_space *space, hsgd_keeper_ahead *ahead,
                                     hsgd_error *err)
{
    *ahead = (hsgd_keeper_ahead){
        .face = {.context = ahead, .due = ahead_due, .keep = ahead_keep, .recall = ahead_recall}, .keeper = keeper};
    return hsgd_keeper_recall(keeper, space, &ahead->state, &ahead->found, err);
}

void hsgd_keeper_ahead_clear(hsgd_keeper_ahead *ahead)
{
    hsgd_snapshot_clear(&ahead->state);
    ahead->found = false;
}
