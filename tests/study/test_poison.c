/* tests/study/test_poison.c - NaN and infinities that one rank puts in at six places are noticed by all ranks in the same
 * step, named, and never in a file; the checkpoint before them is there, and training goes on from it.  The quick test
 * takes one rank for each place and number.  ranks: 4.  long: 4 */
#include "poison.h"

enum { KINDS = 3, MOST_WORDS = 24 };

static const double kinds[KINDS] = {NAN, INFINITY, -INFINITY};

/* By rank: one entry in each of the four blocks of parameters, and how messages name the block. */
static const struct {
    int64_t entry;
    const char *name;
} blocks[] = {{7, "layer conv1 (weight, entry 8 of 18)"},
              {POISON_BIAS + 1, "layer conv1 (bias, entry 2 of 2)"},
              {2000, "layer out (weight, entry "},
              {POISON_OUT + 4, "layer out (bias, entry 5 of 10)"}};

static const struct {
    const char *name;  /* of the place, for who reads a failure */
    const char *where; /* what the message must hold beside the step and, where the block is known, its name */
    bool block, eigen;
} places[POISON_PLACES] = {[IN_IMAGE] = {"image", "the gradient of layer conv1", false, false},
                           [IN_WEIGHT] = {"weight", "the parameter of ", true, false},
                           [IN_GRADIENT] = {"gradient", "the gradient of ", true, false},
                           [IN_PRODUCT] = {"product", " holds NaN, Inf or numbers out of range", true, true},
                           [IN_LANCZOS] = {"Lanczos", "NaN or Inf", false, true},
                           [IN_SUM] = {"sum", "the gradient of ", true, false}};

/* The words of a study; 8 steps, a checkpoint after every other one. */
static int study_words(bool eigen, bool fast, const char *const *more, int count, const char **words)
{
    static const char *const common[] = {"data.train_samples=400",
                                         "data.test_samples=20",
                                         "model.layers=conv 2 3 / relu / maxpool 2 / linear 10",
                                         "train.batch=100",
                                         "train.steps=8",
                                         "train.momentum=0.9",
                                         "train.checkpoint_every=2",
                                         "train.checkpoint_keep=8",
                                         "hessian.samples=100",
                                         "eigen.count=1",
                                         "eigen.which=largest",
                                         "eigen.tolerance=1e-3"};
    int used = sizeof common / sizeof common[0];

    memcpy(words, common, sizeof common);
    words[used++] = eigen ? "run.stages=train eigen" : "run.stages=train";
    words[used++] = fast ? "run.reduction=fast" : "run.reduction=reproducible";
    for (int i = 0; i < count; i++) {
        words[used++] = more[i];
    }
    return used;
}

static hsgd_status run(hsgd_comm *comm, const char *folder, bool eigen, bool fast, bool restart, hsgd_error *err)
{
    const char *words[MOST_WORDS];
    const int count = study_words(eigen, fast, NULL, 0, words);

    return whole_run(comm, folder, words, count, restart, poison_backend, err);
}

/* Every number of every file of the folder is finite; how many files.  On rank 0, for all. */
static int64_t finite_files(const char *folder)
{
    int64_t files = 0;
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        DIR *dir = opendir(folder);
        const struct dirent *entry;

        while (dir != NULL && (entry = readdir(dir)) != NULL) {
            char path[1024];
            whole_look look;
            const size_t length = strlen(entry->d_name);

            if (length > 3 && strcmp(entry->d_name + length - 3, ".h5") == 0) {
                (void)snprintf(path, sizeof path, "%.700s/%.255s", folder, entry->d_name);
                if (!whole_look_at(path, &look) || look.bad != 0) {
                    fail_msg("%s: %lld numbers are not finite, the first in %s", path, (long long)look.bad,
                             look.first_bad);
                }
                files++;
            }
        }
        if (dir != NULL) {
            (void)closedir(dir);
        }
    }
    assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof files, &files, &err));
    return files;
}

