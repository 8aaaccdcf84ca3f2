/* tests/store/test_certify.c - mirrors src/store/certify.c: whatever a crash or a bad disk leaves, a manifest tells before
 * HDF5 opens it.  HSGD_TEST_EVERY_CASE=1 damages the files 20,000 times.
 * ranks: 1 2.  long: 1 */
#include "scratch.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>

enum { VALUES = 4000, MOST_BYTES = 1 << 18, STEP = 512 };

static const char OLD[] = "checkpoint-00000001.h5", NEW[] = "checkpoint-00000002.h5", WEIGHTS[] = "weights.h5";

/* ---- what HDF5 is asked to open ---- */

static char opened[4096]; /* names, one after the other */

static void note_opened(const char *name)
{
    if (strlen(opened) + strlen(name) + 2 < sizeof opened) {
        (void)strcat(strcat(opened, name), "\n");
    }
}

/* In place of HDF5's own, which it calls. */
hid_t H5Fopen(const char *name, unsigned flags, hid_t access)
{
    hid_t (*real)(const char *, unsigned, hid_t);

    *(void **)&real = dlsym(RTLD_NEXT, "H5Fopen");
    note_opened(name);
    return real(name, flags, access);
}

htri_t H5Fis_hdf5(const char *name)
{
    htri_t (*real)(const char *);

    *(void **)&real = dlsym(RTLD_NEXT, "H5Fis_hdf5");
    note_opened(name);
    return real(name);
}

/* ---- files ---- */

/* How the commit ends. */
static hsgd_status try_to_write(const scratch *s, const char *name, int64_t step, hsgd_commit how)
{
    hsgd_store *store = NULL;
    double data[VALUES];
    const hsgd_dataset_spec spec = {.path = "/params/out/weight", .rank = 1, .dims = {VALUES}};
    hsgd_error err = {0};

    for (int i = 0; i < VALUES; i++) {
        data[i] = (double)step + 1.0 / (i + 1);
    }
    assert_ok(hsgd_store_create(test_comm(), s->folder, name, &scratch_provenance, NULL, &store, &err));
    assert_ok(hsgd_store_attribute_i64(store, "/", "step", step, &err));
    assert_ok(hsgd_store_write(store, &spec, data, &err));
    return hsgd_store_commit(&store, how, &err);
}

static void write_file(const scratch *s, const char *name, int64_t step, hsgd_commit how)
{
    assert_int_equal(try_to_write(s, name, step, how), HSGD_OK);
}

