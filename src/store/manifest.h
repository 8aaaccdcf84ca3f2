/* src/store/manifest.h - the manifest NAME.sha256 of a file NAME: size and SHA-256, as a text that `sha256sum -c` reads.
 *
 *     # hsgd-dist manifest 1
 *     # 123456 bytes
 *     0123...cdef  checkpoint-00000600.h5
 *
 * While a file is replaced its manifest has two such pairs of lines: of the file to come, and of the one that is there. */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MANIFEST_ENTRIES = 2, MANIFEST_TEXT = 1024, MANIFEST_NAME = 200 };

typedef struct {
    int64_t bytes;
    char sha256[65]; /* lower-case hex */
} manifest_entry;

typedef struct {
    int count; /* 1 or 2 */
    manifest_entry entry[MANIFEST_ENTRIES];
} manifest;

/* The manifest of the file `name` (without folder) as text[MANIFEST_TEXT].  Local.
 * Errors: HSGD_ERR_IO (the name is too long). */
hsgd_status manifest_format(const manifest *m, const char *name, char text[MANIFEST_TEXT], hsgd_error *err);

/* Read what manifest_format wrote: text[length], which need not end with a 0.  Nothing else is taken: no other name, no
 * missing or further byte.  Local.  Errors: HSGD_ERR_DATA. */
hsgd_status manifest_parse(const char *text, size_t length, const char *name, manifest *out, hsgd_error *err);

/* Does text[length] begin as a manifest of ours?  Local. */
bool manifest_is_ours(const char *text, size_t length);
