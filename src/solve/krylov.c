/* src/solve/krylov.c - see krylov.h. */
#include "solve/krylov.h"
#include "base/clock.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

/* A residual this small against norm(A) is rounding: two passes of Gram-Schmidt leave a few eps norm(A). */
static const double BREAKDOWN = 64.0 * DBL_EPSILON;

/* Where a column loses that much of its length to the others of its block, or is that short against norm(A), what rounding
 * left of it along the basis has grown by the inverse, and it is taken against the whole basis once more. */
static const double LOSS = 0.1;

hsgd_status hsgd_krylov_create(hsgd_linop *op, int64_t block, int64_t capacity, int64_t locked, uint64_t seed,
                               hsgd_krylov *k, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(op);
    const int64_t columns = hsgd_krylov_columns(block, capacity, locked);
    hsgd_status st = HSGD_OK;

    *k = (hsgd_krylov){.op = op, .block = block, .seed = seed};
    const int64_t products = 2 * columns * block,
                  turns = capacity * capacity; /* coefficients of a step; of a restart */
    k->c = malloc((size_t)(products > turns ? products : turns) * sizeof *k->c);
    k->coefficients = malloc((size_t)(2 * columns + 1) * sizeof *k->coefficients);
    if (k->c == NULL || k->coefficients == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY,
                            "memory: cannot allocate a basis of %lld vectors; set eigen.basis lower",
                            (long long)columns);
    }
    st = st == HSGD_OK ? hsgd_vector_create(space, columns, &k->basis, err) : st;
    st = st == HSGD_OK ? hsgd_projected_create(capacity, block, &k->projected, err) : st;
    return hsgd_comm_agree(space->comm, st, err);
}

hsgd_status hsgd_krylov_reserve(hsgd_krylov *k, hsgd_error *err)
{
    const hsgd_space *space = k->basis->space;

    return hsgd_comm_agree(space->comm, hsgd_vector_create(space, k->projected.capacity, &k->scratch, err), err);
}

void hsgd_krylov_destroy(hsgd_krylov *k)
{
    hsgd_projected_destroy(&k->projected);
    hsgd_vector_destroy(&k->scratch);
    hsgd_vector_destroy(&k->basis);
    free(k->coefficients);
    free(k->c);
    k->coefficients = k->c = NULL;
}

/* Take the column `at` against the columns 0 .. before - 1 and give it unit norm; *length: what was left of it, 0 where it
 * is at most `least`. */
static hsgd_status settle_column(hsgd_krylov *k, int64_t before, int64_t at, double least, double *length,
                                 hsgd_error *err)
{
    const hsgd_vector basis = hsgd_vector_view(k->basis, 0, before);
    hsgd_vector column = hsgd_vector_view(k->basis, at, 1);
    hsgd_status st = HSGD_OK;

    if (before > 0) {
        HSGD_TRY(hsgd_vector_orthogonalize(&basis, &column, k->coefficients, length, err));
    } else {
        HSGD_TRY(hsgd_vector_norm(&column, length, err));
    }
    HSGD_CHECK_FINITE(isfinite(*length), err,
                      "eigen: a product of the operator \"%s\" holds NaN or Inf; check the weights",
                      hsgd_linop_name(k->op));
    if (!(*length > least)) {
        *length = 0.0;
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_vector_scale(1.0 / *length, &column, err));
done:
    return st;
}

/* The next direction into column `at`: of `start` while there are some, then random. */
static hsgd_status fill_column(hsgd_krylov *k, const hsgd_vector *start, int64_t number, int64_t at, hsgd_error *err)
{
    hsgd_vector column = hsgd_vector_view(k->basis, at, 1);

    if (start != NULL && number < start->columns) {
        const hsgd_vector from = hsgd_vector_view(start, number, 1);

        return hsgd_vector_copy(&from, &column, err);
    }
    {
        const hsgd_random stream = hsgd_random_stream(k->seed, HSGD_RANDOM_EIGEN, (uint32_t)k->drawn++);

        return hsgd_vector_random(&column, 0, HSGD_DRAW_NORMAL, &stream, err);
    }
}

