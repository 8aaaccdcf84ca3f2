/* tests/curvature/test_sweep.c - mirrors src/curvature/sweep.c: what the watch over the ranks sees of a sum over samples.
 * devices: cuda */
#include "fixture.h"
#include <string.h>

enum { GROUPS = 5, PRODUCTS = 2, BLOCK = 4096 };

/* What was there at the group before. */
typedef struct {
    const hsgd_comm *comm;
    const char *block; /* [BLOCK]: the memory in which the ranks of a node see each other */
    char before[BLOCK];
    int64_t calls; /* at the first group */
    int groups, seen, quiet;
} record;

static void told(void *context, int64_t done, int64_t count)
{
    record *r = context;

    (void)done, (void)count;
    r->calls = r->groups == 0 ? r->comm->calls : r->calls;
    r->groups++;
    r->seen += memcmp(r->before, r->block, BLOCK) != 0;
    r->quiet += r->comm->calls == r->calls;
    memcpy(r->before, r->block, BLOCK);
}

static void never(void *context, hsgd_status status, const char *text)
{
    (void)context, (void)status, (void)text;
    fail();
}

/* Its products make no call at all, so the others that wait for it have nothing else to see. */
static void a_rank_alone_is_seen_to_get_on_with_each_group_of_samples(void **state)
{
    _Alignas(BLOCK) char block[BLOCK] = {0};
    const hsgd_watch_place place = {0, 1, 0, 1, "here"};
    record r = {.block = block};
    hsgd_watch *watch = NULL;
    hsgd_error err = {0};
    fixture f = fixture_create(&(fixture_plan){.layers = mixed_layers, .edge = 8, .classes = 3, .groups = GROUPS});
    hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    double *x = normals(PRODUCTS * f.n, 1), *y = NULL;

    (void)state;
    assert_true(hsgd_watch_bytes(1) <= sizeof block);
    assert_ok(hsgd_watch_create(0, never, NULL, &watch, &err));
    assert_ok(hsgd_watch_join(watch, block, &place, &err));
    f.serial->watch = watch;
    f.problem.told = told;
    f.problem.context = &r;
    r.comm = f.serial;
    options.columns = 1;
    y = products_of(&f, &options, PRODUCTS, x);
    assert_int_equal(r.groups, PRODUCTS * GROUPS);
    assert_int_equal(r.seen, r.groups);
    assert_int_equal(r.quiet, r.groups);
    free(x);
    free(y);
    hsgd_comm_unwatch(f.serial);
    fixture_destroy(&f);
    hsgd_watch_destroy(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_alone_is_seen_to_get_on_with_each_group_of_samples),
    };
    return test_run(tests);
}
