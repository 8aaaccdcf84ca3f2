/* tests/conformance/test_linop.c - what every linear operator owes a solver, whoever implements it: an explicit matrix,
 * the Hessian, the Gauss-Newton matrix.  ranks: 1 2 4
 * devices: cuda */
#include "../curvature/fixture.h"

/* ---- an explicit matrix: A[i][j] = 1 / (1 + i + j) - 0.3 on the diagonal ---- */

typedef struct {
    int destroyed;
} matrix;

static double entry(int64_t i, int64_t j)
{
    return 1.0 / (double)(1 + i + j) - (i == j ? 0.3 : 0.0);
}

static hsgd_status matrix_apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = x->space->n, k = x->columns;
    double *from = malloc((size_t)(n * k) * sizeof *from), *to = calloc((size_t)(n * k), sizeof *to);

    (void)self;
    HSGD_CHECK(from != NULL && to != NULL, HSGD_ERR_MEMORY, err, "memory");
    HSGD_TRY(hsgd_vector_gather(x, from, err));
    for (int64_t c = 0; c < k; c++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                to[c * n + i] += entry(i, j) * from[c * n + j];
            }
        }
    }
    HSGD_TRY(hsgd_vector_set_full(y, to, err));
done:
    free(from);
    free(to);
    return st;
}

static void matrix_destroy(void *self)
{
    ((matrix *)self)->destroyed++;
}

static const hsgd_linop_ops matrix_ops = {.name = "matrix", .apply = matrix_apply, .destroy = matrix_destroy};

/* ---- the three of them ---- */

typedef struct {
    fixture f; /* its spaces serve the matrix too */
    matrix m;
} house;

enum { MATRIX, HESSIAN, GAUSS_NEWTON, IMPLEMENTATIONS };
static const char *const names[] = {"matrix", "hessian", "gauss-newton"};

static void house_create(house *h)
{
    *h = (house){.f = fixture_create(&(fixture_plan){.layers = "conv 2 3 / tanh / maxpool 2 / linear 3",
                                                     .edge = 6,
                                                     .classes = 3,
                                                     .groups = 2,
                                                     .rest = 1,
                                                     .precision = HSGD_DOUBLE,
                                                     .comm = test_comm()})};
}

static hsgd_linop *make(house *h, int which)
{
    hsgd_error err = {0};
    hsgd_linop *op = NULL;
    const hsgd_hessian_options options =
        options_of(&h->f, which == HESSIAN ? HSGD_OPERATOR_HESSIAN : HSGD_OPERATOR_GAUSS_NEWTON);

    if (which == MATRIX) {
        assert_ok(hsgd_linop_create(h->f.spread, &matrix_ops, &h->m, &op, &err));
    } else {
        op = operator_of(&h->f, &options);
    }
    return op;
}

/* y[k][n] = A x by the operator that is asked for; ended again. */
static double *apply_new(house *h, int which, int64_t k, const double *x)
{
    hsgd_error err = {0};
    hsgd_linop *op = make(h, which);
    double *y = malloc((size_t)(k * h->f.n) * sizeof *y);

    assert_non_null(y);
    assert_ok(apply_full(op, k, x, y, &err));
    hsgd_linop_destroy(&op);
    return y;
}

static void is_linear_and_symmetric(void **state)
{
    (void)state;
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        house h;
        double *x = NULL, *y = NULL, scale = 0.0;
        int64_t n = 0;

        house_create(&h);
        n = h.f.n;
        x = normals(3 * n, 1);
        for (int64_t i = 0; i < n; i++) {
            x[2 * n + i] = 2.0 * x[i] - 3.0 * x[n + i];
        }
        y = apply_new(&h, which, 3, x);
        scale = norm(n, x) * norm(n, y + n) + norm(n, x + n) * norm(n, y);
        assert_near(dot(n, x, y + n), dot(n, x + n, y), 1e-13 * scale);
        for (int64_t i = 0; i < n; i++) {
            assert_near(y[2 * n + i], 2.0 * y[i] - 3.0 * y[n + i], 1e-13 * norm(3 * n, y));
        }
        free(x);
        free(y);
        fixture_destroy(&h.f);
    }
}

static void columns_are_applied_each_for_itself(void **state)
{
    enum { K = 11 }; /* more than one sweep holds */

    (void)state;
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        house h;
        double *x = NULL, *y = NULL;

        house_create(&h);
        x = normals(K * h.f.n, 1);
        y = apply_new(&h, which, K, x);
        for (int64_t j = 0; j < K; j++) {
            double *one = apply_new(&h, which, 1, x + j * h.f.n);

            assert_memory_equal(one, y + j * h.f.n, (size_t)h.f.n * sizeof *one);
            free(one);
        }
        free(x);
        free(y);
        fixture_destroy(&h.f);
    }
}

