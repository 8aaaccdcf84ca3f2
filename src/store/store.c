/* src/store/store.c - files in the making: opened by all ranks under a temporary name, renamed when complete. */
#include "base/clock.h"
#include "base/hash.h"
#include "store/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static herr_t innermost(unsigned depth, const H5E_error2_t *error, void *text)
{
    (void)depth;
    if (error->desc != NULL) {
        (void)snprintf(text, 1024, "%s", error->desc);
    }
    return 1; /* walking upward: the first is the innermost */
}

hsgd_status store_failure(const char *file, const char *what, hsgd_error *err)
{
    static const char before[] = "error message = '"; /* so HDF5 tells the system's, between addresses and numbers */
    const int system = errno;
    char text[1024] = "";
    const char *reason = text, *message;

    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, text);
    message = strstr(text, before);
    if (message != NULL) {
        reason = message + sizeof before - 1;
        text[(size_t)(reason - text) + strcspn(reason, "'")] = '\0';
    } else if (system != 0) {
        const size_t used = strlen(text);

        (void)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? ": " : "", strerror(system));
    }
    return hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot %s: %s; check free space, quota and permissions", file, what,
                          reason[0] != '\0' ? reason : "HDF5 does not say why");
}

/* Where this rank alone failed, the others may be caught inside the collective HDF5 call that it has left, and the
 * agreement would wait for them for ever: a limit then ends this process (exit 5), with this failure, and so the job. */
hsgd_status store_agree(hsgd_store *store, hsgd_status st, hsgd_error *err)
{
    hsgd_watch *watch = NULL;

    if (st == HSGD_OK && store->hurt != 0) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot write the file: %s; check free space, quota and permissions",
                            store->final, strerror(store->hurt));
    }
    watch = st != HSGD_OK ? store->comm->watch : NULL;
    if (watch != NULL) {
        hsgd_watch_limit(watch, HSGD_WATCH_ALONE, STORE_PATIENCE, st,
                         err != NULL ? err->text : "store: writing failed");
    }
    st = hsgd_comm_agree(store->comm, st, err);
    if (watch != NULL) {
        hsgd_watch_limit(watch, HSGD_WATCH_ALONE, 0, HSGD_OK, "");
    }
    store->failed = store->failed || st != HSGD_OK;
    return st;
}

/* Access to the file has failed on this rank, within HDF5.  A flush or a close goes on all the same, to wait for the
 * others where they never come, while they wait elsewhere: the limit of store_agree is set at once. */
static void on_failing(void *context)
{
    hsgd_store *store = context;

    hsgd_error err = {0};

    store->hurt = errno != 0 ? errno : EIO;
    (void)hsgd_error_set(&err, HSGD_ERR_IO, "%s: cannot write the file: %s; check free space, quota and permissions",
                         store->final, strerror(store->hurt));
    if (store->comm->watch != NULL) {
        hsgd_watch_limit(store->comm->watch, HSGD_WATCH_ALONE, STORE_PATIENCE, HSGD_ERR_IO, err.text);
    }
}

static void listen_to_file(const hsgd_store *store, void (*failing)(void *context), void *context)
{
    if (store->together && store->comm->ops->file_failing != NULL) {
        store->comm->ops->file_failing(store->comm->self, failing, context);
    }
}

/* Blocks of the disk for the first `bytes` of a file, where the file system can; false: errno says why not. */
static bool take_room(const char *file, int64_t bytes)
{
    const int fd = open(file, O_WRONLY | O_CLOEXEC);
    const bool taken = fd >= 0 && (fallocate(fd, 0, 0, bytes) == 0 || errno == EOPNOTSUPP || errno == ENOSYS);
    const int why = errno;
    const bool closed = fd < 0 || close(fd) == 0;

    if (!taken) {
        errno = why;
    }
    return taken && closed;
}

hsgd_status store_reserve(hsgd_store *store, size_t bytes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    store->reserved += (int64_t)bytes;
    if (!store->together) {
        return HSGD_OK;
    }
    if (store->comm->rank == 0) {
        st = hsgd_lock_check(store->lock, err); /* the file is opened anew by its name */
    }
    if (store->comm->rank == 0 && st == HSGD_OK && !take_room(store->temporary, store->reserved)) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot write the file: %s; check free space, quota and permissions",
                            store->final, strerror(errno));
    }
    return store_agree(store, st, err);
}

hid_t store_text_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);

    if (type >= 0) {
        (void)H5Tset_size(type, H5T_VARIABLE);
        (void)H5Tset_cset(type, H5T_CSET_UTF8);
    }
    return type;
}

