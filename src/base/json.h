/* src/base/json.h - one line of JSON: a flat object of named values (RFC 8259).  It is only ever written, never read, so
 * that a library, which pays off where JSON is parsed, would bring more to build and link than these few functions are;
 * and they take no memory, so that writing a line of a log cannot fail for want of it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HSGD_JSON_LINE = 16384, /* bytes of a line at most; a member that does not fit any more is left out whole */
    HSGD_JSON_TEXT = 2048   /* bytes of a text that are taken, at most; the rest is cut off */
};

typedef struct {
    size_t length;
    char text[HSGD_JSON_LINE];
} hsgd_json;

/* All functions: j may be NULL, then nothing is done, so that ranks that write nothing need no cases.  Local. */

/* Begin the object anew. */
void hsgd_json_begin(hsgd_json *j);

/* A member.  name: plain ASCII, from the program.  value: bytes in UTF-8; what is not becomes U+FFFD, control characters
 * are escaped; NULL is null. */
void hsgd_json_text(hsgd_json *j, const char *name, const char *value);
void hsgd_json_integer(hsgd_json *j, const char *name, int64_t value);
/* With 17 digits, so that a reader has the same bits, and always with a point or an exponent; JSON knows no NaN and no
 * infinity: null. */
void hsgd_json_real(hsgd_json *j, const char *name, double value);
/* With six digits behind the point: for what was read from a clock.  Not finite: null. */
void hsgd_json_rounded(hsgd_json *j, const char *name, double value);
void hsgd_json_flag(hsgd_json *j, const char *name, bool value);

/* Close the object and the line; returns the text, which ends with a newline and a 0, and lives as long as *j. */
const char *hsgd_json_end(hsgd_json *j);