static void everybody_here(void)
{
    hsgd_error err = {0};

    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

static hsgd_status check(scratch *s, const char *name, bool *certified)
{
    hsgd_error err = {0};
    const hsgd_status st = hsgd_store_check(test_comm(), scratch_file(s, name), certified, &err);

    assert_int_equal(st, err.status);
    return st;
}

static void assert_certified(scratch *s, const char *name)
{
    bool certified = false;

    assert_int_equal(check(s, name, &certified), HSGD_OK);
    assert_true(certified);
}

/* On rank 0: all bytes of a file, and how many. */
static size_t read_all(const scratch *s, const char *name, char bytes[MOST_BYTES])
{
    char path[512];
    size_t length = 0;

    if (test_comm()->rank == 0) {
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
        file = fopen(path, "rb");
        assert_non_null(file);
        length = fread(bytes, 1, MOST_BYTES, file);
        assert_true(length < MOST_BYTES);
        assert_int_equal(fclose(file), 0);
    }
    return length;
}

/* On rank 0 alone. */
static void put(const scratch *s, const char *name, const char *bytes, size_t length)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void write_all(const scratch *s, const char *name, const char *bytes, size_t length)
{
    if (test_comm()->rank == 0) {
        put(s, name, bytes, length);
    }
    everybody_here();
}

/* ---- tests ---- */

static void a_committed_file_has_the_manifest_asked_for(void **state)
{
    scratch *s = *state;
    bool certified = true;

    write_file(s, "a.h5", 1, HSGD_COMMIT_REPLACE);
    assert_int_equal(check(s, "a.h5", &certified), HSGD_OK);
    assert_false(certified);
    write_file(s, "b.h5", 1, HSGD_COMMIT_CERTIFY);
    assert_certified(s, "b.h5");
    write_file(s, "b.h5", 2, HSGD_COMMIT_CERTIFY);
    assert_certified(s, "b.h5");
    write_file(s, "c.h5", 1, HSGD_COMMIT_LAST);
    assert_certified(s, "c.h5");
    write_file(s, "d.h5", 1, HSGD_COMMIT_KEEP_OLD | HSGD_COMMIT_CERTIFY);
    write_file(s, "d.h5", 2, HSGD_COMMIT_KEEP_OLD | HSGD_COMMIT_CERTIFY);
    assert_certified(s, "d.h5");
    assert_int_equal(scratch_entries(s), 1 + 2 + 2 + 3);
}

/* sha256sum is everywhere; it must agree. */
static void the_system_s_own_tool_agrees(void **state)
{
    scratch *s = *state;
    char command[512];

    write_file(s, NEW, 2, HSGD_COMMIT_LAST);
    if (test_comm()->rank == 0) {
        (void)snprintf(command, sizeof command, "cd '%s' && sha256sum --check --strict --status %s.sha256", s->folder,
                       NEW);
        assert_int_equal(system(command), 0);
    }
}

/* Between the two renamings of a replacement the manifest tells of both files; then of the one that is there alone. */
static void a_replacement_cut_short_leaves_one_of_the_two_files(void **state)
{
    static char first[MOST_BYTES], second[MOST_BYTES];
    scratch *s = *state;
    size_t lengths[2];
    hsgd_error err = {0};

    write_file(s, "a.h5", 1, HSGD_COMMIT_CERTIFY);
    lengths[0] = read_all(s, "a.h5", first);
    write_file(s, "a.h5", 2, HSGD_COMMIT_CERTIFY);
    lengths[1] = read_all(s, "a.h5", second);
    for (int round = 0; round < 2; round++) { /* the crash came before the renaming, or after it */
        if (test_comm()->rank == 0) {
            manifest m = {.count = 2};

            put(s, "a.h5", first, lengths[0]);
            assert_ok(hsgd_sha256_file(scratch_file(s, "a.h5"), &m.entry[1].bytes, m.entry[1].sha256, &err));
            put(s, "a.h5", second, lengths[1]);
            assert_ok(hsgd_sha256_file(s->file, &m.entry[0].bytes, m.entry[0].sha256, &err));
            assert_ok(store_manifest_write(s->folder, s->file, &m, &err));
        }
        write_all(s, "a.h5", round == 0 ? first : second, lengths[round]);
        assert_certified(s, "a.h5");
        if (test_comm()->rank == 0) { /* the next replacement carries over what is there, not what is not */
            manifest m = {.count = 1};
            manifest_entry there;

            assert_ok(hsgd_sha256_file(s->file, &there.bytes, there.sha256, &err));
            assert_ok(store_manifest_extend(s->file, &m, &err));
            assert_int_equal(m.count, 2);
            assert_string_equal(m.entry[1].sha256, there.sha256);
        }
        write_file(s, "a.h5", 3, HSGD_COMMIT_CERTIFY);
        assert_certified(s, "a.h5");
        assert_int_equal(scratch_entries(s), 2);
    }
}

/* A commit that stops where the file should get its name, as a crash there would: what was there is as it was. */
static void a_commit_cut_short_leaves_the_file_that_was_there(void **state)
{
    static const hsgd_commit before[] = {HSGD_COMMIT_CERTIFY, HSGD_COMMIT_REPLACE}; /* with a manifest, and without */
    scratch *s = *state;

    for (int i = 0; i < 2; i++) {
        hsgd_store *store = NULL;
        hsgd_error err = {0};
        bool certified = false;

        write_file(s, "a.h5", 1, before[i]);
        assert_ok(hsgd_store_create(test_comm(), s->folder, "a.h5", &scratch_provenance, NULL, &store, &err));
        if (test_comm()->rank == 0) {
            assert_int_equal(mkdir(scratch_file(s, "a.h5.old"), 0777), 0);
        }
        everybody_here();
        assert_int_equal(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD | HSGD_COMMIT_CERTIFY, &err), HSGD_ERR_IO);
        assert_int_equal(check(s, "a.h5", &certified), HSGD_OK);
        assert_int_equal(certified, i == 0);
        if (test_comm()->rank == 0) {
            assert_int_equal(rmdir(scratch_file(s, "a.h5.old")), 0);
        }
        everybody_here();
        write_file(s, "a.h5", 2, HSGD_COMMIT_KEEP_OLD | HSGD_COMMIT_CERTIFY);
        assert_certified(s, "a.h5");
        assert_true(scratch_exists(s, "a.h5.old"));
        if (test_comm()->rank == 0) {
            assert_int_equal(unlink(scratch_file(s, "a.h5.old")), 0);
            assert_int_equal(unlink(scratch_file(s, "a.h5.sha256")), 0);
        }
        everybody_here();
    }
}

