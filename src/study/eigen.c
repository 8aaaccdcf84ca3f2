/* src/study/eigen.c - top eigenvalues and eigenvectors with their true residuals. */
#include "study/limits.h"
#include "study/metrics.h"
#include "study/resample.h"
#include <math.h>
#include <stdlib.h>

static void monitor(void *context, int64_t products, int64_t converged, int64_t wanted, double worst)
{
    const study_state *s = context;

    const int64_t most = s->deck->eigen.max_products;
    hsgd_json *line;

    hsgd_progress_update(s->progress, "eigen", "products", products, most,
                         "%lld products, %lld of %lld pairs converged, worst residual %.2e", (long long)products,
                         (long long)converged, (long long)wanted, worst);
    line = metrics_progress(s, "eigen", "products", products, most);
    hsgd_json_integer(line, "converged", converged);
    hsgd_json_integer(line, "wanted", wanted);
    hsgd_json_real(line, "worst_residual", worst);
    metrics_add_progress(s, line);
}

/* One line a restart, as eigen-solvers' monitors have it. */
static void record(void *context, const hsgd_eigen_mark *m)
{
    const study_state *s = context;
    hsgd_json *line;

    hsgd_progress_say(
        s->progress,
        "eigen: %lld products, %lld pairs converged, %lld vectors held, worst residual %.2e; products %.1f "
        "s, communication %.1f s, orthogonalization %.1f s",
        (long long)m->products, (long long)m->converged, (long long)m->basis, m->worst, m->seconds_products,
        m->seconds_communication, m->seconds_orthogonalization);
    line = metrics_event(s, "ritz", "eigen");
    hsgd_json_integer(line, "products", m->products);
    hsgd_json_integer(line, "converged", m->converged);
    hsgd_json_integer(line, "basis", m->basis);
    hsgd_json_real(line, "worst_residual", m->worst / m->largest);
    hsgd_json_real(line, "largest", m->largest);
    metrics_add(s, line);
}

