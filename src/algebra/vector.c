/* src/algebra/vector.c - columns on a space: products whose bits do not depend on the ranks, and their like. */
#include "algebra/vector.h"
#include <math.h>
#include <stdlib.h>

enum { CHUNK = 2048 }; /* doubles that pass through the stack at a time on the way to or from the backend's memory */

static int64_t rows_of(const hsgd_vector *x)
{
    return x->space->high - x->space->low;
}

static size_t bytes_of(const hsgd_vector *x)
{
    return (size_t)(x->columns * rows_of(x)) * sizeof(double);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

hsgd_status hsgd_vector_create(const hsgd_space *space, int64_t columns, hsgd_vector **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_vector *x = NULL;
    void *memory = NULL;

    *out = NULL;
    x = malloc(sizeof *x);
    HSGD_CHECK(x != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate a vector");
    *x = (hsgd_vector){.space = space, .columns = columns, .owner = true};
    if (bytes_of(x) > 0) {
        HSGD_TRY(space->backend->ops->alloc(space->backend->self, bytes_of(x), &memory, err));
    }
    x->data = memory;
    *out = x;
    x = NULL;
done:
    free(x);
    return st;
}

hsgd_status hsgd_vector_clone(const hsgd_vector *x, hsgd_vector **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_vector *y = NULL;

    *out = NULL;
    HSGD_TRY(hsgd_vector_create(x->space, x->columns, &y, err));
    HSGD_TRY(hsgd_vector_copy(x, y, err));
    *out = y;
    y = NULL;
done:
    hsgd_vector_destroy(&y);
    return st;
}

void hsgd_vector_destroy(hsgd_vector **x)
{
    if (x == NULL || *x == NULL) {
        return;
    }
    if ((*x)->owner) {
        (*x)->space->backend->ops->release((*x)->space->backend->self, (*x)->data);
    }
    free(*x);
    *x = NULL;
}

hsgd_vector hsgd_vector_view(const hsgd_vector *x, int64_t first, int64_t count)
{
    double *data = x->data == NULL ? NULL : x->data + first * rows_of(x);

    return (hsgd_vector){.space = x->space, .columns = count, .data = data, .owner = false};
}

/* to[rows] += a from[rows], one column in backend memory. */
static hsgd_status add_column(const hsgd_space *space, double a, const double *from, double *to, hsgd_error *err)
{
    const int64_t rows = hsgd_space_rows(space);

    return space->backend->ops->update(space->backend->self, rows, space->block, 1, from, rows, &a, 1, to, rows, err);
}

static hsgd_status zero(const hsgd_space *space, size_t bytes, double *memory, hsgd_error *err)
{
    return space->backend->ops->zero(space->backend->self, 0, bytes, memory, err);
}

hsgd_status hsgd_vector_copy(const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (bytes_of(y) > 0) {
        HSGD_TRY(zero(y->space, bytes_of(y), y->data, err));
        HSGD_TRY(hsgd_vector_axpy(1.0, x, y, err)); /* 0 + 1 x: exact */
    }
done:
    return st;
}

hsgd_status hsgd_vector_axpy(double a, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    const int64_t rows = rows_of(x);
    hsgd_status st = HSGD_OK;

    /* column by column: as one product with a times the unit matrix, an Inf in one column would reach the others */
    for (int64_t j = 0; j < x->columns && rows > 0; j++) {
        HSGD_TRY(add_column(x->space, a, x->data + j * rows, y->data + j * rows, err));
    }
done:
    return st;
}

hsgd_status hsgd_vector_scale(double a, hsgd_vector *x, hsgd_error *err)
{
    const int64_t rows = rows_of(x);
    const size_t bytes = (size_t)rows * sizeof(double);
    hsgd_status st = HSGD_OK;
    void *scaled = NULL;

    if (rows == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_space_scratch(x->space, HSGD_SCRATCH_BACKEND, bytes, &scaled, err));
    for (int64_t j = 0; j < x->columns; j++) {
        double *column = x->data + j * rows;

        /* by way of 0 + a x, which rounds once; x += (a - 1) x would round twice */
        HSGD_TRY(zero(x->space, bytes, scaled, err));
        HSGD_TRY(add_column(x->space, a, column, scaled, err));
        HSGD_TRY(zero(x->space, bytes, column, err));
        HSGD_TRY(add_column(x->space, 1.0, scaled, column, err));
    }
done:
    return st;
}

void hsgd_vector_swap(hsgd_vector *x, hsgd_vector *y)
{
    double *data = x->data;

    x->data = y->data;
    y->data = data;
}

/* partial[b][products] of the local blocks. */
static hsgd_status local_products(const hsgd_vector *x, const hsgd_vector *y, double *partial, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t rows = hsgd_space_rows(space);

    if (rows == 0) {
        return HSGD_OK;
    }
    return space->backend->ops->gram(space->backend->self, rows, space->block, x->columns, x->data, rows, y->columns,
                                     y->data, rows, partial, err);
}

/* g[products] = the sum of partial[blocks][products] in the order of the blocks. */
static void add_blocks(int64_t blocks, int64_t products, const double *partial, double *g)
{
    for (int64_t i = 0; i < products; i++) {
        g[i] = 0.0;
    }
    for (int64_t b = 0; b < blocks; b++) {
        for (int64_t i = 0; i < products; i++) {
            g[i] += partial[b * products + i];
        }
    }
}

/* Bring the ranks' partial products together: every rank holds consecutive blocks, so that their concatenation is the
 * partial products of all blocks in order, whatever the number of ranks. */
static hsgd_status gather_blocks(const hsgd_space *space, int64_t products, const double *mine, double *all,
                                 int64_t *counts, hsgd_error *err)
{
    for (int rank = 0; rank < space->comm->ranks; rank++) {
        counts[rank] = (space->counts[rank] + space->block - 1) / space->block * products;
    }
    return hsgd_comm_all_gather(space->comm, HSGD_TYPE_F64, counts, mine, all, err);
}

hsgd_status hsgd_vector_gram(const hsgd_vector *x, const hsgd_vector *y, double *g, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const bool spread = space->layout == HSGD_SPREAD && space->comm->ranks > 1;
    const int64_t products = x->columns * y->columns;
    const int64_t local_blocks = (rows_of(x) + space->block - 1) / space->block;
    const size_t slots = (size_t)(space->blocks * products); /* the same on every rank, as scratch asks */
    hsgd_status st = HSGD_OK;
    void *scratch = NULL;
    double *mine = NULL, *all = NULL;

    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_COLLECTIVE,
                                2 * slots * sizeof *mine + (size_t)space->comm->ranks * sizeof(int64_t), &scratch,
                                err));
    mine = scratch;
    all = mine + slots;
    HSGD_TRY(local_products(x, y, mine, err));
    if (spread && space->reduction == HSGD_REDUCTION_REPRODUCIBLE) {
        HSGD_TRY(gather_blocks(space, products, mine, all, (int64_t *)(void *)(all + slots), err));
        add_blocks(space->blocks, products, all, g);
    } else {
        add_blocks(local_blocks, products, mine, g);
        if (spread) {
            HSGD_TRY(hsgd_comm_sum(space->comm, HSGD_TYPE_F64, products, g, err));
        }
    }
done:
    return st;
}

