/* tests/solve/interrupted.h - eigen-solvers stopped at a point and gone on with, against one that was never stopped. */
#pragma once
#include "memory_keeper.h"
#include "matrix.h"
#include "solve/eigen.h"

typedef hsgd_status (*eigen_solver)(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result,
                                    hsgd_error *err);

static inline void assert_same_result(const hsgd_eigen_result *parts, const hsgd_eigen_result *whole)
{
    const size_t bytes = (size_t)whole->count * sizeof *whole->values;

    assert_int_equal(parts->products, whole->products);
    assert_memory_equal(parts->values, whole->values, bytes);
    assert_memory_equal(parts->residuals, whole->residuals, bytes);
    matrix_same_bits(parts->vectors, whole->vectors);
    assert_int_equal(parts->marks, whole->marks);
    for (int64_t i = 0; i < whole->marks; i++) {
        assert_int_equal(parts->history[i].products, whole->history[i].products);
        assert_true(parts->history[i].worst == whole->history[i].worst);
    }
}

/* Never stopped: its result, and how often it called the operator. */
static inline int run_whole(eigen_solver solver, const matrix *m, const hsgd_eigen_options *options,
                            hsgd_eigen_result *whole)
{
    stopping inner = {.inner = m->op};
    hsgd_linop *op = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_linop_create(m->space, &stopping_ops, &inner, &op, &err));
    assert_ok(solver(op, options, whole, &err));
    hsgd_linop_destroy(&op);
    return inner.calls;
}

/* Stopped by the keeper (or in a product) at point `stop` and gone on with, making none of the `calls` twice but the one that
 * was stopped; false: it was done before that point. */
static inline bool stop_and_go_on(eigen_solver solver, const matrix *m, hsgd_eigen_options options, int stop,
                                  bool in_product, int calls, const hsgd_eigen_result *whole)
{
    stopping inner = {.inner = m->op, .stop_at = in_product ? stop : 0};
    hsgd_linop *op = NULL;
    hsgd_eigen_result parts;
    memory_keeper keeper;
    hsgd_error err = {0};
    hsgd_status st;

    memory_keeper_create(&keeper, in_product ? 0 : stop);
    keeper.quiet = in_product; /* so that only the stop itself can keep what there is */
    options.keeper = &keeper.keeper;
    assert_ok(hsgd_linop_create(m->space, &stopping_ops, &inner, &op, &err));
    st = solver(op, &options, &parts, &err);
    if (st != HSGD_OK) {
        assert_int_equal(st, HSGD_STOPPED);
        keeper.stop_at = inner.stop_at = 0;
        assert_ok(solver(op, &options, &parts, &err));
        assert_same_result(&parts, whole);
        assert_int_equal(inner.calls, calls + in_product);
    }
    hsgd_eigen_result_clear(&parts);
    hsgd_linop_destroy(&op);
    memory_keeper_destroy(&keeper);
    return st != HSGD_OK;
}