/* All ranks have the same failure, HSGD_ERR_NUMERIC, with the same text, which holds `words`. */
static void same_everywhere(hsgd_status st, const hsgd_error *got, const char *what, const char *const *words,
                            int count)
{
    hsgd_error first = *got, err = {0};
    int64_t differs[2];

    assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof first, &first, &err));
    differs[0] = st != HSGD_ERR_NUMERIC;
    differs[1] = strcmp(first.text, got->text) != 0;
    assert_ok(hsgd_comm_sum(test_comm(), HSGD_TYPE_I64, 2, differs, &err));
    if (differs[0] != 0 || differs[1] != 0) {
        fail_msg("%s: on rank %d status %d, \"%s\"; rank 0 has \"%s\"", what, test_comm()->rank, st, got->text,
                 first.text);
    }
    for (int i = 0; i < count; i++) {
        if (words[i] != NULL && strstr(got->text, words[i]) == NULL) {
            fail_msg("%s: \"%s\" does not tell of \"%s\"", what, got->text, words[i]);
        }
    }
}

/* The digest of what an undisturbed study leaves. */
static uint64_t digest_of(const char *folder, bool eigen)
{
    uint64_t digest = 0;
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        digest = whole_digest(folder, "train.h5") ^ (whole_digest(folder, "weights.h5") << 1);
        digest ^= eigen ? whole_digest(folder, "eigen.h5") << 2 : 0;
    }
    assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof digest, &digest, &err));
    return digest;
}

static void remove_folder(const char *folder)
{
    hsgd_error err = {0};

    if (test_comm()->rank == 0) {
        scratch_remove(folder);
    }
    assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
}

/* One case: the fault, the failure, the files, and the way on. */
static void poisoned(hsgd_comm *comm, const char *folder, poison_place place, int kind, int rank, uint64_t want)
{
    const bool eigen = places[place].eigen, fast = place == IN_SUM;
    /* an infinite weight after the fourth update meets the checkpoint there before it meets a step */
    const bool late = place == IN_WEIGHT && kind == 1;
    const char *words[] = {places[place].where, places[place].block ? blocks[rank].name : NULL,
                           eigen ? "eigen" : "step 4", eigen ? NULL : "checkpoint-00000002.h5"};
    char what[64];
    hsgd_error err = {0};
    hsgd_status st;

    (void)snprintf(what, sizeof what, "%g in %s on rank %d", kinds[kind], places[place].name, rank);
    poison_now = (poison){.here = comm->rank == rank,
                          .place = place,
                          .value = kinds[kind],
                          .entry = blocks[rank].entry,
                          .after = late ? POISON_AFTER + 1 : POISON_AFTER};
    st = run(comm, folder, eigen, fast, false, &err);
    same_everywhere(st, &err, what, words, sizeof words / sizeof words[0]);
    if (place == IN_PRODUCT) { /* who put it in knows in which one */
        char number[64];
        int64_t bad = poison_now.bad;

        assert_ok(hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &bad, &err));
        (void)snprintf(number, sizeof number, " %lld holds", (long long)bad);
        if (strstr(err.text, number) == NULL) {
            fail_msg("%s: \"%s\" does not tell of \"%s\"", what, err.text, number);
        }
    }
    assert_int_equal(finite_files(folder), eigen ? 6 : 1); /* four checkpoints and two results; the one checkpoint */
    poison_now = (poison){0};
    if (whole_every_case() || kind == 0) {
        err = (hsgd_error){0};
        assert_ok(run(comm, folder, eigen, fast, true, &err));
        assert_true(finite_files(folder) >= 5);
        assert_true(fast || digest_of(folder, eigen) == want);
    }
    remove_folder(folder);
}

