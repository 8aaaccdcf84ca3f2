/* src/study/train.c - data-parallel stochastic gradient descent with checkpoints and tests. */
#include "base/clock.h"
#include "data/batch.h"
#include "study/metrics.h"
#include "study/trouble.h"
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_BETWEEN_STOP_CHECKS = 1000 }; /* a look is one more tiny all-reduce */

static hsgd_status create(training *t, study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_problem problem = study_problem(s, s->backend, false), test = study_problem(s, s->backend, true);
    const int64_t count = s->data->train.count, tests = s->data->test.count;
    const hsgd_deck *deck = s->deck;

    t->study = s;
    t->options = (hsgd_sgd_options){.lr = deck->train.lr,
                                    .momentum = deck->train.momentum,
                                    .dampening = deck->train.dampening,
                                    .weight_decay = deck->train.weight_decay,
                                    .nesterov = deck->train.nesterov,
                                    .schedule = (hsgd_schedule_kind)deck->schedule,
                                    .step_epochs = deck->schedule_epochs,
                                    .step_factor = deck->schedule_factor,
                                    .round_to_single = s->backend->precision == HSGD_SINGLE};
    t->steps_per_epoch = (count + deck->train.batch - 1) / deck->train.batch;
    t->total = deck->train.steps > 0 ? deck->train.steps : deck->train.epochs * t->steps_per_epoch;
    t->order_epoch = -1;
    t->order = malloc((size_t)count * sizeof *t->order);
    t->test_index = malloc((size_t)tests * sizeof *t->test_index);
    t->flat = malloc((size_t)s->n * sizeof *t->flat);
    t->flat_momentum = malloc((size_t)s->n * sizeof *t->flat_momentum);
    HSGD_CHECK(t->order != NULL && t->test_index != NULL && t->flat != NULL && t->flat_momentum != NULL,
               HSGD_ERR_MEMORY, err, "memory: cannot allocate the order of %lld samples", (long long)count);
    for (int64_t i = 0; i < tests; i++) {
        t->test_index[i] = i;
    }
    HSGD_TRY(hsgd_network_objective_create(&problem, s->replicated,
                                           deck->train.batch < count ? deck->train.batch : count, &t->objective, err));
    HSGD_TRY(hsgd_network_objective_create(&test, s->replicated, tests, &t->tester, err));
    HSGD_TRY(hsgd_sgd_create(s->replicated, &t->sgd, err));
    HSGD_TRY(train_curvature_create(t, err));
done:
    return st;
}

static void destroy(training *t)
{
    history_clear(&t->history);
    train_curvature_destroy(&t->curvature);
    hsgd_sgd_destroy(&t->sgd);
    hsgd_objective_destroy(&t->tester);
    hsgd_objective_destroy(&t->objective);
    free(t->flat_momentum);
    free(t->flat);
    free(t->test_index);
    free(t->order);
}

/* The studied weights become the present ones. */
static hsgd_status publish(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char source[STUDY_PATH];

    HSGD_TRY(hsgd_vector_get_local(t->sgd.weights, t->flat, err));
    output_path(t->study, "weights.h5", source, sizeof source);
    HSGD_TRY(study_set_weights(t->study, t->flat, source, err));
done:
    return st;
}

static hsgd_status start(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char source[STUDY_PATH];

    HSGD_TRY(study_initial_weights(t->study, t->flat, source, sizeof source, err));
    HSGD_TRY(study_set_weights(t->study, t->flat, source, err)); /* rounds */
    HSGD_TRY(hsgd_vector_set_full(t->sgd.weights, t->study->weights, err));
    t->study->weights_sha256[0] = '\0'; /* not the studied ones yet */
    HSGD_TRY(checkpoint_resume(t, err));
    if (t->sgd.step == 0) {
        hsgd_progress_say(t->study->progress, "train: from %s, %lld steps of %lld samples", source, (long long)t->total,
                          (long long)t->study->deck->train.batch);
    }
done:
    return st;
}

/* The samples of update number `step` (from 0): a slice of the epoch's order; the last of an epoch may be shorter. */
static void batch(training *t, int64_t step, const int64_t **index, int64_t *count)
{
    const study_state *s = t->study;
    const int64_t epoch = step / t->steps_per_epoch, first = step % t->steps_per_epoch * s->deck->train.batch;
    const int64_t all = s->data->train.count, left = all - first;

    if (t->order_epoch != epoch) {
        if (s->deck->train.shuffle) {
            hsgd_batch_shuffle((uint64_t)s->deck->run.seed, epoch, all, t->order);
        } else {
            for (int64_t i = 0; i < all; i++) {
                t->order[i] = i;
            }
        }
        t->order_epoch = epoch;
    }
    *index = t->order + first;
    *count = left < s->deck->train.batch ? left : s->deck->train.batch;
}

static double epochs(const training *t)
{
    return (double)t->sgd.step / (double)t->steps_per_epoch;
}

