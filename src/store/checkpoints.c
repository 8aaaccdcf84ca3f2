/* src/store/checkpoints.c - which checkpoints a folder holds, which of them count, and which go. */
#include "store/internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void checkpoint_name(int64_t step, char *name, size_t size)
{
    (void)snprintf(name, size, "checkpoint-%08lld.h5", (long long)step);
}

/* The number in checkpoint-NNNNNNNN.h5, or -1 for any other name. */
static int64_t checkpoint_number(const char *name)
{
    static const char prefix[] = "checkpoint-";
    const char *digits = name + sizeof prefix - 1;
    char again[64];
    int64_t number;

    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || *digits < '0' || *digits > '9') {
        return -1;
    }
    number = strtoll(digits, NULL, 10);
    checkpoint_name(number, again, sizeof again);
    return strcmp(name, again) == 0 ? number : -1;
}

static int descending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x < y) - (x > y);
}

/* The numbers of all checkpoints, newest first, into *steps (caller frees).  Local. */
static hsgd_status list_checkpoints(const char *folder, int64_t **steps, int64_t *count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    int64_t capacity = 0;

    *steps = NULL;
    *count = 0;
    if (dir == NULL) {
        return errno == ENOENT
                   ? HSGD_OK
                   : hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot read the folder: %s", folder, strerror(errno));
    }
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        const int64_t step = checkpoint_number(entry->d_name);

        if (step >= 0 && *count == capacity) {
            int64_t *larger = realloc(*steps, (size_t)(2 * capacity + 16) * sizeof **steps);

            HSGD_CHECK(larger != NULL, HSGD_ERR_MEMORY, err, "memory: cannot list the checkpoints of %s", folder);
            *steps = larger;
            capacity = 2 * capacity + 16;
        }
        if (step >= 0) {
            (*steps)[(*count)++] = step;
        }
    }
    HSGD_CHECK(errno == 0, HSGD_ERR_IO, err, "%s: cannot read the folder: %s", folder, strerror(errno));
    if (*count > 0) {
        qsort(*steps, (size_t)*count, sizeof **steps, descending);
    }
done:
    (void)closedir(dir);
    return st;
}

static void checkpoint_path(const char *folder, int64_t step, char *path, size_t size)
{
    char name[64];

    checkpoint_name(step, name, sizeof name);
    (void)snprintf(path, size, "%s/%s", folder, name);
}

/* On rank 0: may the checkpoint be opened? */
static hsgd_status vouched(const char *file, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool certified = false;

    HSGD_TRY(store_certified(file, &certified, err));
    HSGD_CHECK(certified, HSGD_ERR_DATA, err, "%s: was never completed (it has no manifest %s)", file, STORE_MANIFEST);
done:
    return st;
}

/* Is it whole, and of this step?  Only then a reader may trust it.  Collective. */
static hsgd_status judge(hsgd_comm *comm, const char *file, int64_t number, hsgd_error *err)
{
    hsgd_status st = comm->rank == 0 ? vouched(file, err) : HSGD_OK;
    int64_t inside = -1;

    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_store_read_attribute_i64(comm, file, "step", &inside, err));
    HSGD_CHECK(inside == number, HSGD_ERR_DATA, err, "%s: damaged: its step is not that of its name", file);
done:
    return st;
}

hsgd_status hsgd_store_newest_checkpoint(hsgd_comm *comm, const char *folder, int64_t below, int64_t *step, char *file,
                                         size_t size, void (*warn)(void *context, const char *text), void *context,
                                         hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    int64_t *steps = NULL, count = 0;

    *step = -1;
    file[0] = '\0';
    if (comm->rank == 0) {
        st = list_checkpoints(folder, &steps, &count, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof count, &count, err));
    for (int64_t i = 0; i < count && *step < 0; i++) {
        int64_t number = comm->rank == 0 ? steps[i] : 0;
        hsgd_error damage = {0};
        char text[sizeof damage.text + 80];

        HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof number, &number, err));
        if (number >= below) {
            continue;
        }
        checkpoint_path(folder, number, file, size);
        st = judge(comm, file, number, &damage);
        HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", damage.text);
        if (st == HSGD_OK) {
            *step = number;
        } else {
            (void)snprintf(text, sizeof text, "%s; it is kept as .old and the checkpoint before it taken", damage.text);
            warn(context, text);
        }
        st = HSGD_OK;
    }
done:
    free(steps);
    return st;
}

/* On rank 0: steps [count], newest first. */
static hsgd_status prune(const char *folder, const int64_t *steps, int64_t count, int64_t keep, hsgd_lock *lock,
                         hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH], beside[STORE_PATH];
    int64_t kept = 0;

    for (int64_t i = 0; i < count; i++) {
        checkpoint_path(folder, steps[i], path, sizeof path);
        store_manifest_path(path, beside);
        if (kept < keep) {
            kept += access(beside, F_OK) == 0;
        } else {
            HSGD_TRY(hsgd_lock_check(lock, err));
            HSGD_TRY(store_drop_pair(path, err));
        }
    }
done:
    return st;
}

hsgd_status hsgd_store_prune_checkpoints(hsgd_comm *comm, const char *folder, int64_t keep, hsgd_lock *lock,
                                         hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    int64_t *steps = NULL, count = 0;

    if (comm->rank == 0) {
        st = list_checkpoints(folder, &steps, &count, err);
        if (st == HSGD_OK) {
            st = prune(folder, steps, count, keep, lock, err);
        }
    }
    free(steps);
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_store_tidy(comm, folder, lock, err));
done:
    return st;
}

hsgd_status hsgd_store_retire_checkpoints(hsgd_comm *comm, const char *folder, int64_t above, hsgd_lock *lock,
                                          hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    int64_t *steps = NULL, count = 0, retired = 0;

    if (comm->rank == 0) {
        st = list_checkpoints(folder, &steps, &count, err);
        for (int64_t i = count - 1; st == HSGD_OK && i >= 0; i--) { /* the newest, which tells how far it went, last */
            char path[STORE_PATH];

            if (steps[i] > above) {
                checkpoint_path(folder, steps[i], path, sizeof path);
                st = hsgd_lock_check(lock, err);
                st = st == HSGD_OK ? store_rename_to_old(path, err) : st;
                retired++;
            }
        }
        if (st == HSGD_OK && retired > 0) {
            st = store_sync(folder, err);
        }
    }
    free(steps);
    return hsgd_comm_agree(comm, st, err);
}
