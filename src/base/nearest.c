/* src/base/nearest.c - Levenshtein distance over short words. */
#include "base/nearest.h"
#include <string.h>

enum { LONGEST = 63 };

static size_t distance(const char *a, const char *b)
{
    const size_t na = strnlen(a, LONGEST), nb = strnlen(b, LONGEST);
    size_t row[LONGEST + 1];

    for (size_t j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;

            diagonal = row[j];
            best = change < best ? change : best;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *hsgd_nearest(const char *word, const char *const *words, size_t count)
{
    const char *best = NULL;
    size_t least = strnlen(word, LONGEST) / 2 + 2;

    for (size_t i = 0; i < count; i++) {
        const size_t d = distance(word, words[i]);

        if (d < least) {
            least = d;
            best = words[i];
        }
    }
    return best;
}