hsgd_status hsgd_krylov_begin(hsgd_krylov *k, const hsgd_vector *start, hsgd_error *err)
{
    enum { TRIES = 8 };
    const int64_t n = k->basis->space->n, left = n - k->locked, given = start != NULL ? start->columns : 0;
    const int64_t count = left < k->block ? left : k->block;
    hsgd_status st = HSGD_OK;

    k->projected.size = k->next = 0;
    for (int64_t number = 0; k->next < count; number++) {
        const int64_t at = k->locked + k->next;
        const double least = sqrt(DBL_EPSILON); /* of a norm: start vectors' are 1, random ones' sqrt(n) */
        double length = 0.0;

        HSGD_CHECK(number < given + count + TRIES, HSGD_ERR_NUMERIC, err,
                   "eigen: random directions lie in the span of %lld vectors; try another run.seed", (long long)at);
        HSGD_TRY(fill_column(k, start, number, at, err));
        HSGD_TRY(settle_column(k, at, at, least, &length, err));
        if (length > 0.0) { /* once more: little may have been left */
            HSGD_TRY(settle_column(k, at, at, 0.5, &length, err));
        }
        k->next += length > 0.0;
    }
    k->projected.rows = k->next;
done:
    return st;
}

/* T's new columns from c [held][p], `from` on: rows of V and of the block, symmetric. */
static void extend_t(hsgd_krylov *k, int64_t p)
{
    hsgd_projected *small = &k->projected;
    const int64_t size = small->size, capacity = small->capacity;
    const double *c = k->c + k->locked * p; /* what lies along the locked part is its rounding */

    for (int64_t i = 0; i < size + p; i++) {
        for (int64_t j = 0; j < p; j++) {
            const double value = i < size ? c[i * p + j] : 0.5 * (c[i * p + j] + c[(size + j) * p + i - size]);

            small->t[i * capacity + size + j] = value;
            small->t[(size + j) * capacity + i] = value;
        }
    }
    small->size += p;
}

/* Column i of the products, orthogonal to the basis, becomes the next of W if anything is left of it; its coefficients
 * along W go into B. */
static hsgd_status accept_column(hsgd_krylov *k, int64_t end, int64_t i, int64_t place, hsgd_error *err)
{
    hsgd_projected *small = &k->projected;
    const hsgd_vector from = hsgd_vector_view(k->basis, end + i, 1), block = hsgd_vector_view(k->basis, end, k->next);
    hsgd_vector column = hsgd_vector_view(k->basis, end + k->next, 1);
    const double least = BREAKDOWN * k->norm;
    hsgd_status st = HSGD_OK;
    double length = 0.0, whole = 0.0, again = 0.0;

    if (i != k->next) {
        HSGD_TRY(hsgd_vector_copy(&from, &column, err));
    }
    if (k->next > 0) {
        HSGD_TRY(hsgd_vector_orthogonalize(&block, &column, k->coefficients, &length, err));
    } else {
        HSGD_TRY(hsgd_vector_norm(&column, &length, err));
    }
    whole = length * length;
    for (int64_t j = 0; j < k->next; j++) {
        small->b[j * small->capacity + place] = k->coefficients[j];
        whole += k->coefficients[j] * k->coefficients[j];
    }
    if (!(length > least)) {
        k->dropped += length;
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_vector_scale(1.0 / length, &column, err));
    if (length < LOSS * sqrt(whole) || length < LOSS * k->norm) {
        HSGD_TRY(settle_column(k, end + k->next, end + k->next, 0.5, &again, err));
        if (!(again > 0.0)) {
            k->dropped += length;
            return HSGD_OK;
        }
    }
    small->b[k->next * small->capacity + place] = length;
    k->next++;
done:
    return st;
}

/* Norms of the products, before anything is taken out of them: lower bounds of norm(A). */
static hsgd_status measure(hsgd_krylov *k, const hsgd_vector *y, hsgd_error *err)
{
    const int64_t p = y->columns;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_gram(y, y, k->c, err));
    for (int64_t i = 0; i < p; i++) {
        const double norm = sqrt(k->c[i * p + i]);

        HSGD_CHECK_FINITE(isfinite(norm), err,
                          "eigen: a product of the operator \"%s\" holds NaN or Inf; check the weights",
                          hsgd_linop_name(k->op));
        k->norm = norm > k->norm ? norm : k->norm;
    }
done:
    return st;
}

