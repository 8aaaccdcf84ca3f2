/* src/base/json.c - see json.h. */
#include "base/json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ENDING = 3 }; /* "}", newline and 0: always fit */

/* Append `length` bytes; false, with nothing appended, where there is no room. */
static bool append(hsgd_json *j, const char *bytes, size_t length)
{
    if (length > sizeof j->text - ENDING - j->length) {
        return false;
    }
    memcpy(j->text + j->length, bytes, length);
    j->length += length;
    return true;
}

/* Append "name": and, for texts, what follows; *before: where the object ended, to go back to. */
static bool append_name(hsgd_json *j, const char *name, size_t *before)
{
    *before = j->length;
    return (j->length == 1 || append(j, ", ", 2)) && append(j, "\"", 1) && append(j, name, strlen(name)) &&
           append(j, "\": ", 3);
}

/* A member whose value is spelled already. */
static void append_member(hsgd_json *j, const char *name, const char *spelled)
{
    size_t before;

    if (j != NULL && (!append_name(j, name, &before) || !append(j, spelled, strlen(spelled)))) {
        j->length = before;
    }
}

/* The bytes of the well-formed UTF-8 character at `at` (Unicode, table 3-7), 1 to 4; 0: it is none.  `at` ends with 0. */
static size_t character(const unsigned char *at)
{
    const unsigned char first = at[0];
    const size_t length = first < 0x80   ? 1
                          : first < 0xC2 ? 0
                          : first < 0xE0 ? 2
                          : first < 0xF0 ? 3
                          : first < 0xF5 ? 4
                                         : 0;
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80; /* shorter spellings are refused, */
    const unsigned char high = first == 0xED   ? 0x9F
                               : first == 0xF4 ? 0x8F
                                               : 0xBF; /* and surrogates, and beyond 10FFFF */

    if (length > 1 && (at[1] < low || at[1] > high)) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return length;
}

static bool append_character(hsgd_json *j, const unsigned char *at, size_t length)
{
    static const char shortened[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    const unsigned char c = at[0];
    char escaped[8] = {'\\', (char)c};

    if (length == 0) {
        return append(j, "\xEF\xBF\xBD", 3); /* U+FFFD */
    }
    if (c == '"' || c == '\\') {
        return append(j, escaped, 2);
    }
    if (c < sizeof shortened && shortened[c] != 0) {
        escaped[1] = shortened[c];
        return append(j, escaped, 2);
    }
    if (c < 0x20 || c == 0x7F) { /* the last is allowed as it is, but no terminal shows it */
        (void)snprintf(escaped, sizeof escaped, "\\u%04x", c);
        return append(j, escaped, 6);
    }
    return append(j, (const char *)at, length);
}

void hsgd_json_begin(hsgd_json *j)
{
    if (j != NULL) {
        j->length = 1;
        j->text[0] = '{';
    }
}

void hsgd_json_text(hsgd_json *j, const char *name, const char *value)
{
    size_t before;
    bool fits;

    if (j == NULL || value == NULL) {
        append_member(j, name, "null");
        return;
    }
    fits = append_name(j, name, &before) && append(j, "\"", 1);
    for (size_t i = 0; fits && value[i] != '\0' && i < HSGD_JSON_TEXT;) {
        const unsigned char *at = (const unsigned char *)value + i;
        const size_t length = character(at);

        fits = append_character(j, at, length);
        i += length > 0 ? length : 1;
    }
    if (!fits || !append(j, "\"", 1)) {
        j->length = before;
    }
}

void hsgd_json_integer(hsgd_json *j, const char *name, int64_t value)
{
    char spelled[32];

    (void)snprintf(spelled, sizeof spelled, "%lld", (long long)value);
    append_member(j, name, spelled);
}

void hsgd_json_real(hsgd_json *j, const char *name, double value)
{
    char spelled[40];

    if (!isfinite(value)) {
        append_member(j, name, "null");
        return;
    }
    (void)snprintf(spelled, sizeof spelled - 2, "%.17g", value);
    if (strpbrk(spelled, ".e") == NULL) { /* else many a reader takes it for an integer */
        strcat(spelled, ".0");
    }
    append_member(j, name, spelled);
}

void hsgd_json_rounded(hsgd_json *j, const char *name, double value)
{
    char spelled[340]; /* the largest has 309 digits before the point */

    (void)snprintf(spelled, sizeof spelled, "%.6f", value);
    append_member(j, name, isfinite(value) ? spelled : "null");
}

void hsgd_json_flag(hsgd_json *j, const char *name, bool value)
{
    append_member(j, name, value ? "true" : "false");
}

const char *hsgd_json_end(hsgd_json *j)
{
    if (j == NULL) {
        return "";
    }
    memcpy(j->text + j->length, "}\n", ENDING);
    j->length += ENDING - 1;
    return j->text;
}
