/* src/study/deflation.c - see deflation.h. */
#include "study/deflation.h"
#include "study/selection.h"
#include <stdlib.h>
#include <string.h>

/* Values, and whether they converged, of the `count` pairs of eigen.h5: arrays of the caller. */
static hsgd_status read_pairs(study_state *s, int64_t count, double *values, int64_t *converged, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STUDY_PATH];

    output_path(s, "eigen.h5", path, sizeof path);
    HSGD_TRY(hsgd_store_read_f64(s->comm, path, "/eigenvalues", 1, &count, values, err));
    HSGD_TRY(hsgd_store_read_i64(s->comm, path, "/converged", 1, &count, converged, err));
done:
    return st;
}

/* What converged, moved to the front: values [count] and vectors [count][n].  Returns how many. */
static int64_t sift(int64_t n, int64_t count, const int64_t *converged, double *values, double *vectors)
{
    int64_t kept = 0;

    for (int64_t i = 0; i < count && kept < n - 1; i++) {
        if (converged[i] != 0) {
            values[kept] = values[i];
            memmove(vectors + kept * n, vectors + i * n, (size_t)n * sizeof *vectors);
            kept++;
        }
    }
    return kept;
}

/* Eigenvectors are orthogonal as far as their residuals and gaps allow; the process needs more. */
static hsgd_status orthonormalize(hsgd_vector *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *coefficients = malloc((size_t)(2 * x->columns + 1) * sizeof *coefficients);

    HSGD_TRY(hsgd_comm_agree(x->space->comm, coefficients != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    for (int64_t i = 0; i < x->columns; i++) {
        const hsgd_vector before = hsgd_vector_view(x, 0, i);
        hsgd_vector one = hsgd_vector_view(x, i, 1);
        double left = 1.0;

        if (i > 0) {
            HSGD_TRY(hsgd_vector_orthogonalize(&before, &one, coefficients, &left, err));
        }
        HSGD_CHECK(left > 0.5, HSGD_ERR_NUMERIC, err,
                   "density.deflate: eigenvector %lld of eigen.h5 is not independent of those before it; lower "
                   "eigen.tolerance",
                   (long long)i + 1);
        HSGD_TRY(hsgd_vector_normalize(&one, err));
    }
done:
    free(coefficients);
    return st;
}

static hsgd_status take(study_state *s, deflation *d, int64_t count, double *rows, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *converged = malloc((size_t)count * sizeof *converged);

    d->values = malloc((size_t)count * sizeof *d->values);
    HSGD_TRY(hsgd_comm_agree(s->comm, converged != NULL && d->values != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(read_pairs(s, count, d->values, converged, err));
    d->count = sift(s->m, count, converged, d->values, rows);
    hsgd_progress_say(s->progress, "density: %lld of %lld eigenpairs converged and are deflated", (long long)d->count,
                      (long long)count);
    if (d->count > 0) {
        st = hsgd_vector_create(s->studied, d->count, &d->vectors, err);
        st = st == HSGD_OK ? hsgd_vector_set_full(d->vectors, rows, err) : st;
        HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
        HSGD_TRY(orthonormalize(d->vectors, err));
    }
done:
    free(converged);
    return st;
}

hsgd_status deflation_make(study_state *s, deflation *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_selection selection = selection_of(s);
    double *whole = NULL, *rows = NULL;
    int64_t count = 0;

    *d = (deflation){0};
    HSGD_TRY(study_eigenvectors(s, &whole, &count, err));
    rows = malloc((size_t)(count * s->m) * sizeof *rows);
    HSGD_TRY(hsgd_comm_agree(s->comm, rows != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    hsgd_selection_restrict(&selection, count, s->n, whole, rows);
    HSGD_TRY(take(s, d, count, rows, err));
done:
    free(rows);
    free(whole);
    return st;
}

void deflation_clear(deflation *d)
{
    hsgd_vector_destroy(&d->vectors);
    free(d->values);
    *d = (deflation){0};
}

void deflation_join(const deflation *d, int64_t n, int64_t probes, int64_t steps, const double *ritz,
                    const double *weights, double *out_ritz, double *out_weights)
{
    const double each = 1.0 / (double)n, rest = (double)(n - d->count) / (double)n;

    for (int64_t p = 0; p < probes; p++) {
        for (int64_t i = 0; i < steps; i++) {
            *out_ritz++ = ritz[p * steps + i];
            *out_weights++ = rest * weights[p * steps + i];
        }
        for (int64_t i = 0; i < d->count; i++) {
            *out_ritz++ = d->values[i];
            *out_weights++ = each;
        }
    }
}
