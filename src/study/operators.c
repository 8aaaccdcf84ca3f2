/* src/study/operators.c - the studied function as an objective and as a linear operator. */
#include "solve/eigen.h"
#include "study/selection.h"
#include <math.h>
#include <stdlib.h>

hsgd_problem study_problem(const study_state *s, const hsgd_backend *backend, bool test_split)
{
    return (hsgd_problem){
        .network = s->network,
        .backend = backend,
        .comm = s->comm,
        .reduction = (hsgd_reduction)s->deck->run.reduction,
        .split = test_split ? &s->data->test : &s->data->train,
        .mean = s->deck->mean,
        .deviation = s->deck->deviation,
    };
}

hsgd_problem study_studied(const study_state *s, const hsgd_backend *backend)
{
    return study_problem(s, backend, s->deck->hessian.split == 1);
}

const char *study_operator_name(const study_state *s)
{
    return s->deck->hessian.operator_ == 1 ? "gauss-newton" : "hessian";
}

hsgd_status study_operator(study_state *s, hsgd_linop **out, hsgd_error *err)
{
    return study_operator_over(s, s->samples, s->sample_count, out, err);
}

hsgd_status study_operator_over(study_state *s, const int64_t *index, int64_t count, hsgd_linop **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_problem problem = study_studied(s, s->backend);
    hsgd_hessian_options options = {
        .kind = s->deck->hessian.operator_ == 1 ? HSGD_OPERATOR_GAUSS_NEWTON : HSGD_OPERATOR_HESSIAN,
        .index = index,
        .count = count,
        .weights = s->weights,
        .batch = s->deck->hessian.batch,
        .stop = s->setup->stop,
        .context = s->setup->stop_context,
    };

    st = study_cache_bytes(s, &options.cache_bytes, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(hsgd_hessian_create(&problem, s->spread, &options, out, err));
    if (selection_is_block(s)) {
        const hsgd_selection selection = selection_of(s);
        hsgd_linop *whole = *out;

        HSGD_TRY(hsgd_block_create(whole, &selection, s->studied, 0, out, err));
    }
done:
    return st;
}

hsgd_status study_exact_trace(study_state *s, const int64_t *index, int64_t count,
                              void (*told)(void *s, int64_t done, int64_t groups), double *parts, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_problem problem = study_studied(s, s->backend);
    double *found = calloc((size_t)s->parameter_count, sizeof *found); /* room for the finer of the two */
    bool apart = false;

    problem.told = told;
    problem.context = s;
    HSGD_TRY(hsgd_comm_agree(s->comm, found != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    for (int64_t i = 0; i < s->parts; i++) {
        apart = apart || s->part[i].count == 1;
    }
    if (apart) {
        HSGD_TRY(hsgd_exact_trace_parts(&problem, s->weights, index, count, found, err));
    } else {
        HSGD_TRY(hsgd_exact_trace(&problem, s->weights, index, count, found, err));
    }
    for (int64_t i = 0; i < s->parts; i++) {
        const int64_t first = s->part[i].first;

        parts[i] = apart ? found[first] + (s->part[i].count == 2 ? found[first + 1] : 0.0) : found[first / 2];
    }
done:
    free(found);
    return st;
}

hsgd_status study_gradient(study_state *s, double *gradient, hsgd_loss *loss, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_problem problem = study_studied(s, s->backend);
    hsgd_objective *objective = NULL;
    hsgd_vector *weights = NULL, *g = NULL;

    st = hsgd_network_objective_create(&problem, s->replicated, s->sample_count, &objective, err);
    st = st == HSGD_OK ? hsgd_vector_create(s->replicated, 1, &weights, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(s->replicated, 1, &g, err) : st;
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(hsgd_vector_set_full(weights, s->weights, err));
    HSGD_TRY(hsgd_objective_evaluate(objective, weights, s->samples, s->sample_count, g, loss, err));
    HSGD_TRY(hsgd_vector_get_local(g, gradient, err));
done:
    hsgd_vector_destroy(&g);
    hsgd_vector_destroy(&weights);
    hsgd_objective_destroy(&objective);
    return st;
}

hsgd_status study_check_noise(const study_state *s, hsgd_linop *op, const char *key, double tolerance, double *noise,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_eigen_noise(op, (uint64_t)s->deck->run.seed, noise, err));
    hsgd_progress_detail(s->progress, "%s: noise floor of the products %.1e of the largest eigenvalue", key, *noise);
    HSGD_CHECK_FINITE(isfinite(*noise), err,
                      "%s: the noise of the products was measured as NaN or Inf; check the weights", key);
    HSGD_CHECK(tolerance >= *noise, HSGD_ERR_NUMERIC, err,
               "%s = %g: below the noise floor of the products in %s precision, %.1e; raise it above that, or set "
               "model.precision = double",
               key, tolerance, s->backend->precision == HSGD_DOUBLE ? "double" : "single", *noise);
done:
    return st;
}
