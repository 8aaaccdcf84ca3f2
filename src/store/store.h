/* src/store/store.h - results in HDF5: written by all ranks together, appearing only when complete. */
#pragma once
#include "base/comm.h"
#include "base/error.h"
#include "store/lock.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    HSGD_STORE_F64,
    HSGD_STORE_F32,
    HSGD_STORE_I64,
    HSGD_STORE_U8
} hsgd_store_type; /* in the file; see write for memory */

/* Written as attributes of every file. */
typedef struct {
    const char *command, *deck, *backend, *instruction_set, *device, *libraries, *communicator, *binding, *precision,
        *reduction, *data_source, *data_sha256, *weights_sha256; /* NULL: left out */
    int64_t seed, threads, group, least_group, tf32;
} hsgd_provenance;

/* The version of this build, and the commit of its sources, as every file tells them.  Local. */
const char *hsgd_store_build_version(void);
const char *hsgd_store_build_commit(void);

typedef struct hsgd_store hsgd_store;

/* Begin `folder`/`name` under a temporary name, open on all ranks.  Makes the folder (and its parents) if needed.
 * lock: of the folder, on rank 0, borrowed; NULL: none.  It is looked at right before the file is begun or gets room on
 * disk, and before it or a manifest is put in place; where it is lost none is, nor is the temporary file removed:
 * HSGD_ERR_IO.  A run that stands still between a look and what follows it is not kept from that.
 * Collective.  Errors of all calls, the same on every rank: HSGD_ERR_IO, with the file's name and the reason; where real
 * numbers are given, HSGD_ERR_NUMERIC (NaN or infinity among them, or made by rounding to F32): no file holds these. */
hsgd_status hsgd_store_create(hsgd_comm *comm, const char *folder, const char *name, const hsgd_provenance *provenance,
                              hsgd_lock *lock, hsgd_store **out, hsgd_error *err);

/* A dataset's shape, type and words. */
typedef struct {
    const char *path; /* "/train/loss"; groups are made as needed */
    hsgd_store_type type;
    int rank; /* 0 (scalar) to 4 */
    int64_t dims[4];
    const char *units, *description;
    const char *axes[4]; /* paths of datasets of this file that are the dimension scales, written before; NULL: none */
} hsgd_dataset_spec;

/* Write values that every rank holds whole; each rank writes its share of the leading part.
 * data: double for F64 and F32, int64_t for I64 and U8; NULL on a rank that has no memory for them, which all then learn
 * (HSGD_ERR_MEMORY).  Collective. */
hsgd_status hsgd_store_write(hsgd_store *store, const hsgd_dataset_spec *spec, const void *data, hsgd_error *err);

/* Write a [dims[0], n] dataset of which this rank holds columns [low, high): data [dims[0]][high - low].  Collective. */
hsgd_status hsgd_store_write_rows(hsgd_store *store, const hsgd_dataset_spec *spec, int64_t low, int64_t high,
                                  const double *data, hsgd_error *err);

/* Attributes of the file (object "/"), or of a dataset or group written before.  The same values on all ranks.  Collective. */
hsgd_status hsgd_store_attribute_text(hsgd_store *store, const char *object, const char *name, const char *value,
                                      hsgd_error *err);
hsgd_status hsgd_store_attribute_i64(hsgd_store *store, const char *object, const char *name, int64_t value,
                                     hsgd_error *err);
hsgd_status hsgd_store_attribute_f64(hsgd_store *store, const char *object, const char *name, double value,
                                     hsgd_error *err);

/* What a commit leaves beside the file; may be added up. */
typedef enum {
    HSGD_COMMIT_REPLACE = 0,  /* an older file of that name is replaced atomically ... */
    HSGD_COMMIT_KEEP_OLD = 1, /* ... and stays as NAME.old */
    HSGD_COMMIT_CERTIFY = 2,  /* a manifest NAME.sha256 (see manifest.h): the file is never without a valid one */
    HSGD_COMMIT_LAST = 4,     /* CERTIFY, and the manifest of a new file is written last: it is what commits the file */
} hsgd_commit;

/* Flush, close, fsync, rename to the final name, fsync of the folder; then free *store.  Collective. */
hsgd_status hsgd_store_commit(hsgd_store **store, hsgd_commit how, hsgd_error *err);
/* Give up: close, remove the temporary file, free.  Accepts NULL.  Collective after success, else local. */
void hsgd_store_abandon(hsgd_store **store);

/* ---- reading: rank 0 reads, all get the values; errors are agreed.  All Collective.  HSGD_ERR_DATA is said of a file,
 * HSGD_ERR_IO where the system could not read it, which says nothing of it. ---- */

/* Does the file exist (as a regular file)? */
hsgd_status hsgd_store_exists(hsgd_comm *comm, const char *folder, const char *name, bool *exists, hsgd_error *err);

/* Compare a file with its manifest, before HDF5 is let near it; *certified: there is one, and it holds.  A file without
 * one may be anybody's.  Collective.  Errors: HSGD_ERR_DATA (the file or the manifest is damaged), HSGD_ERR_IO (it cannot
 * be told: disk or server do not answer). */
