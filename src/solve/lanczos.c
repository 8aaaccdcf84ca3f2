/* src/solve/lanczos.c - the Lanczos process with full re-orthogonalisation, one step at a time. */
#include "solve/lanczos.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A residual this small against norm(A) is rounding: the two passes of Gram-Schmidt leave a few eps * norm(A). */
static const double BREAKDOWN = 64.0 * DBL_EPSILON;

/* LAPACK: all eigenvalues of a symmetric tridiagonal matrix and, for jobz "V", its eigenvectors (columns of z). */
void dstevd_(const char *jobz, const int *n, double *d, double *e, double *z, const int *ldz, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length);

/* Columns 0 .. steps - 1 of the basis. */
static hsgd_vector basis_view(const hsgd_lanczos *lanczos)
{
    return hsgd_vector_view(lanczos->basis, 0, lanczos->steps);
}

hsgd_status hsgd_lanczos_reserve(hsgd_lanczos *lanczos, int64_t capacity, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(lanczos->op);
    hsgd_status st = HSGD_OK;
    hsgd_vector *basis = NULL;
    double *numbers = NULL; /* alpha, beta and coefficients in one piece, which alpha heads */

    if (capacity <= lanczos->capacity) {
        return HSGD_OK;
    }
    st = hsgd_vector_create(space, capacity, &basis, err);
    numbers = calloc(4 * (size_t)capacity + 1, sizeof *numbers);
    if (st == HSGD_OK && numbers == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the coefficients of a Lanczos process");
    }
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    if (lanczos->steps > 0) {
        const hsgd_vector from = basis_view(lanczos);
        hsgd_vector to = hsgd_vector_view(basis, 0, lanczos->steps);

        HSGD_TRY(hsgd_vector_copy(&from, &to, err));
        memcpy(numbers, lanczos->alpha, (size_t)lanczos->steps * sizeof *numbers);
        memcpy(numbers + capacity, lanczos->beta, (size_t)lanczos->steps * sizeof *numbers);
    }
    hsgd_vector_destroy(&lanczos->basis);
    free(lanczos->alpha);
    lanczos->basis = basis;
    lanczos->alpha = numbers;
    lanczos->beta = numbers + capacity;
    lanczos->coefficients = numbers + 2 * capacity;
    lanczos->capacity = capacity;
    basis = NULL;
    numbers = NULL;
done:
    free(numbers);
    hsgd_vector_destroy(&basis);
    return st;
}

hsgd_status hsgd_lanczos_begin(hsgd_lanczos *lanczos, const hsgd_vector *start, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    lanczos->steps = 0;
    lanczos->norm = lanczos->first = 0.0;
    lanczos->broken = false;
    HSGD_TRY(hsgd_vector_copy(start, lanczos->work, err));
    HSGD_TRY(hsgd_vector_norm(lanczos->work, &lanczos->work_norm, err));
    HSGD_CHECK(lanczos->work_norm > 0.0 && isfinite(lanczos->work_norm), HSGD_ERR_NUMERIC, err,
               "lanczos: the start vector has norm %g; give one that is finite and not zero", lanczos->work_norm);
done:
    return st;
}

hsgd_status hsgd_lanczos_create(hsgd_linop *op, const hsgd_vector *start, int64_t capacity, hsgd_lanczos **out,
                                hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(op);
    hsgd_status st = HSGD_OK;
    hsgd_lanczos *lanczos = calloc(1, sizeof *lanczos);

    *out = NULL;
    if (lanczos == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate a Lanczos process");
    } else {
        lanczos->op = op;
        st = hsgd_vector_create(space, 1, &lanczos->work, err);
    }
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    HSGD_TRY(hsgd_lanczos_reserve(lanczos, capacity, err));
    HSGD_TRY(hsgd_lanczos_begin(lanczos, start, err));
    *out = lanczos;
    lanczos = NULL;
done:
    hsgd_lanczos_destroy(&lanczos);
    return st;
}

void hsgd_lanczos_destroy(hsgd_lanczos **lanczos)
{
    if (lanczos == NULL || *lanczos == NULL) {
        return;
    }
    hsgd_vector_destroy(&(*lanczos)->basis);
    hsgd_vector_destroy(&(*lanczos)->work);
    free((*lanczos)->alpha);
    free(*lanczos);
    *lanczos = NULL;
}

/* Take out of `work` what lies along the basis; *last gets the whole coefficient along the last basis vector, work_norm
 * the norm of what is left. */
static hsgd_status orthogonalize(hsgd_lanczos *lanczos, double *last, hsgd_error *err)
{
    const hsgd_vector basis = basis_view(lanczos);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_orthogonalize(&basis, lanczos->work, lanczos->coefficients, &lanczos->work_norm, err));
    *last = lanczos->coefficients[lanczos->steps - 1];
done:
    return st;
}

/* basis[steps] = work / norm(work), of which *next becomes a view. */
static hsgd_status extend(hsgd_lanczos *lanczos, hsgd_vector *next, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(lanczos->steps < lanczos->capacity && !lanczos->broken, HSGD_ERR_USAGE, err,
               "lanczos: a step after %lld of %lld, or after a breakdown; begin again first", (long long)lanczos->steps,
               (long long)lanczos->capacity);
    *next = hsgd_vector_view(lanczos->basis, lanczos->steps, 1);
    HSGD_TRY(hsgd_vector_copy(lanczos->work, next, err));
    HSGD_TRY(hsgd_vector_scale(1.0 / lanczos->work_norm, next, err));
done:
    return st;
}