static void a_number_that_is_not_finite_is_noticed_by_all_and_never_written(void **state)
{
    const scratch *at = *state;
    hsgd_comm comm = poison_comm();
    uint64_t want[2] = {0};
    int64_t cases = 0;
    hsgd_error err = {0};
    char folder[512];

    assert_int_equal(comm.ranks, 4);
    (void)snprintf(folder, sizeof folder, "%s/study", at->folder);
    for (int eigen = 0; eigen < 2; eigen++) {
        assert_ok(run(&comm, folder, eigen == 1, false, false, &err));
        want[eigen] = digest_of(folder, eigen == 1);
        remove_folder(folder);
    }
    for (poison_place place = 0; place < POISON_PLACES; place++) {
        for (int kind = 0; kind < KINDS; kind++) {
            for (int rank = 0; rank < comm.ranks; rank++) {
                if (whole_every_case() || rank == ((int)place + kind) % comm.ranks) {
                    poisoned(&comm, folder, place, kind, rank, want[places[place].eigen]);
                    cases++;
                }
            }
        }
    }
    if (comm.rank == 0) {
        print_message("%lld times NaN, Inf or -Inf put in at %d places: noticed in the same step by all ranks, named, "
                      "in no file\n",
                      (long long)cases, POISON_PLACES);
    }
    assert_int_equal(cases, whole_every_case() ? POISON_PLACES * KINDS * 4 : POISON_PLACES * KINDS);
}

/* A fault that does not come again is told as one, instead of blaming a layer. */
static void a_fault_that_passes_is_told_as_one(void **state)
{
    const scratch *at = *state;
    const char *const words[] = {"step 4", "evaluated once more, all is finite", "checkpoint-00000002.h5"};
    hsgd_comm comm = poison_comm();
    hsgd_error err = {0};

    poison_now = (poison){.here = comm.rank == 2,
                          .once = true,
                          .place = IN_GRADIENT,
                          .value = NAN,
                          .entry = blocks[2].entry,
                          .after = POISON_AFTER};
    same_everywhere(run(&comm, at->folder, false, false, false, &err), &err, "a passing fault", words, 3);
    assert_int_equal(finite_files(at->folder), 1);
    poison_now = (poison){0};
}

/* Run with more words (run.stages among them), and fail: the text holds words[count], and not `never`. */
static void fails_saying(const char *folder, const poison *fault, const char *const *more, int extra,
                         const char *const *words, int count, const char *never)
{
    hsgd_comm comm = poison_comm();
    const char *deck[MOST_WORDS];
    const int used = study_words(false, false, more, extra, deck);
    hsgd_error err = {0};
    hsgd_status st;

    poison_now = *fault;
    st = whole_run(&comm, folder, deck, used, false, poison_backend, &err);
    same_everywhere(st, &err, more[0], words, count);
    if (strstr(err.text, never) != NULL) {
        fail_msg("%s: \"%s\" tells of \"%s\"", more[0], err.text, never);
    }
    remove_folder(folder);
}

static const char once_more[] = "evaluated once more";

/* What failed is what is evaluated once more: the test images, a product; and where that fails, nothing is claimed. */
static void only_what_was_looked_at_is_called_finite(void **state)
{
    const scratch *at = *state;
    const char *const tests[] = {"train.evaluate_every=2"}, *const measured[] = {"train.curvature_every=4"};
    const char *const in_test[] = {"train: the loss of the test images", "after step 4", "the gradient of layer conv1",
                                   "checkpoint-00000002.h5"};
    const char *const in_product[] = {"train: the curvature at step 0", "a product's part of ", blocks[2].name,
                                      "there is no checkpoint"};
    const char *const passing[] = {once_more, "suspect the memory"}, *const lost[] = {"step 4", "checkpoint-00000002"};
    poison fault = {.here = true, .place = IN_TEST, .value = INFINITY, .after = POISON_AFTER};
    char folder[512];

    (void)snprintf(folder, sizeof folder, "%s/study", at->folder);
    fails_saying(folder, &fault, tests, 1, in_test, 4, once_more);
    fault.once = true;
    fails_saying(folder, &fault, tests, 1, passing, 2, "layer ");
    fault = (poison){.here = test_comm()->rank == 1, .place = IN_PRODUCT, .value = NAN, .entry = blocks[2].entry};
    fails_saying(folder, &fault, measured, 1, in_product, 4, once_more);
    fault.once = true;
    fails_saying(folder, &fault, measured, 1, passing, 2, "layer ");
    fault = (poison){.here = test_comm()->rank == 3,
                     .once = true,
                     .lost = true,
                     .place = IN_GRADIENT,
                     .value = NAN,
                     .after = POISON_AFTER};
    fails_saying(folder, &fault, tests, 1, lost, 2, once_more);
    poison_now = (poison){0};
}