static hsgd_status test(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    const trouble_suspects images = {.index = t->test_index, .count = s->data->test.count, .test = true};
    hsgd_json *line;
    hsgd_loss loss;

    st = hsgd_objective_evaluate(t->tester, t->sgd.weights, t->test_index, s->data->test.count, NULL, &loss, err);
    if (st == HSGD_ERR_NUMERIC) {
        (void)hsgd_error_set(
            err, st,
            "train: the loss of the test images is NaN or Inf after step %lld; lower train.lr, in another run.output",
            (long long)t->sgd.step);
    }
    HSGD_TRY(trouble_in_training(t, st, &images, err));
    HSGD_TRY(history_reserve(s->comm, &t->history, 0, 1, err));
    history_add_test(&t->history, t->sgd.step, &loss);
    hsgd_progress_done(s->progress);
    hsgd_progress_say(s->progress, "train: step %lld, epoch %.2f, test loss %.5f, test accuracy %.2f %%",
                      (long long)t->sgd.step, epochs(t), loss.loss, 100.0 * loss.accuracy);
    line = metrics_event(s, "test", "train");
    hsgd_json_integer(line, "step", t->sgd.step);
    hsgd_json_real(line, "epoch", epochs(t));
    hsgd_json_real(line, "loss", loss.loss);
    hsgd_json_real(line, "accuracy", loss.accuracy);
    metrics_add(s, line);
done:
    return st;
}

/* Has any rank been asked to stop?  Collective. */
static hsgd_status stop_asked(training *t, bool *stop, hsgd_error *err)
{
    const hsgd_study_setup *setup = t->study->setup;
    int64_t flag = setup->stop != NULL && setup->stop(setup->stop_context);
    const hsgd_status st = hsgd_comm_max(t->study->comm, HSGD_TYPE_I64, 1, &flag, err);

    *stop = flag != 0;
    return st;
}

/* What is to be done after the update just queued. */
typedef struct {
    bool log, test, look, checkpoint, curvature;
} duties;

static duties duties_of(const training *t)
{
    const hsgd_deck *deck = t->study->deck;
    const int64_t step = t->sgd.step, tests = deck->train.evaluate_every;
    const int64_t saves = deck->train.checkpoint_every, logs = deck->train.log_every;
    const bool end = step == t->total;

    return (duties){.log = logs > 0 && step % logs == 0,
                    .test = end || step % (tests > 0 ? tests : t->steps_per_epoch) == 0,
                    .look = !end && step % (1 + SAMPLES_BETWEEN_STOP_CHECKS / deck->train.batch) == 0,
                    .curvature = train_curvature_due(t),
                    .checkpoint = end || (saves > 0 && step % saves == 0)};
}

/* Wait for the updates queued so far, and record them. */
static hsgd_status settle(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int pending = t->sgd.pending;
    double loss[HSGD_SGD_PENDING];
    trouble_suspects next = {0};

    st = hsgd_sgd_settle(t->objective, &t->sgd, loss, err);
    if (st == HSGD_ERR_NUMERIC) { /* the step is that of the last good update */
        batch(t, t->sgd.step, &next.index, &next.count);
    }
    HSGD_TRY(trouble_in_training(t, st, &next, err));
    HSGD_TRY(history_reserve(t->study->comm, &t->history, pending, 0, err));
    for (int i = 0; i < pending; i++) {
        history_add(&t->history, loss[i], t->sgd.rate[i]);
    }
done:
    return st;
}

/* Where the run of steps began, and what it has seen. */
typedef struct {
    double clock;
    int64_t step, images;
} beginning;

static void report(const training *t, const beginning *from)
{
    const training_history *h = &t->history;
    const double seconds = hsgd_clock() - from->clock, loss = h->loss[h->steps - 1], lr = h->lr[h->steps - 1];
    const double done = (double)(t->sgd.step - from->step), left = (double)(t->total - t->sgd.step);
    const double rate = (double)from->images / seconds;
    hsgd_json *line = metrics_event(t->study, "step", "train");

    hsgd_progress_update(t->study->progress, "train", NULL, t->sgd.step - from->step, t->total - from->step,
                         "step %lld loss %.5f lr %g %.0f images/s", (long long)t->sgd.step, loss, lr, rate);
    hsgd_json_integer(line, "step", t->sgd.step);
    hsgd_json_integer(line, "total", t->total);
    hsgd_json_real(line, "epoch", epochs(t));
    hsgd_json_real(line, "loss", loss);
    hsgd_json_real(line, "lr", lr);
    hsgd_json_rounded(line, "rate", rate);
    hsgd_json_rounded(line, "eta", seconds * left / done);
    metrics_add(t->study, line);
}

/* A request to stop that a measurement hears loses the measurement, but not the steps before it: they are saved. */
static hsgd_status measure(training *t, double lr, bool *stop, hsgd_error *err)
{
    const hsgd_status st = train_curvature_measure(t, lr, err);
    const study_state *s = t->study;
    const trouble_suspects studied = {
        .index = s->samples, .count = s->sample_count, .test = s->deck->hessian.split == 1, .product = true};

    if (st == HSGD_ERR_NUMERIC && strncmp(err->text, "train", 5) != 0) {
        const hsgd_error told = *err;

        (void)hsgd_error_set(err, st, "train: the curvature at step %lld: %.900s", (long long)t->sgd.step, told.text);
    }
    (void)trouble_in_training(t, st, &studied, err);
    *stop = *stop || st == HSGD_STOPPED;
    return st == HSGD_STOPPED ? HSGD_OK : st;
}

