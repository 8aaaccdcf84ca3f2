/* tests/base/test_watch.c - mirrors src/base/watch.c: the ranks of a node are watches of one process over one block. */
#include "base/watch.h"
#include "base/clock.h"
#include "support.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum {
    RANKS = 2, /* on this node: 4 and 5 of the whole, so that a place on the node is not taken for a rank */
    FIRST = 4,
    NEVER = 3600,  /* seconds: a limit under which a rank without a time-out looks as often as one with a short one */
    TIMEOUT = 2,   /* seconds */
    WIDE = 4,      /* seconds: a time-out that must not pass while a rank gets on every STEP ... */
    STEPS = 60,    /* ... for half as long again */
    PATIENCE = 60, /* seconds that a machine under load may take for what is due after TIMEOUT */
};

typedef struct {
    atomic_int ends;
    hsgd_status status;
    char text[1024];
} record;

typedef struct {
    hsgd_watch *watch[RANKS];
    record record[RANKS];
    void *block;
} pair;

static void note(void *context, hsgd_status status, const char *text)
{
    record *r = context;

    r->status = status;
    (void)snprintf(r->text, sizeof r->text, "%s", text);
    (void)atomic_fetch_add(&r->ends, 1);
}

static const double STEP = 0.1; /* seconds */

/* Two ranks of `ranks`, from `first` on, on the node "here"; both have left sum 6.  The second looks only where it
 * `runs`, and waits for ever. */
static pair *make_at(int first, int ranks, bool runs)
{
    pair *p = calloc(1, sizeof *p);
    const size_t bytes = (hsgd_watch_bytes(RANKS) / 4096 + 1) * 4096;
    hsgd_error err = {0};

    assert_non_null(p);
    p->block = aligned_alloc(4096, bytes);
    assert_non_null(p->block);
    memset(p->block, 0, bytes);
    for (int i = 0; i < RANKS; i++) {
        const hsgd_watch_place place = {first + i, ranks, i, RANKS, "here"};

        assert_ok(hsgd_watch_create(0, note, &p->record[i], &p->watch[i], &err));
        assert_ok(hsgd_watch_join(p->watch[i], p->block, &place, &err));
        hsgd_watch_enter(p->watch[i], 0, 6, HSGD_WATCH_SUM);
        hsgd_watch_leave(p->watch[i]);
        if (i == 0 || runs) {
            assert_ok(hsgd_watch_start(p->watch[i], &err));
        }
    }
    hsgd_watch_timeout(p->watch[0], TIMEOUT);
    if (runs) {
        hsgd_watch_limit(p->watch[1], HSGD_WATCH_ALONE, NEVER, HSGD_ERR_IO, "not this");
    }
    return p;
}

static pair *make(int ranks, bool runs)
{
    return make_at(FIRST, ranks, runs);
}

static void end(pair **p)
{
    for (int i = 0; i < RANKS; i++) {
        hsgd_watch_destroy(&(*p)->watch[i]);
        assert_null((*p)->watch[i]);
    }
    free((*p)->block);
    free(*p);
    *p = NULL;
}

static void pause_for(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};

    (void)nanosleep(&t, NULL);
}

static void wait_for(const record *r)
{
    const double limit = hsgd_clock() + PATIENCE;

    while (atomic_load(&r->ends) == 0) {
        assert_true(hsgd_clock() < limit);
        pause_for(0.01);
    }
}

/* ---- who waits in vain, and for whom ---- */

static void gone(pair *p)
{
    hsgd_watch_part(p->watch[1]);
}

static void out_of_step(pair *p)
{
    hsgd_watch_enter(p->watch[1], 0, 6, HSGD_WATCH_FILE_WRITE);
}

static void in_the_same(pair *p)
{
    hsgd_watch_enter(p->watch[1], 0, 7, HSGD_WATCH_SUM);
}

static void in_groups(pair *p)
{
    hsgd_watch_enter(p->watch[0], 3, 7, HSGD_WATCH_SUM);
    hsgd_watch_enter(p->watch[1], 1, 6, HSGD_WATCH_SUM); /* another group has another count */
}

static void in_another_group(pair *p)
{
    in_groups(p);
    hsgd_watch_leave(p->watch[1]); /* late for its own group alone */
}

static void in_groups_but_not_the_first(pair *p)
{
    hsgd_watch_enter(p->watch[1], 1, 6, HSGD_WATCH_SUM);
}

static void not_in_its_group_yet(pair *p)
{
    hsgd_watch_enter(p->watch[0], 3, 7, HSGD_WATCH_SUM);
}

static void at_the_meeting(pair *p)
{
    hsgd_watch_enter(p->watch[1], 0, 7, HSGD_WATCH_MEETING);
}

static void at_work(pair *p)
{
    hsgd_watch_mark(p->watch[1], 0, 6);
}