static void a_list_of_sums_that_is_not_ours_is_no_manifest(void **state)
{
    static const char theirs[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  a.h5\n";
    scratch *s = *state;
    bool certified = true;

    write_file(s, "a.h5", 1, HSGD_COMMIT_REPLACE);
    write_all(s, "a.h5.sha256", theirs, sizeof theirs - 1);
    assert_int_equal(check(s, "a.h5", &certified), HSGD_OK);
    assert_false(certified);
}

static void what_is_no_file_is_told(void **state)
{
    scratch *s = *state;
    bool certified = true;

    write_file(s, "a.h5", 1, HSGD_COMMIT_CERTIFY);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(scratch_file(s, "a.h5")), 0);
        assert_int_equal(mkfifo(s->file, 0600), 0); /* must not be waited for */
    }
    everybody_here();
    assert_int_equal(check(s, "a.h5", &certified), HSGD_ERR_DATA);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(scratch_file(s, "a.h5.sha256")), 0);
        assert_int_equal(mkfifo(s->file, 0600), 0);
    }
    everybody_here();
    assert_int_equal(check(s, "a.h5", &certified), HSGD_ERR_DATA);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(s->file), 0);
        assert_int_equal(mkdir(s->file, 0700), 0);
    }
    everybody_here();
    assert_int_equal(check(s, "a.h5", &certified), HSGD_ERR_DATA);
}

static void ignore_warning(void *context, const char *text)
{
    assert_non_null(text);
    ++*(int *)context;
}

/* The newest checkpoint is damaged: the one before is taken, and HDF5 has not seen the newest. */
static void assert_falls_back(scratch *s)
{
    int64_t step = 0;
    int warnings = 0;
    char file[512];
    hsgd_error err = {0};

    opened[0] = '\0';
    assert_ok(hsgd_store_newest_checkpoint(test_comm(), s->folder, INT64_MAX, &step, file, sizeof file, ignore_warning,
                                           &warnings, &err));
    assert_int_equal(step, 1);
    assert_int_equal(warnings, 1);
    assert_null(strstr(opened, NEW));
    if (test_comm()->rank == 0) {
        assert_non_null(strstr(opened, OLD)); /* the look itself works */
    }
}

static void assert_found(scratch *s, const char *name)
{
    bool certified = false;

    if (strcmp(name, NEW) == 0) {
        assert_falls_back(s);
    } else {
        opened[0] = '\0';
        assert_int_equal(check(s, name, &certified), HSGD_ERR_DATA);
        assert_string_equal(opened, "");
    }
}

