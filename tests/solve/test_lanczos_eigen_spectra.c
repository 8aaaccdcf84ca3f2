/* tests/solve/test_lanczos_eigen_spectra.c - hsgd_lanczos_eigen on operators with known spectra: in blocks of several
 * sizes, in double and with products made in float, subspaces of close values by their angles.
 * ranks: 1 2 3 4 7 */
#include "solve/eigen.h"
#include "matrix.h"

enum { N = 100, MOST_WANTED = 16 };

/* LAPACK: eigenpairs of a symmetric matrix (columns of a on exit), singular values. */
void dsyev_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
            const int *lwork, int *info, size_t jobz_length, size_t uplo_length);
void dgesvd_(const char *jobu, const char *jobvt, const int *m, const int *n, double *a, const int *lda, double *s,
             double *u, const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *info,
             size_t jobu_length, size_t jobvt_length);

/* ---- products made in float, as a network's are in single precision ---- */

/* Entries of A and x, every product and every sum in float. */
static double dot_in_float(int64_t n, const double *row, const double *x)
{
    float sum = 0.0f;

    for (int64_t k = 0; k < n; k++) {
        sum += (float)row[k] * (float)x[k];
    }
    return (double)sum;
}

static hsgd_status float_apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    return matrix_multiply(self, dot_in_float, x, y, err);
}

static const hsgd_linop_ops float_ops = {.name = "matrix in float", .apply = float_apply};

/* A dense matrix with eigenvalues d (descending), its exact eigenvectors, and both operators in one of the precisions. */
typedef struct {
    matrix m;
    double *a, *vectors; /* [n][n]; [n][n], row i belongs to d[i] */
    const double *d;
    hsgd_linop *op, *serial_op;
    double norm, rounding; /* rounding: norm of what a product is off by */
} subject;

static void subject_create(subject *s, int64_t n, const double *d, bool single)
{
    const int order = (int)n, room = 34 * order;
    double *work = calloc((size_t)room, sizeof *work), *w = calloc((size_t)n, sizeof *w), *v = NULL;
    hsgd_error err = {0};
    int info = 0;

    *s = (subject){.d = d, .norm = fmax(fabs(d[0]), fabs(d[n - 1]))};
    s->a = calloc((size_t)(n * n), sizeof *s->a);
    s->vectors = v = calloc((size_t)(n * n), sizeof *s->vectors);
    matrix_with_spectrum(n, d, s->a);
    memcpy(v, s->a, (size_t)(n * n) * sizeof *v);
    dsyev_("V", "U", &order, v, &order, w, work, &room, &info, 1, 1);
    assert_int_equal(info, 0);
    for (int64_t i = 0; i < n / 2; i++) { /* descending */
        for (int64_t j = 0; j < n; j++) {
            const double x = v[i * n + j];

            v[i * n + j] = v[(n - 1 - i) * n + j];
            v[(n - 1 - i) * n + j] = x;
        }
    }
    matrix_create(&s->m, n, s->a, HSGD_REDUCTION_REPRODUCIBLE);
    assert_ok(hsgd_linop_create(s->m.space, single ? &float_ops : &matrix_ops, &s->m, &s->op, &err));
    assert_ok(hsgd_linop_create(s->m.serial_space, single ? &float_ops : &matrix_ops, &s->m, &s->serial_op, &err));
    s->rounding = matrix_rounding(n, s->norm) * (single ? (double)FLT_EPSILON / DBL_EPSILON : 1.0);
    free(w);
    free(work);
}

static void subject_destroy(subject *s)
{
    hsgd_linop_destroy(&s->serial_op);
    hsgd_linop_destroy(&s->op);
    matrix_destroy(&s->m);
    free(s->vectors);
    free(s->a);
}

static hsgd_eigen_options options_of(int64_t count, hsgd_which which, double tolerance, int64_t block)
{
    return (hsgd_eigen_options){
        .count = count, .which = which, .tolerance = tolerance, .max_products = 2000, .block = block, .seed = 1};
}

/* Solve on the ranks and alone: the same bits. */
static void solve(const subject *s, const hsgd_eigen_options *options, hsgd_eigen_result *result)
{
    hsgd_eigen_result alone;
    hsgd_error err = {0};

    assert_ok(hsgd_lanczos_eigen(s->op, options, result, &err));
    assert_ok(hsgd_lanczos_eigen(s->serial_op, options, &alone, &err));
    assert_int_equal(result->count, alone.count);
    assert_int_equal(result->products, alone.products);
    assert_memory_equal(result->values, alone.values, (size_t)alone.count * sizeof *alone.values);
    assert_memory_equal(result->residuals, alone.residuals, (size_t)alone.count * sizeof *alone.values);
    matrix_same_bits(result->vectors, alone.vectors);
    hsgd_eigen_result_clear(&alone);
}

