/* tests/study/test_keeper.c - mirrors src/study/keeper.c: a kept state comes back bit for bit on any number of ranks, and
 * nothing that is damaged or belongs to another stage is taken for it.  ranks: 1 2 3 4.  devices: cuda */
#include "study/keeper.h"
#include <stdlib.h>
#include <unistd.h>
#include "../store/scratch.h"
#include "support.h"

enum { COLUMNS = 11, NUMBERS = 5 }; /* more columns than the file holds in one piece */

static const char STATE[] = "density-state.h5";

/* A study of a few generated digits, at its first weights. */
typedef struct {
    hsgd_deck deck;
    hsgd_study_setup setup;
    study_state state;
} lab;

static hsgd_status make_backend(void *context, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    (void)context;
    return test_backend_create(precision, 1, out, err);
}

static lab *lab_create(const scratch *at, hsgd_comm *comm, bool restart)
{
    char output[320];
    const char *words[] = {"data.train_samples=20", "data.test_samples=10",   "hessian.samples=10",
                           "run.stages=density",    "model.layers=linear 10", output};
    lab *l = calloc(1, sizeof *l);
    double *weights = NULL;
    char source[STUDY_PATH];
    hsgd_error err = {0};

    assert_non_null(l);
    (void)snprintf(output, sizeof output, "run.output=%s", at->folder);
    assert_int_equal(unsetenv("HSGD_DATA"), 0);
    assert_ok(hsgd_deck_resolve(NULL, words, sizeof words / sizeof words[0], &l->deck, &err));
    l->setup = (hsgd_study_setup){.comm = comm, .deck = &l->deck, .make_backend = make_backend, .restart = restart};
    l->state.setup = &l->setup;
    l->state.deck = &l->deck;
    l->state.comm = comm;
    assert_ok(hsgd_progress_create(1, true, false, &l->state.progress, &err)); /* the voice of a rank that is not 0 */
    assert_ok(study_open(&l->state, &err));
    weights = malloc((size_t)l->state.n * sizeof *weights);
    assert_non_null(weights);
    assert_ok(study_initial_weights(&l->state, weights, source, sizeof source, &err));
    assert_ok(study_set_weights(&l->state, weights, source, &err));
    free(weights);
    return l;
}

static void lab_destroy(lab *l)
{
    hsgd_progress *progress = l->state.progress;

    study_close(&l->state);
    hsgd_progress_destroy(&progress);
    free(l);
}

static study_keeper *opened(lab *l)
{
    study_keeper *k = NULL;
    hsgd_error err = {0};

    assert_ok(study_keeper_open(&l->state, HSGD_STAGE_DENSITY, &k, &err));
    return k;
}

/* ---- states with known content: no two numbers alike, zeros of both signs, the smallest and the largest ---- */

static double entry(int64_t column, int64_t row)
{
    const hsgd_random stream = hsgd_random_stream(3, HSGD_RANDOM_TEST, (uint32_t)column);
    static const double special[] = {0.0, -0.0, 4.9406564584124654e-324, -1.7976931348623157e308};

    return row < 4 ? special[row] : hsgd_random_normal(&stream, (uint64_t)row);
}

static double *entries(int64_t n)
{
    double *all = malloc((size_t)(COLUMNS * n) * sizeof *all);

    assert_non_null(all);
    for (int64_t i = 0; i < COLUMNS * n; i++) {
        all[i] = entry(i / n, i % n);
    }
    return all;
}

static hsgd_status keep(lab *l, study_keeper *k, int64_t first, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t integer[NUMBERS];
    double real[NUMBERS], *full = entries(l->state.n);
    hsgd_snapshot x = {.integers = NUMBERS, .reals = NUMBERS, .integer = integer, .real = real};

    for (int64_t i = 0; i < NUMBERS; i++) {
        integer[i] = first + (i % 2 == 0 ? INT64_MAX - 100 - i : INT64_MIN + i);
        real[i] = entry(99, i);
    }
    HSGD_TRY(hsgd_vector_create(l->state.spread, COLUMNS, &x.vectors, err));
    HSGD_TRY(hsgd_vector_set_full(x.vectors, full, err));
    HSGD_TRY(hsgd_keeper_keep(study_keeper_face(k), &x, err));
done:
    hsgd_vector_destroy(&x.vectors);
    free(full);
    return st;
}