static void at_work_in_another_group(pair *p)
{
    hsgd_watch_enter(p->watch[0], 3, 7, HSGD_WATCH_SUM);
    hsgd_watch_mark(p->watch[1], 1, 6);
}

static void stopped_after_a_file(pair *p)
{
    out_of_step(p);
    hsgd_watch_leave(p->watch[1]);
}

enum { ONE_NODE = RANKS, MORE_NODES = FIRST + RANKS };

static const struct {
    const char *name;
    hsgd_watch_operation operation; /* in which rank 4 waits, number 7 */
    void (*second)(pair *p);        /* what rank 5 does; NULL: nothing */
    bool runs;
    int ranks;
    hsgd_status status;
    const char *waits, *late;
} stalls[] = {
    {"a rank that computes", HSGD_WATCH_SUM, NULL, true, MORE_NODES, HSGD_ERR_DEVICE, "rank 4 of here has waited ",
     "rank 5 of here has not come since it left sum 6"},
    {"a rank that works and does not get on", HSGD_WATCH_SUM, at_work, true, MORE_NODES, HSGD_ERR_DEVICE, "in sum 7",
     "rank 5 of here has not come since it was seen at work on samples after call 6"},
    {"a process stopped at work", HSGD_WATCH_SUM, at_work, false, MORE_NODES, HSGD_ERR_DEVICE, "in sum 7",
     "rank 5 of here stands still (a stopped process?), at work on samples after call 6"},
    {"nobody, at the side of one at another group's work", HSGD_WATCH_SUM, at_work_in_another_group, true, ONE_NODE,
     HSGD_ERR_DEVICE, "in sum 7 of group 2", "no rank is seen to be late"},
    {"a stopped process", HSGD_WATCH_MAX, NULL, false, MORE_NODES, HSGD_ERR_DEVICE, " s in maximum 7",
     "rank 5 of here stands still (a stopped process?), after sum 6"},
    {"a process stopped in the call itself", HSGD_WATCH_SUM, in_the_same, false, MORE_NODES, HSGD_ERR_DEVICE,
     "in sum 7", "rank 5 of here stands still (a stopped process?), in sum 7"},
    {"a process stopped in a file", HSGD_WATCH_SUM, out_of_step, false, MORE_NODES, HSGD_ERR_IO, "in sum 7",
     "rank 5 of here stands still (a stopped process?), in HDF5 write 6"},
    {"a process stopped behind a file", HSGD_WATCH_SUM, stopped_after_a_file, false, MORE_NODES, HSGD_ERR_DEVICE,
     "in sum 7", "rank 5 of here stands still (a stopped process?), after HDF5 write 6"},
    {"a rank in an earlier call", HSGD_WATCH_MAX, out_of_step, true, MORE_NODES, HSGD_ERR_IO, "in maximum 7",
     "rank 5 of here is still in HDF5 write 6"},
    {"a rank that has left", HSGD_WATCH_BROADCAST, gone, true, MORE_NODES, HSGD_ERR_DEVICE, "in broadcast 7",
     "rank 5 of here has gone to the end of all ranks"},
    {"nobody", HSGD_WATCH_SUM, in_the_same, true, ONE_NODE, HSGD_ERR_DEVICE, "in sum 7", "every rank is in it"},
    {"nobody, at another group's side", HSGD_WATCH_SUM, in_groups, true, ONE_NODE, HSGD_ERR_DEVICE,
     "in sum 7 of group 2", "no rank is seen to be late"},
    {"nobody, at the side of a late one of another group", HSGD_WATCH_SUM, in_another_group, true, ONE_NODE,
     HSGD_ERR_DEVICE, "in sum 7 of group 2", "no rank is seen to be late"},
    {"a rank that may be of the group", HSGD_WATCH_SUM, not_in_its_group_yet, true, ONE_NODE, HSGD_ERR_DEVICE,
     "in sum 7 of group 2", "rank 5 of here has not come since it left sum 6"},
    {"a rank that waits in a file", HSGD_WATCH_FILE_WRITE, NULL, true, MORE_NODES, HSGD_ERR_DEVICE, "in HDF5 write 7",
     "rank 5 of here has not come since it left sum 6"},
    {"a meeting with a stopped process", HSGD_WATCH_MEETING, in_groups_but_not_the_first, false, MORE_NODES,
     HSGD_ERR_DEVICE, "in meeting of the groups 7",
     "rank 5 of here stands still (a stopped process?), in sum 6 of group 0"},
    {"a meeting without one that has left", HSGD_WATCH_MEETING, gone, true, MORE_NODES, HSGD_ERR_DEVICE,
     "in meeting of the groups 7", "rank 5 of here has gone to the end of all ranks"},
    {"a meeting with one that does not get on", HSGD_WATCH_MEETING, NULL, true, MORE_NODES, HSGD_ERR_DEVICE,
     "in meeting of the groups 7", "rank 5 of here has not come since it left sum 6"},
    {"a meeting of all", HSGD_WATCH_MEETING, at_the_meeting, true, ONE_NODE, HSGD_ERR_DEVICE,
     "in meeting of the groups 7", "every rank is in it"},
};
enum { STALLS = sizeof stalls / sizeof stalls[0] };

