/* tests/solve/test_projected.c - mirrors src/solve/projected.c: the small eigenproblem, whatever threads LAPACK might use. */
#include <math.h>
#include <stdlib.h>
#include "base/random.h"
#include "solve/projected.h"
#include "support.h"

void openblas_set_num_threads(int threads);

enum { SIZE = 100, BLOCK = 2 };

static void fill(hsgd_projected *p)
{
    const hsgd_random r = hsgd_random_stream(3, HSGD_RANDOM_TEST, 0);

    p->size = SIZE;
    p->rows = BLOCK;
    for (int64_t i = 0; i < SIZE; i++) {
        for (int64_t j = 0; j <= i; j++) {
            const double x = hsgd_random_normal(&r, (uint64_t)(i * SIZE + j));

            p->t[i * p->capacity + j] = p->t[j * p->capacity + i] = x;
        }
    }
    for (int64_t i = 0; i < BLOCK; i++) {
        p->b[i * p->capacity + SIZE - BLOCK + i] = 0.5;
    }
}

static hsgd_projected solved(int threads)
{
    hsgd_projected p;
    hsgd_error err = {0};

    assert_ok(hsgd_projected_create(SIZE + 3, BLOCK, &p, &err));
    fill(&p);
    openblas_set_num_threads(threads);
    assert_ok(hsgd_projected_solve(&p, test_comm(), &err));
    return p;
}

static void the_threads_of_lapack_change_no_bit(void **state)
{
    hsgd_projected one = solved(1), two = solved(2);

    (void)state;
    assert_memory_equal(one.theta, two.theta, SIZE * sizeof(double));
    assert_memory_equal(one.s, two.s, SIZE * SIZE * sizeof(double));
    assert_memory_equal(one.bound, two.bound, SIZE * sizeof(double));
    hsgd_projected_destroy(&one);
    hsgd_projected_destroy(&two);
}

/* T s = theta s, and the residual is the norm of B s. */
static void pairs_are_eigenpairs(void **state)
{
    hsgd_projected p = solved(1);

    (void)state;
    for (int64_t k = 0; k < SIZE; k++) {
        const double *s = p.s + k * SIZE;
        double residual = 0.0;

        assert_true(k == 0 || p.theta[k - 1] <= p.theta[k]);
        for (int64_t i = 0; i < SIZE; i++) {
            double sum = 0.0;

            for (int64_t j = 0; j < SIZE; j++) {
                sum += p.t[i * p.capacity + j] * s[j];
            }
            assert_near(sum, p.theta[k] * s[i], 1e-12 * SIZE);
        }
        for (int64_t i = SIZE - BLOCK; i < SIZE; i++) {
            residual += 0.25 * s[i] * s[i];
        }
        assert_near(p.bound[k], sqrt(residual), 1e-12);
    }
    hsgd_projected_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_threads_of_lapack_change_no_bit),
        cmocka_unit_test(pairs_are_eigenpairs),
    };

    return test_run(tests);
}
