/* src/study/checkpoint.c - training on disk: all that a bit-exact continuation needs. */
#include "base/clock.h"
#include "base/hash.h"
#include "study/metrics.h"
#include "study/trouble.h"
#include <stdlib.h>
#include <string.h>

static const int64_t MOST_STEPS = INT64_C(1) << 53; /* of a training; more are damage */

static hsgd_store_type weight_type(const study_state *s)
{
    return s->backend->precision == HSGD_DOUBLE ? HSGD_STORE_F64 : HSGD_STORE_F32; /* exact: weights are rounded */
}

/* The present weights and momentum into t->flat and t->flat_momentum.  Local. */
static hsgd_status fetch(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_get_local(t->sgd.weights, t->flat, err));
    HSGD_TRY(hsgd_vector_get_local(t->sgd.momentum, t->flat_momentum, err));
done:
    return st;
}

/* SHA-256 of all that a continuation starts from: the weights and the momentum that were fetched, and history.  Local. */
static hsgd_status hash_state(const training *t, char hex[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const training_history *h = &t->history;
    const size_t row = sizeof(double), steps = (size_t)h->steps * row, tests = (size_t)h->tests * row;
    char weights[65];
    const void *part = t->flat;
    size_t bytes = (size_t)t->study->n * row;

    HSGD_TRY(hsgd_sha256(1, &part, &bytes, weights, err));
    {
        enum { PARTS = 7 };
        const void *parts[PARTS + TRAIN_CURVATURE_PARTS] = {weights,      t->flat_momentum, h->loss,         h->lr,
                                                            h->test_step, h->test_loss,     h->test_accuracy};
        size_t sizes[PARTS + TRAIN_CURVATURE_PARTS] = {sizeof weights, bytes, steps, steps, tests, tests, tests};

        train_curvature_parts(&t->curvature, t->study->m, parts + PARTS, sizes + PARTS);
        HSGD_TRY(hsgd_sha256(PARTS + TRAIN_CURVATURE_PARTS, parts, sizes, hex, err));
    }
done:
    return st;
}

hsgd_status checkpoint_write(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    hsgd_store *store = NULL;
    const double start = hsgd_clock();
    char name[64], state[65];

    (void)snprintf(name, sizeof name, "checkpoint-%08lld.h5", (long long)t->sgd.step);
    HSGD_TRY(hsgd_comm_agree(s->comm, fetch(t, err), err));
    HSGD_TRY(trouble_check(t, err));
    st = hash_state(t, state, err);
    st = st == HSGD_OK ? study_set_weights(s, t->flat, name, err) : st; /* for the file's own hash of them */
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err)); /* what one rank's device or memory may refuse is over */
    HSGD_TRY(output_begin(s, name, HSGD_STAGE_TRAIN, &store, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "state_sha256", state, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "step", t->sgd.step, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "epoch", t->sgd.step / t->steps_per_epoch, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "samples_seen",
                                      t->sgd.step / t->steps_per_epoch * s->data->train.count +
                                          t->sgd.step % t->steps_per_epoch * s->deck->train.batch,
                                      err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "total_steps", t->total, err));
    HSGD_TRY(
        hsgd_store_write_parameters(store, "/params", s->parameters, s->parameter_count, weight_type(s), t->flat, err));
    HSGD_TRY(hsgd_store_write_parameters(store, "/optimizer/momentum", s->parameters, s->parameter_count,
                                         HSGD_STORE_F64, t->flat_momentum, err));
    HSGD_TRY(history_write(store, &t->history, err));
    HSGD_TRY(train_curvature_save(store, &t->curvature, s->m, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_LAST, err));
    HSGD_TRY(hsgd_store_prune_checkpoints(s->comm, s->deck->run.output, s->deck->train.checkpoint_keep, s->lock, err));
    metrics_file(s, "checkpoint", HSGD_STAGE_TRAIN, name, t->sgd.step, hsgd_clock() - start);
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
    if (steps > 0) {
        HSGD_TRY(hsgd_store_expect(s->comm, file, "/train/loss", 1, &steps, err));
    }
    HSGD_TRY(history_reserve(s->comm, h, steps, dims[0], err));
    for (int64_t i = 0; i < steps; i++) {
        history_add(h, 0.0, 0.0);
    }
    for (int64_t i = 0; i < dims[0]; i++) {
        history_add_test(h, 0, &none);
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
    char want[65], found[65] = "";

    HSGD_TRY(hsgd_store_read_parameters(s->comm, file, "/params", s->parameters, s->parameter_count, t->flat, err));
    HSGD_TRY(hsgd_vector_set_full(t->sgd.weights, t->flat, err));
    HSGD_TRY(hsgd_store_read_parameters(s->comm, file, "/optimizer/momentum", s->parameters, s->parameter_count,
                                        t->flat, err));
    HSGD_TRY(hsgd_vector_set_full(t->sgd.momentum, t->flat, err));
    HSGD_TRY(read_history(t, file, step, err));
    HSGD_TRY(train_curvature_load(t, file, err));
    HSGD_TRY(hsgd_store_read_attribute_text(s->comm, file, "state_sha256", found, sizeof found, err));
    st = fetch(t, err);
    st = st == HSGD_OK ? hash_state(t, want, err) : st;
    if (st == HSGD_OK && strcmp(want, found) != 0) {
        st = hsgd_error_set(err, HSGD_ERR_DATA, "%s: its content is not what was written (checksum)", file);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err)); /* a device may be at fault: then one rank alone sees it */
    t->sgd.step = step;
