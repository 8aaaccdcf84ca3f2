/* tests/mpi/test_nccl_link.c - mirrors mpi/nccl_link.c: what is a failure of a running communicator and what is none,
 * how it is told, and that nothing hangs.
 * ranks: 1 2 4 */
#include "base/clock.h"
#include "mpi/nccl_fixture.h"

enum { MOST_RANKS = 64 };

static const double NOTED = 4.0; /* longer than a rank takes to hear of another's failure; the end waits for it */

static int until(void *argument)
{
    return hsgd_clock() >= *(const double *)argument;
}

static void a_long_computation_before_a_collective_is_no_stall(void **state)
{
    nccl_fixture f;
    const double end = hsgd_clock() + 3 * SHORT;
    int64_t *device = nccl_words(1), one = 1;
    hsgd_error err = {0};

    nccl_make(&f, SHORT, true, "");
    (void)state;
    assert_int_equal(cudaMemcpyAsync(device, &one, 8, cudaMemcpyHostToDevice, f.stream), cudaSuccess);
    assert_ok(nccl_wait(&f, &err));
    emulation_enqueue_polled(f.stream, until, &end, sizeof end);
    for (int i = 0; i < 2; i++) {
        assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err));
    }
    assert_ok(nccl_wait(&f, &err));
    assert_true(hsgd_clock() >= end);
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

/* Queue an all-reduce of 3 words and a reduce-scatter of one word more for each rank; wait. */
static hsgd_status work(const nccl_fixture *f, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *device = nccl_words(2 * MOST_RANKS), counts[MOST_RANKS];

    for (int r = 0; r < f->comm->ranks; r++) {
        counts[r] = r + 1;
    }
    HSGD_TRY(f->comm->ops->device_sum(f->comm->self, HSGD_TYPE_I64, 3, device, err));
    HSGD_TRY(
        f->comm->ops->device_reduce_scatter(f->comm->self, HSGD_TYPE_I64, counts, device, device + MOST_RANKS, err));
    HSGD_TRY(nccl_wait(f, err));
done:
    assert_int_equal(cudaStreamSynchronize(f->stream), cudaSuccess); /* the failure has freed the stream */
    assert_int_equal(cudaFree(device), cudaSuccess);
    return st;
}

/* All later calls give the text of the first failure, without joining others; the end ends all ranks. */
static void assert_fails_from_now_on(nccl_fixture *f, const hsgd_error *first)
{
    hsgd_comm *comm = f->comm;
    hsgd_error err = {0};
    int64_t counts[MOST_RANKS] = {1}, word = 0, other = 0, *device = nccl_words(1);
    void *block = NULL, *handle = NULL;
    bool leader = false;
    const int ranks = comm->ranks;

#define assert_still(call)                                                                                             \
    do {                                                                                                               \
        err = (hsgd_error){0};                                                                                         \
        assert_int_equal((call), HSGD_ERR_DEVICE);                                                                     \
        assert_string_equal(err.text, first->text);                                                                    \
    } while (0)
    assert_still(f->watch(f->context, &err));
    assert_still(comm->ops->device_sum(comm->self, HSGD_TYPE_I64, 1, device, &err));
    assert_still(comm->ops->device_reduce_scatter(comm->self, HSGD_TYPE_I64, counts, device, device, &err));
    assert_still(comm->ops->device_all_gather(comm->self, HSGD_TYPE_I64, counts, device, device, &err));
    assert_still(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &word, &err));
    assert_still(hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &word, &err));
    assert_still(hsgd_comm_reduce_scatter(comm, HSGD_TYPE_I64, counts, &word, &other, &err));
    assert_still(hsgd_comm_all_gather(comm, HSGD_TYPE_I64, counts, &word, &other, &err));
    assert_still(hsgd_comm_broadcast(comm, 0, 8, &word, &err));
    assert_still(hsgd_comm_agree(comm, HSGD_OK, &err));
    assert_still(hsgd_comm_shared_alloc(comm, 8, &block, &leader, &handle, &err));
    assert_still(hsgd_comm_node_barrier(comm, &err));
    assert_still(comm->ops->file_access(comm->self, 0, 0, &err));
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(f);
    assert_int_equal(exit_code_of_abort, ranks > 1 ? 6 : 0); /* alone, main's own exit code will do */
}

static void an_asynchronous_error_is_told_with_operation_rank_and_host(void **state)
{
    const int last = test_comm()->ranks - 1;
    nccl_fixture f;
    hsgd_error err = {0};

    nccl_make(&f, NOTED, false, fault("async-error", last, 1));
    (void)state;
    assert_int_equal(work(&f, &err), HSGD_ERR_DEVICE);
    assert_says(&err, "nccl: all-reduce of 3 words failed"); /* on the other ranks of the node too: by the note */
    assert_says(&err, place(last));
    assert_says(&err, "remote process exited or there was a network error");
    assert_says(&err, "--restart");
    assert_fails_from_now_on(&f, &err);
}

