/* src/store/journal.c - see journal.h. */
#include "store/journal.h"
#include "base/clock.h"
#include "store/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct hsgd_journal {
    char folder[STORE_PATH], path[STORE_PATH];
    int fd;     /* -1: not open */
    char *held; /* [held_length]: lines not written yet; owned */
    size_t held_length;
    off_t size;     /* of the file: the end of its last whole line */
    double seconds; /* in writing */
    hsgd_error failure;
};

/* Remember the first failure, and tell it. */
static hsgd_status fail(hsgd_journal *j, const char *what, int number)
{
    if (j->failure.status == HSGD_OK) {
        (void)hsgd_error_set(&j->failure, HSGD_ERR_IO, "%s: cannot %s: %s; check free space, quota and permissions",
                             j->path, what, strerror(number));
    }
    return j->failure.status;
}

hsgd_status hsgd_journal_create(const char *folder, const char *name, hsgd_journal **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_journal *j = calloc(1, sizeof *j);

    *out = NULL;
    HSGD_CHECK(j != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the journal of the run");
    j->fd = -1;
    /* a failure is told when it is opened */
    if (snprintf(j->path, sizeof j->path, "%s/%s", folder, name) >= (int)sizeof j->path) {
        (void)hsgd_error_set(&j->failure, HSGD_ERR_IO, "%.200s...: the folder's name is too long", folder);
    }
    (void)snprintf(j->folder, sizeof j->folder, "%s", folder);
    *out = j;
done:
    return st;
}

/* Write all of it or nothing: what a full disk cut short is taken back. */
static void put(hsgd_journal *j, const char *text, size_t length)
{
    const double start = hsgd_clock();
    size_t done = 0;

    while (done < length && j->failure.status == HSGD_OK) {
        const ssize_t written = write(j->fd, text + done, length - done);

        if (written > 0) {
            done += (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            const int number = written == 0 ? ENOSPC : errno;

            if (done > 0) {
                (void)!ftruncate(j->fd, j->size); /* if not: the next run cuts it off */
            }
            (void)fail(j, "write a line", number);
        }
    }
    if (j->failure.status == HSGD_OK) {
        j->size += (off_t)length;
    }
    j->seconds += hsgd_clock() - start;
}

/* Is it an object of JSON that is whole: are all its braces closed, outside of texts, where it ends? */
static bool is_whole(const char *text, size_t length)
{
    int64_t depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < length; i++) {
        const char c = text[i];

        if (quoted && c == '\\') {
            i++;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == '{' || c == '}')) {
            depth += c == '{' ? 1 : -1;
            if (depth <= 0) {
                return depth == 0 && i + 1 == length;
            }
        }
    }
    return false;
}

/* The bytes behind the last newline, of which *length are found, into *tail (the caller frees it). */
static hsgd_status read_tail(hsgd_journal *j, off_t size, char **tail, size_t *length)
{
    enum { PIECE = 16384 };
    char piece[PIECE];
    off_t begin = size;
    bool found = false;

    *tail = NULL;
    while (begin > 0 && !found) {
        const size_t count = begin < PIECE ? (size_t)begin : PIECE;
        const char *newline;

        if (pread(j->fd, piece, count, begin - (off_t)count) != (ssize_t)count) {
            return fail(j, "read the last line", errno);
        }
        newline = memrchr(piece, '\n', count);
        found = newline != NULL;
        begin = found ? begin - (off_t)count + (newline - piece) + 1 : begin - (off_t)count;
    }
    *length = (size_t)(size - begin);
    *tail = malloc(*length + 1);
    if (*tail == NULL) {
        return hsgd_error_set(&j->failure, HSGD_ERR_MEMORY, "memory: cannot hold the last line of %s", j->path);
    }
    return pread(j->fd, *tail, *length, begin) == (ssize_t)*length ? HSGD_OK : fail(j, "read the last line", errno);
}

/* The file ends with a whole line: a last one that lacks its newline alone gets it, any other goes. */
static void mend_end(hsgd_journal *j, off_t size)
{
    char *tail = NULL;
    size_t length = 0;

    j->size = size;
    if (read_tail(j, size, &tail, &length) == HSGD_OK && length > 0) {
        if (is_whole(tail, length)) {
            put(j, "\n", 1);
        } else {
            j->size = size - (off_t)length;
            if (ftruncate(j->fd, j->size) != 0) {
                (void)fail(j, "cut off half a line", errno);
            }
        }
    }
    free(tail);
}

hsgd_status hsgd_journal_open(hsgd_journal *j, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    struct stat info;

    if (j == NULL || j->fd >= 0 || j->failure.status != HSGD_OK) {
        return hsgd_journal_state(j, err);
    }
    HSGD_TRY(store_make_folder(j->folder, &j->failure));
    j->fd = open(j->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666); /* a pipe must not block us */
    if (j->fd < 0 || fstat(j->fd, &info) != 0) {
        (void)fail(j, "open the file", errno);
    } else if (!S_ISREG(info.st_mode)) {
        (void)hsgd_error_set(&j->failure, HSGD_ERR_IO, "%s: not a regular file; remove it", j->path);
    } else {
        mend_end(j, info.st_size);
    }
    put(j, j->held, j->held_length);
done:
    free(j->held);
    j->held = NULL;
    j->held_length = 0;
    return hsgd_journal_state(j, err);
}

bool hsgd_journal_is_open(const hsgd_journal *j)
{
    return j != NULL && j->fd >= 0;
}

void hsgd_journal_add(hsgd_journal *j, const char *line)
{
    const size_t length = strlen(line);
    char *larger;

    if (j == NULL || j->failure.status != HSGD_OK) {
        return;
    }
    if (j->fd >= 0) {
        put(j, line, length);
        return;
    }
    larger = realloc(j->held, j->held_length + length + 1);
    if (larger == NULL) {
        (void)hsgd_error_set(&j->failure, HSGD_ERR_MEMORY, "memory: cannot hold the first lines of %s", j->path);
        return;
    }
    j->held = larger;
    memcpy(j->held + j->held_length, line, length + 1);
    j->held_length += length;
}

hsgd_status hsgd_journal_state(const hsgd_journal *j, hsgd_error *err)
{
    if (j != NULL && j->failure.status != HSGD_OK && err != NULL) {
        *err = j->failure;
    }
    return j != NULL ? j->failure.status : HSGD_OK;
}

double hsgd_journal_seconds(const hsgd_journal *j)
{
    return j != NULL ? j->seconds : 0.0;
}

hsgd_status hsgd_journal_close(hsgd_journal *j, hsgd_error *err)
{
    if (j != NULL && j->fd >= 0) {
        if (close(j->fd) != 0 && errno != EINTR) {
            (void)fail(j, "close the file", errno);
        }
        j->fd = -1;
    }
    return hsgd_journal_state(j, err);
}

void hsgd_journal_destroy(hsgd_journal **j)
{
    if (j != NULL && *j != NULL) {
        (void)hsgd_journal_close(*j, NULL);
        free((*j)->held);
        free(*j);
        *j = NULL;
    }
}
