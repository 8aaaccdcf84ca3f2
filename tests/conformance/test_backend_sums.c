/* tests/conformance/test_backend_sums.c - what happens around the layers on every backend: pixels in, group sums out,
 * groups over workers, vector algebra.
 * devices: cuda */
#include "operands.h"

/* ---- memory and pixels ---- */

static void check_memory(const hsgd_backend *b)
{
    unsigned char bytes[100], got[100];
    void *memory = NULL, *other = NULL, *nothing = NULL;
    hsgd_error err = {0};

    assert_ok(b->ops->alloc(b->self, sizeof bytes, &memory, &err));
    assert_true((uintptr_t)memory % 64 == 0);
    assert_ok(b->ops->download(b->self, sizeof got, memory, got, &err));
    for (size_t i = 0; i < sizeof got; i++) {
        assert_int_equal(got[i], 0);
        bytes[i] = (unsigned char)(i + 1);
    }
    assert_ok(b->ops->upload(b->self, sizeof bytes, bytes, memory, &err));
    assert_ok(b->ops->zero(b->self, 0, 50, memory, &err));
    assert_ok(b->ops->download(b->self, sizeof got, memory, got, &err));
    for (size_t i = 0; i < sizeof got; i++) {
        assert_int_equal(got[i], i < 50 ? 0 : i + 1);
    }
    assert_ok(b->ops->alloc(b->self, sizeof bytes, &other, &err));
    assert_ok(b->ops->copy(b->self, 0, 30, (char *)memory + 40, (char *)other + 1, &err));
    assert_ok(b->ops->download(b->self, sizeof got, other, got, &err));
    for (size_t i = 0; i < sizeof got; i++) {
        assert_int_equal(got[i], i < 11 || i >= 31 ? 0 : i + 40);
    }
    assert_ok(b->ops->alloc(b->self, 0, &nothing, &err));
    assert_ok(b->ops->upload(b->self, 0, NULL, nothing, &err));
    assert_ok(b->ops->download(b->self, 0, nothing, NULL, &err));
    b->ops->release(b->self, nothing);
    b->ops->release(b->self, other);
    b->ops->release(b->self, memory);
    b->ops->release(b->self, NULL);
}

static void memory_is_zeroed_aligned_and_copied(void **state)
{
    (void)state;
    on_all_backends(check_memory);
}

static void check_images(const hsgd_backend *b)
{
    enum { COUNT = 256, SAMPLES = 3 };
    static const int64_t index[] = {2, 0, 2};
    static const float means[] = {0.0f, 0.1307f}, deviations[] = {1.0f, 0.3081f};
    uint8_t pixels[SAMPLES * COUNT];
    double zero[SAMPLES * COUNT] = {0};
    void *x = to_backend(zero, SAMPLES * COUNT), *indices = put_bytes(index, sizeof index);
    const void *held = NULL;
    hsgd_error err = {0};

    for (int i = 0; i < SAMPLES * COUNT; i++) {
        pixels[i] = (uint8_t)(i * 7 + i / COUNT); /* 7 is prime to 256: every byte in every sample */
    }
    held = hold(pixels, sizeof pixels);
    for (int n = 0; n < 2; n++) {
        assert_ok(b->ops->images(b->self, 0, held, COUNT, SAMPLES, indices, means[n], deviations[n], x, &err));
        double *got = from_backend(x, SAMPLES * COUNT);
        for (int i = 0; i < SAMPLES * COUNT; i++) {
            const float share = (float)pixels[index[i / COUNT] * COUNT + i % COUNT] / 255.0f;
            const float centred = share - means[n];

            assert_true(got[i] == (double)(centred / deviations[n]));
        }
        free(got);
    }
    let_go(pixels);
    release(indices);
    release(x);
}

static void images_are_converted_in_float_exactly(void **state)
{
    (void)state;
    on_all_backends(check_images);
}

/* ---- sums over groups ---- */

enum { LENGTH = 203, GROUPS = 24 };

static int64_t *words_make(const hsgd_backend *b, void **sum)
{
    int64_t *host = calloc(2 * LENGTH + 1, sizeof *host);
    hsgd_error err = {0};

    assert_non_null(host);
    assert_ok(b->ops->alloc(b->self, (2 * LENGTH + 1) * sizeof(int64_t), sum, &err));
    return host;
}

