/* tests/algebra/test_orthogonalize.c - src/algebra/vector.c: what the Lanczos process and the operators are made of,
 * orthogonalisation and whole columns.  ranks: 1 2 3 4 7
 * devices: cuda */
#include "columns.h"

static const hsgd_reduction modes[] = {HSGD_REDUCTION_REPRODUCIBLE, HSGD_REDUCTION_FAST};

/* A sum of n products is off by at most n eps norm(x) norm(y), in the backend and here. */
static double product_error(int64_t n)
{
    return 2.0 * (double)n * DBL_EPSILON;
}

static double dot(int64_t n, const double *x, const double *y)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

/* k orthonormal columns without rounding: rows of the Hadamard matrix of order n = 4^p, divided by its root. */
static hsgd_vector *hadamard(const hsgd_space *space, int64_t k)
{
    const int64_t n = space->n;
    double *full = malloc((size_t)(k * n) * sizeof *full);
    hsgd_vector *x = NULL;
    hsgd_error err = {0};

    assert_non_null(full);
    for (int64_t i = 0; i < k * n; i++) {
        full[i] =
            (__builtin_popcountll((uint64_t)((5 * (i / n) + 3) & (i % n))) % 2 == 0 ? 1.0 : -1.0) / sqrt((double)n);
    }
    assert_ok(hsgd_vector_create(space, k, &x, &err));
    assert_ok(hsgd_vector_set_full(x, full, &err));
    free(full);
    return x;
}

/* y = X c + `apart` times something random, which is orthogonalised: c and what it should be, by plain arithmetic. */
static void orthogonalize(const hsgd_vector *x, double apart)
{
    enum { MOST = 16 };
    const int64_t n = x->space->n, k = x->columns;
    hsgd_vector *y = draw(x->space, 1, 40);
    double c[MOST], got[2 * MOST + 1], norm = 0.0, own = 0.0, left = 0.0, size = 0.0;
    double *basis = gather(x), *before = NULL, *after = NULL;
    hsgd_error err = {0};

    for (int64_t i = 0; i < k; i++) {
        c[i] = 1.0 + (double)i;
    }
    assert_ok(hsgd_vector_scale(apart, y, &err));
    assert_ok(hsgd_vector_update(1.0, x, c, y, &err));
    before = gather(y);
    size = sqrt(dot(n, before, before));
    assert_ok(hsgd_vector_orthogonalize(x, y, got, &norm, &err));
    after = gather(y);
    left = sqrt(dot(n, after, after));
    assert_near(norm, left, product_error(n) * left);
    assert_ok(hsgd_vector_norm(y, &own, &err));
    assert_memory_equal(&norm, &own, sizeof norm);
    for (int64_t i = 0; i < k; i++) {
        /* relative to what is left, however little: the second pass sees to it */
        assert_near(dot(n, basis + i * n, after), 0.0, 2.0 * product_error(n + k) * left);
        assert_near(got[i], dot(n, basis + i * n, before), product_error(n) * size);
    }
    for (int64_t row = 0; row < n; row++) { /* what was taken out and what is left make up the whole */
        double sum = after[row];

        for (int64_t i = 0; i < k; i++) {
            sum += got[i] * basis[i * n + row];
        }
        assert_near(sum, before[row], 4.0 * (double)(k + 2) * DBL_EPSILON * size);
    }
    free(after);
    free(before);
    free(basis);
    hsgd_vector_destroy(&y);
}

static void a_nearly_dependent_vector_is_left_orthogonal(void **state)
{
    static const double apart[] = {1.0, 1e-4, 1e-9, 1e-12};

    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        fixture f;

        begin(&f, 1024, modes[mode]);
        for (int64_t k = 1; k <= 13; k += 6) {
            hsgd_vector *x = hadamard(f.space, k);

            for (size_t i = 0; i < sizeof apart / sizeof *apart; i++) {
                orthogonalize(x, apart[i]);
            }
            hsgd_vector_destroy(&x);
        }
        end(&f);
    }
}