static void a_wait_beyond_the_time_out_ends_the_rank_and_names_who_is_late(void **state)
{
    pair *pairs[STALLS];

    (void)state;
    for (int i = 0; i < STALLS; i++) { /* all at once, for each takes as long as the time-out */
        pairs[i] = make(stalls[i].ranks, stalls[i].runs);
        hsgd_watch_enter(pairs[i]->watch[0], 0, 7, stalls[i].operation);
        if (stalls[i].second != NULL) {
            stalls[i].second(pairs[i]);
        }
    }
    for (int i = 0; i < STALLS; i++) {
        const record *r = &pairs[i]->record[0];

        wait_for(r);
        if (strstr(r->text, stalls[i].waits) == NULL || strstr(r->text, stalls[i].late) == NULL) {
            fail_msg("%s: %s", stalls[i].name, r->text);
        }
        assert_int_equal(r->status, stalls[i].status);
        assert_int_equal(atomic_load(&pairs[i]->record[1].ends), 0); /* it has no time-out */
        end(&pairs[i]);
    }
}

/* Each of these would end with the waits above: they last for one and a half time-outs or more. */
static void a_rank_that_gets_on_is_left_alone(void **state)
{
    enum { MOVING, OUTSIDE, PATIENT, ELSEWHERE, ALL };
    pair *pairs[ALL];

    (void)state;
    for (int i = 0; i < ALL; i++) {
        pairs[i] = make(i == ELSEWHERE ? MORE_NODES : ONE_NODE, true);
        hsgd_watch_timeout(pairs[i]->watch[0], i == PATIENT ? 0 : WIDE);
    }
    hsgd_watch_enter(pairs[PATIENT]->watch[0], 0, 7, HSGD_WATCH_SUM);
    in_the_same(pairs[ELSEWHERE]); /* the late one is on another node, where somebody may know who it is */
    hsgd_watch_enter(pairs[ELSEWHERE]->watch[0], 0, 7, HSGD_WATCH_SUM);
    for (int number = 7; number < 7 + STEPS; number++) {
        hsgd_watch_enter(pairs[MOVING]->watch[0], 0, number, HSGD_WATCH_SUM);
        pause_for(STEP);
        if (number % 2 == 0) {
            hsgd_watch_leave(pairs[MOVING]->watch[0]);
        }
    }
    for (int i = 0; i < ALL; i++) {
        assert_int_equal(atomic_load(&pairs[i]->record[0].ends), 0);
        end(&pairs[i]);
    }
}

/* A group with less to do waits for the others longer than the time-out. */
static void a_rank_that_waits_for_one_that_gets_on_is_left_alone(void **state)
{
    enum { MEETING, MEETING_OF_NODES, SUM, OTHER_NODE, STOPS, GROUP, WORK, ALL };
    pair *pairs[ALL];

    (void)state;
    for (int i = 0; i < ALL; i++) { /* rank 0, which sees nobody late on its node, speaks first */
        pairs[i] = make_at(0, i == MEETING_OF_NODES || i == OTHER_NODE ? MORE_NODES : ONE_NODE, true);
        hsgd_watch_timeout(pairs[i]->watch[0], i == OTHER_NODE ? 1 : WIDE);
        hsgd_watch_enter(pairs[i]->watch[0], i == GROUP ? 3 : 0, 7,
                         i == SUM || i == GROUP ? HSGD_WATCH_SUM : HSGD_WATCH_MEETING);
    }
    at_the_meeting(pairs[OTHER_NODE]);
    for (int number = 0; number < STEPS; number++) {
        for (int i = 0; i < ALL; i++) {
            if (i == WORK) { /* it makes no call at all, as a rank that is a group of its own */
                hsgd_watch_mark(pairs[i]->watch[1], 2, 6);
            } else if (i != OTHER_NODE && (i != STOPS || number == 0)) {
                hsgd_watch_enter(pairs[i]->watch[1], 2, number, HSGD_WATCH_SUM);
                hsgd_watch_leave(pairs[i]->watch[1]);
            }
        }
        pause_for(STEP);
    }
    for (int i = 0; i < ALL; i++) {
        if (i == STOPS || i == GROUP) { /* nobody gets on for whom these wait */
            wait_for(&pairs[i]->record[0]);
            assert_non_null(strstr(pairs[i]->record[0].text, i == STOPS
                                                                 ? "rank 1 of here has not come since it left sum 0"
                                                                 : "no rank is seen to be late"));
        } else {
            assert_int_equal(atomic_load(&pairs[i]->record[0].ends), 0);
        }
        end(&pairs[i]);
    }
}

