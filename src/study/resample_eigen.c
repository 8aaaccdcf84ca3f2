/* src/study/resample_eigen.c - eigenpairs without each group of samples; see resample.h. */
#include "solve/student.h"
#include "study/metrics.h"
#include "study/resample.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A group's row: eigenvalues, residuals, and 1 for each that converged. */
enum { VALUES, RESIDUALS, CONVERGED, PARTS };

/* The main result as it is kept. */
enum { SAVED_PAIRS, SAVED_PRODUCTS, SAVED_MARKS, SAVED_COMPLETE, SAVED_BLOCK, SAVED_BASIS, SAVED_REASON };
enum { REASON = sizeof((hsgd_eigen_result *)0)->reason / sizeof(int64_t), SAVED = SAVED_REASON + REASON };
enum { MARK_COUNTS = 3, MARK_REALS = 5 };

/* Length of what is random in a start vector, beside the eigenvectors' 1: enough to find a pair that no start vector
 * holds; measured, it costs no product that the eigenvectors save. */
static const double RANDOM_SHARE = 0.1;

_Static_assert(sizeof((hsgd_eigen_result *)0)->reason % sizeof(int64_t) == 0, "the reason is kept as integers");

/* ---- the main result, kept ---- */

static void save(const hsgd_eigen_result *full, int64_t *integer, double *real)
{
    const size_t pairs = (size_t)full->count * sizeof *real;

    integer[SAVED_PAIRS] = full->count;
    integer[SAVED_PRODUCTS] = full->products;
    integer[SAVED_MARKS] = full->marks;
    integer[SAVED_COMPLETE] = full->complete;
    integer[SAVED_BLOCK] = full->block;
    integer[SAVED_BASIS] = full->basis;
    memcpy(integer + SAVED_REASON, full->reason, sizeof full->reason);
    *real++ = full->orthogonality;
    memcpy(real, full->values, pairs);
    memcpy(real + full->count, full->residuals, pairs);
    memcpy(real + 2 * full->count, full->gaps, pairs);
    integer += SAVED;
    real += 3 * full->count;
    for (int64_t i = 0; i < full->marks; i++) {
        const hsgd_eigen_mark *m = &full->history[i];
        const int64_t counts[MARK_COUNTS] = {m->products, m->converged, m->basis};
        const double reals[MARK_REALS] = {m->worst, m->largest, m->seconds_products, m->seconds_communication,
                                          m->seconds_orthogonalization};

        memcpy(integer + i * MARK_COUNTS, counts, sizeof counts);
        memcpy(real + i * MARK_REALS, reals, sizeof reals);
    }
}

static void load(const int64_t *integer, const double *real, hsgd_eigen_result *full)
{
    const size_t pairs = (size_t)full->count * sizeof *real;

    full->products = integer[SAVED_PRODUCTS];
    full->complete = integer[SAVED_COMPLETE] != 0;
    full->block = integer[SAVED_BLOCK];
    full->basis = integer[SAVED_BASIS];
    memcpy(full->reason, integer + SAVED_REASON, sizeof full->reason);
    full->orthogonality = *real++;
    memcpy(full->values, real, pairs);
    memcpy(full->residuals, real + full->count, pairs);
    memcpy(full->gaps, real + 2 * full->count, pairs);
    for (int64_t i = 0; i < full->count; i++) {
        full->converged[i] = true; /* else no group would have been begun */
    }
    integer += SAVED;
    real += 3 * full->count;
    for (int64_t i = 0; i < full->marks; i++, integer += MARK_COUNTS, real += MARK_REALS) {
        full->history[i] = (hsgd_eigen_mark){.products = integer[0],
                                             .converged = integer[1],
                                             .basis = integer[2],
                                             .worst = real[0],
                                             .largest = real[1],
                                             .seconds_products = real[2],
                                             .seconds_communication = real[3],
                                             .seconds_orthogonalization = real[4]};
    }
}