/* Recall; what is found must be what `keep` with `first` kept. */
static bool recalled(lab *l, study_keeper *k, int64_t first)
{
    hsgd_snapshot x;
    hsgd_error err = {0};
    bool found = false;
    double *want = entries(l->state.n), *full = malloc((size_t)(COLUMNS * l->state.n) * sizeof *full);

    assert_non_null(full);
    assert_ok(hsgd_keeper_recall(study_keeper_face(k), l->state.spread, &x, &found, &err));
    if (found) {
        assert_int_equal(x.integers, NUMBERS);
        assert_int_equal(x.reals, NUMBERS);
        assert_int_equal(x.vectors->columns, COLUMNS);
        for (int64_t i = 0; i < NUMBERS; i++) {
            const double real = entry(99, i);

            assert_true(x.integer[i] == first + (i % 2 == 0 ? INT64_MAX - 100 - i : INT64_MIN + i));
            assert_memory_equal(&x.real[i], &real, sizeof real);
        }
        assert_ok(hsgd_vector_gather(x.vectors, full, &err));
        assert_memory_equal(full, want, (size_t)(COLUMNS * l->state.n) * sizeof *full);
    } else {
        assert_true(x.integer == NULL && x.real == NULL && x.vectors == NULL);
    }
    hsgd_snapshot_clear(&x);
    free(full);
    free(want);
    return found;
}

/* A folder with a half-done stage. */
static void leave_state(const scratch *at, hsgd_comm *comm)
{
    lab *l = lab_create(at, comm, false);
    study_keeper *k = opened(l);
    hsgd_error err = {0};

    assert_ok(keep(l, k, 1, &err)); /* the last one counts */
    assert_ok(keep(l, k, 7, &err));
    study_keeper_close(&k, HSGD_ERR_DEVICE);
    lab_destroy(l);
}

static bool restart_finds(const scratch *at, hsgd_comm *comm)
{
    lab *l = lab_create(at, comm, true);
    study_keeper *k = opened(l);
    const bool found = recalled(l, k, 7);

    study_keeper_close(&k, HSGD_ERR_DEVICE);
    lab_destroy(l);
    return found;
}

static void everybody_here(void)
{
    hsgd_error err = {0};

    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

static void a_state_comes_back_bit_for_bit(void **state)
{
    leave_state(*state, test_comm());
    assert_true(restart_finds(*state, test_comm()));
    assert_true(restart_finds(*state, test_comm())); /* it stays until the stage is done */
    assert_int_equal(scratch_entries(*state), 2);    /* and its manifest */
}

static void another_number_of_ranks_changes_no_bit(void **state)
{
    hsgd_comm *serial = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_comm_serial_create(&serial, &err));
    leave_state(*state, test_comm());
    if (test_comm()->rank == 0) {
        assert_true(restart_finds(*state, serial));
        leave_state(*state, serial);
    }
    everybody_here();
    assert_true(restart_finds(*state, test_comm()));
    hsgd_comm_destroy(&serial);
}

static void a_state_without_vectors_or_numbers_is_one_too(void **state)
{
    lab *l = lab_create(*state, test_comm(), true);
    study_keeper *k = opened(l);
    hsgd_snapshot x = {0};
    hsgd_error err = {0};
    bool found = true;

    assert_ok(hsgd_keeper_recall(study_keeper_face(k), l->state.spread, &x, &found, &err));
    assert_false(found); /* nothing was ever kept */
    assert_ok(hsgd_keeper_keep(study_keeper_face(k), &x, &err));
    study_keeper_close(&k, HSGD_STOPPED);
    k = opened(l);
    assert_ok(hsgd_keeper_recall(study_keeper_face(k), l->state.spread, &x, &found, &err));
    assert_true(found && x.integers == 0 && x.reals == 0 && x.vectors == NULL);
    hsgd_snapshot_clear(&x);
    study_keeper_close(&k, HSGD_STOPPED);
    lab_destroy(l);
}

/* ---- what must not be taken ---- */

