/* tests/conformance/test_comm.c - one suite for all communicators: serial, MPI, MPI with messages cut into pieces, and
 * NCCL's, whose host arrays these are (its device arrays: tests/mpi/test_comm_nccl.c).
 * ranks: 1 2 3 4 7 8
 * Powers of two and others, since MPI's algorithms differ between them. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "base/sum.h"
#include "support.h"
#ifdef HSGD_MPI
#include "comm_mpi.h"
#endif
#ifdef HSGD_EMULATED_NCCL
#include "mpi/nccl_fixture.h"
#endif

enum { MOST_RANKS = 64, LONGEST = 1003, GUARD = 77 };

typedef enum { SERIAL, LAUNCH, PIECES, NCCL } kind;

#ifdef HSGD_EMULATED_NCCL
static nccl_fixture fixture;
#endif

static int setup(void **state)
{
    static hsgd_comm *comm;
    const kind which = *(const kind *)*state;
    hsgd_error err = {0};

    if (which == SERIAL) {
        assert_ok(hsgd_comm_serial_create(&comm, &err));
    } else {
        comm = test_comm();
    }
#ifdef HSGD_EMULATED_NCCL
    if (which == NCCL) {
        assert_ok(nccl_try(&fixture, comm->rank, PATIENT, false, "", &err));
        assert_non_null(comm = fixture.comm);
    }
#endif
#ifdef HSGD_MPI
    if (which == PIECES) {
        hsgd_comm_mpi_set_piece(comm, 3); /* so that short messages take the way of those beyond INT_MAX */
    }
#endif
    assert_in_range(comm->ranks, 1, MOST_RANKS);
    *state = comm;
    return 0;
}

static int teardown(void **state)
{
    hsgd_comm *comm = *state;

#ifdef HSGD_MPI
    if (strcmp(comm->ops->name, "mpi") == 0) {
        hsgd_comm_mpi_set_piece(comm, INT_MAX);
    }
#endif
#ifdef HSGD_EMULATED_NCCL
    if (comm == fixture.comm) {
        nccl_end(&fixture);
        comm = NULL;
    }
#endif
    if (comm != test_comm()) {
        hsgd_comm_destroy(&comm);
    }
    return 0;
}

static void every_rank_has_its_own_number_and_a_place_on_a_node(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    int64_t seen[MOST_RANKS] = {0}, leaders = comm->local_rank == 0;

    assert_in_range(comm->rank, 0, comm->ranks - 1);
    assert_in_range(comm->local_rank, 0, comm->local_ranks - 1);
    assert_in_range(comm->local_ranks, 1, comm->ranks);
    assert_true(comm->host[0] != '\0');
    seen[comm->rank] = 1;
    assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, comm->ranks, seen, &err));
    assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &leaders, &err));
    for (int r = 0; r < comm->ranks; r++) {
        assert_int_equal(seen[r], 1);
    }
    assert_in_range(leaders, 1, comm->ranks);
}

static void sums_and_maxima_are_the_same_on_every_rank(void **state)
{
    static const int64_t lengths[] = {0, 1, 2, 3, 4, 100, LONGEST};
    hsgd_comm *comm = *state;
    const int64_t ranks = comm->ranks, ramp = ranks * (ranks + 1) / 2;
    hsgd_error err = {0};
    int64_t whole[LONGEST + 1];
    double real[LONGEST + 1];

    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        const int64_t n = lengths[l];

        for (int64_t i = 0; i <= n; i++) {
            whole[i] = (comm->rank + 1) * (i + (INT64_C(1) << 40)); /* more than an int, exact as a double */
            real[i] = (double)whole[i];
        }
        assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, n, whole, &err));
        assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_F64, n, real, &err));
        for (int64_t i = 0; i < n; i++) {
            assert_true(whole[i] == ramp * (i + (INT64_C(1) << 40)));
            assert_true(real[i] == (double)whole[i]);
        }
        assert_true(whole[n] == (comm->rank + 1) * (n + (INT64_C(1) << 40)));
        for (int64_t i = 0; i <= n; i++) {
            whole[i] = -((comm->rank + i) % ranks) - 5;
            real[i] = (double)whole[i];
        }
        assert_ok(hsgd_comm_max(comm, HSGD_TYPE_I64, n, whole, &err));
        assert_ok(hsgd_comm_max(comm, HSGD_TYPE_F64, n, real, &err));
        for (int64_t i = 0; i < n; i++) {
            assert_true(whole[i] == -5 && real[i] == -5.0);
        }
    }
}

