/* src/study/train_curvature.c - how the curvature of the studied samples moves while the weights are trained: the largest
 * eigenvalues beside 2 / lr (Cohen et al., "Gradient descent on neural networks typically occurs at the edge of
 * stability", ICLR 2021, arXiv 2103.00065), the trace, and the share of the gradient in the top eigenspace (Gur-Ari,
 * Roberts, Dyer, "Gradient descent happens in a tiny subspace", arXiv 1812.04754). */
#include "solve/eigen.h"
#include "solve/probing.h"
#include "study/limits.h"
#include "study/metrics.h"
#include "study/selection.h"
#include "study/small_vectors.h"
#include "study/train.h"
#include <stdlib.h>
#include <string.h>

/* Attribute of train.h5: pairs, of all measurements, that did not converge. */
#define OPEN "curvature_not_converged"

/* Columns of a row of the record: of each pair these [pairs] each, then the single ones. */
enum { VALUES, RESIDUALS, CONVERGED, PAIRED };
enum { TRACE, SHARE, TWO_OVER_LR, LOSS, SINGLES };

static int64_t row_length(const training_curvature *c)
{
    return PAIRED * c->pairs + SINGLES;
}

hsgd_status train_curvature_create(training *t, hsgd_error *err)
{
    training_curvature *c = &t->curvature;
    const study_state *s = t->study;
    hsgd_status st = HSGD_OK;

    c->every = s->deck->train.curvature_every;
    c->pairs = s->deck->train.curvature_count < s->m ? s->deck->train.curvature_count : s->m;
    if (c->every > 0) {
        c->vectors = calloc((size_t)(c->pairs * s->m + s->n), sizeof *c->vectors); /* and the gradient */
        HSGD_CHECK(c->vectors != NULL, HSGD_ERR_MEMORY, err, "memory: cannot hold %lld eigenvectors",
                   (long long)c->pairs);
    }
done:
    return st;
}

void train_curvature_destroy(training_curvature *c)
{
    free(c->vectors);
    free(c->step);
    free(c->row);
    *c = (training_curvature){0};
}

bool train_curvature_due(const training *t)
{
    const training_curvature *c = &t->curvature;
    const bool made = c->marks > 0 && c->step[c->marks - 1] == t->sgd.step;

    return c->every > 0 && t->sgd.step % c->every == 0 && !made;
}