/* Addends of all magnitudes, each in both signs, exact in float. */
static double *addends(void)
{
    double *x = draw_reals(LENGTH, 1);

    for (int64_t i = 0; i < LENGTH; i++) {
        x[i] = ldexp(x[i], (int)(i % 60) - 30);
    }
    return x;
}

static void check_reproducible_sums(const hsgd_backend *b)
{
    const double scale = hsgd_sum_scale(GROUPS);
    void *sums[WORKERS], *x[GROUPS], *total = NULL;
    int64_t *expected = words_make(b, &sums[0]), *got = words_make(b, &sums[1]);
    hsgd_error err = {0};

    for (int g = 0; g < GROUPS; g++) {
        double *host = addends();

        x[g] = to_backend(host, LENGTH);
        for (int64_t i = 0; i < LENGTH; i++) {
            (void)hsgd_sum_add(host[i], scale, &expected[i], &expected[LENGTH + i]);
        }
        free(host);
    }
    assert_ok(b->ops->alloc(b->self, (2 * LENGTH + 1) * sizeof(int64_t), &total, &err));
    for (int round = 0; round < 2; round++) { /* dealt out and ordered in two ways */
        assert_ok(b->ops->zero(b->self, 0, (2 * LENGTH + 1) * sizeof(int64_t), sums[0], &err));
        assert_ok(b->ops->zero(b->self, 0, (2 * LENGTH + 1) * sizeof(int64_t), sums[1], &err));
        for (int i = 0; i < GROUPS; i++) {
            const int g = round == 0 ? i : GROUPS - 1 - i, part = round == 0 ? i % WORKERS : i % 5 == 0;

            assert_ok(b->ops->accumulate(b->self, part % b->workers, HSGD_REDUCTION_REPRODUCIBLE, LENGTH, x[g], scale,
                                         sums[part], &err));
        }
        assert_ok(b->ops->merge(b->self, HSGD_REDUCTION_REPRODUCIBLE, 2 * LENGTH + 1, WORKERS, sums, total, &err));
        get_bytes(total, got, (2 * LENGTH + 1) * sizeof(int64_t));
        assert_memory_equal(got, expected, (2 * LENGTH + 1) * sizeof(int64_t));
    }
    for (int g = 0; g < GROUPS; g++) {
        release(x[g]);
    }
    release(sums[0]);
    release(sums[1]);
    release(total);
    free(expected);
    free(got);
}

static void reproducible_sums_are_the_same_words_in_any_order(void **state)
{
    (void)state;
    on_all_backends(check_reproducible_sums);
}

static void check_out_of_range(const hsgd_backend *b)
{
    const double x[] = {1.0, NAN, HSGD_SUM_LIMIT, -HSGD_SUM_LIMIT, INFINITY, 0.5 * HSGD_SUM_LIMIT, -INFINITY};
    enum { N = sizeof x / sizeof x[0] };
    void *memory = to_backend(x, N), *sum = NULL, *total = NULL;
    int64_t got[2 * N + 1];
    hsgd_error err = {0};

    assert_ok(b->ops->alloc(b->self, sizeof got, &sum, &err));
    assert_ok(b->ops->alloc(b->self, sizeof got, &total, &err));
    assert_ok(b->ops->accumulate(b->self, 0, HSGD_REDUCTION_REPRODUCIBLE, N, memory, 1.0, sum, &err));
    assert_ok(b->ops->accumulate(b->self, 0, HSGD_REDUCTION_REPRODUCIBLE, N, memory, 1.0, sum, &err));
    assert_ok(b->ops->merge(b->self, HSGD_REDUCTION_REPRODUCIBLE, 2 * N + 1, 1, &sum, total, &err));
    get_bytes(total, got, sizeof got);
    assert_int_equal(got[2 * N], 2 * 5);
    for (int i = 0; i < N; i++) {
        const double expected = fabs(x[i]) < HSGD_SUM_LIMIT ? 2 * x[i] : 0.0;

        assert_true(hsgd_sum_value(got[i], got[N + i], 1.0) == expected);
    }
    release(memory);
    release(sum);
    release(total);
}

static void sums_count_addends_out_of_range(void **state)
{
    (void)state;
    on_all_backends(check_out_of_range);
}

