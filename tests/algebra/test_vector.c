/* tests/algebra/test_vector.c - mirrors src/algebra/vector.c.
 * ranks: 1 2 3 4 7
 * devices: cuda */
#include "columns.h"

static void draws_depend_on_the_global_row_alone(void **state)
{
    const hsgd_random stream = hsgd_random_stream(3, HSGD_RANDOM_TEST, 50);
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < LENGTHS; i++) {
        fixture f;
        hsgd_vector *x = NULL;
        double *full = NULL;

        begin(&f, lengths[i], HSGD_REDUCTION_REPRODUCIBLE);
        assert_ok(hsgd_vector_create(f.space, 2, &x, &err));
        assert_ok(hsgd_vector_random(x, 0, HSGD_DRAW_NORMAL, &stream, &err));
        assert_ok(hsgd_vector_random(x, 1, HSGD_DRAW_SIGN, &stream, &err));
        full = gather(x);
        for (int64_t row = 0; row < lengths[i]; row++) {
            const double normal = hsgd_random_normal(&stream, (uint64_t)row);
            const double sign = hsgd_random_sign(&stream, (uint64_t)row);

            assert_memory_equal(&full[row], &normal, sizeof normal);
            assert_memory_equal(&full[lengths[i] + row], &sign, sizeof sign);
        }
        free(full);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

static void products_have_the_same_bits_on_any_number_of_ranks(void **state)
{
    enum { KX = 9, KY = 3 };
    double here[KX * KY], alone[KX * KY], norm = 0.0, one = 0.0;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < LENGTHS; i++) {
        fixture f;
        hsgd_vector *x = NULL, *y = NULL, *x1 = NULL, *y1 = NULL;

        begin(&f, lengths[i], HSGD_REDUCTION_REPRODUCIBLE);
        x = draw(f.space, KX, 0);
        y = draw(f.space, KY, 20);
        x1 = draw(f.alone, KX, 0);
        y1 = draw(f.alone, KY, 20);
        assert_ok(hsgd_vector_gram(x, y, here, &err));
        assert_ok(hsgd_vector_gram(x1, y1, alone, &err));
        assert_memory_equal(here, alone, sizeof here);
        for (int64_t j = 0; j < KX; j++) { /* single columns: their own shape of product */
            const hsgd_vector a = hsgd_vector_view(x, j, 1), b = hsgd_vector_view(x1, j, 1);

            assert_ok(hsgd_vector_norm(&a, &norm, &err));
            assert_ok(hsgd_vector_norm(&b, &one, &err));
            assert_memory_equal(&norm, &one, sizeof norm);
        }
        hsgd_vector_destroy(&y1);
        hsgd_vector_destroy(&x1);
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

static void products_of_whole_numbers_are_exact_in_both_modes(void **state)
{
    enum { N = 3000 };
    static const hsgd_reduction modes[] = {HSGD_REDUCTION_REPRODUCIBLE, HSGD_REDUCTION_FAST};
    double *full = calloc(2 * N, sizeof *full), g[4];
    int64_t expected[4] = {0};
    hsgd_error err = {0};

    (void)state;
    for (int64_t i = 0; i < N; i++) {
        full[i] = (double)(i % 17 - 8);
        full[N + i] = (double)(i % 5 + 1);
        expected[0] += (i % 17 - 8) * (i % 17 - 8);
        expected[1] += (i % 17 - 8) * (i % 5 + 1);
        expected[3] += (i % 5 + 1) * (i % 5 + 1);
    }
    expected[2] = expected[1];
    for (int mode = 0; mode < 2; mode++) {
        fixture f;
        hsgd_vector *x = NULL;

        begin(&f, N, modes[mode]);
        assert_ok(hsgd_vector_create(f.space, 2, &x, &err));
        assert_ok(hsgd_vector_set_full(x, full, &err));
        assert_ok(hsgd_vector_gram(x, x, g, &err));
        for (int i = 0; i < 4; i++) {
            assert_true(g[i] == (double)expected[i]);
        }
        hsgd_vector_destroy(&x);
        end(&f);
    }
    free(full);
}

/* Whatever the order, a sum of n products is off by at most n eps sum |x y| <= n eps norm(x) norm(y). */
static void fast_products_agree_to_rounding(void **state)
{
    enum { N = 28938 };
    fixture f, g;
    hsgd_vector *x = NULL, *y = NULL, *x1 = NULL, *y1 = NULL;
    double fast = 0.0, exact = 0.0, nx = 0.0, ny = 0.0;
    hsgd_error err = {0};

    (void)state;
    begin(&f, N, HSGD_REDUCTION_FAST);
    begin(&g, N, HSGD_REDUCTION_REPRODUCIBLE);
    x = draw(f.space, 1, 0);
    y = draw(f.space, 1, 1);
    x1 = draw(g.space, 1, 0);
    y1 = draw(g.space, 1, 1);
    assert_ok(hsgd_vector_dot(x, y, &fast, &err));
    assert_ok(hsgd_vector_dot(x1, y1, &exact, &err));
    assert_ok(hsgd_vector_norm(x, &nx, &err));
    assert_ok(hsgd_vector_norm(y, &ny, &err));
    assert_near(fast, exact, N * DBL_EPSILON * nx * ny);
    hsgd_vector_destroy(&y1);
    hsgd_vector_destroy(&x1);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    end(&g);
    end(&f);
}

static void updates_have_the_same_bits_on_any_number_of_ranks(void **state)
{
    enum { KX = 13, KY = 2 };
    double c[KX * KY];
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < KX * KY; i++) {
        c[i] = 1.0 / (i + 3);
    }
    for (int i = 0; i < LENGTHS; i++) {
        fixture f;
        hsgd_vector *x = NULL, *y = NULL, *x1 = NULL, *y1 = NULL;

        begin(&f, lengths[i], HSGD_REDUCTION_REPRODUCIBLE);
        x = draw(f.space, KX, 0);
        y = draw(f.space, KY, 20);
        x1 = draw(f.alone, KX, 0);
        y1 = draw(f.alone, KY, 20);
        assert_ok(hsgd_vector_update(-1.5, x, c, y, &err));
        assert_ok(hsgd_vector_update(-1.5, x1, c, y1, &err));
        assert_same_bits(y, y1);
        hsgd_vector_destroy(&y1);
        hsgd_vector_destroy(&x1);
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

/* (KX + 2) roundings, each of at most eps times the sum of magnitudes so far. */
static void updates_add_the_weighted_columns(void **state)
{
    enum { N = 500, KX = 4, KY = 2 };
    const double c[KX * KY] = {1.0, -2.0, 0.5, 3.0, 0.1, 0.2, -0.7, 0.9};
    fixture f;
    hsgd_vector *x = NULL, *y = NULL;
    double *a = NULL, *b = NULL, *after = NULL;
    hsgd_error err = {0};

    (void)state;
    begin(&f, N, HSGD_REDUCTION_REPRODUCIBLE);
    x = draw(f.space, KX, 0);
    y = draw(f.space, KY, 20);
    a = gather(x);
    b = gather(y);
    assert_ok(hsgd_vector_update(0.3, x, c, y, &err));
    after = gather(y);
    for (int64_t j = 0; j < KY; j++) {
        for (int64_t row = 0; row < N; row++) {
            double sum = b[j * N + row], size = fabs(sum);

            for (int64_t i = 0; i < KX; i++) {
                sum += 0.3 * c[i * KY + j] * a[i * N + row];
                size += fabs(0.3 * c[i * KY + j] * a[i * N + row]);
            }
            assert_near(after[j * N + row], sum, 2 * (KX + 2) * DBL_EPSILON * size);
        }
    }
    free(after);
    free(b);
    free(a);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    end(&f);
}

static void scaling_rounds_once_and_copying_not_at_all(void **state)
{
    enum { N = 300, K = 3 };
    const double factor = 1.0 / 3.0;
    fixture f;
    hsgd_vector *x = NULL, *y = NULL;
    double *before = NULL, *after = NULL;
    hsgd_error err = {0};

    (void)state;
    begin(&f, N, HSGD_REDUCTION_REPRODUCIBLE);
    x = draw(f.space, K, 0);
    assert_ok(hsgd_vector_clone(x, &y, &err));
    assert_same_bits(x, y);
    before = gather(x);
    assert_ok(hsgd_vector_scale(factor, y, &err));
    after = gather(y);
    for (int64_t i = 0; i < N * K; i++) {
        assert_true(after[i] == factor * before[i]);
    }
    assert_ok(hsgd_vector_copy(x, y, &err)); /* over old content */
    assert_same_bits(x, y);
    free(after);
    free(before);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    end(&f);
}

static void an_infinite_column_leaves_the_others_alone(void **state)
{
    enum { N = 40 };
    fixture f;
    hsgd_vector *x = NULL, *y = NULL;
    double full[2 * N];
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        full[i] = INFINITY;
        full[N + i] = 1.0;
    }
    begin(&f, N, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_vector_create(f.space, 2, &x, &err));
    assert_ok(hsgd_vector_create(f.space, 2, &y, &err));
    assert_ok(hsgd_vector_set_full(x, full, &err));
    assert_ok(hsgd_vector_copy(x, y, &err));
    assert_ok(hsgd_vector_axpy(2.0, x, y, &err));
    assert_ok(hsgd_vector_scale(0.5, y, &err));
    assert_ok(hsgd_vector_gather(y, full, &err));
    for (int i = 0; i < N; i++) {
        assert_true(isinf(full[i]));
        assert_true(full[N + i] == 1.5);
    }
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    end(&f);
}

static void normalizing_gives_unit_norm_or_refuses(void **state)
{
    enum { N = 1000 };
    static const double hopeless[] = {0.0, NAN, INFINITY, 1e-320};
    fixture f;
    hsgd_vector *x = NULL;
    double full[N] = {0}, norm = 0.0;
    hsgd_error err = {0};

    (void)state;
    begin(&f, N, HSGD_REDUCTION_REPRODUCIBLE);
    x = draw(f.space, 1, 0);
    assert_ok(hsgd_vector_normalize(x, &err));
    assert_ok(hsgd_vector_norm(x, &norm, &err));
    assert_near(norm, 1.0, N * DBL_EPSILON);
    for (int i = 0; i < 4; i++) {
        full[N - 1] = hopeless[i];
        assert_ok(hsgd_vector_set_full(x, full, &err));
        assert_int_equal(hsgd_vector_normalize(x, &err), HSGD_ERR_NUMERIC);
    }
    hsgd_vector_destroy(&x);
    end(&f);
}

static void rows_travel_to_and_from_the_host_unchanged(void **state)
{
    (void)state;
    for (int i = 0; i < LENGTHS; i++) {
        fixture f;
        hsgd_vector *x = NULL, *y = NULL;
        double *full = NULL, *local = NULL;
        hsgd_error err = {0};

        begin(&f, lengths[i], HSGD_REDUCTION_REPRODUCIBLE);
        x = draw(f.space, 3, 0);
        full = gather(x);
        local = calloc((size_t)(3 * hsgd_space_rows(f.space) + 1), sizeof *local);
        assert_ok(hsgd_vector_create(f.space, 3, &y, &err));
        assert_ok(hsgd_vector_set_full(y, full, &err));
        assert_same_bits(x, y);
        assert_ok(hsgd_vector_get_local(x, local, &err));
        for (int64_t j = 0; j < 3; j++) {
            for (int64_t row = f.space->low; row < f.space->high; row++) {
                assert_true(local[j * hsgd_space_rows(f.space) + row - f.space->low] == full[j * lengths[i] + row]);
            }
        }
        assert_ok(hsgd_vector_scale(0.0, y, &err));
        assert_ok(hsgd_vector_set_local(y, local, &err));
        assert_same_bits(x, y);
        free(local);
        free(full);
        hsgd_vector_destroy(&y);
        hsgd_vector_destroy(&x);
        end(&f);
    }
}

static void a_view_is_the_columns_themselves_and_swap_exchanges_all(void **state)
{
    fixture f;
    hsgd_vector *x = NULL, *y = NULL, *x0 = NULL, *y0 = NULL;
    hsgd_vector view;
    double before[3], after[3];
    hsgd_error err = {0};

    (void)state;
    begin(&f, 100, HSGD_REDUCTION_REPRODUCIBLE);
    x = draw(f.space, 3, 0);
    y = draw(f.space, 3, 10);
    assert_ok(hsgd_vector_clone(x, &x0, &err));
    assert_ok(hsgd_vector_clone(y, &y0, &err));
    hsgd_vector_swap(x, y);
    assert_same_bits(x, y0);
    assert_same_bits(y, x0);
    view = hsgd_vector_view(x, 1, 1);
    for (int j = 0; j < 3; j++) {
        const hsgd_vector column = hsgd_vector_view(x, j, 1);

        assert_ok(hsgd_vector_norm(&column, &before[j], &err));
    }
    assert_ok(hsgd_vector_scale(2.0, &view, &err));
    for (int j = 0; j < 3; j++) {
        const hsgd_vector column = hsgd_vector_view(x, j, 1);

        assert_ok(hsgd_vector_norm(&column, &after[j], &err));
    }
    assert_true(after[0] == before[0] && after[1] == 2.0 * before[1] && after[2] == before[2]);
    hsgd_vector_destroy(&y0);
    hsgd_vector_destroy(&x0);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    end(&f);
}

/* If a replicated dot were collective, rank 0 would wait here for ever. */
static void products_on_a_replicated_space_are_local(void **state)
{
    fixture f;
    hsgd_space *replicated = NULL;
    hsgd_vector *x = NULL, *x1 = NULL;
    double here = 0.0, alone = 0.0;
    hsgd_error err = {0};

    (void)state;
    begin(&f, 5000, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_space_create(5000, HSGD_REPLICATED, HSGD_REDUCTION_REPRODUCIBLE, test_comm(), f.backend, &replicated,
                                &err));
    if (test_comm()->rank == 0) {
        x = draw(replicated, 1, 0);
        x1 = draw(f.alone, 1, 0);
        assert_ok(hsgd_vector_norm(x, &here, &err));
        assert_ok(hsgd_vector_norm(x1, &alone, &err));
        assert_memory_equal(&here, &alone, sizeof here);
    }
    hsgd_vector_destroy(&x1);
    hsgd_vector_destroy(&x);
    hsgd_space_destroy(&replicated);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_depend_on_the_global_row_alone),
        cmocka_unit_test(products_have_the_same_bits_on_any_number_of_ranks),
        cmocka_unit_test(products_of_whole_numbers_are_exact_in_both_modes),
        cmocka_unit_test(fast_products_agree_to_rounding),
        cmocka_unit_test(updates_have_the_same_bits_on_any_number_of_ranks),
        cmocka_unit_test(updates_add_the_weighted_columns),
        cmocka_unit_test(scaling_rounds_once_and_copying_not_at_all),
        cmocka_unit_test(an_infinite_column_leaves_the_others_alone),
        cmocka_unit_test(normalizing_gives_unit_norm_or_refuses),
        cmocka_unit_test(rows_travel_to_and_from_the_host_unchanged),
        cmocka_unit_test(a_view_is_the_columns_themselves_and_swap_exchanges_all),
        cmocka_unit_test(products_on_a_replicated_space_are_local),
    };
    return test_run(tests);
}
