/* tests/cpu/test_bind.c - mirrors src/cpu/bind.c: where the workers of a backend run, as they see it themselves. */
#include "cpu/cpu.h"
#include "support.h"
#include <stdlib.h>

enum { MOST = 4 };

typedef struct {
    cpu_set_t seen[MOST]; /* by worker */
} places;

static hsgd_status look(void *context, int worker, int64_t group, hsgd_error *err)
{
    places *p = context;

    (void)group, (void)err;
    return sched_getaffinity(0, sizeof p->seen[worker], &p->seen[worker]) == 0 ? HSGD_OK : HSGD_ERR_DEVICE;
}

/* Where `threads` workers may run now; a fixed spread gives every one of them a group. */
static places look_around(int threads)
{
    places p = {0};
    hsgd_backend *b = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_backend_cpu_create(HSGD_SINGLE, threads, &b, &err));
    assert_ok(b->ops->for_groups(b->self, threads, true, look, &p, &err));
    b->ops->destroy(b->self);
    free(b);
    return p;
}

static cpu_set_t own_cores(void)
{
    cpu_set_t own;

    assert_int_equal(sched_getaffinity(0, sizeof own, &own), 0);
    return own;
}

/* Also where OpenMP's threads were there before, and were bound otherwise. */
static void each_worker_gets_a_core_of_its_own_and_gives_it_back(void **state)
{
    const cpu_set_t own = own_cores();
    const int threads = CPU_COUNT(&own) < MOST ? CPU_COUNT(&own) : MOST;

    (void)state;
    for (int round = 0; round < 2; round++) {
        cpu_set_t all;
        places p;

        (void)look_around(threads);
        assert_true(hsgd_cpu_bind(threads, &own));
        p = look_around(threads);
        CPU_ZERO(&all);
        for (int w = 0; w < threads; w++) {
            assert_int_equal(CPU_COUNT(&p.seen[w]), 1);
            CPU_OR(&all, &all, &p.seen[w]);
        }
        assert_int_equal(CPU_COUNT(&all), threads);
        hsgd_cpu_unbind(threads, &own);
        p = look_around(threads);
        for (int w = 0; w < threads; w++) {
            assert_true(CPU_EQUAL(&p.seen[w], &own));
        }
    }
}

static void what_cannot_be_bound_is_left_as_it_was(void **state)
{
    const cpu_set_t own = own_cores();
    cpu_set_t after, absent;

    (void)state;
    assert_false(hsgd_cpu_bind(CPU_COUNT(&own) + 1, &own)); /* fewer cores than workers */
    after = own_cores();
    assert_true(CPU_EQUAL(&own, &after));
    CPU_ZERO(&absent);
    CPU_SET(CPU_SETSIZE - 1, &absent);
    if (!CPU_ISSET(CPU_SETSIZE - 1, &own)) { /* a core that is not there */
        assert_false(hsgd_cpu_bind(1, &absent));
        after = own_cores();
        assert_true(CPU_EQUAL(&own, &after));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_worker_gets_a_core_of_its_own_and_gives_it_back),
        cmocka_unit_test(what_cannot_be_bound_is_left_as_it_was),
    };

    return test_run(tests);
}
