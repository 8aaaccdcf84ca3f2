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

    return space->backend->ops->update(space->backend->self, rows, hsgd_space_block(space), a, 1, from, rows,
                                       space->one, 1, to, rows, err);
}

static hsgd_status zero(const hsgd_space *space, size_t bytes, double *memory, hsgd_error *err)
{
    return space->backend->ops->zero(space->backend->self, 0, bytes, memory, err);
}

hsgd_status hsgd_vector_copy(const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    const hsgd_backend *backend = x->space->backend;

    return bytes_of(y) == 0 ? HSGD_OK : backend->ops->copy(backend->self, 0, bytes_of(y), x->data, y->data, err);
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
        HSGD_TRY(x->space->backend->ops->copy(x->space->backend->self, 0, bytes, scaled, column, err));
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

/* g[x columns][y columns] = x_i' y_j in backend memory; nothing waits.  Every rank holds consecutive blocks, so that the
 * concatenation of the ranks' partial products is that of all blocks in order, whatever the number of ranks. */
static hsgd_status products(const hsgd_vector *x, const hsgd_vector *y, double *g, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const hsgd_backend *backend = space->backend;
    const int64_t rows = hsgd_space_rows(space), block = hsgd_space_block(space);
    const int64_t blocks = block > 0 ? (rows + block - 1) / block : rows > 0;
    const int64_t count = x->columns * y->columns, slots = space->blocks * count; /* slots: the same on every rank */
    const bool spread = space->layout == HSGD_SPREAD && space->comm->ranks > 1;
    const bool in_order = spread && space->reduction == HSGD_REDUCTION_REPRODUCIBLE;
    hsgd_status st = HSGD_OK;
    void *scratch = NULL;
    double *mine = NULL;

    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_SHARED, (size_t)(2 * slots) * sizeof *mine, &scratch, err));
    mine = scratch;
    if (rows > 0) {
        HSGD_TRY(backend->ops->gram(backend->self, rows, block, x->columns, x->data, rows, y->columns, y->data, rows,
                                    mine, err));
    }
    if (in_order) {
        for (int rank = 0; rank < space->comm->ranks; rank++) {
            space->slots[rank] = (space->counts[rank] + space->block - 1) / space->block * count;
        }
        HSGD_TRY(hsgd_exchange_all_gather(space->exchange, HSGD_TYPE_F64, space->slots, mine, mine + slots, err));
        HSGD_TRY(backend->ops->add_blocks(backend->self, space->blocks, count, mine + slots, g, err));
    } else {
        HSGD_TRY(backend->ops->add_blocks(backend->self, blocks, count, mine, g, err));
    }
    if (spread && !in_order) {
        HSGD_TRY(hsgd_exchange_sum(space->exchange, HSGD_TYPE_F64, count, g, err));
    }
done:
    return st;
}

/* y_j += a * sum over i of x_i c[i][j], c in backend memory. */
static hsgd_status update(double a, const hsgd_vector *x, const double *c, hsgd_vector *y, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t rows = hsgd_space_rows(space);

    if (rows == 0 || x->columns == 0 || y->columns == 0) {
        return HSGD_OK;
    }
    return space->backend->ops->update(space->backend->self, rows, hsgd_space_block(space), a, x->columns, x->data,
                                       rows, c, y->columns, y->data, rows, err);
}

hsgd_status hsgd_vector_gram(const hsgd_vector *x, const hsgd_vector *y, double *g, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const size_t bytes = (size_t)(x->columns * y->columns) * sizeof *g;
    hsgd_status st = HSGD_OK;
    void *memory = NULL;

    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_RESULT, bytes, &memory, err));
    HSGD_TRY(products(x, y, memory, err));
    HSGD_TRY(space->backend->ops->download(space->backend->self, bytes, memory, g, err));
done:
    return st;
}

hsgd_status hsgd_vector_update(double a, const hsgd_vector *x, const double *c, hsgd_vector *y, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const size_t bytes = (size_t)(x->columns * y->columns) * sizeof *c;
    hsgd_status st = HSGD_OK;
    void *memory = NULL;

    if (hsgd_space_rows(space) == 0 || bytes == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_BACKEND, bytes, &memory, err));
    HSGD_TRY(space->backend->ops->upload(space->backend->self, bytes, c, memory, err));
    HSGD_TRY(update(a, x, memory, y, err));
done:
    return st;
}

hsgd_status hsgd_vector_orthogonalize(const hsgd_vector *x, hsgd_vector *y, double *coefficients, double *norm,
                                      hsgd_error *err)
{
    enum { PASSES = 2 }; /* "twice is enough": Parlett, The Symmetric Eigenvalue Problem, section 6.9 */
    const hsgd_space *space = x->space;
    const int64_t k = x->columns;
    const size_t bytes = (size_t)(PASSES * k + 1) * sizeof *coefficients;
    hsgd_status st = HSGD_OK;
    void *memory = NULL;
    double *result = NULL;

    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_RESULT, bytes, &memory, err));
    result = memory;
    for (int pass = 0; pass < PASSES; pass++) {
        HSGD_TRY(products(x, y, result + pass * k, err));
        HSGD_TRY(update(-1.0, x, result + pass * k, y, err));
    }
    HSGD_TRY(products(y, y, result + PASSES * k, err));
    HSGD_TRY(space->backend->ops->download(space->backend->self, bytes, memory, coefficients, err));
    for (int64_t i = 0; i < k; i++) {
        coefficients[i] += coefficients[k + i];
    }
    *norm = sqrt(coefficients[PASSES * k]);
done:
    return st;
}

hsgd_status hsgd_vector_project_out(const hsgd_vector *x, hsgd_vector *y, double *c, double *scratch, hsgd_error *err)
{
    const hsgd_backend *backend = x->space->backend;
    const int64_t count = x->columns * y->columns;
    const size_t bytes = (size_t)count * sizeof *c;
    hsgd_status st = HSGD_OK;
    void *memory = NULL;
    double *result = NULL;

    if (count == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_space_scratch(x->space, HSGD_SCRATCH_RESULT, 2 * bytes, &memory, err));
    result = memory;
    for (int pass = 0; pass < 2; pass++) { /* "twice is enough", as in hsgd_vector_orthogonalize */
        HSGD_TRY(products(x, y, result + pass * count, err));
        HSGD_TRY(update(-1.0, x, result + pass * count, y, err));
    }
    HSGD_TRY(backend->ops->download(backend->self, bytes, result, c, err));
    HSGD_TRY(backend->ops->download(backend->self, bytes, result + count, scratch, err));
    for (int64_t i = 0; i < count; i++) {
        c[i] += scratch[i];
    }
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
    HSGD_CHECK_FINITE(isfinite(norm), err, "vector: cannot give a vector of norm %g unit norm", norm);
    HSGD_CHECK(norm > 0.0 && isfinite(1.0 / norm), HSGD_ERR_NUMERIC, err,
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

hsgd_status hsgd_vector_whole(const hsgd_vector *x, double *room, const double **full, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    hsgd_status st = HSGD_OK;

    *full = x->data;
    if (space->layout == HSGD_SPREAD && space->comm->ranks > 1) {
        for (int64_t j = 0; j < x->columns; j++) {
            const hsgd_vector column = hsgd_vector_view(x, j, 1);

            HSGD_TRY(hsgd_exchange_all_gather(space->exchange, HSGD_TYPE_F64, space->counts, column.data,
                                              room + j * space->n, err));
        }
        *full = room;
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
    HSGD_TRY(hsgd_space_scratch(space, HSGD_SCRATCH_HOST, (size_t)space->counts[0] * sizeof *full, &send, err));
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
