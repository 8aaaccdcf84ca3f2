/* src/study/limits.c - what the stages ask of data, network and named files, checked before anything is created. */
#include "solve/quadrature.h"
#include "study/limits.h"
#include "study/selection.h"
#include "study/small_vectors.h"
#include <stdlib.h>
#include <string.h>

/* Places in the keys' lists of choices; see deck.h. */
enum { TRACE_AUTO, TRACE_EXACT, TRACE_HUTCHINSON, TRACE_HUTCHPP };
enum { OPERATOR_HESSIAN, OPERATOR_GAUSS_NEWTON };
enum { WHICH_BOTH };
enum { DISTRIBUTION_RADEMACHER, DISTRIBUTION_SPHERE };

bool study_runs(const study_state *s, hsgd_stage stage)
{
    for (int i = 0; i < s->deck->stages; i++) {
        if (s->deck->stage[i] == stage) {
            return true;
        }
    }
    return false;
}

bool study_measures_training(const study_state *s)
{
    return study_runs(s, HSGD_STAGE_TRAIN) && s->deck->train.curvature_every > 0;
}

static bool exact_trace_holds(const study_state *s)
{
    return s->network->piecewise_linear || s->deck->hessian.operator_ == OPERATOR_GAUSS_NEWTON;
}

bool study_trace_is_exact(const study_state *s)
{
    return s->deck->trace.method == TRACE_EXACT || (s->deck->trace.method == TRACE_AUTO && exact_trace_holds(s));
}

bool study_trace_is_sketched(const study_state *s)
{
    return s->deck->trace.method == TRACE_HUTCHPP;
}

static hsgd_status check_keys(const study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const bool traces = study_runs(s, HSGD_STAGE_TRACE) || study_measures_training(s);

    HSGD_CHECK(!study_runs(s, HSGD_STAGE_TRAIN) || s->deck->train.batch <= s->data->train.count ||
                   !hsgd_deck_is_explicit(s->deck, "train", "batch"),
               HSGD_ERR_USAGE, err, "train.batch = %lld: there are only %lld training samples; lower it",
               (long long)s->deck->train.batch, (long long)s->data->train.count);
    HSGD_CHECK(!traces || s->deck->trace.method != TRACE_EXACT || exact_trace_holds(s), HSGD_ERR_USAGE, err,
               "trace.method = exact: holds for Gauss-Newton and for networks without tanh only; take hutchinson, "
               "hutch++ or auto");
    HSGD_CHECK(!study_runs(s, HSGD_STAGE_TRACE) || !study_trace_is_sketched(s) || s->deck->trace.probes >= 3,
               HSGD_ERR_USAGE, err,
               "trace.probes = %lld: hutch++ needs at least 3 products; use more or take hutchinson",
               (long long)s->deck->trace.probes);
done:
    return st;
}

/* What is measured along the training needs its products at every measurement, the first to the last. */
static hsgd_status check_curvature(const study_state *s, study_extent *extent, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t asked = s->deck->train.curvature_count, pairs = asked < s->m ? asked : s->m;

    HSGD_CHECK(!study_measures_training(s) || asked <= s->m ||
                   !hsgd_deck_is_explicit(s->deck, "train", "curvature_count"),
               HSGD_ERR_USAGE, err, "train.curvature_count = %lld: %s only %lld parameters; lower it", (long long)asked,
               selection_is_block(s) ? "hessian.layers selects" : "the network has", (long long)s->m);
    HSGD_CHECK(
        !study_measures_training(s) || pairs <= s->deck->eigen.max_products, HSGD_ERR_USAGE, err,
        "eigen.max_products = %lld: the %lld eigenpairs of train.curvature_count take at least as many products; "
        "raise it or measure fewer",
        (long long)s->deck->eigen.max_products, (long long)pairs);
    extent->curvature = study_measures_training(s) ? pairs : 0;
done:
    return st;
}

