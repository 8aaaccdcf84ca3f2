/* tests/mpi/test_comm_nccl.c - mirrors mpi/comm_nccl.c: device arrays, and every way for a start to fail.
 * What all communicators promise is in tests/conformance/test_comm.c.
 * ranks: 1 2 4 */
#include "base/random.h"
#include "mpi/nccl_fixture.h"

enum { MOST_RANKS = 64, LONGEST = 10000 };

#define NOTED 2.0 /* seconds: a failure is told by the node's note, long before; then the ranks wait for rank 0's end */

static void copy(const nccl_fixture *f, void *to, const void *from, size_t words, enum cudaMemcpyKind kind)
{
    assert_int_equal(cudaMemcpyAsync(to, from, 8 * words, kind, f->stream), cudaSuccess);
}

/* Words of a rank: large enough to wrap when they are added up. */
static void fill(const hsgd_comm *comm, int64_t n, int64_t *words)
{
    const hsgd_random stream = hsgd_random_stream(7, HSGD_RANDOM_TEST, (uint64_t)comm->rank);

    for (int64_t i = 0; i < n; i++) {
        words[i] = (int64_t)(hsgd_random_normal(&stream, (uint64_t)i) * 1e18);
    }
}

/* Parts of the ranks: 0: equal; 1: every third none; 2: only the last has any; 3: none; 4: longer than one round. */
static int64_t make_counts(const hsgd_comm *comm, int shape, int64_t *counts)
{
    int64_t total = 0;

    for (int r = 0; r < comm->ranks; r++) {
        const int64_t shapes[] = {5, (r % 3) * (r + 1), r == comm->ranks - 1 ? 11 : 0, 0, r % 2 ? 1 : 4500};

        counts[r] = shapes[shape];
        total += counts[r];
    }
    return total;
}

/* ---- device arrays ---- */

static void device_sums_have_the_bits_of_the_inner_communicators(void **state)
{
    static const int64_t lengths[] = {0, 1, 5, 4096, 4097, LONGEST};
    static int64_t mine[LONGEST + 1], expected[LONGEST + 1];
    nccl_fixture f;
    int64_t *device = nccl_words(LONGEST + 1);
    hsgd_error err = {0};

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        const int64_t n = lengths[l];

        fill(f.comm, n + 1, mine);
        memcpy(expected, mine, sizeof expected);
        assert_ok(hsgd_comm_sum(f.comm, HSGD_TYPE_I64, n, expected, &err)); /* a host array: the inner one's */
        copy(&f, device, mine, (size_t)n + 1, cudaMemcpyHostToDevice);
        assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, n, device, &err));
        copy(&f, mine, device, (size_t)n + 1, cudaMemcpyDeviceToHost);
        assert_ok(nccl_wait(&f, &err));
        assert_memory_equal(mine, expected, 8 * ((size_t)n + 1));
    }
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

static void device_sums_of_doubles_add_up(void **state)
{
    nccl_fixture f;
    double *device = nccl_words(3), host[3];
    hsgd_error err = {0};

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    for (int i = 0; i < 3; i++) {
        host[i] = 0.5 * (f.comm->rank + 1) * (i + 1); /* exact */
    }
    copy(&f, device, host, 3, cudaMemcpyHostToDevice);
    assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_F64, 3, device, &err));
    copy(&f, host, device, 3, cudaMemcpyDeviceToHost);
    assert_ok(nccl_wait(&f, &err));
    for (int i = 0; i < 3; i++) {
        assert_true(host[i] == 0.25 * f.comm->ranks * (f.comm->ranks + 1) * (i + 1));
    }
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

static void device_reduce_scatter_gives_each_rank_its_part(void **state)
{
    static int64_t mine[LONGEST], expected[LONGEST], got[LONGEST];
    nccl_fixture f;
    int64_t *send = nccl_words(LONGEST), *receive = nccl_words(LONGEST), counts[MOST_RANKS];
    hsgd_error err = {0};

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    for (int shape = 0; shape < 5; shape++) {
        const int64_t total = make_counts(f.comm, shape, counts), part = counts[f.comm->rank];

        assert_in_range(total, 0, LONGEST);
        fill(f.comm, total, mine);
        for (int64_t i = 0; i <= part; i++) {
            got[i] = expected[i] = 77;
        }
        assert_ok(hsgd_comm_reduce_scatter(f.comm, HSGD_TYPE_I64, counts, mine, expected, &err));
        copy(&f, send, mine, (size_t)total, cudaMemcpyHostToDevice);
        copy(&f, receive, got, (size_t)part + 1, cudaMemcpyHostToDevice);
        assert_ok(f.comm->ops->device_reduce_scatter(f.comm->self, HSGD_TYPE_I64, counts, send, receive, &err));
        copy(&f, got, receive, (size_t)part + 1, cudaMemcpyDeviceToHost);
        assert_ok(nccl_wait(&f, &err));
        assert_memory_equal(got, expected, 8 * ((size_t)part + 1));
        copy(&f, got, send, (size_t)total, cudaMemcpyDeviceToHost);
        assert_ok(nccl_wait(&f, &err));
        assert_memory_equal(got, mine, 8 * (size_t)total);
    }
    assert_int_equal(cudaFree(send), cudaSuccess);
    assert_int_equal(cudaFree(receive), cudaSuccess);
    nccl_end(&f);
}

