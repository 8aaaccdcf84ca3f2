/* src/study/trouble.c - see trouble.h.  All of this runs on the way out, so a healthy run pays nothing for it, and one
 * whose failure is another than numbers that are not finite neither.
 *
 * What is looked at is computed once more, by plain sums: they carry a bad number to its place in the vector, where exact
 * sums only count it. */
#include "study/trouble.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The parts of a sum may be that much larger than what is left of them. */
static const double CANCELLED = 1024.0;

static const char *name_of(double x)
{
    return isnan(x) ? "NaN" : x > 0.0 ? "Inf" : "-Inf";
}

/* The first entry of the block that is not finite; its length where all are. */
static int64_t first_bad(const hsgd_parameter *block, const double *flat)
{
    int64_t i = 0;

    while (i < block->count && isfinite(flat[block->offset + i])) {
        i++;
    }
    return i;
}

hsgd_status trouble_look(const study_state *s, const char *what, const double *flat, hsgd_error *found)
{
    const hsgd_parameter *first = NULL;
    int64_t blocks = 0, entry = 0;

    for (int64_t p = 0; p < s->parameter_count; p++) {
        const hsgd_parameter *block = &s->parameters[p];
        const int64_t at = first_bad(block, flat);

        if (at < block->count) {
            entry = blocks++ == 0 ? at : entry;
            first = first != NULL ? first : block;
        }
    }
    if (first == NULL) {
        return HSGD_OK;
    }
    return hsgd_error_set(found, HSGD_ERR_NUMERIC, "%s of layer %s (%s, entry %lld of %lld) is %s%s", what,
                          first->layer, first->part, (long long)entry + 1, (long long)first->count,
                          name_of(flat[first->offset + entry]),
                          blocks > 1 ? ", and in layers behind it some are not finite either" : "");
}

/* Finite, but perhaps more than the exact sum of a group takes: the loss, else the largest entry of `what`. */
static hsgd_status look_for_large(const study_state *s, const char *what, double loss, const double *flat,
                                  int64_t count, hsgd_error *found)
{
    const hsgd_parameter *block = NULL;
    double largest = HSGD_SUM_LIMIT / (CANCELLED * (double)count);

    if (loss > largest) {
        return hsgd_error_set(found, HSGD_ERR_NUMERIC, "the loss is %.1e, too large for exact sums", loss);
    }
    for (int64_t p = 0; p < s->parameter_count; p++) {
        const hsgd_parameter *this = &s->parameters[p];

        for (int64_t i = 0; i < this->count; i++) {
            const double size = fabs(flat[this->offset + i]);

            block = size > largest ? this : block;
            largest = size > largest ? size : largest;
        }
    }
    return block == NULL
               ? HSGD_OK
               : hsgd_error_set(found, HSGD_ERR_NUMERIC, "%s of layer %s (%s) reaches %.1e, too large for exact sums",
                                what, block->layer, block->part, largest);
}

static hsgd_status judge_gradient(const study_state *s, double loss, const double *flat, int64_t count,
                                  hsgd_error *found)
{
    char what[64] = "the gradient";

    if (!isfinite(loss)) {
        (void)snprintf(what, sizeof what, "the loss is %s; the gradient", name_of(loss));
    }
    if (trouble_look(s, what, flat, found) != HSGD_OK) {
        return HSGD_ERR_NUMERIC;
    }
    if (!isfinite(loss)) {
        return hsgd_error_set(found, HSGD_ERR_NUMERIC, "the loss is %s, its gradient is finite", name_of(loss));
    }
    return look_for_large(s, what, loss, flat, count, found);
}

