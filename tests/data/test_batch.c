/* tests/data/test_batch.c - mirrors src/data/batch.c. */
#include "data/batch.h"
#include "support.h"
#include <stdlib.h>

enum { COUNT = 1000 };

static void an_epoch_is_a_permutation(void **state)
{
    static const int64_t counts[] = {1, 2, 3, 100, COUNT};
    int64_t order[COUNT];

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        bool seen[COUNT] = {false};

        hsgd_batch_shuffle(1, 0, counts[c], order);
        for (int64_t i = 0; i < counts[c]; i++) {
            assert_in_range(order[i], 0, counts[c] - 1);
            assert_false(seen[order[i]]);
            seen[order[i]] = true;
        }
    }
    hsgd_batch_shuffle(1, 0, 0, order); /* an empty set is no error */
}

/* A random permutation of n has about one fixed point; two independent ones agree at about one place.  More than 12
 * agreements have a probability below 1 / 12! = 2e-9. */
static void epochs_and_seeds_differ(void **state)
{
    int64_t orders[4][COUNT];

    (void)state;
    hsgd_batch_shuffle(1, 0, COUNT, orders[0]);
    hsgd_batch_shuffle(1, 1, COUNT, orders[1]);
    hsgd_batch_shuffle(2, 0, COUNT, orders[2]);
    hsgd_batch_shuffle(UINT64_C(1) << 32 | 1, 0, COUNT, orders[3]); /* the high half of the seed counts */
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < a; b++) {
            int same = 0;

            for (int i = 0; i < COUNT; i++) {
                same += orders[a][i] == orders[b][i];
            }
            assert_in_range(same, 0, 12);
        }
    }
    hsgd_batch_shuffle(1, 1, COUNT, orders[0]);
    assert_memory_equal(orders[0], orders[1], sizeof orders[0]);
}

/* As tests/data/shuffle_reference.py computes them, on its own. */
static void agrees_with_the_reference_in_python(void **state)
{
    static const int64_t first[10] = {1, 8, 7, 4, 5, 3, 0, 6, 9, 2};
    static const int64_t second[10] = {9, 4, 1, 8, 2, 7, 0, 5, 6, 3};
    int64_t order[10];

    (void)state;
    hsgd_batch_shuffle(1, 0, 10, order);
    assert_memory_equal(order, first, sizeof order);
    hsgd_batch_shuffle(UINT64_C(0x123456789abcdef0), 41, 10, order);
    assert_memory_equal(order, second, sizeof order);
}

/* All ranks together take each position once, in order, in groups that are full but for the last of the whole set. */
static void check_deal(int64_t count, int64_t group, int ranks)
{
    int64_t position = 0, next = 0;

    for (int rank = 0; rank < ranks; rank++) {
        const hsgd_groups g = hsgd_groups_deal(count, group, rank, ranks);

        assert_int_equal(g.count, count);
        assert_int_equal(g.group, group);
        assert_int_equal(g.groups, (count + group - 1) / group);
        assert_int_equal(g.low, next);
        assert_in_range(g.high - g.low, g.groups / ranks, g.groups / ranks + 1); /* shares differ by at most one */
        for (int64_t i = g.low; i < g.high; i++) {
            int64_t first = -1, size = -1;

            hsgd_groups_range(&g, i, &first, &size);
            assert_int_equal(first, position);
            assert_int_equal(size, i + 1 < g.groups ? group : count - i * group);
            assert_in_range(size, 1, group);
            position += size;
        }
        next = g.high;
    }
    assert_int_equal(position, count);
}

static void groups_cover_each_position_once(void **state)
{
    static const int64_t counts[] = {0, 1, 2, 7, 31, 32, 33, 100, 1999, 2000};
    static const int64_t sizes[] = {1, 2, 7, 16, 32, 100, 5000};
    static const int rank_counts[] = {1, 2, 3, 4, 7, 8, 64};

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (size_t r = 0; r < sizeof rank_counts / sizeof *rank_counts; r++) {
                check_deal(counts[c], sizes[s], rank_counts[r]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_is_a_permutation),
        cmocka_unit_test(epochs_and_seeds_differ),
        cmocka_unit_test(agrees_with_the_reference_in_python),
        cmocka_unit_test(groups_cover_each_position_once),
    };
    return test_run(tests);
}
