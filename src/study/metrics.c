/* src/study/metrics.c - see metrics.h. */
#include "study/metrics.h"
#include "base/clock.h"
#include "store/journal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SECONDS_BETWEEN_PROGRESS = 1.0; /* enough for a plot of hours, and nothing beside a product */

struct study_metrics {
    hsgd_journal *journal;
    hsgd_json line;
    hsgd_json progress; /* the last line of progress; waits, where it came soon after another, until it is the last */
    bool waits;
    double progressed; /* when a line of progress was written last; 0: none of this stage */
    bool described;    /* set-up was done */
};

/* ---- lines ---- */

static void begin_line(const study_state *s, hsgd_json *line, const char *event, const char *stage)
{
    char now[32];

    hsgd_clock_iso(now, sizeof now);
    hsgd_json_begin(line);
    hsgd_json_text(line, "time", now);
    hsgd_json_rounded(line, "elapsed", hsgd_clock() - s->started);
    hsgd_json_text(line, "event", event);
    hsgd_json_text(line, "stage", stage);
}

/* What waits is written before anything later is. */
static void write_waiting(study_metrics *m)
{
    if (m->waits) {
        hsgd_journal_add(m->journal, hsgd_json_end(&m->progress));
        m->waits = false;
    }
}

/* Does this rank write lines?  None where the file is another run's by now. */
static bool writes(const study_state *s)
{
    return s->metrics != NULL && !hsgd_lock_is_lost(s->lock);
}

hsgd_json *metrics_event(const study_state *s, const char *event, const char *stage)
{
    if (!writes(s)) {
        return NULL;
    }
    begin_line(s, &s->metrics->line, event, stage);
    return &s->metrics->line;
}

void metrics_add(const study_state *s, hsgd_json *line)
{
    if (line != NULL) {
        write_waiting(s->metrics);
        hsgd_journal_add(s->metrics->journal, hsgd_json_end(line));
    }
}

hsgd_json *metrics_progress(const study_state *s, const char *stage, const char *unit, int64_t done, int64_t total)
{
    hsgd_json *line;
    double rate, left;

    if (!writes(s)) {
        return NULL;
    }
    line = &s->metrics->progress;
    hsgd_progress_pace(s->progress, &rate, &left);
    begin_line(s, line, "progress", stage);
    hsgd_json_text(line, "unit", unit);
    hsgd_json_integer(line, "done", done);
    hsgd_json_integer(line, "total", total);
    hsgd_json_rounded(line, "rate", rate);
    hsgd_json_rounded(line, "eta", left);
    return line;
}

void metrics_add_progress(const study_state *s, hsgd_json *line)
{
    const double now = hsgd_clock();

    if (line == NULL) {
        return;
    }
    s->metrics->waits = true;
    if (s->metrics->progressed == 0.0 || now - s->metrics->progressed >= SECONDS_BETWEEN_PROGRESS) {
        write_waiting(s->metrics);
        s->metrics->progressed = now;
    }
}

void metrics_sweep(const study_state *s, hsgd_stage stage, int64_t done, int64_t groups)
{
    const char *name = hsgd_stage_name(stage);

    hsgd_progress_update(s->progress, name, "groups", done, groups, "%lld of %lld groups of samples", (long long)done,
                         (long long)groups);
    metrics_add_progress(s, metrics_progress(s, name, "groups", done, groups));
}

static void hear(void *context, const char *warning)
{
    const study_state *s = context;
    hsgd_json *line = metrics_event(s, "warning", METRICS_STUDY);

    hsgd_json_text(line, "text", warning);
    metrics_add(s, line);
}

/* ---- a run ---- */

