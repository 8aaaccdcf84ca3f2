/* src/deck/deck.c - from INI text and command-line words to a checked deck. */
#include "deck/deck.h"
#include "base/nearest.h"
#include "deck/parse.h"
#include "deck/schema.h"
#include <ini.h>
#include <stdlib.h>
#include <string.h>

static const char BYTE_ORDER_MARK[] = "\xEF\xBB\xBF"; /* some editors begin a file with it */
enum { LONGEST_LINE = INI_MAX_LINE - 2, KEYS_MOST = 128 };

/* A deck text on its way through inih: our reader counts the lines that inih does not tell. */
typedef struct {
    const char *name, *rest;
    int line;
    int set_at[KEYS_MOST]; /* line where a key of the schema was set; 0: not yet */
    char section[64];
    hsgd_deck *deck;
    hsgd_error *err;
    hsgd_status status;
} reading;

static hsgd_status unknown_section(const char *where, const char *section, hsgd_error *err)
{
    const char *names[KEYS_MOST];
    size_t count = 0;
    const char *near;

    for (int i = 0; i < schema_count; i++) {
        if (i == 0 || strcmp(schema_rows[i].section, schema_rows[i - 1].section) != 0) {
            names[count++] = schema_rows[i].section;
        }
    }
    near = hsgd_nearest(section, names, count);
    return hsgd_error_set(err, HSGD_ERR_USAGE, "%s: unknown section '%.60s'; %s%s%s", where, section,
                          near != NULL ? "did you mean '" : "see --help for all sections", near != NULL ? near : "",
                          near != NULL ? "'?" : "");
}

static hsgd_status unknown_key(const char *where, const char *section, const char *key, hsgd_error *err)
{
    const char *names[KEYS_MOST];
    size_t count = 0;
    const char *near;

    for (int i = 0; i < schema_count; i++) {
        if (strcmp(schema_rows[i].section, section) == 0) {
            names[count++] = schema_rows[i].key;
        }
    }
    if (count == 0) {
        return unknown_section(where, section, err);
    }
    near = hsgd_nearest(key, names, count);
    return hsgd_error_set(err, HSGD_ERR_USAGE, "%s: [%s] %.60s: unknown key; %s%s%s", where, section, key,
                          near != NULL ? "did you mean '" : "see --help for all keys", near != NULL ? near : "",
                          near != NULL ? "'?" : "");
}

static int handler(void *user, const char *section, const char *key, const char *value)
{
    reading *r = user;
    char where[HSGD_TEXT], initial[HSGD_TEXT], given[HSGD_TEXT];
    int row;

    if (r->status != HSGD_OK) {
        return 0;
    }
    (void)snprintf(where, sizeof where, "%.400s:%d", r->name, r->line);
    if (section[0] == '\0') {
        r->status =
            hsgd_error_set(r->err, HSGD_ERR_USAGE,
                           "%s: '%.60s' stands before the first section; put it under one, such as [run]", where, key);
        return 0;
    }
    row = schema_find(section, key);
    if (row < 0) {
        r->status = unknown_key(where, section, key, r->err);
    } else if (r->set_at[row] != 0) {
        r->status = hsgd_error_set(r->err, HSGD_ERR_USAGE, "%s: [%s] %s: set before, on line %d; keep one of them",
                                   where, section, key, r->set_at[row]);
    } else {
        r->set_at[row] = r->line;
        format_value(&schema_rows[row], r->deck, initial, sizeof initial);
        r->status = parse_value(&schema_rows[row], where, value, r->deck, r->err);
        format_value(&schema_rows[row], r->deck, given, sizeof given);
        r->deck->explicit_[row] = strcmp(given, initial) != 0;
    }
    return r->status == HSGD_OK;
}

/* `line` begins with '['. */
static hsgd_status check_header(const char *where, const char *line, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t end = strcspn(line, "]\r\n");
    const char *after = line + end + 1;
    char section[64];

    HSGD_CHECK(line[end] == ']', HSGD_ERR_USAGE, err, "%s: a section header needs a ']'", where);
    HSGD_CHECK(end > 1, HSGD_ERR_USAGE, err, "%s: a section without a name; write one, such as [run]", where);
    (void)snprintf(section, sizeof section, "%.*s", end > 60 ? 60 : (int)end - 1, line + 1);
    for (int i = 0; i < schema_count; i++) {
        if (strcmp(section, schema_rows[i].section) == 0) {
            after += strspn(after, " \t\r\n"); /* inih would drop what follows without a word */
            HSGD_CHECK(*after == '\0' || *after == ';' || *after == '#', HSGD_ERR_USAGE, err,
                       "%s: text after [%s]; put it on a line of its own", where, section);
            return HSGD_OK;
        }
    }
    st = unknown_section(where, section, err);
done:
    return st;
}

