/* src/store/files.c - folders, names and fsync: what makes a file appear whole or not at all. */
#include "store/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

hsgd_status store_sync(const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    HSGD_CHECK(fd >= 0, HSGD_ERR_IO, err, "%s: cannot open to flush it: %s", path, strerror(errno));
    /* EINVAL: this file system cannot flush a folder, so there is nothing left to do */
    HSGD_CHECK(fsync(fd) == 0 || errno == EINVAL, HSGD_ERR_IO, err, "%s: cannot flush to disk: %s; check the disk",
               path, strerror(errno));
done:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

hsgd_status store_make_folder(const char *folder, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH];
    struct stat info;

    HSGD_CHECK(strlen(folder) < sizeof path, HSGD_ERR_IO, err, "%.200s...: the folder's name is too long", folder);
    (void)snprintf(path, sizeof path, "%s", folder);
    for (char *c = path + 1; *c != '\0'; c++) {
        if (*c == '/') {
            *c = '\0';
            (void)mkdir(path, 0777); /* what matters is whether the last one exists */
            *c = '/';
        }
    }
    HSGD_CHECK(mkdir(path, 0777) == 0 || errno == EEXIST, HSGD_ERR_IO, err,
               "%s: cannot make the folder: %s; name another with run.output=...", folder, strerror(errno));
    HSGD_CHECK(stat(path, &info) == 0 && S_ISDIR(info.st_mode), HSGD_ERR_IO, err,
               "%s: not a folder; name another with run.output=...", folder);
done:
    return st;
}

hsgd_status hsgd_store_exists(hsgd_comm *comm, const char *folder, const char *name, bool *exists, hsgd_error *err)
{
    char path[STORE_PATH];
    struct stat info;
    int64_t found = 0;
    hsgd_status st = HSGD_OK;

    if (comm->rank == 0) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        found = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    }
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof found, &found, err));
    *exists = found != 0;
done:
    return st;
}

/* unlink that does not mind a missing file.  Local. */
static hsgd_status drop(const char *path, hsgd_error *err)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot remove the file: %s; check permissions", path,
                              strerror(errno));
    }
    return HSGD_OK;
}

static hsgd_status remove_file(const char *folder, const char *name, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH];

    (void)snprintf(path, sizeof path, "%.1900s/.%.100s.tmp", folder, name);
    HSGD_TRY(drop(path, err));
    (void)snprintf(path, sizeof path, "%.1900s/%.100s", folder, name);
    if (access(path, F_OK) == 0) {
        HSGD_TRY(drop(path, err));
        HSGD_TRY(store_sync(folder, err));
    }
done:
    return st;
}

hsgd_status hsgd_store_remove(hsgd_comm *comm, const char *folder, const char *name, hsgd_error *err)
{
    return hsgd_comm_agree(comm, comm->rank == 0 ? remove_file(folder, name, err) : HSGD_OK, err);
}

static hsgd_status rename_to_old(const char *folder, const char *name, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH], old[STORE_PATH + 8];

    (void)snprintf(path, sizeof path, "%.1900s/%.100s", folder, name);
    (void)snprintf(old, sizeof old, "%s.old", path);
    HSGD_CHECK(rename(path, old) == 0 || errno == ENOENT, HSGD_ERR_IO, err, "%s: cannot rename to .old: %s", path,
               strerror(errno));
    HSGD_TRY(store_sync(folder, err));
done:
    return st;
}

hsgd_status hsgd_store_set_aside(hsgd_comm *comm, const char *folder, const char *name, hsgd_error *err)
{
    return hsgd_comm_agree(comm, comm->rank == 0 ? rename_to_old(folder, name, err) : HSGD_OK, err);
}

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
    while ((entry = readdir(dir)) != NULL) {
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

hsgd_status hsgd_store_newest_checkpoint(hsgd_comm *comm, const char *folder, int64_t below, int64_t *step, char *file,
                                         size_t size, void (*warn)(void *context, const char *text), void *context,
                                         hsgd_error *err)
{
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
        int64_t number = comm->rank == 0 ? steps[i] : 0, inside = -1;
        hsgd_error damage = {0};
        char text[sizeof damage.text + 80];

        HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof number, &number, err));
        if (number >= below) {
            continue;
        }
        checkpoint_path(folder, number, file, size);
        if (hsgd_store_read_attribute_i64(comm, file, "step", &inside, &damage) == HSGD_OK && inside == number) {
            *step = number;
        } else {
            (void)snprintf(text, sizeof text, "%s: damaged checkpoint, the one before it is taken (%s)", file,
                           damage.text[0] != '\0' ? damage.text : "its step is not its name's");
            warn(context, text);
        }
    }
done:
    free(steps);
    return st;
}

/* Remove what an earlier run left half-written. */
static void remove_temporaries(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[STORE_PATH];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        const size_t length = strlen(entry->d_name);

        if (entry->d_name[0] == '.' && length > 7 && strcmp(entry->d_name + length - 7, ".h5.tmp") == 0) {
            (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            (void)unlink(path);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

hsgd_status hsgd_store_prune_checkpoints(hsgd_comm *comm, const char *folder, int64_t keep, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *steps = NULL, count = 0;

    if (comm->rank == 0) {
        st = list_checkpoints(folder, &steps, &count, err);
        for (int64_t i = keep; st == HSGD_OK && i < count; i++) {
            char path[STORE_PATH];

            checkpoint_path(folder, steps[i], path, sizeof path);
            if (unlink(path) != 0) {
                st =
                    hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot remove the old checkpoint: %s", path, strerror(errno));
            }
        }
        remove_temporaries(folder);
    }
    free(steps);
    return hsgd_comm_agree(comm, st, err);
}

hsgd_status hsgd_store_retire_checkpoints(hsgd_comm *comm, const char *folder, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *steps = NULL, count = 0;

    if (comm->rank == 0) {
        st = list_checkpoints(folder, &steps, &count, err);
        for (int64_t i = 0; st == HSGD_OK && i < count; i++) {
            char path[STORE_PATH], old[STORE_PATH + 8];

            checkpoint_path(folder, steps[i], path, sizeof path);
            (void)snprintf(old, sizeof old, "%s.old", path);
            if (rename(path, old) != 0) {
                st = hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot rename to .old: %s", path, strerror(errno));
            }
        }
    }
    free(steps);
    return hsgd_comm_agree(comm, st, err);
}