/* Several columns at once, some of them nearly within the span: each as orthogonal as if it had come alone. */
static void several_columns_are_projected_as_each_alone(void **state)
{
    enum { N = 1024, K = 7, COLUMNS = 3 };
    static const double apart[COLUMNS] = {1.0, 1e-4, 1e-9};

    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        fixture f;
        hsgd_vector *x = NULL, *y = NULL;
        double *basis = NULL, *before = NULL, *after = NULL;
        double c[K * COLUMNS], scratch[K * COLUMNS], got[K * COLUMNS];
        hsgd_error err = {0};

        begin(&f, N, modes[mode]);
        x = hadamard(f.space, K);
        y = draw(f.space, COLUMNS, 40);
        for (int i = 0; i < K * COLUMNS; i++) {
            c[i] = 1.0 + i;
        }
        for (int j = 0; j < COLUMNS; j++) {
            hsgd_vector column = hsgd_vector_view(y, j, 1);

            assert_ok(hsgd_vector_scale(apart[j], &column, &err));
        }
        assert_ok(hsgd_vector_update(1.0, x, c, y, &err));
        basis = gather(x);
        before = gather(y);
        assert_ok(hsgd_vector_project_out(x, y, got, scratch, &err));
        after = gather(y);
        for (int j = 0; j < COLUMNS; j++) {
            const double left = sqrt(dot(N, after + j * N, after + j * N));
            const double size = sqrt(dot(N, before + j * N, before + j * N));

            assert_true(left > 0.0);
            for (int i = 0; i < K; i++) {
                assert_near(dot(N, basis + i * N, after + j * N), 0.0, 2.0 * product_error(N + K) * left);
                assert_near(got[i * COLUMNS + j], dot(N, basis + i * N, before + j * N), product_error(N) * size);
            }
        }
        free(after);
        free(before);
        free(basis);
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

/* For columns of length 1/2 the second pass finds 3/4 of what the first found. */
static void the_coefficients_are_those_of_both_passes(void **state)
{
    enum { N = 256, K = 3 };

    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        fixture f;
        hsgd_vector *x = NULL, *y = NULL;
        double got[2 * K + 1], first[K], norm = 0.0, size = 0.0;
        hsgd_error err = {0};

        begin(&f, N, modes[mode]);
        x = hadamard(f.space, K);
        y = draw(f.space, 1, 40);
        assert_ok(hsgd_vector_scale(0.5, x, &err));
        assert_ok(hsgd_vector_gram(x, y, first, &err));
        assert_ok(hsgd_vector_norm(y, &size, &err));
        assert_ok(hsgd_vector_orthogonalize(x, y, got, &norm, &err));
        for (int i = 0; i < K; i++) {
            assert_near(got[i], 1.75 * first[i], 2.0 * product_error(N) * size);
            assert_true(fabs(first[i]) > 1e-3 * size);
        }
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

static void has_the_same_bits_on_any_number_of_ranks(void **state)
{
    enum { K = 9 };
    double here[2 * K + 1], alone[2 * K + 1], norm = 0.0, one = 0.0;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < LENGTHS; i++) {
        fixture f;
        hsgd_vector *x = NULL, *y = NULL, *x1 = NULL, *y1 = NULL;

        begin(&f, lengths[i], HSGD_REDUCTION_REPRODUCIBLE);
        x = draw(f.space, K, 0);
        y = draw(f.space, 1, 20);
        x1 = draw(f.alone, K, 0);
        y1 = draw(f.alone, 1, 20);
        assert_ok(hsgd_vector_scale(1e-3, x, &err)); /* not orthonormal: short, so that nothing grows */
        assert_ok(hsgd_vector_scale(1e-3, x1, &err));
        assert_ok(hsgd_vector_orthogonalize(x, y, here, &norm, &err));
        assert_ok(hsgd_vector_orthogonalize(x1, y1, alone, &one, &err));
        assert_memory_equal(here, alone, K * sizeof *here);
        assert_memory_equal(&norm, &one, sizeof norm);
        assert_same_bits(y, y1);
        hsgd_vector_destroy(&y1);
        hsgd_vector_destroy(&x1);
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

/* All rows of x by way of `room`, against gather. */
static void check_whole(const hsgd_vector *x, bool held_here)
{
    const hsgd_space *space = x->space;
    const hsgd_backend *backend = space->backend;
    const size_t bytes = (size_t)(x->columns * space->n) * sizeof(double);
    double *expected = gather(x), *got = malloc(bytes);
    const double *full = NULL;
    void *room = NULL;
    hsgd_error err = {0};

    assert_non_null(got);
    assert_ok(hsgd_space_reserve(space, &err));
    assert_ok(backend->ops->alloc(backend->self, bytes, &room, &err));
    assert_ok(hsgd_vector_whole(x, held_here ? NULL : room, &full, &err));
    assert_true(full == (held_here ? x->data : (const double *)room));
    assert_ok(backend->ops->download(backend->self, bytes, full, got, &err));
    assert_memory_equal(got, expected, bytes);
    backend->ops->release(backend->self, room);
    free(got);
    free(expected);
}

static void whole_columns_are_copied_only_where_rows_are_elsewhere(void **state)
{
    (void)state;
    for (int i = 0; i < LENGTHS; i++) {
        fixture f;
        hsgd_space *replicated = NULL;
        hsgd_vector *x = NULL, *x1 = NULL, *all = NULL, view;
        hsgd_error err = {0};

        begin(&f, lengths[i], modes[i % 2]);
        assert_ok(
            hsgd_space_create(lengths[i], HSGD_REPLICATED, modes[i % 2], test_comm(), f.backend, &replicated, &err));
        x = draw(f.space, 3, 0);
        x1 = draw(f.alone, 3, 0);
        all = draw(replicated, 3, 0);
        check_whole(x, test_comm()->ranks == 1);
        view = hsgd_vector_view(x, 1, 2);
        check_whole(&view, test_comm()->ranks == 1);
        check_whole(x1, true);
        check_whole(all, true);
        hsgd_vector_destroy(&all);
        hsgd_vector_destroy(&x1);
        hsgd_vector_destroy(&x);
        hsgd_space_destroy(&replicated);
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nearly_dependent_vector_is_left_orthogonal),
        cmocka_unit_test(several_columns_are_projected_as_each_alone),
        cmocka_unit_test(the_coefficients_are_those_of_both_passes),
        cmocka_unit_test(has_the_same_bits_on_any_number_of_ranks),
        cmocka_unit_test(whole_columns_are_copied_only_where_rows_are_elsewhere),
    };
    return test_run(tests);
}