/* Counts with ranks that take nothing: `shape` 0: none takes any; 1: every third none; 2: only the last. */
static int64_t make_counts(const hsgd_comm *comm, int shape, int64_t *counts)
{
    int64_t total = 0;

    for (int r = 0; r < comm->ranks; r++) {
        counts[r] = shape == 0 ? 0 : shape == 1 ? (r % 3) * (r + 1) : r == comm->ranks - 1 ? 11 : 0;
        total += counts[r];
    }
    return total;
}

static void reduce_scatter_gives_each_rank_its_part_of_the_sum(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    int64_t counts[MOST_RANKS], send[LONGEST], receive[LONGEST];

    for (int shape = 0; shape < 3; shape++) {
        const int64_t total = make_counts(comm, shape, counts), mine = counts[comm->rank];
        int64_t first = 0;

        assert_in_range(total, 0, LONGEST);
        for (int r = 0; r < comm->rank; r++) {
            first += counts[r];
        }
        for (int64_t i = 0; i < total; i++) {
            send[i] = 1000 * i + comm->rank;
        }
        receive[mine] = GUARD;
        assert_ok(hsgd_comm_reduce_scatter(comm, HSGD_TYPE_I64, counts, send, receive, &err));
        for (int64_t i = 0; i < mine; i++) {
            assert_int_equal(receive[i], 1000 * (first + i) * comm->ranks + comm->ranks * (comm->ranks - 1) / 2);
        }
        assert_int_equal(receive[mine], GUARD);
        for (int64_t i = 0; i < total; i++) {
            assert_int_equal(send[i], 1000 * i + comm->rank);
        }
    }
}

static void all_gather_puts_the_parts_in_rank_order(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    int64_t counts[MOST_RANKS];
    double send[LONGEST], receive[LONGEST];

    for (int shape = 0; shape < 3; shape++) {
        const int64_t total = make_counts(comm, shape, counts);
        int64_t at = 0;

        for (int64_t i = 0; i < counts[comm->rank]; i++) {
            send[i] = comm->rank + 0.001 * (double)i;
        }
        receive[total] = GUARD;
        assert_ok(hsgd_comm_all_gather(comm, HSGD_TYPE_F64, counts, send, receive, &err));
        for (int r = 0; r < comm->ranks; r++) {
            for (int64_t i = 0; i < counts[r]; i++) {
                assert_true(receive[at++] == r + 0.001 * (double)i);
            }
        }
        assert_true(receive[total] == GUARD);
    }
}

static void broadcast_carries_any_number_of_bytes_from_any_rank(void **state)
{
    static const size_t sizes[] = {0, 1, 3, 4, LONGEST};
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    unsigned char data[LONGEST + 1];

    for (int root = 0; root < comm->ranks; root++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (size_t i = 0; i <= sizes[s]; i++) {
                data[i] = (unsigned char)(comm->rank == root ? 7 * i + (size_t)root : 255);
            }
            data[sizes[s]] = GUARD;
            assert_ok(hsgd_comm_broadcast(comm, root, sizes[s], data, &err));
            for (size_t i = 0; i < sizes[s]; i++) {
                assert_int_equal(data[i], (unsigned char)(7 * i + (size_t)root));
            }
            assert_int_equal(data[sizes[s]], GUARD);
        }
    }
}

