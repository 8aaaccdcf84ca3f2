/* tests/base/test_ticker.c - mirrors src/base/ticker.c. */
#include "base/ticker.h"
#include "base/clock.h"
#include "support.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum {
    SHORT = 10,      /* milliseconds */
    NEVER = 3600000, /* milliseconds: a period that no test lives through */
    PATIENCE = 60    /* seconds that a machine under load may take for what is due at once */
};

typedef struct {
    hsgd_ticker *ticker;
    atomic_int ticks, ends;
    atomic_int last;    /* the tick that says it is the last; 0: none does */
    atomic_long period; /* that the last tick was told */
    int64_t then;       /* the period that a tick asks for; 0: none */
    char name[16];
    bool blocked; /* were all signals, in the last tick? */
} record;

static bool tick(void *context, int64_t period)
{
    record *r = context;
    sigset_t mask;

    (void)pthread_getname_np(pthread_self(), r->name, sizeof r->name);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    r->blocked = true;
    for (int signal = 1; signal < 32; signal++) {
        r->blocked = r->blocked && (sigismember(&mask, signal) == 1 || signal == SIGKILL || signal == SIGSTOP);
    }
    if (r->then > 0) {
        hsgd_ticker_period(r->ticker, r->then);
    }
    atomic_store(&r->period, (long)period);
    return atomic_fetch_add(&r->ticks, 1) + 1 != atomic_load(&r->last);
}

static void end(void *context)
{
    record *r = context;

    hsgd_ticker_lock(r->ticker); /* it is not held here: else this would hang */
    hsgd_ticker_unlock(r->ticker);
    (void)atomic_fetch_add(&r->ends, 1);
}

static const hsgd_ticker_task task = {.name = "hsgd-test", .duty = "tests", .tick = tick, .end = end};

static void begin(record *r, int64_t period)
{
    hsgd_error err = {0};

    assert_ok(hsgd_ticker_create(&task, r, period, &r->ticker, &err));
    assert_ok(hsgd_ticker_start(r->ticker, &err));
    assert_ok(hsgd_ticker_start(r->ticker, &err)); /* once is enough */
}

static void pause_for(int milliseconds)
{
    (void)nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L}, NULL);
}

static void wait_for(const atomic_int *count, int least)
{
    const double limit = hsgd_clock() + PATIENCE;

    while (atomic_load(count) < least) {
        assert_true(hsgd_clock() < limit);
        pause_for(1);
    }
}

static void it_ticks_until_a_tick_says_no_more(void **state)
{
    record r = {.last = 3};

    (void)state;
    begin(&r, SHORT);
    wait_for(&r.ends, 1);
    pause_for(5 * SHORT);
    assert_int_equal(atomic_load(&r.ticks), 3);
    assert_int_equal(atomic_load(&r.ends), 1);
    assert_int_equal(atomic_load(&r.period), SHORT);
    assert_string_equal(r.name, "hsgd-test");
    assert_true(r.blocked);
    hsgd_ticker_destroy(&r.ticker);
    assert_null(r.ticker);
    hsgd_ticker_destroy(&r.ticker);
    hsgd_ticker_destroy(NULL);
}

static void its_end_waits_for_no_period_and_is_no_tick(void **state)
{
    record r = {0};
    hsgd_error err = {0};

    (void)state;
    begin(&r, NEVER);
    hsgd_ticker_destroy(&r.ticker); /* at once: else this hangs */
    assert_ok(hsgd_ticker_create(&task, &r, SHORT, &r.ticker, &err));
    pause_for(5 * SHORT);
    hsgd_ticker_destroy(&r.ticker); /* never started */
    assert_int_equal(atomic_load(&r.ticks), 0);
    assert_int_equal(atomic_load(&r.ends), 0);
}

static void set_period(record *r, int64_t period)
{
    hsgd_ticker_lock(r->ticker);
    hsgd_ticker_period(r->ticker, period);
    hsgd_ticker_unlock(r->ticker);
}

static void a_new_period_counts_at_once(void **state)
{
    record r = {.last = 1};

    (void)state;
    begin(&r, NEVER);
    set_period(&r, SHORT); /* and the hour that was begun is no tick */
    wait_for(&r.ends, 1);
    assert_int_equal(atomic_load(&r.period), SHORT);
    hsgd_ticker_destroy(&r.ticker);
}

static void a_tick_may_change_the_period(void **state)
{
    record r = {.then = NEVER};

    (void)state;
    begin(&r, SHORT);
    wait_for(&r.ticks, 1);
    pause_for(5 * SHORT);
    hsgd_ticker_destroy(&r.ticker);
    assert_int_equal(atomic_load(&r.ticks), 1);
    assert_int_equal(atomic_load(&r.period), SHORT); /* that which had passed */
}

static void who_sets_the_same_period_again_and_again_holds_up_nothing(void **state)
{
    record r = {0};
    const double limit = hsgd_clock() + PATIENCE;

    (void)state;
    begin(&r, 10 * SHORT);
    while (atomic_load(&r.ticks) < 2) {
        assert_true(hsgd_clock() < limit);
        set_period(&r, 10 * SHORT);
        pause_for(1);
    }
    hsgd_ticker_destroy(&r.ticker);
}

/* As after a suspension of the process: what was missed does not come in a burst. */
static void ticks_that_are_missed_are_not_made_up(void **state)
{
    record r = {0};
    double start;
    int before, more;

    (void)state;
    begin(&r, SHORT);
    wait_for(&r.ticks, 1);
    hsgd_ticker_lock(r.ticker);
    before = atomic_load(&r.ticks);
    pause_for(50 * SHORT);
    start = hsgd_clock();
    hsgd_ticker_unlock(r.ticker);
    pause_for(5 * SHORT);
    hsgd_ticker_lock(r.ticker);
    more = atomic_load(&r.ticks) - before;
    assert_true(more <=
                (int)(1e3 * (hsgd_clock() - start) / SHORT) + 2); /* whatever the load: each at its time, or later */
    hsgd_ticker_unlock(r.ticker);
    hsgd_ticker_destroy(&r.ticker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_ticks_until_a_tick_says_no_more),
        cmocka_unit_test(its_end_waits_for_no_period_and_is_no_tick),
        cmocka_unit_test(a_new_period_counts_at_once),
        cmocka_unit_test(a_tick_may_change_the_period),
        cmocka_unit_test(who_sets_the_same_period_again_and_again_holds_up_nothing),
        cmocka_unit_test(ticks_that_are_missed_are_not_made_up),
    };
    return test_run(tests);
}
