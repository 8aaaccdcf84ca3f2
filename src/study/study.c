/* src/study/study.c - the stages of a deck, one after the other. */
#include "base/clock.h"
#include "study/keeper.h"
#include "study/metrics.h"
#include "study/times.h"
#include "study/trouble.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    study_stage run;
    const char *file; /* what marks the stage as finished; NULL: the stage finds out itself */
} stages[HSGD_STAGES] = {
    [HSGD_STAGE_TRAIN] = {stage_train, NULL},          [HSGD_STAGE_EVALUATE] = {stage_evaluate, "evaluate.h5"},
    [HSGD_STAGE_VERIFY] = {stage_verify, "verify.h5"}, [HSGD_STAGE_HVP] = {stage_hvp, "hvp.h5"},
    [HSGD_STAGE_EIGEN] = {stage_eigen, "eigen.h5"},    [HSGD_STAGE_DENSITY] = {stage_density, "density.h5"},
    [HSGD_STAGE_TRACE] = {stage_trace, "trace.h5"},    [HSGD_STAGE_LANDSCAPE] = {stage_landscape, "landscape.h5"},
};

hsgd_status study_run_kept(study_state *s, hsgd_stage stage, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const double start = hsgd_clock();
    const hsgd_keeper *outer = s->keeper; /* of the stage that needs this one first */
    study_keeper *keeper = NULL;

    metrics_begin(s, stage);
    if (study_keeper_serves(stage)) {
        HSGD_TRY(study_keeper_open(s, stage, &keeper, err));
    }
    if (stage != HSGD_STAGE_TRAIN) { /* which may still be refused, and sees to it itself */
        HSGD_TRY(metrics_open(s, err));
    }
    s->keeper = study_keeper_face(keeper);
    st = stages[stage].run(s, err);
    s->keeper = outer;
    HSGD_TRY(st);
    HSGD_TRY(study_keeper_finish(keeper, err));
done:
    study_keeper_close(&keeper, st);
    metrics_end(s, stage, st, hsgd_clock() - start);
    return st;
}

/* What is over, done or stopped, has its row in the table of times; failures pass.  Collective where that is what became of it. */
static hsgd_status add_time(study_state *s, int part, const study_clock *start, hsgd_status st, hsgd_error *err)
{
    const hsgd_status added = st == HSGD_OK || st == HSGD_STOPPED ? times_add(s, part, start, err) : HSGD_OK;

    return added != HSGD_OK ? added : st;
}

static hsgd_status run_stage(study_state *s, hsgd_stage stage, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_clock start = times_now(s);
    bool finished = false;

    if (stages[stage].file != NULL) {
        HSGD_TRY(output_finished(s, stages[stage].file, stage, &finished, err));
    }
    if (finished) {
        hsgd_progress_say(s->progress, "%s: done before (%s)", hsgd_stage_name(stage), stages[stage].file);
        summary_add(s, "  %-10s done before: %s/%s", hsgd_stage_name(stage), s->deck->run.output, stages[stage].file);
        metrics_file(s, "kept", stage, stages[stage].file, -1, -1.0);
        goto done;
    }
    hsgd_progress_say(s->progress, "%s: begins", hsgd_stage_name(stage));
    st = output_check_lock(s, study_run_kept(s, stage, err), err);
    hsgd_progress_done(s->progress);
    if (st == HSGD_STOPPED && stage != HSGD_STAGE_TRAIN) { /* which tells it itself */
        hsgd_progress_say(s->progress, "%s: stopped; run again with --restart to go on", hsgd_stage_name(stage));
    }
    HSGD_TRY(add_time(s, (int)stage, &start, trouble_in_stage(s, stage, st, err), err));
    summary_add(s, "  %-10s took %.1f s", hsgd_stage_name(stage), hsgd_clock() - start.all);
done:
    return st;
}

static hsgd_status run_stages(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int i = 0; i < s->deck->stages; i++) {
        if (s->deck->stage[i] != HSGD_STAGE_TRAIN && s->weights_sha256[0] == '\0') {
            HSGD_TRY(study_find_weights(s, err));
        }
        HSGD_TRY(run_stage(s, s->deck->stage[i], err));
    }
done:
    return st;
}

/* What study_state asks in place of main: a run whose metrics cannot be written, or whose folder is another's by now, is
 * to stop as well. */
static bool stop(void *context)
{
    const study_state *s = context;

    return metrics_failed(s) || hsgd_lock_is_lost(s->lock) ||
           (s->asked->stop != NULL && s->asked->stop(s->asked->stop_context));
}

/* After set-up: the stages, and what is told at the end. */
static hsgd_status run(study_state *s, const study_clock *start, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_take(s, err));
    HSGD_TRY(times_add(s, TIMES_SETUP, start, err));
    metrics_describe(s);
    if (s->setup->restart) {
        HSGD_TRY(study_keeper_sweep(s, err));
    }
    st = add_time(s, TIMES_STUDY, start, run_stages(s, err), err);
    if (st == HSGD_OK || st == HSGD_STOPPED) {
        times_report(s);
        hsgd_progress_say(s->progress, "summary (%.1f s in all, results in %s)\n%s", hsgd_clock() - s->started,
                          s->deck->run.output, s->summary);
    }
done:
    return st;
}

hsgd_status hsgd_study_run(const hsgd_study_setup *setup, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = calloc(1, sizeof *s);
    hsgd_study_setup own = *setup;
    study_clock start;

    HSGD_TRY(hsgd_comm_agree(setup->comm, s != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    own.stop = stop;
    own.stop_context = s;
    s->asked = setup;
    s->setup = &own;
    s->deck = setup->deck;
    s->comm = setup->comm;
    s->progress = setup->progress;
    s->started = hsgd_clock();
    start = times_now(s);
    if (!setup->dry_run) {
        HSGD_TRY(output_check_folder(s, err));
        HSGD_TRY(metrics_create(s, err));
    }
    st = study_open(s, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    if (setup->dry_run) {
        HSGD_TRY(study_dry_run(s, err));
    } else {
        st = run(s, &start, err);
    }
done:
    if (s != NULL && !setup->dry_run) {
        st = metrics_finish(s, st, err);
    }
    if (st != HSGD_OK && setup->failing != NULL) {
        setup->failing(setup->failing_context, st, err);
    }
    if (s != NULL) {
        metrics_destroy(s);
        hsgd_lock_release(&s->lock);
        study_close(s);
    }
    free(s);
    return st;
}