static void device_all_gather_puts_the_parts_in_rank_order(void **state)
{
    static int64_t mine[LONGEST], expected[LONGEST], got[LONGEST];
    nccl_fixture f;
    int64_t *send = nccl_words(LONGEST), *receive = nccl_words(LONGEST), counts[MOST_RANKS];
    hsgd_error err = {0};

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    for (int shape = 0; shape < 5; shape++) {
        const int64_t total = make_counts(f.comm, shape, counts), part = counts[f.comm->rank];

        fill(f.comm, part, mine);
        got[total] = expected[total] = 77;
        assert_ok(hsgd_comm_all_gather(f.comm, HSGD_TYPE_F64, counts, mine, expected, &err));
        copy(&f, send, mine, (size_t)part, cudaMemcpyHostToDevice);
        copy(&f, receive, got, (size_t)total + 1, cudaMemcpyHostToDevice);
        assert_ok(f.comm->ops->device_all_gather(f.comm->self, HSGD_TYPE_F64, counts, send, receive, &err));
        copy(&f, got, receive, (size_t)total + 1, cudaMemcpyDeviceToHost);
        assert_ok(nccl_wait(&f, &err));
        assert_memory_equal(got, expected, 8 * ((size_t)total + 1));
    }
    assert_int_equal(cudaFree(send), cudaSuccess);
    assert_int_equal(cudaFree(receive), cudaSuccess);
    nccl_end(&f);
}

/* Copies and sums one behind the other: each sees what stood before it, and nothing happens before somebody waits. */
static void collectives_keep_their_place_in_the_stream(void **state)
{
    nccl_fixture f;
    const int64_t ranks = test_comm()->ranks;
    int64_t *device = nccl_words(1), *host = NULL;
    hsgd_error err = {0};

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    assert_int_equal(cudaMallocHost((void **)&host, 4 * sizeof *host), cudaSuccess);
    host[0] = 1;
    host[1] = host[2] = host[3] = -1;
    copy(&f, device, &host[0], 1, cudaMemcpyHostToDevice);
    assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err));
    copy(&f, &host[1], device, 1, cudaMemcpyDeviceToHost);
    assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err));
    copy(&f, &host[2], device, 1, cudaMemcpyDeviceToHost);
    copy(&f, device, &host[0], 1, cudaMemcpyHostToDevice);
    copy(&f, &host[3], device, 1, cudaMemcpyDeviceToHost);
    assert_int_equal(host[1], -1);
    assert_int_equal(host[2], -1);
    assert_int_equal(host[3], -1);
    assert_ok(nccl_wait(&f, &err));
    assert_int_equal(host[1], ranks);
    assert_int_equal(host[2], ranks * ranks);
    assert_int_equal(host[3], 1);
    assert_int_equal(cudaFreeHost(host), cudaSuccess);
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

static void more_collectives_may_be_queued_than_are_watched(void **state)
{
    enum { MANY = 200 };
    nccl_fixture f;
    int64_t *device = nccl_words(1), host = 1, expected = 1;
    hsgd_error err = {0};

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    copy(&f, device, &host, 1, cudaMemcpyHostToDevice);
    for (int i = 0; i < MANY; i++) {
        assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err));
        expected = (int64_t)((uint64_t)expected * (uint64_t)f.comm->ranks);
    }
    copy(&f, &host, device, 1, cudaMemcpyDeviceToHost);
    assert_ok(nccl_wait(&f, &err));
    assert_true(host == expected);
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

/* ---- the start ---- */

/* ---- groups ---- */

