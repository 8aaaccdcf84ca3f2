/* src/solve/eigen.c - what all eigen-solvers end with: order, sign and true residual of every pair. */
#include "solve/eigen.h"
#include <math.h>
#include <stdlib.h>

enum { BLOCK = 8 }; /* products measured in one sweep: what the operator takes at once by default */

int64_t hsgd_eigen_open(const hsgd_eigen_result *result)
{
    int64_t open = 0;

    for (int64_t i = 0; i < result->count; i++) {
        open += !result->converged[i];
    }
    return open;
}

void hsgd_eigen_result_clear(hsgd_eigen_result *result)
{
    free(result->values);
    free(result->residuals);
    free(result->converged);
    free(result->gaps);
    free(result->history);
    hsgd_vector_destroy(&result->vectors);
    *result = (hsgd_eigen_result){0};
}

/* The entry of largest magnitude of local[rows], the first among equals: magnitude, and row in all n (n: no row). */
static void largest_entry(const hsgd_space *space, const double *local, double *magnitude, int64_t *row)
{
    *magnitude = -1.0;
    *row = space->n;
    for (int64_t i = 0; i < hsgd_space_rows(space); i++) {
        if (fabs(local[i]) > *magnitude) {
            *magnitude = fabs(local[i]);
            *row = space->low + i;
        }
    }
}

/* Scale column x by -1 where its entry of largest magnitude (lowest row on ties) is negative.  local: [rows] scratch.
 * Collective. */
static hsgd_status fix_sign(hsgd_vector *x, double *local, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const bool spread = space->layout == HSGD_SPREAD;
    hsgd_status st = HSGD_OK;
    double mine = 0.0, magnitude = 0.0, sign = 0.0;
    int64_t row = 0, before = 0; /* `before`: rows from the found one to the end, so that max finds the lowest */

    HSGD_TRY(hsgd_vector_get_local(x, local, err));
    largest_entry(space, local, &mine, &row);
    magnitude = mine;
    if (spread) {
        HSGD_TRY(hsgd_comm_max(space->comm, HSGD_TYPE_F64, 1, &magnitude, err));
    }
    before = mine == magnitude ? space->n - row : 0;
    if (spread) {
        HSGD_TRY(hsgd_comm_max(space->comm, HSGD_TYPE_I64, 1, &before, err));
    }
    row = space->n - before;
    if (row >= space->low && row < space->high) {
        sign = local[row - space->low] < 0.0 ? -1.0 : 1.0;
    }
    if (spread) {
        HSGD_TRY(hsgd_comm_sum(space->comm, HSGD_TYPE_F64, 1, &sign, err)); /* one rank holds the row, the others 0 */
    }
    if (sign < 0.0) {
        HSGD_TRY(hsgd_vector_scale(-1.0, x, err));
    }
done:
    return st;
}

/* Copy the pairs into the result in descending order of value (equal values keep their order). */
static hsgd_status sort_pairs(const double *values, const hsgd_vector *vectors, hsgd_eigen_result *result,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < result->count; i++) {
        const hsgd_vector from = hsgd_vector_view(vectors, i, 1);
        hsgd_vector to = {0};
        int64_t place = 0;

        for (int64_t j = 0; j < result->count; j++) {
            place += values[j] > values[i] || (values[j] == values[i] && j < i);
        }
        to = hsgd_vector_view(result->vectors, place, 1);
        result->values[place] = values[i];
        HSGD_TRY(hsgd_vector_copy(&from, &to, err));
    }
done:
    return st;
}

/* residuals[k] = norm(A v - lambda v) of columns first .. first + k - 1; y: [n, BLOCK] scratch. */
static hsgd_status measure(hsgd_linop *op, int64_t first, int64_t k, const hsgd_vector *y, hsgd_eigen_result *result,
                           hsgd_error *err)
{
    const hsgd_vector v = hsgd_vector_view(result->vectors, first, k);
    hsgd_vector r = hsgd_vector_view(y, 0, k);
    hsgd_status st = HSGD_OK;
    double products[BLOCK * BLOCK];

    HSGD_TRY(hsgd_linop_apply(op, &v, &r, err));
    for (int64_t i = 0; i < k; i++) {
        const hsgd_vector vi = hsgd_vector_view(&v, i, 1);
        hsgd_vector ri = hsgd_vector_view(&r, i, 1);

        HSGD_TRY(hsgd_vector_axpy(-result->values[first + i], &vi, &ri, err));
    }
    HSGD_TRY(hsgd_vector_gram(&r, &r, products, err)); /* all norms in one collective call */
    for (int64_t i = 0; i < k; i++) {
        result->residuals[first + i] = sqrt(products[i * k + i]);
    }
    result->products += k;
done:
    return st;
}

