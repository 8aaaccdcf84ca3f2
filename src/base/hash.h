/* src/base/hash.h - SHA-256, by OpenSSL. */
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* SHA-256 of `parts` pieces one after the other, as 64 hex digits and a final 0.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_sha256(int parts, const void *const *data, const size_t *bytes, char hex[65], hsgd_error *err);

/* Size and SHA-256 of a regular file.  Local.  Errors: HSGD_ERR_IO (missing, not a regular file, unreadable),
 * HSGD_ERR_MEMORY.  open: of all that is left to read of an open one, called `path` in messages. */
hsgd_status hsgd_sha256_open(int file, const char *path, int64_t *bytes, char hex[65], hsgd_error *err);
hsgd_status hsgd_sha256_file(const char *path, int64_t *bytes, char hex[65], hsgd_error *err);
