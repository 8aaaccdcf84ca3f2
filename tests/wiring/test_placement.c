/* tests/wiring/test_placement.c - mirrors src/wiring/placement.c: nodes that need not be here, and the one that is.
 * ranks: 1 2 4 */
#include "wiring/placement.h"
#include "support.h"

enum { MOST = 16 };

typedef struct {
    int count;
    hsgd_rank_cores ranks[MOST];
    hsgd_placement places[MOST];
} node;

static cpu_set_t cores_from(int first, int count)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (int core = first; core < first + count; core++) {
        CPU_SET(core, &set);
    }
    return set;
}

/* `count` ranks that may all run on the first `cores` cores. */
static node shared_node(int count, int cores, int asked)
{
    node n = {.count = count};

    for (int r = 0; r < count; r++) {
        n.ranks[r] = (hsgd_rank_cores){.cores = cores_from(0, cores), .asked = asked};
    }
    return n;
}

static void choose(node *n)
{
    for (int r = 0; r < n->count; r++) {
        hsgd_placement_choose(n->ranks, n->count, r, &n->places[r]);
    }
}

/* What holds on every node whatever its ranks asked for: a bound rank has as many cores as threads, and no core of
 * another bound rank. */
static void assert_apart(const node *n)
{
    cpu_set_t taken, both;

    CPU_ZERO(&taken);
    for (int r = 0; r < n->count; r++) {
        const hsgd_placement *p = &n->places[r];

        if (p->binding == HSGD_BINDING_CORES) {
            assert_int_equal(CPU_COUNT(&p->cores), p->threads);
            CPU_AND(&both, &taken, &p->cores);
            assert_int_equal(CPU_COUNT(&both), 0);
            CPU_OR(&taken, &taken, &p->cores);
        } else {
            assert_true(CPU_EQUAL(&p->cores, &n->ranks[r].cores));
        }
    }
}

/* All numbers of ranks on all numbers of cores, from a node that is empty to one that is overfull. */
static void by_itself_a_node_has_no_more_threads_than_cores(void **state)
{
    (void)state;
    for (int count = 1; count <= MOST; count++) {
        for (int cores = 1; cores <= 3 * MOST; cores++) {
            node n = shared_node(count, cores, 0);
            int threads = 0, total = 0;

            choose(&n);
            assert_apart(&n);
            hsgd_placement_total(n.ranks, count, &threads, &total);
            assert_int_equal(total, cores);
            assert_true(threads <= cores || threads == count);
            for (int r = 0; r < count; r++) {
                assert_int_equal(n.places[r].threads, cores / count > 0 ? cores / count : 1);
                assert_int_equal(n.places[r].binding, cores % count == 0 ? HSGD_BINDING_CORES : HSGD_BINDING_NONE);
            }
        }
    }
}

/* mpirun for up to two ranks: a core each. */
static void a_rank_bound_to_one_core_has_one_thread_on_it(void **state)
{
    node n = {.count = 2, .ranks = {{.cores = cores_from(3, 1)}, {.cores = cores_from(7, 1)}}};

    (void)state;
    choose(&n);
    assert_apart(&n);
    for (int r = 0; r < n.count; r++) {
        assert_int_equal(n.places[r].threads, 1);
        assert_int_equal(n.places[r].binding, HSGD_BINDING_CORES);
    }
}

/* mpirun for more: all cores of a socket for the ranks on it.  Here 3 and 2 of them on two sockets of 6. */
static void ranks_of_a_socket_share_its_cores_alone(void **state)
{
    static const int sockets[] = {0, 6, 0, 6, 0}, threads[] = {2, 3, 2, 3, 2}, firsts[] = {0, 6, 2, 9, 4};
    node n = {.count = 5};

    (void)state;
    for (int r = 0; r < n.count; r++) {
        n.ranks[r].cores = cores_from(sockets[r], 6);
    }
    choose(&n);
    assert_apart(&n);
    for (int r = 0; r < n.count; r++) {
        const cpu_set_t expected = cores_from(firsts[r], threads[r]);

        assert_int_equal(n.places[r].threads, threads[r]);
        assert_true(CPU_EQUAL(&n.places[r].cores, &expected));
    }
}

/* Slurm gives a job of 4 tasks with 3 cores each 12 of the node's, and mpirun is told to bind nothing. */
static void tasks_of_a_job_get_the_cores_that_the_script_names(void **state)
{
    node n = {.count = 4};

    (void)state;
    for (int r = 0; r < n.count; r++) {
        n.ranks[r] = (hsgd_rank_cores){.cores = cores_from(20, 12), .asked = 3};
    }
    choose(&n);
    assert_apart(&n);
    for (int r = 0; r < n.count; r++) {
        const cpu_set_t expected = cores_from(20 + 3 * r, 3);

        assert_true(CPU_EQUAL(&n.places[r].cores, &expected));
    }
}

/* Sets that only touch: nobody is bound, and still there is no thread too many. */
static void ranks_whose_cores_overlap_are_not_bound(void **state)
{
    node n = {.count = 3,
              .ranks = {{.cores = cores_from(0, 2)}, {.cores = cores_from(1, 2)}, {.cores = cores_from(0, 8)}}};
    int threads = 0, cores = 0;

    (void)state;
    choose(&n);
    assert_apart(&n);
    hsgd_placement_total(n.ranks, n.count, &threads, &cores);
    assert_int_equal(cores, 8);
    assert_true(threads <= cores);
    for (int r = 0; r < n.count; r++) {
        assert_int_equal(n.places[r].binding, HSGD_BINDING_NONE);
    }
}

