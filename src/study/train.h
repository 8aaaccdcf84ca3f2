/* src/study/train.h - a training run in progress, shared by the loop and its checkpoints. */
#pragma once
#include "solve/sgd.h"
#include "study/internal.h"

/* What has been measured so far; kept in checkpoints so that a resumed run writes the same train.h5. */
typedef struct {
    int64_t steps, capacity;
    double *loss, *lr; /* [steps]: of steps 1, 2, ... */
    int64_t tests, test_capacity;
    int64_t *test_step; /* [tests] */
    double *test_loss, *test_accuracy;
} training_history;

/* The curvature along the training; kept in checkpoints with the eigenvectors that the next measurement starts from. */
typedef struct {
    int64_t every, pairs; /* every: steps; 0: not measured */
    int64_t marks, capacity;
    int64_t *step;   /* [marks] */
    double *row;     /* [marks][what one measurement gives] */
    bool warned;     /* of a pair that did not converge */
    double *vectors; /* [pairs][m] of the last measurement, m: studied rows; then room for a gradient */
} training_curvature;

typedef struct {
    study_state *study;
    hsgd_sgd_options options;
    hsgd_sgd_state sgd;
    hsgd_objective *objective, *tester; /* of batches, of the test set */
    int64_t steps_per_epoch, total;     /* total: where this run ends */
    int64_t *order, order_epoch;        /* the permutation of the present epoch */
    int64_t *test_index;
    double *flat, *flat_momentum; /* [n] scratch for files */
    training_history history;
    training_curvature curvature;
} training;

/* Room for so many more steps and tests: a rank that has none is known to all.  Collective.  Errors: HSGD_ERR_MEMORY. */
hsgd_status history_reserve(hsgd_comm *comm, training_history *h, int64_t steps, int64_t tests, hsgd_error *err);
/* One more; there is room for it.  Local. */
void history_add(training_history *h, double loss, double lr);
void history_add_test(training_history *h, int64_t step, const hsgd_loss *loss);
void history_clear(training_history *h);

/* Write checkpoint-NNNNNNNN.h5 of the present step and drop the oldest.  Collective.  Errors: HSGD_ERR_NUMERIC (weights or
 * momentum are not finite: nothing is written). */
hsgd_status checkpoint_write(training *t, hsgd_error *err);
/* With --restart: go on from the newest valid checkpoint that fits the deck; without one nothing changes.  Collective.
 * Errors: HSGD_ERR_USAGE where a half-done training has other keys, or is already past the end. */
hsgd_status checkpoint_resume(training *t, hsgd_error *err);
/* Do weights.h5 and train.h5 tell of `step` of the training whose hash is given?  Collective. */
hsgd_status training_written(training *t, const char hash[65], int64_t step, bool *written, hsgd_error *err);
/* Write the history as /train and /test of an open file.  Collective. */
hsgd_status history_write(hsgd_store *store, const training_history *h, hsgd_error *err);

/* Memory for the measurements that the deck asks for; end it; room for `marks` of them.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status train_curvature_create(training *t, hsgd_error *err);
void train_curvature_destroy(training_curvature *c);
hsgd_status train_curvature_reserve(training_curvature *c, int64_t marks, hsgd_error *err);
/* Is a measurement due at the present step, and not made yet?  Local. */
bool train_curvature_due(const training *t);
/* Measure at the present weights; lr: of the next or last update.  No update may be pending.  Collective.
 * Errors: HSGD_ERR_NUMERIC where, at the first one, the tolerance is below the noise of the products.
 * On HSGD_STOPPED, as on any failure, nothing of the measurement is left: made again, it has the same bits. */
hsgd_status train_curvature_measure(training *t, double lr, hsgd_error *err);
/* Where eigen.require_convergence asks for it: has every pair of all measurements converged?  written: those of a finished
 * train.h5, else those made here.  Collective.  Errors: HSGD_ERR_NUMERIC. */
hsgd_status train_curvature_require(training *t, bool written, hsgd_error *err);
/* Write the measurements as /curvature of train.h5; into a checkpoint; read them back from one.  Collective. */
hsgd_status train_curvature_write(hsgd_store *store, const training *t, hsgd_error *err);
hsgd_status train_curvature_save(hsgd_store *store, const training_curvature *c, int64_t m, hsgd_error *err);
hsgd_status train_curvature_load(training *t, const char *file, hsgd_error *err);
/* The three arrays of a checkpoint's measurements, for its hash.  m: rows studied.  Local. */
enum { TRAIN_CURVATURE_PARTS = 3 };
void train_curvature_parts(const training_curvature *c, int64_t m, const void **parts, size_t *sizes);
