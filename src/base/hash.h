/* src/base/hash.h - SHA-256, by OpenSSL. */
#pragma once
#include "base/error.h"
#include <stddef.h>

/* SHA-256 of `parts` pieces one after the other, as 64 hex digits and a final 0.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_sha256(int parts, const void *const *data, const size_t *bytes, char hex[65], hsgd_error *err);
