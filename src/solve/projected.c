/* src/solve/projected.c - see projected.h. */
#include "solve/projected.h"
#include "solve/lapack.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t work_count(int64_t n)
{
    return 1 + 6 * n + 2 * n * n; /* as dsyevd asks for its vectors */
}

static int64_t iwork_count(int64_t n)
{
    return 3 + 5 * n;
}

hsgd_status hsgd_projected_create(int64_t capacity, int64_t most, hsgd_projected *p, hsgd_error *err)
{
    enum { MOST_COLUMNS = 30000 }; /* LAPACK counts its workspace of 2 n^2 in an int */
    const size_t n = (size_t)capacity, b = (size_t)most;
    hsgd_status st = HSGD_OK;

    *p = (hsgd_projected){.capacity = capacity, .most = most};
    HSGD_CHECK(capacity <= MOST_COLUMNS, HSGD_ERR_USAGE, err,
               "eigen: a basis of %lld vectors; set eigen.basis to %d or less", (long long)capacity, MOST_COLUMNS);
    p->t = calloc(2 * n * n + b * n + 2 * n + (size_t)work_count(capacity), sizeof *p->t);
    p->iwork = calloc((size_t)iwork_count(capacity), sizeof *p->iwork);
    HSGD_CHECK(p->t != NULL && p->iwork != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the eigenproblem of %lld Lanczos vectors; set eigen.basis lower",
               (long long)capacity);
    p->s = p->t + n * n;
    p->b = p->s + n * n;
    p->theta = p->b + b * n;
    p->bound = p->theta + n;
    p->work = p->bound + n;
done:
    if (st != HSGD_OK) {
        hsgd_projected_destroy(p);
    }
    return st;
}

void hsgd_projected_destroy(hsgd_projected *p)
{
    free(p->t);
    free(p->iwork);
    *p = (hsgd_projected){0};
}

static hsgd_status solve(hsgd_projected *p, hsgd_error *err)
{
    const int n = (int)p->size, work = (int)work_count(p->size), iwork = (int)iwork_count(p->size);
    hsgd_status st = HSGD_OK;
    int info = 0;

    for (int64_t i = 0; i < p->size; i++) {
        memcpy(p->s + i * p->size, p->t + i * p->capacity, (size_t)p->size * sizeof *p->s);
    }
    hsgd_lapack_alone();
    dsyevd_("V", "U", &n, p->s, &n, p->theta, p->work, &work, p->iwork, &iwork, &info, 1, 1);
    HSGD_CHECK(info == 0, HSGD_ERR_NUMERIC, err, "eigen: LAPACK's dsyevd failed on %d Lanczos vectors (info %d)", n,
               info);
done:
    return st;
}

/* sum over the columns j of V of b[row][j] s_j for the Ritz vector s. */
static double coupling(const hsgd_projected *p, int64_t row, const double *s)
{
    double sum = 0.0;

    for (int64_t j = 0; j < p->size; j++) {
        sum += p->b[row * p->capacity + j] * s[j];
    }
    return sum;
}

hsgd_status hsgd_projected_solve(hsgd_projected *p, hsgd_comm *comm, hsgd_error *err)
{
    const size_t n = (size_t)p->size;
    hsgd_status st = HSGD_OK;

    if (comm->rank == 0) {
        st = solve(p, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, n * sizeof *p->theta, p->theta, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, n * n * sizeof *p->s, p->s, err));
    for (int64_t i = 0; i < p->size; i++) {
        double squares = 0.0;

        for (int64_t row = 0; row < p->rows; row++) {
            const double part = coupling(p, row, p->s + i * p->size);

            squares += part * part;
        }
        p->bound[i] = sqrt(squares);
    }
done:
    return st;
}

void hsgd_projected_keep(hsgd_projected *p, int64_t k, const int64_t *chosen)
{
    double *b = p->work; /* [rows][k]: as large as dsyevd's, hence large enough */

    for (int64_t row = 0; row < p->rows; row++) {
        for (int64_t i = 0; i < k; i++) {
            b[row * k + i] = coupling(p, row, p->s + chosen[i] * p->size);
        }
    }
    for (int64_t i = 0; i < k; i++) {
        memset(p->t + i * p->capacity, 0, (size_t)k * sizeof *p->t);
        p->t[i * p->capacity + i] = p->theta[chosen[i]];
    }
    for (int64_t row = 0; row < p->rows; row++) {
        memcpy(p->b + row * p->capacity, b + row * k, (size_t)k * sizeof *b);
    }
    p->size = k;
}
