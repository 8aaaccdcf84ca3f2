/* tests/algebra/test_exchange.c - mirrors src/algebra/exchange.c: the same sums whichever way they take, and that they
 * take the way they should.  ranks: 1 2 3 * devices: cuda */
#include <stdlib.h>

#include "algebra/exchange.h"
#include "cpu/cpu.h"
#include "support.h"

/* What was done on the way. */
static struct {
    int stagings, releases, uploads, downloads, copies, device_calls, overlaps;
    bool full; /* staging memory is refused */
} seen;

static const hsgd_backend_ops *plain;   /* the CPU's */
static const hsgd_comm_ops *plain_comm; /* the launch's */

/* ---- a backend whose memory is not the host's, as far as anybody can tell ---- */

static hsgd_status staging_alloc(void *self, size_t bytes, void **host, hsgd_error *err)
{
    (void)self;
    if (seen.full) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: full");
    }
    seen.stagings++;
    *host = malloc(bytes);
    assert_non_null(*host);
    return HSGD_OK;
}

static void staging_release(void *self, void *host)
{
    (void)self;
    seen.releases += host != NULL;
    free(host);
}

static hsgd_status upload(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err)
{
    seen.uploads++;
    return plain->upload(self, bytes, host, memory, err);
}

static hsgd_status download(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err)
{
    seen.downloads++;
    return plain->download(self, bytes, memory, host, err);
}

static hsgd_status copy(void *self, int worker, size_t bytes, const void *from, void *to, hsgd_error *err)
{
    seen.copies++;
    return plain->copy(self, worker, bytes, from, to, err);
}

/* ---- a communicator that takes such memory ---- */

static hsgd_status device_sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    seen.device_calls++;
    return plain_comm->sum(self, type, count, data, err);
}

static hsgd_status device_reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send,
                                         void *receive, hsgd_error *err)
{
    seen.device_calls++;
    return plain_comm->reduce_scatter(self, type, counts, send, receive, err);
}

static hsgd_status device_all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                     hsgd_error *err)
{
    seen.device_calls++;
    return plain_comm->all_gather(self, type, counts, send, receive, err);
}

/* ---- a communicator that looks where host arrays lie ---- */

/* Words that are sent and received may not overlap (comm.h). */
static void look(const void *send, int64_t sent, const void *receive, int64_t received)
{
    const uintptr_t from = (uintptr_t)send, to = (uintptr_t)receive;

    seen.overlaps += to < from + (uintptr_t)sent * 8 && from < to + (uintptr_t)received * 8;
}

static int64_t total_of(const int64_t *counts)
{
    int64_t total = 0;

    for (int rank = 0; rank < test_comm()->ranks; rank++) {
        total += counts[rank];
    }
    return total;
}

static hsgd_status seen_reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send,
                                       void *receive, hsgd_error *err)
{
    look(send, total_of(counts), receive, counts[test_comm()->rank]);
    return plain_comm->reduce_scatter(self, type, counts, send, receive, err);
}

static hsgd_status seen_all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                   hsgd_error *err)
{
    look(send, counts[test_comm()->rank], receive, total_of(counts));
    return plain_comm->all_gather(self, type, counts, send, receive, err);
}

/* ---- the fixture: the CPU, the same in disguise, and the communicator that takes it ---- */

typedef struct {
    hsgd_backend *host, disguised;
    hsgd_backend_ops ops;
    hsgd_comm host_comm, device_comm;
    hsgd_comm_ops host_ops, device_ops;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    hsgd_error err = {0};

    assert_non_null(f);
    assert_ok(hsgd_backend_cpu_create(HSGD_DOUBLE, 1, &f->host, &err));
    plain = f->host->ops;
    f->ops = *plain;
    f->ops.staging_alloc = staging_alloc;
    f->ops.staging_release = staging_release;
    f->ops.upload = upload;
    f->ops.download = download;
    f->ops.copy = copy;
    f->disguised = *f->host;
    f->disguised.ops = &f->ops;
    f->disguised.host_memory = false;
    plain_comm = test_comm()->ops;
    f->host_ops = *plain_comm;
    f->host_ops.reduce_scatter = seen_reduce_scatter;
    f->host_ops.all_gather = seen_all_gather;
    f->host_comm = *test_comm();
    f->host_comm.ops = &f->host_ops;
    f->device_ops = *plain_comm;
    f->device_ops.device_sum = device_sum;
    f->device_ops.device_reduce_scatter = device_reduce_scatter;
    f->device_ops.device_all_gather = device_all_gather;
    f->device_comm = *test_comm();
    f->device_comm.ops = &f->device_ops;
    memset(&seen, 0, sizeof seen);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;

    hsgd_backend_destroy(&f->host);
    free(f);
    return 0;
}

