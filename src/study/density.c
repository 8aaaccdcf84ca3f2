/* src/study/density.c - spectral density by stochastic Lanczos quadrature. */
#include "solve/quadrature.h"
#include "study/deflation.h"
#include "study/limits.h"
#include "study/metrics.h"
#include "study/probe_groups.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    int64_t probes, steps, bins;
    double *ritz, *weights; /* [probes][steps] */
    deflation deflated;
    int64_t nodes;                                /* of a probe: its steps and the pairs deflated */
    double *node, *mass_of;                       /* [probes][nodes]: values and weights */
    double *grid, *density, *error;               /* [bins] */
    double *full_grid, *full, *full_error;        /* [bins] */
    double *eigenvalue, *measure, *measure_error; /* [probes * nodes] */
    density_plan plan;
    double mass; /* of the Gaussians within full_grid */
} spectrum;

static void monitor(void *context, int64_t products, int64_t total)
{
    const study_state *s = context;

    hsgd_progress_update(s->progress, "density", "products", products, total, "%lld of %lld products",
                         (long long)products, (long long)total);
    metrics_add_progress(s, metrics_progress(s, "density", "products", products, total));
}

static hsgd_status create(study_state *s, spectrum *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    size_t own, all;

    d->bins = s->deck->density.bins;
    HSGD_TRY(study_plan_density(s, &d->plan, err));
    d->probes = d->plan.probes;
    d->steps = d->plan.steps;
    if (s->deck->density.deflate) {
        HSGD_TRY(deflation_make(s, &d->deflated, err));
    }
    d->nodes = d->steps + d->deflated.count;
    own = (size_t)(d->probes * d->steps);
    all = (size_t)(d->probes * d->nodes);
    d->ritz = malloc(2 * own * sizeof(double));
    d->node = malloc(2 * all * sizeof(double));
    d->grid = malloc((size_t)d->bins * 6 * sizeof(double));
    d->eigenvalue = malloc(3 * all * sizeof(double));
    if (d->ritz == NULL || d->node == NULL || d->grid == NULL || d->eigenvalue == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold %lld x %lld Ritz values; %s",
                            (long long)d->probes, (long long)d->steps, study_fewer_nodes(s));
    } else {
        d->weights = d->ritz + own;
        d->mass_of = d->node + all;
        d->density = d->grid + d->bins;
        d->error = d->density + d->bins;
        d->full_grid = d->error + d->bins;
        d->full = d->full_grid + d->bins;
        d->full_error = d->full + d->bins;
        d->measure = d->eigenvalue + all;
        d->measure_error = d->measure + all;
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
done:
    return st;
}

static void tell_plan(study_state *s, const density_plan *plan)
{
    if (plan->accuracy > 0.0) {
        hsgd_progress_say(
            s->progress,
            "density: accuracy %g takes %lld probes of %lld steps, on the sphere: the measure is within %g "
            "of the spectrum's width with probability %g (density.probes, steps and distribution do not "
            "count)",
            plan->accuracy, (long long)plan->probes, (long long)plan->steps, plan->accuracy, 1.0 - plan->eta);
    }
}

static void destroy(spectrum *d)
{
    deflation_clear(&d->deflated);
    free(d->ritz);
    free(d->node);
    free(d->grid);
    free(d->eigenvalue);
    free(d->plan.start);
}

/* Bins wider than half a sigma step over Gaussians: the curve then depends on where the bins happen to lie. */
static void warn_of_wide_bins(study_state *s, const spectrum *d, const double *grid)
{
    const double range = grid[d->bins - 1] - grid[0];
    const double sigma = sqrt(s->deck->density.sigma_squared * fmax(1.0, range));

    if (grid[1] - grid[0] > 0.5 * sigma) {
        hsgd_progress_warn(s->progress,
                           "density: bins of %.3g are wider than half a sigma (%.3g) and may miss peaks; "
                           "take density.bins=%.0f",
                           grid[1] - grid[0], 0.5 * sigma, ceil(range / (0.5 * sigma)) + 1.0);
    }
}

static hsgd_status write_moments(hsgd_store *store, const spectrum *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double moment[4], error[4];

    hsgd_density_moments(d->probes, d->nodes, d->node, d->mass_of, moment, d->probes > 1 ? error : NULL);
    HSGD_TRY(output_axis(store, "/order", "order of the moment", 4, 1, err));
    HSGD_TRY(output_vector(store, "/moments", "(nats per squared parameter)^order",
                           "moments 1 to 4 of the spectral density: tr(A^order) / rows of A", 4, "/order", moment,
                           err));
    if (d->probes > 1) {
        HSGD_TRY(output_vector(store, "/moments_stderr", "(nats per squared parameter)^order",
                               "standard errors of the moments over the probes", 4, "/order", error, err));
    }
done:
    return st;
}

