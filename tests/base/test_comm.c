/* tests/base/test_comm.c - mirrors src/base/comm.c: what a watch hears of each call.  The calls themselves are held by
 * tests/conformance/test_comm.c. */
#include "base/comm.h"
#include "base/clock.h"
#include "support.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { RANK = 1, RANKS = 8, TIMEOUT = 1 /* seconds */, PATIENCE = 60 /* for what is due after TIMEOUT */ };

/* A rank that is caught in each call until the watch has found it. */
typedef struct {
    const char *heard; /* what the message must say */
    void (*call)(hsgd_comm *comm);
    atomic_bool found;
    hsgd_status status;
    char text[1024];
} trial;

static void note(void *context, hsgd_status status, const char *text)
{
    trial *t = context;

    t->status = status;
    (void)snprintf(t->text, sizeof t->text, "%s", text);
    atomic_store(&t->found, true);
}

static hsgd_status caught(void *self)
{
    const double limit = hsgd_clock() + PATIENCE;
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

    while (!atomic_load(&((trial *)self)->found) && hsgd_clock() < limit) {
        (void)nanosleep(&pause, NULL);
    }
    return HSGD_OK;
}

static hsgd_status sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    (void)type, (void)count, (void)data, (void)err;
    return caught(self);
}

static hsgd_status with_counts(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                               hsgd_error *err)
{
    (void)type, (void)counts, (void)send, (void)receive, (void)err;
    return caught(self);
}

static hsgd_status broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    (void)root, (void)bytes, (void)data, (void)err;
    return caught(self);
}

static hsgd_status shared_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err)
{
    (void)bytes, (void)out, (void)leader, (void)handle, (void)err;
    return caught(self);
}

static void shared_free(void *self, void **handle)
{
    (void)handle;
    (void)caught(self);
}

static hsgd_status node_barrier(void *self, hsgd_error *err)
{
    (void)err;
    return caught(self);
}

static const hsgd_comm_ops slow_ops = {.name = "slow",
                                       .sum = sum,
                                       .max = sum,
                                       .reduce_scatter = with_counts,
                                       .all_gather = with_counts,
                                       .broadcast = broadcast,
                                       .shared_alloc = shared_alloc,
                                       .shared_free = shared_free,
                                       .node_barrier = node_barrier};

static void call_sum(hsgd_comm *comm)
{
    int64_t word = 1;

    (void)hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &word, NULL);
}

static void call_max(hsgd_comm *comm)
{
    int64_t word = 1;

    (void)hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &word, NULL);
}

static void call_reduce_scatter(hsgd_comm *comm)
{
    (void)hsgd_comm_reduce_scatter(comm, HSGD_TYPE_I64, NULL, NULL, NULL, NULL);
}

static void call_all_gather(hsgd_comm *comm)
{
    (void)hsgd_comm_all_gather(comm, HSGD_TYPE_I64, NULL, NULL, NULL, NULL);
}

static void call_broadcast(hsgd_comm *comm)
{
    (void)hsgd_comm_broadcast(comm, 0, 0, NULL, NULL);
}

static void call_shared_alloc(hsgd_comm *comm)
{
    (void)hsgd_comm_shared_alloc(comm, 0, NULL, NULL, NULL, NULL);
}

static void call_meet(hsgd_comm *comm)
{
    (void)hsgd_comm_meet(comm, HSGD_OK, NULL);
}

static void call_shared_free(hsgd_comm *comm)
{
    void *handle = comm;

    hsgd_comm_shared_free(comm, &handle);
}

static void call_node_barrier(hsgd_comm *comm)
{
    (void)hsgd_comm_node_barrier(comm, NULL);
}

static void call_within(hsgd_comm *comm)
{
    hsgd_comm_enter(comm, HSGD_WATCH_FILE_FLUSH);
    (void)caught(comm->self);
    hsgd_comm_leave(comm);
}

