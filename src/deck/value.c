/* src/deck/value.c - one value between its text and its member of the deck. */
#include "base/nearest.h"
#include "deck/schema.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { QUOTED = 96 };

static void *member(const hsgd_key *key, hsgd_deck *deck)
{
    return (char *)deck + key->offset;
}

static const void *member_const(const hsgd_key *key, const hsgd_deck *deck)
{
    return (const char *)deck + key->offset;
}

void hsgd_quote(const char *text, char *out, size_t size)
{
    size_t n = 0;

    for (; text[n] != '\0' && n + 4 < size; n++) { /* 4: room for "..." and the final 0 */
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    }
    (void)snprintf(out + n, size - n, "%s", text[n] != '\0' ? "..." : "");
}

/* Write the reason of a refusal, which begins with the value itself, and return false. */
static bool refuse(char *why, const char *text, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool refuse(char *why, const char *text, const char *format, ...)
{
    va_list args;
    char quoted[QUOTED];
    int n;

    hsgd_quote(text, quoted, sizeof quoted);
    n = snprintf(why, HSGD_WHY, "'%s' ", quoted);
    va_start(args, format);
    (void)vsnprintf(why + n, HSGD_WHY - (size_t)n, format, args);
    va_end(args);
    return false;
}

void hsgd_key_range(const hsgd_key *key, char *out, size_t size)
{
    int n = 0;

    switch (key->type) {
    case HSGD_KEY_INTEGER:
        if (key->most == INT64_MAX) {
            (void)snprintf(out, size, ">= %" PRId64, key->least);
        } else {
            (void)snprintf(out, size, "%" PRId64 " to %" PRId64, key->least, key->most);
        }
        break;
    case HSGD_KEY_REAL:
    case HSGD_KEY_SECONDS:
        n = snprintf(out, size, "%s%s %g", key->type == HSGD_KEY_SECONDS ? "auto | " : "",
                     key->above ? ">" : ">=", key->low);
        (void)snprintf(out + n, size - (size_t)n, " and %s %g", key->below ? "<" : "<=", key->high);
        break;
    case HSGD_KEY_BOOL:
        (void)snprintf(out, size, "true | false");
        break;
    case HSGD_KEY_CHOICE:
        for (const char *const *word = key->choices; *word != NULL && (size_t)n < size; word++) {
            n += snprintf(out + n, size - (size_t)n, "%s%s", n > 0 ? " | " : "", *word);
        }
        break;
    case HSGD_KEY_TEXT:
        (void)snprintf(out, size, "%s", key->form);
        break;
    }
}

/* The reason `what` and the range: told where it is needed alone, since most values are good. */
static bool refuse_number(const hsgd_key *key, const char *text, const char *what, char *why)
{
    char range[QUOTED];

    hsgd_key_range(key, range, sizeof range);
    return refuse(why, text, "%s, %s", what, range);
}

static bool read_integer(const hsgd_key *key, const char *text, int64_t *out, char *why)
{
    char *end = NULL;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end != '\0') {
        return refuse_number(key, text, "is not a whole number; give one", why);
    }
    if (errno == ERANGE || value < key->least || value > key->most) {
        return refuse_number(key, text, "is out of range; give a whole number", why);
    }
    *out = value;
    return true;
}

static bool read_real(const hsgd_key *key, const char *text, double *out, char *why)
{
    char *end = NULL;
    double value;

    if (key->type == HSGD_KEY_SECONDS && strcmp(text, "auto") == 0) {
        *out = -1.0;
        return true;
    }
    errno = 0;
    value = strtod(text, &end);
    /* strtod also takes nan, inf and hexadecimal numbers: none has a place in a deck */
    if (end == text || *end != '\0' || strspn(text, "0123456789+-.eE") != strlen(text)) {
        return refuse_number(key, text, "is not a number; give one", why);
    }
    if (errno == ERANGE || !isfinite(value) || value < key->low || value > key->high ||
        (key->above && value <= key->low) || (key->below && value >= key->high)) {
        return refuse_number(key, text, "is out of range; give a number", why);
    }
    *out = value;
    return true;
}

static bool read_bool(const char *text, bool *out, char *why)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return true;
        }
    }
    return refuse(why, text, "is neither true nor false; give one of them (or yes no, on off, 1 0)");
}

static bool read_choice(const hsgd_key *key, const char *text, int64_t *out, char *why)
{
    char range[QUOTED];
    const char *near;
    size_t count = 0;

    for (; key->choices[count] != NULL; count++) {
        if (strcmp(text, key->choices[count]) == 0) {
            *out = (int64_t)count;
            return true;
        }
    }
    hsgd_key_range(key, range, sizeof range);
    near = hsgd_nearest(text, key->choices, count);
    if (near != NULL) {
        return refuse(why, text, "is not one of %s; did you mean '%s'?", range, near);
    }
    return refuse(why, text, "is not one of them; give %s", range);
}