hsgd_status metrics_create(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (s->comm->rank == 0) {
        s->metrics = calloc(1, sizeof *s->metrics);
        st = s->metrics == NULL ? hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the metrics")
                                : hsgd_journal_create(s->deck->run.output, METRICS_FILE, &s->metrics->journal, err);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    if (s->metrics != NULL) {
        hsgd_json *line = metrics_event(s, "begin", METRICS_STUDY);

        hsgd_json_text(line, "program", "hsgd-dist");
        hsgd_json_text(line, "version", hsgd_store_build_version());
        hsgd_json_text(line, "git_commit", hsgd_store_build_commit());
        hsgd_json_text(line, "command", s->setup->command);
        hsgd_json_text(line, "host", s->comm->host);
        hsgd_json_integer(line, "ranks", s->comm->ranks);
        hsgd_json_flag(line, "restart", s->setup->restart);
        metrics_add(s, line);
        hsgd_progress_listen(s->progress, hear, s);
    }
done:
    return st;
}

void metrics_destroy(study_state *s)
{
    if (s->metrics != NULL) {
        hsgd_progress_listen(s->progress, NULL, NULL);
        hsgd_journal_destroy(&s->metrics->journal);
        free(s->metrics);
        s->metrics = NULL;
    }
}

void metrics_describe(study_state *s)
{
    hsgd_json *line = metrics_event(s, "set-up", METRICS_STUDY);

    if (line != NULL) {
        hsgd_json_text(line, "data_source", s->data->source);
        hsgd_json_integer(line, "train_samples", s->data->train.count);
        hsgd_json_integer(line, "test_samples", s->data->test.count);
        hsgd_json_integer(line, "parameters", s->n);
        hsgd_json_text(line, "backend", s->backend->ops->name);
        hsgd_json_text(line, "device", s->device[0] != '\0' ? s->device : NULL);
        hsgd_json_text(line, "communicator", s->comm->ops->name);
        hsgd_json_integer(line, "threads", s->threads);
        hsgd_json_text(line, "precision", s->backend->precision == HSGD_DOUBLE ? "double" : "single");
        hsgd_json_text(line, "reduction", s->deck->run.reduction == 0 ? "reproducible" : "fast");
        metrics_add(s, line);
        s->metrics->described = true;
    }
}

hsgd_status metrics_open(study_state *s, hsgd_error *err)
{
    hsgd_status st = hsgd_lock_check(s->lock, err);

    if (st == HSGD_OK && s->metrics != NULL) {
        st = hsgd_journal_open(s->metrics->journal, err);
    }
    return hsgd_comm_agree(s->comm, st, err);
}

bool metrics_failed(const study_state *s)
{
    return s->metrics != NULL && hsgd_journal_state(s->metrics->journal, NULL) != HSGD_OK;
}

double metrics_seconds(const study_state *s)
{
    return s->metrics != NULL ? hsgd_journal_seconds(s->metrics->journal) : 0.0;
}

void metrics_begin(const study_state *s, hsgd_stage stage)
{
    hsgd_json *line = metrics_event(s, "begin", hsgd_stage_name(stage));

    metrics_add(s, line);
    if (line != NULL) {
        s->metrics->progressed = 0.0;
    }
}

void metrics_file(const study_state *s, const char *event, hsgd_stage stage, const char *file, int64_t step,
                  double seconds)
{
    hsgd_json *line = metrics_event(s, event, hsgd_stage_name(stage));

    hsgd_json_text(line, "file", file);
    if (step >= 0) {
        hsgd_json_integer(line, "step", step);
    }
    if (seconds >= 0.0) {
        hsgd_json_rounded(line, "seconds", seconds);
    }
    metrics_add(s, line);
}

/* How a run or a stage ended. */
static void add_end(const study_state *s, const char *stage, hsgd_status status, double seconds, const char *message)
{
    hsgd_json *line = metrics_event(s, "end", stage);

    hsgd_json_rounded(line, "seconds", seconds);
    hsgd_json_integer(line, "exit", hsgd_error_exit_code(status));
    if (message != NULL) {
        hsgd_json_text(line, "message", message);
    }
    metrics_add(s, line);
}

void metrics_end(const study_state *s, hsgd_stage stage, hsgd_status status, double seconds)
{
    if (status == HSGD_STOPPED && stage != HSGD_STAGE_TRAIN) { /* which tells it with its step */
        metrics_add(s, metrics_event(s, "stop", hsgd_stage_name(stage)));
    }
    add_end(s, hsgd_stage_name(stage), status, seconds, NULL);
}

/* Is a run that ends like this one to be told of?  Not where it was refused. */
static bool is_told(const study_metrics *m, hsgd_status status)
{
    return hsgd_journal_is_open(m->journal) ||
           (m->described && status != HSGD_ERR_USAGE && status != HSGD_ERR_DATA && status != HSGD_ERR_IO);
}

hsgd_status metrics_finish(study_state *s, hsgd_status status, hsgd_error *err)
{
    const bool together = status == HSGD_OK || status == HSGD_STOPPED;
    study_metrics *m = s->metrics;
    hsgd_error lost = {0};
    hsgd_status st = HSGD_OK;

    if (writes(s) && is_told(m, status)) {
        add_end(s, METRICS_STUDY, status, hsgd_clock() - s->started, status == HSGD_OK || err == NULL ? "" : err->text);
        (void)hsgd_journal_open(m->journal, NULL);
        st = hsgd_journal_close(m->journal, &lost);
    }
    if (!together) {
        return status;
    }
    st = hsgd_comm_agree(s->comm, st, &lost);
    return st == HSGD_OK ? status
                         : hsgd_error_set(err, st, "%s; what was computed is kept, go on with --restart", lost.text);
}
