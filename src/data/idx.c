/* src/data/idx.c - see idx.h.  A byte stream (plain or inflated) below, the IDX header and body above it. */
#include "data/idx.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    CHUNK = 65536,   /* bytes read from a gzip file at a time */
    MAX_EDGE = 4096, /* pixels; count < 2^32 and two edges of 2^12 keep every product within 2^56: none overflows */
    BEST_RATIO =
        1032,        /* deflate cannot shrink further (zlib's technical notes), so no header is believed beyond that */
    MAGIC_BYTES = 4, /* 0, 0, element type, number of dimensions */
    TYPE_UNSIGNED = 8, /* element type: unsigned bytes */
    WINDOW_GZIP = 31,  /* inflateInit2: largest window, gzip wrapper with its CRC */
};

struct hsgd_idx {
    int fd;
    hsgd_idx_kind kind;
    hsgd_idx_shape shape;
    int64_t file_bytes;
    bool gzip;
    bool ended; /* gzip: the last member has ended and its CRC was right */
    z_stream inflater;
    uint8_t *input; /* [CHUNK], owned; NULL for a plain file */
    char path[];
};

static const char *const again = "fetch it again (tools/fetch_mnist.sh)";

/* ---- the byte stream ---- */

static hsgd_status read_some(hsgd_idx *idx, void *to, size_t want, size_t *got, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    ssize_t n = 0;

    do {
        n = read(idx->fd, to, want);
    } while (n < 0 && errno == EINTR);
    HSGD_CHECK(n >= 0, HSGD_ERR_IO, err, "%s: cannot be read: %s; check the file system", idx->path, strerror(errno));
    *got = (size_t)n;
done:
    return st;
}

/* Have input for the inflater, or leave idx->ended set: the file is used up just behind a member. */
static hsgd_status refill(hsgd_idx *idx, bool between_members, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    size_t got = 0;

    if (idx->inflater.avail_in == 0) {
        HSGD_TRY(read_some(idx, idx->input, CHUNK, &got, err));
        HSGD_CHECK(got > 0 || between_members, HSGD_ERR_DATA, err, "%s: truncated: the gzip data stop early; %s",
                   idx->path, again);
        idx->inflater.next_in = idx->input;
        idx->inflater.avail_in = (uInt)got;
        idx->ended = got == 0;
    }
done:
    return st;
}

static hsgd_status inflate_some(hsgd_idx *idx, uint8_t *to, size_t want, size_t *got, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    z_stream *z = &idx->inflater;
    int code = Z_OK;

    z->next_out = to;
    z->avail_out = (uInt)want;
    HSGD_TRY(refill(idx, false, err));
    code = inflate(z, Z_NO_FLUSH);
    HSGD_CHECK(code != Z_MEM_ERROR, HSGD_ERR_MEMORY, err, "%s: no memory to inflate it", idx->path);
    HSGD_CHECK(code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR, HSGD_ERR_DATA, err,
               "%s: damaged gzip data (%s); %s", idx->path, z->msg != NULL ? z->msg : "no details", again);
    *got = want - z->avail_out;
    if (code == Z_STREAM_END) { /* a gzip file may hold several members one after the other */
        HSGD_TRY(refill(idx, true, err));
        HSGD_CHECK(idx->ended || *z->next_in == 0x1f, HSGD_ERR_DATA, err, "%s: trailing bytes behind the gzip data; %s",
                   idx->path, again);
        HSGD_CHECK(inflateReset(z) == Z_OK, HSGD_ERR_DATA, err, "%s: cannot be inflated further; %s", idx->path, again);
    }
done:
    return st;
}

/* Up to `want` bytes of the content; fewer (*got) only at its end. */
static hsgd_status pull(hsgd_idx *idx, uint8_t *to, size_t want, size_t *got, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t most = (size_t)1 << 30; /* zlib counts in unsigned int, read in ssize_t */
    size_t have = 0, n = 0;

    while (have < want && !idx->ended) {
        const size_t ask = want - have < most ? want - have : most;

        n = 0;
        if (idx->gzip) {
            HSGD_TRY(inflate_some(idx, to + have, ask, &n, err));
        } else {
            HSGD_TRY(read_some(idx, to + have, ask, &n, err));
            idx->ended = n == 0;
        }
        have += n;
    }
done:
    *got = have;
    return st;
}