/* ---- angles ---- */

/* Largest singular value of r [k][n] (column i: r + i n); r is overwritten. */
static double largest_singular_value(int64_t n, int64_t k, double *r)
{
    const int rows = (int)n, columns = (int)k, one = 1, room = 5 * (rows + columns) + 64;
    double *work = calloc((size_t)room, sizeof *work), *singular = calloc((size_t)k, sizeof *singular), none = 0.0;
    double largest = 0.0;
    int info = 0;

    dgesvd_("N", "N", &rows, &columns, r, &rows, singular, &none, &one, &none, &one, work, &room, &info, 1, 1);
    assert_int_equal(info, 0);
    largest = singular[0];
    free(singular);
    free(work);
    return largest;
}

/* y[k][n] -= x[m][n]' (x y'): what of y's columns lies outside the span of x's orthonormal ones. */
static void project_out(int64_t n, int64_t m, const double *x, int64_t k, double *y)
{
    for (int64_t i = 0; i < k; i++) {
        for (int64_t j = 0; j < m; j++) {
            double along = 0.0;

            for (int64_t row = 0; row < n; row++) {
                along += x[j * n + row] * y[i * n + row];
            }
            for (int64_t row = 0; row < n; row++) {
                y[i * n + row] -= along * x[j * n + row];
            }
        }
    }
}

/* Pairs first .. first + k - 1 of the result belong to the values at .. at + k - 1 of d, which stand `gap` apart from all
 * others: the sine of the greatest principal angle between the two subspaces is at most norm(R) / gap (Davis and Kahan;
 * Parlett, The Symmetric Eigenvalue Problem, theorem 11.7.1).  The sine itself is measured, as the largest singular value
 * of what lies outside: a cosine loses half the digits. */
static void assert_subspace(const subject *s, const hsgd_eigen_result *r, int64_t first, int64_t k, int64_t at,
                            double gap)
{
    const int64_t n = s->m.n;
    double *full = calloc((size_t)(n * r->count), sizeof *full), residual = 0.0, sine = 0.0;
    hsgd_error err = {0};

    assert_ok(hsgd_vector_gather(r->vectors, full, &err));
    for (int64_t i = first; i < first + k; i++) {
        residual += r->residuals[i] * r->residuals[i];
    }
    project_out(n, k, s->vectors + at * n, k, full + first * n);
    sine = largest_singular_value(n, k, full + first * n);
    assert_true(sine <= (sqrt(residual) + s->rounding) / gap + matrix_rounding(n, 1.0));
    free(full);
}

/* ---- the spectra ---- */

typedef struct {
    const char *name;
    void (*fill)(int64_t n, double *d); /* descending */
    int64_t count;                      /* pairs at each end */
    hsgd_which which;
} spectrum;

/* The top eight are 8 orders of magnitude apart, all N twelve. */
static void graded(int64_t n, double *d)
{
    for (int64_t i = 0; i < n; i++) {
        d[i] = i < 8 ? pow(10.0, (double)-i) : pow(10.0, -8.0 - 4.0 * (double)(i - 8) / (double)(n - 9));
    }
}

static void indefinite(int64_t n, double *d)
{
    for (int64_t i = 0; i < n; i++) {
        d[i] = 1.0 - 2.0 * (double)i / (double)(n - 1);
    }
    d[0] = 3.0;
    d[1] = 2.5;
    d[n - 2] = -1.5;
    d[n - 1] = -4.0;
}

static void one_dimension(int64_t n, double *d)
{
    memset(d, 0, (size_t)n * sizeof *d);
    d[0] = 5.0;
}

static void below_zero(int64_t n, double *d)
{
    memset(d, 0, (size_t)n * sizeof *d);
    d[n - 1] = -5.0;
}

static void zero(int64_t n, double *d)
{
    memset(d, 0, (size_t)n * sizeof *d);
}

static void unit(int64_t n, double *d)
{
    for (int64_t i = 0; i < n; i++) {
        d[i] = 1.0;
    }
}

/* Six values, the highest five times, the lowest three times. */
static void few_values(int64_t n, double *d)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t quarter = 4 * i / n;

        d[i] = i < 5 ? 2.0 : i >= n - 3 ? -1.0 : 1.0 - 0.25 * (double)quarter;
    }
}