static hsgd_status open_file(hsgd_store *store, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    bool ready = access >= 0;

    errno = 0;
    store->transfer = H5Pcreate(H5P_DATASET_XFER);
    ready = ready && store->transfer >= 0;
    store->together = store->comm->ranks > 1 && store->comm->ops->file_access != NULL;
    if (ready && store->together) {
        ready = store->comm->ops->file_access(store->comm->self, access, store->transfer, err) == HSGD_OK;
    }
    HSGD_CHECK(ready, HSGD_ERR_IO, err, "%s: HDF5 refuses its access lists; is it built for MPI?", store->final);
    listen_to_file(store, on_failing, store);
    hsgd_comm_enter(store->comm, HSGD_WATCH_FILE_CREATE);
    store->file = H5Fcreate(store->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    hsgd_comm_leave(store->comm);
    if (store->file < 0) {
        st = store_failure(store->final, "create the file", err);
    }
done:
    if (access >= 0) {
        (void)H5Pclose(access);
    }
    return st;
}

const char *hsgd_store_build_version(void)
{
    return HSGD_VERSION;
}

const char *hsgd_store_build_commit(void)
{
    return HSGD_GIT_COMMIT;
}

static hsgd_status write_provenance(hsgd_store *store, const hsgd_provenance *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char created[32];
    const struct {
        const char *name, *value;
    } texts[] = {{"program", "hsgd-dist"},
                 {"version", HSGD_VERSION},
                 {"git_commit", HSGD_GIT_COMMIT},
                 {"created", created},
                 {"command", p->command},
                 {"deck", p->deck},
                 {"backend", p->backend},
                 {"instruction_set", p->instruction_set},
                 {"device", p->device},
                 {"libraries", p->libraries},
                 {"communicator", p->communicator},
                 {"binding", p->binding},
                 {"precision", p->precision},
                 {"reduction", p->reduction},
                 {"data_source", p->data_source},
                 {"data_sha256", p->data_sha256},
                 {"weights_sha256", p->weights_sha256}};

    hsgd_clock_iso(created, sizeof created);
    HSGD_TRY(hsgd_comm_broadcast(store->comm, 0, sizeof created, created, err));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].value != NULL) {
            HSGD_TRY(hsgd_store_attribute_text(store, "/", texts[i].name, texts[i].value, err));
        }
    }
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "format_version", 1, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "ranks", store->comm->ranks, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "threads", p->threads, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "seed", p->seed, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "group", p->group, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "group_least", p->least_group, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "tf32", p->tf32, err));
done:
    return st;
}

hsgd_status hsgd_store_create(hsgd_comm *comm, const char *folder, const char *name, const hsgd_provenance *provenance,
                              hsgd_lock *lock, hsgd_store **out, hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    hsgd_store *store = calloc(1, sizeof *store);

    *out = NULL;
    if (store != NULL) {
        store->comm = comm;
        store->lock = lock;
        store->file = store->transfer = H5I_INVALID_HID;
    } else {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot prepare the file %.200s", name);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    if (snprintf(store->final, sizeof store->final, "%s/%s", folder, name) >= (int)sizeof store->final - 16) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "%.200s...: the folder's name is too long", folder);
    }
    (void)snprintf(store->folder, sizeof store->folder, "%s", folder);
    (void)snprintf(store->temporary, sizeof store->temporary, "%.1900s/.%.100s.tmp", folder, name);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* failures are told once, by us */
    (void)setenv("HDF5_USE_FILE_LOCKING", "BEST_EFFORT", 0);
    if (st == HSGD_OK && comm->rank == 0) {
        st = hsgd_lock_check(lock, err);
        st = st == HSGD_OK ? store_make_folder(folder, err) : st;
    }
    HSGD_TRY(store_agree(store, st, err));
    st = open_file(store, err);
    HSGD_TRY(store_agree(store, st, err));
    HSGD_TRY(store_reserve(store, STORE_RESERVE_FILE + (provenance->deck != NULL ? strlen(provenance->deck) : 0), err));
    HSGD_TRY(write_provenance(store, provenance, err));
    *out = store;
    store = NULL;
done:
    hsgd_store_abandon(&store);
    return st;
}

/* A second name for the present file, if there is one: from here on its first name may be given to another at once, and is
 * never missing.  Where the file system has no second names, the first one has to go for an instant. */
static bool keep_as_old(const char *final)
{
    char old[STORE_PATH + 8];

    (void)snprintf(old, sizeof old, "%s.old", final);
    if (access(final, F_OK) != 0 && errno == ENOENT) {
        return true;
    }
    return (unlink(old) == 0 || errno == ENOENT) && (link(final, old) == 0 || rename(final, old) == 0);
}