static void agreement_takes_the_worst_status_with_its_lowest_ranks_text(void **state)
{
    hsgd_comm *comm = *state;
    const int last = comm->ranks - 1;
    hsgd_error err = {0};
    char text[64];
    hsgd_status mine = HSGD_ERR_USAGE;

    /* all fail, the last two worse than the rest: the lower one of those two speaks */
    if (comm->rank >= last - 1) {
        mine = HSGD_ERR_IO;
    }
    (void)hsgd_error_set(&err, mine, "rank %d", comm->rank);
    assert_int_equal(hsgd_comm_agree(comm, mine, &err), HSGD_ERR_IO);
    assert_int_equal(err.status, HSGD_ERR_IO);
    (void)snprintf(text, sizeof text, "rank %d", last > 0 ? last - 1 : 0);
    assert_string_equal(err.text, text);
}

static void agreement_tells_a_failure_of_one_rank_to_all(void **state)
{
    hsgd_comm *comm = *state;

    for (int culprit = 0; culprit < comm->ranks; culprit++) {
        hsgd_error err = {0};
        const hsgd_status mine =
            comm->rank == culprit ? hsgd_error_set(&err, HSGD_ERR_DATA, "only rank %d knows", culprit) : HSGD_OK;
        char text[64];

        (void)snprintf(text, sizeof text, "only rank %d knows", culprit);
        assert_int_equal(hsgd_comm_agree(comm, mine, &err), HSGD_ERR_DATA);
        assert_string_equal(err.text, text);
    }
}

static void agreement_without_failure_leaves_the_text_alone(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {.text = "untouched"};

    assert_int_equal(hsgd_comm_agree(comm, HSGD_OK, &err), HSGD_OK);
    assert_string_equal(err.text, "untouched");
    assert_int_equal(hsgd_comm_agree(comm, HSGD_OK, NULL), HSGD_OK);
    assert_int_equal(hsgd_comm_agree(comm, HSGD_STOPPED, NULL), HSGD_STOPPED); /* no text wanted: the status alone */
}

static void a_block_of_the_node_is_zeroed_aligned_and_seen_by_all_of_it(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 100000};
    hsgd_comm *comm = *state;
    hsgd_error err = {0};

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        void *block = NULL, *handle = NULL;
        unsigned char *byte;
        bool leader = false;

        assert_ok(hsgd_comm_shared_alloc(comm, sizes[s], &block, &leader, &handle, &err));
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 4096, 0);
        assert_int_equal(leader, comm->local_rank == 0);
        assert_ok(hsgd_comm_node_barrier(comm, &err));
        byte = block;
        for (size_t i = 0; i < sizes[s]; i++) {
            assert_int_equal(byte[i], 0);
        }
        assert_ok(hsgd_comm_node_barrier(comm, &err));
        for (size_t i = 0; leader && i < sizes[s]; i++) {
            byte[i] = (unsigned char)(i % 251);
        }
        assert_ok(hsgd_comm_node_barrier(comm, &err));
        for (size_t i = 0; i < sizes[s]; i++) {
            assert_int_equal(byte[i], i % 251);
        }
        hsgd_comm_shared_free(comm, &handle);
        assert_null(handle);
        hsgd_comm_shared_free(comm, &handle); /* nothing to free is fine */
    }
}

/* Two blocks at once, ended in the order in which they were made; each rank writes its own place of both. */
static void blocks_of_the_node_do_not_meet(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    void *block[2] = {NULL}, *handle[2] = {NULL};
    bool leader;

    for (int b = 0; b < 2; b++) {
        assert_ok(hsgd_comm_shared_alloc(comm, 8 * MOST_RANKS, &block[b], &leader, &handle[b], &err));
    }
    assert_ok(hsgd_comm_node_barrier(comm, &err));
    ((int64_t *)block[0])[comm->local_rank] = 100 + comm->local_rank;
    ((int64_t *)block[1])[comm->local_rank] = 200 + comm->local_rank;
    assert_ok(hsgd_comm_node_barrier(comm, &err));
    for (int r = 0; r < comm->local_ranks; r++) {
        assert_int_equal(((const int64_t *)block[0])[r], 100 + r);
        assert_int_equal(((const int64_t *)block[1])[r], 200 + r);
    }
    hsgd_comm_shared_free(comm, &handle[0]);
    assert_ok(hsgd_comm_node_barrier(comm, &err));
    assert_int_equal(((const int64_t *)block[1])[0], 200);
    hsgd_comm_shared_free(comm, &handle[1]);
}