/* The samples' loss and gradient, by plain sums.  Collective. */
static hsgd_status look_at_gradient(study_state *s, const trouble_suspects *at, double *flat, hsgd_error *found)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = s->backend;
    hsgd_problem problem = study_problem(s, backend, at->test);
    hsgd_objective *objective = NULL;
    hsgd_vector *weights = NULL, *gradient = NULL;
    void *memory = NULL;
    double outcome[HSGD_OUTCOMES];

    problem.reduction = HSGD_REDUCTION_FAST;
    st = hsgd_network_objective_create(&problem, s->replicated, at->count, &objective, found);
    st = st == HSGD_OK ? hsgd_vector_create(s->replicated, 1, &weights, found) : st;
    st = st == HSGD_OK ? hsgd_vector_create(s->replicated, 1, &gradient, found) : st;
    st = st == HSGD_OK ? hsgd_space_scratch(s->replicated, HSGD_SCRATCH_RESULT, sizeof outcome, &memory, found) : st;
    HSGD_TRY(hsgd_comm_agree(s->comm, st, found));
    HSGD_TRY(hsgd_vector_set_full(weights, at->weights, found));
    HSGD_TRY(objective->ops->begin(objective->self, weights, at->index, at->count, gradient, (double *)memory, found));
    HSGD_TRY(backend->ops->download(backend->self, sizeof outcome, memory, outcome, found));
    HSGD_CHECK(outcome[HSGD_OUTCOME_FAILED] == 0.0, HSGD_ERR_DEVICE, found, "a rank could not evaluate once more");
    HSGD_TRY(hsgd_vector_get_local(gradient, flat, found));
    st = judge_gradient(s, outcome[HSGD_OUTCOME_LOSS], flat, at->count, found);
done:
    hsgd_vector_destroy(&gradient);
    hsgd_vector_destroy(&weights);
    hsgd_objective_destroy(&objective);
    return hsgd_comm_agree(s->comm, st, found);
}

/* One product of the studied samples with a vector of signs, by plain sums.  Collective. */
static hsgd_status look_at_product(study_state *s, double *flat, hsgd_error *found)
{
    static const char what[] = "a product's part";
    hsgd_status st = HSGD_OK, made = HSGD_OK;
    const hsgd_random stream = hsgd_random_stream((uint64_t)s->deck->run.seed, HSGD_RANDOM_VERIFY, UINT32_MAX);
    const hsgd_hessian_options options = {.kind = s->deck->hessian.operator_ == 1 ? HSGD_OPERATOR_GAUSS_NEWTON
                                                                                  : HSGD_OPERATOR_HESSIAN,
                                          .index = s->samples,
                                          .count = s->sample_count,
                                          .weights = s->weights,
                                          .columns = 1};
    hsgd_problem problem = study_studied(s, s->backend);
    hsgd_linop *op = NULL;
    hsgd_vector *x = NULL, *y = NULL;

    problem.reduction = HSGD_REDUCTION_FAST;
    HSGD_TRY(hsgd_hessian_create(&problem, s->spread, &options, &op, found));
    st = hsgd_vector_create(s->spread, 1, &x, found);
    st = st == HSGD_OK ? hsgd_vector_create(s->spread, 1, &y, found) : st;
    HSGD_TRY(hsgd_comm_agree(s->comm, st, found));
    HSGD_TRY(hsgd_vector_random(x, 0, HSGD_DRAW_SIGN, &stream, found));
    made = hsgd_linop_apply(op, x, y, found); /* it fails where y, which is there all the same, is not finite */
    HSGD_TRY(made == HSGD_ERR_NUMERIC ? HSGD_OK : made);
    HSGD_TRY(hsgd_vector_gather(y, flat, found));
    st = trouble_look(s, what, flat, found);
    st = st == HSGD_OK ? look_for_large(s, what, 0.0, flat, s->sample_count, found) : st;
done:
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    hsgd_linop_destroy(&op);
    return hsgd_comm_agree(s->comm, st, found);
}

/* HSGD_ERR_NUMERIC where something was found, on every rank with the same text; HSGD_OK where all was looked at and is
 * finite; anything else: there was no looking. */
static hsgd_status find(study_state *s, const trouble_suspects *at, hsgd_error *found)
{
    hsgd_status st = HSGD_OK;
    double *flat = malloc((size_t)s->n * sizeof *flat);

    HSGD_TRY(hsgd_comm_agree(s->comm, flat != NULL ? HSGD_OK : HSGD_ERR_MEMORY, found));
    HSGD_TRY(hsgd_comm_agree(s->comm, trouble_look(s, "the parameter", at->weights, found), found));
    if (at->count > 0) {
        HSGD_TRY(look_at_gradient(s, at, flat, found));
    }
    if (at->product) {
        HSGD_TRY(look_at_product(s, flat, found));
    }
done:
    free(flat);
    return st;
}

