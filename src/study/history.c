/* src/study/history.c - the record of a training run: loss and rate of every step, loss and accuracy of every test. */
#include "study/train.h"
#include <stdlib.h>

static hsgd_status grow(void **array, int64_t capacity, hsgd_error *err)
{
    void *larger = realloc(*array, (size_t)capacity * sizeof(double)); /* all entries are 8 bytes */

    if (larger == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot record %lld steps of training",
                              (long long)capacity);
    }
    *array = larger;
    return HSGD_OK;
}

static hsgd_status reserve(training_history *h, int64_t steps, int64_t tests, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (steps > h->capacity) {
        const int64_t twice = h->capacity > 0 ? 2 * h->capacity : 1024, capacity = steps > twice ? steps : twice;

        HSGD_TRY(grow((void **)&h->loss, capacity, err));
        HSGD_TRY(grow((void **)&h->lr, capacity, err));
        h->capacity = capacity;
    }
    if (tests > h->test_capacity) {
        const int64_t twice = h->test_capacity > 0 ? 2 * h->test_capacity : 64,
                      capacity = tests > twice ? tests : twice;

        HSGD_TRY(grow((void **)&h->test_step, capacity, err));
        HSGD_TRY(grow((void **)&h->test_loss, capacity, err));
        HSGD_TRY(grow((void **)&h->test_accuracy, capacity, err));
        h->test_capacity = capacity;
    }
done:
    return st;
}

hsgd_status history_reserve(hsgd_comm *comm, training_history *h, int64_t steps, int64_t tests, hsgd_error *err)
{
    if (h->steps + steps <= h->capacity && h->tests + tests <= h->test_capacity) { /* the same on every rank */
        return HSGD_OK;
    }
    return hsgd_comm_agree(comm, reserve(h, h->steps + steps, h->tests + tests, err), err);
}

void history_add(training_history *h, double loss, double lr)
{
    h->loss[h->steps] = loss;
    h->lr[h->steps] = lr;
    h->steps++;
}

void history_add_test(training_history *h, int64_t step, const hsgd_loss *loss)
{
    h->test_step[h->tests] = step;
    h->test_loss[h->tests] = loss->loss;
    h->test_accuracy[h->tests] = loss->accuracy;
    h->tests++;
}

void history_clear(training_history *h)
{
    free(h->loss);
    free(h->lr);
    free(h->test_step);
    free(h->test_loss);
    free(h->test_accuracy);
    *h = (training_history){0};
}

hsgd_status history_write(hsgd_store *store, const training_history *h, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_axis(store, "/train/step", "number of the update, from 1", h->steps, 1, err));
    HSGD_TRY(output_vector(store, "/train/loss", "nats", "mean cross-entropy of the batch before the update", h->steps,
                           "/train/step", h->loss, err));
    HSGD_TRY(
        output_vector(store, "/train/lr", "1", "learning rate of the update", h->steps, "/train/step", h->lr, err));
    HSGD_TRY(
        output_integers(store, "/test/step", "1", "updates made before the test", h->tests, NULL, h->test_step, err));
    HSGD_TRY(output_vector(store, "/test/loss", "nats", "mean cross-entropy on the test set", h->tests, "/test/step",
                           h->test_loss, err));
    HSGD_TRY(output_vector(store, "/test/accuracy", "1", "share of the test set classified correctly", h->tests,
                           "/test/step", h->test_accuracy, err));
done:
    return st;
}