static void check_fast_sums(const hsgd_backend *b)
{
    double *first = draw_reals(LENGTH, 1), *second = draw_reals(LENGTH, 1), got[LENGTH];
    void *sums[WORKERS], *x = to_backend(first, LENGTH), *y = to_backend(second, LENGTH), *total = NULL;
    hsgd_error err = {0};

    assert_ok(b->ops->alloc(b->self, sizeof got, &total, &err));

    for (int w = 0; w < WORKERS; w++) {
        assert_ok(b->ops->alloc(b->self, sizeof got, &sums[w], &err));
    }
    assert_ok(b->ops->accumulate(b->self, 0, HSGD_REDUCTION_FAST, LENGTH, x, 0.0, sums[0], &err));
    assert_ok(b->ops->accumulate(b->self, 0, HSGD_REDUCTION_FAST, LENGTH, y, 0.0, sums[0], &err));
    assert_ok(b->ops->accumulate(b->self, b->workers - 1, HSGD_REDUCTION_FAST, LENGTH, x, 0.0, sums[1], &err));
    assert_ok(b->ops->merge(b->self, HSGD_REDUCTION_FAST, LENGTH, WORKERS, sums, total, &err));
    get_bytes(total, got, sizeof got);
    release(total);
    for (int64_t i = 0; i < LENGTH; i++) { /* sums of floats below 1: exact in double */
        assert_true(got[i] == 2 * first[i] + second[i]);
    }
    for (int w = 0; w < WORKERS; w++) {
        release(sums[w]);
    }
    release(x);
    release(y);
    free(first);
    free(second);
}

static void fast_sums_are_sums_in_double(void **state)
{
    (void)state;
    on_all_backends(check_fast_sums);
}

/* ---- groups over workers ---- */

enum { TASKS = 57 };

typedef struct {
    int calls[TASKS], worker[TASKS];
    int64_t fail_from; /* groups from here on fail with their number in the text */
} group_log;

static hsgd_status log_group(void *context, int worker, int64_t group, hsgd_error *err)
{
    group_log *log = context;

    log->calls[group]++;
    log->worker[group] = worker;
    if (group >= log->fail_from) {
        return hsgd_error_set(err, HSGD_ERR_NUMERIC, "group %d", (int)group);
    }
    return HSGD_OK;
}

static void check_groups(const hsgd_backend *b)
{
    for (int fixed = 0; fixed <= 1; fixed++) {
        group_log log = {.fail_from = TASKS}, again = {.fail_from = TASKS};
        hsgd_error err = {0};

        assert_ok(b->ops->for_groups(b->self, TASKS, fixed == 1, log_group, &log, &err));
        assert_ok(b->ops->for_groups(b->self, TASKS, fixed == 1, log_group, &again, &err));
        for (int g = 0; g < TASKS; g++) {
            assert_int_equal(log.calls[g], 1);
            assert_in_range(log.worker[g], 0, b->workers - 1);
            assert_true(fixed == 0 || log.worker[g] == again.worker[g]);
        }
        assert_ok(b->ops->for_groups(b->self, 0, fixed == 1, log_group, &log, &err));
    }
}

static void every_group_is_run_once(void **state)
{
    (void)state;
    on_all_backends(check_groups);
}

static void check_first_failure(const hsgd_backend *b)
{
    for (int fixed = 0; fixed <= 1; fixed++) {
        for (int64_t from = 0; from < TASKS; from += 7) {
            group_log log = {.fail_from = from};
            hsgd_error err = {0};
            char expected[32];

            (void)snprintf(expected, sizeof expected, "group %d", (int)from);
            assert_int_equal(b->ops->for_groups(b->self, TASKS, fixed == 1, log_group, &log, &err), HSGD_ERR_NUMERIC);
            assert_string_equal(err.text, expected);
            assert_int_equal(b->ops->for_groups(b->self, TASKS, fixed == 1, log_group, &log, NULL), HSGD_ERR_NUMERIC);
        }
    }
}

static void the_failure_of_the_lowest_group_is_reported(void **state)
{
    (void)state;
    on_all_backends(check_first_failure);
}

/* ---- vector algebra, in double on every backend ---- */