/* ---- what all ways owe ---- */

enum { MOST_RANKS = 16, LONGEST = 100 };

/* Unequal, and none for rank 1. */
static int64_t shares(int64_t *counts)
{
    for (int rank = 0; rank < test_comm()->ranks; rank++) {
        counts[rank] = rank == 1 ? 0 : 5 + 3 * rank;
    }
    return total_of(counts);
}

/* Word i of rank `rank`: whole numbers, exact in both types. */
static int64_t number(int rank, int64_t i)
{
    return (rank + 1) * (1000 + i * i);
}

static int64_t sum_of_numbers(int64_t i)
{
    int64_t sum = 0;

    for (int rank = 0; rank < test_comm()->ranks; rank++) {
        sum += number(rank, i);
    }
    return sum;
}

/* count words of this rank in backend memory, to be released; and a check of count words there. */
static void *put(const hsgd_backend *b, hsgd_type type, int64_t count)
{
    int64_t whole[LONGEST];
    double real[LONGEST];
    void *memory = NULL;
    hsgd_error err = {0};

    for (int64_t i = 0; i < count; i++) {
        whole[i] = number(test_comm()->rank, i);
        real[i] = (double)whole[i];
    }
    assert_ok(b->ops->alloc(b->self, sizeof whole, &memory, &err));
    assert_ok(b->ops->upload(b->self, (size_t)count * sizeof *whole, type == HSGD_TYPE_I64 ? (void *)whole : real,
                             memory, &err));
    return memory;
}

static void get(const hsgd_backend *b, hsgd_type type, int64_t count, const void *memory, int64_t *out)
{
    double real[LONGEST];
    hsgd_error err = {0};

    assert_ok(b->ops->download(b->self, (size_t)count * sizeof *out, memory, type == HSGD_TYPE_I64 ? (void *)out : real,
                               &err));
    for (int64_t i = 0; i < count && type == HSGD_TYPE_F64; i++) {
        out[i] = (int64_t)real[i];
    }
}

static void check_sum(hsgd_exchange *e, hsgd_type type, int64_t total)
{
    void *x = put(e->backend, type, total);
    int64_t got[LONGEST];
    hsgd_error err = {0};

    assert_ok(hsgd_exchange_sum(e, type, total, x, &err));
    get(e->backend, type, total, x, got);
    for (int64_t i = 0; i < total; i++) {
        assert_int_equal(got[i], sum_of_numbers(i));
    }
    e->backend->ops->release(e->backend->self, x);
}

static void check_reduce_scatter(hsgd_exchange *e, hsgd_type type, int64_t total, const int64_t *counts)
{
    const int rank = test_comm()->rank;
    void *x = put(e->backend, type, total), *y = put(e->backend, type, 0);
    int64_t got[LONGEST], first = 0;
    hsgd_error err = {0};

    for (int r = 0; r < rank; r++) {
        first += counts[r];
    }
    assert_ok(hsgd_exchange_reduce_scatter(e, type, counts, x, y, &err));
    get(e->backend, type, counts[rank] + 1, y, got);
    for (int64_t i = 0; i < counts[rank]; i++) {
        assert_int_equal(got[i], sum_of_numbers(first + i));
    }
    assert_int_equal(got[counts[rank]], 0); /* nothing beyond the rank's own */
    e->backend->ops->release(e->backend->self, x);
    e->backend->ops->release(e->backend->self, y);
}

static void check_all_gather(hsgd_exchange *e, hsgd_type type, int64_t total, const int64_t *counts)
{
    void *x = put(e->backend, type, counts[test_comm()->rank]), *y = put(e->backend, type, 0);
    int64_t got[LONGEST], at = 0;
    hsgd_error err = {0};

    assert_ok(hsgd_exchange_all_gather(e, type, counts, x, y, &err));
    get(e->backend, type, total + 1, y, got);
    for (int rank = 0; rank < test_comm()->ranks; rank++) {
        for (int64_t i = 0; i < counts[rank]; i++) {
            assert_int_equal(got[at++], number(rank, i));
        }
    }
    assert_int_equal(got[total], 0);
    e->backend->ops->release(e->backend->self, x);
    e->backend->ops->release(e->backend->self, y);
}

