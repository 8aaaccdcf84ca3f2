/* tests/curvature/test_block.c - mirrors src/curvature/block.c on an explicit matrix: rows and columns of it, to the bit.
 * ranks: 1 2 3 */
#include "curvature/block.h"
#include "solve/matrix.h"

enum { N = 40, ROWS = 16, COLUMNS = 5, AT_ONCE = 2 /* so that the last share is shorter */ };

static const hsgd_range RANGES[] = {{3, 5}, {20, 1}, {30, 10}};
static const hsgd_selection SELECTION = {RANGES, 3};

typedef struct {
    double a[N * N], x[COLUMNS * ROWS], y[COLUMNS * ROWS];
    matrix m;
    hsgd_space *space;
    hsgd_linop *block;
    hsgd_vector *in, *out;
} fixture;

/* The place in the full vector of row i of the block. */
static int64_t place_of(int64_t i)
{
    int64_t range = 0;

    for (; i >= RANGES[range].count; range++) {
        i -= RANGES[range].count;
    }
    return RANGES[range].first + i;
}

static void make(fixture *f)
{
    const hsgd_random stream = hsgd_random_stream(5, HSGD_RANDOM_TEST, 1);
    hsgd_linop *inner = NULL;
    hsgd_error err = {0};

    for (int64_t i = 0; i < N; i++) {
        for (int64_t j = 0; j <= i; j++) {
            f->a[i * N + j] = f->a[j * N + i] = hsgd_random_normal(&stream, (uint64_t)(i * N + j));
        }
    }
    for (int64_t i = 0; i < COLUMNS * ROWS; i++) {
        f->x[i] = hsgd_random_normal(&stream, (uint64_t)(N * N + i));
    }
    matrix_create(&f->m, N, f->a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_int_equal(hsgd_selection_rows(&SELECTION), ROWS);
    assert_ok(
        hsgd_space_create(ROWS, HSGD_SPREAD, HSGD_REDUCTION_REPRODUCIBLE, test_comm(), f->m.backend, &f->space, &err));
    assert_ok(hsgd_linop_create(f->m.space, &matrix_ops, &f->m, &inner, &err));
    assert_ok(hsgd_block_create(inner, &SELECTION, f->space, AT_ONCE, &f->block, &err));
    assert_ok(hsgd_vector_create(f->space, COLUMNS, &f->in, &err));
    assert_ok(hsgd_vector_create(f->space, COLUMNS, &f->out, &err));
    assert_ok(hsgd_vector_set_full(f->in, f->x, &err));
}

static void destroy(fixture *f)
{
    hsgd_vector_destroy(&f->out);
    hsgd_vector_destroy(&f->in);
    hsgd_linop_destroy(&f->block);
    hsgd_space_destroy(&f->space);
    matrix_destroy(&f->m);
}

/* The operator's rows add zeros for the columns that are not selected, so that no bit may differ. */
static void every_column_is_multiplied_by_the_selected_rows_and_columns(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    hsgd_error err = {0};

    (void)state;
    assert_non_null(f);
    make(f);
    assert_ok(hsgd_linop_apply(f->block, f->in, f->out, &err));
    assert_ok(hsgd_vector_gather(f->out, f->y, &err));
    for (int64_t c = 0; c < COLUMNS; c++) {
        for (int64_t i = 0; i < ROWS; i++) {
            double sum = 0.0;

            for (int64_t j = 0; j < ROWS; j++) {
                sum += f->a[place_of(i) * N + place_of(j)] * f->x[c * ROWS + j];
            }
            if (f->y[c * ROWS + i] != sum) {
                fail_msg("column %lld, row %lld: %.17g, not %.17g", (long long)c, (long long)i, f->y[c * ROWS + i],
                         sum);
            }
        }
    }
    destroy(f);
    free(f);
}

static void what_is_embedded_is_restricted_again(void **state)
{
    double small[COLUMNS * ROWS], full[COLUMNS * N], again[COLUMNS * ROWS];
    double inside = 0.0, everywhere = 0.0;

    (void)state;
    for (int64_t i = 0; i < COLUMNS * ROWS; i++) {
        small[i] = (double)(i + 1);
        inside += small[i];
    }
    hsgd_selection_embed(&SELECTION, COLUMNS, N, small, full);
    for (int64_t i = 0; i < COLUMNS * N; i++) {
        everywhere += full[i];
    }
    assert_true(everywhere == inside); /* integers: nothing but zeros beside them */
    hsgd_selection_restrict(&SELECTION, COLUMNS, N, full, again);
    assert_memory_equal(small, again, sizeof small);
    hsgd_selection_restrict(&SELECTION, COLUMNS, N, full, full); /* in place */
    assert_memory_equal(small, full, sizeof small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_column_is_multiplied_by_the_selected_rows_and_columns),
        cmocka_unit_test(what_is_embedded_is_restricted_again),
    };

    return test_run(tests);
}