/* Memory for `count` pairs, the scratch of measure and one column on the host; agreed on all ranks. */
static hsgd_status prepare(const hsgd_space *space, int64_t count, hsgd_eigen_result *result, hsgd_vector **y,
                           double **local, hsgd_error *err)
{
    const size_t k = (size_t)count;
    hsgd_status st = HSGD_OK;

    result->count = count;
    result->values = calloc(k, sizeof *result->values);
    result->residuals = calloc(k, sizeof *result->residuals);
    result->converged = calloc(k, sizeof *result->converged);
    result->gaps = calloc(k, sizeof *result->gaps);
    *local = malloc((size_t)(hsgd_space_rows(space) + 1) * sizeof **local);
    HSGD_CHECK(result->values != NULL && result->residuals != NULL && result->converged != NULL &&
                   result->gaps != NULL && *local != NULL,
               HSGD_ERR_MEMORY, err, "memory: cannot allocate %lld eigenpairs; ask for fewer", (long long)count);
    HSGD_TRY(hsgd_vector_create(space, count, &result->vectors, err));
    HSGD_TRY(hsgd_vector_create(space, count < BLOCK ? count : BLOCK, y, err));
done:
    return hsgd_comm_agree(space->comm, st, err);
}

/* result->orthogonality of the vectors as they are returned. */
static hsgd_status measure_orthogonality(hsgd_eigen_result *result, hsgd_error *err)
{
    const int64_t k = result->count;
    hsgd_status st = HSGD_OK;
    double *g = malloc((size_t)(k * k) * sizeof *g);

    HSGD_TRY(hsgd_comm_agree(result->vectors->space->comm, g != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(hsgd_vector_gram(result->vectors, result->vectors, g, err));
    for (int64_t i = 0; i < k * k; i++) {
        result->orthogonality = fmax(result->orthogonality, fabs(g[i] - (i / k == i % k ? 1.0 : 0.0)));
    }
done:
    free(g);
    return st;
}

hsgd_status hsgd_eigen_certify(hsgd_linop *op, const hsgd_eigen_options *options, const double *values,
                               hsgd_vector **vectors, double scale, hsgd_eigen_result *result, hsgd_error *err)
{
    const int64_t count = (*vectors)->columns;
    hsgd_status st = HSGD_OK;
    hsgd_vector *y = NULL;
    double *local = NULL;

    HSGD_TRY(prepare((*vectors)->space, count, result, &y, &local, err));
    HSGD_TRY(sort_pairs(values, *vectors, result, err));
    for (int64_t i = 0; i < count; i++) {
        hsgd_vector v = hsgd_vector_view(result->vectors, i, 1);

        HSGD_TRY(hsgd_vector_normalize(&v, err));
        HSGD_TRY(fix_sign(&v, local, err));
    }
    for (int64_t first = 0; first < count; first += BLOCK) {
        HSGD_TRY(measure(op, first, count - first < BLOCK ? count - first : BLOCK, y, result, err));
    }
    HSGD_TRY(measure_orthogonality(result, err));
    for (int64_t i = 0; i < count; i++) {
        result->converged[i] = result->residuals[i] <= options->tolerance * scale;
    }
done:
    hsgd_vector_destroy(vectors);
    hsgd_vector_destroy(&y);
    free(local);
    return st;
}

hsgd_status hsgd_eigen_noise(hsgd_linop *op, uint64_t seed, double *noise, hsgd_error *err)
{
    static const double factor = 1.1; /* no power of two, so that every rounding is another one */
    const hsgd_space *space = hsgd_linop_space(op);
    const hsgd_random stream = hsgd_random_stream(seed, HSGD_RANDOM_EIGEN, UINT32_MAX); /* none that the solvers draw */
    hsgd_vector *x = NULL, *y = NULL, x0, x1, y0, y1;
    double length = 0.0, norm = 0.0, difference = 0.0;
    hsgd_status st = HSGD_OK;

    *noise = 0.0;
    st = hsgd_vector_create(space, 2, &x, err);
    st = st == HSGD_OK ? hsgd_vector_create(space, 2, &y, err) : st;
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    x0 = hsgd_vector_view(x, 0, 1);
    x1 = hsgd_vector_view(x, 1, 1);
    y0 = hsgd_vector_view(y, 0, 1);
    y1 = hsgd_vector_view(y, 1, 1);
    HSGD_TRY(hsgd_vector_random(x, 1, HSGD_DRAW_NORMAL, &stream, err));
    HSGD_TRY(hsgd_linop_apply(op, &x1, &x0, err));
    HSGD_TRY(hsgd_vector_norm(&x0, &length, err));
    if (length > 0.0) { /* else the operator is zero as far as can be seen, and exactly so */
        HSGD_TRY(hsgd_vector_normalize(&x0, err));
        HSGD_TRY(hsgd_vector_copy(&x0, &x1, err));
        HSGD_TRY(hsgd_vector_scale(factor, &x1, err));
        HSGD_TRY(hsgd_linop_apply(op, x, y, err));
        HSGD_TRY(hsgd_vector_norm(&y0, &norm, err));
        HSGD_TRY(hsgd_vector_axpy(-1.0 / factor, &y1, &y0, err));
        HSGD_TRY(hsgd_vector_norm(&y0, &difference, err));
        *noise = norm > 0.0 ? difference / (sqrt(2.0) * norm) : 0.0; /* of two products that round apart */
    }
done:
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    return st;
}
