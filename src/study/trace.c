/* src/study/trace.c - the trace, exact where that holds, else by Hutchinson's estimate; whole and per layer. */
#include "solve/probing.h"
#include "study/limits.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    int64_t layers, probes;
    bool exact;
    int64_t *bounds;           /* [layers + 1]: rows of each layer */
    double *layer, *error;     /* [layers] */
    double *sample, *parts;    /* [probes], [probes][layers] */
    double trace, trace_error; /* error -1: cannot be had */
} traces;

static hsgd_status create(study_state *s, traces *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    t->exact = study_trace_is_exact(s);
    t->layers = s->parameter_count / 2;
    t->probes = t->exact ? 0 : s->deck->trace.probes;
    t->bounds = calloc((size_t)t->layers + 1, sizeof *t->bounds);
    t->layer = calloc((size_t)t->layers, sizeof *t->layer);
    t->error = calloc((size_t)t->layers, sizeof *t->error);
    t->sample = calloc((size_t)t->probes + 1, sizeof *t->sample);
    t->parts = calloc((size_t)(t->probes * t->layers) + 1, sizeof *t->parts);
    HSGD_CHECK(t->bounds != NULL && t->layer != NULL && t->error != NULL && t->sample != NULL && t->parts != NULL,
               HSGD_ERR_MEMORY, err, "memory: cannot hold the trace's %lld probes", (long long)t->probes);
    for (int64_t i = 0; i < t->layers; i++) {
        t->bounds[i] = s->parameters[2 * i].offset; /* weight, then bias, of one layer */
    }
    t->bounds[t->layers] = s->n;
done:
    return st;
}

static void destroy(traces *t)
{
    free(t->bounds);
    free(t->layer);
    free(t->error);
    free(t->sample);
    free(t->parts);
}

static hsgd_status exact(study_state *s, traces *t, hsgd_error *err)
{
    const hsgd_problem problem = study_studied(s, s->backend);
    const hsgd_status st = hsgd_exact_trace(&problem, s->weights, s->samples, s->sample_count, t->layer, err);

    for (int64_t i = 0; st == HSGD_OK && i < t->layers; i++) {
        t->trace += t->layer[i];
    }
    return st;
}

static hsgd_status probe(study_state *s, traces *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;
    double *column = malloc((size_t)t->probes * sizeof *column);

    HSGD_TRY(hsgd_comm_agree(s->comm, column != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(study_operator(s, &op, err));
    HSGD_TRY(
        hsgd_hutchinson(op, t->probes, (uint64_t)s->deck->run.seed, 8, t->layers, t->bounds, t->sample, t->parts, err));
    hsgd_mean_error(t->probes, t->sample, &t->trace, &t->trace_error);
    for (int64_t i = 0; i < t->layers; i++) {
        for (int64_t j = 0; j < t->probes; j++) {
            column[j] = t->parts[j * t->layers + i];
        }
        hsgd_mean_error(t->probes, column, &t->layer[i], &t->error[i]);
    }
done:
    hsgd_linop_destroy(&op);
    free(column);
    return st;
}

static hsgd_status write(study_state *s, const traces *t, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_store *store = NULL;
    static const char units[] = "nats per squared parameter";
    char names[1024] = "";
    size_t used = 0;

    for (int64_t i = 0; i < t->layers && used < sizeof names; i++) {
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? " " : "", s->parameters[2 * i].layer);
    }
    HSGD_TRY(output_begin(s, "trace.h5", HSGD_STAGE_TRACE, &store, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "method", t->exact ? "exact" : "hutchinson", err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "layers", names, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "samples", s->sample_count, err));
    HSGD_TRY(output_axis(store, "/layer", "number of the layer with parameters; names in the attribute `layers`",
                         t->layers, 1, err));
    HSGD_TRY(output_scalar(store, "/trace", units, "trace of the operator", t->trace, err));
    if (t->trace_error >= 0.0) {
        HSGD_TRY(output_scalar(store, "/stderr", units, "standard error of /trace; 0 for exact", t->trace_error, err));
    }
    HSGD_TRY(output_vector(store, "/layers", units, "trace of each layer's diagonal block", t->layers, "/layer",
                           t->layer, err));
    if (t->trace_error >= 0.0) {
        HSGD_TRY(output_vector(store, "/layers_stderr", units, "standard errors of /layers; 0 for exact", t->layers,
                               "/layer", t->error, err));
    }
    if (!t->exact) {
        HSGD_TRY(output_axis(store, "/probe", "number of the probe", t->probes, 1, err));
        HSGD_TRY(output_vector(store, "/samples", units, "z'Az of each Rademacher probe", t->probes, "/probe",
                               t->sample, err));
    }
    HSGD_TRY(hsgd_store_commit(&store, true, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

hsgd_status stage_trace(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    traces t = {0};

    st = create(s, &t, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(t.exact ? exact(s, &t, err) : probe(s, &t, err));
    HSGD_CHECK(isfinite(t.trace), HSGD_ERR_NUMERIC, err, "trace: the result is not finite; check the weights");
    HSGD_TRY(write(s, &t, err));
    if (t.exact) {
        summary_add(s, "  trace %.8e (exact)", t.trace);
    } else if (t.trace_error >= 0.0) {
        summary_add(s, "  trace %.6e, standard error %.1e (%lld probes)", t.trace, t.trace_error, (long long)t.probes);
    } else {
        summary_add(s, "  trace %.6e (one probe: no standard error)", t.trace);
    }
done:
    destroy(&t);
    return st;
}
