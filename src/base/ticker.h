/* src/base/ticker.h - a thread that does a small thing every so often, beside the program's work.
 * It takes no signals: a handler runs where it would without it.  A period that passed while the process was suspended
 * counts as one tick, however long that was. */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct hsgd_ticker hsgd_ticker;

/* What it does.  tick: called after each period, with the lock held and the period's milliseconds; false: no more.
 * end: called then, once, without the lock; NULL: nothing.  Both on the ticker's thread. */
typedef struct {
    const char *name; /* of the thread, for who lists them: 15 characters at most */
    const char *duty; /* what it does, for messages: "watches over the ranks" */
    bool (*tick)(void *context, int64_t period);
    void (*end)(void *context);
} hsgd_ticker_task;

/* Make a ticker; no thread runs yet.  period: milliseconds from one tick to the next, without drift; > 0.
 * task, context: borrowed.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_ticker_create(const hsgd_ticker_task *task, void *context, int64_t period, hsgd_ticker **out,
                               hsgd_error *err);

/* Let it tick, first after one period; once is enough.  Not with the lock held.  Local.  Errors: HSGD_ERR_MEMORY (no
 * thread can be had). */
hsgd_status hsgd_ticker_start(hsgd_ticker *ticker, hsgd_error *err);

/* The lock that is held in each tick: for what the tick and the program both touch.  Also before the start.  Local. */
void hsgd_ticker_lock(hsgd_ticker *ticker);
void hsgd_ticker_unlock(hsgd_ticker *ticker);

/* The next tick comes `period` milliseconds from now, and so do those after it; the period that it has goes on.  With the
 * lock held, also in a tick.  Local. */
void hsgd_ticker_period(hsgd_ticker *ticker, int64_t period);

/* End the thread: after this nothing ticks.  Free *ticker, set it to NULL; accepts NULL.  Not in a tick.  Local. */
void hsgd_ticker_destroy(hsgd_ticker **ticker);
