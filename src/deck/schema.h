/* src/deck/schema.h - one row a key: all that reading, checking, writing and explaining a deck needs to know of it. */
#pragma once
#include "deck/deck.h"

typedef enum {
    HSGD_KEY_INTEGER,
    HSGD_KEY_REAL,
    HSGD_KEY_SECONDS, /* a real, or "auto", held as -1 */
    HSGD_KEY_BOOL,
    HSGD_KEY_CHOICE, /* an int64_t: the position in `choices` */
    HSGD_KEY_TEXT    /* a char[HSGD_TEXT] */
} hsgd_key_type;

typedef struct {
    const char *section, *key;
    hsgd_key_type type;
    size_t offset;              /* of the member of hsgd_deck */
    const char *initial;        /* the default, as a deck would write it */
    int64_t least, most;        /* integer: range; text: least length */
    double low, high;           /* real: range */
    bool above, below;          /* real: low, high themselves are left out */
    const char *const *choices; /* choice: the words, ended by NULL */
    const char *form;           /* text: what may be written */
    unsigned stages;            /* bit 1 << stage: the results of the stage depend on the key */
    bool may_change;            /* on restart, without making finished work invalid */
    bool silent_default; /* the default does not count among the keys of a stage: results older than the key hold */
    const char *help;
} hsgd_key;

enum {
    HSGD_WHY = 512, /* bytes of the reason why a value is refused */
    HSGD_FOLD = 110 /* bytes of a value in one line of a written deck: readable, and well within inih's line */
};
#define HSGD_UNFIT " \t#;" /* what cannot begin such a line: it would be lost as a blank or a comment */

/* The rows, section by section.  Local. */
const hsgd_key *hsgd_schema(int *count);

/* The row of section.key (section NULL: of the first such key), or -1.  Local. */
int hsgd_schema_find(const char *section, const char *key);

bool hsgd_schema_has_section(const char *section);

/* "; did you mean 'X'?" for an unknown section (key NULL), or for an unknown key of a known section.  Local. */
void hsgd_schema_suggest(const char *section, const char *key, char *out, size_t size);

/* What values the key takes: "0 to 100", "> 0", "a | b".  Local. */
void hsgd_key_range(const hsgd_key *key, char *out, size_t size);

/* Read `text` into the key's member of *deck; or return false, the member as it was, with what is wrong and how to mend
 * it in why[HSGD_WHY].  Local. */
bool hsgd_value_read(const hsgd_key *key, const char *text, hsgd_deck *deck, char *why);

/* The key's member of *deck as a deck would write it, into out[HSGD_TEXT].  Local. */
void hsgd_value_write(const hsgd_key *key, const hsgd_deck *deck, char *out);

/* `text` fit to stand in a message: cut where it is long, "?" for each byte that is no printable ASCII.  Local. */
void hsgd_quote(const char *text, char *out, size_t size);

/* A deck while it is resolved: where each value comes from, for messages. */
typedef struct {
    hsgd_deck *deck;
    const char *name;            /* of the file */
    int line[HSGD_KEYS];         /* by row: of the file; 0: not set there */
    const char *word[HSGD_KEYS]; /* by row: the last word that set it, or NULL */
} hsgd_resolution;

/* Set *err to HSGD_ERR_USAGE with the place where row's value was set and the text, and return the status.  Local. */
hsgd_status hsgd_resolution_refuse(const hsgd_resolution *r, int row, hsgd_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Read the INI `text` into r->deck.  Local.  Errors: HSGD_ERR_USAGE. */
hsgd_status hsgd_ini_read(hsgd_resolution *r, const char *text, hsgd_error *err);

/* What keys ask of one another, as far as it needs no data; fills the parsed members of r->deck.
 * Local.  Errors: HSGD_ERR_USAGE. */
hsgd_status hsgd_deck_check(const hsgd_resolution *r, hsgd_error *err);
