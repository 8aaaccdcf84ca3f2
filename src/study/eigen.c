/* src/study/eigen.c - top eigenvalues and eigenvectors with their true residuals. */
#include "solve/eigen.h"
#include "study/internal.h"
#include <stdlib.h>
#include <string.h>

static void monitor(void *context, int64_t products, int64_t converged, int64_t wanted, double worst)
{
    const study_state *s = context;

    hsgd_progress_update(s->progress, "eigen", products, s->deck->eigen.max_products,
                         "%lld products, %lld of %lld pairs converged, worst residual %.2e", (long long)products,
                         (long long)converged, (long long)wanted, worst);
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

    HSGD_CHECK(converged != NULL, HSGD_ERR_MEMORY, err, "memory: cannot hold %lld flags", (long long)r->count);
    for (int64_t i = 0; i < r->count; i++) {
        converged[i] = r->converged[i];
    }
    HSGD_TRY(hsgd_store_write(store, &flags, converged, err));
    HSGD_TRY(output_rows(s, store, &vectors, r->vectors, err));
done:
    free(converged);
    return st;
}

static int64_t count_open(const hsgd_eigen_result *r)
{
    int64_t open = 0;

    for (int64_t i = 0; i < r->count; i++) {
        open += !r->converged[i];
    }
    return open;
}

static hsgd_status write(study_state *s, const hsgd_eigen_result *r, const char *operator_name, hsgd_error *err)
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
    if (s->deck->eigen.require_convergence) {
        HSGD_TRY(hsgd_store_attribute_i64(store, "/", OUTPUT_FAILED, count_open(r) > 0, err));
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
    HSGD_TRY(hsgd_store_commit(&store, true, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

static hsgd_status report(study_state *s, const hsgd_eigen_result *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t open = count_open(r);

    for (int64_t i = 0; i < r->count; i++) {
        summary_add(s, "  eigenvalue %2lld: %+.8e  residual %.1e  %s", (long long)i + 1, r->values[i], r->residuals[i],
                    r->converged[i] ? "converged" : "NOT converged");
    }
    summary_add(s, "  eigen: %lld products; stopped because %s", (long long)r->products, r->reason);
    if (open > 0) {
        hsgd_progress_warn(s->progress,
                           "eigen: %lld of %lld pairs did not converge to eigen.tolerance = %g within "
                           "eigen.max_products = %lld; raise one of them",
                           (long long)open, (long long)r->count, s->deck->eigen.tolerance,
                           (long long)s->deck->eigen.max_products);
    }
    HSGD_CHECK(open == 0 || !s->deck->eigen.require_convergence, HSGD_ERR_NUMERIC, err,
               "eigen: %lld of %lld pairs did not converge and eigen.require_convergence is true; raise "
               "eigen.max_products or eigen.tolerance (eigen.h5 holds what was found)",
               (long long)open, (long long)r->count);
done:
    return st;
}

hsgd_status stage_eigen(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;
    hsgd_eigen_result result = {0};
    const hsgd_eigen_options options = {.count = s->deck->eigen.count,
                                        .which = (hsgd_which)s->deck->eigen.which,
                                        .tolerance = s->deck->eigen.tolerance,
                                        .max_products = s->deck->eigen.max_products,
                                        .basis = s->deck->eigen.basis,
                                        .seed = (uint64_t)s->deck->run.seed,
                                        .monitor = monitor,
                                        .context = s};

    HSGD_TRY(study_operator(s, &op, err));
    if (s->deck->eigen.method == 1) {
        HSGD_TRY(hsgd_power(op, &options, &result, err));
    } else {
        HSGD_TRY(hsgd_lanczos_eigen(op, &options, &result, err));
    }
    HSGD_TRY(write(s, &result, hsgd_linop_name(op), err));
    HSGD_TRY(report(s, &result, err));
done:
    hsgd_eigen_result_clear(&result);
    hsgd_linop_destroy(&op);
    return st;
}

hsgd_status study_eigenvectors(study_state *s, double **vectors, int64_t *count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[STUDY_PATH], want[65], found[65] = "";
    bool exists = false;

    output_path(s, "eigen.h5", path, sizeof path);
    HSGD_TRY(hsgd_store_exists(s->comm, s->deck->run.output, "eigen.h5", &exists, err));
    if (exists) {
        HSGD_TRY(output_stage_hash(s, HSGD_STAGE_EIGEN, want, err));
        HSGD_TRY(hsgd_store_read_attribute_text(s->comm, path, "stage_hash", found, sizeof found, err));
        exists = strcmp(want, found) == 0;
    }
    if (!exists) {
        hsgd_progress_say(s->progress, "landscape: no eigenvectors for these weights and samples yet; the eigen stage "
                                       "runs first");
        HSGD_TRY(stage_eigen(s, err));
        hsgd_progress_done(s->progress);
    }
    HSGD_TRY(study_read_rows(s, path, "/eigenvectors", vectors, count, err));
done:
    return st;
}
