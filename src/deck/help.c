/* src/deck/help.c - the schema as a table for --help. */
#include "deck/schema.h"
#include <string.h>

enum { RANGE = 128, WIDTH = 120, INDENT = 4, KEY = 20 };

/* `text` in lines of at most WIDTH columns, folded at blanks, each begun with `indent` blanks. */
static void write_folded(FILE *out, const char *text, int indent)
{
    const size_t room = (size_t)(WIDTH - indent);

    while (*text != '\0') {
        size_t cut = strlen(text);

        if (cut > room) {
            for (cut = room; cut > 0 && text[cut] != ' '; cut--) {
            }
            cut = cut > 0 ? cut : room;
        }
        (void)fprintf(out, "%*s%.*s\n", indent, "", (int)cut, text);
        text += cut;
        text += strspn(text, " ");
    }
}

void hsgd_deck_help(FILE *out)
{
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char range[RANGE];

    (void)fprintf(out, "Keys of the deck, as: key [default] values. (*): may change from run to restart.\n");
    for (int i = 0; i < count; i++) {
        const hsgd_key *key = &schema[i];

        if (i == 0 || strcmp(key->section, schema[i - 1].section) != 0) {
            (void)fprintf(out, "\n[%s]\n", key->section);
        }
        hsgd_key_range(key, range, sizeof range);
        (void)fprintf(out, "  %-*s [%s] %s%s\n", KEY, key->key, key->initial, range, key->may_change ? " (*)" : "");
        write_folded(out, key->help, INDENT + KEY - 1);
    }
}
