/* src/store/manifest.c - see manifest.h. */
#include "store/manifest.h"
#include <stdio.h>
#include <string.h>

static const char HEAD[] = "# hsgd-dist manifest 1\n";

hsgd_status manifest_format(const manifest *m, const char *name, char text[MANIFEST_TEXT], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    size_t used = (size_t)snprintf(text, MANIFEST_TEXT, "%s", HEAD);

    HSGD_CHECK(strlen(name) <= MANIFEST_NAME && strchr(name, '\n') == NULL, HSGD_ERR_IO, err,
               "%.100s...: the file's name is too long, or holds a line's end", name);
    for (int i = 0; i < m->count; i++) {
        used += (size_t)snprintf(text + used, MANIFEST_TEXT - used, "# %lld bytes\n%s  %s\n",
                                 (long long)m->entry[i].bytes, m->entry[i].sha256, name);
    }
done:
    return st;
}

/* What is still to be read. */
typedef struct {
    const char *at, *end;
} rest;

/* Is `text` what comes next?  If so, go past it. */
static bool skip(rest *r, const char *text)
{
    const size_t length = strlen(text);

    if ((size_t)(r->end - r->at) < length || memcmp(r->at, text, length) != 0) {
        return false;
    }
    r->at += length;
    return true;
}

/* A decimal number without sign or leading zeros. */
static bool read_number(rest *r, int64_t *out)
{
    const char *first = r->at;

    *out = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *r->at - '0', out)) {
            return false;
        }
        r->at++;
    }
    return r->at > first && (*first != '0' || r->at == first + 1);
}

static bool read_hex(rest *r, char hex[65])
{
    memset(hex, 0, 65);
    for (int i = 0; i < 64; i++, r->at++) {
        if (r->at == r->end || *r->at == '\0' || strchr("0123456789abcdef", *r->at) == NULL) {
            return false;
        }
        hex[i] = *r->at;
    }
    return true;
}

bool manifest_is_ours(const char *text, size_t length)
{
    return length >= sizeof HEAD - 1 && memcmp(text, HEAD, sizeof HEAD - 1) == 0;
}

hsgd_status manifest_parse(const char *text, size_t length, const char *name, manifest *out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    rest r = {text, text + length};
    bool good = skip(&r, HEAD);

    *out = (manifest){0};
    while (good && r.at < r.end) {
        manifest_entry *entry = &out->entry[out->count];

        good = out->count < MANIFEST_ENTRIES && skip(&r, "# ") && read_number(&r, &entry->bytes) &&
               skip(&r, " bytes\n") && read_hex(&r, entry->sha256) && skip(&r, "  ") && skip(&r, name) &&
               skip(&r, "\n");
        out->count++;
    }
    HSGD_CHECK(good && out->count > 0, HSGD_ERR_DATA, err, "not a manifest of %.200s", name);
done:
    if (st != HSGD_OK) {
        *out = (manifest){0};
    }
    return st;
}