/* Every truncation in steps of 512 bytes, and flips of single bits. */
static int64_t damage_everywhere(scratch *s, const char *name, int64_t flips)
{
    static char bytes[MOST_BYTES];
    int64_t length = (int64_t)read_all(s, name, bytes), cases = 0;
    uint64_t draw = 88172645463325252u; /* xorshift64: the same on all ranks */
    hsgd_error err = {0};

    assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof length, &length, &err));
    for (int64_t cut = 0; cut < length; cut += STEP, cases++) {
        write_all(s, name, bytes, (size_t)cut);
        assert_found(s, name);
    }
    for (; cases < flips; cases++) {
        size_t at;

        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        at = (size_t)((draw >> 3) % (uint64_t)length);
        bytes[at] ^= (char)(1 << (draw & 7));
        write_all(s, name, bytes, (size_t)length);
        bytes[at] ^= (char)(1 << (draw & 7));
        assert_found(s, name);
    }
    write_all(s, name, bytes, (size_t)length);
    assert_certified(s, name);
    return cases;
}

static void every_damage_is_found_before_hdf5_opens_the_file(void **state)
{
    const int64_t flips = getenv("HSGD_TEST_EVERY_CASE") != NULL ? 10000 : 300;
    scratch *s = *state;
    int64_t cases = 0;

    write_file(s, OLD, 1, HSGD_COMMIT_LAST);
    write_file(s, NEW, 2, HSGD_COMMIT_LAST);
    write_file(s, WEIGHTS, 2, HSGD_COMMIT_KEEP_OLD | HSGD_COMMIT_CERTIFY);
    cases += damage_everywhere(s, NEW, flips);
    cases += damage_everywhere(s, WEIGHTS, flips);
    if (test_comm()->rank == 0) {
        print_message("%lld damages of checkpoint and weights: all found, without HDF5's opening them\n",
                      (long long)cases);
    }
}

/* On rank 0: `name` is moved away, and in its place is a file that cannot be read (EIO); or it comes back. */
static void swap_unreadable(const scratch *s, const char *name, bool back)
{
    char path[512], aside[512];

    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    (void)snprintf(aside, sizeof aside, "%s/aside", s->folder);
    if (test_comm()->rank == 0) {
        if (back) {
            assert_int_equal(rename(aside, path), 0);
        } else {
            assert_int_equal(rename(path, aside), 0);
            assert_int_equal(symlink("/proc/self/mem", path), 0); /* its first page is nobody's */
        }
    }
    everybody_here();
}

static void a_disk_that_does_not_answer_says_nothing_of_a_file(void **state)
{
    static const char *const names[] = {NEW, "checkpoint-00000002.h5.sha256"};
    scratch *s = *state;
    int64_t step = 0;
    int warnings = 0;
    char file[512];
    bool certified = false;

    write_file(s, OLD, 1, HSGD_COMMIT_LAST);
    write_file(s, NEW, 2, HSGD_COMMIT_LAST);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hsgd_error err = {0};

        swap_unreadable(s, names[i], false);
        assert_int_equal(check(s, NEW, &certified), HSGD_ERR_IO);
        assert_int_equal(hsgd_store_newest_checkpoint(test_comm(), s->folder, INT64_MAX, &step, file, sizeof file,
                                                      ignore_warning, &warnings, &err),
                         HSGD_ERR_IO);
        assert_int_equal(warnings, 0);
        if (i == 1) { /* what a crash would leave of a replacement has nobody to vouch for it */
            assert_int_equal(try_to_write(s, NEW, 3, HSGD_COMMIT_CERTIFY), HSGD_ERR_IO);
        }
        swap_unreadable(s, names[i], true);
    }
    assert_certified(s, NEW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(a_committed_file_has_the_manifest_asked_for),
        scratch_test(the_system_s_own_tool_agrees),
        scratch_test(a_replacement_cut_short_leaves_one_of_the_two_files),
        scratch_test(a_commit_cut_short_leaves_the_file_that_was_there),
        scratch_test(a_list_of_sums_that_is_not_ours_is_no_manifest),
        scratch_test(what_is_no_file_is_told),
        scratch_test(a_disk_that_does_not_answer_says_nothing_of_a_file),
        scratch_test(every_damage_is_found_before_hdf5_opens_the_file),
    };

    return test_run(tests);
}