/* Sum two words from the device over `comm`, on the stream that the whole uses too. */
static void assert_device_sum(const nccl_fixture *f, hsgd_comm *comm, int64_t mine, int64_t expected)
{
    int64_t *device = nccl_words(2), host[2] = {mine, -mine};
    hsgd_error err = {0};

    copy(f, device, host, 2, cudaMemcpyHostToDevice);
    assert_ok(comm->ops->device_sum(comm->self, HSGD_TYPE_I64, 2, device, &err));
    copy(f, host, device, 2, cudaMemcpyDeviceToHost);
    assert_ok(nccl_wait(f, &err));
    assert_int_equal(host[0], expected);
    assert_int_equal(host[1], -expected);
    assert_int_equal(cudaFree(device), cudaSuccess);
}

static void groups_and_the_whole_take_turns_on_the_stream(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0};
    const int ranks = test_comm()->ranks, rank = test_comm()->rank, half = (ranks + 1) / 2;
    const int64_t low = half * (half - 1) / 2, all = ranks * (ranks - 1) / 2;

    nccl_make(&f, PATIENT, false, "");
    (void)state;
    for (int round = 0; round < 2; round++) {
        hsgd_comm *part = NULL;

        assert_ok(hsgd_comm_split(f.comm, rank >= half, &part, &err));
        assert_string_equal(part->ops->name, "nccl");
        assert_device_sum(&f, part, rank, rank >= half ? all - low : low);
        assert_device_sum(&f, f.comm, rank, all);
        assert_device_sum(&f, part, rank, rank >= half ? all - low : low);
        hsgd_comm_destroy(&part);
        assert_device_sum(&f, f.comm, rank, all);
    }
    nccl_end(&f);
}

/* The node's ranks hear of it whatever group they are in, and nobody waits in a call of the whole. */
static void a_failure_in_a_group_is_one_of_the_whole(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0}, later = {0};
    hsgd_comm *part = NULL;
    int64_t *device = nccl_words(1), word = 1;
    const int ranks = test_comm()->ranks, rank = test_comm()->rank;
    hsgd_status st;

    nccl_make(&f, NOTED, false, "");
    (void)state;
    assert_int_equal(setenv("HSGD_EMULATION_NCCL", rank == ranks - 1 ? "async-error:0:1" : "", 1), 0);
    assert_ok(hsgd_comm_split(f.comm, rank, &part, &err)); /* one rank each: it is number 0 there */
    st = part->ops->device_sum(part->self, HSGD_TYPE_I64, 1, device, &err);
    st = st == HSGD_OK ? nccl_wait(&f, &err) : st;
    if (rank == ranks - 1) {
        assert_int_equal(st, HSGD_ERR_DEVICE);
        assert_says(&err, "nccl: all-reduce of 1 words failed");
        assert_says(&err, place(rank)); /* its number in the whole */
    }
    while (hsgd_comm_sum(f.comm, HSGD_TYPE_I64, 0, &word, &later) == HSGD_OK) { /* no data: nobody waits */
    }
    assert_says(&later, place(ranks - 1));
    hsgd_comm_destroy(&part);
    nccl_end(&f);
    assert_int_equal(cudaFree(device), cudaSuccess);
    assert_int_equal(exit_code_of_abort, ranks > 1 ? 6 : 0);
}

/* A group that does not come about is none for the others either, who have one. */
static void a_start_that_fails_in_one_group_fails_in_all(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0};
    hsgd_comm *part = NULL;
    const int ranks = test_comm()->ranks, rank = test_comm()->rank;

    nccl_make(&f, NOTED, false, "");
    (void)state;
    assert_int_equal(setenv("HSGD_EMULATION_NCCL", rank == ranks - 1 ? "init-fails:0" : "", 1), 0);
    assert_int_equal(hsgd_comm_split(f.comm, rank, &part, &err), HSGD_ERR_DEVICE);
    assert_null(part);
    assert_says(&err, "ncclCommInitRankConfig");
    assert_says(&err, place(ranks - 1));
    nccl_end(&f);
}

static void two_ranks_on_one_gpu_are_told_of_on_all_ranks(void **state)
{
    hsgd_comm *comm = test_comm();
    nccl_fixture f;
    hsgd_error err = {0};
    char why[256];
    int64_t one = 1;

    (void)state;
    if (comm->ranks == 1) {
        skip();
    }
    (void)snprintf(why, sizeof why,
                   "nccl: ranks %d and %d share GPU 0000:%02X:00.0 of %s; device arrays go through host memory",
                   comm->ranks == 2 ? 0 : 1, comm->ranks - 1, comm->ranks == 2 ? 4 : 2, comm->host);
    /* of two ranks both, of four the second and the last */
    assert_ok(nccl_try(&f,
                       comm->ranks == 2                ? 3
                       : comm->rank == comm->ranks - 1 ? 1
                                                       : comm->rank,
                       PATIENT, false, "", &err));
    assert_null(f.comm);
    assert_string_equal(f.why, why);
    assert_null(f.watch);
    nccl_end(&f);
    assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &one, &err));
    assert_int_equal(one, comm->ranks);
}