static const spectrum spectra[] = {
    {"graded", graded, 8, HSGD_WHICH_LARGEST},
    {"indefinite", indefinite, 2, HSGD_WHICH_BOTH},
    {"indefinite", indefinite, 2, HSGD_WHICH_SMALLEST},
    {"indefinite", indefinite, 4, HSGD_WHICH_MAGNITUDE},
    {"rank one", one_dimension, 3, HSGD_WHICH_BOTH},
    {"rank one below zero", below_zero, 2, HSGD_WHICH_MAGNITUDE},
    {"zero", zero, 3, HSGD_WHICH_BOTH},
    {"unit", unit, 3, HSGD_WHICH_BOTH},
    {"few values", few_values, 6, HSGD_WHICH_BOTH},
};

/* The values wanted of d, descending. */
static int64_t expect(int64_t n, const double *d, const spectrum *q, double *expected)
{
    int64_t top = q->which == HSGD_WHICH_SMALLEST ? 0 : q->count,
            bottom = q->which == HSGD_WHICH_LARGEST ? 0 : q->count;

    if (q->which == HSGD_WHICH_MAGNITUDE) {
        for (top = 0, bottom = 0; top + bottom < q->count;) {
            if (fabs(d[top]) >= fabs(d[n - 1 - bottom])) {
                top++;
            } else {
                bottom++;
            }
        }
    }
    memcpy(expected, d, (size_t)top * sizeof *d);
    memcpy(expected + top, d + n - bottom, (size_t)bottom * sizeof *d);
    return top + bottom;
}

/* Some eigenvalue lies within norm(Av - theta v) of theta (Parlett, theorem 4.5.1), and the noise of A moves none by more
 * than its norm. */
static void check_spectrum(const spectrum *q, bool single, int64_t block)
{
    const hsgd_eigen_options options = options_of(q->count, q->which, single ? 1e-4 : 1e-10, block);
    double d[N], expected[MOST_WANTED];
    hsgd_eigen_result r;
    subject s;
    int64_t count = 0;

    q->fill(N, d);
    count = expect(N, d, q, expected);
    subject_create(&s, N, d, single);
    solve(&s, &options, &r);
    assert_int_equal(r.count, count);
    for (int64_t i = 0; i < count; i++) {
        if (!r.converged[i] || !(fabs(r.values[i] - expected[i]) <= r.residuals[i] + s.rounding)) {
            fail_msg("%s, %s, block %lld: pair %lld is %.17g, expected %.17g, residual %.3g; %s", q->name,
                     single ? "single" : "double", (long long)block, (long long)i, r.values[i], expected[i],
                     r.residuals[i], r.reason);
        }
    }
    assert_true(r.orthogonality <= matrix_rounding(N, 1.0));
    hsgd_eigen_result_clear(&r);
    subject_destroy(&s);
}

static void known_spectra_are_found_in_blocks_of_any_size(void **state)
{
    static const int64_t blocks[] = {1, 2, 5};

    (void)state;
    for (size_t i = 0; i < sizeof spectra / sizeof *spectra; i++) {
        for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++) {
            check_spectrum(&spectra[i], false, blocks[j]);
        }
    }
}

static void known_spectra_are_found_with_products_in_float(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof spectra / sizeof *spectra; i++) {
        check_spectrum(&spectra[i], true, 1);
        check_spectrum(&spectra[i], true, 2);
    }
}

/* Blocks wider than the space, and a space smaller than the launch. */
static void blocks_wider_than_the_space_are_cut_to_it(void **state)
{
    const double d[5] = {2.0, 2.0, 1.0, 1.0, -7.0};

    (void)state;
    for (int64_t n = 1; n <= 5; n++) {
        const hsgd_eigen_options options = options_of(n, HSGD_WHICH_BOTH, 1e-10, 8);
        hsgd_eigen_result r;
        subject s;

        subject_create(&s, n, d + 5 - n, false);
        solve(&s, &options, &r);
        assert_int_equal(r.count, n);
        assert_int_equal(r.products, 2 * n); /* one block of all columns, and the residuals */
        for (int64_t i = 0; i < n; i++) {
            assert_true(r.converged[i]);
            assert_near(r.values[i], d[5 - n + i], s.rounding);
        }
        hsgd_eigen_result_clear(&r);
        subject_destroy(&s);
    }
}

/* ---- subspaces ---- */

/* Three values within 1e-7 at the top, four within 1e-7 below a gap, and the same at the bottom: vectors within a cluster
 * mean little, their span is determined to the residual over the gap. */