static hsgd_status write_curves(hsgd_store *store, const spectrum *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static const char units[] = "nats per squared parameter", per[] = "squared parameters per nat";

    HSGD_TRY(output_vector(store, "/grid", units, "eigenvalue axis: means over the probes of the extreme Ritz values",
                           d->bins, NULL, d->grid, err));
    HSGD_TRY(output_vector(store, "/density", per, "mean over the probes, divided by its sum on the grid", d->bins,
                           "/grid", d->density, err));
    if (d->probes > 1) {
        HSGD_TRY(output_vector(store, "/density_stderr", per, "standard error of /density over the probes", d->bins,
                               "/grid", d->error, err));
    }
    HSGD_TRY(output_vector(store, "/full/grid", units, "eigenvalue axis over all probes' extremes: nothing is cut off",
                           d->bins, NULL, d->full_grid, err));
    HSGD_TRY(output_vector(store, "/full/density", per,
                           "mean over the probes, divided by /full/mass: its integral over the grid is 1", d->bins,
                           "/full/grid", d->full, err));
    HSGD_TRY(output_scalar(store, "/full/mass", "1",
                           "share of the Gaussians' mass within /full/grid, by the error function", d->mass, err));
    if (d->probes > 1) {
        HSGD_TRY(output_vector(store, "/full/density_stderr", per, "standard error of /full/density over the probes",
                               d->bins, "/full/grid", d->full_error, err));
    }
done:
    return st;
}

static hsgd_status write_cumulative(hsgd_store *store, const spectrum *d, hsgd_error *err)
{
    static const char axis[] = "/cumulative/eigenvalue";
    const char *words = d->deflated.count > 0 ? "Ritz values of all probes and, for each probe, the values deflated, "
                                                "ascending; of equal ones the last counts"
                                              : "Ritz values of all probes, ascending";
    const int64_t nodes = d->probes * d->nodes;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_vector(store, axis, "nats per squared parameter", words, nodes, NULL, d->eigenvalue, err));
    HSGD_TRY(output_vector(store, "/cumulative/measure", "1",
                           "share of the spectrum up to each eigenvalue, not blurred: mean over the probes", nodes,
                           axis, d->measure, err));
    if (d->probes > 1) {
        HSGD_TRY(output_vector(store, "/cumulative/measure_stderr", "1",
                               "standard error of the measure over the probes", nodes, axis, d->measure_error, err));
    }
done:
    return st;
}

static hsgd_status write_plan(hsgd_store *store, const density_plan *plan, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "probes", plan->probes, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "steps", plan->steps, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "start_vectors",
                                       plan->start != NULL ? "given"
                                       : plan->sphere      ? "sphere"
                                                           : "rademacher",
                                       err));
    if (plan->accuracy > 0.0) {
        HSGD_TRY(hsgd_store_attribute_f64(store, "/", "accuracy", plan->accuracy, err));
        HSGD_TRY(hsgd_store_attribute_f64(store, "/", "eta", plan->eta, err));
    }
done:
    return st;
}

static hsgd_status write_deflated(study_state *s, hsgd_store *store, const spectrum *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (s->deck->density.deflate) {
        HSGD_TRY(hsgd_store_attribute_i64(store, "/", "deflated", d->deflated.count, err));
    }
    if (d->deflated.count > 0) {
        HSGD_TRY(output_axis(store, "/deflated/pair", "number of the deflated eigenvalue", d->deflated.count, 1, err));
        HSGD_TRY(output_vector(store, "/deflated/values", "nats per squared parameter",
                               "eigenvalues deflated: each has 1 / n of the measure, the probes' nodes the rest",
                               d->deflated.count, "/deflated/pair", d->deflated.values, err));
    }
done:
    return st;
}

