/* src/study/trace.c - the trace, exact where that holds, else by Hutchinson's estimate or Hutch++; whole and per layer. */
#include "solve/hutchpp.h"
#include "study/limits.h"
#include "study/metrics.h"
#include "study/resample.h"
#include "study/selection.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char UNITS[] = "nats per squared parameter";

typedef struct {
    int64_t layers;
    bool exact, sketched;
    int64_t *bounds;          /* [layers + 1]: rows of each layer in the operator */
    double *layer, *error;    /* [layers]: traces, and their standard errors */
    double *ends;             /* [layers][2]: of their intervals */
    double *sample;           /* [result.samples]: of the whole trace */
    hsgd_estimate *estimate;  /* [1 + layers]: the whole, then each layer */
    hsgd_trace_result result; /* empty for the exact trace */
    study_resample resample;
} traces;

static const char *method_of(const traces *t)
{
    return t->exact ? "exact" : t->sketched ? "hutch++" : "hutchinson";
}

static const char *reason_of(const traces *t)
{
    return t->exact ? "exact: nothing is probed" : t->result.met ? "tolerance met" : "all probes made";
}

static hsgd_status create(study_state *s, traces *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    t->exact = study_trace_is_exact(s);
    t->sketched = study_trace_is_sketched(s);
    t->layers = s->parts;
    t->bounds = calloc((size_t)t->layers + 1, sizeof *t->bounds);
    t->layer = calloc((size_t)(4 * t->layers) + 1, sizeof *t->layer); /* traces, errors, ends */
    t->estimate = calloc((size_t)t->layers + 1, sizeof *t->estimate);
    HSGD_CHECK(t->bounds != NULL && t->layer != NULL && t->estimate != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot hold the trace of %lld layers", (long long)t->layers);
    for (int64_t i = 0; i < t->layers; i++) {
        t->bounds[i + 1] = t->bounds[i] + s->range[i].count; /* the operator's rows are those of the parts in turn */
    }
    t->error = t->layer + t->layers;
    t->ends = t->error + t->layers;
done:
    return st;
}

static void destroy(traces *t)
{
    study_resample_close(&t->resample);
    hsgd_trace_result_clear(&t->result);
    free(t->bounds);
    free(t->layer);
    free(t->sample);
    free(t->estimate);
}

/* ---- the main result, kept while groups of samples are gone through ---- */

enum { SAVED_PRODUCTS, SAVED_SKETCH, SAVED_SAMPLES, SAVED_MET, SAVED };

/* Reals: of the exact trace the layers', else what is known and the samples. */
static int64_t saved_reals(const traces *t, int64_t samples)
{
    return t->exact ? t->layers : (1 + samples) * (1 + t->layers);
}

static hsgd_status save(traces *t, hsgd_error *err)
{
    const hsgd_trace_result *x = &t->result;
    study_resample *r = &t->resample;
    const size_t row = (size_t)(1 + t->layers) * sizeof(double);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(study_resample_begin(r, 1 + t->layers, SAVED, saved_reals(t, x->samples), NULL, err));
    study_resample_integers(r)[SAVED_PRODUCTS] = x->products;
    study_resample_integers(r)[SAVED_SKETCH] = x->sketch;
    study_resample_integers(r)[SAVED_SAMPLES] = x->samples;
    study_resample_integers(r)[SAVED_MET] = x->met;
    if (t->exact) {
        memcpy(study_resample_reals(r), t->layer, row - sizeof(double));
    } else {
        memcpy(study_resample_reals(r), x->known, row);
        memcpy(study_resample_reals(r) + 1 + t->layers, x->sample, (size_t)x->samples * row);
    }
done:
    return st;
}

/* Collective. */
static hsgd_status take_samples(traces *t, int64_t samples, const double *real, hsgd_error *err)
{
    hsgd_trace_result *x = &t->result;
    const int64_t width = 1 + t->layers;
    hsgd_status st = HSGD_OK;

    x->samples = samples;
    x->width = width;
    x->known = malloc((size_t)width * sizeof *x->known);
    x->sample = malloc((size_t)(samples * width) * sizeof *x->sample);
    x->estimate = malloc((size_t)width * sizeof *x->estimate);
    if (x->known == NULL || x->sample == NULL || x->estimate == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the trace's %lld samples", (long long)samples);
    }
    HSGD_TRY(hsgd_comm_agree(t->resample.s->comm, st, err));
    memcpy(x->known, real, (size_t)width * sizeof *real);
    memcpy(x->sample, real + width, (size_t)(samples * width) * sizeof *real);
    for (int64_t i = 0; i < width; i++) {
        x->estimate[i] = hsgd_estimate_of(samples, width, x->sample + i, x->known[i]);
    }
done:
    return st;
}

/* Collective. */
static hsgd_status take(traces *t, hsgd_error *err)
{
    const study_resample *r = &t->resample;
    const int64_t *integer = study_resample_integers(r);
    const int64_t samples = r->integers == SAVED ? integer[SAVED_SAMPLES] : -1;
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(samples >= (t->exact ? 0 : 1) && r->reals == saved_reals(t, samples) && r->width == 1 + t->layers &&
                   r->main == NULL,
               HSGD_ERR_DATA, err, "trace: the state that was kept belongs to another work; remove it");
    if (t->exact) {
        memcpy(t->layer, study_resample_reals(r), (size_t)t->layers * sizeof *t->layer);
    } else {
        HSGD_TRY(take_samples(t, samples, study_resample_reals(r), err));
    }
    t->result.products = integer[SAVED_PRODUCTS];
    t->result.sketch = integer[SAVED_SKETCH];
    t->result.met = integer[SAVED_MET] != 0;
done:
    return st;
}

/* The groups.  Hutch++, whose sketch follows from all samples, is not resampled itself: its groups are probed as by
 * hutchinson. */
static hsgd_status resample(traces *t, hsgd_error *err)
{
    const study_state *s = t->resample.s;
    const study_trace_plan plan = {.exact = t->exact,
                                   .probes = t->sketched ? s->deck->trace.probes : t->result.samples,
                                   .layers = t->layers,
                                   .bounds = t->bounds};
    double *full = NULL;
    hsgd_status st = HSGD_OK;

    if (t->resample.groups == 0) {
        return HSGD_OK;
    }
    full = malloc((size_t)(1 + t->layers) * sizeof *full);
    HSGD_TRY(hsgd_comm_agree(s->comm, full != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    if (!t->resample.resumed) {
        HSGD_TRY(save(t, err));
    }
    for (int64_t i = 0; i <= t->layers; i++) {
        full[i] = t->estimate[i].mean;
    }
    HSGD_TRY(study_resample_trace(&t->resample, &plan, full, err));
done:
    free(full);
    return st;
}

static void tell_groups(void *context, int64_t done, int64_t groups)
{
    metrics_sweep(context, HSGD_STAGE_TRACE, done, groups);
}

static hsgd_status exact(study_state *s, traces *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double sum = 0.0;

    HSGD_TRY(study_resample_open(s, NULL, &t->resample, err));
    if (t->resample.resumed) {
        HSGD_TRY(take(t, err));
    } else {
        HSGD_TRY(study_exact_trace(s, s->samples, s->sample_count, tell_groups, t->layer, err));
    }
    for (int64_t i = 0; i < t->layers; i++) {
        const double x = t->layer[i];

        sum += x;
        t->estimate[1 + i] = (hsgd_estimate){.mean = x, .low = x, .high = x};
    }
    t->estimate[0] = (hsgd_estimate){.mean = sum, .low = sum, .high = sum};
done:
    return st;
}

static void monitor(void *context, int64_t products, int64_t most, int64_t samples, const hsgd_estimate *so_far)
{
    const study_state *s = context;
    char estimate[96] = "";
    hsgd_json *line;

    if (samples > 1) {
        (void)snprintf(estimate, sizeof estimate, ", trace %.6e, standard error %.1e", so_far->mean, so_far->error);
    }
    hsgd_progress_update(s->progress, "trace", "products", products, most, "%lld of %lld products%s",
                         (long long)products, (long long)most, estimate);
    line = metrics_progress(s, "trace", "products", products, most);
    hsgd_json_real(line, "trace", samples > 0 ? so_far->mean : (double)NAN);
    hsgd_json_real(line, "stderr", samples > 1 ? so_far->error : (double)NAN);
    metrics_add_progress(s, line);
}

static hsgd_status probe(study_state *s, traces *t, hsgd_error *err)
{
    enum { COLUMNS = HSGD_TRACE_LOOK }; /* so that no sample is made that a look then leaves away */
    hsgd_trace_options options = {.probes = s->deck->trace.probes,
                                  .tolerance = s->deck->trace.tolerance,
                                  .seed = (uint64_t)s->deck->run.seed,
                                  .columns = COLUMNS,
                                  .ranges = t->layers,
                                  .bounds = t->bounds,
                                  .monitor = monitor,
                                  .context = s};
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;

    HSGD_TRY(study_operator(s, &op, err));
    HSGD_TRY(study_resample_open(s, hsgd_linop_space(op), &t->resample, err));
    options.keeper = study_resample_keeper(&t->resample);
    if (t->resample.resumed) {
        HSGD_TRY(take(t, err));
    } else {
        HSGD_TRY(t->sketched ? hsgd_hutch_plus_plus(op, &options, &t->result, err)
                             : hsgd_hutchinson(op, &options, &t->result, err));
    }
    memcpy(t->estimate, t->result.estimate, (size_t)(1 + t->layers) * sizeof *t->estimate);
done:
    hsgd_linop_destroy(&op);
    return st;
}

/* Lay out what the file wants side by side.  Collective. */
static hsgd_status arrange(study_state *s, traces *t, hsgd_error *err)
{
    const hsgd_trace_result *r = &t->result;
    hsgd_status st = HSGD_OK;

    t->sample = malloc((size_t)(r->samples + 1) * sizeof *t->sample);
    if (t->sample == NULL) {
        st =
            hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the trace's %lld samples", (long long)r->samples);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    for (int64_t i = 0; i < r->samples; i++) {
        t->sample[i] = r->sample[i * r->width];
    }
    for (int64_t i = 0; i < t->layers; i++) {
        const hsgd_estimate *e = &t->estimate[1 + i];

        t->layer[i] = e->mean;
        t->error[i] = e->error;
        t->ends[2 * i] = e->low;
        t->ends[2 * i + 1] = e->high;
    }
done:
    return st;
}

/* ---- trace.h5 ---- */

static hsgd_status write_attributes(study_state *s, const traces *t, hsgd_store *store, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char names[SELECTION_NAMES];

    selection_names(s, names);
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "operator", study_operator_name(s), err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "method", method_of(t), err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "stopped_because", reason_of(t), err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "layers", names, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "samples", s->sample_count, err));
    if (t->sketched) {
        HSGD_TRY(hsgd_store_attribute_i64(store, "/", "sketch", t->result.sketch, err));
    }
done:
    return st;
}

/* Standard errors and intervals, which one sample does not give. */
static hsgd_status write_errors(const traces *t, hsgd_store *store, hsgd_error *err)
{
    const double whole[2] = {t->estimate[0].low, t->estimate[0].high};
    hsgd_status st = HSGD_OK;

    HSGD_TRY(
        output_scalar(store, "/stderr", UNITS, "standard error of /trace; 0 for exact", t->estimate[0].error, err));
    HSGD_TRY(output_vector(store, "/interval", UNITS, "Student's interval of the trace: low, high; one point for exact",
                           2, "/end", whole, err));
    HSGD_TRY(output_vector(store, "/layers_stderr", UNITS, "standard errors of /layers; 0 for exact", t->layers,
                           "/layer", t->error, err));
    HSGD_TRY(output_matrix(store, "/layers_interval", UNITS, "Student's intervals of the layers' traces: low, high",
                           t->layers, 2, "/layer", "/end", t->ends, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/interval", "confidence", HSGD_CONFIDENCE, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/layers_interval", "confidence", HSGD_CONFIDENCE, err));
done:
    return st;
}

static hsgd_status write_samples(const traces *t, hsgd_store *store, hsgd_error *err)
{
    const hsgd_trace_result *r = &t->result;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_axis(store, "/probe", "number of the probe", r->samples, 1, err));
    HSGD_TRY(output_vector(store, "/samples", UNITS,
                           t->sketched ? "w'Aw of each probe w = (I - QQ')z; /trace is /sketched and their mean"
                                       : "z'Az of each Rademacher probe; /trace is their mean",
                           r->samples, "/probe", t->sample, err));
    if (t->sketched) {
        HSGD_TRY(output_scalar(store, "/sketched", UNITS, "trace within the sketch, tr(Q'AQ)", r->known[0], err));
    }
done:
    return st;
}

