/* src/store/internal.h - what the files of the store share. */
#pragma once
#include "store/lock.h"
#include "store/manifest.h"
#include "store/store.h"
#include <hdf5.h>

enum {
    STORE_PATH = 2048,
    STORE_PATIENCE = 10, /* seconds for other ranks to join an agreement after a failure */
    /* more than HDF5 takes for a file's own attributes and groups, and for the words of one dataset */
    STORE_RESERVE_FILE = 65536,
    STORE_RESERVE_DATASET = 8192
};

/* What the name of a file's manifest ends with. */
#define STORE_MANIFEST ".sha256"

struct hsgd_store {
    hsgd_comm *comm;      /* borrowed */
    hsgd_lock *lock;      /* borrowed; rank 0's, or NULL */
    hid_t file, transfer; /* open file; transfer list for data: collective where there are several ranks */
    char folder[STORE_PATH], temporary[STORE_PATH], final[STORE_PATH];
    bool together;    /* several ranks write, through MPI-IO */
    int64_t reserved; /* bytes of disk that are taken, as far as the file system can */
    bool failed;      /* an HDF5 call failed on some rank: no further one is made */
    int hurt;         /* not 0: access to the file failed on this rank, with this errno, whether or not HDF5 tells */
};

/* The time of a call of the store goes to comm->file_seconds when it returns, whichever way; without that of the
 * communication in it, and without that of calls of the store in it, which have told theirs.  First among a function's
 * variables. */
typedef struct {
    hsgd_comm *comm; /* borrowed */
    double start, seconds, file_seconds;
} store_span;
store_span store_span_begin(hsgd_comm *comm);
void store_span_end(const store_span *span);
#define STORE_TIMED(comm) const store_span span __attribute__((cleanup(store_span_end))) = store_span_begin(comm)

/* Record the failure `what` on `file` with HDF5's innermost description or the system's; returns HSGD_ERR_IO. */
hsgd_status store_failure(const char *file, const char *what, hsgd_error *err);
/* Agree on st; after a failure the store makes no further HDF5 call. */
hsgd_status store_agree(hsgd_store *store, hsgd_status st, hsgd_error *err);
/* Take room on disk for `bytes` more, where several ranks write: a full disk shows here, where the ranks can agree on it,
 * and not inside a collective call of HDF5, which the failing rank would leave while the others wait in it.  HDF5 cuts
 * off what is too much when it closes the file.  Collective.  Errors: HSGD_ERR_IO. */
hsgd_status store_reserve(hsgd_store *store, size_t bytes, hsgd_error *err);
/* What errno `number` of a call that failed in opening or reading a file says: HSGD_ERR_DATA where its name or permissions
 * are the reason; else disk, server or process are, HSGD_ERR_IO, which tells nothing of the file, so that nobody sets it
 * aside for that.  Local.  store_read_failure: records it as well. */
hsgd_status store_read_status(int number);
hsgd_status store_read_failure(const char *file, int number, hsgd_error *err);
/* fsync of a file or folder.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_sync(const char *path, hsgd_error *err);
/* unlink that does not mind a missing file.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_drop(const char *path, hsgd_error *err);
/* The same for a file and then its manifest. */
hsgd_status store_drop_pair(const char *path, hsgd_error *err);
/* Rename to path.old, without manifest; there may be no such file.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_rename_to_old(const char *path, hsgd_error *err);
/* The path of a file's manifest.  Local. */
void store_manifest_path(const char *file, char path[STORE_PATH]);
/* Put the manifest m of folder/NAME = `file` in place, whole and on the disk.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_manifest_write(const char *folder, const char *file, const manifest *m, hsgd_error *err);
/* Add what the present manifest of `file` says of the present file to m; nothing where there is none.  Local.
 * Errors: HSGD_ERR_MEMORY, HSGD_ERR_IO. */
hsgd_status store_manifest_extend(const char *file, manifest *m, hsgd_error *err);
/* hsgd_store_check on one rank. */
hsgd_status store_certified(const char *file, bool *certified, hsgd_error *err);
/* Does a dataset keep its values in its own file, and as many bytes of them as it says?  Local.  Errors: HSGD_ERR_DATA. */
hsgd_status store_check_storage(hid_t dataset, const char *name, const char *path, hsgd_error *err);
/* mkdir -p.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_make_folder(const char *folder, hsgd_error *err);
/* hsgd_lock_take with a sign of life every so many milliseconds (> 0); three times that without one is no life. */
hsgd_status store_lock_take(hsgd_comm *comm, const char *folder, int64_t milliseconds,
                            void (*warn)(void *context, const char *text), void *context, hsgd_lock **out,
                            hsgd_error *err);
/* A variable-length UTF-8 string type (close it). */
hid_t store_text_type(void);
