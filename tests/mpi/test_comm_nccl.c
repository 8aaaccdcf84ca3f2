/* tests/mpi/test_comm_nccl.c - mirrors mpi/comm_nccl.c and mpi/nccl_link.c: device arrays, and every way to fail.
 * What all communicators promise is in tests/conformance/test_comm.c.
 * ranks: 1 2 4 */
#include "base/clock.h"
#include "base/random.h"
#include "mpi/nccl_fixture.h"

enum { MOST_RANKS = 64, LONGEST = 10000 };

static const double PATIENT = 60.0; /* seconds: longer than any wait that ends well */
static const double SHORT = 0.3;
static const double NOTED = 4.0; /* longer than a rank takes to hear of another's failure; the end waits for it */

static void make(nccl_fixture *f, double timeout, bool alone, const char *fault)
{
    hsgd_error err = {0};

    assert_ok(nccl_try(f, test_comm()->rank, timeout, alone, fault, &err));
    assert_non_null(f->comm);
    assert_string_equal(f->why, "");
    assert_string_equal(f->comm->ops->name, "nccl");
}

/* Wait for the stream as the backend does. */
static hsgd_status wait_for(const nccl_fixture *f, hsgd_error *err)
{
    const struct timespec millisecond = {.tv_nsec = 1000 * 1000};

    while (cudaStreamQuery(f->stream) == cudaErrorNotReady) {
        const hsgd_status st = f->watch(f->context, err);

        if (st != HSGD_OK) {
            return st;
        }
        (void)nanosleep(&millisecond, NULL);
    }
    return HSGD_OK;
}

static void *on_device(size_t words)
{
    void *memory = NULL;

    assert_int_equal(cudaMalloc(&memory, 8 * words + 8), cudaSuccess);
    return memory;
}

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
    int64_t *device = on_device(LONGEST + 1);
    hsgd_error err = {0};

    make(&f, PATIENT, false, "");
    (void)state;
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        const int64_t n = lengths[l];

        fill(f.comm, n + 1, mine);
        memcpy(expected, mine, sizeof expected);
        assert_ok(hsgd_comm_sum(f.comm, HSGD_TYPE_I64, n, expected, &err)); /* a host array: the inner one's */
        copy(&f, device, mine, (size_t)n + 1, cudaMemcpyHostToDevice);
        assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, n, device, &err));
        copy(&f, mine, device, (size_t)n + 1, cudaMemcpyDeviceToHost);
        assert_ok(wait_for(&f, &err));
        assert_memory_equal(mine, expected, 8 * ((size_t)n + 1));
    }
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

static void device_sums_of_doubles_add_up(void **state)
{
    nccl_fixture f;
    double *device = on_device(3), host[3];
    hsgd_error err = {0};

    make(&f, PATIENT, false, "");
    (void)state;
    for (int i = 0; i < 3; i++) {
        host[i] = 0.5 * (f.comm->rank + 1) * (i + 1); /* exact */
    }
    copy(&f, device, host, 3, cudaMemcpyHostToDevice);
    assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_F64, 3, device, &err));
    copy(&f, host, device, 3, cudaMemcpyDeviceToHost);
    assert_ok(wait_for(&f, &err));
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
    int64_t *send = on_device(LONGEST), *receive = on_device(LONGEST), counts[MOST_RANKS];
    hsgd_error err = {0};

    make(&f, PATIENT, false, "");
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
        assert_ok(wait_for(&f, &err));
        assert_memory_equal(got, expected, 8 * ((size_t)part + 1));
        copy(&f, got, send, (size_t)total, cudaMemcpyDeviceToHost);
        assert_ok(wait_for(&f, &err));
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
    int64_t *send = on_device(LONGEST), *receive = on_device(LONGEST), counts[MOST_RANKS];
    hsgd_error err = {0};

    make(&f, PATIENT, false, "");
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
        assert_ok(wait_for(&f, &err));
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
    int64_t *device = on_device(1), *host = NULL;
    hsgd_error err = {0};

    make(&f, PATIENT, false, "");
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
    assert_ok(wait_for(&f, &err));
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
    int64_t *device = on_device(1), host = 1, expected = 1;
    hsgd_error err = {0};

    make(&f, PATIENT, false, "");
    (void)state;
    copy(&f, device, &host, 1, cudaMemcpyHostToDevice);
    for (int i = 0; i < MANY; i++) {
        assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err));
        expected = (int64_t)((uint64_t)expected * (uint64_t)f.comm->ranks);
    }
    copy(&f, &host, device, 1, cudaMemcpyDeviceToHost);
    assert_ok(wait_for(&f, &err));
    assert_true(host == expected);
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

static int until(void *argument)
{
    return hsgd_clock() >= *(const double *)argument;
}

static void a_long_computation_before_a_collective_is_no_stall(void **state)
{
    nccl_fixture f;
    const double end = hsgd_clock() + 3 * SHORT;
    int64_t *device = on_device(1), one = 1;
    hsgd_error err = {0};

    make(&f, SHORT, true, "");
    (void)state;
    copy(&f, device, &one, 1, cudaMemcpyHostToDevice);
    assert_ok(wait_for(&f, &err));
    emulation_enqueue_polled(f.stream, until, &end, sizeof end);
    for (int i = 0; i < 2; i++) {
        assert_ok(f.comm->ops->device_sum(f.comm->self, HSGD_TYPE_I64, 1, device, &err));
    }
    assert_ok(wait_for(&f, &err));
    assert_true(hsgd_clock() >= end);
    assert_int_equal(cudaFree(device), cudaSuccess);
    nccl_end(&f);
}