/* Put the written file in place, where the folder is still this run's.  On rank 0. */
static hsgd_status rename_all(const hsgd_store *store, bool keep_old, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_lock_check(store->lock, err));
    HSGD_CHECK(!keep_old || keep_as_old(store->final), HSGD_ERR_IO, err, "%s: cannot keep it as .old: %s", store->final,
               strerror(errno));
    HSGD_CHECK(rename(store->temporary, store->final) == 0, HSGD_ERR_IO, err, "%s: cannot rename into place: %s",
               store->final, strerror(errno));
    HSGD_TRY(store_sync(store->folder, err));
done:
    return st;
}

/* The same for its manifest. */
static hsgd_status put_manifest(const hsgd_store *store, const manifest *m, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_lock_check(store->lock, err));
    HSGD_TRY(store_manifest_write(store->folder, store->final, m, err));
done:
    return st;
}

/* The file's bytes are on the disk before it gets its name.  A manifest that is written last commits it; where a file is
 * replaced that has one, the manifest tells of both before, so that whichever a crash leaves is vouched for, and of one again
 * after.  A file that nobody vouches for stays so until it is replaced. */
static hsgd_status finish(const hsgd_store *store, hsgd_commit how, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const bool certify = (how & (HSGD_COMMIT_CERTIFY | HSGD_COMMIT_LAST)) != 0;
    bool after = (how & HSGD_COMMIT_LAST) != 0;
    manifest m = {.count = 1};

    HSGD_TRY(hsgd_lock_check(store->lock, err)); /* the temporary file may be another's; flushing it takes its time */
    HSGD_TRY(store_sync(store->temporary, err));
    if (certify) {
        HSGD_TRY(hsgd_sha256_file(store->temporary, &m.entry[0].bytes, m.entry[0].sha256, err));
        HSGD_TRY(store_manifest_extend(store->final, &m, err));
        if (m.count > 1 || (!after && access(store->final, F_OK) != 0)) {
            HSGD_TRY(put_manifest(store, &m, err));
            after = m.count > 1;
        } else {
            after = true;
        }
    }
    HSGD_TRY(rename_all(store, (how & HSGD_COMMIT_KEEP_OLD) != 0, err));
    if (certify && after) {
        m.count = 1;
        HSGD_TRY(put_manifest(store, &m, err));
    }
done:
    return st;
}

hsgd_status hsgd_store_commit(hsgd_store **out, hsgd_commit how, hsgd_error *err)
{
    STORE_TIMED((*out)->comm);
    hsgd_status st = HSGD_OK;
    hsgd_store *store = *out;

    errno = 0;
    hsgd_comm_enter(store->comm, HSGD_WATCH_FILE_FLUSH);
    if (H5Fflush(store->file, H5F_SCOPE_GLOBAL) < 0) {
        st = store_failure(store->final, "write the file", err);
    }
    hsgd_comm_leave(store->comm);
    HSGD_TRY(store_agree(store, st, err));
    errno = 0;
    hsgd_comm_enter(store->comm, HSGD_WATCH_FILE_CLOSE);
    if (H5Fclose(store->file) < 0) {
        st = store_failure(store->final, "close the file", err);
    }
    hsgd_comm_leave(store->comm);
    store->file = H5I_INVALID_HID;
    HSGD_TRY(store_agree(store, st, err));
    if (store->comm->rank == 0) {
        st = finish(store, how, err);
    }
    HSGD_TRY(store_agree(store, st, err));
    listen_to_file(store, NULL, NULL);
    (void)H5Pclose(store->transfer);
    free(store);
    *out = NULL;
done:
    hsgd_store_abandon(out);
    return st;
}

/* After a failure the file is not even closed: HDF5 would write again, collectively, and ranks could hang.  The process
 * is about to end. */
void hsgd_store_abandon(hsgd_store **store)
{
    if (store == NULL || *store == NULL) {
        return;
    }
    if ((*store)->file >= 0 && !(*store)->failed) {
        hsgd_watch *const watch = (*store)->comm->watch;

        if (watch != NULL) { /* if this rank leaves alone, no other joins in closing */
            hsgd_watch_limit(
                watch, HSGD_WATCH_ALONE, STORE_PATIENCE, HSGD_ERR_IO,
                "store: a file was given up on one rank while others go on with it; check free space and the "
                "file system, then run again with --restart");
        }
        hsgd_comm_enter((*store)->comm, HSGD_WATCH_FILE_CLOSE);
        (void)H5Fclose((*store)->file);
        (void)H5Pclose((*store)->transfer);
        hsgd_comm_leave((*store)->comm);
        if (watch != NULL) {
            hsgd_watch_limit(watch, HSGD_WATCH_ALONE, 0, HSGD_OK, "");
        }
    }
    listen_to_file(*store, NULL, NULL);
    if ((*store)->comm->rank == 0 && hsgd_lock_check((*store)->lock, NULL) == HSGD_OK) { /* else it may be another's */
        (void)unlink((*store)->temporary);
    }
    free(*store);
    *store = NULL;
}
