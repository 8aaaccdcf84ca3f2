/* src/store/internal.h - what the files of the store share. */
#pragma once
#include "store/store.h"
#include <hdf5.h>

enum { STORE_PATH = 2048 };

struct hsgd_store {
    hsgd_comm *comm;      /* borrowed */
    hid_t file, transfer; /* open file; transfer list for data: collective where there are several ranks */
    char folder[STORE_PATH], temporary[STORE_PATH], final[STORE_PATH];
    bool failed; /* an HDF5 call failed on some rank: no further one is made */
};

/* Record the failure `what` on `file` with HDF5's innermost description or the system's; returns HSGD_ERR_IO. */
hsgd_status store_failure(const char *file, const char *what, hsgd_error *err);
/* Agree on st; after a failure the store makes no further HDF5 call. */
hsgd_status store_agree(hsgd_store *store, hsgd_status st, hsgd_error *err);
/* fsync of a file or folder.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_sync(const char *path, hsgd_error *err);
/* mkdir -p.  Local.  Errors: HSGD_ERR_IO. */
hsgd_status store_make_folder(const char *folder, hsgd_error *err);
/* A variable-length UTF-8 string type (close it). */
hid_t store_text_type(void);
