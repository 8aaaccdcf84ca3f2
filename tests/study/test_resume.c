/* tests/study/test_resume.c - a training that is cut at any step and goes on with any number of ranks ends with the same
 * bits.  The quick test takes some of the 63 x 4 x 4 cases.  ranks: 8.  long: 8 */
#include "whole.h"

/* QUICK: steps from one checkpoint to the next in the quick test. */
enum { STEPS = 64, SIZES = 4, LAUNCH = 8, FOLDER = 512, QUICK = 7 };

static const int sizes[SIZES] = {1, 2, 4, 8};

/* Batches of 80 are eight groups of samples, one for each of eight ranks; an epoch's last batch is shorter. */
static const char *const training[] = {
    "data.train_samples=200", "data.test_samples=20",    "model.layers=conv 2 3 / relu / maxpool 2 / linear 10",
    "run.stages=train",       "train.batch=80",          "train.steps=64",
    "train.lr=0.05",          "train.momentum=0.9",      "train.weight_decay=0.001",
    "train.schedule=cosine",  "train.evaluate_every=16", "train.checkpoint_keep=64"};

/* The ranks in groups of one size, side by side; where the launch has too few ranks, one group less. */
typedef struct {
    hsgd_comm *comm;
    int groups, group; /* of that size, and which one this rank is in */
} readers;

static readers split_into(int size)
{
    readers r = {.groups = LAUNCH / size, .group = test_comm()->rank / size};
    hsgd_error err = {0};

    assert_ok(hsgd_comm_split(test_comm(), r.group, &r.comm, &err));
    assert_int_equal(r.comm->ranks, size);
    return r;
}

/* Copy the checkpoint of `step`, and what stands beside it under its name, into a folder of its own. */
static void copy_checkpoint(const char *from, const char *to, int step)
{
    char name[32], path[1024], target[1024], buffer[4096];
    DIR *dir = opendir(from);
    const struct dirent *entry;
    int copied = 0;

    assert_non_null(dir);
    assert_int_equal(mkdir(to, 0700), 0);
    (void)snprintf(name, sizeof name, "checkpoint-%08d.h5", step);
    while ((entry = readdir(dir)) != NULL) {
        FILE *in, *out;
        size_t got;

        if (strncmp(entry->d_name, name, strlen(name)) != 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%.700s/%.255s", from, entry->d_name);
        (void)snprintf(target, sizeof target, "%.700s/%.255s", to, entry->d_name);
        in = fopen(path, "rb");
        out = fopen(target, "wb");
        assert_true(in != NULL && out != NULL);
        while ((got = fread(buffer, 1, sizeof buffer, in)) > 0) {
            assert_int_equal(fwrite(buffer, 1, got, out), got);
        }
        assert_int_equal(fclose(in), 0);
        assert_int_equal(fclose(out), 0);
        copied++;
    }
    (void)closedir(dir);
    assert_true(copied >= 1);
}

/* The bits of all numbers that a finished training has written; the same on all ranks of comm. */
static uint64_t bits_of(hsgd_comm *comm, const char *folder)
{
    static const char *const names[] = {"weights.h5", "train.h5"};
    uint64_t bits[2] = {0};
    hsgd_error err = {0};

    for (int i = 0; i < 2 && comm->rank == 0; i++) {
        bits[i] = whole_digest(folder, names[i]);
    }
    assert_ok(hsgd_comm_broadcast(comm, 0, sizeof bits, bits, &err));
    assert_true(bits[0] != 0 && bits[1] != 0);
    return bits[0] ^ (bits[1] << 1 | bits[1] >> 63);
}

/* Who goes on keeps no checkpoint but the last: that changes no bit. */
static void train(hsgd_comm *comm, const char *folder, bool restart)
{
    enum { COUNT = sizeof training / sizeof training[0] };
    const char *words[COUNT + 1];
    char every[40];
    hsgd_error err = {0};

    memcpy(words, training, sizeof training);
    (void)snprintf(every, sizeof every, "train.checkpoint_every=%d", restart ? 0 : whole_every_case() ? 1 : QUICK);
    words[COUNT] = every;
    assert_ok(whole_run(comm, folder, words, COUNT + 1, restart, NULL, &err));
}

/* Go on from the checkpoint of `step` in `from`, alone in a new folder; the same bits as an undisturbed training? */
static bool goes_on(hsgd_comm *comm, const char *from, const char *folder, int step, uint64_t want)
{
    hsgd_error err = {0};
    bool same;

    if (comm->rank == 0) {
        copy_checkpoint(from, folder, step);
    }
    assert_ok(hsgd_comm_agree(comm, HSGD_OK, &err));
    train(comm, folder, true);
    same = bits_of(comm, folder) == want;
    if (comm->rank == 0) {
        scratch_remove(folder);
    }
    return same;
}

/* The steps at which the training of this writer and reader is cut: all, or a few, which over the writers and readers
 * fall on steps of every kind. */
static bool taken(int step, int writer, int reader)
{
    return whole_every_case() || (step % QUICK == 0 && (step / QUICK + 2 * writer + 3 * reader) % 6 == 0);
}

static void a_training_cut_anywhere_ends_with_the_same_bits(void **state)
{
    const scratch *at = *state;
    char from[SIZES][FOLDER], folder[FOLDER];
    uint64_t want = 0;
    int64_t counts[2] = {0}; /* cases, and those with other bits */
    hsgd_error err = {0};

    assert_int_equal(test_comm()->ranks, LAUNCH);
    for (int w = 0; w < SIZES; w++) {
        readers r = split_into(sizes[w]);
        uint64_t bits = 0;

        (void)snprintf(from[w], sizeof from[w], "%s/written-by-%d", at->folder, sizes[w]);
        if (r.group == 0) {
            train(r.comm, from[w], false);
            bits = bits_of(r.comm, from[w]);
        }
        hsgd_comm_destroy(&r.comm);
        assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof bits, &bits, &err));
        want = w == 0 ? bits : want;
        assert_true(bits == want);
    }
    for (int size = 0; size < SIZES; size++) {
        readers r = split_into(sizes[size]);

        (void)snprintf(folder, sizeof folder, "%s/read-by-%d-group-%d", at->folder, sizes[size], r.group);
        for (int w = 0, number = 0; w < SIZES; w++) {
            for (int step = 1; step < STEPS; step++) {
                if (taken(step, w, size) && number++ % r.groups == r.group) {
                    const bool same = goes_on(r.comm, from[w], folder, step, want);

                    counts[0] += r.comm->rank == 0;
                    counts[1] += r.comm->rank == 0 && !same;
                }
            }
        }
        hsgd_comm_destroy(&r.comm);
    }
    assert_ok(hsgd_comm_sum(test_comm(), HSGD_TYPE_I64, 2, counts, &err));
    if (test_comm()->rank == 0) {
        print_message("%lld trainings of %d steps cut and gone on with, writers and readers of 1, 2, 4, 8 ranks: %lld "
                      "with other bits\n",
                      (long long)counts[0], STEPS, (long long)counts[1]);
    }
    assert_int_equal(counts[1], 0);
    assert_true(counts[0] >= (whole_every_case() ? (STEPS - 1) * SIZES * SIZES : SIZES * SIZES));
}

int main(void)
{
    const struct CMUnitTest tests[] = {scratch_test(a_training_cut_anywhere_ends_with_the_same_bits)};

    (void)unsetenv("HSGD_DATA");
    return test_run(tests);
}