/* As sum_bound, for double whatever the backend's precision. */
static double double_bound(int64_t terms, double absolute)
{
    return 2.0 * (double)terms * DBL_EPSILON * absolute;
}

static void *upload_doubles(const hsgd_backend *b, const double *x, int64_t count)
{
    void *memory = NULL;
    hsgd_error err = {0};

    assert_ok(b->ops->alloc(b->self, (size_t)count * sizeof *x, &memory, &err));
    assert_ok(b->ops->upload(b->self, (size_t)count * sizeof *x, x, memory, &err));
    return memory;
}

static void check_gram_case(const hsgd_backend *b, int64_t rows, int64_t block, int64_t kx, int64_t ky)
{
    const int64_t ldx = rows + 3, ldy = rows + 1, blocks = (rows + block - 1) / block;
    double *x = draw_reals(kx * ldx, 1), *y = draw_reals(ky * ldy, 1);
    double *got = calloc((size_t)(blocks * kx * ky), sizeof *got), *alone = calloc((size_t)(kx * ky), sizeof *alone);
    void *partial = put_bytes(got, (size_t)(blocks * kx * ky) * sizeof *got);
    void *dx = upload_doubles(b, x, kx * ldx), *dy = upload_doubles(b, y, ky * ldy);
    hsgd_error err = {0};

    assert_true(got != NULL && alone != NULL);
    assert_ok(b->ops->gram(b->self, rows, block, kx, dx, ldx, ky, dy, ldy, partial, &err));
    get_bytes(partial, got, (size_t)(blocks * kx * ky) * sizeof *got);
    for (int64_t e = 0; e < blocks * kx * ky; e++) {
        const int64_t n = e / (kx * ky), i = e / ky % kx, j = e % ky;
        const int64_t low = n * block, high = low + block < rows ? low + block : rows;
        double sum = 0.0, absolute = 0.0;

        for (int64_t r = low; r < high; r++) {
            sum += x[i * ldx + r] * y[j * ldy + r];
            absolute += fabs(x[i * ldx + r] * y[j * ldy + r]);
        }
        check_near("gram", e, got[e], sum, double_bound(high - low, absolute));
    }
    for (int64_t n = 0; n < blocks; n++) { /* a block's products must not depend on its company: ranks hold others */
        const int64_t low = n * block, high = low + block < rows ? low + block : rows;

        assert_ok(b->ops->gram(b->self, high - low, block, kx, (const double *)dx + low, ldx, ky,
                               (const double *)dy + low, ldy, partial, &err));
        get_bytes(partial, alone, (size_t)(kx * ky) * sizeof *alone);
        for (int64_t e = 0; e < kx * ky; e++) {
            check_near("gram, one block alone", e, alone[e], got[n * kx * ky + e], 0.0);
        }
    }
    release(partial);
    release(dx);
    release(dy);
    free(alone);
    free(x);
    free(y);
    free(got);
}

/* All rows at once: the products of a single block, but for rounding. */
static void check_whole(const hsgd_backend *b, int64_t rows, int64_t kx, int64_t ky)
{
    double *x = draw_reals(kx * rows, 1), *y = draw_reals(ky * rows, 1), *c = draw_reals(kx * ky, 1);
    double *got = calloc((size_t)(kx * ky), sizeof *got), *moved = calloc((size_t)(ky * rows), sizeof *moved);
    void *dx = upload_doubles(b, x, kx * rows), *dy = upload_doubles(b, y, ky * rows);
    void *dc = upload_doubles(b, c, kx * ky), *partial = upload_doubles(b, got, kx * ky);
    hsgd_error err = {0};

    assert_true(got != NULL && moved != NULL);
    assert_ok(b->ops->gram(b->self, rows, 0, kx, dx, rows, ky, dy, rows, partial, &err));
    get_bytes(partial, got, (size_t)(kx * ky) * sizeof *got);
    assert_ok(b->ops->update(b->self, rows, 0, 0.5, kx, dx, rows, dc, ky, dy, rows, &err));
    get_bytes(dy, moved, (size_t)(ky * rows) * sizeof *moved);
    for (int64_t e = 0; e < kx * ky; e++) {
        double sum = 0.0;

        for (int64_t r = 0; r < rows; r++) {
            sum += x[e / ky * rows + r] * y[e % ky * rows + r];
        }
        check_near("gram of all rows", e, got[e], sum, double_bound(rows, (double)rows));
    }
    for (int64_t e = 0; e < ky * rows; e++) {
        double sum = y[e];

        for (int64_t i = 0; i < kx; i++) {
            sum += 0.5 * x[i * rows + e % rows] * c[i * ky + e / rows];
        }
        check_near("update of all rows", e, moved[e], sum, double_bound(2 * kx + 1, (double)kx + 1.0));
    }
    release(dx);
    release(dy);
    release(dc);
    release(partial);
    free(x);
    free(y);
    free(c);
    free(got);
    free(moved);
}

