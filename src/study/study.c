/* src/study/study.c - the stages of a deck, one after the other. */
#include "base/clock.h"
#include "study/keeper.h"
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
    const hsgd_keeper *outer = s->keeper; /* of the stage that needs this one first */
    study_keeper *keeper = NULL;

    if (study_keeper_serves(stage)) {
        HSGD_TRY(study_keeper_open(s, stage, &keeper, err));
    }
    s->keeper = study_keeper_face(keeper);
    st = stages[stage].run(s, err);
    s->keeper = outer;
    HSGD_TRY(st);
    HSGD_TRY(study_keeper_finish(keeper, err));
done:
    study_keeper_close(&keeper, st);
    return st;
}

static hsgd_status run_stage(study_state *s, hsgd_stage stage, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const double start = hsgd_clock();
    bool finished = false;

    if (stages[stage].file != NULL) {
        HSGD_TRY(output_finished(s, stages[stage].file, stage, &finished, err));
    }
    if (finished) {
        hsgd_progress_say(s->progress, "%s: done before (%s)", hsgd_stage_name(stage), stages[stage].file);
        summary_add(s, "  %-10s done before: %s/%s", hsgd_stage_name(stage), s->deck->run.output, stages[stage].file);
        goto done;
    }
    hsgd_progress_say(s->progress, "%s: begins", hsgd_stage_name(stage));
    st = study_run_kept(s, stage, err);
    hsgd_progress_done(s->progress);
    if (st == HSGD_STOPPED && stage != HSGD_STAGE_TRAIN) { /* which tells it itself */
        hsgd_progress_say(s->progress, "%s: stopped; run again with --restart to go on", hsgd_stage_name(stage));
    }
    HSGD_TRY(st);
    summary_add(s, "  %-10s took %.1f s", hsgd_stage_name(stage), hsgd_clock() - start);
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

hsgd_status hsgd_study_run(const hsgd_study_setup *setup, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = calloc(1, sizeof *s);

    HSGD_TRY(hsgd_comm_agree(setup->comm, s != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    s->setup = setup;
    s->deck = setup->deck;
    s->comm = setup->comm;
    s->progress = setup->progress;
    if (!setup->dry_run) {
        HSGD_TRY(output_check_folder(s, err));
    }
    st = study_open(s, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    if (setup->dry_run) {
        HSGD_TRY(study_dry_run(s, err));
        goto done;
    }
    HSGD_TRY(output_take(s, err));
    if (setup->restart) {
        HSGD_TRY(study_keeper_sweep(s, err));
    }
    st = run_stages(s, err);
    if (st == HSGD_OK || st == HSGD_STOPPED) {
        hsgd_progress_say(s->progress, "summary (%.1f s in all, results in %s)\n%s", hsgd_clock() - s->started,
                          s->deck->run.output, s->summary);
    }
done:
    if (st != HSGD_OK && setup->failing != NULL) {
        setup->failing(st, err);
    }
    if (s != NULL) {
        hsgd_lock_release(&s->lock);
        study_close(s);
    }
    free(s);
    return st;
}