/* Add to the text of *err. */
__attribute__((format(printf, 2, 3))) static void add(hsgd_error *err, const char *format, ...)
{
    const size_t used = strlen(err->text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(err->text + used, sizeof err->text - used, format, args);
    va_end(args);
}

static void unheard(void *context, const char *text)
{
    (void)context, (void)text; /* of damaged checkpoints --restart will tell */
}

/* Collective. */
static void add_checkpoint(training *t, hsgd_error *err)
{
    const study_state *s = t->study;
    hsgd_error lost = {0};
    char file[STUDY_PATH];
    int64_t step = -1;

    if (hsgd_store_newest_checkpoint(s->comm, s->deck->run.output, INT64_MAX, &step, file, sizeof file, unheard, NULL,
                                     &lost) == HSGD_OK &&
        step >= 0) {
        add(err, "; the last good checkpoint is %s", file);
    } else {
        add(err, "; there is no checkpoint before it");
    }
}

hsgd_status trouble_in_training(training *t, hsgd_status st, const trouble_suspects *suspects, hsgd_error *err)
{
    trouble_suspects at = *suspects;
    hsgd_error found = {0};
    hsgd_status look;

    if (st != HSGD_ERR_NUMERIC || !err->not_finite) {
        return st;
    }
    at.weights = t->flat;
    look = hsgd_comm_agree(t->study->comm, hsgd_vector_get_local(t->sgd.weights, t->flat, &found), &found);
    look = look == HSGD_OK ? find(t->study, &at, &found) : look;
    if (look == HSGD_ERR_NUMERIC) {
        add(err, "; %s", found.text);
    } else if (look == HSGD_OK) {
        add(err,
            "; evaluated once more, all is finite: suspect the memory of a node or device, and go on with --restart");
    }
    add_checkpoint(t, err);
    return st;
}

hsgd_status trouble_check(training *t, hsgd_error *err)
{
    const char *const names[] = {"the parameter", "the momentum"};
    const double *const vectors[] = {t->flat, t->flat_momentum};
    hsgd_error found = {0};
    hsgd_status st = HSGD_OK;

    for (int i = 0; i < 2 && st == HSGD_OK; i++) {
        st = trouble_look(t->study, names[i], vectors[i], &found);
    }
    st = hsgd_comm_agree(t->study->comm, st, &found); /* memory of one rank alone may be at fault */
    if (st == HSGD_ERR_NUMERIC) {
        (void)hsgd_error_set(err, st, "train: after step %lld %s; lower train.lr, in another run.output",
                             (long long)t->sgd.step, found.text);
        add_checkpoint(t, err);
    } else if (st != HSGD_OK) {
        (void)hsgd_error_set(err, st, "%s", found.text);
    }
    return st;
}

hsgd_status trouble_in_stage(study_state *s, hsgd_stage stage, hsgd_status st, hsgd_error *err)
{
    const char *name = hsgd_stage_name(stage);
    const trouble_suspects at = {.weights = s->weights,
                                 .index = s->samples,
                                 .count = stage != HSGD_STAGE_EVALUATE ? s->sample_count : 0,
                                 .test = s->deck->hessian.split == 1,
                                 .product = stage != HSGD_STAGE_EVALUATE && stage != HSGD_STAGE_LANDSCAPE};
    hsgd_error found = {0}, told = *err;

    if (st != HSGD_ERR_NUMERIC || stage == HSGD_STAGE_TRAIN) {
        return st;
    }
    if (strncmp(told.text, name, strlen(name)) != 0) {
        (void)hsgd_error_set(err, st, "%s: %.900s", name, told.text);
    }
    if (err->not_finite && find(s, &at, &found) == HSGD_ERR_NUMERIC) {
        add(err, "; %s", found.text);
    }
    return st;
}