static void the_product_overwrites_and_the_operand_stays(void **state)
{
    (void)state;
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        house h;
        hsgd_error err = {0};
        hsgd_linop *op = NULL;
        hsgd_vector *x = NULL, *y = NULL, *z = NULL;
        double *before = NULL, *after = NULL;

        house_create(&h);
        before = normals(h.f.n, 1);
        after = malloc((size_t)h.f.n * sizeof *after);
        op = make(&h, which);
        assert_ok(hsgd_vector_create(h.f.spread, 1, &x, &err));
        assert_ok(hsgd_vector_set_full(x, before, &err));
        assert_ok(hsgd_vector_clone(x, &y, &err)); /* full of something */
        assert_ok(hsgd_vector_create(h.f.spread, 1, &z, &err));
        assert_ok(hsgd_linop_apply(op, x, y, &err));
        assert_ok(hsgd_linop_apply(op, x, z, &err));
        assert_ok(hsgd_vector_gather(x, after, &err));
        assert_memory_equal(before, after, (size_t)h.f.n * sizeof *after);
        assert_ok(hsgd_vector_gather(y, before, &err));
        assert_ok(hsgd_vector_gather(z, after, &err));
        assert_memory_equal(before, after, (size_t)h.f.n * sizeof *after);
        hsgd_vector_destroy(&x);
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&z);
        hsgd_linop_destroy(&op);
        free(before);
        free(after);
        fixture_destroy(&h.f);
    }
}

static void counts_what_it_was_given_and_knows_its_space(void **state)
{
    (void)state;
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        house h;
        hsgd_error err = {0};
        hsgd_linop *op = NULL;
        double *x = NULL, *y = NULL;

        house_create(&h);
        x = normals(3 * h.f.n, 1);
        y = malloc((size_t)(3 * h.f.n) * sizeof *y);
        assert_non_null(y);
        op = make(&h, which);
        assert_int_equal(hsgd_linop_products(op), 0);
        assert_ok(apply_full(op, 3, x, y, &err));
        assert_ok(apply_full(op, 1, x, y, &err));
        assert_int_equal(hsgd_linop_products(op), 4);
        assert_ptr_equal(hsgd_linop_space(op), h.f.spread);
        assert_string_equal(hsgd_linop_name(op), names[which]);
        hsgd_linop_destroy(&op);
        free(x);
        free(y);
        fixture_destroy(&h.f);
    }
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        house h;
        hsgd_error err = {0};
        hsgd_linop *op = NULL;
        hsgd_space *other = NULL;
        hsgd_vector *one = NULL, *two = NULL, *foreign = NULL;

        house_create(&h);
        op = make(&h, which);
        assert_ok(hsgd_space_create(h.f.n + 1, HSGD_SPREAD, HSGD_REDUCTION_REPRODUCIBLE, test_comm(), h.f.backend,
                                    &other, &err));
        assert_ok(hsgd_vector_create(h.f.spread, 1, &one, &err));
        assert_ok(hsgd_vector_create(h.f.spread, 2, &two, &err));
        assert_ok(hsgd_vector_create(other, 1, &foreign, &err));
        assert_int_equal(hsgd_linop_apply(op, one, two, &err), HSGD_ERR_USAGE);
        assert_int_equal(hsgd_linop_apply(op, one, foreign, &err), HSGD_ERR_USAGE);
        assert_int_equal(hsgd_linop_apply(op, foreign, one, &err), HSGD_ERR_USAGE);
        assert_int_equal(hsgd_linop_apply(op, one, one, &err), HSGD_ERR_USAGE);
        assert_int_equal(hsgd_linop_products(op), 0);
        hsgd_vector_destroy(&one);
        hsgd_vector_destroy(&two);
        hsgd_vector_destroy(&foreign);
        hsgd_space_destroy(&other);
        hsgd_linop_destroy(&op);
        fixture_destroy(&h.f);
    }
}

static void ends_what_it_owns_once(void **state)
{
    house h;
    hsgd_linop *op = NULL;

    (void)state;
    house_create(&h);
    op = make(&h, MATRIX);
    hsgd_linop_destroy(&op);
    assert_null(op);
    hsgd_linop_destroy(&op);
    hsgd_linop_destroy(NULL);
    assert_int_equal(h.m.destroyed, 1);
    fixture_destroy(&h.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_linear_and_symmetric),
        cmocka_unit_test(columns_are_applied_each_for_itself),
        cmocka_unit_test(the_product_overwrites_and_the_operand_stays),
        cmocka_unit_test(counts_what_it_was_given_and_knows_its_space),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(ends_what_it_owns_once),
    };
    return test_run(tests);
}
