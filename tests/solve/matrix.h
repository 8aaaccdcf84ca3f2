/* tests/solve/matrix.h - explicit symmetric matrices as linear operators, on the launch's ranks and on one alone. */
#pragma once
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "curvature/linop.h"
#include "support.h"

/* The same matrix twice: what the ranks compute together must have the bits of what one computes alone. */
typedef struct {
    int64_t n;
    const double *a; /* [n][n], borrowed, the same on all ranks */
    hsgd_comm *serial;
    hsgd_backend *backend;
    hsgd_space *space, *serial_space;
    hsgd_linop *op, *serial_op;
} matrix;

/* A row times a column, in some arithmetic. */
typedef double (*matrix_dot)(int64_t n, const double *row, const double *x);

/* y = A x: rows are whole on their rank, so the bits are the same on any number of them. */
static inline hsgd_status matrix_multiply(const matrix *m, matrix_dot by, const hsgd_vector *x, hsgd_vector *y,
                                          hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t n = m->n, rows = hsgd_space_rows(space);
    double *full = calloc((size_t)(n * x->columns), sizeof *full);
    double *mine = calloc((size_t)(rows * x->columns + 1), sizeof *mine);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_gather(x, full, err));
    for (int64_t j = 0; j < x->columns; j++) {
        for (int64_t i = 0; i < rows; i++) {
            mine[j * rows + i] = by(n, m->a + (space->low + i) * n, full + j * n);
        }
    }
    HSGD_TRY(hsgd_vector_set_local(y, mine, err));
done:
    free(mine);
    free(full);
    return st;
}

static inline double matrix_dot_double(int64_t n, const double *row, const double *x)
{
    double sum = 0.0;

    for (int64_t k = 0; k < n; k++) {
        sum += row[k] * x[k];
    }
    return sum;
}

static inline hsgd_status matrix_apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    return matrix_multiply(self, matrix_dot_double, x, y, err);
}

static const hsgd_linop_ops matrix_ops = {.name = "matrix", .apply = matrix_apply};

/* Make both operators of the matrix a[n][n], which must outlive them. */
static inline void matrix_create(matrix *m, int64_t n, const double *a, hsgd_reduction reduction)
{
    hsgd_error err = {0};

    *m = (matrix){.n = n, .a = a};
    assert_ok(hsgd_comm_serial_create(&m->serial, &err));
    assert_ok(test_backend_create(HSGD_DOUBLE, 1, &m->backend, &err));
    assert_ok(hsgd_space_create(n, HSGD_SPREAD, reduction, test_comm(), m->backend, &m->space, &err));
    assert_ok(hsgd_space_create(n, HSGD_SPREAD, reduction, m->serial, m->backend, &m->serial_space, &err));
    assert_ok(hsgd_linop_create(m->space, &matrix_ops, m, &m->op, &err));
    assert_ok(hsgd_linop_create(m->serial_space, &matrix_ops, m, &m->serial_op, &err));
}

static inline void matrix_destroy(matrix *m)
{
    hsgd_linop_destroy(&m->serial_op);
    hsgd_linop_destroy(&m->op);
    hsgd_space_destroy(&m->serial_space);
    hsgd_space_destroy(&m->space);
    hsgd_backend_destroy(&m->backend);
    hsgd_comm_destroy(&m->serial);
}

/* a[n][n] = diag(d). */
static inline void matrix_diagonal(int64_t n, const double *d, double *a)
{
    memset(a, 0, (size_t)(n * n) * sizeof *a);
    for (int64_t i = 0; i < n; i++) {
        a[i * n + i] = d[i];
    }
}

/* a := (I - 2 v v') a (I - 2 v v') for v of unit norm.  work: [n]. */
static inline void matrix_reflect(int64_t n, const double *v, double *a, double *work)
{
    double vav = 0.0;

    for (int64_t i = 0; i < n; i++) { /* work = a v */
        work[i] = 0.0;
        for (int64_t j = 0; j < n; j++) {
            work[i] += a[i * n + j] * v[j];
        }
        vav += v[i] * work[i];
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            a[i * n + j] += -2.0 * (v[i] * work[j] + work[i] * v[j]) + 4.0 * vav * v[i] * v[j];
        }
    }
}

/* a[n][n] = Q diag(d) Q' for a dense orthogonal Q of `turns` random reflections; exactly symmetric.  Its eigenvalues
 * are d to within a few n eps max |d| (SPECTRUM_ERROR). */
static inline void matrix_with_spectrum(int64_t n, const double *d, double *a)
{
    enum { TURNS = 3 };
    double *v = calloc((size_t)n, sizeof *v), *work = calloc((size_t)n, sizeof *work);

    matrix_diagonal(n, d, a);
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        const hsgd_random stream = hsgd_random_stream(7, HSGD_RANDOM_TEST, 1000 + turn);
        double norm = 0.0;

        for (int64_t i = 0; i < n; i++) {
            v[i] = hsgd_random_normal(&stream, (uint64_t)i);
            norm += v[i] * v[i];
        }
        for (int64_t i = 0; i < n; i++) {
            v[i] /= sqrt(norm);
        }
        matrix_reflect(n, v, a, work);
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            a[i * n + j] = a[j * n + i] = 0.5 * (a[i * n + j] + a[j * n + i]);
        }
    }
    free(work);
    free(v);
}

/* Rounding of products and of matrix_with_spectrum: n-term sums, each term off by a few eps of the norm. */
static inline double matrix_rounding(int64_t n, double norm)
{
    return 8.0 * (double)(n + 8) * DBL_EPSILON * norm;
}

/* A random vector of one column on `space`. */
static inline hsgd_vector *matrix_random(const hsgd_space *space, uint32_t number)
{
    const hsgd_random stream = hsgd_random_stream(11, HSGD_RANDOM_TEST, number);
    hsgd_vector *x = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_vector_create(space, 1, &x, &err));
    assert_ok(hsgd_vector_random(x, 0, HSGD_DRAW_NORMAL, &stream, &err));
    return x;
}

/* Fail unless both vectors hold the same bits, on whatever ranks. */
static inline void matrix_same_bits(const hsgd_vector *x, const hsgd_vector *y)
{
    const size_t count = (size_t)(x->columns * x->space->n);
    double *a = calloc(count + 1, sizeof *a), *b = calloc(count + 1, sizeof *b);
    hsgd_error err = {0};

    assert_int_equal(x->columns, y->columns);
    assert_ok(hsgd_vector_gather(x, a, &err));
    assert_ok(hsgd_vector_gather(y, b, &err));
    assert_memory_equal(a, b, count * sizeof *a);
    free(b);
    free(a);
}