static hsgd_status write(study_state *s, const traces *t, hsgd_error *err)
{
    const hsgd_dataset_spec used = {.path = "/probes_used",
                                    .type = HSGD_STORE_I64,
                                    .units = "1",
                                    .description = "products with vectors that the estimate took; 0 for exact"};
    hsgd_status st = HSGD_OK;
    hsgd_store *store = NULL;

    HSGD_TRY(output_begin(s, "trace.h5", HSGD_STAGE_TRACE, &store, err));
    HSGD_TRY(write_attributes(s, t, store, err));
    HSGD_TRY(output_axis(store, "/layer", "number of the layer with parameters; names in the attribute `layers`",
                         t->layers, 1, err));
    HSGD_TRY(output_scalar(store, "/trace", UNITS, "trace of the operator", t->estimate[0].mean, err));
    HSGD_TRY(output_vector(store, "/layers", UNITS, "trace of each layer's diagonal block", t->layers, "/layer",
                           t->layer, err));
    HSGD_TRY(hsgd_store_write(store, &used, &t->result.products, err));
    HSGD_TRY(output_axis(store, "/end", "0: lower end of an interval, 1: upper", 2, 0, err));
    if (t->estimate[0].error >= 0.0) {
        HSGD_TRY(write_errors(t, store, err));
    }
    if (!t->exact) {
        HSGD_TRY(write_samples(t, store, err));
    }
    HSGD_TRY(study_resample_trace_write(&t->resample, store, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

static void summarize(study_state *s, const traces *t)
{
    const hsgd_estimate *e = &t->estimate[0];
    const long long products = (long long)t->result.products;
    hsgd_json *line = metrics_event(s, "result", "trace");

    hsgd_json_text(line, "method", method_of(t));
    hsgd_json_integer(line, "products", t->result.products);
    hsgd_json_real(line, "trace", e->mean);
    hsgd_json_real(line, "stderr", e->error >= 0.0 ? e->error : (double)NAN);
    metrics_add(s, line);
    if (t->exact) {
        summary_add(s, "  trace %.8e (exact)", e->mean);
    } else if (e->error >= 0.0) {
        summary_add(s, "  trace %.6e, standard error %.1e, %.0f %% interval [%.6e, %.6e] (%s, %lld products, %s)",
                    e->mean, e->error, 100.0 * HSGD_CONFIDENCE, e->low, e->high, method_of(t), products, reason_of(t));
    } else {
        summary_add(s, "  trace %.6e (%s, %lld products; one sample has no standard error)", e->mean, method_of(t),
                    products);
    }
    study_resample_trace_summarize(&t->resample);
}

hsgd_status stage_trace(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    traces t = {0};

    st = create(s, &t, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(t.exact ? exact(s, &t, err) : probe(s, &t, err));
    HSGD_CHECK_FINITE(isfinite(t.estimate[0].mean), err, "trace: the result is not finite; check the weights");
    HSGD_TRY(resample(&t, err));
    HSGD_TRY(arrange(s, &t, err));
    HSGD_TRY(write(s, &t, err));
    summarize(s, &t);
done:
    destroy(&t);
    return st;
}
