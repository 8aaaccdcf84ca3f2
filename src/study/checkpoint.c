/* src/study/checkpoint.c - training on disk: all that a bit-exact continuation needs. */
#include "study/train.h"
#include <stdlib.h>
#include <string.h>

static hsgd_store_type weight_type(const study_state *s)
{
    return s->backend->precision == HSGD_DOUBLE ? HSGD_STORE_F64 : HSGD_STORE_F32; /* exact: weights are rounded */
}

hsgd_status checkpoint_write(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    hsgd_store *store = NULL;
    char name[64];

    (void)snprintf(name, sizeof name, "checkpoint-%08lld.h5", (long long)t->sgd.step);
    HSGD_TRY(hsgd_vector_get_local(t->sgd.weights, t->flat, err));
    HSGD_TRY(study_set_weights(s, t->flat, name, err)); /* for the file's own hash of them */
    HSGD_TRY(output_begin(s, name, HSGD_STAGE_TRAIN, &store, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "step", t->sgd.step, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "epoch", t->sgd.step / t->steps_per_epoch, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "samples_seen",
                                      t->sgd.step / t->steps_per_epoch * s->data->train.count +
                                          t->sgd.step % t->steps_per_epoch * s->deck->train.batch,
                                      err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "total_steps", t->total, err));
    HSGD_TRY(hsgd_vector_get_local(t->sgd.weights, t->flat, err));
    HSGD_TRY(
        hsgd_store_write_parameters(store, "/params", s->parameters, s->parameter_count, weight_type(s), t->flat, err));
    HSGD_TRY(hsgd_vector_get_local(t->sgd.momentum, t->flat, err));
    HSGD_TRY(hsgd_store_write_parameters(store, "/optimizer/momentum", s->parameters, s->parameter_count,
                                         HSGD_STORE_F64, t->flat, err));
    HSGD_TRY(history_write(store, &t->history, err));
    HSGD_TRY(hsgd_store_commit(&store, false, err));
    HSGD_TRY(hsgd_store_prune_checkpoints(s->comm, s->deck->run.output, s->deck->train.checkpoint_keep, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

static hsgd_status read_column(study_state *s, const char *file, const char *path, int64_t count, double *data,
                               hsgd_error *err)
{
    return hsgd_store_read_f64(s->comm, file, path, 1, &count, data, err);
}

static hsgd_status read_history(training *t, const char *file, int64_t steps, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    training_history *h = &t->history;
    const hsgd_loss none = {0};
    int64_t dims[4] = {0};
    int rank = 0;

    HSGD_TRY(hsgd_store_dims(s->comm, file, "/test/step", &rank, dims, err));
    HSGD_CHECK(rank == 1 && dims[0] <= steps + 1, HSGD_ERR_DATA, err, "%s: /test/step has the wrong shape", file);
    for (int64_t i = 0; i < steps; i++) {
        HSGD_TRY(history_add(h, 0.0, 0.0, err));
    }
    for (int64_t i = 0; i < dims[0]; i++) {
        HSGD_TRY(history_add_test(h, 0, &none, err));
    }
    if (steps > 0) {
        HSGD_TRY(read_column(s, file, "/train/loss", steps, h->loss, err));
        HSGD_TRY(read_column(s, file, "/train/lr", steps, h->lr, err));
    }
    if (h->tests > 0) {
        HSGD_TRY(hsgd_store_read_i64(s->comm, file, "/test/step", 1, dims, h->test_step, err));
        HSGD_TRY(read_column(s, file, "/test/loss", h->tests, h->test_loss, err));
        HSGD_TRY(read_column(s, file, "/test/accuracy", h->tests, h->test_accuracy, err));
    }
done:
    return st;
}

static hsgd_status load(training *t, const char *file, int64_t step, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;

    HSGD_TRY(hsgd_store_read_parameters(s->comm, file, "/params", s->parameters, s->parameter_count, t->flat, err));
    HSGD_TRY(hsgd_vector_set_full(t->sgd.weights, t->flat, err));
    HSGD_TRY(hsgd_store_read_parameters(s->comm, file, "/optimizer/momentum", s->parameters, s->parameter_count,
                                        t->flat, err));
    HSGD_TRY(hsgd_vector_set_full(t->sgd.momentum, t->flat, err));
    HSGD_TRY(read_history(t, file, step, err));
    t->sgd.step = step;
done:
    return st;
}

static void warn(void *context, const char *text)
{
    const study_state *s = context;

    hsgd_progress_warn(s->progress, "%s", text);
}

/* May training go on from this checkpoint?  *afresh: a finished training with other keys is set aside. */
static hsgd_status fits(training *t, const char *file, int64_t step, bool *afresh, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    char want[65], found[65] = "";
    bool finished = false;
    int64_t total = 0;

    HSGD_TRY(output_stage_hash(s, HSGD_STAGE_TRAIN, want, err));
    HSGD_TRY(hsgd_store_read_attribute_text(s->comm, file, "stage_hash", found, sizeof found, err));
    HSGD_TRY(hsgd_store_read_attribute_i64(s->comm, file, "total_steps", &total, err));
    HSGD_TRY(hsgd_store_exists(s->comm, s->deck->run.output, "train.h5", &finished, err));
    if (strcmp(want, found) != 0 && finished) {
        hsgd_progress_say(s->progress, "train: the finished training has other keys or data; it is kept as .old and "
                                       "training starts afresh");
        *afresh = true;
        return HSGD_OK;
    }
    HSGD_CHECK(strcmp(want, found) == 0, HSGD_ERR_USAGE, err,
               "train: %s belongs to a training with other keys or data than this deck's; restore them (only epochs, "
               "steps, logging and checkpoint keys may change), or name another run.output",
               file);
    HSGD_CHECK(t->options.schedule != HSGD_SCHEDULE_COSINE || total == t->total, HSGD_ERR_USAGE, err,
               "train: %s follows a cosine schedule over %lld steps, this deck asks for %lld; a cosine schedule cannot "
               "be extended",
               file, (long long)total, (long long)t->total);
    HSGD_CHECK(step <= t->total, HSGD_ERR_USAGE, err,
               "train: %s is at step %lld, past the end of this deck at step %lld; raise train.epochs or train.steps, "
               "or name another run.output",
               file, (long long)step, (long long)t->total);
done:
    return st;
}

hsgd_status checkpoint_resume(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    char file[STUDY_PATH];
    int64_t step = -1;
    bool afresh = false;

    if (!s->setup->restart) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_store_newest_checkpoint(s->comm, s->deck->run.output, &step, file, sizeof file, warn, s, err));
    if (step < 0) {
        return HSGD_OK;
    }
    HSGD_TRY(fits(t, file, step, &afresh, err));
    if (afresh) {
        HSGD_TRY(hsgd_store_retire_checkpoints(s->comm, s->deck->run.output, err));
        return HSGD_OK;
    }
    HSGD_TRY(load(t, file, step, err));
    hsgd_progress_say(s->progress, "train: goes on from %s (step %lld of %lld)", file, (long long)step,
                      (long long)t->total);
done:
    return st;
}