/* The rest of a step, once work = A basis[steps]. */
static hsgd_status absorb(hsgd_lanczos *lanczos, hsgd_error *err)
{
    const int64_t j = lanczos->steps;
    const double before = j > 0 ? lanczos->beta[j - 1] : 0.0;
    hsgd_status st = HSGD_OK;
    double alpha = 0.0, reach = 0.0;

    if (j == 0) {
        HSGD_TRY(hsgd_vector_norm(lanczos->work, &lanczos->first, err));
    }
    lanczos->steps++;
    HSGD_TRY(orthogonalize(lanczos, &alpha, err));
    HSGD_CHECK(isfinite(alpha) && isfinite(lanczos->work_norm), HSGD_ERR_NUMERIC, err,
               "lanczos: step %lld gave NaN or Inf; the operator \"%s\" is not finite", (long long)j + 1,
               hsgd_linop_name(lanczos->op));
    lanczos->alpha[j] = alpha;
    lanczos->beta[j] = lanczos->work_norm;
    reach = fabs(alpha) + before + lanczos->work_norm;
    lanczos->norm = reach > lanczos->norm ? reach : lanczos->norm;
    lanczos->broken = lanczos->work_norm <= BREAKDOWN * lanczos->norm; /* judged here, before anyone divides by it */
done:
    return st;
}

hsgd_status hsgd_lanczos_step(hsgd_lanczos *lanczos, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_vector next;

    HSGD_TRY(extend(lanczos, &next, err));
    HSGD_TRY(hsgd_linop_apply(lanczos->op, &next, lanczos->work, err));
    HSGD_TRY(absorb(lanczos, err));
done:
    return st;
}

hsgd_status hsgd_lanczos_step_together(int64_t count, hsgd_lanczos *const *each, hsgd_vector *x, hsgd_vector *y,
                                       hsgd_error *err)
{
    hsgd_vector in = hsgd_vector_view(x, 0, count), out = hsgd_vector_view(y, 0, count);
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < count; i++) {
        hsgd_vector next, column = hsgd_vector_view(x, i, 1);

        HSGD_TRY(extend(each[i], &next, err));
        HSGD_TRY(hsgd_vector_copy(&next, &column, err));
    }
    HSGD_TRY(hsgd_linop_apply(each[0]->op, &in, &out, err));
    for (int64_t i = 0; i < count; i++) {
        const hsgd_vector column = hsgd_vector_view(y, i, 1);

        HSGD_TRY(hsgd_vector_copy(&column, each[i]->work, err));
        HSGD_TRY(absorb(each[i], err));
    }
done:
    return st;
}

/* z[i][j] (eigenvector i, component j: LAPACK's columns) to s[j][i]. */
static void transpose(int64_t n, double *z)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            const double kept = z[i * n + j];

            z[i * n + j] = z[j * n + i];
            z[j * n + i] = kept;
        }
    }
}

/* The eigenproblem of T, on this rank alone. */
static hsgd_status solve(const hsgd_lanczos *lanczos, double *theta, double *s, hsgd_error *err)
{
    const int n = (int)lanczos->steps;
    const int work_count = s != NULL ? 1 + 4 * n + n * n : 1, iwork_count = s != NULL ? 3 + 5 * n : 1;
    hsgd_status st = HSGD_OK;
    double *off_diagonal = calloc((size_t)n, sizeof *off_diagonal);
    double *work = calloc((size_t)work_count, sizeof *work);
    int *iwork = calloc((size_t)iwork_count, sizeof *iwork);
    double unused = 0.0;
    int info = 0;

    HSGD_CHECK(off_diagonal != NULL && work != NULL && iwork != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the eigenproblem of %d Lanczos steps; use fewer", n);
    memcpy(theta, lanczos->alpha, (size_t)n * sizeof *theta);
    memcpy(off_diagonal, lanczos->beta, (size_t)(n - 1) * sizeof *off_diagonal);
    dstevd_(s != NULL ? "V" : "N", &n, theta, off_diagonal, s != NULL ? s : &unused, &n, work, &work_count, iwork,
            &iwork_count, &info, 1);
    HSGD_CHECK(info == 0, HSGD_ERR_NUMERIC, err, "lanczos: LAPACK's dstevd failed on %d steps (info %d)", n, info);
    if (s != NULL) {
        transpose(n, s);
    }
done:
    free(iwork);
    free(work);
    free(off_diagonal);
    return st;
}

hsgd_status hsgd_lanczos_ritz(const hsgd_lanczos *lanczos, double *theta, double *s, hsgd_error *err)
{
    enum { MOST_STEPS = 46000 }; /* LAPACK's workspace of steps^2 doubles is counted in an int */
    hsgd_comm *comm = hsgd_linop_space(lanczos->op)->comm;
    const size_t n = (size_t)lanczos->steps;
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(n >= 1 && n <= MOST_STEPS, HSGD_ERR_USAGE, err, "lanczos: %zu steps; 1 to %d can be solved", n,
               MOST_STEPS);
    if (comm->rank == 0) {
        st = solve(lanczos, theta, s, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, n * sizeof *theta, theta, err));
    if (s != NULL) {
        HSGD_TRY(hsgd_comm_broadcast(comm, 0, n * n * sizeof *s, s, err));
    }
done:
    return st;
}