/* All three, of both types.  Returns how many calls of the exchange that were. */
static int check_all(hsgd_exchange *e)
{
    int64_t counts[MOST_RANKS];
    const int64_t total = shares(counts);

    for (int type = HSGD_TYPE_I64; type <= HSGD_TYPE_F64; type++) {
        check_sum(e, (hsgd_type)type, total);
        check_reduce_scatter(e, (hsgd_type)type, total, counts);
        check_all_gather(e, (hsgd_type)type, total, counts);
    }
    return 6;
}

/* Words to reserve: all that check_all sends and receives. */
static int64_t needed(void)
{
    int64_t counts[MOST_RANKS];

    return 2 * shares(counts);
}

/* ---- the ways ---- */

static void host_memory_is_sent_as_it_is(void **state)
{
    fixture *f = *state;
    hsgd_exchange e = hsgd_exchange_of(&f->device_comm, f->host);
    hsgd_error err = {0};

    assert_ok(hsgd_exchange_reserve(&e, INT64_C(1) << 50, &err)); /* nothing is taken */
    assert_null(e.host);
    (void)check_all(&e);
    assert_int_equal(seen.device_calls, 0);
    hsgd_exchange_release(&e);
}

/* Whatever the launch names: on a GPU by way of pinned memory. */
static void the_backend_of_the_launch_is_served(void **state)
{
    hsgd_backend *b = NULL;
    hsgd_exchange e;
    hsgd_error err = {0};

    (void)state;
    assert_ok(test_backend_create(HSGD_SINGLE, 1, &b, &err));
    e = hsgd_exchange_of(test_comm(), b);
    assert_ok(hsgd_exchange_reserve(&e, needed(), &err));
    (void)check_all(&e);
    hsgd_exchange_release(&e);
    hsgd_backend_destroy(&b);
}

static void other_memory_goes_by_way_of_staging(void **state)
{
    fixture *f = *state;
    hsgd_exchange e = hsgd_exchange_of(&f->host_comm, &f->disguised);
    const bool staged = test_comm()->ranks > 1;
    hsgd_error err = {0};
    int calls = 0;

    assert_ok(hsgd_exchange_reserve(&e, needed(), &err));
    assert_int_equal(seen.stagings, staged);
    calls = check_all(&e);
    /* check_all itself puts 10 arrays and gets 6 */
    assert_int_equal(seen.uploads, 10 + (staged ? calls : 0));
    assert_int_equal(seen.downloads, 6 + (staged ? calls : 0));
    assert_int_equal(seen.stagings, staged);
    assert_int_equal(seen.overlaps, 0);
    hsgd_exchange_release(&e);
    assert_int_equal(seen.releases, seen.stagings);
    hsgd_exchange_release(&e); /* harmless */
    assert_int_equal(seen.releases, seen.stagings);
}

static void a_communicator_that_takes_device_memory_gets_it(void **state)
{
    fixture *f = *state;
    hsgd_exchange e = hsgd_exchange_of(&f->device_comm, &f->disguised);
    hsgd_error err = {0};
    int calls = 0;

    assert_ok(hsgd_exchange_reserve(&e, INT64_C(1) << 50, &err));
    calls = check_all(&e);
    assert_int_equal(seen.device_calls, test_comm()->ranks > 1 ? calls : 0);
    assert_int_equal(seen.stagings, 0);
    assert_int_equal(seen.uploads, 10);
    assert_int_equal(seen.downloads, 6);
    hsgd_exchange_release(&e);
    assert_int_equal(seen.releases, 0);
}

static void what_was_not_reserved_for_is_refused(void **state)
{
    fixture *f = *state;
    hsgd_exchange e = hsgd_exchange_of(&f->host_comm, &f->disguised);
    int64_t counts[MOST_RANKS], total = 0;
    void *x = put(&f->disguised, HSGD_TYPE_I64, 0), *y = put(&f->disguised, HSGD_TYPE_I64, 0);
    const hsgd_status expected = test_comm()->ranks > 1 ? HSGD_ERR_DEVICE : HSGD_OK;
    hsgd_error err = {0};

    for (int rank = 0; rank < test_comm()->ranks; rank++) {
        counts[rank] = 4;
        total += 4;
    }
    for (int round = 0; round < 2; round++) { /* nothing reserved; too little by one word */
        assert_int_equal(hsgd_exchange_sum(&e, HSGD_TYPE_I64, round == 0 ? 1 : total + 4, x, &err), expected);
        assert_int_equal(hsgd_exchange_reduce_scatter(&e, HSGD_TYPE_I64, counts, x, y, &err), expected);
        assert_int_equal(hsgd_exchange_all_gather(&e, HSGD_TYPE_I64, counts, x, y, &err), expected);
        assert_ok(hsgd_exchange_reserve(&e, total + 3, &err));
    }
    assert_ok(hsgd_exchange_reserve(&e, total + 4, &err));
    assert_ok(hsgd_exchange_sum(&e, HSGD_TYPE_I64, total + 4, x, &err));
    assert_ok(hsgd_exchange_reduce_scatter(&e, HSGD_TYPE_I64, counts, x, y, &err));
    assert_ok(hsgd_exchange_all_gather(&e, HSGD_TYPE_I64, counts, x, y, &err));
    hsgd_exchange_release(&e);
    plain->release(f->disguised.self, x);
    plain->release(f->disguised.self, y);
}