/* The weights file that the first stage will start from or study. */
static hsgd_status check_weights(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *weights = malloc((size_t)s->n * sizeof *weights);
    char source[STUDY_PATH];

    if (weights == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld weights", (long long)s->n);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(study_initial_weights(s, weights, source, sizeof source, err));
done:
    free(weights);
    return st;
}

/* Read the vectors of a named file only to see that it can be done, and to count them. */
static hsgd_status check_rows(study_state *s, const char *file, const char *path, int64_t *count, hsgd_error *err)
{
    double *rows = NULL;
    const hsgd_status st = study_read_rows(s, file, path, &rows, count, err);

    free(rows);
    return st;
}

/* A start vector of which the selection leaves nothing would end the stage when its turn comes. */
static hsgd_status check_start(const study_state *s, const double *start, int64_t probes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t j = 0; j < probes; j++) {
        HSGD_CHECK(small_norm(s->m, start + j * s->m) != 0.0, HSGD_ERR_DATA, err,
                   "density.start: row %lld of %s is zero%s; leave it away", (long long)j + 1, s->deck->density.start,
                   selection_is_block(s) ? " within hessian.layers" : "");
    }
done:
    return st;
}

const char *study_fewer_nodes(const study_state *s)
{
    return s->deck->density.accuracy > 0.0 ? "raise density.accuracy" : "lower density.probes or density.steps";
}

bool study_start_is_given(const study_state *s)
{
    const char *file = s->deck->density.start;

    return file[0] != '\0' && strcmp(file, "none") != 0;
}

/* The studied rows [*probes][m] of the vectors of density.start, where it names a file; else NULL. */
static hsgd_status read_start(study_state *s, double **start, int64_t *probes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *file = s->deck->density.start;
    const int64_t asked = s->deck->density.probes;

    *start = NULL;
    *probes = asked;
    if (study_start_is_given(s)) {
        HSGD_TRY(selection_read_rows(s, file, "/start", start, probes, err));
        HSGD_CHECK(*probes == asked || !hsgd_deck_is_explicit(s->deck, "density", "probes"), HSGD_ERR_DATA, err,
                   "density.probes = %lld, but %s holds %lld start vectors; leave density.probes away",
                   (long long)asked, file, (long long)*probes);
        HSGD_TRY(check_start(s, *start, *probes, err));
    }
done:
    return st;
}

hsgd_status study_plan_density(study_state *s, density_plan *plan, hsgd_error *err)
{
    enum { MOST = 1000000000 }; /* probes, as density.probes has it: a plan stops there, and no longer keeps its word */
    static const double ETA = 0.05; /* as for the 95 % intervals elsewhere */
    hsgd_status st = HSGD_OK;

    *plan = (density_plan){.steps = s->deck->density.steps,
                           .sphere = s->deck->density.distribution == DISTRIBUTION_SPHERE,
                           .accuracy = s->deck->density.accuracy};
    if (plan->accuracy > 0.0) {
        plan->eta = ETA;
        plan->sphere = true; /* what the bound is for */
        hsgd_quadrature_plan(s->m, plan->accuracy, ETA, &plan->probes, &plan->steps);
        HSGD_CHECK(plan->probes < MOST, HSGD_ERR_USAGE, err,
                   "density.accuracy = %g: takes %d probes or more for an operator of %lld rows; raise it",
                   plan->accuracy, MOST, (long long)s->m);
    } else {
        HSGD_TRY(read_start(s, &plan->start, &plan->probes, err));
    }
done:
    return st;
}

/* Directions `words` of the landscape: their number, and the last row of eigenvectors and of the file they name. */
static int64_t count_directions(const char *words, int64_t *eigenvector, int64_t *row)
{
    char copy[HSGD_TEXT], *rest = copy, *word;
    int64_t count = 0;

    (void)snprintf(copy, sizeof copy, "%s", strcmp(words, "none") == 0 ? "" : words);
    while ((word = strtok_r(rest, " \t", &rest)) != NULL) {
        const bool numbered = strncmp(word, "eigenvector", 11) == 0, from_file = strncmp(word, "file", 4) == 0;
        const int64_t wanted = numbered && word[11] == '\0' ? 1 : strtoll(word + (numbered ? 11 : 4), NULL, 10);

        *eigenvector = numbered && wanted > *eigenvector ? wanted : *eigenvector;
        *row = from_file && wanted > *row ? wanted : *row;
        count++;
    }
    return count;
}

int64_t study_eigen_count(const study_state *s)
{
    return s->deck->eigen.count < s->m ? s->deck->eigen.count : s->m;
}

