/* src/data/dataset.c - see dataset.h.
 * Rank 0 finds the files, reads their headers and makes a plan; all ranks allocate by it; one rank of each node reads
 * (all ranks of a node share the drawing of generated digits).  After each step that can fail on some ranks alone the
 * ranks agree, so that none waits for one that has left. */
#include "data/dataset.h"
#include "base/hash.h"
#include "data/digits.h"
#include "data/idx.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN, TEST, SPLITS };
enum { GENERATED_TRAIN = 60000, GENERATED_TEST = 10000, MIN_CLASSES = 2, FEW_CLASSES = 32 };

typedef struct {
    const char *name, *images, *labels;
} split_files;

static const split_files files[SPLITS] = {
    {"train", "train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
    {"test", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"},
};

static const char default_dir[] = "data/mnist";

/* What rank 0 decides and all follow; broadcast as bytes. */
typedef struct {
    char dir[sizeof((hsgd_dataset *)0)->source];
    bool generated;
    hsgd_idx_shape shape[SPLITS]; /* as in the files */
    int64_t keep[SPLITS];         /* samples used */
} plan;

/* ---- rank 0: the plan ---- */

/* The place to read from, into p->dir, or p->generated. */
static hsgd_status choose_place(const hsgd_dataset_options *options, plan *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *dir = options->dir;
    bool found = false;

    if (dir == NULL || dir[0] == '\0') {
        dir = getenv("HSGD_DATA");
    }
    if (dir == NULL || dir[0] == '\0') {
        dir = default_dir;
        for (int s = 0; s < SPLITS; s++) {
            found = found || hsgd_idx_exists(dir, files[s].images) || hsgd_idx_exists(dir, files[s].labels);
        }
        p->generated = !found;
    }
    HSGD_CHECK(strlen(dir) < sizeof p->dir, HSGD_ERR_USAGE, err,
               "data.dir: the path has more than %zu bytes; use a shorter one", sizeof p->dir - 1);
    memcpy(p->dir, dir, strlen(dir) + 1);
done:
    return st;
}

/* Open the two files of a split and check that they belong together. */
static hsgd_status open_split(const char *dir, int split, hsgd_idx **images, hsgd_idx **labels, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t image_count = 0, label_count = 0;

    HSGD_TRY(hsgd_idx_open(dir, files[split].images, HSGD_IDX_IMAGES, images, err));
    HSGD_TRY(hsgd_idx_open(dir, files[split].labels, HSGD_IDX_LABELS, labels, err));
    image_count = hsgd_idx_get_shape(*images).count;
    label_count = hsgd_idx_get_shape(*labels).count;
    HSGD_CHECK(image_count == label_count, HSGD_ERR_DATA, err,
               "%s: %lld labels for the %lld images of %s; take both files from one set", hsgd_idx_path(*labels),
               (long long)label_count, (long long)image_count, files[split].images);
done:
    return st;
}

static hsgd_status plan_files(plan *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_idx_shape *train = &p->shape[TRAIN], *test = &p->shape[TEST];
    hsgd_idx *images = NULL, *labels = NULL;

    for (int s = 0; s < SPLITS; s++) {
        HSGD_TRY(open_split(p->dir, s, &images, &labels, err));
        p->shape[s] = hsgd_idx_get_shape(images);
        hsgd_idx_close(&images);
        hsgd_idx_close(&labels);
    }
    HSGD_CHECK(train->height == test->height && train->width == test->width, HSGD_ERR_DATA, err,
               "%s: training images have %lld x %lld pixels, test images %lld x %lld; take both from one set", p->dir,
               (long long)train->height, (long long)train->width, (long long)test->height, (long long)test->width);
done:
    hsgd_idx_close(&images);
    hsgd_idx_close(&labels);
    return st;
}

static hsgd_status make_plan(const hsgd_dataset_options *options, plan *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t asked[SPLITS] = {options->train_samples, options->test_samples};

    HSGD_TRY(choose_place(options, p, err));
    if (p->generated) {
        p->shape[TRAIN] = (hsgd_idx_shape){GENERATED_TRAIN, HSGD_DIGITS_EDGE, HSGD_DIGITS_EDGE};
        p->shape[TEST] = (hsgd_idx_shape){GENERATED_TEST, HSGD_DIGITS_EDGE, HSGD_DIGITS_EDGE};
    } else {
        HSGD_TRY(plan_files(p, err));
    }
    for (int s = 0; s < SPLITS; s++) {
        HSGD_CHECK(asked[s] >= 0 && asked[s] <= p->shape[s].count, HSGD_ERR_USAGE, err,
                   "data.%s_samples: %lld asked for, %s %lld; give at most so many, or 0 for all", files[s].name,
                   (long long)asked[s], p->generated ? "the generated digits are" : "the files hold",
                   (long long)p->shape[s].count);
        p->keep[s] = asked[s] > 0 ? asked[s] : p->shape[s].count;
    }
done:
    return st;
}

/* ---- one rank of each node: the bytes ---- */

/* Read one split into the node's block: the kept images, and all labels, since the classes are counted over them. */
static hsgd_status read_split(const plan *p, int split, uint8_t *pixels, uint8_t *labels, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_idx_shape planned = p->shape[split];
    hsgd_idx_shape here = {0};
    hsgd_idx *image_file = NULL, *label_file = NULL;

    HSGD_TRY(open_split(p->dir, split, &image_file, &label_file, err));
    here = hsgd_idx_get_shape(image_file);
    HSGD_CHECK(here.count == planned.count && here.height == planned.height && here.width == planned.width,
               HSGD_ERR_DATA, err, "%s: not the file that rank 0 sees; give all nodes the same data",
               hsgd_idx_path(image_file));
    HSGD_TRY(hsgd_idx_read(image_file, p->keep[split], pixels, err));
    HSGD_TRY(hsgd_idx_read(label_file, planned.count, labels, err));
done:
    hsgd_idx_close(&image_file);
    hsgd_idx_close(&label_file);
    return st;
}

/* Rank 0 has seen whole headers, so a failure elsewhere may be of one node alone: say which. */
static void name_node(const hsgd_comm *comm, hsgd_status st, hsgd_error *err)
{
    if (st != HSGD_OK && comm->rank != 0 && err != NULL) {
        const hsgd_error here = *err;

        (void)hsgd_error_set(err, st, "node %s: %s", comm->host, here.text);
    }
}

/* Allocate a split's block on every node and fill it.  Collective. */
static hsgd_status fill_split(hsgd_dataset *data, const plan *p, const hsgd_dataset_options *options, int split,
                              bool *leader, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_split *out = split == TRAIN ? &data->train : &data->test;
    const hsgd_idx_shape shape = p->shape[split];
    const size_t pixel_bytes = (size_t)(p->keep[split] * shape.height * shape.width);
    void *block = NULL;
    uint8_t *labels = NULL;
    int64_t low = 0, high = 0;

    HSGD_TRY(hsgd_comm_shared_alloc(data->comm, pixel_bytes + (size_t)shape.count, &block, leader, &out->handle, err));
    labels = (uint8_t *)block + pixel_bytes;
    if (p->generated) {
        hsgd_share(p->keep[split], data->comm->local_rank, data->comm->local_ranks, &low, &high);
        hsgd_digits_draw(options->seed, split, low, high, block, labels);
    } else {
        st = *leader ? read_split(p, split, block, labels, err) : HSGD_OK;
        name_node(data->comm, st, err);
        HSGD_TRY(hsgd_comm_agree(data->comm, st, err));
    }
    HSGD_TRY(hsgd_comm_node_barrier(data->comm, err));
    out->pixels = block;
    out->labels = labels;
    out->count = p->keep[split];
    out->height = shape.height;
    out->width = shape.width;
done:
    return st;
}

/* The number of classes that the training labels tell.  A small set may miss some of a few classes; but where most of
 * many never occur, the greatest label is damage, not a class. */
static hsgd_status count_classes(const uint8_t *labels, int64_t count, const char *dir, int64_t *classes,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool occurs[UINT8_MAX + 1] = {false};
    int64_t greatest = 0, distinct = 0;

    for (int64_t i = 0; i < count; i++) {
        distinct += !occurs[labels[i]];
        occurs[labels[i]] = true;
        greatest = labels[i] > labels[greatest] ? i : greatest;
    }
    *classes = labels[greatest] + 1;
    HSGD_CHECK(*classes >= MIN_CLASSES, HSGD_ERR_DATA, err,
               "%s/%s: labels out of range: all are 0; give a set of at least %d classes", dir, files[TRAIN].labels,
               MIN_CLASSES);
    HSGD_CHECK(
        *classes <= FEW_CLASSES || 2 * distinct >= *classes, HSGD_ERR_DATA, err,
        "%s/%s: label out of range: sample %lld has %d, yet only %lld different labels occur; mend or replace the file",
        dir, files[TRAIN].labels, (long long)greatest, labels[greatest], (long long)distinct);
done:
    return st;
}

/* No test label may lie beyond the classes of training. */
static hsgd_status check_test_labels(const uint8_t *labels, int64_t count, const char *dir, int64_t classes,
                                     hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < count; i++) {
        HSGD_CHECK(
            labels[i] < classes, HSGD_ERR_DATA, err,
            "%s/%s: label out of range: sample %lld has %d, training labels end at %lld; take both files from one set",
            dir, files[TEST].labels, (long long)i, labels[i], (long long)(classes - 1));
    }
done:
    return st;
}

static hsgd_status checksum(const hsgd_dataset *data, char hex[65], hsgd_error *err)
{
    const hsgd_split *train = &data->train, *test = &data->test;
    const void *const parts[] = {train->pixels, train->labels, test->pixels, test->labels};
    const size_t bytes[] = {(size_t)(train->count * train->height * train->width), (size_t)train->count,
                            (size_t)(test->count * test->height * test->width), (size_t)test->count};

    return hsgd_sha256(4, parts, bytes, hex, err);
}

/* What can be known only from the bytes: classes and checksum, computed once per node; all nodes must hold the bytes
 * that rank 0 holds.  Collective. */
static hsgd_status judge(hsgd_dataset *data, const plan *p, bool leader, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char mine[sizeof data->sha256] = "";
    int64_t classes = HSGD_DIGITS_CLASSES;

    if (leader && !p->generated) {
        st = count_classes(data->train.labels, p->shape[TRAIN].count, p->dir, &classes, err);
        st = st == HSGD_OK ? check_test_labels(data->test.labels, p->shape[TEST].count, p->dir, classes, err) : st;
    }
    if (leader && st == HSGD_OK) {
        st = checksum(data, mine, err);
    }
    HSGD_TRY(hsgd_comm_agree(data->comm, st, err));
    memcpy(data->sha256, mine, sizeof mine);
    HSGD_TRY(hsgd_comm_broadcast(data->comm, 0, sizeof data->sha256, data->sha256, err));
    HSGD_TRY(hsgd_comm_broadcast(data->comm, 0, sizeof classes, &classes, err));
    if (leader && strcmp(mine, data->sha256) != 0) {
        st = hsgd_error_set(err, HSGD_ERR_DATA,
                            "%s: node %s holds other bytes than rank 0's; give all nodes the same data", data->source,
                            data->comm->host);
    }
    HSGD_TRY(hsgd_comm_agree(data->comm, st, err));
    data->train.classes = data->test.classes = classes;
done:
    return st;
}

/* ---- the interface ---- */

hsgd_status hsgd_dataset_load(const hsgd_dataset_options *options, hsgd_comm *comm, hsgd_dataset **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_dataset *data = calloc(1, sizeof *data);
    plan p = {0};
    bool leader = false;

    *out = NULL;
    if (data == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "data: no memory for %zu bytes", sizeof *data);
    } else if (comm->rank == 0) {
        st = make_plan(options, &p, err);
    }
    st = hsgd_comm_agree(comm, st, err);
    if (st != HSGD_OK || data == NULL) { /* a rank without memory has made st a failure on all */
        goto done;
    }
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof p, &p, err));
    data->comm = comm;
    data->generated = p.generated;
    if (p.generated) {
        (void)snprintf(data->source, sizeof data->source, "generated digits (seed %llu)",
                       (unsigned long long)options->seed);
    } else {
        memcpy(data->source, p.dir, sizeof p.dir);
    }
    for (int s = 0; s < SPLITS; s++) {
        HSGD_TRY(fill_split(data, &p, options, s, &leader, err));
    }
    HSGD_TRY(judge(data, &p, leader, err));
    *out = data;
    data = NULL;
done:
    hsgd_dataset_destroy(&data);
    return st;
}

void hsgd_dataset_destroy(hsgd_dataset **data)
{
    if (data == NULL || *data == NULL) {
        return;
    }
    hsgd_comm_shared_free((*data)->comm, &(*data)->test.handle);
    hsgd_comm_shared_free((*data)->comm, &(*data)->train.handle);
    free(*data);
    *data = NULL;
}