/* The second call of a rank, so that the message's number is 2; its node has no other, so that nobody else can be late. */
static void *second_call(void *argument)
{
    trial *t = argument;
    hsgd_watch *watch = NULL;
    _Alignas(4096) char block[4096] = {0};
    const hsgd_watch_place place = {RANK, 1, 0, 1, "here"};
    hsgd_comm comm = {.ops = &slow_ops, .self = t, .rank = RANK, .ranks = RANKS};

    if (hsgd_watch_bytes(1) <= sizeof block && hsgd_watch_create(RANK, note, t, &watch, NULL) == HSGD_OK &&
        hsgd_watch_join(watch, block, &place, NULL) == HSGD_OK && hsgd_watch_start(watch, NULL) == HSGD_OK) {
        comm.watch = watch;
        hsgd_comm_enter(&comm, HSGD_WATCH_SPLIT);
        hsgd_comm_leave(&comm);
        hsgd_watch_timeout(watch, TIMEOUT);
        t->call(&comm);
        hsgd_comm_unwatch(&comm);
    }
    hsgd_watch_destroy(&watch);
    return NULL;
}

static void a_rank_that_is_caught_in_a_call_says_in_which(void **state)
{
    trial trials[] = {
        {.heard = "in sum 2", .call = call_sum},
        {.heard = "in maximum 2", .call = call_max},
        {.heard = "in meeting of the groups 2", .call = call_meet},
        {.heard = "in reduce-scatter 2", .call = call_reduce_scatter},
        {.heard = "in all-gather 2", .call = call_all_gather},
        {.heard = "in broadcast 2", .call = call_broadcast},
        {.heard = "in allocation of shared memory 2", .call = call_shared_alloc},
        {.heard = "in allocation of shared memory 2", .call = call_shared_free},
        {.heard = "in barrier of the node 2", .call = call_node_barrier},
        {.heard = "in HDF5 flush 2", .call = call_within},
    };
    enum { TRIALS = sizeof trials / sizeof trials[0] };
    pthread_t threads[TRIALS];

    (void)state;
    for (int i = 0; i < TRIALS; i++) { /* all at once, for each takes as long as the time-out */
        assert_int_equal(pthread_create(&threads[i], NULL, second_call, &trials[i]), 0);
    }
    for (int i = 0; i < TRIALS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < TRIALS; i++) {
        if (strstr(trials[i].text, "rank 1 of ") == NULL || strstr(trials[i].text, trials[i].heard) == NULL) {
            fail_msg("%s: %s", trials[i].heard, trials[i].text);
        }
        assert_int_equal(trials[i].status, trials[i].call == call_within ? HSGD_ERR_IO : HSGD_ERR_DEVICE);
    }
}

static void never(void *context, hsgd_status status, const char *text)
{
    (void)status, (void)text;
    atomic_store((atomic_bool *)context, true);
}

/* Watched, split and unwatched, a communicator does what it did; numbers go on in a part. */
static void a_watch_changes_no_call_and_passes_on_to_groups(void **state)
{
    hsgd_comm *comm = NULL, *part = NULL;
    hsgd_watch *watch = NULL;
    hsgd_error err = {0};
    atomic_bool ended = false;
    int64_t word = 5;

    (void)state;
    assert_ok(hsgd_comm_serial_create(&comm, &err));
    assert_ok(hsgd_watch_create(0, never, &ended, &watch, &err));
    comm->watch = watch;
    assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &word, &err));
    assert_int_equal(word, 5);
    assert_ok(hsgd_comm_split(comm, 4, &part, &err));
    assert_ptr_equal(part->watch, watch);
    assert_int_equal(part->group, 5);
    assert_int_equal(part->calls, comm->calls);
    assert_ok(hsgd_comm_sum(part, HSGD_TYPE_I64, 1, &word, &err));
    assert_int_equal(part->calls, comm->calls + 1);
    hsgd_comm_destroy(&part);
    hsgd_comm_unwatch(comm);
    assert_null(comm->watch);
    hsgd_comm_unwatch(comm);
    hsgd_watch_destroy(&watch);
    hsgd_comm_destroy(&comm);
    assert_false(atomic_load(&ended));
}

