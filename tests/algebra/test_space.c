/* tests/algebra/test_space.c - mirrors src/algebra/space.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "algebra/space.h"
#include "support.h"

static const int64_t lengths[] = {1, 2, 15, 16, 17, 100, 2048, 2049, 28938, 1000003};
enum { LENGTHS = sizeof lengths / sizeof *lengths, MOST_BLOCKS = 128 };

static int setup(void **state)
{
    hsgd_error err = {0};
    hsgd_backend *backend = NULL;

    assert_ok(test_backend_create(HSGD_DOUBLE, 1, &backend, &err));
    *state = backend;
    return 0;
}

static int teardown(void **state)
{
    hsgd_backend *backend = *state;

    hsgd_backend_destroy(&backend);
    return 0;
}

static hsgd_space *make(int64_t n, hsgd_layout layout, hsgd_comm *comm, const hsgd_backend *backend)
{
    hsgd_space *space = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_space_create(n, layout, HSGD_REDUCTION_REPRODUCIBLE, comm, backend, &space, &err));
    return space;
}

static void blocks_are_a_function_of_the_length_alone(void **state)
{
    hsgd_error err = {0};
    hsgd_comm *serial = NULL;

    assert_ok(hsgd_comm_serial_create(&serial, &err));
    for (int i = 0; i < LENGTHS; i++) {
        hsgd_space *space = make(lengths[i], HSGD_SPREAD, test_comm(), *state);
        hsgd_space *alone = make(lengths[i], HSGD_SPREAD, serial, *state);

        assert_int_equal(space->block, alone->block);
        assert_int_equal(space->blocks, alone->blocks);
        assert_int_equal(space->block % 16, 0);
        assert_in_range(space->blocks, 1, MOST_BLOCKS);
        assert_true(space->blocks * space->block >= lengths[i] && (space->blocks - 1) * space->block < lengths[i]);
        hsgd_space_destroy(&alone);
        hsgd_space_destroy(&space);
    }
    hsgd_comm_destroy(&serial);
}

static void every_row_has_one_rank_and_no_block_is_split(void **state)
{
    const hsgd_comm *comm = test_comm();

    for (int i = 0; i < LENGTHS; i++) {
        hsgd_space *space = make(lengths[i], HSGD_SPREAD, test_comm(), *state);
        int64_t low = 0;

        for (int rank = 0; rank < comm->ranks; rank++) {
            assert_true(space->counts[rank] >= 0);
            assert_true(low % space->block == 0 || low == space->n);
            if (rank == comm->rank) {
                assert_int_equal(space->low, low);
                assert_int_equal(space->high, low + space->counts[rank]);
            }
            low += space->counts[rank];
        }
        assert_int_equal(low, lengths[i]);
        hsgd_space_destroy(&space);
    }
}

static void ranks_beyond_the_blocks_hold_no_row(void **state)
{
    hsgd_space *space = make(17, HSGD_SPREAD, test_comm(), *state);

    assert_int_equal(space->blocks, 2);
    if (test_comm()->rank >= 2) {
        assert_int_equal(hsgd_space_rows(space), 0);
    }
    hsgd_space_destroy(&space);
}

static void a_replicated_space_holds_all_rows_everywhere(void **state)
{
    hsgd_space *space = make(1000, HSGD_REPLICATED, test_comm(), *state);
    int64_t sum = 0;

    assert_int_equal(space->low, 0);
    assert_int_equal(space->high, 1000);
    for (int rank = 0; rank < test_comm()->ranks; rank++) {
        sum += space->counts[rank];
    }
    assert_int_equal(sum, 1000); /* counts are the shares that spreading would give */
    hsgd_space_destroy(&space);
}

static void refuses_an_empty_vector(void **state)
{
    hsgd_space *space = NULL;
    hsgd_error err = {0};

    assert_int_equal(hsgd_space_create(0, HSGD_SPREAD, HSGD_REDUCTION_REPRODUCIBLE, test_comm(), *state, &space, &err),
                     HSGD_ERR_USAGE);
    assert_null(space);
    hsgd_space_destroy(&space); /* NULL is accepted */
}

/* Write to all of it: AddressSanitizer, or a device's checker, would find what is not there. */
static void fill(const hsgd_space *space, int kind, size_t bytes, void *memory)
{
    hsgd_error err = {0};

    if (kind == HSGD_SCRATCH_HOST) {
        memset(memory, 1, bytes);
    } else {
        assert_ok(space->backend->ops->zero(space->backend->self, 0, bytes, memory, &err));
    }
}

static void scratch_is_kept_and_grows(void **state)
{
    hsgd_space *space = make(100, HSGD_SPREAD, test_comm(), *state);
    hsgd_error err = {0};

    for (int kind = HSGD_SCRATCH_HOST; kind <= HSGD_SCRATCH_BACKEND; kind++) {
        void *first = NULL, *again = NULL, *larger = NULL;

        assert_ok(hsgd_space_scratch(space, (hsgd_scratch_kind)kind, 10000, &first, &err));
        fill(space, kind, 10000, first);
        assert_ok(hsgd_space_scratch(space, (hsgd_scratch_kind)kind, 10, &again, &err));
        assert_ptr_equal(first, again);
        assert_ok(hsgd_space_scratch(space, (hsgd_scratch_kind)kind, 10001, &larger, &err));
        fill(space, kind, 10001, larger);
        assert_ok(hsgd_space_scratch(space, (hsgd_scratch_kind)kind, 20000, &again, &err)); /* it was doubled */
        assert_ptr_equal(larger, again);
    }
    hsgd_space_destroy(&space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_are_a_function_of_the_length_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(every_row_has_one_rank_and_no_block_is_split, setup, teardown),
        cmocka_unit_test_setup_teardown(ranks_beyond_the_blocks_hold_no_row, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replicated_space_holds_all_rows_everywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_an_empty_vector, setup, teardown),
        cmocka_unit_test_setup_teardown(scratch_is_kept_and_grows, setup, teardown),
    };
    return test_run(tests);
}