/* Bytes of the UTF-8 character at `c`, or 0 where there is none (or a control character). */
static size_t character(const unsigned char *c)
{
    const size_t length = c[0] < 0x80 ? 1 : c[0] >= 0xC2 && c[0] < 0xE0 ? 2 : (c[0] & 0xF0) == 0xE0 ? 3 : 4;

    if (c[0] < ' ' || c[0] == 0x7F || (c[0] >= 0x80 && c[0] < 0xC2) || c[0] > 0xF4) {
        return c[0] == '\t';
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

/* Does a word of the text begin as a comment does? */
static bool has_comment(const char *text)
{
    char before = ' ';

    for (; *text != '\0'; before = *text++) {
        if ((*text == ';' || *text == '#') && (before == ' ' || before == '\t')) {
            return true;
        }
    }
    return false;
}

/* A text must come back whole from the deck that is written from it, and be fit to be stored as UTF-8. */
static bool read_text(const hsgd_key *key, const char *text, char *out, char *why)
{
    const size_t length = strlen(text);

    if (length >= HSGD_TEXT) {
        return refuse(why, text, "is %zu bytes long; a value has at most %d", length, HSGD_TEXT - 1);
    }
    if (length < (size_t)key->least) {
        return refuse(why, text, "is empty; give %s", key->form);
    }
    for (size_t i = 0, step; i < length; i += step) {
        if (strspn(text + i, HSGD_UNFIT) > HSGD_FOLD / 2) {
            return refuse(why, text, "holds more than %d blanks, tabs, '#' or ';' in a row; use fewer", HSGD_FOLD / 2);
        }
        step = character((const unsigned char *)text + i);
        if (step == 0) {
            return refuse(why, text, "holds a byte (0x%02x) that is no UTF-8 text; write plain text",
                          (unsigned)(unsigned char)text[i]);
        }
    }
    if (length > 0 && text[length - 1] == '\\') {
        return refuse(why, text, "ends with a backslash, and no line follows; leave it away");
    }
    memcpy(out, text, length + 1);
    return true;
}

bool hsgd_value_read(const hsgd_key *key, const char *text, hsgd_deck *deck, char *why)
{
    char range[HSGD_WHY / 2];

    if (text[0] == '\0' && key->type != HSGD_KEY_TEXT) {
        hsgd_key_range(key, range, sizeof range);
        (void)snprintf(why, HSGD_WHY, "no value; give %s", range);
        return false;
    }
    if (has_comment(text)) { /* "# ..." behind a value would else be part of it */
        return refuse(why, text, "holds a comment; put it in a line of its own, or begin it with ' ;' in a file");
    }
    switch (key->type) {
    case HSGD_KEY_INTEGER:
        return read_integer(key, text, member(key, deck), why);
    case HSGD_KEY_REAL:
    case HSGD_KEY_SECONDS:
        return read_real(key, text, member(key, deck), why);
    case HSGD_KEY_BOOL:
        return read_bool(text, member(key, deck), why);
    case HSGD_KEY_CHOICE:
        return read_choice(key, text, member(key, deck), why);
    case HSGD_KEY_TEXT:
        break;
    }
    return read_text(key, text, member(key, deck), why);
}

/* The shortest of the forms that read back as the same number. */
static void write_real(double value, char *out)
{
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, HSGD_TEXT, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            return;
        }
    }
}

void hsgd_value_write(const hsgd_key *key, const hsgd_deck *deck, char *out)
{
    const void *value = member_const(key, deck);

    switch (key->type) {
    case HSGD_KEY_INTEGER:
        (void)snprintf(out, HSGD_TEXT, "%" PRId64, *(const int64_t *)value);
        break;
    case HSGD_KEY_SECONDS:
        if (*(const double *)value < 0.0) {
            (void)snprintf(out, HSGD_TEXT, "auto");
            break;
        }
        write_real(*(const double *)value, out);
        break;
    case HSGD_KEY_REAL:
        write_real(*(const double *)value, out);
        break;
    case HSGD_KEY_BOOL:
        (void)snprintf(out, HSGD_TEXT, "%s", *(const bool *)value ? "true" : "false");
        break;
    case HSGD_KEY_CHOICE:
        (void)snprintf(out, HSGD_TEXT, "%s", key->choices[*(const int64_t *)value]);
        break;
    case HSGD_KEY_TEXT:
        (void)snprintf(out, HSGD_TEXT, "%s", (const char *)value);
        break;
    }
}