/* The end of a part leaves the node's memory to the watch; that of the whole, which frees it, does not. */
static void only_the_end_of_the_whole_ends_the_watch(void **state)
{
    _Alignas(4096) char block[4096] = {0}, empty[sizeof block] = {0};
    const hsgd_watch_place place = {0, 1, 0, 1, "here"};
    hsgd_comm *comm = NULL, *part = NULL;
    hsgd_watch *watch = NULL;
    hsgd_error err = {0};
    atomic_bool ended = false;

    (void)state;
    assert_true(hsgd_watch_bytes(1) <= sizeof block);
    assert_ok(hsgd_comm_serial_create(&comm, &err));
    assert_ok(hsgd_watch_create(0, never, &ended, &watch, &err));
    assert_ok(hsgd_watch_join(watch, block, &place, &err));
    comm->watch = watch;
    assert_ok(hsgd_comm_split(comm, 0, &part, &err));
    hsgd_comm_destroy(&part);
    memset(block, 0, sizeof block);
    hsgd_watch_enter(watch, 0, 1, HSGD_WATCH_SUM);
    assert_memory_not_equal(block, empty, sizeof block);
    hsgd_comm_destroy(&comm);
    memset(block, 0, sizeof block);
    hsgd_watch_enter(watch, 0, 2, HSGD_WATCH_SUM);
    assert_memory_equal(block, empty, sizeof block);
    hsgd_watch_destroy(&watch);
    assert_false(atomic_load(&ended));
}

/* By its group and the number of its last call; it is no call. */
static void a_mark_says_where_a_rank_works(void **state)
{
    enum { MARKS = 3 };
    _Alignas(4096) char blocks[2][4096] = {0}, before[sizeof blocks[0]];
    const hsgd_watch_place place = {0, 1, 0, 1, "here"};
    hsgd_comm comm = {.ops = &slow_ops, .ranks = 1, .group = 3, .calls = 7};
    hsgd_watch *watches[2] = {0};
    hsgd_error err = {0};
    atomic_bool ended = false;

    (void)state;
    hsgd_comm_mark(&comm); /* nobody watches */
    for (int i = 0; i < 2; i++) {
        assert_ok(hsgd_watch_create(0, never, &ended, &watches[i], &err));
        assert_ok(hsgd_watch_join(watches[i], blocks[i], &place, &err));
    }
    comm.watch = watches[0];
    for (int i = 0; i < MARKS; i++) {
        memcpy(before, blocks[0], sizeof before);
        hsgd_comm_mark(&comm);
        assert_memory_not_equal(blocks[0], before, sizeof before); /* each is seen */
        hsgd_watch_mark(watches[1], 3, 7);
        assert_memory_equal(blocks[0], blocks[1], sizeof before);
    }
    assert_int_equal(comm.calls, 7);
    for (int i = 0; i < 2; i++) {
        hsgd_watch_destroy(&watches[i]);
    }
}

static bool yes(void *self)
{
    (void)self;
    return true;
}

/* After a failure nothing is freed, and only by what the node shares do its ranks know that another has told it. */
static void a_communicator_that_has_failed_leaves_its_ranks_in_sight_of_each_other(void **state)
{
    _Alignas(4096) char block[4096] = {0};
    hsgd_comm_ops failing_ops = slow_ops;
    hsgd_comm comm = {.ops = &failing_ops, .ranks = 2};
    hsgd_watch *watches[2] = {0};
    hsgd_error err = {0};
    atomic_bool ended = false;

    (void)state;
    failing_ops.failed = yes;
    assert_true(hsgd_watch_bytes(2) <= sizeof block);
    for (int i = 0; i < 2; i++) {
        const hsgd_watch_place place = {i, 2, i, 2, "here"};

        assert_ok(hsgd_watch_create(i, never, &ended, &watches[i], &err));
        assert_ok(hsgd_watch_join(watches[i], block, &place, &err));
        comm.watch = watches[i];
        hsgd_comm_unwatch(&comm);
        assert_null(comm.watch);
    }
    assert_true(hsgd_watch_may_tell(watches[1]));
    assert_false(hsgd_watch_may_tell(watches[0]));
    for (int i = 0; i < 2; i++) {
        hsgd_watch_destroy(&watches[i]);
    }
    assert_false(atomic_load(&ended));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_that_is_caught_in_a_call_says_in_which),
        cmocka_unit_test(a_watch_changes_no_call_and_passes_on_to_groups),
        cmocka_unit_test(only_the_end_of_the_whole_ends_the_watch),
        cmocka_unit_test(a_mark_says_where_a_rank_works),
        cmocka_unit_test(a_communicator_that_has_failed_leaves_its_ranks_in_sight_of_each_other),
    };
    return test_run(tests);
}
