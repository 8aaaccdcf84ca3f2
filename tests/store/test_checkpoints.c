/* tests/store/test_checkpoints.c - mirrors src/store/checkpoints.c: which checkpoint is the newest, and which go.
 * ranks: 1 2 4 */
#include "scratch.h"

static void write_checkpoint(const scratch *s, const char *name, int64_t step)
{
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_store_create(test_comm(), s->folder, name, &scratch_provenance, NULL, &store, &err));
    assert_ok(hsgd_store_attribute_i64(store, "/", "step", step, &err));
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_LAST, &err));
}

static void note(void *context, const char *text)
{
    char *all = context;

    (void)snprintf(all + strlen(all), 4096 - strlen(all), "%s\n", text);
}

static int64_t newest(const scratch *s, char *warnings, char *file, size_t size)
{
    int64_t step = -2;
    hsgd_error err = {0};

    warnings[0] = '\0';
    assert_ok(hsgd_store_newest_checkpoint(test_comm(), s->folder, INT64_MAX, &step, file, size, note, warnings, &err));
    return step;
}

static void the_newest_checkpoint_is_that_of_the_greatest_step(void **state)
{
    const scratch *s = *state;
    char warnings[4096], file[512], want[512];

    assert_int_equal(newest(s, warnings, file, sizeof file), -1);
    assert_string_equal(file, "");
    write_checkpoint(s, "checkpoint-00000600.h5", 600);
    write_checkpoint(s, "checkpoint-00001200.h5", 1200);
    write_checkpoint(s, "checkpoint-00000900.h5", 900);
    assert_int_equal(newest(s, warnings, file, sizeof file), 1200);
    (void)snprintf(want, sizeof want, "%s/checkpoint-00001200.h5", s->folder);
    assert_string_equal(file, want);
    assert_string_equal(warnings, "");
    write_checkpoint(s, "checkpoint-123456789.h5", 123456789); /* more digits than the name provides for */
    assert_int_equal(newest(s, warnings, file, sizeof file), 123456789);
}

static void a_folder_that_does_not_exist_has_no_checkpoint(void **state)
{
    scratch absent = *(const scratch *)*state;
    char warnings[4096], file[512];

    (void)strcat(absent.folder, "/absent");
    assert_int_equal(newest(&absent, warnings, file, sizeof file), -1);
}

static void names_that_only_resemble_a_checkpoint_are_passed_over(void **state)
{
    static const char *const names[] = {"checkpoint-1.h5",
                                        "checkpoint-.h5",
                                        "checkpoint-00000009.h5.old",
                                        "checkpoint-0000009x.h5",
                                        "checkpoint-000000009.h5",
                                        "xcheckpoint-00000009.h5",
                                        "checkpoint--0000009.h5",
                                        ".checkpoint-00000009.h5.tmp",
                                        "checkpoint-99999999999999999999999.h5"};
    scratch *s = *state;
    char warnings[4096], file[512];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        scratch_cut(s, names[i], 0);
    }
    write_checkpoint(s, "checkpoint-00000003.h5", 3);
    assert_int_equal(newest(s, warnings, file, sizeof file), 3);
    assert_string_equal(warnings, "");
}

static void damaged_checkpoints_are_told_and_the_one_before_is_taken(void **state)
{
    scratch *s = *state;
    char warnings[4096], file[512];

    write_checkpoint(s, "checkpoint-00000001.h5", 1);
    write_checkpoint(s, "checkpoint-00000002.h5", 2);
    scratch_cut(s, "checkpoint-00000002.h5", 700);
    write_checkpoint(s, "checkpoint-00000003.h5", 33); /* another's under this name */
    scratch_cut(s, "checkpoint-00000004.h5", 0);
    write_checkpoint(s, "checkpoint-00000005.h5", 5);
    scratch_cut(s, "checkpoint-00000005.h5.sha256", 30);
    assert_int_equal(newest(s, warnings, file, sizeof file), 1);
    assert_non_null(strstr(warnings, "checkpoint-00000002.h5: damaged: its size or SHA-256"));
    assert_non_null(strstr(warnings, "checkpoint-00000003.h5: damaged: its step is not that of its name"));
    assert_non_null(strstr(warnings, "checkpoint-00000004.h5: was never completed (it has no manifest"));
    assert_non_null(strstr(warnings, "checkpoint-00000005.h5.sha256: damaged"));
    assert_non_null(strstr(file, "checkpoint-00000001.h5"));
}

