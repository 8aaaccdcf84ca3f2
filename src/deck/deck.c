/* src/deck/deck.c - defaults, then a file, then words: one deck, and its text again. */
#include "deck/deck.h"
#include "deck/schema.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAME = 64, QUOTED = 96 };

hsgd_status hsgd_resolution_refuse(const hsgd_resolution *r, int row, hsgd_error *err, const char *format, ...)
{
    int count;
    const hsgd_key *key = &hsgd_schema(&count)[row];
    char place[sizeof err->text], what[HSGD_WHY], quoted[QUOTED];
    va_list args;

    if (r->word[row] != NULL) {
        hsgd_quote(r->word[row], quoted, sizeof quoted);
        (void)snprintf(place, sizeof place, "word '%s'", quoted);
    } else if (r->line[row] > 0) {
        (void)snprintf(place, sizeof place, "%s:%d: [%s] %s", r->name, r->line[row], key->section, key->key);
    } else {
        (void)snprintf(place, sizeof place, "[%s] %s", key->section, key->key);
    }
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return hsgd_error_set(err, HSGD_ERR_USAGE, "%.400s: %s", place, what);
}

hsgd_status hsgd_deck_read(const char *path, char **text, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    FILE *file = fopen(path, "rb");
    char *bytes = NULL, *nul;
    struct stat info;
    size_t length;

    *text = NULL;
    HSGD_CHECK(file != NULL, HSGD_ERR_USAGE, err, "%s: cannot open the deck: %s; name a file that can be read", path,
               strerror(errno));
    HSGD_CHECK(fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode), HSGD_ERR_USAGE, err,
               "%s: not a regular file; name an INI file", path);
    HSGD_CHECK(info.st_size <= HSGD_DECK_LONGEST, HSGD_ERR_USAGE, err,
               "%s: %lld bytes; a deck has at most %d; is this the right file?", path, (long long)info.st_size,
               HSGD_DECK_LONGEST);
    bytes = calloc((size_t)info.st_size + 1, 1);
    HSGD_CHECK(bytes != NULL, HSGD_ERR_MEMORY, err, "memory: cannot hold %s", path);
    length = fread(bytes, 1, (size_t)info.st_size, file);
    HSGD_CHECK(ferror(file) == 0, HSGD_ERR_USAGE, err, "%s: cannot read the deck: %s; name a file that can be read",
               path, strerror(errno));
    nul = memchr(bytes, '\0', length);
    if (nul != NULL) {
        int line = 1;

        for (const char *c = bytes; c < nul; c++) {
            line += *c == '\n';
        }
        st = hsgd_error_set(err, HSGD_ERR_USAGE, "%s:%d: a NUL byte; a deck is plain text; is this the right file?",
                            path, line);
        goto done;
    }
    *text = bytes;
    bytes = NULL;
done:
    free(bytes);
    if (file != NULL) {
        (void)fclose(file);
    }
    return st;
}

/* Every key at its default. */
static hsgd_status set_defaults(hsgd_deck *deck, hsgd_error *err)
{
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char why[HSGD_WHY];

    memset(deck, 0, sizeof *deck);
    for (int i = 0; i < count; i++) {
        if (!hsgd_value_read(&schema[i], schema[i].initial, deck, why)) {
            return hsgd_error_set(err, HSGD_ERR_USAGE, "built-in default of [%s] %s: %s", schema[i].section,
                                  schema[i].key, why);
        }
    }
    return HSGD_OK;
}

/* The value of a word without the blanks around it, as inih leaves a file's: `value` itself, or its copy in
 * trimmed[HSGD_TEXT].  One too long for any key stays as it is. */
static const char *trim(const char *value, char *trimmed)
{
    size_t length;

    value += strspn(value, " \t");
    length = strlen(value);
    if (length >= HSGD_TEXT) {
        return value;
    }
    while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t')) {
        length--;
    }
    memcpy(trimmed, value, length);
    trimmed[length] = '\0';
    return trimmed;
}

/* Take "section.key=value". */
static hsgd_status read_word(hsgd_resolution *r, const char *word, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int count, row;
    const hsgd_key *schema = hsgd_schema(&count);
    const char *equals = strchr(word, '='), *dot;
    char section[NAME], key[NAME], quoted[QUOTED], part[QUOTED], near[NAME * 2];
    char trimmed[HSGD_TEXT], why[HSGD_WHY];

    hsgd_quote(word, quoted, sizeof quoted);
    HSGD_CHECK(equals != NULL, HSGD_ERR_USAGE, err, "word '%s': no '='; write section.key=value", quoted);
    dot = memchr(word, '.', (size_t)(equals - word));
    (void)snprintf(key, sizeof key, "%.*s", (int)(equals - (dot != NULL ? dot + 1 : word)),
                   dot != NULL ? dot + 1 : word);
    if (dot == NULL) {
        row = hsgd_schema_find(NULL, key);
        return hsgd_error_set(err, HSGD_ERR_USAGE, "word '%s': no section; write %s.%s=value", quoted,
                              row >= 0 ? schema[row].section : "section", row >= 0 ? key : "key");
    }
    (void)snprintf(section, sizeof section, "%.*s", (int)(dot - word), word);
    if (!hsgd_schema_has_section(section)) {
        hsgd_schema_suggest(section, NULL, near, sizeof near);
        hsgd_quote(section, part, sizeof part);
        return hsgd_error_set(err, HSGD_ERR_USAGE, "word '%s': unknown section '%s'%s", quoted, part, near);
    }
    row = hsgd_schema_find(section, key);
    if (row < 0) {
        hsgd_schema_suggest(section, key, near, sizeof near);
        hsgd_quote(key, part, sizeof part);
        return hsgd_error_set(err, HSGD_ERR_USAGE, "word '%s': unknown key '%s' in [%s]%s", quoted, part, section,
                              near);
    }
    r->word[row] = word;
    if (!hsgd_value_read(&schema[row], trim(equals + 1, trimmed), r->deck, why)) {
        return hsgd_resolution_refuse(r, row, err, "%s", why);
    }
done:
    return st;
}