hsgd_status hsgd_vector_update(double a, const hsgd_vector *x, const double *c, hsgd_vector *y, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t rows = hsgd_space_rows(space), count = x->columns * y->columns;
    hsgd_status st = HSGD_OK;
    void *scratch = NULL;
    double *scaled = NULL;

    if (rows == 0 || count == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_LOCAL, (size_t)count * sizeof *scaled, &scratch, err));
    scaled = scratch;
    for (int64_t i = 0; i < count; i++) {
        scaled[i] = a * c[i];
    }
    HSGD_TRY(space->backend->ops->update(space->backend->self, rows, space->block, x->columns, x->data, rows, scaled,
                                         y->columns, y->data, rows, err));
done:
    return st;
}

hsgd_status hsgd_vector_dot(const hsgd_vector *x, const hsgd_vector *y, double *dot, hsgd_error *err)
{
    return hsgd_vector_gram(x, y, dot, err);
}

hsgd_status hsgd_vector_norm(const hsgd_vector *x, double *norm, hsgd_error *err)
{
    const hsgd_status st = hsgd_vector_gram(x, x, norm, err);

    *norm = st == HSGD_OK ? sqrt(*norm) : 0.0;
    return st;
}

hsgd_status hsgd_vector_normalize(hsgd_vector *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double norm = 0.0;

    HSGD_TRY(hsgd_vector_norm(x, &norm, err));
    HSGD_CHECK(norm > 0.0 && isfinite(norm) && isfinite(1.0 / norm), HSGD_ERR_NUMERIC, err,
               "vector: cannot give a vector of norm %g unit norm; it must be finite and not zero", norm);
    HSGD_TRY(hsgd_vector_scale(1.0 / norm, x, err));
done:
    return st;
}

