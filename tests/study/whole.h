/* tests/study/whole.h - whole studies inside a test: a deck's words on any communicator, and what their files hold. */
#pragma once
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include "../store/scratch.h"
#include "cpu/cpu.h"
#include "study/study.h"
#include "support.h"

enum { WHOLE_WORDS = 48 };

static inline hsgd_status whole_backend(void *context, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    (void)context;
    return hsgd_backend_cpu_create(precision, 1, out, err);
}

/* Run the study of words[count] in `folder` on the ranks of comm, without a word from it.  make_backend: NULL for the
 * CPU's with one thread.  Collective on comm. */
static inline hsgd_status whole_run(hsgd_comm *comm, const char *folder, const char *const *words, int count,
                                    bool restart, hsgd_make_backend make_backend, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *all[WHOLE_WORDS];
    char output[600];
    hsgd_deck *deck = calloc(1, sizeof *deck);
    hsgd_progress *progress = NULL;
    hsgd_study_setup setup = {.comm = comm,
                              .deck = deck,
                              .make_backend = make_backend != NULL ? make_backend : whole_backend,
                              .command = "test",
                              .threads = 1,
                              .restart = restart};

    if (deck == NULL || count >= WHOLE_WORDS) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: no room for a deck");
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err)); /* as main does */
    (void)snprintf(output, sizeof output, "run.output=%.512s", folder);
    memcpy(all, words, (size_t)count * sizeof *all);
    all[count] = output;
    st = hsgd_deck_resolve(NULL, all, count + 1, deck, err);
    if (st == HSGD_OK) {
        st = hsgd_progress_create(1, true, false, &progress, err); /* the voice of a rank that is not 0 */
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    setup.progress = progress;
    st = hsgd_study_run(&setup, err);
done:
    hsgd_progress_destroy(&progress);
    free(deck);
    return st;
}

/* What a walk over a file's datasets has found. */
typedef struct {
    hid_t file;
    uint64_t digest; /* of names and numbers; but for those of times */
    int64_t numbers, bad;
    char first_bad[128]; /* the dataset of the first that is not finite */
} whole_look;

static inline void whole_mix(whole_look *look, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) { /* FNV-1a */
        look->digest = (look->digest ^ ((const unsigned char *)bytes)[i]) * UINT64_C(1099511628211);
    }
}

static inline herr_t whole_visit(hid_t root, const char *name, const H5O_info_t *info, void *context)
{
    whole_look *look = context;
    const hid_t set = info->type == H5O_TYPE_DATASET ? H5Dopen2(root, name, H5P_DEFAULT) : -1;
    hid_t space = -1, type = -1;
    hssize_t count = 0;
    double *data = NULL;
    bool real = false;

    if (set < 0) {
        return 0;
    }
    space = H5Dget_space(set);
    type = H5Dget_type(set);
    real = H5Tget_class(type) == H5T_FLOAT;
    count = H5Sget_simple_extent_npoints(space);
    data = calloc((size_t)count + 1, sizeof *data); /* of whole numbers up to 2^53 nothing is lost */
    if (data == NULL || (count > 0 && H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)) {
        count = -1;
    }
    for (hssize_t i = 0; real && i < count; i++) {
        if (!isfinite(data[i]) && look->bad++ == 0) {
            (void)snprintf(look->first_bad, sizeof look->first_bad, "%s", name);
        }
    }
    look->numbers += count;
    if (strstr(name, "time_") == NULL && count >= 0) {
        whole_mix(look, name, strlen(name));
        whole_mix(look, data, (size_t)count * sizeof *data);
    }
    free(data);
    (void)H5Tclose(type);
    (void)H5Sclose(space);
    (void)H5Dclose(set);
    return count < 0 ? -1 : 0;
}

/* Look at every number of every dataset; false where the file cannot be read.  Local. */
static inline bool whole_look_at(const char *path, whole_look *look)
{
    herr_t done;

    *look = (whole_look){.digest = UINT64_C(14695981039346656037)};
    look->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (look->file < 0) {
        return false;
    }
    done = H5Ovisit(look->file, H5_INDEX_NAME, H5_ITER_INC, whole_visit, look);
    return H5Fclose(look->file) >= 0 && done >= 0;
}

/* The digest of folder/name; 0 where it cannot be read.  Local. */
static inline uint64_t whole_digest(const char *folder, const char *name)
{
    char path[768];
    whole_look look;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return whole_look_at(path, &look) ? look.digest : 0;
}

/* Are all cases of a table asked for, or the few that the quick test takes? */
static inline bool whole_every_case(void)
{
    const char *every = getenv("HSGD_TEST_EVERY_CASE");

    return every != NULL && strcmp(every, "1") == 0;
}
