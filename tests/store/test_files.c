/* tests/store/test_files.c - mirrors src/store/files.c: what exists, is removed, set aside and tidied away.
 * ranks: 1 2 4 */
#include "scratch.h"

static void write_file(const scratch *s, const char *name, hsgd_commit how)
{
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_store_create(test_comm(), s->folder, name, &scratch_provenance, NULL, &store, &err));
    assert_ok(hsgd_store_commit(&store, how, &err));
}

static void only_regular_files_exist(void **state)
{
    const scratch *s = *state;
    hsgd_error err = {0};

    assert_false(scratch_exists(s, "a.h5"));
    if (test_comm()->rank == 0) {
        char path[512];

        (void)snprintf(path, sizeof path, "%s/a.h5", s->folder);
        assert_int_equal(mkdir(path, 0777), 0);
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
    assert_false(scratch_exists(s, "a.h5"));
    write_file(s, "b.h5", HSGD_COMMIT_REPLACE);
    assert_true(scratch_exists(s, "b.h5"));
}

static void removed_files_are_gone_and_with_them_what_was_in_the_making(void **state)
{
    static const char *const stay[] = {"b.h5", ".b.h5.tmp"};
    scratch *s = *state;
    hsgd_error err = {0};

    assert_ok(hsgd_store_remove(test_comm(), s->folder, "a.h5", NULL, &err)); /* there may be none */
    scratch_cut(s, "a.h5", 1);
    scratch_cut(s, ".a.h5.tmp", 1);
    scratch_cut(s, stay[0], 1);
    scratch_cut(s, stay[1], 1);
    assert_ok(hsgd_store_remove(test_comm(), s->folder, "a.h5", NULL, &err));
    assert_int_equal(scratch_entries(s), 2);
    assert_true(scratch_exists(s, stay[0]) && scratch_exists(s, stay[1]));
}

static void what_cannot_be_removed_is_told(void **state)
{
    scratch *s = *state;
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        assert_int_equal(mkdir(scratch_file(s, "a.h5"), 0777), 0);
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
    assert_int_equal(hsgd_store_remove(test_comm(), s->folder, "a.h5", NULL, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "a.h5: cannot remove"));
}

static void what_is_set_aside_is_the_old_one(void **state)
{
    scratch *s = *state;
    hsgd_error err = {0};

    assert_ok(hsgd_store_set_aside(test_comm(), s->folder, "a.h5", NULL, &err)); /* there may be none */
    assert_int_equal(scratch_entries(s), 0);
    scratch_cut(s, "a.h5", 1);
    scratch_cut(s, "a.h5.old", 2);
    assert_ok(hsgd_store_set_aside(test_comm(), s->folder, "a.h5", NULL, &err));
    assert_int_equal(scratch_entries(s), 1);
    assert_true(scratch_exists(s, "a.h5.old"));
    write_file(s, "a.h5", HSGD_COMMIT_CERTIFY);
    assert_ok(hsgd_store_set_aside(test_comm(), s->folder, "a.h5", NULL, &err));
    assert_int_equal(scratch_entries(s), 1); /* its manifest would tell of nothing */
}

static void a_file_goes_with_its_manifest(void **state)
{
    scratch *s = *state;
    hsgd_error err = {0};

    write_file(s, "a.h5", HSGD_COMMIT_CERTIFY);
    assert_int_equal(scratch_entries(s), 2);
    assert_ok(hsgd_store_remove(test_comm(), s->folder, "a.h5", NULL, &err));
    assert_int_equal(scratch_entries(s), 0);
    scratch_cut(s, "a.h5.sha256", 5); /* left by a run that was killed between the two */
    assert_ok(hsgd_store_remove(test_comm(), s->folder, "a.h5", NULL, &err));
    assert_int_equal(scratch_entries(s), 0);
}

static void what_killed_runs_left_half_written_is_tidied_away(void **state)
{
    static const char *const go[] = {".train.h5.tmp", ".checkpoint-00000001.h5.sha256.tmp", "eigen-state.h5.sha256",
                                     ".landscape-state.h5.tmp.locktest.0"};
    static const char *const stay[] = {"notes.tmp", ".notes.tmp", "notes.h5.sha256", "h5.tmp"};
    scratch *s = *state;
    hsgd_error err = {0};

    for (int i = 0; i < 4; i++) {
        scratch_cut(s, go[i], 1);
    }
    for (int i = 0; i < 4; i++) {
        scratch_cut(s, stay[i], 1);
    }
    write_file(s, "a.h5", HSGD_COMMIT_CERTIFY);
    assert_ok(hsgd_store_tidy(test_comm(), s->folder, NULL, &err));
    assert_int_equal(scratch_entries(s), 2 + 4);
    for (int i = 0; i < 4; i++) {
        assert_true(scratch_exists(s, stay[i]));
    }
    assert_true(scratch_exists(s, "a.h5.sha256"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(only_regular_files_exist),
        scratch_test(removed_files_are_gone_and_with_them_what_was_in_the_making),
        scratch_test(what_cannot_be_removed_is_told),
        scratch_test(what_is_set_aside_is_the_old_one),
        scratch_test(a_file_goes_with_its_manifest),
        scratch_test(what_killed_runs_left_half_written_is_tidied_away),
    };
    return test_run(tests);
}
