/* tests/curvature/test_memory_flat.c - memory stays flat over 10,000 products: none of it is allocated in the loop, under a
 * limit that stands just above what the first products took.  ranks: 1 2 */
#include <malloc.h>
#include <sys/resource.h>
#include "fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0 /* the sanitizers': neither counted by glibc nor content with a limit */
#else
#define OWN_MALLOC 1
#endif

enum { WARM_UP = 1000, PRODUCTS = 10000, ROOM = 1 << 20 };

/* Every allocation of the program passes here, so that each can be counted. */
static int64_t allocations;

#if OWN_MALLOC
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    (void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    (void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    (void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_realloc(memory, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    (void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    (void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    (void)__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    *memory = __libc_memalign(alignment, bytes);
    return *memory != NULL ? 0 : 12; /* ENOMEM */
}
#endif

/* Bytes of this process's data, heap and private maps, as RLIMIT_DATA counts them. */
static rlim_t data_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long long kib = 0;

    assert_non_null(file);
    while (kib == 0 && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmData: %lld kB", &kib) != 1) {
            kib = 0;
        }
    }
    (void)fclose(file);
    assert_true(kib > 0);
    return (rlim_t)kib * 1024;
}

static void apply(hsgd_linop *op, const hsgd_vector *x, hsgd_vector *y, int count)
{
    hsgd_error err = {0};

    for (int i = 0; i < count; i++) {
        assert_ok(hsgd_linop_apply(op, x, y, &err));
    }
}

/* 10,000 products under a limit on memory; *counted: the allocations meanwhile, *grown: bytes in use more than before. */
static void measure(hsgd_comm *comm, int threads, int64_t *counted, int64_t *grown)
{
    const fixture_plan plan = {.layers = "conv 2 3 / relu / maxpool 2 / linear 3",
                               .edge = 4,
                               .classes = 3,
                               .groups = 2,
                               .precision = HSGD_SINGLE,
                               .comm = comm,
                               .threads = threads};
    fixture f = fixture_create(&plan);
    const hsgd_hessian_options options = options_of(&f, HSGD_OPERATOR_HESSIAN);
    hsgd_linop *op = operator_of(&f, &options);
    hsgd_vector *x = NULL, *y = NULL;
    double *full = normals(f.n, 0);
    struct rlimit before, limit;
    hsgd_error err = {0};

    assert_ok(hsgd_vector_create(f.spread, 1, &x, &err));
    assert_ok(hsgd_vector_create(f.spread, 1, &y, &err));
    assert_ok(hsgd_vector_set_full(x, full, &err));
    apply(op, x, y, WARM_UP);
    assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
    limit = before;
    limit.rlim_cur = data_bytes() + ROOM;
    if (OWN_MALLOC) {
        assert_int_equal(setrlimit(RLIMIT_DATA, &limit), 0);
    }
    *counted = allocations;
    *grown = (int64_t)mallinfo2().uordblks;
    apply(op, x, y, PRODUCTS);
    *counted = allocations - *counted;
    *grown = (int64_t)mallinfo2().uordblks - *grown;
    assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
    assert_int_equal(hsgd_linop_products(op), WARM_UP + PRODUCTS);
    free(full);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    hsgd_linop_destroy(&op);
    fixture_destroy(&f);
}

static void no_product_allocates(void **state)
{
    int64_t counted = 0, grown = 0;

    (void)state;
    if (test_comm()->ranks > 1) { /* the next test's */
        skip();
    }
    for (int threads = 1; threads <= 2; threads++) {
        measure(NULL, threads, &counted, &grown);
        assert_int_equal(counted, 0);
        assert_int_equal(grown, 0);
    }
}

/* MPI takes and returns memory of its own for each message, and keeps some in stock: but not a byte a product, where the
 * smallest piece of memory has 32. */
static void memory_stays_flat_on_several_ranks(void **state)
{
    int64_t counted = 0, grown = 0;

    (void)state;
    if (test_comm()->ranks == 1) {
        skip();
    }
    measure(test_comm(), 1, &counted, &grown);
    assert_true(grown < PRODUCTS);
}

static void an_allocation_would_be_counted(void **state)
{
    const int64_t before = allocations;
    void *volatile memory = malloc(1000);

    (void)state;
    free(memory);
    assert_int_equal(allocations - before, OWN_MALLOC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_allocation_would_be_counted),
        cmocka_unit_test(no_product_allocates),
        cmocka_unit_test(memory_stays_flat_on_several_ranks),
    };

    return test_run(tests);
}