/* ---- the start ---- */

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

static char *fault(const char *kind, int rank, int at)
{
    static char text[64];

    (void)snprintf(text, sizeof text, "%s:%d:%d", kind, rank, at);
    return text;
}

/* " on rank R of HOST" of the launch's rank `rank`. */
static const char *place(int rank)
{
    static char text[128];

    (void)snprintf(text, sizeof text, " on rank %d of %s", rank, test_comm()->host);
    return text;
}

static void assert_says(const hsgd_error *err, const char *words)
{
    if (strstr(err->text, words) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", words, err->text);
    }
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
    hsgd_comm *inner = nccl_inner(false), *out = NULL;
    nccl_fixture f = {0};
    char bus_id[32], why[256];
    hsgd_nccl_options options = {.bus_id = bus_id, .timeout = PATIENT, .set_watch = nccl_set_watch, .device = &f};
    hsgd_error err = {0};

    (void)state;
    if (comm->ranks == 1) {
        free(inner);
        skip();
    }
    nccl_take_gpu(0);
    assert_int_equal(cudaStreamCreateWithFlags(&f.stream, cudaStreamNonBlocking), cudaSuccess);
    options.stream = f.stream;
    (void)snprintf(bus_id, sizeof bus_id, "MIG %d", comm->rank);
    assert_int_equal(hsgd_comm_nccl_create(inner, &options, &out, why, sizeof why, &err), HSGD_ERR_DEVICE);
    assert_null(out);
    assert_says(&err, "invalid usage");
    assert_says(&err, "Duplicate GPU");
    free(inner);
    nccl_end(&f);
}

/* ---- failures on the way ---- */

/* Queue an all-reduce of 3 words and a reduce-scatter of one word more for each rank; wait. */
static hsgd_status work(const nccl_fixture *f, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *device = on_device(2 * MOST_RANKS), counts[MOST_RANKS];

    for (int r = 0; r < f->comm->ranks; r++) {
        counts[r] = r + 1;
    }
    HSGD_TRY(f->comm->ops->device_sum(f->comm->self, HSGD_TYPE_I64, 3, device, err));
    HSGD_TRY(
        f->comm->ops->device_reduce_scatter(f->comm->self, HSGD_TYPE_I64, counts, device, device + MOST_RANKS, err));
    HSGD_TRY(wait_for(f, err));
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
    int64_t counts[MOST_RANKS] = {1}, word = 0, other = 0, *device = on_device(1);
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

    make(&f, NOTED, false, fault("async-error", last, 1));
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

    make(&f, SHORT, true, fault("async-error", last, 1));
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

        make(&f, SHORT, alone != 0, fault("stall", ranks - 1, 2));
        assert_int_equal(work(&f, &err), HSGD_ERR_DEVICE);
        assert_says(&err, words);
        assert_says(&err, alone ? place(f.comm->rank) : " on rank ");
        assert_says(&err, "(waiting for another rank)");
        assert_says(&err, "--restart");
        assert_fails_from_now_on(&f, &err);
    }
}

/* The call itself does not come to its end on one rank, and so its collective on none. */
static void a_call_that_stays_in_progress_is_given_up(void **state)
{
    nccl_fixture f;
    hsgd_error err = {0};

    make(&f, SHORT, true, fault("in-progress-for-ever", 0, 1));
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

    make(&f, SHORT, false, "");
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

    make(&f, SHORT, true, "");
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

static void the_version_has_three_numbers(void **state)
{
    char version[32];

    (void)state;
    hsgd_comm_nccl_version(version, sizeof version);
    assert_string_equal(version, "2.28.9");
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
        cmocka_unit_test(a_long_computation_before_a_collective_is_no_stall),
        cmocka_unit_test(two_ranks_on_one_gpu_are_told_of_on_all_ranks),
        cmocka_unit_test(a_start_that_fails_on_one_rank_fails_on_all),
        cmocka_unit_test(a_start_that_fails_on_one_node_is_told_in_the_words_of_that),
        cmocka_unit_test(a_start_without_end_is_given_up),
        cmocka_unit_test(nccls_own_words_are_passed_on),
        cmocka_unit_test(an_asynchronous_error_is_told_with_operation_rank_and_host),
        cmocka_unit_test(an_error_elsewhere_is_a_stall_here),
        cmocka_unit_test(a_stall_is_told_with_operation_rank_and_host),
        cmocka_unit_test(a_call_that_stays_in_progress_is_given_up),
        cmocka_unit_test(a_call_that_nccl_refuses_is_told_and_ends_it),
        cmocka_unit_test(the_end_does_not_wait_for_ever),
        cmocka_unit_test(the_version_has_three_numbers),
    };

    nccl_take_gpu(test_comm()->rank);
    return test_run(tests);
}
