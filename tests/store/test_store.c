/* tests/store/test_store.c - mirrors src/store/store.c: a file appears when complete, or not at all, and says whence.
 * ranks: 1 2 4 */
#include <errno.h>
#include <hdf5_hl.h>
#include <signal.h>
#include <sys/resource.h>
#include "base/clock.h"
#include "scratch.h"
#include "store/internal.h"

enum { BIG = 1 << 18 };

static const hsgd_dataset_spec number = {
    .path = "/number", .type = HSGD_STORE_I64, .rank = 0, .units = "1", .description = "test"};

static void begin(const scratch *s, int64_t value, hsgd_store **store)
{
    hsgd_error err = {0};

    assert_ok(hsgd_store_create(test_comm(), s->folder, "t.h5", &scratch_provenance, NULL, store, &err));
    assert_ok(hsgd_store_write(*store, &number, &value, &err));
}

static int64_t content(scratch *s, const char *name)
{
    int64_t value = -1;
    hsgd_error err = {0};

    assert_ok(hsgd_store_read_i64(test_comm(), scratch_file(s, name), "/number", 0, NULL, &value, &err));
    return value;
}

static void the_name_appears_with_the_commit(void **state)
{
    scratch *s = *state;
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    begin(s, 5, &store);
    assert_false(scratch_exists(s, "t.h5"));
    assert_int_equal(scratch_entries(s), 1); /* the temporary file */
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    assert_null(store);
    assert_true(scratch_exists(s, "t.h5"));
    assert_int_equal(scratch_entries(s), 1);
    assert_int_equal(content(s, "t.h5"), 5);
    assert_int_equal(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

/* Room is taken in advance (store_reserve); it is given back when the file is closed. */
static void a_small_file_is_small(void **state)
{
    scratch *s = *state;
    struct stat info;
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    begin(s, 5, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    assert_int_equal(stat(scratch_file(s, "t.h5"), &info), 0);
    assert_in_range(info.st_size, 512, STORE_RESERVE_FILE / 2);
}

static void giving_up_leaves_the_old_file_alone_and_nothing_else(void **state)
{
    scratch *s = *state;
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    begin(s, 1, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    begin(s, 2, &store);
    hsgd_store_abandon(&store);
    assert_null(store);
    hsgd_store_abandon(&store); /* nothing to give up is fine */
    assert_int_equal(scratch_entries(s), 1);
    assert_int_equal(content(s, "t.h5"), 1);
    assert_int_equal(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

static void a_new_file_replaces_the_old_or_keeps_it_beside(void **state)
{
    scratch *s = *state;
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    begin(s, 1, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, &err)); /* nothing to keep yet */
    assert_int_equal(scratch_entries(s), 1);
    begin(s, 2, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    assert_int_equal(scratch_entries(s), 1);
    begin(s, 3, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, &err));
    assert_int_equal(scratch_entries(s), 2);
    assert_int_equal(content(s, "t.h5"), 3);
    assert_int_equal(content(s, "t.h5.old"), 2);
}

static void a_file_left_half_written_is_replaced(void **state)
{
    scratch *s = *state;
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        FILE *left = fopen(scratch_file(s, ".t.h5.tmp"), "w");

        assert_non_null(left);
        assert_true(fputs("half a file", left) >= 0 && fclose(left) == 0);
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
    begin(s, 4, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    assert_int_equal(scratch_entries(s), 1);
    assert_int_equal(content(s, "t.h5"), 4);
}

static void folders_are_made_as_needed(void **state)
{
    const scratch *s = *state;
    char folder[512];
    hsgd_store *store = NULL;
    hsgd_error err = {0};
    bool exists = false;

    (void)snprintf(folder, sizeof folder, "%s/a/b//c/", s->folder);
    assert_ok(hsgd_store_create(test_comm(), folder, "t.h5", &scratch_provenance, NULL, &store, &err));
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    assert_ok(hsgd_store_exists(test_comm(), folder, "t.h5", &exists, &err));
    assert_true(exists);
}

static void a_folder_that_cannot_be_is_an_error_on_every_rank(void **state)
{
    scratch *s = *state;
    char folder[512], longest[STORE_PATH + 10];
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    begin(s, 1, &store);
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    (void)snprintf(folder, sizeof folder, "%s/t.h5", s->folder); /* a file */
    assert_int_equal(hsgd_store_create(test_comm(), folder, "u.h5", &scratch_provenance, NULL, &store, &err),
                     HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "not a folder"));
    (void)snprintf(folder, sizeof folder, "%s/t.h5/below", s->folder);
    assert_int_equal(hsgd_store_create(test_comm(), folder, "u.h5", &scratch_provenance, NULL, &store, &err),
                     HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "cannot make the folder"));
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(hsgd_store_create(test_comm(), longest, "u.h5", &scratch_provenance, NULL, &store, &err),
                     HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "too long"));
    assert_null(store);
}

static void a_folder_without_permission_is_an_error_on_every_rank(void **state)
{
    const scratch *s = *state;
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    if (geteuid() == 0) {
        print_message("skipped: root may write everywhere\n");
        skip();
    }
    if (test_comm()->rank == 0) {
        assert_int_equal(chmod(s->folder, 0555), 0);
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
    assert_int_equal(hsgd_store_create(test_comm(), s->folder, "t.h5", &scratch_provenance, NULL, &store, &err),
                     HSGD_ERR_IO);
    assert_non_null(strstr(err.text, strerror(EACCES)));
    assert_null(store);
}

static void assert_attribute(hsgd_comm *comm, const char *file, const char *name, const char *want)
{
    char text[256];
    hsgd_error err = {0};

    assert_ok(hsgd_store_read_attribute_text(comm, file, name, text, sizeof text, &err));
    assert_string_equal(text, want);
}

static void every_file_says_what_made_it(void **state)
{
    scratch *s = *state;
    hsgd_comm *comm = test_comm();
    const hsgd_provenance p = {.command = "hsgd-dist a.ini",
                               .deck = "[run]\nseed = 7\n",
                               .backend = "cpu",
                               .instruction_set = "avx2",
                               .precision = "single",
                               .reduction = "reproducible",
                               .data_source = "/data",
                               .data_sha256 = "ab",
                               .seed = 7,
                               .threads = 3,
                               .group = 32};
    static const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"format_version", 1}, {"seed", 7}, {"threads", 3}, {"group", 32}};
    hsgd_store *store = NULL;
    hsgd_error err = {0};
    char text[64];
    int64_t value = 0;
    int year = 0;

    assert_ok(hsgd_store_create(comm, s->folder, "p.h5", &p, NULL, &store, &err));
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    (void)scratch_file(s, "p.h5");
    assert_attribute(comm, s->file, "program", "hsgd-dist");
    assert_attribute(comm, s->file, "command", p.command);
    assert_attribute(comm, s->file, "deck", p.deck);
    assert_attribute(comm, s->file, "backend", p.backend);
    assert_attribute(comm, s->file, "instruction_set", p.instruction_set);
    assert_attribute(comm, s->file, "precision", p.precision);
    assert_attribute(comm, s->file, "reduction", p.reduction);
    assert_attribute(comm, s->file, "data_source", p.data_source);
    assert_attribute(comm, s->file, "data_sha256", p.data_sha256);
    assert_ok(hsgd_store_read_attribute_text(comm, s->file, "version", text, sizeof text, &err));
    assert_ok(hsgd_store_read_attribute_text(comm, s->file, "git_commit", text, sizeof text, &err));
    assert_ok(hsgd_store_read_attribute_text(comm, s->file, "created", text, sizeof text, &err));
    assert_int_equal(sscanf(text, "%4d-%*2d-%*2dT%*2d:%*2d:%*2dZ", &year), 1);
    assert_int_equal(strlen(text), strlen("2026-01-31T12:00:00Z"));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_ok(hsgd_store_read_attribute_i64(comm, s->file, numbers[i].name, &value, &err));
        assert_int_equal(value, numbers[i].value);
    }
    assert_ok(hsgd_store_read_attribute_i64(comm, s->file, "ranks", &value, &err));
    assert_int_equal(value, comm->ranks);
    assert_int_equal(hsgd_store_read_attribute_text(comm, s->file, "weights_sha256", text, sizeof text, &err),
                     HSGD_ERR_DATA); /* NULL: left out */
}

/* Write a file while the disk of rank `culprit` (or, with -1, of all) is full: the limit on file sizes stands for it.
 * Returns what all ranks agree on, after giving up where that is a failure. */
static hsgd_status write_on_full_disk(const scratch *s, int culprit, const char *name, const double *values,
                                      hsgd_error *err)
{
    hsgd_comm *comm = test_comm();
    const hsgd_dataset_spec spec = {.path = "/big", .type = HSGD_STORE_F64, .rank = 1, .dims = {BIG}};
    struct rlimit before, small;
    hsgd_store *store = NULL;
    hsgd_status st;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = BIG; /* bytes: an eighth of the dataset */
    assert_int_equal(hsgd_store_create(comm, s->folder, name, &scratch_provenance, NULL, &store, err), HSGD_OK);
    if (culprit < 0 || comm->rank == culprit) {
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    }
    st = hsgd_store_write(store, &spec, values, err);
    if (st == HSGD_OK) {
        st = hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, err);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    hsgd_store_abandon(&store);
    return st;
}

/* MPI-IO may let other ranks write what one holds, so one full disk may do no harm; what all make of it is one thing. */
static void a_full_disk_is_an_error_on_all_ranks_and_leaves_nothing(void **state)
{
    scratch *s = *state;
    double *values = calloc(BIG, sizeof *values);
    int failures = 0;
    char name[32];

    assert_non_null(values);
    for (int culprit = -1; culprit < test_comm()->ranks; culprit++) {
        hsgd_error err = {0}, mine;
        hsgd_status st;

        (void)snprintf(name, sizeof name, "full%d.h5", culprit + 1);
        st = write_on_full_disk(s, culprit, name, values, &err);
        mine = err;
        assert_int_equal(hsgd_comm_agree(test_comm(), st, &err), st);
        assert_true(culprit >= 0 || st == HSGD_ERR_IO);
        assert_int_equal(scratch_exists(s, name), st == HSGD_OK);
        if (st != HSGD_OK) {
            assert_int_equal(st, HSGD_ERR_IO);
            assert_non_null(strstr(mine.text, name));
            assert_non_null(strstr(mine.text, culprit <= 0 ? strerror(EFBIG) : "check free space"));
            failures++;
        }
    }
    assert_int_equal(scratch_entries(s), test_comm()->ranks + 1 - failures);
    assert_in_range(failures, 1, test_comm()->ranks + 1);
    free(values);
}

/* Calls within calls, and the communication in them, must not count twice: together they cannot take more than all. */
static void time_in_the_store_counts_once(void **state)
{
    const scratch *s = *state;
    hsgd_comm *comm = test_comm();
    const double start = hsgd_clock(), seconds = comm->seconds, files = comm->file_seconds;
    hsgd_store *store = NULL;
    hsgd_error err = {0};
    char file[512];
    int64_t step = 0;

    begin(s, 1, &store);
    assert_ok(hsgd_store_commit(&store, false, &err));
    assert_ok(hsgd_store_newest_checkpoint(comm, s->folder, INT64_MAX, &step, file, sizeof file, NULL, NULL, &err));
    assert_true(comm->file_seconds > files);
    assert_true(comm->file_seconds - files + comm->seconds - seconds <= hsgd_clock() - start + 1e-6); /* rounding */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(the_name_appears_with_the_commit),
        scratch_test(a_small_file_is_small),
        scratch_test(giving_up_leaves_the_old_file_alone_and_nothing_else),
        scratch_test(a_new_file_replaces_the_old_or_keeps_it_beside),
        scratch_test(a_file_left_half_written_is_replaced),
        scratch_test(folders_are_made_as_needed),
        scratch_test(a_folder_that_cannot_be_is_an_error_on_every_rank),
        scratch_test(a_folder_without_permission_is_an_error_on_every_rank),
        scratch_test(every_file_says_what_made_it),
        scratch_test(a_full_disk_is_an_error_on_all_ranks_and_leaves_nothing),
        scratch_test(time_in_the_store_counts_once),
    };

    (void)signal(SIGXFSZ, SIG_IGN); /* as main does */
    return test_run(tests);
}