static hsgd_status check_eigen(study_state *s, study_extent *extent, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t count = study_eigen_count(s), both = s->deck->eigen.which == WHICH_BOTH ? 2 * count : count;

    HSGD_CHECK(s->deck->eigen.count <= s->m || !hsgd_deck_is_explicit(s->deck, "eigen", "count"), HSGD_ERR_USAGE, err,
               "eigen.count = %lld: %s only %lld parameters; lower it", (long long)s->deck->eigen.count,
               selection_is_block(s) ? "hessian.layers selects" : "the network has", (long long)s->m);
    extent->pairs = both < s->m ? both : s->m;
done:
    return st;
}

/* What a stage needs eigenpairs for: they are found first unless eigen.h5 holds those of these very keys, weights and
 * samples, which shows only when the stage's turn comes.  All that the search asks for must be right now. */
static hsgd_status check_needed_eigen(study_state *s, study_extent *extent, hsgd_error *err)
{
    extent->searches = !study_runs(s, HSGD_STAGE_EIGEN);
    return check_eigen(s, extent, err);
}

/* Is there no eigen.h5 that might hold more rows than the deck's keys give?  Who needs one of these looks itself. */
static hsgd_status rows_are_known(study_state *s, bool *known, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool exists = false;

    *known = study_runs(s, HSGD_STAGE_EIGEN);
    if (!*known) {
        HSGD_TRY(hsgd_store_exists(s->comm, s->deck->run.output, "eigen.h5", &exists, err));
        *known = !exists;
    }
done:
    return st;
}

static hsgd_status check_density(study_state *s, study_extent *extent, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    density_plan plan = {0};

    HSGD_TRY(study_plan_density(s, &plan, err));
    extent->probes = plan.probes;
    extent->steps = plan.steps;
    extent->deflates = s->deck->density.deflate;
    if (extent->deflates) {
        HSGD_TRY(check_needed_eigen(s, extent, err));
    }
done:
    free(plan.start);
    return st;
}

static hsgd_status check_landscape(study_state *s, study_extent *extent, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t eigenvector = 0, row = 0;
    bool known = false;

    extent->lines = count_directions(s->deck->landscape.directions, &eigenvector, &row);
    extent->axes = count_directions(s->deck->landscape.plane, &eigenvector, &row);
    extent->eigenvectors = eigenvector > 0;
    if (eigenvector > 0) {
        HSGD_TRY(check_needed_eigen(s, extent, err));
        HSGD_TRY(rows_are_known(s, &known, err));
        HSGD_CHECK(!known || eigenvector <= extent->pairs, HSGD_ERR_USAGE, err,
                   "landscape.directions: 'eigenvector%lld' asks for row %lld, but there are %lld; name one of them",
                   (long long)eigenvector, (long long)eigenvector, (long long)extent->pairs);
    }
    if (row > 0) {
        HSGD_TRY(check_rows(s, s->deck->landscape.vectors, "/vectors", &extent->file_vectors, err));
        HSGD_CHECK(row <= extent->file_vectors, HSGD_ERR_DATA, err,
                   "landscape.directions: 'file%lld' asks for row %lld, but there are %lld; name one of them",
                   (long long)row, (long long)row, (long long)extent->file_vectors);
    }
done:
    return st;
}

hsgd_status study_check_limits(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_extent *extent = &s->extent;

    *extent = (study_extent){0};
    HSGD_TRY(check_keys(s, err));
    HSGD_TRY(check_curvature(s, extent, err));
    if (strcmp(s->deck->model.init, "default") != 0) {
        HSGD_TRY(check_weights(s, err));
    }
    if (study_runs(s, HSGD_STAGE_HVP)) {
        HSGD_TRY(check_rows(s, s->deck->hvp.vectors, "/vectors", &extent->vectors, err));
    }
    if (study_runs(s, HSGD_STAGE_EIGEN)) {
        HSGD_TRY(check_eigen(s, extent, err));
    }
    if (study_runs(s, HSGD_STAGE_DENSITY)) {
        HSGD_TRY(check_density(s, extent, err));
    }
    if (study_runs(s, HSGD_STAGE_LANDSCAPE)) {
        HSGD_TRY(check_landscape(s, extent, err));
    }
done:
    return st;
}
