/* src/solve/probing.c - Hutchinson's estimate of the trace, whole and of ranges of rows. */
#include "solve/probing.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    int64_t ranges;
    const int64_t *bounds;
    hsgd_vector *z, *y;    /* [n, columns] probes and products */
    hsgd_vector *masked;   /* [n, 1 + ranges]: a probe, whole and within each range alone */
    double *local, *piece; /* [rows]: a probe, and its rows within a range */
    double *products;      /* [1 + ranges] */
} probing;

static hsgd_status prepare(probing *p, const hsgd_space *space, int64_t columns, hsgd_error *err)
{
    const int64_t rows = hsgd_space_rows(space);
    hsgd_status st = HSGD_OK;

    p->local = calloc((size_t)(2 * rows + 1 + p->ranges), sizeof *p->local);
    HSGD_CHECK(p->local != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the probes of the trace");
    p->piece = p->local + rows;
    p->products = p->piece + rows;
    HSGD_TRY(hsgd_vector_create(space, columns, &p->z, err));
    HSGD_TRY(hsgd_vector_create(space, columns, &p->y, err));
    HSGD_TRY(hsgd_vector_create(space, 1 + p->ranges, &p->masked, err));
done:
    return hsgd_comm_agree(space->comm, st, err);
}

/* masked = z and, for each range, z with all other rows 0. */
static hsgd_status mask(probing *p, const hsgd_vector *z, hsgd_error *err)
{
    const hsgd_space *space = z->space;
    hsgd_vector whole = hsgd_vector_view(p->masked, 0, 1);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_get_local(z, p->local, err));
    HSGD_TRY(hsgd_vector_set_local(&whole, p->local, err));
    for (int64_t r = 0; r < p->ranges; r++) {
        hsgd_vector column = hsgd_vector_view(p->masked, 1 + r, 1);

        for (int64_t i = 0; i < hsgd_space_rows(space); i++) {
            const int64_t row = space->low + i;

            p->piece[i] = row >= p->bounds[r] && row < p->bounds[r + 1] ? p->local[i] : 0.0;
        }
        HSGD_TRY(hsgd_vector_set_local(&column, p->piece, err));
    }
done:
    return st;
}

/* Samples first .. first + count - 1 of the trace, and of its parts. */
static hsgd_status probe(probing *p, hsgd_linop *op, uint64_t seed, int64_t first, int64_t count, double *sample,
                         double *parts, hsgd_error *err)
{
    const hsgd_vector z = hsgd_vector_view(p->z, 0, count);
    hsgd_vector y = hsgd_vector_view(p->y, 0, count);
    hsgd_status st = HSGD_OK;

    for (int64_t j = 0; j < count; j++) {
        const hsgd_random stream = hsgd_random_stream(seed, HSGD_RANDOM_TRACE, (uint32_t)(first + j));

        HSGD_TRY(hsgd_vector_random(p->z, j, HSGD_DRAW_SIGN, &stream, err));
    }
    HSGD_TRY(hsgd_linop_apply(op, &z, &y, err));
    for (int64_t j = 0; j < count; j++) {
        const hsgd_vector zj = hsgd_vector_view(&z, j, 1), yj = hsgd_vector_view(&y, j, 1);

        HSGD_TRY(mask(p, &zj, err));
        HSGD_TRY(hsgd_vector_gram(p->masked, &yj, p->products, err));
        HSGD_CHECK(isfinite(p->products[0]), HSGD_ERR_NUMERIC, err, "trace: probe %lld gave NaN or Inf",
                   (long long)(first + j + 1));
        sample[first + j] = p->products[0];
        for (int64_t r = 0; r < p->ranges; r++) {
            parts[(first + j) * p->ranges + r] = p->products[1 + r];
        }
    }
done:
    return st;
}

hsgd_status hsgd_hutchinson(hsgd_linop *op, int64_t probes, uint64_t seed, int64_t columns, int64_t ranges,
                            const int64_t *bounds, double *sample, double *parts, hsgd_error *err)
{
    probing p = {.ranges = ranges, .bounds = bounds};
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(probes >= 1 && columns >= 1 && ranges >= 0, HSGD_ERR_USAGE, err,
               "trace: %lld probes, %lld at a time, %lld parts; use at least one probe", (long long)probes,
               (long long)columns, (long long)ranges);
    columns = columns < probes ? columns : probes;
    HSGD_TRY(prepare(&p, hsgd_linop_space(op), columns, err));
    for (int64_t first = 0; first < probes; first += columns) {
        const int64_t count = probes - first < columns ? probes - first : columns;

        HSGD_TRY(probe(&p, op, seed, first, count, sample, parts, err));
    }
done:
    hsgd_vector_destroy(&p.masked);
    hsgd_vector_destroy(&p.y);
    hsgd_vector_destroy(&p.z);
    free(p.local);
    return st;
}

void hsgd_mean_error(int64_t count, const double *sample, double *mean, double *error)
{
    double sum = 0.0, squares = 0.0;

    for (int64_t i = 0; i < count; i++) {
        sum += sample[i];
    }
    *mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        squares += (sample[i] - *mean) * (sample[i] - *mean);
    }
    *error = count > 1 ? sqrt(squares / (double)(count - 1) / (double)count) : -1.0;
}
