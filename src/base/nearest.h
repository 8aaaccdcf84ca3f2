/* src/base/nearest.h - "did you mean": the known word nearest to a mistyped one. */
#pragma once
#include <stddef.h>

/* The one of words[count] with the least edit distance to `word`, or NULL where none is within half its length + 1.
 * Local. */
const char *hsgd_nearest(const char *word, const char *const *words, size_t count);
