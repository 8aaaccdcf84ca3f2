/* src/study/times.c - see times.h. */
#include "study/times.h"
#include "base/clock.h"
#include "store/journal.h"
#include "study/metrics.h"
#include <math.h>
#include <string.h>

static const char *name_of(int part)
{
    return part == TIMES_SETUP ? "set-up" : part == TIMES_STUDY ? "study" : hsgd_stage_name((hsgd_stage)part);
}

study_clock times_now(const study_state *s)
{
    return (study_clock){
        .all = hsgd_clock(), .communication = s->comm->seconds, .files = s->comm->file_seconds + metrics_seconds(s)};
}

void times_count_input(study_state *s, const study_clock *since)
{
    const study_clock now = times_now(s);

    s->comm->file_seconds +=
        now.all - since->all - (now.communication - since->communication) - (now.files - since->files);
}

hsgd_status times_add(study_state *s, int part, const study_clock *since, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_clock now = times_now(s);
    study_time *t = &s->time[part];
    const double all = now.all - since->all, communication = now.communication - since->communication,
                 files = now.files - since->files;
    /* what a clock's own steps leave below 0 is 0 */
    const double mine[TIMES_KINDS] = {all, fmax(0.0, all - communication - files), communication, files};

    memcpy(t->mean, mine, sizeof mine);
    memcpy(t->most, mine, sizeof mine);
    HSGD_TRY(hsgd_comm_sum(s->comm, HSGD_TYPE_F64, TIMES_KINDS, t->mean, err));
    HSGD_TRY(hsgd_comm_max(s->comm, HSGD_TYPE_F64, TIMES_KINDS, t->most, err));
    for (int i = 0; i < TIMES_KINDS; i++) {
        t->mean[i] /= (double)s->comm->ranks;
    }
    t->known = true;
done:
    return st;
}

static void add_event(study_state *s, int part)
{
    static const char *const names[2][TIMES_KINDS] = {
        {"seconds", "compute", "communication", "input_output"},
        {"seconds_most", "compute_most", "communication_most", "input_output_most"}};
    const study_time *t = &s->time[part];
    hsgd_json *line = metrics_event(s, "summary", name_of(part));

    hsgd_json_integer(line, "ranks", s->comm->ranks);
    for (int i = 0; i < TIMES_KINDS; i++) {
        hsgd_json_rounded(line, names[0][i], t->mean[i]);
    }
    for (int i = 0; i < TIMES_KINDS; i++) {
        hsgd_json_rounded(line, names[1][i], t->most[i]);
    }
    metrics_add(s, line);
}

void times_report(study_state *s)
{
    enum { CELL = 32 };
    const bool several = s->comm->ranks > 1;

    summary_add(s, "  seconds%s%17s%18s%18s%18s", several ? ", mean (most) of a rank" : "                       ",
                "in all", "compute", "communication", "input/output");
    for (int i = -1; i < TIMES_PARTS; i++) {
        const int part = i < 0 ? TIMES_SETUP : i; /* which comes first */
        const study_time *t = &s->time[part];
        char cell[TIMES_KINDS][CELL];

        if (!t->known || i == TIMES_SETUP) {
            continue;
        }
        for (int k = 0; k < TIMES_KINDS; k++) {
            (void)snprintf(cell[k], CELL, several ? "%.2f (%.2f)" : "%.2f", t->mean[k], t->most[k]);
        }
        summary_add(s, "  time %-25s%17s%18s%18s%18s", name_of(part), cell[0], cell[1], cell[2], cell[3]);
        add_event(s, part);
    }
}