/* On rank 0: change one bit of the bytes `what` wherever they stand in the file, or (NULL) cut it to half. */
static void damage(scratch *at, const void *what, size_t size)
{
    if (test_comm()->rank == 0) {
        FILE *file = fopen(scratch_file(at, STATE), "r+b");
        char *all = malloc(1 << 22);
        size_t length = 0, hits = 0;

        assert_true(file != NULL && all != NULL);
        length = fread(all, 1, 1 << 22, file);
        for (size_t i = 0; what != NULL && i + size <= length; i++) {
            if (memcmp(all + i, what, size) == 0) {
                all[i] ^= 1;
                hits++;
            }
        }
        assert_true(what == NULL || hits == 1);
        rewind(file);
        assert_int_equal(fwrite(all, 1, length, file), length);
        assert_int_equal(fclose(file), 0);
        assert_true(what != NULL || truncate(at->file, (off_t)(length / 2)) == 0);
        free(all);
    }
    everybody_here();
}

static void a_damaged_state_is_not_taken(void **state)
{
    const double vector[] = {entry(10, 7000), entry(10, 7001)}, number = entry(99, 4);
    const int64_t integer = INT64_MAX - 104 + 7;
    const struct {
        const void *what;
        size_t size;
    } cases[] = {{vector, sizeof vector}, {&number, sizeof number}, {&integer, sizeof integer}, {NULL, 0}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        leave_state(*state, test_comm());
        damage(*state, cases[i].what, cases[i].size);
        scratch_certify(*state, STATE); /* so that the state's own checksum has to notice */
        assert_false(restart_finds(*state, test_comm()));
        assert_false(scratch_exists(*state, STATE));
        assert_true(scratch_exists(*state, "density-state.h5.old"));
    }
}

/* HDF5 would read this one without complaint. */
static void a_state_that_its_manifest_does_not_vouch_for_is_not_taken(void **state)
{
    const double vector[] = {entry(10, 7000), entry(10, 7001)};

    for (int gone = 0; gone < 2; gone++) {
        leave_state(*state, test_comm());
        if (gone == 0) {
            damage(*state, vector, sizeof vector);
        } else if (test_comm()->rank == 0) {
            assert_int_equal(unlink(scratch_file(*state, "density-state.h5.sha256")), 0);
        }
        everybody_here();
        assert_false(restart_finds(*state, test_comm()));
        assert_false(scratch_exists(*state, STATE));
        assert_true(scratch_exists(*state, "density-state.h5.old"));
    }
}

static void a_state_of_other_weights_is_set_aside(void **state)
{
    lab *l;
    study_keeper *k;
    hsgd_error err = {0};

    leave_state(*state, test_comm());
    l = lab_create(*state, test_comm(), true);
    l->state.weights[0] += 0.5;
    assert_ok(study_set_weights(&l->state, l->state.weights, "elsewhere", &err));
    k = opened(l);
    assert_false(recalled(l, k, 7));
    assert_true(scratch_exists(*state, "density-state.h5.old") && !scratch_exists(*state, STATE));
    study_keeper_close(&k, HSGD_OK);
    lab_destroy(l);
}

static void a_state_of_other_keys_or_samples_is_refused(void **state)
{
    leave_state(*state, test_comm());
    for (int i = 0; i < 2; i++) {
        lab *l = lab_create(*state, test_comm(), true);
        study_keeper *k = NULL;
        hsgd_error err = {0};

        l->deck.density.steps += i == 0;
        l->state.samples_sha256[0] ^= i == 1;
        assert_int_equal(study_keeper_open(&l->state, HSGD_STAGE_DENSITY, &k, &err), HSGD_ERR_USAGE);
        assert_null(k);
        assert_non_null(strstr(err.text, STATE));
        lab_destroy(l);
    }
    assert_true(restart_finds(*state, test_comm())); /* nothing was lost */
}

/* A result with the hash that the stage has in the lab. */
static void write_result(lab *l)
{
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    assert_ok(output_begin(&l->state, "density.h5", HSGD_STAGE_DENSITY, &store, &err));
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
}

/* The run was ended between the commit of the result and the removal of the state: that is no half-done stage. */
static void a_state_beside_its_own_result_is_left_over(void **state)
{
    lab *l;
    hsgd_error err = {0};

    leave_state(*state, test_comm());
    l = lab_create(*state, test_comm(), true);
    assert_ok(study_keeper_sweep(&l->state, &err));
    assert_true(scratch_exists(*state, STATE)); /* without a result it is one */
    write_result(l);
    assert_ok(study_keeper_sweep(&l->state, &err));
    assert_false(scratch_exists(*state, STATE));
    assert_true(scratch_exists(*state, "density.h5"));
    lab_destroy(l);
}