/* Addends over 20 decades that cancel: any order of plain additions shows.  The words must not, and their value must
 * be within their own bound, g * 2^(s-70) with 2^-s the scale (base/sum.h), of the sum in long double. */
static void sums_in_words_have_the_same_bits_however_the_groups_are_dealt(void **state)
{
    enum { GROUPS = 101 };
    hsgd_comm *comm = *state;
    const hsgd_random stream = hsgd_random_stream(5, HSGD_RANDOM_TEST, 0);
    const double scale = hsgd_sum_scale(GROUPS);
    int64_t dealt[3] = {0}, alone[3] = {0}, low, high;
    double value, reference;
    hsgd_error err = {0};
    long double exact = 0.0L;

    hsgd_share(GROUPS, comm->rank, comm->ranks, &low, &high);
    for (int64_t g = 0; g < GROUPS; g++) {
        const double x = hsgd_random_normal(&stream, (uint64_t)g) * pow(10.0, (double)(g % 20) - 11.0);

        if (g >= low && g < high) {
            dealt[2] += hsgd_sum_add(x, scale, &dealt[0], &dealt[1]);
        }
        alone[2] += hsgd_sum_add(x, scale, &alone[0], &alone[1]);
        exact += x;
    }
    assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, 3, dealt, &err));
    assert_memory_equal(dealt, alone, sizeof alone);
    assert_int_equal(dealt[2], 0);
    value = hsgd_sum_value(dealt[0], dealt[1], scale);
    reference = hsgd_sum_value(alone[0], alone[1], scale);
    assert_memory_equal(&value, &reference, sizeof value);
    assert_near(value, (double)exact, ldexp(GROUPS / scale, -70) + 2 * 2.2e-16 * fabs(value));
}

static void shares_cover_all_items_once_and_differ_by_at_most_one(void **state)
{
    const hsgd_comm *comm = *state;

    for (int64_t items = 0; items < 40; items++) {
        int64_t at = 0;

        for (int r = 0; r < comm->ranks; r++) {
            int64_t low, high;

            hsgd_share(items, r, comm->ranks, &low, &high);
            assert_int_equal(low, at);
            assert_in_range(high - low, items / comm->ranks, items / comm->ranks + 1);
            at = high;
        }
        assert_int_equal(at, items);
    }
}

/* ---- groups of ranks ---- */

/* Which group a rank joins.  0: all the same one; 1: halves, as the density deals them; 2: by turns; 3: each its own. */
static int colour_of(int deal, int rank, int ranks)
{
    const int colours[] = {7, 2 * rank / ranks, rank % 2, rank};

    return colours[deal];
}

enum { DEALS = 4 };

/* How many of the ranks are in this one's group, and how many of them come before it. */
static void count_group(const hsgd_comm *comm, int deal, int *before, int *members)
{
    *before = *members = 0;
    for (int r = 0; r < comm->ranks; r++) {
        const bool mine = colour_of(deal, r, comm->ranks) == colour_of(deal, comm->rank, comm->ranks);

        *members += mine;
        *before += mine && r < comm->rank;
    }
}

static void a_group_has_its_ranks_in_order_and_sums_of_its_own(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};

    for (int deal = 0; deal < DEALS; deal++) {
        const int colour = colour_of(deal, comm->rank, comm->ranks);
        hsgd_comm *part = NULL;
        int before, members;
        int64_t sum = comm->rank, of_all = 1, expected = 0, least = -comm->rank, first = comm->rank;

        count_group(comm, deal, &before, &members);
        for (int r = 0; r < comm->ranks; r++) {
            expected += colour_of(deal, r, comm->ranks) == colour ? r : 0;
        }
        assert_ok(hsgd_comm_split(comm, colour, &part, &err));
        assert_int_equal(part->rank, before);
        assert_int_equal(part->ranks, members);
        assert_string_equal(part->host, comm->host);
        assert_string_equal(part->ops->name, comm->ops->name);
        assert_in_range(part->local_rank, 0, part->local_ranks - 1);
        if (comm->local_ranks == comm->ranks) { /* one node: the group's ranks are on it as well */
            assert_int_equal(part->local_rank, before);
            assert_int_equal(part->local_ranks, members);
        }
        assert_ok(hsgd_comm_sum(part, HSGD_TYPE_I64, 1, &sum, &err));
        assert_int_equal(sum, expected);
        assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &of_all, &err)); /* the whole goes on beside it */
        assert_int_equal(of_all, comm->ranks);
        assert_ok(hsgd_comm_max(part, HSGD_TYPE_I64, 1, &least, &err));
        assert_ok(hsgd_comm_broadcast(part, 0, sizeof first, &first, &err));
        assert_int_equal(first, -least);
        hsgd_comm_destroy(&part);
        assert_null(part);
    }
}