done:
    return st;
}

/* Back to the initial weights, after a checkpoint that turned out to be damaged. */
static hsgd_status unload(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    history_clear(&t->history);
    t->curvature.marks = 0;
    memset(t->flat, 0, (size_t)t->study->n * sizeof *t->flat);
    HSGD_TRY(hsgd_vector_set_full(t->sgd.momentum, t->flat, err));
    HSGD_TRY(hsgd_vector_set_full(t->sgd.weights, t->study->weights, err));
done:
    return st;
}

static void warn(void *context, const char *text)
{
    const study_state *s = context;

    hsgd_progress_warn(s->progress, "%s", text);
}

hsgd_status training_written(training *t, const char hash[65], int64_t step, bool *written, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static const char *const names[] = {"weights.h5", "train.h5"};
    study_state *s = t->study;

    *written = true;
    for (int i = 0; i < 2 && *written; i++) {
        char path[STUDY_PATH], found[65] = "";
        hsgd_error unread = {0};
        int64_t at = -1;
        bool certified;

        HSGD_TRY(hsgd_store_exists(s->comm, s->deck->run.output, names[i], written, err));
        output_path(s, names[i], path, sizeof path);
        *written = *written && (st = hsgd_store_check(s->comm, path, &certified, &unread)) == HSGD_OK &&
                   (st = hsgd_store_read_attribute_i64(s->comm, path, "step", &at, &unread)) == HSGD_OK && at == step &&
                   (st = hsgd_store_read_attribute_text(s->comm, path, "stage_hash", found, sizeof found, &unread)) ==
                       HSGD_OK &&
                   strcmp(found, hash) == 0;
        HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", unread.text);
        st = HSGD_OK; /* one that cannot be trusted is not there */
    }
done:
    return st;
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
    HSGD_CHECK(total >= step && total <= MOST_STEPS, HSGD_ERR_DATA, err, "%s: damaged: %lld steps in all, at step %lld",
               file, (long long)total, (long long)step);
    if (strcmp(want, found) != 0) {
        HSGD_TRY(training_written(t, found, step, &finished, err));
        HSGD_CHECK(finished, HSGD_ERR_USAGE, err,
                   "train: %s belongs to a half-done training with other keys or data than this deck's; restore them "
                   "(only epochs, steps, logging and checkpoint keys may change), or name another run.output",
                   file);
        hsgd_progress_say(s->progress, "train: the finished training has other keys or data; it is kept as .old and "
                                       "training starts afresh");
        *afresh = true;
        return HSGD_OK;
    }
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

/* A finished training whose checkpoints are gone is finished all the same. */
static hsgd_status resume_finished(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    char hash[65], file[STUDY_PATH];
    bool written = false;

    HSGD_TRY(output_stage_hash(s, HSGD_STAGE_TRAIN, hash, err));
    HSGD_TRY(training_written(t, hash, t->total, &written, err));
    if (written) {
        output_path(s, "weights.h5", file, sizeof file);
        HSGD_TRY(study_read_weights(s, file, t->flat, err));
        HSGD_TRY(hsgd_vector_set_full(t->sgd.weights, t->flat, err));
        output_path(s, "train.h5", file, sizeof file);
        HSGD_TRY(read_history(t, file, t->total, err));
        t->sgd.step = t->total;
    }
done:
    return st;
}

hsgd_status checkpoint_resume(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    char file[STUDY_PATH];
    int64_t step = INT64_MAX;
    bool afresh = false;

    if (!s->setup->restart) {
        return HSGD_OK;
    }
    for (;;) {
        HSGD_TRY(
            hsgd_store_newest_checkpoint(s->comm, s->deck->run.output, step, &step, file, sizeof file, warn, s, err));
        if (step < 0) {
            HSGD_TRY(resume_finished(t, err));
            return hsgd_store_retire_checkpoints(s->comm, s->deck->run.output, -1, s->lock, err);
        }
        st = fits(t, file, step, &afresh, err);
        if (st == HSGD_OK && afresh) {
            return hsgd_store_retire_checkpoints(s->comm, s->deck->run.output, -1, s->lock, err);
        }
        if (st == HSGD_OK) {
            st = load(t, file, step, err);
        }
        if (st != HSGD_ERR_DATA) {
            break;
        }
        hsgd_progress_warn(s->progress, "%s; it is kept as .old and the checkpoint before it taken", err->text);
        HSGD_TRY(unload(t, err));
    }
    HSGD_TRY(st);
    /* those that were passed over */
    HSGD_TRY(hsgd_store_retire_checkpoints(s->comm, s->deck->run.output, step, s->lock, err));
    hsgd_progress_say(s->progress, "train: goes on from %s (step %lld of %lld)", file, (long long)step,
                      (long long)t->total);
    metrics_file(s, "resume", HSGD_STAGE_TRAIN, strrchr(file, '/') + 1, step, -1.0);
done:
    return st;
}
