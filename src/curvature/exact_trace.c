/* src/curvature/exact_trace.c - the trace of the Gauss-Newton matrix without probing.
 *
 * The softmax's own Hessian is diag(p) - p p' = sum over classes c of s_c s_c' with s_c = sqrt(p_c) (e_c - p), so a
 * sample's Gauss-Newton matrix is the sum of (J' s_c)(J' s_c)' and its trace the sum of their squared norms.  Norms do
 * not add over samples, so samples are taken one at a time. */
#include "curvature/sweep.h"
#include <stdlib.h>

enum { MOST_COLUMNS = 16 }; /* classes taken at once: bounds memory where there are many */

typedef struct {
    void *directions, *results; /* backend reals: [columns][classes], [columns][n] */
} worker_memory;

typedef struct {
    worker_memory *workers; /* [workers] */
    int64_t columns;
    bool parts; /* weight and bias apart */
} trace_context;

/* *tally += squared norms of `count` reals from place `first` on, of each of vectors[k][n]. */
static hsgd_status add_norm(const hsgd_sweep *sweep, int worker, int64_t k, const void *vectors, int64_t first,
                            int64_t count, double *tally, hsgd_error *err)
{
    const hsgd_backend *backend = sweep->problem.backend;
    const char *place = (const char *)vectors + (size_t)first * hsgd_real_size(backend->precision);

    return backend->ops->squares(backend->self, worker, count, k,
                                 (hsgd_columns){(void *)place, sweep->problem.network->parameters}, tally, err);
}

/* tally[layer], or [2 * layer + part], += squared norms of those entries of vectors[k][n]; backend order does, for it
 * stays in a weight. */
static hsgd_status add_norms(const trace_context *trace, const hsgd_sweep *sweep, int worker, const void *vectors,
                             int64_t k, double *tally, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_network *net = sweep->problem.network;

    for (int64_t l = 0; l < net->count; l++) {
        const hsgd_layer *layer = &net->layers[l];
        const int64_t weight = layer->weight_count, bias = layer->bias_count; /* which stands behind the weight */

        if (weight == 0) {
            continue;
        }
        HSGD_TRY(
            add_norm(sweep, worker, k, vectors, layer->weight, trace->parts ? weight : weight + bias, tally++, err));
        if (trace->parts) {
            HSGD_TRY(add_norm(sweep, worker, k, vectors, layer->bias, bias, tally++, err));
        }
    }
done:
    return st;
}

static hsgd_status trace_sample(const trace_context *trace, hsgd_sweep *sweep, hsgd_sweep_worker *worker,
                                const hsgd_group *sample, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const int64_t classes = sweep->problem.network->classes;
    const worker_memory *memory = &trace->workers[worker->id];

    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, sample, worker->state, worker->loss, NULL, err));
    for (int64_t c = 0; c < classes; c += trace->columns) {
        const int64_t k = classes - c < trace->columns ? classes - c : trace->columns;

        HSGD_TRY(backend->ops->softmax_root(backend->self, worker->id, classes, c, k,
                                            hsgd_pass_probabilities(sweep->pass, worker->state), memory->directions,
                                            err));
        HSGD_TRY(hsgd_pass_output_adjoint(sweep->pass, worker->id, sweep->params, 1, k, memory->directions,
                                          worker->state, memory->results, err));
        HSGD_TRY(add_norms(trace, sweep, worker->id, memory->results, k, worker->tally, err));
    }
done:
    return st;
}

static hsgd_status trace_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                               const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    hsgd_group sample = *samples;

    (void)group;
    sample.m = 1;
    HSGD_TRY(backend->ops->zero(backend->self, worker->id, (size_t)sweep->plan.tallies * sizeof *worker->tally,
                                worker->tally, err));
    for (int64_t i = 0; i < samples->m; i++) {
        sample.index = samples->index + i;
        HSGD_TRY(trace_sample(context, sweep, worker, &sample, err));
    }
done:
    return st;
}

static void destroy_context(trace_context *trace, const hsgd_backend *backend)
{
    for (int w = 0; trace->workers != NULL && w < backend->workers; w++) {
        backend->ops->release(backend->self, trace->workers[w].directions);
        backend->ops->release(backend->self, trace->workers[w].results);
    }
    free(trace->workers);
}

static hsgd_status create_context(trace_context *trace, const hsgd_network *net, const hsgd_backend *backend,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t real = hsgd_real_size(backend->precision);

    trace->workers = calloc((size_t)backend->workers, sizeof *trace->workers);
    HSGD_CHECK(trace->workers != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the exact trace");
    for (int w = 0; w < backend->workers; w++) {
        worker_memory *memory = &trace->workers[w];

        HSGD_TRY(backend->ops->alloc(backend->self, (size_t)(trace->columns * net->classes) * real, &memory->directions,
                                     err));
        HSGD_TRY(backend->ops->alloc(backend->self, (size_t)(trace->columns * net->parameters) * real, &memory->results,
                                     err));
    }
done:
    return st;
}

static int64_t layers_with_parameters(const hsgd_network *net)
{
    int64_t count = 0;

    for (int64_t l = 0; l < net->count; l++) {
        count += net->layers[l].weight_count > 0;
    }
    return count;
}

static hsgd_status trace_local(hsgd_sweep *sweep, const double *weights, const int64_t *index, int64_t count,
                               trace_context *trace, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_select(sweep, index, count, err));
    HSGD_TRY(hsgd_sweep_upload(sweep, weights, sweep->params, err));
    HSGD_TRY(hsgd_sweep_run(sweep, trace_group, trace, err));
done:
    return st;
}

static hsgd_status find(const hsgd_problem *problem, const double *weights, const int64_t *index, int64_t count,
                        bool parts, double *traces, hsgd_error *err)
{
    hsgd_status st = HSGD_OK, local = HSGD_OK;
    const hsgd_network *net = problem->network;
    trace_context trace = {.columns = net->classes < MOST_COLUMNS ? net->classes : MOST_COLUMNS, .parts = parts};
    const hsgd_sweep_plan plan = {.samples = count,
                                  .singly = true,
                                  .columns = trace.columns,
                                  .tallies = (parts ? 2 : 1) * layers_with_parameters(net),
                                  .states = 1};
    hsgd_sweep *sweep = NULL;

    HSGD_CHECK(count >= 1, HSGD_ERR_USAGE, err, "samples: the set is empty; give at least one sample");
    st = create_context(&trace, net, problem->backend, err);
    if (st == HSGD_OK) {
        st = hsgd_sweep_create(problem, &plan, &sweep, err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    hsgd_sweep_begin(sweep, 0);
    local = trace_local(sweep, weights, index, count, &trace, err);
    HSGD_TRY(hsgd_sweep_reduce(sweep, local, err));
    HSGD_TRY(hsgd_sweep_finish(sweep, local, traces, err));
done:
    hsgd_sweep_destroy(&sweep);
    destroy_context(&trace, problem->backend);
    return st;
}

hsgd_status hsgd_exact_trace(const hsgd_problem *problem, const double *weights, const int64_t *index, int64_t count,
                             double *traces, hsgd_error *err)
{
    return find(problem, weights, index, count, false, traces, err);
}

hsgd_status hsgd_exact_trace_parts(const hsgd_problem *problem, const double *weights, const int64_t *index,
                                   int64_t count, double *traces, hsgd_error *err)
{
    return find(problem, weights, index, count, true, traces, err);
}
