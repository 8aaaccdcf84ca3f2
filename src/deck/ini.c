/* src/deck/ini.c - an INI text, read by inih.
 *
 * inih splits lines into section, key and value. It has lines of 200 bytes, tells its handler no line numbers, goes on
 * after errors and says nothing of sections without keys: so it reads through next_line here, which counts lines, checks
 * headers, ends at the first error, and lets a value go on in the next line after a backslash. */
#include "deck/schema.h"
#include <ctype.h>
#include <ini.h>
#include <string.h>

enum { NAME = 64, QUOTED = 96 };

typedef struct {
    hsgd_resolution *resolution;
    const char *rest; /* of the text, from the next line on */
    int number;       /* of the line being read, from 1 */
    hsgd_status status;
    hsgd_error *err;

    int row;               /* the key whose value is being read, or -1 */
    char value[HSGD_TEXT]; /* its lines so far */
    bool goes_on;          /* the last of them ended with a backslash */
} ini;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The value of in->row is complete: take it. */
static hsgd_status finish_value(ini *in)
{
    hsgd_resolution *r = in->resolution;
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char why[HSGD_WHY];
    const int row = in->row;

    in->row = -1;
    if (row >= 0 && !hsgd_value_read(&schema[row], in->value, r->deck, why)) {
        return hsgd_resolution_refuse(r, row, in->err, "%s", why);
    }
    return HSGD_OK;
}

/* One more line of the value of in->row, joined to the lines before by what stands before their backslash. */
static hsgd_status add_line(ini *in, const char *text)
{
    hsgd_status st = HSGD_OK;
    const size_t have = strlen(in->value);
    size_t length = 0;

    /* some versions of inih leave the comment in a line that goes on: end before it */
    while (text[length] != '\0' && !(text[length] == ';' && (length == 0 || is_blank(text[length - 1])))) {
        length++;
    }
    while (length > 0 && is_blank(text[length - 1])) {
        length--;
    }
    in->goes_on = length > 0 && text[length - 1] == '\\';
    length -= in->goes_on;
    if (have + length >= sizeof in->value) {
        st = hsgd_resolution_refuse(in->resolution, in->row, in->err, "the value has more than %d bytes; shorten it",
                                    HSGD_TEXT - 1);
    } else {
        memcpy(in->value + have, text, length);
        in->value[have + length] = '\0';
    }
    return st;
}

static hsgd_status begin_value(ini *in, const char *section, const char *key, const char *text)
{
    hsgd_status st = HSGD_OK;
    hsgd_resolution *r = in->resolution;
    char quoted[QUOTED], near[NAME * 2];
    int row;

    HSGD_TRY(finish_value(in));
    hsgd_quote(key, quoted, sizeof quoted);
    HSGD_CHECK(key[0] != '\0', HSGD_ERR_USAGE, in->err, "%s:%d: no key before '='; write key = value", r->name,
               in->number);
    HSGD_CHECK(section[0] != '\0', HSGD_ERR_USAGE, in->err,
               "%s:%d: '%s' stands before any section; begin with a line such as [run]", r->name, in->number, quoted);
    row = hsgd_schema_find(section, key);
    if (row < 0) {
        hsgd_schema_suggest(section, key, near, sizeof near);
        return hsgd_error_set(in->err, HSGD_ERR_USAGE, "%s:%d: [%s] %s: unknown key%s", r->name, in->number, section,
                              quoted, near);
    }
    HSGD_CHECK(r->line[row] == 0, HSGD_ERR_USAGE, in->err,
               "%s:%d: [%s] %s: set before, in line %d; leave one of the two", r->name, in->number, section, key,
               r->line[row]);
    r->line[row] = in->number;
    in->row = row;
    in->value[0] = '\0';
    HSGD_TRY(add_line(in, text));
done:
    return st;
}

/* inih's handler: 0 is failure. */
static int on_value(void *user, const char *section, const char *key, const char *value)
{
    ini *in = user;

    if (in->status == HSGD_OK) {
        in->status = in->goes_on ? add_line(in, value) : begin_value(in, section, key, value);
    }
    return in->status == HSGD_OK;
}