/* See hsgd_deck_is_explicit. */
static hsgd_status mark_explicit(hsgd_resolution *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    hsgd_deck *defaults = malloc(sizeof *defaults);
    char given[HSGD_TEXT], initial[HSGD_TEXT];

    HSGD_CHECK(defaults != NULL, HSGD_ERR_MEMORY, err, "memory: cannot hold the deck");
    HSGD_TRY(set_defaults(defaults, err));
    for (int i = 0; i < count; i++) {
        hsgd_value_write(&schema[i], r->deck, given);
        hsgd_value_write(&schema[i], defaults, initial);
        r->deck->explicit_[i] = r->word[i] != NULL || strcmp(given, initial) != 0;
    }
done:
    free(defaults);
    return st;
}

hsgd_status hsgd_deck_resolve_text(const char *name, const char *text, const char *const *words, int count,
                                   hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_resolution r = {.deck = deck, .name = name};

    HSGD_TRY(set_defaults(deck, err));
    if (text != NULL) {
        HSGD_CHECK(strnlen(text, HSGD_DECK_LONGEST + 1) <= HSGD_DECK_LONGEST, HSGD_ERR_USAGE, err,
                   "%s: more than %d bytes, the most a deck has; is this the right file?", name, HSGD_DECK_LONGEST);
        HSGD_TRY(hsgd_ini_read(&r, text, err));
    }
    for (int i = 0; i < count; i++) {
        HSGD_TRY(read_word(&r, words[i], err));
    }
    HSGD_TRY(mark_explicit(&r, err));
    HSGD_TRY(hsgd_deck_check(&r, err));
done:
    return st;
}

hsgd_status hsgd_deck_resolve(const char *path, const char *const *words, int count, hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char *text = NULL;

    if (path != NULL) {
        HSGD_TRY(hsgd_deck_read(path, &text, err));
    }
    HSGD_TRY(hsgd_deck_resolve_text(path, text, words, count, deck, err));
done:
    free(text);
    return st;
}

bool hsgd_deck_is_explicit(const hsgd_deck *deck, const char *section, const char *key)
{
    const int row = hsgd_schema_find(section, key);

    return row >= 0 && deck->explicit_[row];
}

/* May a line of a written deck begin at `at`, which no line's first byte is?  Not within a character either. */
static bool may_begin(const char *at)
{
    return strchr(HSGD_UNFIT, *at) == NULL && ((unsigned char)*at & 0xC0) != 0x80;
}

/* Where to fold `value`: behind a blank if there is one.  No value has more than HSGD_FOLD / 2 + 3
 * bytes in a row that cannot begin a line (so many unfit ones, value.c, and the rest of a character): there is a place. */
static size_t fold(const char *value)
{
    size_t cut = HSGD_FOLD;

    if (strlen(value) <= HSGD_FOLD) {
        return strlen(value);
    }
    for (size_t i = HSGD_FOLD; i > HSGD_FOLD / 2; i--) {
        if (value[i - 1] == ' ' && may_begin(value + i)) {
            return i;
        }
    }
    while (cut > 1 && !may_begin(value + cut)) {
        cut--;
    }
    return cut;
}

hsgd_status hsgd_deck_format(const hsgd_deck *deck, char **text, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char value[HSGD_TEXT];
    size_t bytes;
    FILE *out = open_memstream(text, &bytes);

    HSGD_CHECK(out != NULL, HSGD_ERR_MEMORY, err, "memory: cannot write the deck");
    for (int i = 0; i < count; i++) {
        const char *rest = value;

        if (i == 0 || strcmp(schema[i].section, schema[i - 1].section) != 0) {
            (void)fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", schema[i].section);
        }
        hsgd_value_write(&schema[i], deck, value);
        (void)fprintf(out, "%s =%s", schema[i].key, value[0] != '\0' ? " " : "");
        for (size_t cut = fold(rest); rest[cut] != '\0'; cut = fold(rest)) {
            (void)fprintf(out, "%.*s\\\n    ", (int)cut, rest);
            rest += cut;
        }
        (void)fprintf(out, "%s\n", rest);
    }
    if (fclose(out) != 0) {
        free(*text);
        *text = NULL;
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot write the deck");
    }
done:
    return st;
}

hsgd_status hsgd_deck_stage_keys(const hsgd_deck *deck, hsgd_stage stage, char **text, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char value[HSGD_TEXT];
    size_t bytes;
    FILE *out = open_memstream(text, &bytes);

    HSGD_CHECK(out != NULL, HSGD_ERR_MEMORY, err, "memory: cannot write the keys of a stage");
    for (int i = 0; i < count; i++) {
        if ((schema[i].stages & (1u << stage)) == 0 || schema[i].may_change) {
            continue;
        }
        hsgd_value_write(&schema[i], deck, value);
        if (!schema[i].silent_default || strcmp(value, schema[i].initial) != 0) {
            (void)fprintf(out, "%s.%s = %s\n", schema[i].section, schema[i].key, value);
        }
    }
    if (fclose(out) != 0) {
        free(*text);
        *text = NULL;
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot write the keys of a stage");
    }
done:
    return st;
}
