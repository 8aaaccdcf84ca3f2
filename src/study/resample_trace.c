/* src/study/resample_trace.c - the trace without each group of samples; see resample.h. */
#include "solve/jackknife.h"
#include "solve/probing.h"
#include "study/metrics.h"
#include "study/resample.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char UNITS[] = "nats per squared parameter";

typedef struct {
    study_resample *r;
    const study_trace_plan *plan;
} grouping;

/* Row: the whole trace, then each layer's. */
static hsgd_status exact(const grouping *g, const int64_t *index, int64_t count, double *row, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(study_exact_trace(g->r->s, index, count, NULL, row + 1, err));
    row[0] = 0.0;
    for (int64_t i = 0; i < g->plan->layers; i++) {
        row[0] += row[1 + i];
    }
done:
    return st;
}

static hsgd_status probe(const grouping *g, const int64_t *index, int64_t count, double *row, hsgd_error *err)
{
    const hsgd_trace_options options = {.probes = g->plan->probes,
                                        .seed = (uint64_t)g->r->s->deck->run.seed,
                                        .columns = HSGD_TRACE_LOOK,
                                        .ranges = g->plan->layers,
                                        .bounds = g->plan->bounds};
    hsgd_trace_result found = {0};
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;

    HSGD_TRY(study_operator_over(g->r->s, index, count, &op, err));
    HSGD_TRY(hsgd_hutchinson(op, &options, &found, err));
    for (int64_t i = 0; i < found.width; i++) {
        row[i] = found.estimate[i].mean;
    }
    g->r->products += found.products;
done:
    hsgd_trace_result_clear(&found);
    hsgd_linop_destroy(&op);
    return st;
}

static hsgd_status find(void *context, const int64_t *index, int64_t count, double *row, hsgd_error *err)
{
    const grouping *g = context;
    const study_resample *r = g->r;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(g->plan->exact ? exact(g, index, count, row, err) : probe(g, index, count, row, err));
    HSGD_CHECK_FINITE(isfinite(row[0]), err, "trace: that of group %lld is not finite; check the weights",
                      (long long)r->done + 1);
    hsgd_progress_update(r->s->progress, "trace", "groups", r->done + 1, r->groups,
                         "group %lld of %lld (%lld samples): %.6e", (long long)r->done + 1, (long long)r->groups,
                         (long long)count, row[0]);
    metrics_add_progress(r->s, metrics_progress(r->s, "trace", "groups", r->done + 1, r->groups));
done:
    return st;
}

/* The trace over all samples, put together of the groups' as those without a group are, so that what probes do wrong is
 * in both alike: out [width]. */
static void put_together(const study_resample *r, double *out)
{
    const int64_t samples = r->s->sample_count;

    memset(out, 0, (size_t)r->width * sizeof *out);
    for (int64_t group = 0; group < r->groups; group++) {
        int64_t low = 0, high = 0;

        hsgd_jackknife_group(samples, r->groups, group, &low, &high);
        for (int64_t i = 0; i < r->width; i++) {
            out[i] += (double)(high - low) / (double)samples * r->value[group * r->width + i];
        }
    }
}

hsgd_status study_resample_trace(study_resample *r, const study_trace_plan *plan, const double *full, hsgd_error *err)
{
    grouping g = {.r = r, .plan = plan};
    double *values = NULL, *centre = NULL;
    hsgd_status st = HSGD_OK;

    if (r->groups == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(study_resample_run(r, false, find, &g, err));
    values = malloc((size_t)((r->groups + 1) * r->width) * sizeof *values);
    HSGD_TRY(hsgd_comm_agree(r->s->comm, values != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    centre = values + r->groups * r->width;
    hsgd_jackknife_means(r->s->sample_count, r->groups, r->width, r->value, values);
    put_together(r, centre);
    HSGD_TRY(study_jackknife_create(r, r->width, values, centre, full, err));
done:
    free(values);
    return st;
}

/* ---- trace.h5 ---- */

/* The whole trace's column of the values, then the layers': out [groups][1], [groups][layers]. */
static void split(const study_resample *r, double *out)
{
    const int64_t layers = r->width - 1;

    for (int64_t group = 0; group < r->groups; group++) {
        const double *row = r->jackknife.values + group * r->width;

        out[group] = row[0];
        memcpy(out + r->groups + group * layers, row + 1, (size_t)layers * sizeof *out);
    }
}

static hsgd_status write_whole(const study_resample *r, hsgd_store *store, const double *values, hsgd_error *err)
{
    static const char path[] = "/jackknife/values";
    const study_jackknife *j = &r->jackknife;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(
        output_axis(store, "/jackknife/group", "number of the group of samples that is left out", r->groups, 1, err));
    HSGD_TRY(output_vector(store, path, UNITS, "trace without each group, with the same probes where it is probed",
                           r->groups, "/jackknife/group", values, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, path, "resample", r->groups, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, path, "products_used", r->products, err));
    HSGD_TRY(output_scalar(store, "/jackknife/error", UNITS,
                           "standard error of /trace by the choice of samples; that of probes is /stderr", j->error[0],
                           err));
    HSGD_TRY(output_scalar(store, "/jackknife/bias", UNITS,
                           "(groups - 1) (mean of values - trace); rounding alone where all groups are of one size",
                           j->bias[0], err));
    HSGD_TRY(output_vector(store, "/jackknife/interval", UNITS,
                           "/trace -+ Student's quantile times the error: low, high", 2, "/end", j->interval, err));
done:
    return st;
}

static hsgd_status write_layers(const study_resample *r, hsgd_store *store, const double *values, hsgd_error *err)
{
    const study_jackknife *j = &r->jackknife;
    const int64_t layers = r->width - 1;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_matrix(store, "/jackknife/layers_values", UNITS, "/layers without each group", r->groups, layers,
                           "/jackknife/group", "/layer", values, err));
    HSGD_TRY(output_vector(store, "/jackknife/layers_error", UNITS,
                           "standard errors of /layers by the choice of samples", layers, "/layer", j->error + 1, err));
    HSGD_TRY(output_matrix(store, "/jackknife/layers_interval", UNITS,
                           "/layers -+ Student's quantile times the error: low, high", layers, 2, "/layer", "/end",
                           j->interval + 2, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/jackknife/interval", "confidence", HSGD_CONFIDENCE, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/jackknife/layers_interval", "confidence", HSGD_CONFIDENCE, err));
done:
    return st;
}

hsgd_status study_resample_trace_write(const study_resample *r, hsgd_store *store, hsgd_error *err)
{
    double *values = NULL;
    hsgd_status st = HSGD_OK;

    if (r->groups == 0) {
        return HSGD_OK;
    }
    values = malloc((size_t)(r->groups * r->width) * sizeof *values);
    HSGD_TRY(hsgd_comm_agree(r->s->comm, values != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    split(r, values);
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "hessian_resample", r->groups, err));
    HSGD_TRY(write_whole(r, store, values, err));
    HSGD_TRY(write_layers(r, store, values + r->groups, err));
done:
    free(values);
    return st;
}

void study_resample_trace_summarize(const study_resample *r)
{
    const study_jackknife *j = &r->jackknife;

    if (j->values != NULL) {
        summary_add(r->s, "  trace: by the choice of samples standard error %.1e, %.0f %% interval [%.6e, %.6e]",
                    j->error[0], 100.0 * HSGD_CONFIDENCE, j->interval[0], j->interval[1]);
    }
}