/* `line` begins with '['. */
static hsgd_status check_header(const ini *in, const char *line)
{
    hsgd_status st = HSGD_OK;
    const char *name = in->resolution->name, *end = strchr(line, ']'), *after;
    char section[NAME], quoted[QUOTED], near[NAME * 2];

    HSGD_CHECK(end != NULL, HSGD_ERR_USAGE, in->err, "%s:%d: a section without ']'; write [name]", name, in->number);
    HSGD_CHECK(end > line + 1, HSGD_ERR_USAGE, in->err, "%s:%d: a section without a name; write one, such as [run]",
               name, in->number);
    (void)snprintf(section, sizeof section, "%.*s", (int)(end - line - 1), line + 1);
    if (!hsgd_schema_has_section(section)) {
        hsgd_quote(section, quoted, sizeof quoted);
        hsgd_schema_suggest(section, NULL, near, sizeof near);
        return hsgd_error_set(in->err, HSGD_ERR_USAGE, "%s:%d: [%s]: unknown section%s", name, in->number, quoted,
                              near);
    }
    after = end + 1 + strspn(end + 1, " \t");
    HSGD_CHECK(*after == '\0' || *after == ';' || *after == '#', HSGD_ERR_USAGE, in->err,
               "%s:%d: text after [%s]; put it in a line of its own", name, in->number, section);
done:
    return st;
}

/* Is there a byte order mark?  inih skips one itself, and would find a header behind it that was not checked here: none
 * is left to it. */
static bool is_marked(const ini *in, const char *start)
{
    return in->number == 1 && strncmp(start, "\xEF\xBB\xBF", 3) == 0;
}

/* inih's reader: the next line into line[size], without blanks before or behind it.  A line that goes on with a value
 * begins with one blank: that is how inih knows it. */
static char *next_line(char *line, int size, void *user)
{
    ini *in = user;
    const char *start = in->rest, *end = start + strcspn(start, "\n");
    size_t length;

    if (in->status != HSGD_OK || *start == '\0') {
        return NULL;
    }
    in->rest = *end == '\n' ? end + 1 : end;
    in->number++;
    while (start < end && (isspace((unsigned char)*start) || is_marked(in, start))) {
        start += is_marked(in, start) ? 3 : 1;
    }
    while (start < end && isspace((unsigned char)end[-1])) {
        end--;
    }
    if (start < end && (*start == '#' || *start == ';')) {
        end = start; /* a comment, which may be longer than a line of inih's */
    }
    length = (size_t)(end - start);
    if (length + 2 > (size_t)size) {
        in->status = hsgd_error_set(in->err, HSGD_ERR_USAGE,
                                    "%s:%d: a line of %zu bytes; at most %d, then end it with a backslash and go on in "
                                    "the next line",
                                    in->resolution->name, in->number, length, size - 2);
        return NULL;
    }
    (void)snprintf(line, (size_t)size, "%s%.*s", in->goes_on ? " " : "", (int)length, start);
    if (line[0] == '[') {
        in->status = check_header(in, line);
    }
    return in->status == HSGD_OK ? line : NULL;
}

hsgd_status hsgd_ini_read(hsgd_resolution *r, const char *text, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    ini in = {.resolution = r, .rest = text, .err = err, .row = -1};
    /* the line of the first error: the handler's, or one of inih's own, which is then a line without '=' */
    const int wrong = ini_parse_stream(next_line, &in, on_value, &in);

    HSGD_CHECK(wrong >= 0, HSGD_ERR_MEMORY, err, "memory: cannot read %s", r->name);
    HSGD_CHECK(wrong == 0 || (in.status != HSGD_OK && wrong == in.number), HSGD_ERR_USAGE, err,
               "%s:%d: neither [section] nor key = value; a comment begins with '#' or ';'", r->name, wrong);
    HSGD_TRY(in.status);
    HSGD_CHECK(!in.goes_on, HSGD_ERR_USAGE, err, "%s:%d: ends with a backslash, and no line follows; leave it away",
               r->name, in.number);
    HSGD_TRY(finish_value(&in));
done:
    return st;
}