hsgd_status study_resample_eigen_take(study_resample *r, hsgd_eigen_result *full, hsgd_error *err)
{
    const int64_t *integer = study_resample_integers(r);
    const int64_t pairs = r->integers >= SAVED ? integer[SAVED_PAIRS] : -1;
    const int64_t marks = r->integers >= SAVED ? integer[SAVED_MARKS] : -1;
    hsgd_status st = HSGD_OK;

    *full = (hsgd_eigen_result){0};
    HSGD_CHECK(pairs >= 1 && marks >= 0 && r->integers == SAVED + MARK_COUNTS * marks &&
                   r->reals == 1 + 3 * pairs + MARK_REALS * marks && r->width == PARTS * pairs && r->main != NULL &&
                   r->main->columns == pairs,
               HSGD_ERR_DATA, err, "eigen: the state that was kept does not fit this search; remove it");
    full->count = pairs;
    full->marks = marks;
    full->values = malloc((size_t)pairs * sizeof *full->values);
    full->residuals = malloc((size_t)pairs * sizeof *full->residuals);
    full->gaps = malloc((size_t)pairs * sizeof *full->gaps);
    full->converged = malloc((size_t)pairs * sizeof *full->converged);
    full->history = malloc((size_t)(marks + 1) * sizeof *full->history);
    if (full->values == NULL || full->residuals == NULL || full->gaps == NULL || full->converged == NULL ||
        full->history == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold %lld eigenpairs", (long long)pairs);
    }
    HSGD_TRY(hsgd_comm_agree(r->s->comm, st, err));
    load(integer, study_resample_reals(r), full);
    full->vectors = r->main;
    r->main = NULL;
done:
    return st;
}

/* ---- without a group ---- */

typedef struct {
    study_resample *r;
    const hsgd_eigen_result *full;
    hsgd_eigen_options options;
    hsgd_vector *start; /* [n, block] */
} leaving_out;

/* Start vectors that hold the eigenvectors of all samples: each column the sum of some, dealt in turn, and a little of
 * everything else.  A block as wide as there are eigenvectors would begin with each for itself, but makes polynomials of
 * so much lower degree with the same products that it takes more of them than a random start of few columns. */
static hsgd_status mix_start(leaving_out *l, hsgd_error *err)
{
    const int64_t pairs = l->full->count, block = l->full->block;
    const hsgd_space *space = l->full->vectors->space;
    const double each = sqrt((double)block / (double)pairs);
    double *c = calloc((size_t)(pairs * block), sizeof *c);
    hsgd_status st = HSGD_OK;

    if (c == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot mix %lld eigenvectors", (long long)pairs);
    } else {
        st = hsgd_vector_create(space, block, &l->start, err);
    }
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    for (int64_t j = 0; j < block; j++) {
        const hsgd_random stream = hsgd_random_stream(l->options.seed, HSGD_RANDOM_EIGEN, (uint32_t)j);

        HSGD_TRY(hsgd_vector_random(l->start, j, HSGD_DRAW_NORMAL, &stream, err));
    }
    HSGD_TRY(hsgd_vector_scale(RANDOM_SHARE / sqrt((double)space->n), l->start, err));
    for (int64_t i = 0; i < pairs; i++) {
        c[i * block + i % block] = each;
    }
    HSGD_TRY(hsgd_vector_update(1.0, l->full->vectors, c, l->start, err));
    l->options.start = l->start;
    l->options.block = block;
done:
    free(c);
    return st;
}