static void check_gram(const hsgd_backend *b)
{
    check_whole(b, 301, 4, 3);
    for (int number = 0; number < 12; number++) {
        check_gram_case(b, draw_between(1, 300), draw_between(1, 120), draw_between(1, 13), draw_between(1, 13));
    }
}

static void gram_multiplies_block_by_block(void **state)
{
    (void)state;
    on_all_backends(check_gram);
}

static void check_update_case(const hsgd_backend *b, int64_t rows, int64_t block, int64_t kx, int64_t ky)
{
    const int64_t ldx = rows + 2, ldy = rows + 5;
    double *x = draw_reals(kx * ldx, 1), *y = draw_reals(ky * ldy, 1), *c = draw_reals(kx * ky, 1);
    double *got = malloc((size_t)(ky * ldy) * sizeof *got), *alone = malloc((size_t)block * sizeof *alone);
    void *dx = upload_doubles(b, x, kx * ldx), *dy = upload_doubles(b, y, ky * ldy), *part = NULL;
    void *dc = upload_doubles(b, c, kx * ky);
    hsgd_error err = {0};

    assert_true(got != NULL && alone != NULL);
    assert_ok(b->ops->update(b->self, rows, block, -0.75, kx, dx, ldx, dc, ky, dy, ldy, &err));
    assert_ok(b->ops->download(b->self, (size_t)(ky * ldy) * sizeof *got, dy, got, &err));
    for (int64_t e = 0; e < ky * ldy; e++) {
        const int64_t j = e / ldy, r = e % ldy;
        double sum = y[e], absolute = fabs(y[e]);

        for (int64_t i = 0; i < kx && r < rows; i++) {
            sum -= 0.75 * x[i * ldx + r] * c[i * ky + j];
            absolute += fabs(x[i * ldx + r] * c[i * ky + j]);
        }
        check_near("update", e, got[e], sum, r < rows ? double_bound(2 * kx + 1, absolute) : 0.0);
    }
    const int64_t low = (rows - 1) / block * block; /* the last block alone gives the same bits */
    part = upload_doubles(b, y, ky * ldy);
    assert_ok(b->ops->update(b->self, rows - low, block, -0.75, kx, (const double *)dx + low, ldx, dc, ky,
                             (double *)part + low, ldy, &err));
    assert_ok(b->ops->download(b->self, (size_t)(rows - low) * sizeof *alone, (double *)part + low, alone, &err));
    for (int64_t r = low; r < rows; r++) {
        check_near("update, one block alone", r, alone[r - low], got[r], 0.0);
    }
    release(dc);
    release(dx);
    release(dy);
    release(part);
    free(x);
    free(y);
    free(c);
    free(got);
    free(alone);
}

static void check_update(const hsgd_backend *b)
{
    for (int number = 0; number < 12; number++) {
        check_update_case(b, draw_between(1, 300), draw_between(1, 120), draw_between(1, 13), draw_between(1, 13));
    }
}

static void update_adds_columns_block_by_block(void **state)
{
    (void)state;
    on_all_backends(check_update);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_copied),
        cmocka_unit_test(images_are_converted_in_float_exactly),
        cmocka_unit_test(reproducible_sums_are_the_same_words_in_any_order),
        cmocka_unit_test(sums_count_addends_out_of_range),
        cmocka_unit_test(fast_sums_are_sums_in_double),
        cmocka_unit_test(every_group_is_run_once),
        cmocka_unit_test(the_failure_of_the_lowest_group_is_reported),
        cmocka_unit_test(gram_multiplies_block_by_block),
        cmocka_unit_test(update_adds_columns_block_by_block),
    };

    return test_run(tests);
}
