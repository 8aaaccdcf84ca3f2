/* tests/fuzz/idx.c - the first byte says what is looked for and how much of it is read; the others are the IDX file, plain
 * or gzip. */
#include "data/idx.h"
#include "fuzz.h"
#include <string.h>

/* Deflate cannot shrink further, so that no file may ask for more memory than so many times its size (src/data/idx.c). */
enum { BEST_RATIO = 1032 };

/* The items of a plain file are its bytes behind the header. */
static void check_items(hsgd_idx_kind kind, const uint8_t *file, const uint8_t *items, size_t size)
{
    if (file[0] == 0) { /* not gzip's first byte */
        MUST(memcmp(items, file + (kind == HSGD_IDX_IMAGES ? 16 : 8), size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const hsgd_idx_kind kind = size > 0 && (data[0] & 1) != 0 ? HSGD_IDX_LABELS : HSGD_IDX_IMAGES;
    const size_t file_size = size > 0 ? size - 1 : 0;
    hsgd_idx *idx = NULL;
    hsgd_error err = {0};
    uint8_t *items = NULL;
    hsgd_status st = hsgd_idx_open(FUZZ_FOLDER, fuzz_file(data + (size > 0), file_size), kind, &idx, &err);

    MUST((st == HSGD_OK) == (idx != NULL));
    if (st == HSGD_OK) {
        const hsgd_idx_shape shape = hsgd_idx_get_shape(idx);
        const int64_t keep = data[0] < 2 ? shape.count : 1 + (data[0] >> 1) % shape.count;
        const size_t bytes = (size_t)keep * (size_t)shape.height * (size_t)shape.width;

        MUST(shape.count > 0 && shape.height > 0 && shape.width > 0);
        MUST((size_t)shape.count * (size_t)shape.height * (size_t)shape.width <= BEST_RATIO * (file_size + 1));
        items = malloc(bytes);
        MUST(items != NULL);
        st = hsgd_idx_read(idx, keep, items, &err);
        if (st == HSGD_OK) {
            check_items(kind, data + 1, items, bytes);
        }
    }
    if (st != HSGD_OK) {
        fuzz_check_refusal(st, &err, HSGD_ERR_DATA);
    }
    free(items);
    hsgd_idx_close(&idx);
    return 0;
}
