/* tests/cuda/test_memory.c - mirrors cuda/memory.c, transfer.c and hold.c: memory, its copies, and who waits for whom.
 * An emulated stream does its work late: what is read or overwritten too early is found out. */
#include "fixture.h"

enum { MIB = 1024 * 1024 };

static void memory_comes_zeroed(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    char got[1000];
    void *memory = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(b->ops->alloc(b->self, sizeof got, &memory, &err));
    assert_int_equal((uintptr_t)memory % 64, 0);
    memset(got, 1, sizeof got);
    assert_ok(b->ops->download(b->self, sizeof got, memory, got, &err));
    for (size_t i = 0; i < sizeof got; i++) {
        assert_int_equal(got[i], 0);
    }
    b->ops->release(b->self, memory);
    assert_ok(b->ops->alloc(b->self, 0, &memory, &err));
    b->ops->release(b->self, memory);
    b->ops->release(b->self, NULL);
    fixture_end(&f);
}

/* Lengths that fill segments exactly, overrun them, and leave odd remainders; more in all than the ring holds. */
static void uploads_may_overwrite_their_source_at_once(void **state)
{
    static const size_t lengths[] = {1,
                                     63,
                                     64,
                                     65,
                                     100000,
                                     HSGD_CUDA_SEGMENT - 64,
                                     HSGD_CUDA_SEGMENT,
                                     HSGD_CUDA_SEGMENT + 1,
                                     3 * HSGD_CUDA_SEGMENT + 17,
                                     7};
    enum { ROUNDS = 4, COUNT = sizeof lengths / sizeof lengths[0] };
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    unsigned char *host = malloc(4 * HSGD_CUDA_SEGMENT);
    void *memory[ROUNDS * COUNT];
    hsgd_error err = {0};

    (void)state;
    assert_non_null(host);
    for (int i = 0; i < ROUNDS * COUNT; i++) {
        assert_ok(b->ops->alloc(b->self, lengths[i % COUNT], &memory[i], &err));
    }
    for (int i = 0; i < ROUNDS * COUNT; i++) {
        for (size_t at = 0; at < lengths[i % COUNT]; at++) {
            host[at] = (unsigned char)(at * 7 + at / 251 + (size_t)i);
        }
        assert_ok(b->ops->upload(b->self, lengths[i % COUNT], host, memory[i], &err));
        memset(host, 0xee, lengths[i % COUNT]);
    }
    for (int i = 0; i < ROUNDS * COUNT; i++) {
        assert_ok(b->ops->download(b->self, lengths[i % COUNT], memory[i], host, &err));
        for (size_t at = 0; at < lengths[i % COUNT]; at++) {
            assert_int_equal(host[at], (unsigned char)(at * 7 + at / 251 + (size_t)i));
        }
        b->ops->release(b->self, memory[i]);
    }
    free(host);
    fixture_end(&f);
}

/* Queued work that tells whether it has run. */
static void note(void *argument)
{
    **(bool **)argument = true;
}

static void uploads_do_not_wait_while_the_ring_has_room(void **state)
{
    enum { BYTES = 8000, UPLOADS = HSGD_CUDA_SEGMENTS * (HSGD_CUDA_SEGMENT / BYTES) - 1 };
    static char host[BYTES];
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    bool ran = false, *flag = &ran;
    void *memory = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(b->ops->alloc(b->self, BYTES, &memory, &err));
    emulation_enqueue(f.device->stream, note, &flag, sizeof flag);
    for (int i = 0; i < UPLOADS; i++) {
        assert_ok(b->ops->upload(b->self, BYTES, host, memory, &err));
        assert_ok(b->ops->copy(b->self, 0, BYTES / 2, memory, (char *)memory + BYTES / 2, &err));
        assert_ok(b->ops->zero(b->self, 0, BYTES, memory, &err));
    }
    assert_false(ran);
    assert_ok(b->ops->download(b->self, 1, memory, host, &err));
    assert_true(ran);
    b->ops->release(b->self, memory);
    fixture_end(&f);
}

static void downloads_go_to_any_host_memory(void **state)
{
    enum { BYTES = HSGD_CUDA_LANDING + 12345 };
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    unsigned char *plain = malloc(BYTES), *got = malloc(BYTES);
    void *memory = NULL, *staged = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_true(plain != NULL && got != NULL);
    for (size_t i = 0; i < BYTES; i++) {
        plain[i] = (unsigned char)(i + i / 253);
    }
    assert_ok(b->ops->alloc(b->self, BYTES, &memory, &err));
    assert_ok(b->ops->staging_alloc(b->self, BYTES, &staged, &err));
    assert_ok(b->ops->upload(b->self, BYTES, plain, memory, &err));
    assert_ok(b->ops->download(b->self, BYTES, memory, got, &err));
    assert_memory_equal(got, plain, BYTES);
    assert_ok(b->ops->download(b->self, BYTES, memory, staged, &err));
    assert_memory_equal(staged, plain, BYTES);
    assert_ok(b->ops->download(b->self, 77, (char *)memory + 100, (char *)staged + BYTES - 77, &err));
    assert_memory_equal((char *)staged + BYTES - 77, plain + 100, 77);
    b->ops->staging_release(b->self, staged);
    b->ops->staging_release(b->self, NULL);
    b->ops->release(b->self, memory);
    free(plain);
    free(got);
    fixture_end(&f);
}

