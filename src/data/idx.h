/* src/data/idx.h - IDX files of images and labels, plain or gzip (told apart by content), checked before memory is taken.
 * Source of the format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats". */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { HSGD_IDX_IMAGES, HSGD_IDX_LABELS } hsgd_idx_kind;

typedef struct {
    int64_t count, height, width; /* labels: height = width = 1 */
} hsgd_idx_shape;

typedef struct hsgd_idx hsgd_idx; /* an open file, its header read */

/* Whether dir/name or dir/name.gz is there, readable or not.  Local. */
bool hsgd_idx_exists(const char *dir, const char *name);

/* Open dir/name, or where there is none dir/name.gz, and check its header; of a plain file also its size.
 * Never waits: what is not a regular file is refused.  Local.
 * Errors: HSGD_ERR_DATA (missing, unreadable, not a regular file, empty, magic, element type, number of dimensions,
 * dimensions, truncated, trailing bytes, damaged gzip), HSGD_ERR_IO, HSGD_ERR_MEMORY (*out stays NULL). */
hsgd_status hsgd_idx_open(const char *dir, const char *name, hsgd_idx_kind kind, hsgd_idx **out, hsgd_error *err);

/* What the header says; the name of the file that was opened, which lives as long as idx.  Local. */
hsgd_idx_shape hsgd_idx_get_shape(const hsgd_idx *idx);
const char *hsgd_idx_path(const hsgd_idx *idx);

/* The first `count` items, into items[count * height * width]; a gzip file is checked to its end.  Once for each open.
 * Local.  Errors: HSGD_ERR_DATA (truncated, trailing bytes, damaged gzip), HSGD_ERR_IO, HSGD_ERR_MEMORY. */
hsgd_status hsgd_idx_read(hsgd_idx *idx, int64_t count, uint8_t *items, hsgd_error *err);

/* Close *idx and set it to NULL; *idx may be NULL.  Local. */
void hsgd_idx_close(hsgd_idx **idx);
