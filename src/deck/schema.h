/* src/deck/schema.h - the one table of keys: what they are called, what they may hold, what depends on them. */
#pragma once
#include "deck/deck.h"

typedef enum { KEY_INTEGER, KEY_REAL, KEY_BOOL, KEY_CHOICE, KEY_TEXT } key_type;

typedef struct {
    const char *section, *key;
    key_type type;
    size_t offset; /* of the field in hsgd_deck */
    const char *initial;
    double least, most; /* integers and reals; open: least itself is not allowed */
    bool open;
    const char *choices; /* separated by blanks */
    unsigned stages;     /* bit s: results of stage s depend on the key */
    const char *help;
} schema_row;

extern const schema_row schema_rows[];
extern const int schema_count;

/* The row of section and key, or -1.  Local. */
int schema_find(const char *section, const char *key);
