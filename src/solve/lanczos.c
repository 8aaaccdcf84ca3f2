/* src/solve/lanczos.c - the Lanczos process with full re-orthogonalisation, one step at a time. */
#include "solve/lanczos.h"
#include "solve/lapack.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A residual this small against norm(A) is rounding: the two passes of Gram-Schmidt leave a few eps * norm(A). */
static const double BREAKDOWN = 64.0 * DBL_EPSILON;

/* The vectors held off and those of the steps made. */
static hsgd_vector basis_view(const hsgd_lanczos *lanczos)
{
    return hsgd_vector_view(&lanczos->basis, 0, lanczos->held + lanczos->steps);
}

int64_t hsgd_lanczos_columns(int64_t held, int64_t capacity)
{
    return 1 + held + capacity;
}

/* Take the start off the held vectors.  What rounding leaves of one that lies among them is no start. */
static hsgd_status hold_off(hsgd_lanczos *lanczos, hsgd_error *err)
{
    const double before = lanczos->work_norm;
    const hsgd_vector held = basis_view(lanczos);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_orthogonalize(&held, &lanczos->work, lanczos->coefficients, &lanczos->work_norm, err));
    HSGD_CHECK(lanczos->work_norm > BREAKDOWN * before, HSGD_ERR_NUMERIC, err,
               "lanczos: the start vector lies among the %lld vectors that are held off; give another one",
               (long long)lanczos->held);
done:
    return st;
}

hsgd_status hsgd_lanczos_begin(hsgd_lanczos *lanczos, const hsgd_vector *start, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    lanczos->steps = 0;
    lanczos->norm = lanczos->first = 0.0;
    lanczos->broken = false;
    HSGD_TRY(hsgd_vector_copy(start, &lanczos->work, err));
    HSGD_TRY(hsgd_vector_norm(&lanczos->work, &lanczos->work_norm, err));
    HSGD_CHECK_FINITE(isfinite(lanczos->work_norm), err, "lanczos: the start vector has norm %g", lanczos->work_norm);
    HSGD_CHECK(lanczos->work_norm > 0.0, HSGD_ERR_NUMERIC, err,
               "lanczos: the start vector has norm %g; give one that is finite and not zero", lanczos->work_norm);
    if (lanczos->held > 0) {
        HSGD_TRY(hold_off(lanczos, err));
    }
done:
    return st;
}

/* The process's memory beside the columns, in which alpha heads beta and the coefficients, and its views of them. */
static hsgd_status furnish(hsgd_lanczos *lanczos, const hsgd_space *space, hsgd_vector *room, hsgd_error *err)
{
    const int64_t vectors = lanczos->held + lanczos->capacity;
    hsgd_status st = HSGD_OK;

    lanczos->alpha = calloc((size_t)(2 * lanczos->capacity + 2 * vectors + 1), sizeof *lanczos->alpha);
    if (lanczos->alpha == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the coefficients of a Lanczos process");
    }
    lanczos->beta = lanczos->alpha + lanczos->capacity;
    lanczos->coefficients = lanczos->beta + lanczos->capacity;
    if (room == NULL) {
        HSGD_TRY(hsgd_vector_create(space, 1 + vectors, &lanczos->own, err));
        room = lanczos->own;
    }
    lanczos->work = hsgd_vector_view(room, 0, 1);
    lanczos->basis = hsgd_vector_view(room, 1, vectors);
done:
    return st;
}

hsgd_status hsgd_lanczos_create(hsgd_linop *op, const hsgd_vector *held, int64_t capacity, hsgd_vector *room,
                                hsgd_lanczos **out, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(op);
    hsgd_status st = HSGD_OK;
    hsgd_lanczos *lanczos = calloc(1, sizeof *lanczos);

    *out = NULL;
    if (lanczos == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate a Lanczos process");
    } else {
        lanczos->op = op;
        lanczos->capacity = capacity;
        lanczos->held = held != NULL ? held->columns : 0;
        st = furnish(lanczos, space, room, err);
    }
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    if (lanczos->held > 0) {
        hsgd_vector first = basis_view(lanczos);

        HSGD_TRY(hsgd_vector_copy(held, &first, err));
    }
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
    hsgd_vector_destroy(&(*lanczos)->own);
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

    HSGD_TRY(hsgd_vector_orthogonalize(&basis, &lanczos->work, lanczos->coefficients, &lanczos->work_norm, err));
    *last = lanczos->coefficients[basis.columns - 1];
done:
    return st;
}