static void a_group_gathers_and_scatters_among_itself(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};

    for (int deal = 0; deal < DEALS; deal++) {
        const int colour = colour_of(deal, comm->rank, comm->ranks);
        hsgd_comm *part = NULL;
        int64_t counts[MOST_RANKS], send[2 * MOST_RANKS], all[2 * MOST_RANKS], mine[2];
        int64_t at = 0;

        assert_ok(hsgd_comm_split(comm, colour, &part, &err));
        for (int r = 0; r < part->ranks; r++) {
            counts[r] = 2;
        }
        send[0] = comm->rank;
        send[1] = colour;
        assert_ok(hsgd_comm_all_gather(part, HSGD_TYPE_I64, counts, send, all, &err));
        for (int r = 0; r < comm->ranks; r++) {
            if (colour_of(deal, r, comm->ranks) == colour) {
                assert_int_equal(all[at++], r);
                assert_int_equal(all[at++], colour);
            }
        }
        assert_int_equal(at, 2 * part->ranks);
        assert_ok(hsgd_comm_reduce_scatter(part, HSGD_TYPE_I64, counts, all, mine, &err));
        assert_int_equal(mine[0], (int64_t)part->ranks * comm->rank);
        assert_int_equal(mine[1], (int64_t)part->ranks * colour);
        hsgd_comm_destroy(&part);
    }
}

/* What one group agrees on is not the others' affair. */
static void groups_agree_each_for_itself(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_comm *part = NULL;
    hsgd_error err = {0};
    const int colour = colour_of(1, comm->rank, comm->ranks);
    const hsgd_status mine = comm->rank == 0 ? hsgd_error_set(&err, HSGD_ERR_NUMERIC, "the first rank knows") : HSGD_OK;

    assert_ok(hsgd_comm_split(comm, colour, &part, &err));
    assert_int_equal(hsgd_comm_agree(part, mine, &err), colour == 0 ? HSGD_ERR_NUMERIC : HSGD_OK);
    assert_string_equal(err.text, colour == 0 ? "the first rank knows" : "");
    hsgd_comm_destroy(&part);
}

static void groups_have_blocks_of_the_node_of_their_own(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    hsgd_comm *part = NULL;
    void *block = NULL, *handle = NULL, *of_all = NULL, *handle_of_all = NULL;
    const int colour = colour_of(2, comm->rank, comm->ranks);
    bool leader = false, leader_of_all = false;

    assert_ok(hsgd_comm_split(comm, colour, &part, &err));
    assert_ok(hsgd_comm_shared_alloc(comm, 8, &of_all, &leader_of_all, &handle_of_all, &err));
    assert_ok(hsgd_comm_shared_alloc(part, 8, &block, &leader, &handle, &err));
    assert_int_equal(leader, part->local_rank == 0);
    if (leader) {
        *(int64_t *)block = 100 + colour;
    }
    assert_ok(hsgd_comm_node_barrier(part, &err));
    assert_int_equal(*(const int64_t *)block, 100 + colour);
    hsgd_comm_shared_free(part, &handle);
    hsgd_comm_destroy(&part);
    if (leader_of_all) {
        *(int64_t *)of_all = 5;
    }
    assert_ok(hsgd_comm_node_barrier(comm, &err));
    assert_int_equal(*(const int64_t *)of_all, 5);
    hsgd_comm_shared_free(comm, &handle_of_all);
}

