/* src/data/dataset.h - images with labels, as bytes, once per node. */
#pragma once
#include "base/comm.h"
#include "base/error.h"
#include <stdint.h>

/* One split.  Bytes are shared by the ranks of a node: read only. */
typedef struct {
    const uint8_t *pixels; /* [count][height * width] */
    const uint8_t *labels; /* [count], each < classes */
    int64_t count, height, width;
    int64_t classes; /* greatest training label of the whole file + 1, whatever is kept; 10 for generated digits */
    void *handle;    /* of the shared memory */
} hsgd_split;

typedef struct {
    hsgd_split train, test;
    char source[512]; /* the folder, or "generated digits (seed S)" */
    char sha256[65];  /* of train pixels, train labels, test pixels, test labels as used, lower-case hex */
    bool generated;   /* no MNIST was found: the built-in digits serve */
    hsgd_comm *comm;  /* borrowed */
} hsgd_dataset;

typedef struct {
    const char *dir;                     /* data.dir; "" or NULL: $HSGD_DATA, then data/mnist, then generated */
    int64_t train_samples, test_samples; /* keep the first so many; 0: all */
    uint64_t seed;                       /* of the generated digits */
} hsgd_dataset_options;

/* Find, check and read the data: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
 * t10k-labels-idx1-ubyte, each plain or with .gz; both splits must have one image size.
 * A named place (dir or $HSGD_DATA) that lacks the files is HSGD_ERR_DATA; only "nothing named, nothing found" falls
 * back to the generated digits (60000 and 10000 samples at most, 28 x 28; options' counts are generated directly;
 * *out.generated is set).
 * Collective.  Errors, the same on all ranks: HSGD_ERR_DATA (each defect has its own text: missing, unreadable, magic,
 * dimensions, truncated, trailing bytes, labels out of range, counts that differ), HSGD_ERR_USAGE (an explicit count
 * larger than the data), HSGD_ERR_MEMORY, HSGD_ERR_IO. */
hsgd_status hsgd_dataset_load(const hsgd_dataset_options *options, hsgd_comm *comm, hsgd_dataset **out,
                              hsgd_error *err);

/* End *data and set it to NULL; accepts NULL.  Collective (the bytes are the node's). */
void hsgd_dataset_destroy(hsgd_dataset **data);