/* One line for inih, as fgets would.  A section header is checked here: inih tells only of sections that hold keys. */
static char *next_line(char *text, int size, void *stream)
{
    reading *r = stream;
    size_t length = strcspn(r->rest, "\n"), used;
    const char *first;
    char where[HSGD_TEXT];

    if (r->rest[0] == '\0' || r->status != HSGD_OK) {
        return NULL;
    }
    r->line++;
    if (r->line == 1 && strncmp(r->rest, BYTE_ORDER_MARK, sizeof BYTE_ORDER_MARK - 1) == 0) {
        r->rest += sizeof BYTE_ORDER_MARK - 1;
        length -= sizeof BYTE_ORDER_MARK - 1;
    }
    length += r->rest[length] == '\n';
    (void)snprintf(where, sizeof where, "%.400s:%d", r->name, r->line);
    if (length > LONGEST_LINE || (int)length >= size) {
        r->status = hsgd_error_set(r->err, HSGD_ERR_USAGE, "%s: the line is longer than %d bytes; shorten it", where,
                                   (int)LONGEST_LINE);
        return NULL;
    }
    memcpy(text, r->rest, length);
    text[length] = '\0';
    r->rest += length;
    used = strspn(text, " \t");
    first = text + used;
    if (used > 0 && first[0] != '\0' && strchr("\r\n;#[", first[0]) == NULL) {
        memmove(text, first, strlen(first) + 1); /* inih would take an indented line as the value's continuation */
        first = text;
    }
    if (first[0] == '[') {
        r->status = check_header(where, first, r->err);
        return r->status == HSGD_OK ? text : NULL;
    }
    if (first[0] != '\0' && strchr("\r\n;#", first[0]) == NULL && strpbrk(first, "=:") == NULL) {
        r->status =
            hsgd_error_set(r->err, HSGD_ERR_USAGE, "%s: '%.60s' is no 'key = value'; comments begin with # or ;", where,
                           strtok(text, "\r\n"));
        return NULL;
    }
    return text;
}

static hsgd_status read_text(const char *name, const char *text, hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    reading *r = calloc(1, sizeof *r);
    int bad;

    HSGD_CHECK(r != NULL, HSGD_ERR_MEMORY, err, "memory: cannot read the deck");
    r->name = name;
    r->rest = text;
    r->deck = deck;
    r->err = err;
    bad = ini_parse_stream(next_line, r, handler, r);
    HSGD_TRY(r->status);
    HSGD_CHECK(bad == 0, HSGD_ERR_USAGE, err, "%s:%d: not in INI form; write [section] and key = value lines", name,
               bad);
done:
    free(r);
    return st;
}

static hsgd_status read_word(const char *word, hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char where[160], name[128];
    const char *equal = strchr(word, '='), *dot = strchr(word, '.');
    int row;

    (void)snprintf(where, sizeof where, "word '%.100s'", word);
    HSGD_CHECK(equal != NULL && dot != NULL && dot < equal && (size_t)(equal - word) < sizeof name, HSGD_ERR_USAGE, err,
               "%s: not of the form section.key=value, such as train.epochs=5", where);
    (void)snprintf(name, sizeof name, "%.*s", (int)(equal - word), word);
    name[dot - word] = '\0';
    row = schema_find(name, name + (dot - word) + 1);
    if (row < 0) {
        return unknown_key(where, name, name + (dot - word) + 1, err);
    }
    deck->explicit_[row] = true;
    HSGD_TRY(parse_value(&schema_rows[row], where, equal + 1, deck, err));
done:
    return st;
}

