/* src/study/device.c - the device that the study computes on: made, described for files and people, given the images. */
#include "study/selection.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a rank computes, as it is gathered: a GPU of a node, or the node. */
typedef struct {
    char host[sizeof((hsgd_comm *)0)->host];
    char place[sizeof((hsgd_backend *)0)->place];
} device_place;

/* How many ranks of this node are on the same device. */
static hsgd_status count_sharers(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int ranks = s->comm->ranks;
    device_place mine, *all = calloc((size_t)ranks, sizeof *all);
    int64_t *counts = calloc((size_t)ranks, sizeof *counts);

    _Static_assert(sizeof mine % sizeof(int64_t) == 0, "gathered in words");
    st = all != NULL && counts != NULL ? HSGD_OK : HSGD_ERR_MEMORY;
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    memset(&mine, 0, sizeof mine);
    (void)snprintf(mine.host, sizeof mine.host, "%s", s->comm->host);
    (void)snprintf(mine.place, sizeof mine.place, "%s", s->backend->place);
    for (int rank = 0; rank < ranks; rank++) {
        counts[rank] = sizeof mine / sizeof(int64_t);
    }
    HSGD_TRY(hsgd_comm_all_gather(s->comm, HSGD_TYPE_I64, counts, &mine, all, err));
    for (int rank = 0; rank < ranks; rank++) {
        s->sharers += memcmp(&all[rank], &mine, sizeof mine) == 0;
    }
    s->sharers = s->sharers < s->comm->local_ranks ? s->sharers : s->comm->local_ranks; /* hosts may share a name */
done:
    free(counts);
    free(all);
    return st;
}

/* What files tell of the device is the same on all ranks: rank 0's.  Devices of several kinds are worth a warning, since
 * the bits then depend on which of them took which samples. */
static hsgd_status describe_device(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *b = s->backend;
    int64_t differs = 0;

    memcpy(s->device, b->device, sizeof s->device);
    memcpy(s->libraries, b->libraries, sizeof s->libraries);
    memcpy(s->instruction_set, b->instruction_set, sizeof s->instruction_set);
    HSGD_TRY(hsgd_comm_broadcast(s->comm, 0, sizeof s->device, s->device, err));
    HSGD_TRY(hsgd_comm_broadcast(s->comm, 0, sizeof s->libraries, s->libraries, err));
    HSGD_TRY(hsgd_comm_broadcast(s->comm, 0, sizeof s->instruction_set, s->instruction_set, err));
    s->threads = s->setup->threads;
    (void)snprintf(s->binding, sizeof s->binding, "%s", s->setup->binding != NULL ? s->setup->binding : "none");
    HSGD_TRY(hsgd_comm_broadcast(s->comm, 0, sizeof s->threads, &s->threads, err));
    HSGD_TRY(hsgd_comm_broadcast(s->comm, 0, sizeof s->binding, s->binding, err));
    differs = strcmp(s->device, b->device) != 0 || strcmp(s->libraries, b->libraries) != 0 ||
              strcmp(s->instruction_set, b->instruction_set) != 0;
    HSGD_TRY(hsgd_comm_max(s->comm, HSGD_TYPE_I64, 1, &differs, err));
    if (differs != 0) {
        hsgd_progress_warn(s->progress,
                           "the ranks compute on devices of several kinds (rank 0: %s): the results' last "
                           "bits depend on which of them took which samples",
                           s->device);
    }
    HSGD_TRY(count_sharers(s, err));
done:
    return st;
}

/* The images of both splits stay where the device reads them for as long as the study lasts. */
hsgd_status study_hold_images(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_split *const splits[] = {&s->data->train, &s->data->test};
    const void *unused = NULL;

    for (size_t i = 0; i < sizeof splits / sizeof splits[0] && st == HSGD_OK; i++) {
        const size_t count = (size_t)splits[i]->count, pixels = (size_t)(splits[i]->height * splits[i]->width);

        st = s->backend->ops->hold(s->backend->self, count * pixels, splits[i]->pixels, &unused, err);
        if (st == HSGD_OK) {
            st = s->backend->ops->hold(s->backend->self, count, splits[i]->labels, &unused, err);
        }
    }
    return hsgd_comm_agree(s->comm, st, err);
}

hsgd_status study_open_device(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_deck *deck = s->deck;
    const hsgd_reduction reduction = (hsgd_reduction)deck->run.reduction;

    st = s->setup->make_backend(s->setup->context, deck->model.precision == 1 ? HSGD_DOUBLE : HSGD_SINGLE, &s->backend,
                                err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(describe_device(s, err));
    hsgd_progress_detail(
        s->progress,
        "network: %lld parameters; %d ranks of %d threads (binding: %s) on %s (%s%s%s), groups of %lld to %lld "
        "samples, sums by %s",
        (long long)s->n, s->comm->ranks, s->threads, s->binding, s->backend->ops->name, s->backend->instruction_set,
        s->device[0] != '\0' ? ", " : "", s->device, (long long)s->backend->least_group, (long long)s->backend->group,
        s->comm->ops->name);
    st = hsgd_space_create(s->n, HSGD_REPLICATED, reduction, s->comm, s->backend, &s->replicated, err);
    if (st == HSGD_OK) {
        st = hsgd_space_create(s->n, HSGD_SPREAD, reduction, s->comm, s->backend, &s->spread, err);
    }
    if (st == HSGD_OK) {
        st = selection_open_space(s, err);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
done:
    return st;
}
