/* tests/cuda/test_blas.c - mirrors cuda/blas.c and tall.cu: products of tall columns, in blocks of rows or all at once. */
#include "fixture.h"

/* kx and ky columns of `rows` rows, leading dimensions rows + gap; block 0: all rows. */
typedef struct {
    int64_t rows, block, kx, ky, gap_x, gap_y;
} variant;

static const variant variants[] = {
    {64, 16, 1, 1, 0, 0}, {70, 16, 3, 2, 0, 0}, {70, 16, 3, 2, 1, 0},   {71, 16, 2, 5, 0, 0},
    {71, 16, 2, 5, 1, 2}, {5, 16, 4, 4, 0, 1},  {33, 11, 2, 3, 0, 0},   {33, 11, 2, 3, 1, 1},
    {70, 0, 3, 2, 1, 0},  {71, 0, 1, 1, 0, 0},  {500, 130, 2, 3, 0, 1},
};

/* A matrix of columns in backend memory, as one operand of one column (so that the gaps are looked at too). */
static operand matrix(const fixture *f, int64_t ld, int64_t k)
{
    return operand_make(f, ld * k, 1, false);
}

static void check_gram(const fixture *f, const variant *v)
{
    const int64_t ldx = v->rows + v->gap_x, ldy = v->rows + v->gap_y;
    const int64_t block = v->block > 0 ? v->block : v->rows, blocks = (v->rows + block - 1) / block;
    operand x = matrix(f, ldx, v->kx), y = matrix(f, ldy, v->ky), partial = matrix(f, v->kx * v->ky, blocks);
    hsgd_error err = {0};

    assert_ok(f->backend->ops->gram(f->backend->self, v->rows, v->block, v->kx, x.columns.data, ldx, v->ky,
                                    y.columns.data, ldy, partial.columns.data, &err));
    for (int64_t i = 0; i < blocks * v->kx * v->ky; i++) {
        partial.host[i] = 0.0;
    }
    for (int64_t r = 0; r < v->rows; r++) {
        for (int64_t i = 0; i < v->kx * v->ky; i++) {
            partial.host[r / block * v->kx * v->ky + i] += x.host[i / v->ky * ldx + r] * y.host[i % v->ky * ldy + r];
        }
    }
    operand_check(f, &partial, "gram");
    operand_check(f, &x, "x of gram");
    operand_check(f, &y, "y of gram");
    operand_free(f, &x);
    operand_free(f, &y);
    operand_free(f, &partial);
}

static void check_update(const fixture *f, const variant *v)
{
    const int64_t ldx = v->rows + v->gap_x, ldy = v->rows + v->gap_y;
    operand x = matrix(f, ldx, v->kx), y = matrix(f, ldy, v->ky), c = matrix(f, v->kx, v->ky);
    const double a = -0.5;
    hsgd_error err = {0};

    assert_ok(f->backend->ops->update(f->backend->self, v->rows, v->block, a, v->kx, x.columns.data, ldx,
                                      c.columns.data, v->ky, y.columns.data, ldy, &err));
    for (int64_t r = 0; r < v->rows; r++) {
        for (int64_t i = 0; i < v->kx * v->ky; i++) {
            y.host[i % v->ky * ldy + r] += a * x.host[i / v->ky * ldx + r] * c.host[i];
        }
    }
    operand_check(f, &y, "update");
    operand_check(f, &x, "x of update");
    operand_free(f, &x);
    operand_free(f, &y);
    operand_free(f, &c);
}

static void products_are_those_of_plain_loops(void **state)
{
    fixture f = fixture_make(HSGD_DOUBLE, false);

    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        check_gram(&f, &variants[i]);
        check_update(&f, &variants[i]);
    }
    fixture_end(&f);
}

static void no_rows_and_no_columns_are_no_work(void **state)
{
    fixture f = fixture_make(HSGD_DOUBLE, false);
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        const int64_t rows = i == 0 ? 0 : 4, kx = i == 1 ? 0 : 2, ky = i == 2 ? 0 : 2;

        assert_ok(f.backend->ops->gram(f.backend->self, rows, 16, kx, NULL, rows, ky, NULL, rows, NULL, &err));
        assert_ok(f.backend->ops->update(f.backend->self, rows, 16, 1.0, kx, NULL, rows, NULL, ky, NULL, rows, &err));
    }
    fixture_end(&f);
}

/* The emulated cuBLAS cuts doubles short where the environment lets it imitate them. */
static void the_environment_cannot_shorten_doubles(void **state)
{
    const double x = 1.0 + 0x1p-40;
    double got = 0.0;
    void *memory = NULL;
    hsgd_error err = {0};

    (void)state;
    (void)setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "1", 1);
    fixture f = fixture_make(HSGD_DOUBLE, false);
    const hsgd_backend *b = f.backend;
    assert_ok(b->ops->alloc(b->self, 128, &memory, &err));
    assert_ok(b->ops->upload(b->self, sizeof x, &x, memory, &err));
    assert_ok(b->ops->gram(b->self, 1, 16, 1, memory, 1, 1, memory, 1, (double *)memory + 8, &err));
    assert_ok(b->ops->download(b->self, sizeof got, (double *)memory + 8, &got, &err));
    assert_true(got == x * x);
    b->ops->release(b->self, memory);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_plain_loops),
        cmocka_unit_test(no_rows_and_no_columns_are_no_work),
        cmocka_unit_test(the_environment_cannot_shorten_doubles),
    };
    return test_run(tests);
}