static void monitor(void *context, int64_t products, int64_t converged, int64_t wanted, double worst)
{
    const leaving_out *l = context;
    const study_state *s = l->r->s;

    const int64_t most = s->deck->eigen.max_products;
    hsgd_json *line;

    hsgd_progress_update(s->progress, "eigen", "products", products, most,
                         "without group %lld of %lld: %lld products, %lld of %lld pairs converged, worst residual %.2e",
                         (long long)l->r->done + 1, (long long)l->r->groups, (long long)products, (long long)converged,
                         (long long)wanted, worst);
    line = metrics_progress(s, "eigen", "products", products, most);
    hsgd_json_integer(line, "converged", converged);
    hsgd_json_integer(line, "wanted", wanted);
    hsgd_json_real(line, "worst_residual", worst);
    hsgd_json_integer(line, "group", l->r->done + 1);
    hsgd_json_integer(line, "groups", l->r->groups);
    metrics_add_progress(s, line);
}

static hsgd_status solve(void *context, const int64_t *index, int64_t count, double *row, hsgd_error *err)
{
    leaving_out *l = context;
    study_resample *r = l->r;
    study_state *s = r->s;
    const int64_t pairs = l->full->count;
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;
    hsgd_eigen_result found = {0};

    HSGD_TRY(study_operator_over(s, index, count, &op, err));
    HSGD_TRY(hsgd_lanczos_eigen(op, &l->options, &found, err));
    HSGD_CHECK(found.count == pairs, HSGD_ERR_NUMERIC, err,
               "eigen: %lld of %lld eigenpairs without group %lld in eigen.max_products = %lld; raise it, or set "
               "hessian.resample = 0",
               (long long)found.count, (long long)pairs, (long long)r->done + 1, (long long)l->options.max_products);
    memcpy(row + VALUES * pairs, found.values, (size_t)pairs * sizeof *row);
    memcpy(row + RESIDUALS * pairs, found.residuals, (size_t)pairs * sizeof *row);
    for (int64_t i = 0; i < pairs; i++) {
        row[CONVERGED * pairs + i] = found.converged[i] ? 1.0 : 0.0;
    }
    r->products += found.products;
    hsgd_progress_say(
        s->progress,
        "eigen: without group %lld of %lld (%lld samples): %lld products, %lld of %lld pairs converged, largest %+.6e",
        (long long)r->done + 1, (long long)r->groups, (long long)(s->sample_count - count), (long long)found.products,
        (long long)(pairs - hsgd_eigen_open(&found)), (long long)pairs, found.values[0]);
done:
    hsgd_eigen_result_clear(&found);
    hsgd_linop_destroy(&op);
    return st;
}

/* Part `part` of all groups' rows, side by side: out [groups][pairs]. */
static void pick(const study_resample *r, int part, double *out)
{
    const int64_t pairs = r->width / PARTS;

    for (int64_t group = 0; group < r->groups; group++) {
        memcpy(out + group * pairs, r->value + group * r->width + part * pairs, (size_t)pairs * sizeof *out);
    }
}