/* Released while a copy out of it is queued: the emulation fills what is freed. */
static void release_waits_for_queued_work(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    int number = 4711, got = 0;
    void *from = NULL, *to = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(b->ops->alloc(b->self, sizeof number, &from, &err));
    assert_ok(b->ops->alloc(b->self, sizeof number, &to, &err));
    assert_ok(b->ops->upload(b->self, sizeof number, &number, from, &err));
    assert_ok(b->ops->copy(b->self, 0, sizeof number, from, to, &err));
    b->ops->release(b->self, from);
    assert_ok(b->ops->download(b->self, sizeof got, to, &got, &err));
    assert_int_equal(got, 4711);
    b->ops->release(b->self, to);
    fixture_end(&f);
}

/* ---- hold ---- */

static int copies(const fixture *f)
{
    return f->device->held != NULL;
}

static void who_holds_the_same_memory_shares_its_copy(void **state)
{
    static const char host[] = "pixels of two thousand images";
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    const void *first = NULL, *second = NULL, *longer = NULL;
    char got[sizeof host];
    hsgd_error err = {0};

    (void)state;
    assert_ok(b->ops->hold(b->self, 10, host, &first, &err));
    assert_ok(b->ops->hold(b->self, 10, host, &second, &err));
    assert_ptr_equal(first, second);
    assert_ok(b->ops->hold(b->self, sizeof host, host, &longer, &err));
    assert_ptr_not_equal(longer, first);
    b->ops->let_go(b->self, host);
    b->ops->let_go(b->self, host);
    b->ops->let_go(b->self, NULL);
    assert_true(copies(&f)); /* one holder is left, and may be either */
    assert_ok(b->ops->download(b->self, sizeof host, longer, got, &err));
    assert_string_equal(got, host);
    assert_ok(b->ops->download(b->self, 10, first, got, &err));
    assert_memory_equal(got, host, 10);
    b->ops->let_go(b->self, host);
    assert_false(copies(&f));
    b->ops->let_go(b->self, host); /* nobody holds it */
    fixture_end(&f);
}

static void backends_of_a_device_share_what_is_held(void **state)
{
    static const char host[] = "labels";
    fixture f = fixture_make(HSGD_SINGLE, false);
    hsgd_backend *doubles = NULL;
    const void *first = NULL, *second = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_backend_cuda_create(f.device, HSGD_DOUBLE, &doubles, &err));
    assert_ok(f.backend->ops->hold(f.backend->self, sizeof host, host, &first, &err));
    assert_ok(doubles->ops->hold(doubles->self, sizeof host, host, &second, &err));
    assert_ptr_equal(first, second);
    doubles->ops->let_go(doubles->self, host);
    assert_true(copies(&f));
    backend_end(&doubles);
    fixture_end(&f); /* ends what is still held */
}

/* ---- want of memory ---- */

static void want_of_device_memory_is_told_with_figures(void **state)
{
    void *memory = NULL;
    size_t free = 0, total = 0;
    int number = 1;
    hsgd_error err = {0};

    (void)state;
    set("HSGD_EMULATION_MEMORY", "268435456");
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    assert_int_equal(b->ops->alloc(b->self, (size_t)300 * MIB, &memory, &err), HSGD_ERR_MEMORY);
    assert_null(memory);
    assert_non_null(strstr(err.text, "300.0 MiB"));
    assert_non_null(strstr(err.text, "256.0 MiB"));
    assert_non_null(strstr(err.text, "hessian.cache"));
    assert_int_equal(cudaPeekAtLastError(), cudaSuccess);    /* no later call finds it and takes it for its own */
    assert_ok(b->ops->memory(b->self, &free, &total, &err)); /* the device still works */
    assert_int_equal(total, (size_t)256 * MIB);
    assert_true(free < total && free > total / 2);
    assert_ok(b->ops->alloc(b->self, sizeof number, &memory, &err));
    assert_ok(b->ops->relu_value(b->self, 0, 1, memory, memory, &err));
    b->ops->release(b->self, memory);
    fixture_end(&f);
    set("HSGD_EMULATION_MEMORY", NULL);
}

static void want_of_pinned_memory_is_told(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    void *host = NULL;
    hsgd_error err = {0};

    (void)state;
    set("HSGD_EMULATION_FAIL", "cudaHostAlloc:1");
    assert_int_equal(f.backend->ops->staging_alloc(f.backend->self, MIB, &host, &err), HSGD_ERR_MEMORY);
    assert_null(host);
    assert_non_null(strstr(err.text, "1.0 MiB of host memory"));
    set("HSGD_EMULATION_FAIL", NULL);
    assert_ok(f.backend->ops->staging_alloc(f.backend->self, MIB, &host, &err));
    f.backend->ops->staging_release(f.backend->self, host);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_comes_zeroed),
        cmocka_unit_test(uploads_may_overwrite_their_source_at_once),
        cmocka_unit_test(uploads_do_not_wait_while_the_ring_has_room),
        cmocka_unit_test(downloads_go_to_any_host_memory),
        cmocka_unit_test(release_waits_for_queued_work),
        cmocka_unit_test(who_holds_the_same_memory_shares_its_copy),
        cmocka_unit_test(backends_of_a_device_share_what_is_held),
        cmocka_unit_test(want_of_device_memory_is_told_with_figures),
        cmocka_unit_test(want_of_pinned_memory_is_told),
    };
    return test_run(tests);
}
