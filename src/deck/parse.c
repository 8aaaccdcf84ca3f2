/* src/deck/parse.c - single values: text to field and back. */
#include "deck/parse.h"
#include "base/nearest.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MOST = 16 };
static const double UNBOUNDED = 1e6; /* a larger upper limit is a guard, not worth a word */

void describe_range(const schema_row *row, char *text, size_t size)
{
    text[0] = '\0';
    if (row->type == KEY_CHOICE) {
        (void)snprintf(text, size, "%s", row->choices);
    } else if (row->type == KEY_BOOL) {
        (void)snprintf(text, size, "true false");
    } else if (row->type == KEY_INTEGER || row->type == KEY_REAL) {
        const char *from = row->open ? "greater than" : "at least";

        if (row->most >= UNBOUNDED) {
            (void)snprintf(text, size, "%s %g", from, row->least);
        } else {
            (void)snprintf(text, size, "%s %g and at most %g", from, row->least, row->most);
        }
    }
}

static hsgd_status refuse(const schema_row *row, const char *where, const char *value, const char *what,
                          hsgd_error *err)
{
    char allowed[128];

    describe_range(row, allowed, sizeof allowed);
    return hsgd_error_set(err, HSGD_ERR_USAGE, "%s: [%s] %s = %.80s: %s; allowed: %s", where, row->section, row->key,
                          value, what, allowed);
}

static bool inside(const schema_row *row, double x)
{
    return (row->open ? x > row->least : x >= row->least) && x <= row->most;
}

static hsgd_status parse_integer(const schema_row *row, const char *where, const char *value, int64_t *out,
                                 hsgd_error *err)
{
    char *end;
    long long x;

    errno = 0;
    x = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || isspace((unsigned char)value[0])) {
        return refuse(row, where, value, "not a whole number", err);
    }
    if (errno != 0 || !inside(row, (double)x)) {
        return refuse(row, where, value, "out of range", err);
    }
    *out = x;
    return HSGD_OK;
}

static hsgd_status parse_real(const schema_row *row, const char *where, const char *value, double *out, hsgd_error *err)
{
    char *end;
    double x;

    if (strcmp(row->initial, "auto") == 0 && strcmp(value, "auto") == 0) {
        *out = -1.0;
        return HSGD_OK;
    }
    x = strtod(value, &end);
    if (end == value || *end != '\0' || isspace((unsigned char)value[0]) || strpbrk(value, "xXnN") != NULL) {
        return refuse(row, where, value, "not a number", err);
    }
    if (!isfinite(x) || !inside(row, x)) {
        return refuse(row, where, value, "out of range", err);
    }
    *out = x;
    return HSGD_OK;
}

static hsgd_status parse_bool(const schema_row *row, const char *where, const char *value, bool *out, hsgd_error *err)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
            *out = strcmp(value, yes[i]) == 0;
            return HSGD_OK;
        }
    }
    return refuse(row, where, value, "not true or false", err);
}

static hsgd_status parse_choice(const schema_row *row, const char *where, const char *value, int64_t *out,
                                hsgd_error *err)
{
    char copy[128], *rest = copy, *word, what[160];
    const char *words[WORDS_MOST];
    size_t count = 0;
    const char *near;

    (void)snprintf(copy, sizeof copy, "%s", row->choices);
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        if (strcmp(word, value) == 0) {
            *out = (int64_t)count;
            return HSGD_OK;
        }
        words[count++] = word;
    }
    near = hsgd_nearest(value, words, count);
    (void)snprintf(what, sizeof what, "unknown%s%s%s", near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                   near != NULL ? "'?" : "");
    return refuse(row, where, value, what, err);
}

/* Bytes of the UTF-8 character at `c`, or 0 where there is none, or a control character other than a tab. */
static size_t character(const unsigned char *c)
{
    const size_t length = c[0] < 0x80 ? 1 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : 4;

    if ((c[0] < ' ' && c[0] != '\t') || c[0] == 0x7F || (c[0] >= 0x80 && c[0] < 0xC2) || c[0] > 0xF4) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    if ((c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xED && c[1] > 0x9F) || (c[0] == 0xF0 && c[1] < 0x90) ||
        (c[0] == 0xF4 && c[1] > 0x8F)) { /* too long a form, a surrogate, or beyond the last character */
        return 0;
    }
    return length;
}

/* A text goes into files as UTF-8, and into a resolved deck, which must read back to the same: without a comment. */
static hsgd_status parse_text(const schema_row *row, const char *where, const char *value, char *out, hsgd_error *err)
{
    char before = ' ';

    if (strlen(value) >= HSGD_TEXT) {
        return hsgd_error_set(err, HSGD_ERR_USAGE, "%s: [%s] %s: longer than %d bytes; shorten it", where, row->section,
                              row->key, HSGD_TEXT - 1);
    }
    for (size_t i = 0, step; value[i] != '\0'; before = value[i], i += step) {
        step = character((const unsigned char *)value + i);
        if (step == 0) {
            return hsgd_error_set(err, HSGD_ERR_USAGE,
                                  "%s: [%s] %s: holds the byte 0x%02x, which is no UTF-8 text; write plain text", where,
                                  row->section, row->key, (unsigned)(unsigned char)value[i]);
        }
        if ((value[i] == '#' || value[i] == ';') && (before == ' ' || before == '\t')) {
            return hsgd_error_set(err, HSGD_ERR_USAGE,
                                  "%s: [%s] %s: holds a comment; put it on a line of its own, or begin it with ' ;'",
                                  where, row->section, row->key);
        }
    }
    memcpy(out, value, strlen(value) + 1);
    return HSGD_OK;
}

hsgd_status parse_value(const schema_row *row, const char *where, const char *value, hsgd_deck *deck, hsgd_error *err)
{
    void *field = (char *)deck + row->offset;

    switch (row->type) {
    case KEY_INTEGER:
        return parse_integer(row, where, value, field, err);
    case KEY_REAL:
        return parse_real(row, where, value, field, err);
    case KEY_BOOL:
        return parse_bool(row, where, value, field, err);
    case KEY_CHOICE:
        return parse_choice(row, where, value, field, err);
    default:
        return parse_text(row, where, value, field, err);
    }
}

/* The shortest of %.15g, %.16g and %.17g that reads back to x. */
static void format_real(double x, char *text, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, size, "%.*g", digits, x);
        if (strtod(text, NULL) == x) {
            return;
        }
    }
}

void format_value(const schema_row *row, const hsgd_deck *deck, char *text, size_t size)
{
    const void *field = (const char *)deck + row->offset;
    const int64_t *integer = field;
    const double *real = field;

    text[0] = '\0';
    if (row->type == KEY_INTEGER) {
        (void)snprintf(text, size, "%lld", (long long)*integer);
    } else if (row->type == KEY_REAL) {
        if (*real == -1.0 && strcmp(row->initial, "auto") == 0) {
            (void)snprintf(text, size, "auto");
        } else {
            format_real(*real, text, size);
        }
    } else if (row->type == KEY_BOOL) {
        (void)snprintf(text, size, "%s", *(const bool *)field ? "true" : "false");
    } else if (row->type == KEY_TEXT) {
        (void)snprintf(text, size, "%s", (const char *)field);
    } else {
        char copy[128], *rest = copy, *word = NULL;

        (void)snprintf(copy, sizeof copy, "%s", row->choices);
        for (int64_t i = 0; i <= *integer; i++) {
            word = strtok_r(rest, " ", &rest);
        }
        (void)snprintf(text, size, "%s", word != NULL ? word : "");
    }
}