/* Frobenius norm of B's last p columns: no residual of a Ritz pair is greater. */
static double coupling_of(const hsgd_krylov *k, int64_t p)
{
    const hsgd_projected *small = &k->projected;
    double squares = 0.0;

    for (int64_t row = 0; row < k->next; row++) {
        for (int64_t j = small->size - p; j < small->size; j++) {
            squares += small->b[row * small->capacity + j] * small->b[row * small->capacity + j];
        }
    }
    return sqrt(squares);
}

/* Put the time since *clock, of which the ranks' communicator tells its own part, where it belongs; begin anew. */
static void split_time(hsgd_krylov *k, double *clock, double *waited, double *seconds)
{
    const double now = hsgd_clock(), communication = k->basis->space->comm->seconds;

    k->seconds_communication += communication - *waited;
    *seconds += now - *clock - (communication - *waited);
    *clock = now;
    *waited = communication;
}

hsgd_status hsgd_krylov_step(hsgd_krylov *k, hsgd_error *err)
{
    hsgd_projected *small = &k->projected;
    const int64_t p = k->next, begin = k->locked + small->size, end = begin + p;
    const hsgd_vector x = hsgd_vector_view(k->basis, begin, p), all = hsgd_vector_view(k->basis, 0, end);
    hsgd_vector y = hsgd_vector_view(k->basis, end, p);
    const hsgd_comm *comm = k->basis->space->comm;
    double clock = hsgd_clock(), waited = comm->seconds;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_linop_apply(k->op, &x, &y, err));
    split_time(k, &clock, &waited, &k->seconds_products);
    HSGD_TRY(measure(k, &y, err));
    HSGD_TRY(hsgd_vector_project_out(&all, &y, k->c, k->c + end * p, err));
    extend_t(k, p);
    for (int64_t row = 0; row < small->most; row++) {
        for (int64_t j = 0; j < small->size; j++) {
            small->b[row * small->capacity + j] = 0.0;
        }
    }
    k->next = 0;
    for (int64_t i = 0; i < p; i++) {
        HSGD_TRY(accept_column(k, end, i, small->size - p + i, err));
    }
    small->rows = k->next;
    k->coupling = coupling_of(k, p);
    split_time(k, &clock, &waited, &k->seconds_orthogonalization);
done:
    return st;
}

void hsgd_krylov_end(hsgd_krylov *k)
{
    k->dropped += k->coupling;
    k->coupling = 0.0;
    k->next = k->projected.rows = 0;
}

hsgd_status hsgd_krylov_keep(hsgd_krylov *k, int64_t count, const int64_t *chosen, hsgd_error *err)
{
    hsgd_projected *small = &k->projected;
    const int64_t size = small->size;
    const hsgd_vector v = hsgd_vector_view(k->basis, k->locked, size);
    hsgd_vector kept = hsgd_vector_view(k->scratch, 0, count), to = hsgd_vector_view(k->basis, k->locked, count);
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < size; j++) {
            k->c[j * count + i] = small->s[chosen[i] * size + j];
        }
    }
    if (count > 0) {
        HSGD_TRY(hsgd_vector_scale(0.0, &kept, err));
        HSGD_TRY(hsgd_vector_update(1.0, &v, k->c, &kept, err));
        HSGD_TRY(hsgd_vector_copy(&kept, &to, err));
    }
    for (int64_t i = 0; i < k->next && count < size; i++) { /* column by column: from and to may overlap */
        const hsgd_vector from = hsgd_vector_view(k->basis, k->locked + size + i, 1);
        hsgd_vector moved = hsgd_vector_view(k->basis, k->locked + count + i, 1);

        HSGD_TRY(hsgd_vector_copy(&from, &moved, err));
    }
    hsgd_projected_keep(small, count, chosen);
done:
    return st;
}

hsgd_status hsgd_krylov_move(hsgd_krylov *k, int64_t from, int64_t to, hsgd_error *err)
{
    const hsgd_vector column = hsgd_vector_view(k->basis, from, 1);
    hsgd_vector place = hsgd_vector_view(k->basis, to, 1);

    return from == to ? HSGD_OK : hsgd_vector_copy(&column, &place, err);
}

hsgd_status hsgd_krylov_lock(hsgd_krylov *k, int64_t old, int64_t fresh, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < fresh; i++) {
        HSGD_TRY(hsgd_krylov_move(k, k->locked + i, old + i, err));
    }
    k->locked = old + fresh;
    k->projected.size = k->next = 0;
done:
    return st;
}