/* More takes new memory and ends the old; less takes none; where there is none left, what was there still serves. */
static void staging_memory_grows_and_survives_a_refusal(void **state)
{
    fixture *f = *state;
    hsgd_exchange e = hsgd_exchange_of(&f->host_comm, &f->disguised);
    const int staged = test_comm()->ranks > 1;
    hsgd_error err = {0};

    assert_ok(hsgd_exchange_reserve(&e, needed(), &err));
    assert_ok(hsgd_exchange_reserve(&e, 2 * needed(), &err));
    assert_ok(hsgd_exchange_reserve(&e, needed(), &err));
    assert_int_equal(seen.stagings, 2 * staged);
    assert_int_equal(seen.releases, staged);
    seen.full = true;
    assert_int_equal(hsgd_exchange_reserve(&e, 1000 * needed(), &err), staged ? HSGD_ERR_MEMORY : HSGD_OK);
    (void)check_all(&e);
    hsgd_exchange_release(&e);
    assert_int_equal(seen.releases, seen.stagings);
}

static void one_rank_copies_only_to_another_place(void **state)
{
    fixture *f = *state;
    hsgd_comm *serial = NULL;
    const int64_t counts[1] = {7}, none[1] = {0};
    void *x = put(&f->disguised, HSGD_TYPE_I64, 7), *y = put(&f->disguised, HSGD_TYPE_I64, 0);
    hsgd_exchange e;
    int64_t got[8];
    hsgd_error err = {0};

    assert_ok(hsgd_comm_serial_create(&serial, &err));
    e = hsgd_exchange_of(serial, &f->disguised);
    seen.uploads = 0;
    assert_ok(hsgd_exchange_sum(&e, HSGD_TYPE_I64, 7, x, &err));
    assert_ok(hsgd_exchange_reduce_scatter(&e, HSGD_TYPE_I64, counts, x, x, &err));
    assert_ok(hsgd_exchange_all_gather(&e, HSGD_TYPE_I64, counts, x, x, &err));
    assert_ok(hsgd_exchange_all_gather(&e, HSGD_TYPE_I64, none, NULL, y, &err));
    assert_int_equal(seen.copies, 0);
    for (int call = 0; call < 2; call++) {
        assert_ok(plain->zero(f->host->self, 0, sizeof got, y, &err));
        assert_ok(call == 0 ? hsgd_exchange_reduce_scatter(&e, HSGD_TYPE_I64, counts, x, y, &err)
                            : hsgd_exchange_all_gather(&e, HSGD_TYPE_I64, counts, x, y, &err));
        assert_int_equal(seen.copies, call + 1);
        get(f->host, HSGD_TYPE_I64, 8, y, got);
        for (int64_t i = 0; i < 8; i++) {
            assert_int_equal(got[i], i < 7 ? number(test_comm()->rank, i) : 0);
        }
    }
    assert_int_equal(seen.uploads + seen.downloads + seen.stagings, 0); /* nothing waits */
    hsgd_comm_destroy(&serial);
    plain->release(f->disguised.self, x);
    plain->release(f->disguised.self, y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(host_memory_is_sent_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(the_backend_of_the_launch_is_served, setup, teardown),
        cmocka_unit_test_setup_teardown(other_memory_goes_by_way_of_staging, setup, teardown),
        cmocka_unit_test_setup_teardown(a_communicator_that_takes_device_memory_gets_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_not_reserved_for_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(staging_memory_grows_and_survives_a_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(one_rank_copies_only_to_another_place, setup, teardown),
    };
    return test_run(tests);
}