/* The next vector of the basis, work / norm(work), of which *next becomes a view. */
static hsgd_status extend(hsgd_lanczos *lanczos, hsgd_vector *next, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(lanczos->steps < lanczos->capacity && !lanczos->broken, HSGD_ERR_USAGE, err,
               "lanczos: a step after %lld of %lld, or after a breakdown; begin again first", (long long)lanczos->steps,
               (long long)lanczos->capacity);
    *next = hsgd_vector_view(&lanczos->basis, lanczos->held + lanczos->steps, 1);
    HSGD_TRY(hsgd_vector_copy(&lanczos->work, next, err));
    HSGD_TRY(hsgd_vector_scale(1.0 / lanczos->work_norm, next, err));
done:
    return st;
}

/* norm(A q) of the first vector; of what is off the held ones, where there are any. */
static hsgd_status measure_first(hsgd_lanczos *lanczos, hsgd_error *err)
{
    const hsgd_vector held = hsgd_vector_view(&lanczos->basis, 0, lanczos->held);

    if (lanczos->held == 0) {
        return hsgd_vector_norm(&lanczos->work, &lanczos->first, err);
    }
    return hsgd_vector_orthogonalize(&held, &lanczos->work, lanczos->coefficients, &lanczos->first, err);
}

/* The rest of a step, once work is the product with the next vector. */
static hsgd_status absorb(hsgd_lanczos *lanczos, hsgd_error *err)
{
    const int64_t j = lanczos->steps;
    const double before = j > 0 ? lanczos->beta[j - 1] : 0.0;
    hsgd_status st = HSGD_OK;
    double alpha = 0.0, reach = 0.0;

    if (j == 0) {
        HSGD_TRY(measure_first(lanczos, err));
    }
    lanczos->steps++;
    HSGD_TRY(orthogonalize(lanczos, &alpha, err));
    HSGD_CHECK_FINITE(isfinite(alpha) && isfinite(lanczos->work_norm), err,
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

hsgd_status hsgd_lanczos_step(int64_t count, hsgd_lanczos *const *each, hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
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

        HSGD_TRY(hsgd_vector_copy(&column, &each[i]->work, err));
        HSGD_TRY(absorb(each[i], err));
    }
done:
    return st;
}

void hsgd_lanczos_save(const hsgd_lanczos *lanczos, int64_t integer[HSGD_LANCZOS_INTEGERS], double *real)
{
    const size_t bytes = (size_t)lanczos->steps * sizeof *real;

    integer[0] = lanczos->steps;
    integer[1] = lanczos->broken;
    real[0] = lanczos->norm;
    real[1] = lanczos->first;
    real[2] = lanczos->work_norm;
    real += HSGD_LANCZOS_REALS;
    memset(real, 0, 2 * (size_t)lanczos->capacity * sizeof *real);
    memcpy(real, lanczos->alpha, bytes);
    memcpy(real + lanczos->capacity, lanczos->beta, bytes);
}

hsgd_status hsgd_lanczos_restore(hsgd_lanczos *lanczos, const int64_t integer[HSGD_LANCZOS_INTEGERS],
                                 const double *real, hsgd_error *err)
{
    if (integer[0] < 0 || integer[0] > lanczos->capacity || integer[1] < 0 || integer[1] > 1) {
        return hsgd_error_set(err, HSGD_ERR_DATA, "lanczos: a state of %lld steps of %lld cannot be taken up",
                              (long long)integer[0], (long long)lanczos->capacity);
    }
    lanczos->steps = integer[0];
    lanczos->broken = integer[1] == 1;
    lanczos->norm = real[0];
    lanczos->first = real[1];
    lanczos->work_norm = real[2];
    memcpy(lanczos->alpha, real + HSGD_LANCZOS_REALS, 2 * (size_t)lanczos->capacity * sizeof *real); /* and beta */
    return HSGD_OK;
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
    hsgd_lapack_alone();
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
