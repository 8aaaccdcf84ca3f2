/* src/curvature/exact_trace.c - the trace of the Gauss-Newton matrix without probing.
 *
 * The softmax's own Hessian is diag(p) - p p' = sum over classes c of s_c s_c' with s_c = sqrt(p_c) (e_c - p), so a
 * sample's Gauss-Newton matrix is the sum of (J' s_c)(J' s_c)' and its trace the sum of their squared norms.  Norms do
 * not add over samples, so samples are taken one at a time. */
#include "curvature/sweep.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 16 }; /* classes taken at once: bounds memory where there are many */

typedef struct {
    void *directions, *results;            /* backend: [columns][classes], [columns][n] */
    void *host_probabilities, *host_reals; /* host: [classes]; [columns][max of classes and n] */
} worker_memory;

typedef struct {
    worker_memory *workers; /* [workers] */
    int64_t columns;
} trace_context;

static double read_real(hsgd_precision precision, const void *memory, int64_t i)
{
    return precision == HSGD_DOUBLE ? ((const double *)memory)[i] : (double)((const float *)memory)[i];
}

static void write_real(hsgd_precision precision, void *memory, int64_t i, double x)
{
    if (precision == HSGD_DOUBLE) {
        ((double *)memory)[i] = x;
    } else {
        ((float *)memory)[i] = (float)x;
    }
}

/* s_c for classes first .. first + k - 1. */
static void fill_directions(hsgd_precision precision, const void *p, int64_t classes, int64_t first, int64_t k,
                            void *out)
{
    for (int64_t j = 0; j < k; j++) {
        const double root = sqrt(read_real(precision, p, first + j));

        for (int64_t i = 0; i < classes; i++) {
            const double e = i == first + j ? 1.0 : 0.0;

            write_real(precision, out, j * classes + i, root * (e - read_real(precision, p, i)));
        }
    }
}

/* tally[layer] += squared norms of the layers' parts of vectors[k][n]; backend order does, for it stays in a layer. */
static void add_norms(const hsgd_network *net, hsgd_precision precision, int64_t k, const void *vectors, double *tally)
{
    for (int64_t l = 0; l < net->count; l++) {
        const hsgd_layer *layer = &net->layers[l];
        const int64_t end = layer->bias + layer->bias_count;
        double sum = 0.0;

        if (layer->weight_count == 0) {
            continue;
        }
        for (int64_t j = 0; j < k; j++) {
            for (int64_t i = layer->weight; i < end; i++) {
                const double x = read_real(precision, vectors, j * net->parameters + i);

                sum += x * x;
            }
        }
        *tally++ += sum;
    }
}

static hsgd_status trace_sample(const trace_context *trace, hsgd_sweep *sweep, hsgd_sweep_worker *worker,
                                const hsgd_group *sample, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = sweep->problem.backend;
    const size_t real = hsgd_real_size(backend->precision);
    const int64_t classes = sweep->problem.network->classes;
    const worker_memory *memory = &trace->workers[worker->id];
    hsgd_group_loss loss = {0};

    HSGD_TRY(hsgd_pass_base(sweep->pass, worker->id, sweep->params, sample, worker->state, &loss, NULL, err));
    HSGD_TRY(backend->ops->download(backend->self, (size_t)classes * real,
                                    hsgd_pass_probabilities(sweep->pass, worker->state), memory->host_probabilities,
                                    err));
    for (int64_t c = 0; c < classes; c += trace->columns) {
        const int64_t k = classes - c < trace->columns ? classes - c : trace->columns;

        fill_directions(backend->precision, memory->host_probabilities, classes, c, k, memory->host_reals);
        HSGD_TRY(backend->ops->upload(backend->self, (size_t)(k * classes) * real, memory->host_reals,
                                      memory->directions, err));
        HSGD_TRY(hsgd_pass_output_adjoint(sweep->pass, worker->id, sweep->params, 1, k, memory->directions,
                                          worker->state, memory->results, err));
        HSGD_TRY(backend->ops->download(backend->self, (size_t)(k * sweep->n) * real, memory->results,
                                        memory->host_reals, err));
        add_norms(sweep->problem.network, backend->precision, k, memory->host_reals, worker->tally);
    }
done:
    return st;
}

static hsgd_status trace_group(void *context, hsgd_sweep *sweep, hsgd_sweep_worker *worker, int64_t group,
                               const hsgd_group *samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_group sample = *samples;

    (void)group;
    sample.m = 1;
    memset(worker->tally, 0, (size_t)sweep->plan.tallies * sizeof *worker->tally);
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
        free(trace->workers[w].host_probabilities);
        free(trace->workers[w].host_reals);
    }
    free(trace->workers);
}

static hsgd_status create_context(trace_context *trace, const hsgd_network *net, const hsgd_backend *backend,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t real = hsgd_real_size(backend->precision);
    const int64_t longest = net->parameters; /* more than classes: the last layer has a bias for each */

    trace->workers = calloc((size_t)backend->workers, sizeof *trace->workers);
    HSGD_CHECK(trace->workers != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the exact trace");
    for (int w = 0; w < backend->workers; w++) {
        worker_memory *memory = &trace->workers[w];

        memory->host_probabilities = malloc((size_t)net->classes * real);
        memory->host_reals = malloc((size_t)(trace->columns * longest) * real);
        HSGD_CHECK(memory->host_probabilities != NULL && memory->host_reals != NULL, HSGD_ERR_MEMORY, err,
                   "memory: cannot allocate the exact trace");
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

static hsgd_status trace_local(hsgd_sweep *sweep, const double *weights, trace_context *trace, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sweep_upload(sweep, 1, weights, sweep->params, err));
    HSGD_TRY(hsgd_sweep_run(sweep, trace_group, trace, err));
done:
    return st;
}

hsgd_status hsgd_exact_trace(const hsgd_problem *problem, const double *weights, const int64_t *index, int64_t count,
                             double *traces, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_network *net = problem->network;
    trace_context trace = {.columns = net->classes < MOST_COLUMNS ? net->classes : MOST_COLUMNS};
    const hsgd_sweep_plan plan = {.columns = trace.columns, .tallies = layers_with_parameters(net), .states = 1};
    hsgd_sweep *sweep = NULL;

    st = create_context(&trace, net, problem->backend, err);
    if (st == HSGD_OK) {
        st = hsgd_sweep_create(problem, &plan, &sweep, err);
    }
    HSGD_TRY(hsgd_comm_agree(problem->comm, st, err));
    HSGD_TRY(hsgd_sweep_begin(sweep, index, count, 0, err));
    HSGD_TRY(hsgd_sweep_reduce(sweep, trace_local(sweep, weights, &trace, err), err));
    for (int64_t l = 0; l < plan.tallies; l++) {
        traces[l] = hsgd_sweep_tally(sweep, l) / (double)count;
    }
done:
    hsgd_sweep_destroy(&sweep);
    destroy_context(&trace, problem->backend);
    return st;
}
