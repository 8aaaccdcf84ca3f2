/* src/base/ticker.c - see ticker.h. */
#include "base/ticker.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MILLION = 1000000, BILLION = 1000000000 };

struct hsgd_ticker {
    const hsgd_ticker_task *task;
    void *context;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* of all that follows, and of what the tick touches */
    pthread_cond_t wake;
    bool ending;
    int64_t period, due; /* milliseconds; nanoseconds of the monotonic clock: the next tick */
};

static int64_t now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * BILLION + t.tv_nsec;
}

/* Sleep until the next tick is due or somebody has something to say; true: it is due. */
static bool wait_for_tick(hsgd_ticker *ticker)
{
    const struct timespec until = {.tv_sec = (time_t)(ticker->due / BILLION), .tv_nsec = (long)(ticker->due % BILLION)};

    (void)pthread_cond_timedwait(&ticker->wake, &ticker->lock, &until);
    return !ticker->ending && now() >= ticker->due;
}

static void *run(void *argument)
{
    hsgd_ticker *ticker = argument;
    bool more = true;

    (void)pthread_mutex_lock(&ticker->lock);
    while (!ticker->ending && more) {
        if (wait_for_tick(ticker)) {
            const int64_t period = ticker->period * MILLION, t = now();

            ticker->due = ticker->due + period > t ? ticker->due + period : t + period; /* those missed are missed */
            more = ticker->task->tick(ticker->context, ticker->period);
        }
    }
    (void)pthread_mutex_unlock(&ticker->lock);
    if (!more && ticker->task->end != NULL) {
        ticker->task->end(ticker->context);
    }
    return NULL;
}

hsgd_status hsgd_ticker_create(const hsgd_ticker_task *task, void *context, int64_t period, hsgd_ticker **out,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_ticker *ticker = calloc(1, sizeof *ticker);
    pthread_condattr_t attributes;

    *out = NULL;
    HSGD_CHECK(ticker != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the thread that %s", task->duty);
    ticker->task = task;
    ticker->context = context;
    ticker->period = period;
    (void)pthread_mutex_init(&ticker->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&ticker->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    *out = ticker;
done:
    return st;
}

hsgd_status hsgd_ticker_start(hsgd_ticker *ticker, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    sigset_t all, before;
    int code;

    if (ticker->running) {
        return HSGD_OK;
    }
    ticker->due = now() + ticker->period * MILLION;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&ticker->thread, NULL, run, ticker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    HSGD_CHECK(code == 0, HSGD_ERR_MEMORY, err,
               "memory: cannot start the thread that %s: %s; is there a limit on processes (ulimit -u)?",
               ticker->task->duty, strerror(code));
    ticker->running = true;
    (void)pthread_setname_np(ticker->thread, ticker->task->name);
done:
    return st;
}

void hsgd_ticker_lock(hsgd_ticker *ticker)
{
    (void)pthread_mutex_lock(&ticker->lock);
}

void hsgd_ticker_unlock(hsgd_ticker *ticker)
{
    (void)pthread_mutex_unlock(&ticker->lock);
}

void hsgd_ticker_period(hsgd_ticker *ticker, int64_t period)
{
    if (period != ticker->period) { /* else who asks often would put the tick off for ever */
        ticker->period = period;
        ticker->due = now() + period * MILLION;
        (void)pthread_cond_signal(&ticker->wake);
    }
}

void hsgd_ticker_destroy(hsgd_ticker **ticker)
{
    hsgd_ticker *old = ticker != NULL ? *ticker : NULL;

    if (old == NULL) {
        return;
    }
    *ticker = NULL;
    hsgd_ticker_lock(old);
    old->ending = true;
    (void)pthread_cond_signal(&old->wake);
    hsgd_ticker_unlock(old);
    if (old->running) {
        (void)pthread_join(old->thread, NULL);
    }
    (void)pthread_cond_destroy(&old->wake);
    (void)pthread_mutex_destroy(&old->lock);
    free(old);
}