/* HSGD_STOPPED, said; the checkpoint of the present step is there. */
static hsgd_status stopped(const training *t, hsgd_error *err)
{
    hsgd_json *line;

    hsgd_progress_say(t->study->progress, "train: stopped at step %lld with a checkpoint; go on with --restart",
                      (long long)t->sgd.step);
    line = metrics_event(t->study, "stop", "train");
    hsgd_json_integer(line, "step", t->sgd.step);
    metrics_add(t->study, line);
    return hsgd_error_set(err, HSGD_STOPPED, "train: stopped at step %lld; go on with --restart",
                          (long long)t->sgd.step);
}

static hsgd_status after_step(training *t, const duties *due, double lr, bool stop, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (due->test) {
        HSGD_TRY(test(t, err));
    }
    if (due->curvature) {
        HSGD_TRY(measure(t, lr, &stop, err));
    }
    if (stop || due->checkpoint) {
        HSGD_TRY(checkpoint_write(t, err));
    }
    HSGD_TRY(stop ? stopped(t, err) : HSGD_OK);
done:
    return st;
}

/* What is due before the first update of this run: the measurement where training begins, or the one that a request to
 * stop cut short. */
static hsgd_status before_steps(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t step = t->sgd.step;
    bool stop = false;

    if (train_curvature_due(t)) {
        HSGD_TRY(measure(t, step > 0 ? t->history.lr[step - 1] : t->options.lr, &stop, err));
    }
    if (stop || step == t->total) {
        HSGD_TRY(checkpoint_write(t, err));
    }
    HSGD_TRY(stop ? stopped(t, err) : HSGD_OK);
done:
    return st;
}

/* The host queues updates and waits for them only where something is to be told, tested or saved. */
static hsgd_status run(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    beginning from = {.clock = hsgd_clock(), .step = t->sgd.step};

    HSGD_TRY(before_steps(t, err));
    while (t->sgd.step < t->total) {
        const double lr = hsgd_sgd_rate(&t->options, t->sgd.step, t->steps_per_epoch, t->total);
        const int64_t *index;
        int64_t count;
        bool stop = false;
        duties due;

        batch(t, t->sgd.step, &index, &count);
        HSGD_TRY(hsgd_sgd_step(&t->options, lr, t->objective, index, count, &t->sgd, err));
        from.images += count;
        due = duties_of(t);
        if (due.look) {
            HSGD_TRY(stop_asked(t, &stop, err));
        }
        if (due.log || due.test || due.curvature || due.checkpoint || stop || t->sgd.pending == HSGD_SGD_PENDING) {
            HSGD_TRY(settle(t, err));
        }
        if (due.log) {
            report(t, &from);
        }
        HSGD_TRY(after_step(t, &due, lr, stop, err));
    }
done:
    return st;
}

static hsgd_status write_results(training *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = t->study;
    hsgd_store *store = NULL;
    const hsgd_store_type type = s->backend->precision == HSGD_DOUBLE ? HSGD_STORE_F64 : HSGD_STORE_F32;

    HSGD_TRY(output_begin(s, "weights.h5", HSGD_STAGE_TRAIN, &store, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "step", t->sgd.step, err));
    HSGD_TRY(hsgd_store_write_parameters(store, "/params", s->parameters, s->parameter_count, type, s->weights, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD | HSGD_COMMIT_CERTIFY, err));
    HSGD_TRY(output_begin(s, "train.h5", HSGD_STAGE_TRAIN, &store, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "step", t->sgd.step, err));
    HSGD_TRY(history_write(store, &t->history, err));
    HSGD_TRY(train_curvature_write(store, t, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

hsgd_status stage_train(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    training t = {0};
    bool done = false;

    st = create(&t, s, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(start(&t, err));
    HSGD_TRY(metrics_open(s, err));
    if (t.sgd.step == t.total && s->setup->restart) {
        char hash[65];

        HSGD_TRY(output_stage_hash(s, HSGD_STAGE_TRAIN, hash, err));
        HSGD_TRY(training_written(&t, hash, t.total, &done, err));
    }
    if (!done) {
        HSGD_TRY(run(&t, err));
    }
    HSGD_TRY(publish(&t, err));
    if (!done) {
        HSGD_TRY(write_results(&t, err));
    }
    if (t.history.tests > 0) {
        summary_add(s, "  training: %lld steps, test accuracy %.2f %%%s", (long long)t.sgd.step,
                    100.0 * t.history.test_accuracy[t.history.tests - 1], done ? " (done before)" : "");
    }
    HSGD_TRY(train_curvature_require(&t, done, err));
done:
    destroy(&t);
    return st;
}