static void a_container_has_the_cores_that_its_limit_grants(void **state)
{
    static const struct {
        int count, quota, threads;
    } cases[] = {{1, 3, 3}, {2, 3, 1}, {2, 4, 2}, {4, 2, 1}, {1, 64, 16}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        node n = shared_node(cases[i].count, 16, 0);
        int threads = 0, cores = 0;

        for (int r = 0; r < n.count; r++) {
            n.ranks[r].quota = cases[i].quota;
        }
        choose(&n);
        hsgd_placement_total(n.ranks, n.count, &threads, &cores);
        assert_int_equal(cores, cases[i].quota < 16 ? cases[i].quota : 16);
        assert_int_equal(threads, n.count * cases[i].threads);
        assert_int_equal(n.places[0].threads, cases[i].threads);
        /* The cores belong to others as well: only the system sees which are free. */
        assert_int_equal(n.places[0].binding, cases[i].quota < 16 ? HSGD_BINDING_NONE : HSGD_BINDING_CORES);
    }
}

/* A limit is the node's: ranks with cores of their own fill them all, but not with the time that they are granted. */
static void a_limit_below_the_cores_of_all_ranks_binds_none(void **state)
{
    node n = {.count = 4};

    (void)state;
    for (int r = 0; r < n.count; r++) {
        n.ranks[r] = (hsgd_rank_cores){.cores = cores_from(4 * r, 4), .quota = 4, .asked = 4};
    }
    choose(&n);
    assert_apart(&n);
    for (int r = 0; r < n.count; r++) {
        assert_int_equal(n.places[r].binding, HSGD_BINDING_NONE);
    }
}

static void threads_asked_for_are_had_and_bound_only_where_they_fill_the_cores(void **state)
{
    static const struct {
        int count, cores, asked;
        hsgd_binding binding;
    } cases[] = {{1, 8, 3, HSGD_BINDING_NONE},  {2, 8, 4, HSGD_BINDING_CORES}, {2, 8, 2, HSGD_BINDING_NONE},
                 {2, 8, 16, HSGD_BINDING_NONE}, {8, 8, 1, HSGD_BINDING_CORES}, {9, 8, 1, HSGD_BINDING_NONE}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        node n = shared_node(cases[i].count, cases[i].cores, cases[i].asked);

        choose(&n);
        assert_apart(&n);
        assert_int_equal(n.places[0].threads, cases[i].asked);
        assert_int_equal(n.places[0].binding, cases[i].binding);
    }
}

static void openmps_own_variables_are_left_to_bind(void **state)
{
    node n = shared_node(1, 4, 0);

    (void)state;
    n.ranks[0].environment = true;
    choose(&n);
    assert_int_equal(n.places[0].threads, 4);
    assert_int_equal(n.places[0].binding, HSGD_BINDING_ENVIRONMENT);
    assert_int_equal(CPU_COUNT(&n.places[0].cores), 4);
}

/* Here: one word, the same on all ranks, where the deck's number is too great, and none else. */
static void the_ranks_of_this_node_are_warned_together(void **state)
{
    hsgd_comm *comm = test_comm();
    hsgd_placement own, heard;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_placement_find(comm, 0, &own, &err));
    assert_string_equal(own.warning, "");
    assert_true(own.threads >= 1);
    assert_ok(hsgd_placement_find(comm, 5000, &own, &err));
    assert_int_equal(own.threads, 5000);
    assert_non_null(strstr(own.warning, "device.threads = 5000"));
    heard = own;
    assert_ok(hsgd_comm_broadcast(comm, 0, sizeof heard.warning, heard.warning, &err));
    assert_string_equal(own.warning, heard.warning);
}

static void cores_are_told_as_ranges(void **state)
{
    cpu_set_t set = cores_from(0, 4);
    char text[32], little[6];

    (void)state;
    CPU_SET(8, &set);
    CPU_SET(1022, &set);
    CPU_SET(1023, &set);
    hsgd_cores_text(&set, text, sizeof text);
    assert_string_equal(text, "0-3,8,1022-1023");
    hsgd_cores_text(&set, little, sizeof little);
    assert_string_equal(little, "0-3,8");
    CPU_ZERO(&set);
    hsgd_cores_text(&set, text, sizeof text);
    assert_string_equal(text, "");
    assert_string_equal(hsgd_binding_name(HSGD_BINDING_CORES), "core");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_itself_a_node_has_no_more_threads_than_cores),
        cmocka_unit_test(a_rank_bound_to_one_core_has_one_thread_on_it),
        cmocka_unit_test(ranks_of_a_socket_share_its_cores_alone),
        cmocka_unit_test(tasks_of_a_job_get_the_cores_that_the_script_names),
        cmocka_unit_test(ranks_whose_cores_overlap_are_not_bound),
        cmocka_unit_test(a_container_has_the_cores_that_its_limit_grants),
        cmocka_unit_test(a_limit_below_the_cores_of_all_ranks_binds_none),
        cmocka_unit_test(threads_asked_for_are_had_and_bound_only_where_they_fill_the_cores),
        cmocka_unit_test(openmps_own_variables_are_left_to_bind),
        cmocka_unit_test(the_ranks_of_this_node_are_warned_together),
        cmocka_unit_test(cores_are_told_as_ranges),
    };

    return test_run(tests);
}