static void a_state_beside_the_result_of_other_keys_is_none_of_it(void **state)
{
    lab *l;
    hsgd_error err = {0};

    leave_state(*state, test_comm());
    l = lab_create(*state, test_comm(), true);
    l->deck.density.steps += 1;
    write_result(l);
    assert_ok(study_keeper_sweep(&l->state, &err));
    lab_destroy(l);
    assert_true(restart_finds(*state, test_comm()));
}

static void without_restart_a_folder_with_a_state_is_refused(void **state)
{
    lab *l;
    hsgd_error err = {0};

    leave_state(*state, test_comm());
    l = lab_create(*state, test_comm(), false);
    assert_int_equal(output_check_folder(&l->state, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, STATE));
    lab_destroy(l);
}

/* ---- when a state is kept, and when it goes ---- */

static bool stop_of_the_last_rank(void *context)
{
    return *(const bool *)context && test_comm()->rank == test_comm()->ranks - 1;
}

static void time_and_anybody_s_wish_to_stop_make_it_due(void **state)
{
    lab *l = lab_create(*state, test_comm(), false);
    study_keeper *k = opened(l);
    hsgd_error err = {0};
    bool asked = false, due = true;

    l->setup.stop = stop_of_the_last_rank;
    l->setup.stop_context = &asked;
    l->deck.run.snapshot_every = 1000000000;
    assert_ok(hsgd_keeper_due(study_keeper_face(k), &due, &err));
    assert_false(due);
    l->deck.run.snapshot_every = 0;
    assert_ok(hsgd_keeper_due(study_keeper_face(k), &due, &err));
    assert_true(due);
    assert_ok(keep(l, k, 3, &err));
    l->deck.run.snapshot_every = 1000000000;
    asked = true;
    assert_ok(hsgd_keeper_due(study_keeper_face(k), &due, &err));
    assert_true(due);
    assert_int_equal(keep(l, k, 7, &err), HSGD_STOPPED);
    study_keeper_close(&k, HSGD_STOPPED);
    lab_destroy(l);
    assert_true(restart_finds(*state, test_comm())); /* it was written whole before that */
}

static void what_is_done_or_cannot_be_done_leaves_no_state(void **state)
{
    scratch *at = *state;
    lab *l = lab_create(at, test_comm(), false);
    study_keeper *k = opened(l);
    hsgd_error err = {0};

    assert_ok(keep(l, k, 7, &err));
    if (test_comm()->rank == 0) { /* as a run that was killed while it kept a state leaves it */
        FILE *file = fopen(scratch_file(at, ".density-state.h5.tmp"), "wb");

        assert_non_null(file);
        assert_int_equal(fclose(file), 0);
    }
    everybody_here();
    assert_ok(study_keeper_finish(k, &err));
    assert_int_equal(scratch_entries(at), 0);
    assert_ok(study_keeper_finish(k, &err)); /* there may be none */
    assert_ok(keep(l, k, 7, &err));
    study_keeper_close(&k, HSGD_ERR_NUMERIC);
    everybody_here();
    assert_int_equal(scratch_entries(at), 0);
    lab_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(a_state_comes_back_bit_for_bit),
        scratch_test(another_number_of_ranks_changes_no_bit),
        scratch_test(a_state_without_vectors_or_numbers_is_one_too),
        scratch_test(a_damaged_state_is_not_taken),
        scratch_test(a_state_that_its_manifest_does_not_vouch_for_is_not_taken),
        scratch_test(a_state_of_other_weights_is_set_aside),
        scratch_test(a_state_of_other_keys_or_samples_is_refused),
        scratch_test(a_state_beside_its_own_result_is_left_over),
        scratch_test(a_state_beside_the_result_of_other_keys_is_none_of_it),
        scratch_test(without_restart_a_folder_with_a_state_is_refused),
        scratch_test(time_and_anybody_s_wish_to_stop_make_it_due),
        scratch_test(what_is_done_or_cannot_be_done_leaves_no_state),
    };

    return test_run(tests);
}