/* ---- finding and opening ---- */

static hsgd_idx *idx_new(const char *dir, const char *name, const char *suffix)
{
    const size_t length = strlen(dir) + strlen(name) + strlen(suffix) + 2;
    hsgd_idx *idx = calloc(1, sizeof *idx + length);

    if (idx != NULL) {
        (void)snprintf(idx->path, length, "%s/%s%s", dir, name, suffix);
        idx->fd = -1;
    }
    return idx;
}

/* Open dir/name<suffix>; where it does not exist *out stays NULL and that is no error. */
static hsgd_status try_open(const char *dir, const char *name, const char *suffix, hsgd_idx **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_idx *idx = idx_new(dir, name, suffix);

    HSGD_CHECK(idx != NULL, HSGD_ERR_MEMORY, err, "%s/%s: no memory to open it", dir, name);
    idx->fd = open(idx->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without writer must not hold the job */
    if (idx->fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        goto done;
    }
    HSGD_CHECK(idx->fd >= 0, HSGD_ERR_DATA, err, "%s: cannot be opened: %s; check its permissions", idx->path,
               strerror(errno));
    *out = idx;
    idx = NULL;
done:
    hsgd_idx_close(&idx);
    return st;
}

static const char *file_type(mode_t mode)
{
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
}

/* Size, regularity and compression of the opened file. */
static hsgd_status examine(hsgd_idx *idx, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    struct stat status;
    uint8_t first[2] = {0};
    ssize_t n = 0;

    HSGD_CHECK(fstat(idx->fd, &status) == 0, HSGD_ERR_IO, err, "%s: cannot be examined: %s; check the file system",
               idx->path, strerror(errno));
    HSGD_CHECK(S_ISREG(status.st_mode), HSGD_ERR_DATA, err, "%s: is %s, not a regular file; put the IDX file there",
               idx->path, file_type(status.st_mode));
    HSGD_CHECK(status.st_size > 0, HSGD_ERR_DATA, err, "%s: empty file; %s", idx->path, again);
    idx->file_bytes = (int64_t)status.st_size;
    n = pread(idx->fd, first, sizeof first, 0);
    HSGD_CHECK(n >= 0, HSGD_ERR_IO, err, "%s: cannot be read: %s; check the file system", idx->path, strerror(errno));
    idx->gzip = n == 2 && first[0] == 0x1f && first[1] == 0x8b;
    if (idx->gzip) {
        idx->input = malloc(CHUNK);
        HSGD_CHECK(idx->input != NULL && inflateInit2(&idx->inflater, WINDOW_GZIP) == Z_OK, HSGD_ERR_MEMORY, err,
                   "%s: no memory to inflate it", idx->path);
    }
done:
    return st;
}

/* ---- the header ---- */

static uint32_t big_endian(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Name the defect of a wrong magic number as closely as its bytes tell. */
static hsgd_status wrong_magic(const hsgd_idx *idx, const uint8_t m[MAGIC_BYTES], int dimensions, hsgd_error *err)
{
    const char *const wanted = idx->kind == HSGD_IDX_IMAGES ? "images" : "labels";
    const char *const other = idx->kind == HSGD_IDX_IMAGES ? "labels" : "images";
    const uint32_t magic = big_endian(m);

    if (magic == (idx->kind == HSGD_IDX_IMAGES ? 0x00000801u : 0x00000803u)) {
        return hsgd_error_set(err, HSGD_ERR_DATA,
                              "%s: wrong magic 0x%08x: holds %s where %s belong; are files swapped?", idx->path, magic,
                              other, wanted);
    }
    if (m[2] == 0 && m[3] == 0 && m[1] == TYPE_UNSIGNED) {
        return hsgd_error_set(err, HSGD_ERR_DATA,
                              "%s: wrong magic 0x%08x: bytes reversed; IDX files are big-endian, write it so",
                              idx->path, magic);
    }
    if (m[0] == 0x1f && m[1] == 0x8b) {
        return hsgd_error_set(err, HSGD_ERR_DATA, "%s: compressed twice; run gunzip on it once", idx->path);
    }
    if (m[0] == '<') {
        return hsgd_error_set(err, HSGD_ERR_DATA, "%s: wrong magic 0x%08x: looks like a web page, not data; %s",
                              idx->path, magic, again);
    }
    if (m[0] == 0 && m[1] == 0 && m[2] == TYPE_UNSIGNED) {
        return hsgd_error_set(err, HSGD_ERR_DATA,
                              "%s: has %d dimensions, %s have %d; give a file of one byte a pixel or label", idx->path,
                              m[3], wanted, dimensions);
    }
    if (m[0] == 0 && m[1] == 0 && m[2] >= 9 && m[2] <= 14) {
        return hsgd_error_set(err, HSGD_ERR_DATA,
                              "%s: element type 0x%02x; only unsigned bytes (0x08) are read, convert it", idx->path,
                              m[2]);
    }
    return hsgd_error_set(err, HSGD_ERR_DATA, "%s: wrong magic 0x%08x: not an IDX file of %s; %s", idx->path, magic,
                          wanted, again);
}

static hsgd_status check_size(const hsgd_idx *idx, int64_t header, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_idx_shape *s = &idx->shape;
    const int64_t promised = header + s->count * s->height * s->width;

    if (idx->gzip) {
        HSGD_CHECK(promised / BEST_RATIO <= idx->file_bytes, HSGD_ERR_DATA, err,
                   "%s: truncated: the header promises %lld bytes, more than %lld bytes of gzip can hold; %s",
                   idx->path, (long long)promised, (long long)idx->file_bytes, again);
        goto done;
    }
    HSGD_CHECK(idx->file_bytes >= promised, HSGD_ERR_DATA, err,
               "%s: truncated: %lld bytes of the %lld that its header promises; %s", idx->path,
               (long long)idx->file_bytes, (long long)promised, again);
    HSGD_CHECK(idx->file_bytes == promised, HSGD_ERR_DATA, err,
               "%s: %lld trailing bytes after the %lld that its header promises; %s", idx->path,
               (long long)(idx->file_bytes - promised), (long long)promised, again);
done:
    return st;
}

static hsgd_status read_header(hsgd_idx *idx, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int dimensions = idx->kind == HSGD_IDX_IMAGES ? 3 : 1;
    const size_t header = MAGIC_BYTES + 4 * (size_t)dimensions;
    uint8_t bytes[MAGIC_BYTES + 4 * 3] = {0};
    int64_t size[3] = {1, 1, 1};
    size_t got = 0;

    HSGD_TRY(pull(idx, bytes, header, &got, err));
    HSGD_CHECK(got >= MAGIC_BYTES, HSGD_ERR_DATA, err, "%s: truncated: %zu bytes, the header alone has %zu; %s",
               idx->path, got, header, again);
    if (big_endian(bytes) != (uint32_t)(TYPE_UNSIGNED << 8 | dimensions)) {
        HSGD_TRY(wrong_magic(idx, bytes, dimensions, err));
    }
    HSGD_CHECK(got == header, HSGD_ERR_DATA, err, "%s: truncated: %zu bytes, the header alone has %zu; %s", idx->path,
               got, header, again);
    for (int d = 0; d < dimensions; d++) {
        size[d] = big_endian(bytes + MAGIC_BYTES + 4 * (size_t)d);
        HSGD_CHECK(size[d] > 0, HSGD_ERR_DATA, err, "%s: dimension %d of its header is zero: it holds nothing; %s",
                   idx->path, d + 1, again);
        HSGD_CHECK(d == 0 || size[d] <= MAX_EDGE, HSGD_ERR_DATA, err,
                   "%s: images with an edge of %lld pixels; edges of 1 to %d are read, scale them down", idx->path,
                   (long long)size[d], MAX_EDGE);
    }
    idx->shape = (hsgd_idx_shape){.count = size[0], .height = size[1], .width = size[2]};
    HSGD_TRY(check_size(idx, (int64_t)header, err));
done:
    return st;
}

/* ---- the interface ---- */

bool hsgd_idx_exists(const char *dir, const char *name)
{
    static const char *const suffixes[] = {"", ".gz"};
    bool found = false;

    for (int i = 0; i < 2 && !found; i++) {
        hsgd_idx *idx = idx_new(dir, name, suffixes[i]);
        struct stat status;

        found = idx != NULL && lstat(idx->path, &status) == 0;
        free(idx);
    }
    return found;
}

hsgd_status hsgd_idx_open(const char *dir, const char *name, hsgd_idx_kind kind, hsgd_idx **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_idx *idx = NULL;

    *out = NULL;
    HSGD_TRY(try_open(dir, name, "", &idx, err));
    if (idx == NULL) {
        HSGD_TRY(try_open(dir, name, ".gz", &idx, err));
    }
    HSGD_CHECK(
        idx != NULL, HSGD_ERR_DATA, err,
        "%s: missing file: neither %s nor %s.gz is there; fetch it with tools/fetch_mnist.sh, or name another folder "
        "(data.dir or $HSGD_DATA)",
        dir, name, name);
    idx->kind = kind;
    HSGD_TRY(examine(idx, err));
    HSGD_TRY(read_header(idx, err));
    *out = idx;
    idx = NULL;
done:
    hsgd_idx_close(&idx);
    return st;
}

hsgd_idx_shape hsgd_idx_get_shape(const hsgd_idx *idx)
{
    return idx->shape;
}

const char *hsgd_idx_path(const hsgd_idx *idx)
{
    return idx->path;
}

/* Inflate and drop the next `rest` bytes, and see that the content ends just there, its CRC being right. */
static hsgd_status check_rest(hsgd_idx *idx, size_t rest, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    uint8_t dropped[4096];
    size_t got = 0;

    while (rest > 0) {
        const size_t ask = rest < sizeof dropped ? rest : sizeof dropped;

        HSGD_TRY(pull(idx, dropped, ask, &got, err));
        HSGD_CHECK(got == ask, HSGD_ERR_DATA, err, "%s: truncated: %zu bytes short of what its header promises; %s",
                   idx->path, rest - got, again);
        rest -= ask;
    }
    HSGD_TRY(pull(idx, dropped, 1, &got, err));
    HSGD_CHECK(got == 0, HSGD_ERR_DATA, err, "%s: trailing bytes after those that its header promises; %s", idx->path,
               again);
done:
    return st;
}

hsgd_status hsgd_idx_read(hsgd_idx *idx, int64_t count, uint8_t *items, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t item = (size_t)(idx->shape.height * idx->shape.width);
    const size_t want = (size_t)count * item;
    size_t got = 0;

    HSGD_TRY(pull(idx, items, want, &got, err));
    HSGD_CHECK(got == want, HSGD_ERR_DATA, err, "%s: truncated: %zu bytes short of what its header promises; %s",
               idx->path, want - got, again);
    if (idx->gzip) { /* the size of a plain file was checked when it was opened */
        HSGD_TRY(check_rest(idx, (size_t)(idx->shape.count - count) * item, err));
    }
done:
    return st;
}

void hsgd_idx_close(hsgd_idx **idx)
{
    if (idx == NULL || *idx == NULL) {
        return;
    }
    if ((*idx)->input != NULL) {
        (void)inflateEnd(&(*idx)->inflater);
        free((*idx)->input);
    }
    if ((*idx)->fd >= 0) {
        (void)close((*idx)->fd);
    }
    free(*idx);
    *idx = NULL;
}
