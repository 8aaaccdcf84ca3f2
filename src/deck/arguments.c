/* src/deck/arguments.c - see arguments.h. */
#include "deck/arguments.h"
#include "base/nearest.h"
#include "deck/schema.h"
#include <stdlib.h>
#include <string.h>

enum { QUOTED = 96 };

static hsgd_status parse_option(const char *word, hsgd_arguments *a, hsgd_error *err)
{
    static const char *const names[] = {"--dry-run", "--restart", "--quiet", "--verbose", "--help", "--version"};
    bool *const flags[] = {&a->dry_run, &a->restart, &a->quiet, &a->verbose, &a->help, &a->version};
    const size_t count = sizeof names / sizeof names[0];
    const char *near;
    char quoted[QUOTED];

    for (size_t i = 0; i < count; i++) {
        if (strcmp(word, names[i]) == 0) {
            *flags[i] = true;
            return HSGD_OK;
        }
    }
    near = hsgd_nearest(word, names, count);
    hsgd_quote(word, quoted, sizeof quoted);
    return hsgd_error_set(err, HSGD_ERR_USAGE, "command line: unknown option '%s'; %s%s%s", quoted,
                          near != NULL ? "did you mean '" : "see --help", near != NULL ? near : "",
                          near != NULL ? "'?" : "");
}

static hsgd_status take_input(const char *word, hsgd_arguments *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char first[QUOTED] = "", second[QUOTED] = "";

    HSGD_CHECK(word[0] != '\0', HSGD_ERR_USAGE, err,
               "command line: an empty word; name a deck, or leave it away (a shell's variable may be unset)");
    if (a->input != NULL) {
        hsgd_quote(a->input, first, sizeof first);
        hsgd_quote(word, second, sizeof second);
    }
    HSGD_CHECK(a->input == NULL, HSGD_ERR_USAGE, err,
               "command line: two input decks, '%s' and '%s'; give one, and overrides as section.key=value", first,
               second);
    a->input = word;
done:
    return st;
}

hsgd_status hsgd_arguments_parse(int argc, char *const *argv, hsgd_arguments *out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    *out = (hsgd_arguments){0};
    out->words = calloc((size_t)argc + 1, sizeof *out->words);
    HSGD_CHECK(out->words != NULL, HSGD_ERR_MEMORY, err, "memory: cannot read the command line");
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') {
            HSGD_TRY(parse_option(argv[i], out, err));
        } else if (strchr(argv[i], '=') != NULL) {
            out->words[out->count++] = argv[i];
        } else {
            HSGD_TRY(take_input(argv[i], out, err));
        }
    }
    HSGD_CHECK(!out->quiet || !out->verbose, HSGD_ERR_USAGE, err,
               "command line: --quiet and --verbose; give one of them");
done:
    return st;
}

void hsgd_arguments_free(hsgd_arguments *arguments)
{
    free(arguments->words);
    *arguments = (hsgd_arguments){0};
}
