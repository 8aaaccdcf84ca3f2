/* src/deck/arguments.h - the command line: options, the name of a deck, and words that override it. */
#pragma once
#include "base/error.h"
#include <stdbool.h>

typedef struct {
    const char *input;  /* the deck's file, or NULL; borrowed from argv */
    const char **words; /* [count] "section.key=value", not yet read; the array is owned, its texts are argv's */
    int count;
    bool dry_run, restart, quiet, verbose, help, version;
} hsgd_arguments;

/* Sort argv[1 .. argc - 1] into options (they begin with '-'), words (they hold a '=') and at most one input deck.
 * argv: must outlive *out.  Local.
 * Errors: HSGD_ERR_USAGE (an unknown option, with the nearest known one; two decks; an empty word; --quiet with
 * --verbose), HSGD_ERR_MEMORY.  To be ended by hsgd_arguments_free in either case. */
hsgd_status hsgd_arguments_parse(int argc, char *const *argv, hsgd_arguments *out, hsgd_error *err);

/* Free what parsing took.  Local.  Cannot fail. */
void hsgd_arguments_free(hsgd_arguments *arguments);
