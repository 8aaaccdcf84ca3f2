/* tests/data/idx_files.h - small IDX sets in a scratch folder: built in memory by each rank, written by rank 0. */
#pragma once
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "data/dataset.h"
#include "support.h"

enum { TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS, FILES, MAX_BYTES = 65536 };

static const char *const file_names[FILES] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                              "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

typedef struct {
    uint8_t bytes[MAX_BYTES];
    size_t size;
} blob;

static inline void put_u32(blob *b, size_t offset, uint32_t value)
{
    for (size_t i = 0; i < 4; i++) {
        b->bytes[offset + i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

/* Pixel k of the whole file is (7 k + 1) mod 251: no two images of a small set are equal. */
static inline void make_images(blob *b, uint32_t count, uint32_t height, uint32_t width)
{
    put_u32(b, 0, 0x00000803);
    put_u32(b, 4, count);
    put_u32(b, 8, height);
    put_u32(b, 12, width);
    b->size = 16 + (size_t)count * height * width;
    for (size_t k = 16; k < b->size; k++) {
        b->bytes[k] = (uint8_t)((7 * (k - 16) + 1) % 251);
    }
}

/* Labels 0, 1, ..., classes - 1, 0, 1, ... */
static inline void make_labels(blob *b, uint32_t count, uint32_t classes)
{
    put_u32(b, 0, 0x00000801);
    put_u32(b, 4, count);
    b->size = 8 + count;
    for (uint32_t k = 0; k < count; k++) {
        b->bytes[8 + k] = (uint8_t)(k % classes);
    }
}

/* b becomes its own gzip file, as zlib writes it. */
static inline void compress_blob(blob *b)
{
    blob *out = malloc(sizeof *out);
    z_stream z = {.next_in = b->bytes, .avail_in = (uInt)b->size};

    assert_non_null(out);
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = out->bytes;
    z.avail_out = sizeof out->bytes;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    b->size = sizeof out->bytes - z.avail_out;
    memcpy(b->bytes, out->bytes, b->size);
    (void)deflateEnd(&z);
    free(out);
}

static inline void path_of(char path[256], const char *dir, const char *name, bool gzip)
{
    assert_in_range(snprintf(path, 256, "%s/%s%s", dir, name, gzip ? ".gz" : ""), 1, 255);
}

static inline void write_blob(const blob *b, const char *dir, const char *name, bool gzip)
{
    char path[256];
    FILE *file = NULL;

    path_of(path, dir, name, gzip);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(b->bytes, 1, b->size, file), b->size);
    assert_int_equal(fclose(file), 0);
}

/* Take away every file of a set from dir, whatever it is. */
static inline void clear_folder(const char *dir)
{
    char path[256];

    for (int f = 0; f < 2 * FILES; f++) {
        path_of(path, dir, file_names[f / 2], f % 2 != 0);
        (void)remove(path);
    }
}

/* Nobody goes on before all are here.  Collective. */
static inline void together(void)
{
    hsgd_error err = {0};
    int64_t none = 0;

    assert_ok(hsgd_comm_sum(test_comm(), HSGD_TYPE_I64, 1, &none, &err));
}

/* A fresh scratch folder, the same name on every rank.  Collective. */
static inline void make_folder(char dir[64])
{
    hsgd_error err = {0};

    memset(dir, 0, 64);
    if (test_comm()->rank == 0) {
        strcpy(dir, "/tmp/hsgd-data-XXXXXX");
        assert_non_null(mkdtemp(dir));
    }
    assert_ok(hsgd_comm_broadcast(test_comm(), 0, 64, dir, &err));
}

/* Collective. */
static inline void remove_folder(const char *dir)
{
    together();
    if (test_comm()->rank == 0) {
        clear_folder(dir);
        assert_int_equal(rmdir(dir), 0);
    }
}