/* A failure that is known already costs no product and no gradient more. */
static void a_failure_of_another_kind_is_told_at_once(void **state)
{
    enum { NOISE_PRODUCTS = 3 };
    const scratch *at = *state;
    const char *const lenient[] = {"run.stages=eigen", "eigen.max_products=6", "eigen.require_convergence=false"};
    const char *const strict[] = {"run.stages=eigen", "eigen.max_products=6", "eigen.require_convergence=true"};
    const char *const fine[] = {"run.stages=eigen", "eigen.tolerance=1e-12"};
    const char *const open[] = {"eigen: ", "did not converge"}, *const floor[] = {"eigen.tolerance", "noise floor"};
    const poison none = {0};
    hsgd_comm comm = poison_comm();
    const char *deck[MOST_WORDS];
    int64_t products, sums;
    hsgd_error err = {0};
    char folder[512];

    (void)snprintf(folder, sizeof folder, "%s/study", at->folder);
    poison_now = none;
    assert_ok(whole_run(&comm, folder, deck, study_words(false, false, lenient, 3, deck), false, poison_backend, &err));
    remove_folder(folder);
    products = poison_now.products;
    sums = poison_now.sums;
    assert_true(products >= 6);
    fails_saying(folder, &none, strict, 3, open, 2, "layer ");
    assert_int_equal(poison_now.products, products);
    assert_int_equal(poison_now.sums, sums);
    fails_saying(folder, &none, fine, 2, floor, 2, "layer ");
    assert_int_equal(poison_now.products, NOISE_PRODUCTS);
    assert_int_equal(poison_now.sums, 0);
}

/* A learning rate far too large, without any fault. */
static void a_training_that_diverges_is_ended_the_same_way(void **state)
{
    const scratch *at = *state;
    static const char *const rates[] = {"train.lr=1e6", "train.lr=1e12", "train.lr=1e20", "train.lr=1e25",
                                        "train.lr=1e30"};
    const char *const told[] = {"train: ", "step ", "lower train.lr", "checkpoint"};
    hsgd_comm comm = poison_comm();
    char folder[512];

    (void)snprintf(folder, sizeof folder, "%s/study", at->folder);
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const char *words[MOST_WORDS];
        const int count = study_words(false, false, &rates[i], 1, words);
        hsgd_error err = {0};
        const hsgd_status st = whole_run(&comm, folder, words, count, false, poison_backend, &err);

        same_everywhere(st, &err, rates[i], told, 4);
        assert_true(strstr(err.text, "layer ") != NULL || strstr(err.text, "the loss is ") != NULL);
        (void)finite_files(folder);
        remove_folder(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(a_number_that_is_not_finite_is_noticed_by_all_and_never_written),
        scratch_test(a_fault_that_passes_is_told_as_one),
        scratch_test(only_what_was_looked_at_is_called_finite),
        scratch_test(a_failure_of_another_kind_is_told_at_once),
        scratch_test(a_training_that_diverges_is_ended_the_same_way),
    };

    (void)unsetenv("HSGD_DATA");
    return test_run(tests);
}
