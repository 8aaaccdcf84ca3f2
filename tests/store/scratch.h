/* tests/store/scratch.h - a folder of its own for each test, on all ranks, and gone afterwards. */
#pragma once
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/hash.h"
#include "store/internal.h"
#include "support.h"

typedef struct {
    char folder[256];
    char file[320]; /* folder/name of the last scratch_file */
} scratch;

static const hsgd_provenance scratch_provenance = {
    .command = "hsgd-dist test", .backend = "cpu", .seed = 1, .threads = 2, .group = 32};

/* Remove the files of `folder`, the folders below it, and itself. */
static inline void scratch_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[1024];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        (void)snprintf(path, sizeof path, "%.700s/%.255s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && unlink(path) != 0) {
            scratch_remove(path);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
        (void)rmdir(folder);
    }
}

static inline int scratch_setup(void **state)
{
    static scratch s;
    const char *place = getenv("TMPDIR");
    hsgd_comm *comm = test_comm();
    hsgd_error err = {0};

    if (comm->rank == 0) {
        (void)snprintf(s.folder, sizeof s.folder, "%.200s/hsgd-store-XXXXXX", place != NULL ? place : "/tmp");
        assert_non_null(mkdtemp(s.folder));
    }
    assert_ok(hsgd_comm_broadcast(comm, 0, sizeof s.folder, s.folder, &err));
    *state = &s;
    return 0;
}

static inline int scratch_teardown(void **state)
{
    const scratch *s = *state;
    hsgd_error err = {0};

    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err)); /* nobody is at it any more */
    if (test_comm()->rank == 0) {
        scratch_remove(s->folder);
    }
    return 0;
}

static inline const char *scratch_file(scratch *s, const char *name)
{
    (void)snprintf(s->file, sizeof s->file, "%s/%s", s->folder, name);
    return s->file;
}

/* How many entries the folder has, hidden ones too; the same on all ranks. */
static inline int64_t scratch_entries(const scratch *s)
{
    int64_t count = 0;
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        DIR *dir = opendir(s->folder);

        assert_non_null(dir);
        while (readdir(dir) != NULL) {
            count++;
        }
        (void)closedir(dir);
        count -= 2; /* . and .. */
    }
    assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof count, &count, &err));
    return count;
}

static inline bool scratch_exists(const scratch *s, const char *name)
{
    bool exists = false;
    hsgd_error err = {0};

    assert_ok(hsgd_store_exists(test_comm(), s->folder, name, &exists, &err));
    return exists;
}

/* Make or cut a file on rank 0, and let all know. */
static inline void scratch_cut(scratch *s, const char *name, off_t size)
{
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        FILE *file = fopen(scratch_file(s, name), "ab");

        assert_non_null(file);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(truncate(s->file, size), 0);
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

/* On rank 0: give a changed file a manifest that tells of it as it is now, as whoever forges one would. */
static inline void scratch_certify(scratch *s, const char *name)
{
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        manifest m = {.count = 1};

        assert_ok(hsgd_sha256_file(scratch_file(s, name), &m.entry[0].bytes, m.entry[0].sha256, &err));
        assert_ok(store_manifest_write(s->folder, s->file, &m, &err));
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
