/* src/base/progress.c - the only file besides main.c that prints. */
#include "base/progress.h"
#include "base/clock.h"
#include <math.h>
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
    double rate, left;   /* see hsgd_progress_pace */
    void (*hear)(void *context, const char *warning);
    void *context; /* of hear */
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
    p->rate = p->left = (double)NAN;
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
    if (progress->hear != NULL) {
        char text[2048];

        va_start(args, format);
        (void)vsnprintf(text, sizeof text, format, args);
        va_end(args);
        progress->hear(progress->context, text);
    }
}

void hsgd_progress_listen(hsgd_progress *progress, void (*hear)(void *context, const char *warning), void *context)
{
    progress->hear = hear;
    progress->context = context;
}

/* The pace at `done` units; the first update, before which nobody looked at the clock, starts the estimate. */
static void measure(hsgd_progress *p, int64_t done, int64_t total, double now)
{
    if (p->began == 0.0) {
        p->began = p->shown = now;
        p->from = done;
    }
    p->rate = p->left = (double)NAN;
    if (done > p->from && now > p->began) {
        p->rate = (double)(done - p->from) / (now - p->began);
        p->left = total >= done ? (double)(total - done) / p->rate : (double)NAN;
    }
}

void hsgd_progress_pace(const hsgd_progress *progress, double *rate, double *left)
{
    *rate = progress->rate;
    *left = progress->left;
}

void hsgd_progress_update(hsgd_progress *progress, const char *stage, const char *unit, int64_t done, int64_t total,
                          const char *format, ...)
{
    hsgd_progress *p = progress;
    const double now = hsgd_clock();
    const double wait = p->terminal ? SECONDS_BETWEEN_REDRAWS : SECONDS_BETWEEN_LINES;
    va_list args;

    if (!p->active) {
        return;
    }
    measure(p, done, total, now);
    if (p->quiet || now - p->shown < wait) {
        return;
    }
    p->shown = now;
    (void)fputs(p->drawn ? "\r\033[K" : "", stdout);
    (void)printf("%s: ", stage);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    if (unit != NULL && !isnan(p->rate)) {
        (void)printf(", %.3g %s/s", p->rate, unit);
    }
    if (!isnan(p->left)) {
        (void)printf(", %.0f %%, at most %.0f s left", 100.0 * (double)done / (double)total, p->left);
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
        progress->rate = progress->left = (double)NAN;
    }
}
