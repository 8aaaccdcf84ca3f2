/* tests/curvature/test_gated.c - operators of a network of gated convolutions: the same bits whatever ranks, threads and
 * kept states, in both precisions.  ranks: 1 3 */
#include "fixture.h"

/* Two in a row, the second with all terms of the second derivative; sizes that fill no vector register. */
static const char *const layers = "conv 9 3 / relu / maxpool 2 / conv 17 3 / maxpool 2 / relu / linear 3";

enum { COLUMNS = 3 };

static fixture_plan plan_of(hsgd_precision precision, hsgd_comm *comm, int threads)
{
    return (fixture_plan){.layers = layers,
                          .edge = 13,
                          .classes = 3,
                          .groups = 7,
                          .rest = 3,
                          .precision = precision,
                          .comm = comm,
                          .threads = threads};
}

/* Products by an operator that keeps `cache` bytes of states; the second time they come from what is kept. */
static void assert_products(fixture *f, hsgd_operator kind, size_t cache, const double *x, const double *expected)
{
    hsgd_hessian_options options = options_of(f, kind);
    double *y = malloc((size_t)(COLUMNS * f->n) * sizeof *y);
    hsgd_linop *op = NULL;
    hsgd_error err = {0};

    assert_non_null(y);
    options.cache_bytes = cache;
    op = operator_of(f, &options);
    for (int i = 0; i < 2; i++) {
        assert_ok(apply_full(op, COLUMNS, x, y, &err));
        assert_memory_equal(y, expected, (size_t)(COLUMNS * f->n) * sizeof *y);
    }
    hsgd_linop_destroy(&op);
    free(y);
}

/* Bytes of the states of two groups: of the eight that there are, a rank keeps some and not all. */
static size_t room_for_two(const fixture *f)
{
    size_t state = 0, scratch = 0;
    hsgd_error err = {0};

    assert_ok(hsgd_pass_measure(f->network, f->backend, f->backend->least_group, COLUMNS, &state, &scratch, &err));
    return 2 * state;
}

static void check_bits(hsgd_precision precision, hsgd_operator kind)
{
    const fixture_plan alone = plan_of(precision, NULL, 1);
    fixture first = fixture_create(&alone);
    const hsgd_hessian_options options = options_of(&first, kind);
    double *x = normals(COLUMNS * first.n, 1), *expected = products_of(&first, &options, COLUMNS, x);

    assert_true(norm(COLUMNS * first.n, expected) > 0.0);
    for (int threads = 1; threads <= 3; threads++) {
        const fixture_plan plan = plan_of(precision, test_comm(), threads);
        fixture f = fixture_create(&plan);
        const size_t caches[] = {0, room_for_two(&f), SIZE_MAX / 2};

        for (int i = 0; i < 3; i++) {
            assert_products(&f, kind, caches[i], x, expected);
        }
        fixture_destroy(&f);
    }
    free(x);
    free(expected);
    fixture_destroy(&first);
}

static void ranks_threads_and_kept_states_change_no_bit(void **state)
{
    (void)state;
    for (hsgd_precision p = HSGD_SINGLE; p <= HSGD_DOUBLE; p++) {
        check_bits(p, HSGD_OPERATOR_HESSIAN);
        check_bits(p, HSGD_OPERATOR_GAUSS_NEWTON);
    }
}

/* Objective: the gradient has the same bits too. */
static void ranks_and_threads_change_no_bit_of_the_gradient(void **state)
{
    (void)state;
    for (hsgd_precision p = HSGD_SINGLE; p <= HSGD_DOUBLE; p++) {
        double *expected = NULL;
        hsgd_loss loss = {0}, other = {0};
        hsgd_error err = {0};

        for (int threads = 0; threads <= 3; threads++) {
            const fixture_plan plan = plan_of(p, threads == 0 ? NULL : test_comm(), threads);
            fixture f = fixture_create(&plan);
            double *g = malloc((size_t)f.n * sizeof *g);

            assert_non_null(g);
            assert_ok(hsgd_frozen_gradient(problem_of(&f), f.weights, f.weights, f.index, f.count, g, &other, &err));
            if (threads == 0) {
                expected = g;
                loss = other;
            } else {
                assert_memory_equal(g, expected, (size_t)f.n * sizeof *g);
                assert_true(other.loss == loss.loss);
                free(g);
            }
            fixture_destroy(&f);
        }
        free(expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_threads_and_kept_states_change_no_bit),
        cmocka_unit_test(ranks_and_threads_change_no_bit_of_the_gradient),
    };
    return test_run(tests);
}