/* On other nodes the error of one rank is a stall. */
static void an_error_elsewhere_is_a_stall_here(void **state)
{
    const int last = test_comm()->ranks - 1, rank = test_comm()->rank;
    nccl_fixture f;
    hsgd_error err = {0};

    nccl_make(&f, SHORT, true, fault("async-error", last, 1));
    (void)state;
    assert_int_equal(work(&f, &err), HSGD_ERR_DEVICE);
    assert_says(&err, rank == last ? "failed" : "nccl: all-reduce of 3 words did not finish in 0.3 s");
    assert_says(&err, place(rank));
    assert_fails_from_now_on(&f, &err);
}

static void a_stall_is_told_with_operation_rank_and_host(void **state)
{
    const int ranks = test_comm()->ranks;
    char words[128];

    (void)state;
    (void)snprintf(words, sizeof words, "nccl: %s of %d words did not finish in 0.3 s", "reduce-scatter",
                   ranks * (ranks + 1) / 2);
    for (int alone = 0; alone < 2; alone++) {
        nccl_fixture f;
        hsgd_error err = {0};

        nccl_make(&f, SHORT, alone != 0, fault("stall", ranks - 1, 2));
        assert_int_equal(work(&f, &err), HSGD_ERR_DEVICE);
        assert_says(&err, words);
        assert_says(&err, alone ? place(f.comm->rank) : " on rank ");
        assert_says(&err, "(waiting for another rank)");
        assert_says(&err, "--restart");
        assert_fails_from_now_on(&f, &err);
    }
}

/* The oldest collective stalls while more are queued than are watched: the one that finds no room tells of it. */
static void a_stall_is_found_behind_a_full_queue(void **state)
{
    enum { MANY = 100 };
    nccl_fixture f;
    int64_t *device = nccl_words(3);
    hsgd_status st = HSGD_OK;
    hsgd_error err = {0};

    (void)state;
    nccl_make(&f, SHORT, false, fault("stall", test_comm()->ranks - 1, 1));
    st = f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 3, device, &err);
    for (int i = 0; i < MANY && st == HSGD_OK; i++) {
        st = f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err);
    }
    assert_int_equal(st, HSGD_ERR_DEVICE);
    assert_says(&err, "nccl: all-reduce of 3 words did not finish in 0.3 s");
    assert_int_equal(cudaStreamSynchronize(f.stream), cudaSuccess);
    assert_int_equal(cudaFree(device), cudaSuccess);
    assert_fails_from_now_on(&f, &err);
}

/* The call itself does not come to its end on one rank, and so its collective on none. */
static void a_call_that_stays_in_progress_is_given_up(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0};

    nccl_make(&f, SHORT, true, fault("in-progress-for-ever", 0, 1));
    (void)state;
    assert_int_equal(work(&f, &err), HSGD_ERR_DEVICE);
    assert_says(&err, "nccl: all-reduce of 3 words did not finish in 0.3 s");
    assert_says(&err, place(f.comm->rank));
    assert_fails_from_now_on(&f, &err);
}

static void a_call_that_nccl_refuses_is_told_and_ends_it(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0};
    int64_t on_host = 0;

    nccl_make(&f, SHORT, false, "");
    (void)state;
    assert_int_equal(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, &on_host, &err), HSGD_ERR_DEVICE);
    assert_says(&err, "nccl: all-reduce of 1 words failed");
    assert_says(&err, "ncclAllReduce: invalid argument");
    assert_fails_from_now_on(&f, &err);
}

/* Others may be long in coming: whoever ends first goes on after its patience. */
static void the_end_does_not_wait_for_ever(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0};
    const bool first = test_comm()->rank == 0;

    nccl_make(&f, SHORT, true, "");
    (void)state;
    if (first) {
        nccl_end(&f);
    }
    assert_int_equal(hsgd_comm_agree(test_comm(), HSGD_OK, &err), HSGD_OK);
    if (!first) {
        nccl_end(&f);
    }
    assert_int_equal(exit_code_of_abort, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_computation_before_a_collective_is_no_stall),
        cmocka_unit_test(an_asynchronous_error_is_told_with_operation_rank_and_host),
        cmocka_unit_test(an_error_elsewhere_is_a_stall_here),
        cmocka_unit_test(a_stall_is_told_with_operation_rank_and_host),
        cmocka_unit_test(a_stall_is_found_behind_a_full_queue),
        cmocka_unit_test(a_call_that_stays_in_progress_is_given_up),
        cmocka_unit_test(a_call_that_nccl_refuses_is_told_and_ends_it),
        cmocka_unit_test(the_end_does_not_wait_for_ever),
    };

    nccl_take_gpu(test_comm()->rank);
    return test_run(tests);
}