static void clusters_are_spanned_to_the_residual_over_the_gap(void **state)
{
    (void)state;
    for (int turn = 0; turn < 4; turn++) {
        const bool single = turn >= 2;
        const hsgd_eigen_options options = options_of(7, HSGD_WHICH_BOTH, single ? 1e-4 : 1e-11, turn % 2 + 1);
        hsgd_eigen_result r;
        double d[N];
        subject s;

        for (int64_t i = 0; i < N; i++) {
            const int64_t end = i < N / 2 ? i : N - 1 - i;
            const double value = end < 3   ? 2.0 - 5e-8 * (double)end
                                 : end < 7 ? 1.5 - 2e-8 * (double)end
                                           : 1.0 - 2.0 * (double)end / (double)N;

            d[i] = i < N / 2 ? value : -value;
        }
        subject_create(&s, N, d, single);
        solve(&s, &options, &r);
        assert_int_equal(r.count, 14);
        for (int64_t i = 0; i < 14; i++) {
            assert_true(r.converged[i]);
        }
        assert_subspace(&s, &r, 0, 3, 0, 0.4);
        assert_subspace(&s, &r, 3, 4, 3, 0.4);
        assert_subspace(&s, &r, 7, 4, N - 7, 0.4);
        assert_subspace(&s, &r, 11, 3, N - 3, 0.4);
        hsgd_eigen_result_clear(&r);
        subject_destroy(&s);
    }
}

/* Few values, so that every copy is found: five times 2 and three times -1. */
static void multiple_eigenvalues_are_spanned_whole(void **state)
{
    (void)state;
    for (int64_t block = 1; block <= 5; block += 2) {
        const hsgd_eigen_options options = options_of(5, HSGD_WHICH_BOTH, 1e-10, block);
        hsgd_eigen_result r;
        double d[N];
        subject s;

        few_values(N, d);
        subject_create(&s, N, d, false);
        solve(&s, &options, &r);
        assert_int_equal(r.count, 10);
        assert_subspace(&s, &r, 0, 5, 0, 1.0);
        assert_subspace(&s, &r, 7, 3, N - 3, 1.25);
        hsgd_eigen_result_clear(&r);
        subject_destroy(&s);
    }
}

/* ---- noise ---- */

/* The floor is found; well above it all pairs are certified, below it none is called converged that is not, and the search
 * ends. */
static void products_in_float_have_a_floor_that_no_tolerance_undercuts(void **state)
{
    double d[N], noise = 0.0;
    hsgd_eigen_options options = options_of(2, HSGD_WHICH_BOTH, 0.0, 0);
    hsgd_eigen_result r;
    hsgd_error err = {0};
    subject s;
    int64_t converged = 0;

    (void)state;
    indefinite(N, d);
    subject_create(&s, N, d, true);
    assert_ok(hsgd_eigen_noise(s.op, 1, &noise, &err));
    assert_true(noise > 0.1 * (double)FLT_EPSILON && noise <= s.rounding / s.norm);

    options.tolerance = 20.0 * noise;
    solve(&s, &options, &r);
    for (int64_t i = 0; i < r.count; i++) {
        assert_true(r.converged[i] && r.residuals[i] <= options.tolerance * s.norm * (1.0 + 20.0 * noise));
    }
    hsgd_eigen_result_clear(&r);

    options.tolerance = 0.01 * noise;
    options.max_products = 200;
    solve(&s, &options, &r);
    assert_true(r.products <= 200 + r.count);
    for (int64_t i = 0; i < r.count; i++) {
        converged += r.converged[i];
        assert_true(r.converged[i] == (r.residuals[i] <= options.tolerance * fabs(d[N - 1]) * (1.0 + noise)));
    }
    assert_true(converged < r.count);
    assert_true(strstr(r.reason, "noise of A") != NULL || strstr(r.reason, "limit of 200 products") != NULL);
    hsgd_eigen_result_clear(&r);
    subject_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_spectra_are_found_in_blocks_of_any_size),
        cmocka_unit_test(known_spectra_are_found_with_products_in_float),
        cmocka_unit_test(blocks_wider_than_the_space_are_cut_to_it),
        cmocka_unit_test(clusters_are_spanned_to_the_residual_over_the_gap),
        cmocka_unit_test(multiple_eigenvalues_are_spanned_whole),
        cmocka_unit_test(products_in_float_have_a_floor_that_no_tolerance_undercuts),
    };
    return test_run(tests);
}