/* The start fails on all ranks with one text; the inner communicator serves on. */
static void assert_no_start(double timeout, bool alone, const char *what, const char *words, const char *where)
{
    hsgd_comm *comm = test_comm();
    nccl_fixture f;
    hsgd_error err = {0}, theirs;
    int64_t one = 1;

    assert_int_equal(nccl_try(&f, comm->rank, timeout, alone, what, &err), HSGD_ERR_DEVICE);
    assert_null(f.comm);
    assert_says(&err, words);
    assert_says(&err, where);
    assert_says(&err, "device.allreduce = mpi");
    theirs = err;
    assert_ok(hsgd_comm_broadcast(comm, 0, sizeof theirs.text, theirs.text, &err));
    assert_string_equal(theirs.text, err.text);
    nccl_end(&f);
    assert_ok(hsgd_comm_sum(comm, HSGD_TYPE_I64, 1, &one, &err));
    assert_int_equal(one, comm->ranks);
}

static void a_start_that_fails_on_one_rank_fails_on_all(void **state)
{
    const int last = test_comm()->ranks - 1;

    (void)state;
    assert_no_start(PATIENT, false, fault("init-fails", last, 0), "ncclCommInitRankConfig: unhandled system error",
                    place(last));
}

/* Ranks on other nodes learn it after their own patience; the rank that knows the cause speaks all the same. */
static void a_start_that_fails_on_one_node_is_told_in_the_words_of_that(void **state)
{
    const int last = test_comm()->ranks - 1;

    (void)state;
    assert_no_start(SHORT, true, fault("init-fails", last, 0), "ncclCommInitRankConfig: unhandled system error",
                    place(last));
}

static void a_start_without_end_is_given_up(void **state)
{
    (void)state;
    assert_no_start(SHORT, false, fault("in-progress-for-ever", 0, 0), "did not finish in 0.3 s", " on rank ");
    assert_no_start(SHORT, true, fault("in-progress-for-ever", 0, 0), "did not finish in 0.3 s", place(0));
}

/* Where the ids tell GPUs apart that are one, NCCL itself refuses. */
static void nccls_own_words_are_passed_on(void **state)
{
    hsgd_comm *comm = test_comm();
    hsgd_comm *out = NULL;
    nccl_fixture f = {0};
    char bus_id[32], why[256];
    hsgd_nccl_options options = {.bus_id = bus_id, .timeout = PATIENT, .set_watch = nccl_set_watch, .device = &f};
    hsgd_error err = {0};

    (void)state;
    if (comm->ranks == 1) {
        skip();
    }
    nccl_take_gpu(0);
    assert_int_equal(cudaStreamCreateWithFlags(&f.stream, cudaStreamNonBlocking), cudaSuccess);
    f.inner = nccl_inner(false);
    options.stream = f.stream;
    (void)snprintf(bus_id, sizeof bus_id, "MIG %d", comm->rank);
    assert_int_equal(hsgd_comm_nccl_create(f.inner, &options, &out, why, sizeof why, &err), HSGD_ERR_DEVICE);
    assert_null(out);
    assert_says(&err, "invalid usage");
    assert_says(&err, "Duplicate GPU");
    nccl_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_sums_have_the_bits_of_the_inner_communicators),
        cmocka_unit_test(device_sums_of_doubles_add_up),
        cmocka_unit_test(device_reduce_scatter_gives_each_rank_its_part),
        cmocka_unit_test(device_all_gather_puts_the_parts_in_rank_order),
        cmocka_unit_test(collectives_keep_their_place_in_the_stream),
        cmocka_unit_test(more_collectives_may_be_queued_than_are_watched),
        cmocka_unit_test(groups_and_the_whole_take_turns_on_the_stream),
        cmocka_unit_test(a_failure_in_a_group_is_one_of_the_whole),
        cmocka_unit_test(a_start_that_fails_in_one_group_fails_in_all),
        cmocka_unit_test(two_ranks_on_one_gpu_are_told_of_on_all_ranks),
        cmocka_unit_test(a_start_that_fails_on_one_rank_fails_on_all),
        cmocka_unit_test(a_start_that_fails_on_one_node_is_told_in_the_words_of_that),
        cmocka_unit_test(a_start_without_end_is_given_up),
        cmocka_unit_test(nccls_own_words_are_passed_on),
    };

    nccl_take_gpu(test_comm()->rank);
    return test_run(tests);
}
