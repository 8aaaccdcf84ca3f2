/* src/base/progress.c - the only file besides main.c that prints. */
#include "base/progress.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const double SECONDS_BETWEEN_LINES = 5.0, SECONDS_BETWEEN_REDRAWS = 0.1;

struct hsgd_progress {
    bool active, quiet, verbose, terminal;
    bool drawn;          /* a redrawn line stands on the terminal */
    double began, shown; /* of the present stage: first update, last shown; 0: none yet */
    int64_t from;        /* units done at the first update */
};

hsgd_status hsgd_progress_create(int rank, bool quiet, bool verbose, hsgd_progress **out, hsgd_error *err)
{
    hsgd_progress *p = calloc(1, sizeof *p);

    *out = p;
    if (p == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the progress line");
    }
    p->active = rank == 0;
    p->quiet = quiet;
    p->verbose = verbose;
    /* mpirun gives its ranks a pseudo-terminal for standard output, wherever that goes, but a pipe for the other */
    p->terminal = isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1;
    return HSGD_OK;
}

void hsgd_progress_destroy(hsgd_progress **progress)
{
    if (progress != NULL && *progress != NULL) {
        hsgd_progress_done(*progress);
        free(*progress);
        *progress = NULL;
    }
}

static void end_redrawn(hsgd_progress *p)
{
    if (p->drawn) {
        (void)fputc('\n', stdout);
        p->drawn = false;
    }
}

static void line(hsgd_progress *p, FILE *out, const char *prefix, const char *format, va_list args)
{
    end_redrawn(p);
    (void)fputs(prefix, out);
    (void)vfprintf(out, format, args);
    (void)fputc('\n', out);
    (void)fflush(out);
}

void hsgd_progress_say(hsgd_progress *progress, const char *format, ...)
{
    va_list args;

    if (!progress->active || progress->quiet) {
        return;
    }
    va_start(args, format);
    line(progress, stdout, "", format, args);
    va_end(args);
}

void hsgd_progress_detail(hsgd_progress *progress, const char *format, ...)
{
    va_list args;

    if (!progress->active || !progress->verbose) {
        return;
    }
    va_start(args, format);
    line(progress, stdout, "", format, args);
    va_end(args);
}

void hsgd_progress_warn(hsgd_progress *progress, const char *format, ...)
{
    va_list args;

    if (!progress->active) {
        return;
    }
    va_start(args, format);
    line(progress, stderr, "hsgd-dist: warning: ", format, args);
    va_end(args);
}

void hsgd_progress_update(hsgd_progress *progress, const char *stage, int64_t done, int64_t total, const char *format,
                          ...)
{
    hsgd_progress *p = progress;
    const double now = hsgd_clock();
    const double wait = p->terminal ? SECONDS_BETWEEN_REDRAWS : SECONDS_BETWEEN_LINES;
    va_list args;

    if (!p->active || p->quiet) {
        return;
    }
    if (p->began == 0.0) { /* bare clock: the first update starts the estimate */
        p->began = p->shown = now;
        p->from = done;
        return;
    }
    if (now - p->shown < wait) {
        return;
    }
    p->shown = now;
    (void)fputs(p->drawn ? "\r\033[K" : "", stdout);
    (void)printf("%s: ", stage);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    if (done > p->from && total >= done) {
        (void)printf(", %.0f %%, at most %.0f s left", 100.0 * (double)done / (double)total,
                     (now - p->began) * (double)(total - done) / (double)(done - p->from));
    }
    if (p->terminal) {
        p->drawn = true;
    } else {
        (void)fputc('\n', stdout);
    }
    (void)fflush(stdout);
}

void hsgd_progress_done(hsgd_progress *progress)
{
    if (progress->active) {
        end_redrawn(progress);
        progress->began = 0.0;
    }
}