static void pruning_keeps_the_newest_and_all_that_is_no_checkpoint(void **state)
{
    static const char *const stay[] = {"weights.h5", "checkpoint-00000001.h5.old", "notes.tmp"};
    scratch *s = *state;
    hsgd_error err = {0};
    char name[64];

    for (int step = 1; step <= 5; step++) {
        (void)snprintf(name, sizeof name, "checkpoint-%08d.h5", step);
        write_checkpoint(s, name, step);
    }
    for (int i = 0; i < 3; i++) {
        scratch_cut(s, stay[i], 1);
    }
    scratch_cut(s, "checkpoint-00000000.h5", 1); /* never completed: neither counted nor kept */
    scratch_cut(s, ".train.h5.tmp", 1);          /* left by a run that was killed */
    assert_ok(hsgd_store_prune_checkpoints(test_comm(), s->folder, 2, NULL, &err));
    assert_int_equal(scratch_entries(s), 2 * 2 + 3);
    assert_true(scratch_exists(s, "checkpoint-00000005.h5") && scratch_exists(s, "checkpoint-00000004.h5"));
    for (int i = 0; i < 3; i++) {
        assert_true(scratch_exists(s, stay[i]));
    }
    assert_ok(hsgd_store_prune_checkpoints(test_comm(), s->folder, 7, NULL, &err)); /* more than there are */
    assert_int_equal(scratch_entries(s), 2 * 2 + 3);
}

/* A newer file without a manifest is no checkpoint: for its sake no complete one may go. */
static void pruning_counts_complete_checkpoints_alone(void **state)
{
    scratch *s = *state;
    hsgd_error err = {0};

    write_checkpoint(s, "checkpoint-00000001.h5", 1);
    write_checkpoint(s, "checkpoint-00000002.h5", 2);
    write_checkpoint(s, "checkpoint-00000003.h5", 3);
    scratch_cut(s, "checkpoint-00000004.h5", 700);
    assert_ok(hsgd_store_prune_checkpoints(test_comm(), s->folder, 2, NULL, &err));
    assert_true(scratch_exists(s, "checkpoint-00000003.h5") && scratch_exists(s, "checkpoint-00000002.h5"));
    assert_false(scratch_exists(s, "checkpoint-00000001.h5"));
}

static void everybody_here(void)
{
    hsgd_error err = {0};

    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

/* On rank 0: a folder where the name of that file's .old should stand keeps it from being renamed. */
static void block(scratch *s, const char *name, bool yes)
{
    if (test_comm()->rank == 0) {
        assert_int_equal(yes ? mkdir(scratch_file(s, name), 0777) : rmdir(scratch_file(s, name)), 0);
    }
    everybody_here();
}

static void what_is_newer_than_the_one_taken_goes_and_the_newest_last(void **state)
{
    scratch *s = *state;
    hsgd_error err = {0};

    write_checkpoint(s, "checkpoint-00000001.h5", 1);
    write_checkpoint(s, "checkpoint-00000002.h5", 2);
    write_checkpoint(s, "checkpoint-00000003.h5", 3);
    block(s, "checkpoint-00000002.h5.old", true);
    assert_int_equal(hsgd_store_retire_checkpoints(test_comm(), s->folder, 1, NULL, &err), HSGD_ERR_IO);
    assert_true(scratch_exists(s, "checkpoint-00000003.h5")); /* it tells how far the training went */
    block(s, "checkpoint-00000002.h5.old", false);
    assert_ok(hsgd_store_retire_checkpoints(test_comm(), s->folder, 1, NULL, &err));
    assert_true(scratch_exists(s, "checkpoint-00000001.h5") && scratch_exists(s, "checkpoint-00000001.h5.sha256"));
    assert_false(scratch_exists(s, "checkpoint-00000002.h5") || scratch_exists(s, "checkpoint-00000003.h5"));
}

static void retired_checkpoints_stay_beside_but_count_no_more(void **state)
{
    const scratch *s = *state;
    hsgd_error err = {0};
    char warnings[4096], file[512];

    write_checkpoint(s, "checkpoint-00000001.h5", 1);
    write_checkpoint(s, "checkpoint-00000002.h5", 2);
    assert_ok(hsgd_store_retire_checkpoints(test_comm(), s->folder, -1, NULL, &err));
    assert_int_equal(newest(s, warnings, file, sizeof file), -1);
    assert_true(scratch_exists(s, "checkpoint-00000001.h5.old") && scratch_exists(s, "checkpoint-00000002.h5.old"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(the_newest_checkpoint_is_that_of_the_greatest_step),
        scratch_test(a_folder_that_does_not_exist_has_no_checkpoint),
        scratch_test(names_that_only_resemble_a_checkpoint_are_passed_over),
        scratch_test(damaged_checkpoints_are_told_and_the_one_before_is_taken),
        scratch_test(pruning_keeps_the_newest_and_all_that_is_no_checkpoint),
        scratch_test(pruning_counts_complete_checkpoints_alone),
        scratch_test(what_is_newer_than_the_one_taken_goes_and_the_newest_last),
        scratch_test(retired_checkpoints_stay_beside_but_count_no_more),
    };

    return test_run(tests);
}
