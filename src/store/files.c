/* src/store/files.c - folders, names and fsync: what makes a file appear whole or not at all. */
#include "base/clock.h"
#include "store/internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

store_span store_span_begin(hsgd_comm *comm)
{
    return (store_span){
        .comm = comm, .start = hsgd_clock(), .seconds = comm->seconds, .file_seconds = comm->file_seconds};
}

void store_span_end(const store_span *span)
{
    hsgd_comm *comm = span->comm;

    comm->file_seconds +=
        hsgd_clock() - span->start - (comm->seconds - span->seconds) - (comm->file_seconds - span->file_seconds);
}

hsgd_status store_sync(const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info = {0};
    bool flushed = false;

    HSGD_CHECK(fd >= 0, HSGD_ERR_IO, err, "%s: cannot open to flush it: %s", path, strerror(errno));
    /* EINVAL: this file system cannot flush a folder, so there is nothing left to do; a file it must */
    flushed = fsync(fd) == 0 || (errno == EINVAL && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode));
    if (!flushed) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot flush to disk: %s; check the disk", path, strerror(errno));
    }
    if (close(fd) != 0 && flushed) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot close after flushing: %s; check the disk", path,
                            strerror(errno));
    }
done:
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
    STORE_TIMED(comm);
    char path[STORE_PATH];
    struct stat info;
    int64_t found = 0;
    hsgd_status st = HSGD_OK;

    if (comm->rank == 0) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        found = stat(path, &info) == 0;
        st = !found && store_read_status(errno) == HSGD_ERR_IO ? store_read_failure(path, errno, err) : HSGD_OK;
        found = found && S_ISREG(info.st_mode);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof found, &found, err));
    *exists = found != 0;
done:
    return st;
}

hsgd_status store_drop(const char *path, hsgd_error *err)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot remove the file: %s; check permissions", path,
                              strerror(errno));
    }
    return HSGD_OK;
}

/* The file goes before its manifest: a crash between the two leaves one that tells of nothing. */
hsgd_status store_drop_pair(const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char beside[STORE_PATH];

    store_manifest_path(path, beside);
    HSGD_TRY(store_drop(path, err));
    HSGD_TRY(store_drop(beside, err));
done:
    return st;
}

static hsgd_status remove_file(const char *folder, const char *name, hsgd_lock *lock, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH], beside[STORE_PATH];

    HSGD_TRY(hsgd_lock_check(lock, err));
    (void)snprintf(path, sizeof path, "%.1900s/.%.100s.tmp", folder, name);
    HSGD_TRY(store_drop(path, err));
    (void)snprintf(path, sizeof path, "%.1900s/%.100s", folder, name);
    store_manifest_path(path, beside);
    if (access(path, F_OK) == 0 || access(beside, F_OK) == 0) {
        HSGD_TRY(store_drop_pair(path, err));
        HSGD_TRY(store_sync(folder, err));
    }
done:
    return st;
}

hsgd_status hsgd_store_remove(hsgd_comm *comm, const char *folder, const char *name, hsgd_lock *lock, hsgd_error *err)
{
    STORE_TIMED(comm);
    return hsgd_comm_agree(comm, comm->rank == 0 ? remove_file(folder, name, lock, err) : HSGD_OK, err);
}

void hsgd_store_discard(const char *folder, const char *name, hsgd_lock *lock)
{
    hsgd_error ignored = {0};

    (void)remove_file(folder, name, lock, &ignored);
}

hsgd_status store_rename_to_old(const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char old[STORE_PATH + 8], beside[STORE_PATH];

    (void)snprintf(old, sizeof old, "%s.old", path);
    HSGD_CHECK(rename(path, old) == 0 || errno == ENOENT, HSGD_ERR_IO, err, "%s: cannot rename to .old: %s", path,
               strerror(errno));
    store_manifest_path(path, beside);
    HSGD_TRY(store_drop(beside, err));
done:
    return st;
}

static hsgd_status set_aside(const char *folder, const char *name, hsgd_lock *lock, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH];

    (void)snprintf(path, sizeof path, "%.1900s/%.100s", folder, name);
    HSGD_TRY(hsgd_lock_check(lock, err));
    HSGD_TRY(store_rename_to_old(path, err));
    HSGD_TRY(store_sync(folder, err));
done:
    return st;
}

hsgd_status hsgd_store_set_aside(hsgd_comm *comm, const char *folder, const char *name, hsgd_lock *lock,
                                 hsgd_error *err)
{
    STORE_TIMED(comm);
    return hsgd_comm_agree(comm, comm->rank == 0 ? set_aside(folder, name, lock, err) : HSGD_OK, err);
}

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), tail = strlen(end);

    return length > tail && strcmp(name + length - tail, end) == 0;
}

/* Is it the manifest of a checkpoint, a state or weights that are not there?  Others' lists of sums are theirs. */
static bool is_orphan(const char *folder, const char *name)
{
    char path[STORE_PATH];
    const int length = (int)strlen(name) - (int)strlen(STORE_MANIFEST);
    const bool ours = ends_with(name, "-state.h5" STORE_MANIFEST) || strcmp(name, "weights.h5" STORE_MANIFEST) == 0 ||
                      (strncmp(name, "checkpoint-", 11) == 0 && ends_with(name, ".h5" STORE_MANIFEST));

    (void)snprintf(path, sizeof path, "%.1700s/%.*s", folder, ours ? length : 0, name);
    return ours && access(path, F_OK) != 0 && errno == ENOENT;
}

/* One of ours in the making: a dot before the name and .tmp behind it; MPI-IO puts more behind that, to try locks. */
static bool is_temporary(const char *name)
{
    return name[0] == '.' && (strstr(name, ".h5.tmp") != NULL || strstr(name, STORE_MANIFEST ".tmp") != NULL);
}

/* Nobody is making anything now, where the lock is this run's. */
static hsgd_status tidy(const char *folder, hsgd_lock *lock, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[STORE_PATH];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;

        (void)snprintf(path, sizeof path, "%.1700s/%.255s", folder, name);
        if (is_temporary(name) || is_orphan(folder, name)) {
            HSGD_TRY(hsgd_lock_check(lock, err));
            (void)unlink(path);
        }
    }
done:
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return st;
}

hsgd_status hsgd_store_tidy(hsgd_comm *comm, const char *folder, hsgd_lock *lock, hsgd_error *err)
{
    STORE_TIMED(comm);
    return hsgd_comm_agree(comm, comm->rank == 0 ? tidy(folder, lock, err) : HSGD_OK, err);
}