static hsgd_status write_vectors(study_state *s, hsgd_store *store, const hsgd_eigen_result *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *converged = malloc((size_t)r->count * sizeof *converged);
    const hsgd_dataset_spec vectors = {.path = "/eigenvectors",
                                       .rank = 2,
                                       .dims = {r->count, s->n},
                                       .units = "1",
                                       .description = "unit eigenvectors, entry of largest magnitude positive",
                                       .axes = {"/pair", "/parameter"}};
    const hsgd_dataset_spec flags = {.path = "/converged",
                                     .type = HSGD_STORE_U8,
                                     .rank = 1,
                                     .dims = {r->count},
                                     .units = "1",
                                     .description = "1 where the residual is within eigen.tolerance",
                                     .axes = {"/pair"}};

    HSGD_TRY(hsgd_comm_agree(s->comm, converged != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    for (int64_t i = 0; i < r->count; i++) {
        converged[i] = r->converged[i];
    }
    HSGD_TRY(hsgd_store_write(store, &flags, converged, err));
    HSGD_TRY(output_rows(s, store, &vectors, r->vectors, err));
done:
    free(converged);
    return st;
}

/* Rigorous intervals, and estimates that use the gap: some eigenvalue lies within the residual r of lambda (Parlett, The
 * Symmetric Eigenvalue Problem, theorem 4.5.1); where the nearest other eigenvalue is `gap` away, within r^2 / gap
 * (theorem 11.7.1). */
static hsgd_status write_certificates(study_state *s, hsgd_store *store, const hsgd_eigen_result *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static const char units[] = "nats per squared parameter";
    double *interval = malloc(3 * (size_t)r->count * sizeof *interval), *sharp = NULL;

    HSGD_TRY(hsgd_comm_agree(s->comm, interval != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    sharp = interval + 2 * r->count;
    for (int64_t i = 0; i < r->count; i++) {
        const double residual = r->residuals[i];

        interval[2 * i] = r->values[i] - residual;
        interval[2 * i + 1] = r->values[i] + residual;
        sharp[i] = r->gaps[i] > residual ? residual * residual / r->gaps[i] : residual;
    }
    HSGD_TRY(output_axis(store, "/end", "0: lower end of an interval, 1: upper", 2, 0, err));
    HSGD_TRY(output_matrix(store, "/intervals", units, "an eigenvalue of the operator lies in each: value -+ residual",
                           r->count, 2, "/pair", "/end", interval, err));
    HSGD_TRY(output_vector(store, "/gaps", units,
                           "distance to the nearest other Ritz value less its residual; 0: none, or unknown", r->count,
                           "/pair", r->gaps, err));
    HSGD_TRY(output_vector(store, "/errors", units,
                           "error of each eigenvalue: residual^2 / gap where no eigenvalue was missed and the gap is "
                           "the larger, else the residual",
                           r->count, "/pair", sharp, err));
    HSGD_TRY(output_scalar(store, "/orthogonality", "1", "largest |v_i'v_j - (i == j)| of the eigenvectors",
                           r->orthogonality, err));
done:
    free(interval);
    return st;
}

/* The columns of the history that are reals. */
enum { WORST, LARGEST, PRODUCT_SECONDS, COMMUNICATION_SECONDS, GRAM_SCHMIDT_SECONDS, COLUMNS };

static hsgd_status write_history(study_state *s, hsgd_store *store, const hsgd_eigen_result *r, hsgd_error *err)
{
    static const char *const names[COLUMNS] = {"/history/worst_residual", "/history/largest", "/history/time_products",
                                               "/history/time_communication", "/history/time_orthogonalization"};
    static const char *const words[COLUMNS] = {
        "worst wanted residual, as estimated", "magnitude of the largest Ritz value", "rank 0's, in products so far",
        "rank 0's, in communication and waiting for it so far", "rank 0's, in Gram-Schmidt so far"};
    const int64_t marks = r->marks;
    hsgd_status st = HSGD_OK;
    int64_t *counts = malloc(3 * (size_t)(marks + 1) * sizeof *counts);
    double *reals = malloc(COLUMNS * (size_t)(marks + 1) * sizeof *reals);

    HSGD_TRY(hsgd_comm_agree(s->comm, counts != NULL && reals != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    for (int64_t i = 0; i < marks; i++) {
        const hsgd_eigen_mark *m = &r->history[i];

        counts[i] = m->products;
        counts[marks + i] = m->converged;
        counts[2 * marks + i] = m->basis;
        reals[WORST * marks + i] = m->worst;
        reals[LARGEST * marks + i] = m->largest;
        reals[PRODUCT_SECONDS * marks + i] = m->seconds_products;
        reals[COMMUNICATION_SECONDS * marks + i] = m->seconds_communication;
        reals[GRAM_SCHMIDT_SECONDS * marks + i] = m->seconds_orthogonalization;
    }
    /* each rank has its own times, and writes its share of a dataset */
    HSGD_TRY(hsgd_comm_broadcast(s->comm, 0, COLUMNS * (size_t)marks * sizeof *reals, reals, err));
    HSGD_TRY(output_integers(store, "/history/products", "1", "products made when a restart, or the end, was reached",
                             marks, NULL, counts, err));
    HSGD_TRY(output_integers(store, "/history/converged", "1", "wanted pairs within the tolerance, by estimate", marks,
                             "/history/products", counts + marks, err));
    HSGD_TRY(output_integers(store, "/history/basis", "1", "Lanczos vectors kept", marks, "/history/products",
                             counts + 2 * marks, err));
    for (int c = 0; c < COLUMNS; c++) {
        HSGD_TRY(output_vector(store, names[c], c < PRODUCT_SECONDS ? "nats per squared parameter" : "s", words[c],
                               marks, "/history/products", reals + c * marks, err));
    }
done:
    free(reals);
    free(counts);
    return st;
}

static hsgd_status write(study_state *s, const hsgd_eigen_result *r, const study_resample *resample, double noise,
                         const char *operator_name, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_store *store = NULL;
    const hsgd_dataset_spec products = {.path = "/products_used",
                                        .type = HSGD_STORE_I64,
                                        .units = "1",
                                        .description = "operator products, those for the residuals included"};

    HSGD_TRY(output_begin(s, "eigen.h5", HSGD_STAGE_EIGEN, &store, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "operator", operator_name, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "stopped_because", r->reason, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "samples", s->sample_count, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/", "noise_floor", noise, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "complete", r->complete, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "block", r->block, err)); /* as they were chosen */
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "basis", r->basis, err));
    if (s->deck->eigen.require_convergence) {
        HSGD_TRY(hsgd_store_attribute_i64(store, "/", OUTPUT_FAILED,
                                          hsgd_eigen_open(r) + study_resample_eigen_open(resample) > 0 || !r->complete,
                                          err));
    }
    HSGD_TRY(output_axis(store, "/pair", "number of the eigenpair, 1 = largest", r->count, 1, err));
    HSGD_TRY(output_axis(store, "/parameter", "place in the flat parameter vector", s->n, 0, err));
    HSGD_TRY(output_vector(store, "/eigenvalues", "nats per squared parameter", "eigenvalues, descending", r->count,
                           "/pair", r->values, err));
    HSGD_TRY(output_vector(store, "/residuals", "nats per squared parameter",
                           "norm(A v - lambda v) by one more product; some eigenvalue lies within it", r->count,
                           "/pair", r->residuals, err));
    HSGD_TRY(hsgd_store_write(store, &products, &r->products, err));
    HSGD_TRY(write_vectors(s, store, r, err));
    HSGD_TRY(write_certificates(s, store, r, err));
    if (r->marks > 0) {
        HSGD_TRY(write_history(s, store, r, err));
    }
    HSGD_TRY(study_resample_eigen_write(resample, store, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

/* `open` of `pairs` pairs of the searches in words did not converge: a warning, or the end of the run. */
static hsgd_status report_open(study_state *s, int64_t open, int64_t pairs, const char *searches, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (open > 0) {
        hsgd_progress_warn(s->progress,
                           "eigen: %lld of %lld pairs%s did not converge to eigen.tolerance = %g within "
                           "eigen.max_products = %lld; raise one of them",
                           (long long)open, (long long)pairs, searches, s->deck->eigen.tolerance,
                           (long long)s->deck->eigen.max_products);
    }
    HSGD_CHECK(open == 0 || !s->deck->eigen.require_convergence, HSGD_ERR_NUMERIC, err,
               "eigen: %lld of %lld pairs%s did not converge and eigen.require_convergence is true; raise "
               "eigen.max_products or eigen.tolerance (eigen.h5 holds what was found)",
               (long long)open, (long long)pairs, searches);
done:
    return st;
}

/* All pairs converged, but products ran out before it was sure that there are no others. */
static hsgd_status report_incomplete(study_state *s, const hsgd_eigen_result *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (hsgd_eigen_open(r) == 0 && !r->complete) {
        hsgd_progress_warn(s->progress, "eigen: %s; raise eigen.max_products", r->reason);
        HSGD_CHECK(
            !s->deck->eigen.require_convergence, HSGD_ERR_NUMERIC, err,
            "eigen: %s, and eigen.require_convergence is true; raise eigen.max_products (eigen.h5 holds what was "
            "found)",
            r->reason);
    }
done:
    return st;
}

static void tell_result(const study_state *s, const hsgd_eigen_result *r)
{
    hsgd_json *line = metrics_event(s, "result", "eigen");
    double worst = 0.0, scale = 0.0;

    for (int64_t i = 0; i < r->count; i++) {
        worst = fmax(worst, r->residuals[i]);
        scale = fmax(scale, fabs(r->values[i]));
    }
    hsgd_json_integer(line, "products", r->products);
    hsgd_json_integer(line, "converged", r->count - hsgd_eigen_open(r));
    hsgd_json_integer(line, "wanted", r->count);
    hsgd_json_real(line, "worst_residual", worst / scale);
    hsgd_json_real(line, "largest", r->count > 0 ? r->values[0] : (double)NAN);
    hsgd_json_real(line, "smallest", r->count > 0 ? r->values[r->count - 1] : (double)NAN);
    metrics_add(s, line);
}

static hsgd_status report(study_state *s, const hsgd_eigen_result *r, const study_resample *resample, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < r->count; i++) {
        summary_add(s, "  eigenvalue %2lld: %+.8e  residual %.1e  %s", (long long)i + 1, r->values[i], r->residuals[i],
                    r->converged[i] ? "converged" : "NOT converged");
    }
    tell_result(s, r);
    summary_add(s, "  eigen: %lld products; stopped because %s", (long long)r->products, r->reason);
    study_resample_eigen_summarize(resample);
    HSGD_TRY(report_open(s, hsgd_eigen_open(r), r->count, "", err));
    HSGD_TRY(report_incomplete(s, r, err));
    HSGD_TRY(report_open(s, study_resample_eigen_open(resample), resample->done * r->count,
                         " without a group of samples", err));
done:
    return st;
}

/* The pairs, from where an interrupted run left them, and then those without each group of samples; *noise and *name: of
 * the operator.  Collective. */
static hsgd_status solve(study_state *s, study_resample *resample, hsgd_eigen_result *result, double *noise,
                         char name[64], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;
    int64_t before = 0;
    hsgd_eigen_options options = {.count = study_eigen_count(s),
                                  .which = (hsgd_which)s->deck->eigen.which,
                                  .tolerance = s->deck->eigen.tolerance,
                                  .max_products = s->deck->eigen.max_products,
                                  .basis = s->deck->eigen.basis,
                                  .block = s->deck->eigen.block,
                                  .confirm = s->deck->eigen.confirm,
                                  .seed = (uint64_t)s->deck->run.seed,
                                  .monitor = monitor,
                                  .record = record,
                                  .context = s};

    HSGD_TRY(study_operator(s, &op, err));
    (void)snprintf(name, 64, "%s", hsgd_linop_name(op));
    HSGD_TRY(study_check_noise(s, op, "eigen.tolerance", s->deck->eigen.tolerance, noise, err));
    before = hsgd_linop_products(op); /* those that measured the noise */
    HSGD_TRY(study_resample_open(s, hsgd_linop_space(op), resample, err));
    options.keeper = study_resample_keeper(resample);
    if (resample->resumed) {
        HSGD_TRY(study_resample_eigen_take(resample, result, err));
    } else if (s->deck->eigen.method == 1) {
        HSGD_TRY(hsgd_power(op, &options, result, err));
    } else {
        HSGD_TRY(hsgd_lanczos_eigen(op, &options, result, err));
    }
    hsgd_linop_destroy(&op); /* its memory is the others' */
    HSGD_TRY(study_resample_eigen(resample, &options, result, err));
    result->products += before;
done:
    hsgd_linop_destroy(&op);
    return st;
}

hsgd_status stage_eigen(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_resample resample = {0};
    hsgd_eigen_result result = {0};
    double noise = 0.0;
    char name[64];

    HSGD_TRY(solve(s, &resample, &result, &noise, name, err));
    HSGD_TRY(write(s, &result, &resample, noise, name, err));
    HSGD_TRY(report(s, &result, &resample, err));
done:
    study_resample_close(&resample);
    hsgd_eigen_result_clear(&result);
    return st;
}

hsgd_status study_eigenvectors(study_state *s, double **vectors, int64_t *count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STUDY_PATH];
    output_found found = OUTPUT_ABSENT;

    output_path(s, "eigen.h5", path, sizeof path);
    HSGD_TRY(output_judge(s, "eigen.h5", HSGD_STAGE_EIGEN, &found, err));
    if (found != OUTPUT_VALID) {
        hsgd_progress_say(s->progress, "eigen: %sthis stage runs first",
                          found == OUTPUT_ABSENT ? "there are no eigenvectors for these weights and samples yet; "
                                                 : "");
        HSGD_TRY(study_run_kept(s, HSGD_STAGE_EIGEN, err));
        hsgd_progress_done(s->progress);
    }
    HSGD_TRY(study_read_rows(s, path, "/eigenvectors", vectors, count, err));
done:
    return st;
}