static hsgd_status find_jackknife(study_resample *r, const hsgd_eigen_result *full, hsgd_error *err)
{
    double *values = malloc((size_t)(r->groups * full->count) * sizeof *values);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_comm_agree(r->s->comm, values != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    pick(r, VALUES, values);
    HSGD_TRY(study_jackknife_create(r, full->count, values, full->values, full->values, err));
done:
    free(values);
    return st;
}

hsgd_status study_resample_eigen(study_resample *r, const hsgd_eigen_options *options, const hsgd_eigen_result *full,
                                 hsgd_error *err)
{
    leaving_out l = {.r = r, .full = full, .options = *options};
    hsgd_status st = HSGD_OK;

    if (r->groups == 0) {
        return HSGD_OK;
    }
    if (hsgd_eigen_open(full) > 0) {
        hsgd_progress_warn(r->s->progress,
                           "eigen: not all pairs converged, so hessian.resample is left out: differences "
                           "between samples would be those of unfinished searches");
        r->given_up = true;
        return HSGD_OK;
    }
    if (!r->resumed) {
        HSGD_TRY(study_resample_begin(r, PARTS * full->count, SAVED + MARK_COUNTS * full->marks,
                                      1 + 3 * full->count + MARK_REALS * full->marks, full->vectors, err));
        save(full, study_resample_integers(r), study_resample_reals(r));
        HSGD_TRY(hsgd_comm_broadcast(r->s->comm, 0, (size_t)r->reals * sizeof(double), study_resample_reals(r),
                                     err)); /* each rank has its own times */
    }
    HSGD_TRY(mix_start(&l, err));
    l.options.keeper = NULL;
    l.options.monitor = monitor;
    l.options.record = NULL;
    l.options.context = &l;
    HSGD_TRY(study_resample_run(r, true, solve, &l, err));
    HSGD_TRY(find_jackknife(r, full, err));
done:
    hsgd_vector_destroy(&l.start);
    return st;
}

int64_t study_resample_eigen_open(const study_resample *r)
{
    const int64_t pairs = r->width / PARTS;
    int64_t open = 0;

    for (int64_t group = 0; group < r->done; group++) {
        for (int64_t i = 0; i < pairs; i++) {
            open += r->value[group * r->width + CONVERGED * pairs + i] == 0.0;
        }
    }
    return open;
}

/* ---- eigen.h5 ---- */

static hsgd_status write_jackknife(const study_resample *r, hsgd_store *store, hsgd_error *err)
{
    const study_jackknife *j = &r->jackknife;
    static const char units[] = "nats per squared parameter", values[] = "/jackknife/values";
    const int64_t pairs = r->width / PARTS;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(
        output_axis(store, "/jackknife/group", "number of the group of samples that is left out", r->groups, 1, err));
    HSGD_TRY(output_matrix(store, values, units, "eigenvalues without each group, in descending order", r->groups,
                           pairs, "/jackknife/group", "/pair", j->values, err));
    HSGD_TRY(output_vector(store, "/jackknife/error", units,
                           "standard error of /eigenvalues by the choice of samples; of the i-th largest, whatever its "
                           "eigenvector",
                           pairs, "/pair", j->error, err));
    HSGD_TRY(output_vector(store, "/jackknife/bias", units, "(groups - 1) (mean of values - eigenvalue)", pairs,
                           "/pair", j->bias, err));
    HSGD_TRY(output_matrix(store, "/jackknife/interval", units, "eigenvalue -+ Student's quantile times the error",
                           pairs, 2, "/pair", "/end", j->interval, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/jackknife/interval", "confidence", HSGD_CONFIDENCE, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, values, "resample", r->groups, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, values, "products_used", r->products, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, values, "not_converged", study_resample_eigen_open(r), err));
done:
    return st;
}

void study_resample_eigen_summarize(const study_resample *r)
{
    const study_jackknife *j = &r->jackknife;

    for (int64_t i = 0; j->values != NULL && i < r->width / PARTS; i++) {
        summary_add(r->s,
                    "  eigenvalue %2lld: by the choice of samples standard error %.1e, %.0f %% interval [%+.6e, %+.6e]",
                    (long long)i + 1, j->error[i], 100.0 * HSGD_CONFIDENCE, j->interval[2 * i], j->interval[2 * i + 1]);
    }
}

hsgd_status study_resample_eigen_write(const study_resample *r, hsgd_store *store, hsgd_error *err)
{
    const int64_t pairs = r->width / PARTS;
    double *residuals = NULL;
    hsgd_status st = HSGD_OK;

    if (r->groups == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "hessian_resample", r->given_up ? 0 : r->groups, err));
    if (r->given_up) {
        return HSGD_OK;
    }
    residuals = malloc((size_t)(r->groups * pairs) * sizeof *residuals);
    HSGD_TRY(hsgd_comm_agree(r->s->comm, residuals != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(write_jackknife(r, store, err));
    pick(r, RESIDUALS, residuals);
    HSGD_TRY(output_matrix(store, "/jackknife/residuals", "nats per squared parameter", "residuals of values",
                           r->groups, pairs, "/jackknife/group", "/pair", residuals, err));
done:
    free(residuals);
    return st;
}
