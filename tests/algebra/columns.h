/* tests/algebra/columns.h - columns of random numbers on the launch's ranks and on one alone, for the tests of vectors. */
#pragma once
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "algebra/vector.h"
#include "support.h"

/* One row; fewer rows than ranks; a ragged last block; the default network's parameters. */
static const int64_t lengths[] = {1, 5, 40, 1000, 28938};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

typedef struct {
    hsgd_comm *serial;
    hsgd_backend *backend;
    hsgd_space *space, *alone; /* over the launch's ranks; over one */
} fixture;

static inline void begin(fixture *f, int64_t n, hsgd_reduction reduction)
{
    hsgd_error err = {0};

    *f = (fixture){0};
    assert_ok(hsgd_comm_serial_create(&f->serial, &err));
    assert_ok(test_backend_create(HSGD_DOUBLE, 1, &f->backend, &err));
    assert_ok(hsgd_space_create(n, HSGD_SPREAD, reduction, test_comm(), f->backend, &f->space, &err));
    assert_ok(hsgd_space_create(n, HSGD_SPREAD, reduction, f->serial, f->backend, &f->alone, &err));
}

static inline void end(fixture *f)
{
    hsgd_space_destroy(&f->alone);
    hsgd_space_destroy(&f->space);
    hsgd_backend_destroy(&f->backend);
    hsgd_comm_destroy(&f->serial);
}

/* Random columns, stream `number` onwards. */
static inline hsgd_vector *draw(const hsgd_space *space, int64_t columns, uint32_t number)
{
    hsgd_vector *x = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_vector_create(space, columns, &x, &err));
    for (int64_t j = 0; j < columns; j++) {
        const hsgd_random stream = hsgd_random_stream(3, HSGD_RANDOM_TEST, number + (uint32_t)j);

        assert_ok(hsgd_vector_random(x, j, HSGD_DRAW_NORMAL, &stream, &err));
    }
    return x;
}

/* All rows of all columns; the caller frees them. */
static inline double *gather(const hsgd_vector *x)
{
    double *full = calloc((size_t)(x->columns * x->space->n), sizeof *full);
    hsgd_error err = {0};

    assert_ok(hsgd_vector_gather(x, full, &err));
    return full;
}

static inline void assert_same_bits(const hsgd_vector *x, const hsgd_vector *y)
{
    double *a = gather(x), *b = gather(y);

    assert_memory_equal(a, b, (size_t)(x->columns * x->space->n) * sizeof *a);
    free(b);
    free(a);
}