static hsgd_status write(study_state *s, const spectrum *d, const char *operator_name, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_store *store = NULL;

    HSGD_TRY(output_begin(s, "density.h5", HSGD_STAGE_DENSITY, &store, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "operator", operator_name, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, "/", "sigma_squared", s->deck->density.sigma_squared, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "samples", s->sample_count, err));
    HSGD_TRY(
        hsgd_store_attribute_i64(store, "/", "groups", s->groups, err)); /* of ranks: how it was made, as `ranks` */
    HSGD_TRY(write_plan(store, &d->plan, err));
    HSGD_TRY(output_axis(store, "/probe", "number of the probe", d->probes, 1, err));
    HSGD_TRY(output_axis(store, "/step", "number of the Ritz value, ascending", d->steps, 1, err));
    HSGD_TRY(output_matrix(
        store, "/ritz_values", "nats per squared parameter",
        "quadrature nodes of each probe; where a process ended early, as with more steps than rows, the last "
        "is repeated with weight 0",
        d->probes, d->steps, "/probe", "/step", d->ritz, err));
    HSGD_TRY(output_matrix(store, "/weights", "1",
                           "quadrature weights of each probe; each row sums to 1, with 0 where a node is repeated",
                           d->probes, d->steps, "/probe", "/step", d->weights, err));
    HSGD_TRY(write_deflated(s, store, d, err));
    HSGD_TRY(write_curves(store, d, err));
    HSGD_TRY(write_cumulative(store, d, err));
    HSGD_TRY(write_moments(store, d, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

static void report(study_state *s, const spectrum *d)
{
    double low = d->node[0], high = d->node[0];
    hsgd_json *line;

    for (int64_t i = 0; i < d->probes * d->nodes; i++) {
        low = fmin(low, d->node[i]);
        high = fmax(high, d->node[i]);
    }
    line = metrics_event(s, "result", "density");
    hsgd_json_integer(line, "probes", d->probes);
    hsgd_json_integer(line, "steps", d->steps);
    hsgd_json_integer(line, "deflated", d->deflated.count);
    hsgd_json_real(line, "lowest_ritz", low);
    hsgd_json_real(line, "highest_ritz", high);
    metrics_add(s, line);
    summary_add(s, "  density: Ritz values from %+.6e to %+.6e (%lld probes of %lld steps)", low, high,
                (long long)d->probes, (long long)d->steps);
    if (s->groups > 1) {
        summary_add(s, "  density: the probes were made by %d groups of ranks", s->groups);
    }
    if (d->deflated.count > 0) {
        summary_add(s, "  density: of them %lld eigenvalues of eigen.h5, deflated", (long long)d->deflated.count);
    }
    if (d->plan.accuracy > 0.0) {
        summary_add(s, "  density: measure within %g (%g of the range) with probability %g",
                    d->plan.accuracy * (high - low), d->plan.accuracy, 1.0 - d->plan.eta);
    }
}

/* All that follows from the nodes. */
static hsgd_status curves(study_state *s, spectrum *d, hsgd_error *err)
{
    const double sigma_squared = s->deck->density.sigma_squared, overhead = s->deck->density.overhead;
    const bool several = d->probes > 1;
    hsgd_status st = HSGD_OK;

    deflation_join(&d->deflated, s->m, d->probes, d->steps, d->ritz, d->weights, d->node, d->mass_of);
    (void)hsgd_density(d->probes, d->nodes, d->node, d->mass_of, d->bins, sigma_squared, overhead, false, d->grid,
                       d->density, several ? d->error : NULL);
    d->mass = hsgd_density(d->probes, d->nodes, d->node, d->mass_of, d->bins, sigma_squared, overhead, true,
                           d->full_grid, d->full, several ? d->full_error : NULL);
    st = hsgd_cumulative(d->probes, d->nodes, d->node, d->mass_of, d->eigenvalue, d->measure,
                         several ? d->measure_error : NULL, err);
    return hsgd_comm_agree(s->comm, st, err);
}

hsgd_status stage_density(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    spectrum d = {0};
    study_probe_groups *groups = NULL;
    hsgd_linop *op = NULL;
    hsgd_quadrature_options options;

    HSGD_TRY(create(s, &d, err));
    tell_plan(s, &d.plan);
    options = (hsgd_quadrature_options){.probes = d.probes,
                                        .steps = d.steps,
                                        .block = s->deck->density.block,
                                        .draw = d.plan.sphere ? HSGD_DRAW_NORMAL : HSGD_DRAW_SIGN,
                                        .seed = (uint64_t)s->deck->run.seed,
                                        .start = d.plan.start,
                                        .deflate = d.deflated.vectors,
                                        .keeper = s->keeper,
                                        .monitor = monitor,
                                        .context = s};
    HSGD_TRY(study_probe_groups_open(s, &groups, err));
    HSGD_TRY(study_probe_groups_resume(groups, &options, d.ritz, d.weights, err));
    HSGD_TRY(study_probe_groups_operator(groups, &op, err));
    HSGD_TRY(study_probe_groups_run(groups, op, &options, d.ritz, d.weights, err));
    HSGD_TRY(curves(s, &d, err));
    warn_of_wide_bins(s, &d, d.full_grid);
    HSGD_TRY(write(s, &d, hsgd_linop_name(op), err));
    report(s, &d);
done:
    hsgd_linop_destroy(&op);
    study_probe_groups_close(&groups);
    destroy(&d);
    return st;
}