hsgd_status hsgd_deck_resolve_text(const char *name, const char *text, const char *const *words, int count,
                                   hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    memset(deck, 0, sizeof *deck);
    for (int i = 0; i < schema_count; i++) {
        HSGD_TRY(parse_value(&schema_rows[i], "built-in default", schema_rows[i].initial, deck, err));
    }
    if (text != NULL) {
        HSGD_TRY(read_text(name, text, deck, err));
    }
    for (int i = 0; i < count; i++) {
        HSGD_TRY(read_word(words[i], deck, err));
    }
    HSGD_TRY(parse_derived(deck, err));
done:
    return st;
}

hsgd_status hsgd_deck_resolve(const char *path, const char *const *words, int count, hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    enum { LONGEST = 1 << 20 };
    char *text = NULL;
    size_t length;
    FILE *file = NULL;

    if (path == NULL) {
        return hsgd_deck_resolve_text(NULL, NULL, words, count, deck, err);
    }
    file = fopen(path, "rb");
    HSGD_CHECK(file != NULL, HSGD_ERR_USAGE, err, "%s: cannot open the deck; name an existing INI file", path);
    text = calloc(LONGEST + 2, 1);
    HSGD_CHECK(text != NULL, HSGD_ERR_MEMORY, err, "memory: cannot read the deck");
    length = fread(text, 1, LONGEST + 1, file);
    HSGD_CHECK(ferror(file) == 0, HSGD_ERR_USAGE, err, "%s: cannot read the deck; name an existing INI file", path);
    HSGD_CHECK(length <= LONGEST, HSGD_ERR_USAGE, err, "%s: longer than 1 MiB; is this the right file?", path);
    HSGD_CHECK(strlen(text) == length, HSGD_ERR_USAGE, err, "%s: holds a NUL byte; a deck is plain text", path);
    HSGD_TRY(hsgd_deck_resolve_text(path, text, words, count, deck, err));
done:
    free(text);
    if (file != NULL) {
        (void)fclose(file);
    }
    return st;
}

bool hsgd_deck_is_explicit(const hsgd_deck *deck, const char *section, const char *key)
{
    const int row = schema_find(section, key);

    return row >= 0 && deck->explicit_[row];
}

hsgd_status hsgd_deck_format(const hsgd_deck *deck, char **text, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    size_t size = 0;
    FILE *out = open_memstream(text, &size);

    HSGD_CHECK(out != NULL, HSGD_ERR_MEMORY, err, "memory: cannot write the deck");
    for (int i = 0; i < schema_count; i++) {
        const schema_row *row = &schema_rows[i];
        char value[HSGD_TEXT];

        if (i == 0 || strcmp(row->section, schema_rows[i - 1].section) != 0) {
            (void)fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", row->section);
        }
        format_value(row, deck, value, sizeof value);
        (void)fprintf(out, "%s = %s\n", row->key, value);
    }
    HSGD_CHECK(fclose(out) == 0, HSGD_ERR_MEMORY, err, "memory: cannot write the deck");
done:
    return st;
}

hsgd_status hsgd_deck_stage_keys(const hsgd_deck *deck, hsgd_stage stage, char **text, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    size_t size = 0;
    FILE *out = open_memstream(text, &size);

    HSGD_CHECK(out != NULL, HSGD_ERR_MEMORY, err, "memory: cannot list the keys of a stage");
    for (int i = 0; i < schema_count; i++) {
        const schema_row *row = &schema_rows[i];
        char value[HSGD_TEXT];

        if ((row->stages >> stage & 1u) != 0) {
            format_value(row, deck, value, sizeof value);
            (void)fprintf(out, "%s.%s = %s\n", row->section, row->key, value);
        }
    }
    HSGD_CHECK(fclose(out) == 0, HSGD_ERR_MEMORY, err, "memory: cannot list the keys of a stage");
done:
    return st;
}

void hsgd_deck_help(FILE *out)
{
    for (int i = 0; i < schema_count; i++) {
        const schema_row *row = &schema_rows[i];
        char allowed[128];

        if (i == 0 || strcmp(row->section, schema_rows[i - 1].section) != 0) {
            (void)fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", row->section);
        }
        describe_range(row, allowed, sizeof allowed);
        (void)fprintf(out, "  %-19s %s\n  %-19s default: %s%s%s\n", row->key, row->help, "",
                      row->initial[0] != '\0' ? row->initial : "(empty)", allowed[0] != '\0' ? "; allowed: " : "",
                      allowed);
    }
}