hsgd_status train_curvature_reserve(training_curvature *c, int64_t marks, hsgd_error *err)
{
    const int64_t capacity = c->capacity > 0 ? 2 * c->capacity : 64;
    const size_t count = (size_t)(marks > capacity ? marks : capacity);
    hsgd_status st = HSGD_OK;
    void *step = NULL, *row = NULL;

    if (marks <= c->capacity) {
        return HSGD_OK;
    }
    step = realloc(c->step, count * sizeof *c->step);
    c->step = step != NULL ? step : c->step;
    row = realloc(c->row, count * (size_t)row_length(c) * sizeof *c->row);
    c->row = row != NULL ? row : c->row;
    HSGD_CHECK(step != NULL && row != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot record %lld measurements of curvature", (long long)marks);
    c->capacity = (int64_t)count;
done:
    return st;
}

/* The largest pairs, from where the last measurement found them. */
static hsgd_status find_pairs(const training *t, hsgd_linop *op, hsgd_eigen_result *found, hsgd_error *err)
{
    const training_curvature *c = &t->curvature;
    const study_state *s = t->study;
    const hsgd_space *space = hsgd_linop_space(op);
    hsgd_status st = HSGD_OK;
    hsgd_vector *start = NULL;
    double noise = 0.0;
    hsgd_eigen_options options = {.count = c->pairs,
                                  .which = HSGD_WHICH_LARGEST,
                                  .tolerance = s->deck->train.curvature_tolerance,
                                  .max_products = s->deck->eigen.max_products,
                                  .block = c->pairs, /* what was found before enters whole */
                                  .seed = (uint64_t)s->deck->run.seed};

    if (c->marks > 0) {
        HSGD_TRY(hsgd_comm_agree(s->comm, hsgd_vector_create(space, c->pairs, &start, err), err));
        HSGD_TRY(hsgd_vector_set_full(start, c->vectors, err));
        options.start = start;
    } else {
        HSGD_TRY(study_check_noise(s, op, "train.curvature_tolerance", options.tolerance, &noise, err));
    }
    HSGD_TRY(hsgd_lanczos_eigen(op, &options, found, err));
    HSGD_CHECK(found->count == c->pairs, HSGD_ERR_NUMERIC, err,
               "train: %lld of %lld eigenpairs of the curvature in eigen.max_products = %lld; raise it",
               (long long)found->count, (long long)c->pairs, (long long)options.max_products);
done:
    hsgd_vector_destroy(&start);
    return st;
}

/* Into the row of a measurement. */
static void record_pairs(const training_curvature *c, const hsgd_eigen_result *found, double *row)
{
    for (int64_t i = 0; i < c->pairs; i++) {
        row[VALUES * c->pairs + i] = found->values[i];
        row[RESIDUALS * c->pairs + i] = found->residuals[i];
        row[CONVERGED * c->pairs + i] = found->converged[i];
    }
}

/* Pairs that did not converge in the measurements from `mark` on. */
static int64_t count_open(const training_curvature *c, int64_t mark)
{
    int64_t open = 0;

    for (int64_t k = mark; k < c->marks; k++) {
        for (int64_t i = 0; i < c->pairs; i++) {
            open += c->row[k * row_length(c) + CONVERGED * c->pairs + i] == 0.0;
        }
    }
    return open;
}

/* Whole trace: exact where that holds, else Hutchinson's estimate with trace.probes probes.  Ends *op. */
static hsgd_status find_trace(study_state *s, hsgd_linop **op, double *trace, hsgd_error *err)
{
    enum { PROBE_COLUMNS = 8 };
    const int64_t layers = s->parts;
    const hsgd_trace_options options = {
        .probes = s->deck->trace.probes, .seed = (uint64_t)s->deck->run.seed, .columns = PROBE_COLUMNS};
    double *part = calloc((size_t)layers, sizeof *part);
    hsgd_trace_result result = {0};
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_comm_agree(s->comm, part != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    *trace = 0.0;
    if (study_trace_is_exact(s)) {
        hsgd_linop_destroy(op); /* its memory is the sweep's */
        HSGD_TRY(study_exact_trace(s, s->samples, s->sample_count, NULL, part, err));
        for (int64_t i = 0; i < layers; i++) {
            *trace += part[i];
        }
    } else {
        HSGD_TRY(hsgd_hutchinson(*op, &options, &result, err));
        *trace = result.estimate[0].mean;
    }
done:
    hsgd_linop_destroy(op); /* its memory is the gradient's */
    hsgd_trace_result_clear(&result);
    free(part);
    return st;
}

/* sum over the pairs of (v'g)^2 / g'g, for the m rows of g that are studied; 0 where these are zero. */
static double share_of(const training_curvature *c, int64_t m, const double *gradient)
{
    const double whole = small_dot(m, gradient, gradient);
    double within = 0.0;

    for (int64_t i = 0; i < c->pairs; i++) {
        const double along = small_dot(m, c->vectors + i * m, gradient);

        within += along * along;
    }
    return whole > 0.0 ? within / whole : 0.0;
}

static void tell(training *t, const double *row)
{
    training_curvature *c = &t->curvature;
    const study_state *s = t->study;
    const double *single = row + PAIRED * c->pairs;
    const int64_t open = count_open(c, c->marks - 1);
    hsgd_json *line;

    hsgd_progress_say(
        s->progress,
        "train: step %lld, largest eigenvalue %.4g (2/lr %.4g), trace %.4g, %.1f %% of the gradient along "
        "the top %lld",
        (long long)t->sgd.step, row[0], single[TWO_OVER_LR], single[TRACE], 100.0 * single[SHARE], (long long)c->pairs);
    line = metrics_event(s, "curvature", "train");
    hsgd_json_integer(line, "step", t->sgd.step);
    hsgd_json_real(line, "largest", row[0]);
    hsgd_json_real(line, "two_over_lr", single[TWO_OVER_LR]);
    hsgd_json_real(line, "trace", single[TRACE]);
    hsgd_json_real(line, "gradient_share", single[SHARE]);
    hsgd_json_integer(line, "not_converged", open);
    metrics_add(s, line);
    if (open > 0 && !c->warned) { /* once: what keeps one measurement from converging keeps the next */
        hsgd_progress_warn(s->progress,
                           "train: %lld of %lld eigenpairs of step %lld did not converge to train.curvature_tolerance "
                           "= %g within eigen.max_products = %lld; raise one of them (/curvature/converged of "
                           "train.h5 tells of all steps)",
                           (long long)open, (long long)c->pairs, (long long)t->sgd.step,
                           s->deck->train.curvature_tolerance, (long long)s->deck->eigen.max_products);
        c->warned = true;
    }
}

hsgd_status train_curvature_measure(training *t, double lr, hsgd_error *err)
{
    training_curvature *c = &t->curvature;
    study_state *s = t->study;
    hsgd_status st = HSGD_OK;
    hsgd_linop *op = NULL;
    hsgd_eigen_result found = {0};
    const hsgd_selection selection = selection_of(s);
    double *row = NULL, *gradient = c->vectors + c->pairs * s->m, *single = NULL;
    hsgd_loss loss;

    HSGD_TRY(hsgd_comm_agree(s->comm, train_curvature_reserve(c, c->marks + 1, err), err));
    HSGD_TRY(hsgd_vector_get_local(t->sgd.weights, t->flat, err));
    HSGD_TRY(study_set_weights(s, t->flat, "training", err));
    HSGD_TRY(study_operator(s, &op, err));
    row = c->row + c->marks * row_length(c);
    single = row + PAIRED * c->pairs;
    HSGD_TRY(find_pairs(t, op, &found, err));
    HSGD_TRY(find_trace(s, &op, &single[TRACE], err));
    HSGD_TRY(study_gradient(s, gradient, &loss, err));
    hsgd_selection_restrict(&selection, 1, s->n, gradient, gradient);
    /* last: a measurement that is cut short must start again from the vectors of the one before */
    HSGD_TRY(hsgd_vector_gather(found.vectors, c->vectors, err));
    record_pairs(c, &found, row);
    single[SHARE] = share_of(c, s->m, gradient);
    single[TWO_OVER_LR] = lr > 0.0 ? 2.0 / lr : 0.0;
    single[LOSS] = loss.loss;
    c->step[c->marks++] = t->sgd.step;
    tell(t, row);
done:
    hsgd_eigen_result_clear(&found);
    hsgd_linop_destroy(&op);
    return st;
}

hsgd_status train_curvature_require(training *t, bool written, hsgd_error *err)
{
    const study_state *s = t->study;
    int64_t open = count_open(&t->curvature, 0);
    char file[STUDY_PATH];
    hsgd_error none = {0};
    hsgd_status st = HSGD_OK;

    if (t->curvature.every == 0 || !s->deck->eigen.require_convergence) {
        return HSGD_OK;
    }
    if (written) { /* the checkpoints may be gone */
        output_path(s, "train.h5", file, sizeof file);
        (void)hsgd_store_read_attribute_i64(s->comm, file, OPEN, &open, &none);
    }
    HSGD_CHECK(open == 0, HSGD_ERR_NUMERIC, err,
               "train: %lld eigenpairs of the curvature did not converge and eigen.require_convergence is true; raise "
               "eigen.max_products or train.curvature_tolerance (train.h5 holds what was found)",
               (long long)open);
done:
    return st;
}

/* Column `first` of the record's rows, `width` wide, into out[marks][width]. */
static void pick(const training_curvature *c, int64_t first, int64_t width, double *out)
{
    for (int64_t i = 0; i < c->marks; i++) {
        memcpy(out + i * width, c->row + i * row_length(c) + first, (size_t)width * sizeof *out);
    }
}

static hsgd_status write_converged(const training *t, hsgd_store *store, hsgd_error *err)
{
    const training_curvature *c = &t->curvature;
    const hsgd_dataset_spec spec = {.path = "/curvature/converged",
                                    .type = HSGD_STORE_U8,
                                    .rank = 2,
                                    .dims = {c->marks, c->pairs},
                                    .units = "1",
                                    .description = "1 where the residual is within train.curvature_tolerance",
                                    .axes = {"/curvature/step", "/curvature/pair"}};
    hsgd_status st = HSGD_OK;
    int64_t *flag = malloc((size_t)(c->marks * c->pairs + 1) * sizeof *flag);

    HSGD_TRY(hsgd_comm_agree(t->study->comm, flag != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    for (int64_t k = 0; k < c->marks; k++) {
        for (int64_t i = 0; i < c->pairs; i++) {
            flag[k * c->pairs + i] = c->row[k * row_length(c) + CONVERGED * c->pairs + i] != 0.0;
        }
    }
    HSGD_TRY(hsgd_store_write(store, &spec, flag, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", OPEN, count_open(c, 0), err));
done:
    free(flag);
    return st;
}

/* Of what, and how: the group's attributes. */
static hsgd_status write_words(const study_state *s, hsgd_store *store, hsgd_error *err)
{
    static const char group[] = "/curvature";
    const bool exact = study_trace_is_exact(s);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_store_attribute_text(store, group, "operator",
                                       s->deck->hessian.operator_ == 0 ? "hessian" : "gauss-newton", err));
    HSGD_TRY(hsgd_store_attribute_i64(store, group, "samples", s->sample_count, err));
    HSGD_TRY(hsgd_store_attribute_f64(store, group, "tolerance", s->deck->train.curvature_tolerance, err));
    HSGD_TRY(hsgd_store_attribute_text(store, group, "trace_method", exact ? "exact" : "hutchinson", err));
    HSGD_TRY(hsgd_store_attribute_i64(store, group, "trace_probes", exact ? 0 : s->deck->trace.probes, err));
done:
    return st;
}

hsgd_status train_curvature_write(hsgd_store *store, const training *t, hsgd_error *err)
{
    const training_curvature *c = &t->curvature;
    static const char units[] = "nats per squared parameter", step[] = "/curvature/step", pair[] = "/curvature/pair";
    static const struct {
        const char *path, *units, *words;
    } singles[SINGLES] = {
        [TRACE] = {"/curvature/trace", units, "trace of the operator on the studied samples"},
        [SHARE] = {"/curvature/gradient_share", "1",
                   "share of the squared gradient (of its studied rows) along the pairs' eigenvectors"},
        [TWO_OVER_LR] = {"/curvature/two_over_lr", units,
                         "2 over the rate: where plain gradient descent turns unstable"},
        [LOSS] = {"/curvature/loss", "nats", "mean cross-entropy of the studied samples"}};
    hsgd_status st = HSGD_OK;
    double *column = NULL;

    if (c->every == 0) {
        return HSGD_OK;
    }
    column = malloc((size_t)((c->marks + 1) * row_length(c)) * sizeof *column);
    HSGD_TRY(hsgd_comm_agree(t->study->comm, column != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(output_integers(store, step, "1", "updates made before the measurement", c->marks, NULL, c->step, err));
    HSGD_TRY(output_axis(store, pair, "number of the eigenpair, 1 = largest", c->pairs, 1, err));
    pick(c, VALUES * c->pairs, c->pairs, column);
    HSGD_TRY(output_matrix(store, "/curvature/eigenvalues", units, "largest eigenvalues", c->marks, c->pairs, step,
                           pair, column, err));
    pick(c, RESIDUALS * c->pairs, c->pairs, column);
    HSGD_TRY(output_matrix(store, "/curvature/residuals", units, "their residuals", c->marks, c->pairs, step, pair,
                           column, err));
    HSGD_TRY(write_words(t->study, store, err));
    HSGD_TRY(write_converged(t, store, err));
    for (int i = 0; i < SINGLES; i++) {
        pick(c, PAIRED * c->pairs + i, 1, column);
        HSGD_TRY(
            output_vector(store, singles[i].path, singles[i].units, singles[i].words, c->marks, step, column, err));
    }
done:
    free(column);
    return st;
}

hsgd_status train_curvature_save(hsgd_store *store, const training_curvature *c, int64_t m, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (c->marks == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "curvature_marks", c->marks, err));
    HSGD_TRY(output_integers(store, "/curvature/step", "1", "updates made before each measurement", c->marks, NULL,
                             c->step, err));
    HSGD_TRY(output_matrix(store, "/curvature/rows", "1", "eigenvalues, residuals, converged, trace, share, 2/lr, loss",
                           c->marks, row_length(c), NULL, NULL, c->row, err));
    HSGD_TRY(output_matrix(store, "/curvature/vectors", "1", "eigenvectors of the last measurement", c->pairs, m, NULL,
                           NULL, c->vectors, err));
done:
    return st;
}

hsgd_status train_curvature_load(training *t, const char *file, hsgd_error *err)
{
    training_curvature *c = &t->curvature;
    study_state *s = t->study;
    const int64_t vectors[2] = {c->pairs, s->m};
    int64_t marks = 0, rows[2] = {0, row_length(c)};
    hsgd_error none = {0};
    hsgd_status st = HSGD_OK;

    c->marks = 0;
    if (c->every == 0 || hsgd_store_read_attribute_i64(s->comm, file, "curvature_marks", &marks, &none) != HSGD_OK) {
        return HSGD_OK; /* saved before the first measurement */
    }
    HSGD_CHECK(marks >= 1 && marks <= t->total + 1, HSGD_ERR_DATA, err,
               "%s: %lld measurements of curvature; the file is damaged", file, (long long)marks);
    rows[0] = marks;
    HSGD_TRY(hsgd_store_expect(s->comm, file, "/curvature/rows", 2, rows, err));
    HSGD_TRY(hsgd_comm_agree(s->comm, train_curvature_reserve(c, marks, err), err));
    HSGD_TRY(hsgd_store_read_i64(s->comm, file, "/curvature/step", 1, &marks, c->step, err));
    HSGD_TRY(hsgd_store_read_f64(s->comm, file, "/curvature/rows", 2, rows, c->row, err));
    HSGD_TRY(hsgd_store_read_f64(s->comm, file, "/curvature/vectors", 2, vectors, c->vectors, err));
    c->marks = marks;
done:
    return st;
}

void train_curvature_parts(const training_curvature *c, int64_t m, const void **parts, size_t *sizes)
{
    parts[0] = c->step;
    sizes[0] = (size_t)c->marks * sizeof *c->step;
    parts[1] = c->row;
    sizes[1] = (size_t)(c->marks * row_length(c)) * sizeof *c->row;
    parts[2] = c->vectors;
    sizes[2] = c->marks > 0 ? (size_t)(c->pairs * m) * sizeof *c->vectors : 0;
}