hsgd_status hsgd_store_check(hsgd_comm *comm, const char *file, bool *certified, hsgd_error *err);

/* ---- removing and renaming.  lock: as hsgd_store_create has it, looked at right before each file that goes; where it is
 * lost no further one does, which is HSGD_ERR_IO. ---- */

/* Remove folder/name, its manifest, and what a killed run left of one in the making, so that not even a crash of the
 * machine brings it back; there may be none.  set_aside: rename it to NAME.old instead, which has no manifest.
 * Collective.  Errors: HSGD_ERR_IO. */
hsgd_status hsgd_store_remove(hsgd_comm *comm, const char *folder, const char *name, hsgd_lock *lock, hsgd_error *err);
hsgd_status hsgd_store_set_aside(hsgd_comm *comm, const char *folder, const char *name, hsgd_lock *lock,
                                 hsgd_error *err);
/* hsgd_store_remove as far as it goes, after a failure, when the ranks may have parted.  Of rank 0.  Local. */
void hsgd_store_discard(const char *folder, const char *name, hsgd_lock *lock);
/* Remove what killed runs left half-written: temporary files, and manifests without a file.  Collective.
 * Errors: HSGD_ERR_IO. */
hsgd_status hsgd_store_tidy(hsgd_comm *comm, const char *folder, hsgd_lock *lock, hsgd_error *err);

/* ---- shapes and values ---- */

/* The dimensions of a dataset: *rank in [0, 4].  Errors: HSGD_ERR_DATA (file or dataset missing, not HDF5, damaged; links
 * to other places are not followed). */
hsgd_status hsgd_store_dims(hsgd_comm *comm, const char *file, const char *path, int *rank, int64_t dims[4],
                            hsgd_error *err);

/* Is the dataset there, with these dimensions (-1 fits any)?  To be asked before memory is taken for it.
 * Errors: HSGD_ERR_DATA. */
hsgd_status hsgd_store_expect(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                              hsgd_error *err);

/* All values of a numeric dataset whose dimensions must be dims (checked before memory is touched; -1 fits any):
 * as double / as int64_t.  Errors: HSGD_ERR_DATA (missing, wrong shape, not numeric, NaN or Inf among reals). */
hsgd_status hsgd_store_read_f64(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                                double *data, hsgd_error *err);
hsgd_status hsgd_store_read_i64(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                                int64_t *data, hsgd_error *err);
/* Attributes of the file; text is cut to size.  Errors: HSGD_ERR_DATA. */
hsgd_status hsgd_store_read_attribute_i64(hsgd_comm *comm, const char *file, const char *name, int64_t *value,
                                          hsgd_error *err);
hsgd_status hsgd_store_read_attribute_text(hsgd_comm *comm, const char *file, const char *name, char *text, size_t size,
                                           hsgd_error *err);

/* ---- parameters under /params and /optimizer: the one format of weights.h5 and checkpoints ---- */

/* Names and shapes of the parameters, in flat order. */
typedef struct {
    char layer[24];
    const char *part; /* "weight" or "bias" */
    int rank;
    int64_t dims[4];
    int64_t offset, count; /* in the flat vector */
} hsgd_parameter;

/* Write flat [n] (the same on all ranks) as PREFIX/<layer>/<part>.  Collective. */
hsgd_status hsgd_store_write_parameters(hsgd_store *store, const char *prefix, const hsgd_parameter *list,
                                        int64_t count, hsgd_store_type type, const double *flat, hsgd_error *err);
/* Read them; every name and shape is checked first.  Collective.  Errors: HSGD_ERR_DATA. */
hsgd_status hsgd_store_read_parameters(hsgd_comm *comm, const char *file, const char *prefix,
                                       const hsgd_parameter *list, int64_t count, double *flat, hsgd_error *err);

/* The newest checkpoint-NNNNNNNN.h5 in the folder that its manifest vouches for, and that holds the attribute `step` equal
 * to its name's number; only steps less than `below` are looked at.  *step is -1 where there is none.  A newer one without
 * manifest was never completed, one that differs from it is damaged: that is told through `warn`, and the one before it
 * taken.  Collective. */
hsgd_status hsgd_store_newest_checkpoint(hsgd_comm *comm, const char *folder, int64_t below, int64_t *step, char *file,
                                         size_t size, void (*warn)(void *context, const char *text), void *context,
                                         hsgd_error *err);
/* Rename every checkpoint of a step greater than `above` to NAME.old, -1: all: they belong to a training that is started
 * afresh, or are damaged, and must not be counted among the newest.  lock: as hsgd_store_remove has it.  Collective.
 * Errors: HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_store_retire_checkpoints(hsgd_comm *comm, const char *folder, int64_t above, hsgd_lock *lock,
                                          hsgd_error *err);
/* Remove all but the newest `keep` checkpoints that have a manifest, and those older than these that have none; then
 * tidy.  lock: as hsgd_store_remove has it.  Collective.  Errors: HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_store_prune_checkpoints(hsgd_comm *comm, const char *folder, int64_t keep, hsgd_lock *lock,
                                         hsgd_error *err);