/* ---- one message ---- */

static void one_rank_of_a_node_tells_it(void **state)
{
    pair *p = make(ONE_NODE, true), *told = make(ONE_NODE, true);

    (void)state;
    assert_true(hsgd_watch_may_tell(told->watch[1]));
    assert_false(hsgd_watch_may_tell(told->watch[0]));
    hsgd_watch_enter(told->watch[0], 0, 7, HSGD_WATCH_SUM);
    hsgd_watch_timeout(p->watch[1], TIMEOUT);
    hsgd_watch_enter(p->watch[0], 0, 7, HSGD_WATCH_SUM);
    in_the_same(p);
    wait_for(&p->record[0]);
    wait_for(&p->record[1]); /* one of them ends later, silently */
    assert_true((p->record[0].text[0] == '\0') != (p->record[1].text[0] == '\0'));
    wait_for(&told->record[0]);
    assert_string_equal(told->record[0].text, "");
    assert_int_equal(told->record[0].status, HSGD_ERR_DEVICE);
    end(&p);
    end(&told);
}

/* ---- limits ---- */

static void a_limit_ends_a_rank_whatever_it_does_unless_it_is_lifted(void **state)
{
    hsgd_watch *watch = NULL, *other = NULL;
    record r = {0}, none = {0};
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_watch_create(0, note, &r, &watch, &err));
    assert_ok(hsgd_watch_create(0, note, &none, &other, &err));
    hsgd_watch_limit(other, HSGD_WATCH_ALONE, 1, HSGD_ERR_IO, "not this");
    hsgd_watch_limit(other, HSGD_WATCH_ALONE, 0, HSGD_OK, "");
    hsgd_watch_limit(watch, HSGD_WATCH_LEAVING, 1, HSGD_ERR_NUMERIC, "train: the loss is not finite");
    hsgd_watch_limit(watch, HSGD_WATCH_ALONE, 1, HSGD_ERR_IO, "not this");
    hsgd_watch_limit(watch, HSGD_WATCH_ALONE, 0, HSGD_OK, ""); /* lifts its own alone */
    wait_for(&r);
    assert_int_equal(r.status, HSGD_ERR_NUMERIC);
    assert_string_equal(r.text, "train: the loss is not finite");
    pause_for(0.5);
    assert_int_equal(atomic_load(&none.ends), 0);
    assert_int_equal(atomic_load(&r.ends), 1);
    hsgd_watch_destroy(&watch);
    hsgd_watch_destroy(&other);
    hsgd_watch_destroy(&other);
    hsgd_watch_destroy(NULL);
}

/* It waits in vain at the end because it has failed. */
static void a_rank_on_its_way_out_tells_why_and_not_what_it_waits_for(void **state)
{
    pair *p = make(ONE_NODE, true);

    (void)state;
    hsgd_watch_limit(p->watch[0], HSGD_WATCH_LEAVING, 2 * TIMEOUT, HSGD_ERR_DEVICE, "mpi: a sum failed");
    hsgd_watch_enter(p->watch[0], 0, 0, HSGD_WATCH_END);
    wait_for(&p->record[0]);
    assert_string_equal(p->record[0].text, "mpi: a sum failed");
    end(&p);
}

static void before_there_are_others_to_see_the_start_is_watched(void **state)
{
    hsgd_watch *watch = NULL;
    record r = {0};
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_watch_create(0, note, &r, &watch, &err));
    hsgd_watch_timeout(watch, TIMEOUT);
    hsgd_watch_enter(watch, 0, 0, HSGD_WATCH_START);
    assert_ok(hsgd_watch_start(watch, &err));
    wait_for(&r);
    assert_non_null(strstr(r.text, "rank 0 of "));
    assert_non_null(strstr(r.text, "in the start of all ranks"));
    assert_non_null(strstr(r.text, "another rank has not come"));
    hsgd_watch_destroy(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_beyond_the_time_out_ends_the_rank_and_names_who_is_late),
        cmocka_unit_test(a_rank_that_gets_on_is_left_alone),
        cmocka_unit_test(a_rank_that_waits_for_one_that_gets_on_is_left_alone),
        cmocka_unit_test(one_rank_of_a_node_tells_it),
        cmocka_unit_test(a_limit_ends_a_rank_whatever_it_does_unless_it_is_lifted),
        cmocka_unit_test(a_rank_on_its_way_out_tells_why_and_not_what_it_waits_for),
        cmocka_unit_test(before_there_are_others_to_see_the_start_is_watched),
    };
    return test_run(tests);
}