static void a_group_can_be_split_again(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    hsgd_comm *half = NULL, *alone = NULL;
    int64_t one = 1, members = 1;

    assert_ok(hsgd_comm_split(comm, colour_of(1, comm->rank, comm->ranks), &half, &err));
    assert_ok(hsgd_comm_split(half, half->rank, &alone, &err));
    assert_int_equal(alone->ranks, 1);
    assert_ok(hsgd_comm_sum(alone, HSGD_TYPE_I64, 1, &one, &err));
    assert_int_equal(one, 1);
    hsgd_comm_destroy(&alone);
    assert_ok(hsgd_comm_sum(half, HSGD_TYPE_I64, 1, &members, &err));
    assert_int_equal(members, half->ranks);
    hsgd_comm_destroy(&half);
}

static void a_negative_group_of_one_rank_is_an_error_of_all(void **state)
{
    hsgd_comm *comm = *state;
    hsgd_error err = {0};
    hsgd_comm *part = NULL;

    assert_int_equal(hsgd_comm_split(comm, comm->rank == comm->ranks - 1 ? -2 : 0, &part, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "a group of the number -2"));
    assert_null(part);
}

static void one_that_cannot_be_split_says_so(void **state)
{
    hsgd_comm whole = **(hsgd_comm **)state;
    hsgd_comm_ops ops = *whole.ops;
    hsgd_comm *part = NULL;
    hsgd_error err = {0};

    ops.split = NULL;
    whole.ops = &ops;
    assert_int_equal(hsgd_comm_split(&whole, 0, &part, &err), HSGD_ERR_USAGE);
    assert_non_null(strstr(err.text, "cannot be split"));
    assert_null(part);
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } properties[] = {
#define PROPERTY(name) {#name, name}
        PROPERTY(every_rank_has_its_own_number_and_a_place_on_a_node),
        PROPERTY(sums_and_maxima_are_the_same_on_every_rank),
        PROPERTY(reduce_scatter_gives_each_rank_its_part_of_the_sum),
        PROPERTY(all_gather_puts_the_parts_in_rank_order),
        PROPERTY(broadcast_carries_any_number_of_bytes_from_any_rank),
        PROPERTY(agreement_takes_the_worst_status_with_its_lowest_ranks_text),
        PROPERTY(agreement_tells_a_failure_of_one_rank_to_all),
        PROPERTY(agreement_without_failure_leaves_the_text_alone),
        PROPERTY(a_block_of_the_node_is_zeroed_aligned_and_seen_by_all_of_it),
        PROPERTY(blocks_of_the_node_do_not_meet),
        PROPERTY(sums_in_words_have_the_same_bits_however_the_groups_are_dealt),
        PROPERTY(shares_cover_all_items_once_and_differ_by_at_most_one),
        PROPERTY(a_group_has_its_ranks_in_order_and_sums_of_its_own),
        PROPERTY(a_group_gathers_and_scatters_among_itself),
        PROPERTY(groups_agree_each_for_itself),
        PROPERTY(groups_have_blocks_of_the_node_of_their_own),
        PROPERTY(a_group_can_be_split_again),
        PROPERTY(a_negative_group_of_one_rank_is_an_error_of_all),
        PROPERTY(one_that_cannot_be_split_says_so),
    };
    enum { PROPERTIES = sizeof properties / sizeof properties[0] };
    static const kind kinds[] = {SERIAL, LAUNCH, PIECES, NCCL};
    static const char *const names[] = {"serial", "launch", "launch in pieces", "nccl"};
#ifdef HSGD_EMULATED_NCCL
    enum { TESTS = 4 * PROPERTIES };
#else
    enum { TESTS = 3 * PROPERTIES };
#endif
    static char titles[TESTS][128];
    struct CMUnitTest tests[TESTS];

    for (size_t i = 0; i < TESTS; i++) {
        const size_t k = i / PROPERTIES, p = i % PROPERTIES;

        (void)snprintf(titles[i], sizeof titles[i], "%s: %s", names[k], properties[p].name);
        tests[i] = (struct CMUnitTest){titles[i], properties[p].run, setup, teardown, (void *)(uintptr_t)&kinds[k]};
    }
    return test_run(tests);
}