/* One value of row `row` (of all n) of the stream. */
static double draw_one(hsgd_draw draw, const hsgd_random *stream, int64_t row)
{
    return draw == HSGD_DRAW_SIGN ? hsgd_random_sign(stream, (uint64_t)row) : hsgd_random_normal(stream, (uint64_t)row);
}

hsgd_status hsgd_vector_random(hsgd_vector *x, int64_t column, hsgd_draw draw, const hsgd_random *stream,
                               hsgd_error *err)
{
    const hsgd_backend *backend = x->space->backend;
    const int64_t rows = rows_of(x);
    hsgd_status st = HSGD_OK;
    double chunk[CHUNK];

    for (int64_t first = 0; first < rows; first += CHUNK) {
        const int64_t count = smaller(CHUNK, rows - first);

        for (int64_t i = 0; i < count; i++) {
            chunk[i] = draw_one(draw, stream, x->space->low + first + i);
        }
        HSGD_TRY(backend->ops->upload(backend->self, (size_t)count * sizeof *chunk, chunk,
                                      x->data + column * rows + first, err));
    }
done:
    return st;
}

hsgd_status hsgd_vector_gather(const hsgd_vector *x, double *full, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t rows = rows_of(x);
    hsgd_status st = HSGD_OK;
    void *send = NULL;

    if (space->layout == HSGD_REPLICATED) {
        return hsgd_vector_get_local(x, full, err);
    }
    /* rank 0 has the most rows: the same size on every rank, as scratch asks */
    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_COLLECTIVE, (size_t)space->counts[0] * sizeof *full, &send, err));
    for (int64_t j = 0; j < x->columns; j++) {
        const hsgd_vector column = hsgd_vector_view(x, j, 1);

        HSGD_TRY(hsgd_vector_get_local(&column, send, err));
        HSGD_TRY(hsgd_comm_all_gather(space->comm, HSGD_TYPE_F64, space->counts, rows > 0 ? send : NULL,
                                      full + j * space->n, err));
    }
done:
    return st;
}

hsgd_status hsgd_vector_set_full(hsgd_vector *x, const double *full, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t rows = rows_of(x);
    hsgd_status st = HSGD_OK;

    for (int64_t j = 0; j < x->columns && rows > 0; j++) {
        HSGD_TRY(space->backend->ops->upload(space->backend->self, (size_t)rows * sizeof *full,
                                             full + j * space->n + space->low, x->data + j * rows, err));
    }
done:
    return st;
}

hsgd_status hsgd_vector_set_local(hsgd_vector *x, const double *local, hsgd_error *err)
{
    const hsgd_backend *backend = x->space->backend;

    return bytes_of(x) == 0 ? HSGD_OK : backend->ops->upload(backend->self, bytes_of(x), local, x->data, err);
}

hsgd_status hsgd_vector_get_local(const hsgd_vector *x, double *local, hsgd_error *err)
{
    const hsgd_backend *backend = x->space->backend;

    return bytes_of(x) == 0 ? HSGD_OK : backend->ops->download(backend->self, bytes_of(x), x->data, local, err);
}

hsgd_status hsgd_vector_finite(const hsgd_vector *x, bool *finite, hsgd_error *err)
{
    const hsgd_backend *backend = x->space->backend;
    const int64_t total = x->columns * rows_of(x);
    hsgd_status st = HSGD_OK;
    double chunk[CHUNK];
    int64_t bad = 0;

    for (int64_t first = 0; first < total; first += CHUNK) {
        const int64_t count = smaller(CHUNK, total - first);

        HSGD_TRY(backend->ops->download(backend->self, (size_t)count * sizeof *chunk, x->data + first, chunk, err));
        for (int64_t i = 0; i < count; i++) {
            bad |= !isfinite(chunk[i]);
        }
    }
    if (x->space->layout == HSGD_SPREAD) {
        HSGD_TRY(hsgd_comm_max(x->space->comm, HSGD_TYPE_I64, 1, &bad, err));
    }
    *finite = bad == 0;
done:
    return st;
}
