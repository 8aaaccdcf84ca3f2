/* src/store/certify.c - manifests on disk: written whole or not at all, and compared before HDF5 opens a file. */
#include "base/hash.h"
#include "store/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

void store_manifest_path(const char *file, char path[STORE_PATH])
{
    (void)snprintf(path, STORE_PATH, "%.*s%s", STORE_PATH - 16, file, STORE_MANIFEST);
}

/* Write all of text into an open file, and see it on the disk. */
static bool put(int fd, const char *text)
{
    const size_t length = strlen(text);
    size_t done = 0;

    while (done < length) {
        const ssize_t wrote = write(fd, text + done, length - done);

        if (wrote < 0 && errno != EINTR) {
            return false;
        }
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return fsync(fd) == 0;
}

hsgd_status store_manifest_write(const char *folder, const char *file, const manifest *m, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char text[MANIFEST_TEXT], path[STORE_PATH], temporary[STORE_PATH];
    bool written = false;
    int fd = -1;

    store_manifest_path(file, path);
    (void)snprintf(temporary, sizeof temporary, "%.1800s/.%.200s%s.tmp", folder, base_name(file), STORE_MANIFEST);
    HSGD_TRY(manifest_format(m, base_name(file), text, err));
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    written = fd >= 0 && put(fd, text);
    if (fd >= 0 && close(fd) != 0) {
        written = false;
    }
    HSGD_CHECK(written, HSGD_ERR_IO, err, "%s: cannot write the manifest: %s; check free space, quota and permissions",
               path, strerror(errno));
    HSGD_CHECK(rename(temporary, path) == 0, HSGD_ERR_IO, err, "%s: cannot rename into place: %s", path,
               strerror(errno));
    HSGD_TRY(store_sync(folder, err));
done:
    if (st != HSGD_OK) {
        (void)unlink(temporary);
    }
    return st;
}

static int open_to_read(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not make us wait */
}

/* Right after open_to_read: is it open, and a regular file? */
static hsgd_status check_opened(const char *path, int fd, hsgd_error *err)
{
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0) {
        return store_read_failure(path, errno, err);
    }
    return S_ISREG(info.st_mode) ? HSGD_OK : hsgd_error_set(err, HSGD_ERR_DATA, "%s: not a regular file", path);
}

/* Read the manifest of `file`: *found is false where there is none. */
static hsgd_status read_manifest(const char *file, manifest *out, bool *found, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STORE_PATH], text[MANIFEST_TEXT + 1];
    size_t length = 0;
    ssize_t got = 0;
    int fd;

    *found = false;
    store_manifest_path(file, path);
    fd = open_to_read(path);
    if (fd < 0 && errno == ENOENT) {
        return HSGD_OK;
    }
    HSGD_TRY(check_opened(path, fd, err));
    do {
        got = read(fd, text + length, sizeof text - length);
        length += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && length < sizeof text) || (got < 0 && errno == EINTR));
    if (got < 0) {
        st = store_read_failure(path, errno, err);
        goto done;
    }
    if (!manifest_is_ours(text, length)) {
        goto done; /* somebody's list of sums, or nothing: it vouches for nothing */
    }
    st = manifest_parse(text, length, base_name(file), out, err);
    HSGD_CHECK(st == HSGD_OK, HSGD_ERR_DATA, err,
               "%s: damaged: not a manifest of %s; remove it only if you trust that file", path, base_name(file));
    *found = true;
done:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

/* The entry of m that tells of what `file` holds; NULL: none does. */
static hsgd_status matching(const char *file, const manifest *m, const manifest_entry **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    manifest_entry found = {0};
    const int fd = open_to_read(file);

    *out = NULL;
    HSGD_TRY(check_opened(file, fd, err));
    HSGD_TRY(hsgd_sha256_open(fd, file, &found.bytes, found.sha256, err));
    for (int i = 0; i < m->count && *out == NULL; i++) {
        if (m->entry[i].bytes == found.bytes && strcmp(m->entry[i].sha256, found.sha256) == 0) {
            *out = &m->entry[i];
        }
    }
done:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

hsgd_status store_manifest_extend(const char *file, manifest *m, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const manifest_entry *now = NULL;
    hsgd_error unread = {0};
    manifest old;
    bool found = false;

    st = read_manifest(file, &old, &found, &unread);
    HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", unread.text);
    if (st == HSGD_ERR_DATA || !found) {
        return HSGD_OK; /* nothing vouches for what is there */
    }
    now = &old.entry[0];
    if (old.count > 1) { /* a replacement was cut short: before or after the renaming? */
        st = matching(file, &old, &now, &unread);
        HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", unread.text);
        st = HSGD_OK;
    }
    if (now != NULL) {
        m->entry[m->count++] = *now;
    }
done:
    return st;
}

hsgd_status store_certified(const char *file, bool *certified, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    manifest m;
    const manifest_entry *entry = NULL;

    HSGD_TRY(read_manifest(file, &m, certified, err));
    if (*certified) {
        HSGD_TRY(matching(file, &m, &entry, err));
        HSGD_CHECK(entry != NULL, HSGD_ERR_DATA, err,
                   "%s: damaged: its size or SHA-256 is not that of its manifest %s%s; if you changed the file on "
                   "purpose, remove the manifest",
                   file, base_name(file), STORE_MANIFEST);
    }
done:
    return st;
}

hsgd_status hsgd_store_check(hsgd_comm *comm, const char *file, bool *certified, hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    int64_t yes = 0;

    if (comm->rank == 0) {
        bool found = false;

        st = store_certified(file, &found, err);
        yes = found;
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof yes, &yes, err));
    *certified = yes != 0;
done:
    return st;
}
