/* src/solve/probes.c - see probes.h. */
#include "solve/probes.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A column of AS of which this share is left beside the ones before holds nothing but their rounding: dropped.  (One that
 * is not dropped though it is rounding alone, as single precision leaves it, costs a product and does no harm: any
 * orthonormal Q that the samples do not depend on will do.) */
static const double DEPENDENT = 1e-10;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- memory, and the state that is kept ---- */

static hsgd_status allocate(hsgd_probes *p, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(p->op);
    const int64_t rows = hsgd_space_rows(space);
    hsgd_status st = HSGD_OK;

    p->local = calloc((size_t)(2 * rows + p->width + 2 * p->sketch + 1), sizeof *p->local);
    p->known = calloc((size_t)(p->width * (1 + p->samples)), sizeof *p->known);
    HSGD_CHECK(p->local != NULL && p->known != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot hold %lld probes of the trace; lower trace.probes", (long long)p->samples);
    p->piece = p->local + rows;
    p->products = p->piece + rows;
    p->coefficients = p->products + p->width;
    p->sample = p->known + p->width;
    HSGD_TRY(hsgd_vector_create(space, p->columns, &p->z, err));
    HSGD_TRY(hsgd_vector_create(space, p->columns, &p->y, err));
    HSGD_TRY(hsgd_vector_create(space, p->width, &p->masked, err));
    if (p->sketch > 0) {
        HSGD_TRY(hsgd_vector_create(space, p->sketch, &p->q, err));
    }
done:
    return st;
}

/* Can the snapshot be one of this work? */
static bool fits(const hsgd_probes *p, const hsgd_snapshot *s)
{
    const int64_t *done = s->integer;

    if (s->integers != PROBES_WORDS) {
        return false;
    }
    return done[PROBES_SKETCHED] >= 0 && done[PROBES_SKETCHED] <= p->sketch && done[PROBES_BASIS] >= 0 &&
           done[PROBES_BASIS] <= done[PROBES_SKETCHED] && done[PROBES_MULTIPLIED] >= 0 &&
           done[PROBES_MULTIPLIED] <= done[PROBES_BASIS] && done[PROBES_SAMPLED] >= 0 &&
           done[PROBES_SAMPLED] <= p->samples && s->reals == p->width * (1 + done[PROBES_SAMPLED]) &&
           (s->vectors == NULL ? 0 : s->vectors->columns) == done[PROBES_BASIS];
}

static hsgd_status recall(hsgd_probes *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_snapshot s = {0};
    bool found = false;

    HSGD_TRY(hsgd_keeper_recall(p->options->keeper, hsgd_linop_space(p->op), &s, &found, err));
    if (found) {
        HSGD_CHECK(fits(p, &s), HSGD_ERR_DATA, err,
                   "trace: the state that was kept belongs to another work; remove it and start the stage anew");
        memcpy(p->done, s.integer, sizeof p->done);
        memcpy(p->known, s.real, (size_t)s.reals * sizeof *s.real);
    }
    if (p->done[PROBES_BASIS] > 0) {
        hsgd_vector q = hsgd_vector_view(p->q, 0, p->done[PROBES_BASIS]);

        HSGD_TRY(hsgd_vector_copy(s.vectors, &q, err));
    }
done:
    hsgd_snapshot_clear(&s);
    return st;
}

static hsgd_status keep(hsgd_probes *p, hsgd_error *err)
{
    hsgd_vector q = {0};
    hsgd_snapshot s = {.integers = PROBES_WORDS,
                       .integer = p->done,
                       .reals = p->width * (1 + p->done[PROBES_SAMPLED]),
                       .real = p->known};

    if (p->done[PROBES_BASIS] > 0) {
        q = hsgd_vector_view(p->q, 0, p->done[PROBES_BASIS]);
        s.vectors = &q;
    }
    return hsgd_keeper_keep(p->options->keeper, &s, err);
}

/* Tell how far it is. */
static void tell(const hsgd_probes *p)
{
    const hsgd_trace_options *o = p->options;
    const int64_t *done = p->done, samples = done[PROBES_SAMPLED];
    hsgd_estimate e = {0};

    if (o->monitor != NULL) {
        if (samples > 0) {
            e = hsgd_estimate_of(samples, p->width, p->sample, p->known[0]);
        }
        o->monitor(o->context, done[PROBES_SKETCHED] + done[PROBES_MULTIPLIED] + samples, 2 * p->sketch + p->samples,
                   samples, &e);
    }
}

/* After a batch. */
static hsgd_status keep_if_due(hsgd_probes *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool due = false;

    tell(p);

    HSGD_TRY(hsgd_keeper_due(p->options->keeper, &due, err));
    if (due) {
        HSGD_TRY(keep(p, err));
    }
done:
    return st;
}

hsgd_status hsgd_probes_create(hsgd_linop *op, const hsgd_trace_options *options, int64_t sketch, int64_t samples,
                               hsgd_probes *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t most = sketch > samples ? sketch : samples;

    *p =
        (hsgd_probes){.op = op, .options = options, .width = 1 + options->ranges, .sketch = sketch, .samples = samples};
    HSGD_CHECK(samples >= 1 && options->columns >= 1 && options->ranges >= 0 && options->tolerance >= 0.0,
               HSGD_ERR_USAGE, err,
               "trace: %lld samples, %lld at a time, %lld parts, tolerance %g; use at least one sample",
               (long long)samples, (long long)options->columns, (long long)options->ranges, options->tolerance);
    p->columns = smaller(options->columns, most);
    HSGD_TRY(hsgd_comm_agree(hsgd_linop_space(op)->comm, allocate(p, err), err));
    HSGD_TRY(recall(p, err));
done:
    return st;
}

void hsgd_probes_destroy(hsgd_probes *p)
{
    hsgd_vector_destroy(&p->q);
    hsgd_vector_destroy(&p->masked);
    hsgd_vector_destroy(&p->y);
    hsgd_vector_destroy(&p->z);
    free(p->known);
    free(p->local);
}

/* ---- products ---- */

/* y = Ax.  Asked to stop, it keeps the state: nothing of it has been touched since the last batch ended. */
static hsgd_status apply(hsgd_probes *p, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    const hsgd_status st = hsgd_linop_apply(p->op, x, y, err);

    if (st == HSGD_STOPPED) {
        const hsgd_status kept = keep(p, err);

        return kept == HSGD_OK ? HSGD_STOPPED : kept;
    }
    return st;
}

/* The first `count` columns of z are the signs of probes `first`, first + 1, ... */
static hsgd_status draw(hsgd_probes *p, int64_t first, int64_t count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t j = 0; j < count; j++) {
        const hsgd_random stream = hsgd_random_stream(p->options->seed, HSGD_RANDOM_TRACE, (uint32_t)(first + j));

        HSGD_TRY(hsgd_vector_random(p->z, j, HSGD_DRAW_SIGN, &stream, err));
    }
done:
    return st;
}

/* x = (I - QQ')x for one column; *norm: of what is left. */
static hsgd_status project(hsgd_probes *p, hsgd_vector *x, double *norm, hsgd_error *err)
{
    if (p->done[PROBES_BASIS] == 0) { /* nothing to take away */
        return hsgd_vector_norm(x, norm, err);
    }
    const hsgd_vector q = hsgd_vector_view(p->q, 0, p->done[PROBES_BASIS]);

    return hsgd_vector_orthogonalize(&q, x, p->coefficients, norm, err);
}

/* masked = the column x and, for each range, x with all other rows 0. */
static hsgd_status mask(hsgd_probes *p, const hsgd_vector *x, hsgd_error *err)
{
    const hsgd_space *space = x->space;
    const int64_t *bounds = p->options->bounds;
    hsgd_vector whole = hsgd_vector_view(p->masked, 0, 1);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_vector_copy(x, &whole, err));
    if (p->width > 1) {
        HSGD_TRY(hsgd_vector_get_local(x, p->local, err));
    }
    for (int64_t r = 0; r < p->width - 1; r++) {
        hsgd_vector column = hsgd_vector_view(p->masked, 1 + r, 1);

        for (int64_t i = 0; i < hsgd_space_rows(space); i++) {
            const int64_t row = space->low + i;

            p->piece[i] = row >= bounds[r] && row < bounds[r + 1] ? p->local[i] : 0.0;
        }
        HSGD_TRY(hsgd_vector_set_local(&column, p->piece, err));
    }
done:
    return st;
}

/* p->products = x'y, and its share of each range of rows, for column j of x and y; `number` is told in messages. */
static hsgd_status measure(hsgd_probes *p, const hsgd_vector *x, const hsgd_vector *y, int64_t j, int64_t number,
                           hsgd_error *err)
{
    const hsgd_vector xj = hsgd_vector_view(x, j, 1), yj = hsgd_vector_view(y, j, 1);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(mask(p, &xj, err));
    HSGD_TRY(hsgd_vector_gram(p->masked, &yj, p->products, err));
    for (int64_t i = 0; i < p->width; i++) {
        HSGD_CHECK_FINITE(isfinite(p->products[i]), err,
                          "trace: the product of sample %lld is NaN or Inf; check the weights", (long long)number + 1);
    }
done:
    return st;
}

/* ---- the sketch ---- */

/* One more column of Q: y without what the ones before hold, unless nothing is left. */
static hsgd_status extend(hsgd_probes *p, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double before = 0.0, after = 0.0;

    HSGD_TRY(hsgd_vector_norm(y, &before, err));
    HSGD_CHECK_FINITE(isfinite(before), err, "trace: a product of the sketch gave NaN or Inf; check the weights");
    HSGD_TRY(project(p, y, &after, err));
    if (after > DEPENDENT * before) {
        hsgd_vector column = hsgd_vector_view(p->q, p->done[PROBES_BASIS], 1);

        HSGD_TRY(hsgd_vector_normalize(y, err));
        HSGD_TRY(hsgd_vector_copy(y, &column, err));
        p->done[PROBES_BASIS]++;
    }
done:
    return st;
}

static hsgd_status sketch_batch(hsgd_probes *p, hsgd_error *err)
{
    const int64_t first = p->done[PROBES_SKETCHED], count = smaller(p->columns, p->sketch - first);
    const hsgd_vector z = hsgd_vector_view(p->z, 0, count);
    hsgd_vector y = hsgd_vector_view(p->y, 0, count);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(draw(p, first, count, err));
    HSGD_TRY(apply(p, &z, &y, err));
    for (int64_t j = 0; j < count; j++) {
        hsgd_vector yj = hsgd_vector_view(&y, j, 1);

        HSGD_TRY(extend(p, &yj, err));
    }
    p->done[PROBES_SKETCHED] += count;
done:
    return st;
}

/* known += q'Aq of some more columns of Q. */
static hsgd_status multiply_batch(hsgd_probes *p, hsgd_error *err)
{
    const int64_t first = p->done[PROBES_MULTIPLIED], count = smaller(p->columns, p->done[PROBES_BASIS] - first);
    const hsgd_vector q = hsgd_vector_view(p->q, first, count);
    hsgd_vector y = hsgd_vector_view(p->y, 0, count);
    hsgd_status st = HSGD_OK;

    HSGD_TRY(apply(p, &q, &y, err));
    for (int64_t j = 0; j < count; j++) {
        HSGD_TRY(measure(p, &q, &y, j, p->sketch + first + j, err));
        for (int64_t i = 0; i < p->width; i++) {
            p->known[i] += p->products[i];
        }
    }
    p->done[PROBES_MULTIPLIED] += count;
done:
    return st;
}

hsgd_status hsgd_probes_sketch(hsgd_probes *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    while (p->done[PROBES_SKETCHED] < p->sketch) {
        HSGD_TRY(sketch_batch(p, err));
        HSGD_TRY(keep_if_due(p, err));
    }
    while (p->done[PROBES_MULTIPLIED] < p->done[PROBES_BASIS]) {
        HSGD_TRY(multiply_batch(p, err));
        HSGD_TRY(keep_if_due(p, err));
    }
done:
    return st;
}

/* ---- the samples ---- */

static hsgd_status sample_batch(hsgd_probes *p, hsgd_error *err)
{
    const int64_t first = p->done[PROBES_SAMPLED], count = smaller(p->columns, p->samples - first);
    const hsgd_vector z = hsgd_vector_view(p->z, 0, count);
    hsgd_vector y = hsgd_vector_view(p->y, 0, count);
    hsgd_status st = HSGD_OK;
    double norm = 0.0;

    HSGD_TRY(draw(p, p->sketch + first, count, err));
    for (int64_t j = 0; j < count && p->done[PROBES_BASIS] > 0; j++) {
        hsgd_vector zj = hsgd_vector_view(&z, j, 1);

        HSGD_TRY(project(p, &zj, &norm, err));
    }
    HSGD_TRY(apply(p, &z, &y, err));
    for (int64_t j = 0; j < count; j++) {
        HSGD_TRY(measure(p, &z, &y, j, first + j, err));
        memcpy(p->sample + (first + j) * p->width, p->products, (size_t)p->width * sizeof *p->products);
    }
    p->done[PROBES_SAMPLED] += count;
done:
    return st;
}

/* Take the looks that are due; they depend on the samples alone, so not on batches or interruptions. */
static void look(hsgd_probes *p)
{
    while (p->options->tolerance > 0.0 && !p->met && p->looked + HSGD_TRACE_LOOK <= p->done[PROBES_SAMPLED]) {
        hsgd_estimate e;
        bool narrow = false;

        p->looked += HSGD_TRACE_LOOK;
        e = hsgd_estimate_of(p->looked, p->width, p->sample, p->known[0]);
        narrow = 0.5 * (e.high - e.low) <= p->options->tolerance * fabs(e.mean);
        p->met = narrow && p->narrow;
        p->narrow = narrow;
    }
}

hsgd_status hsgd_probes_sample(hsgd_probes *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    look(p); /* at the samples of a kept state */
    while (!p->met && p->done[PROBES_SAMPLED] < p->samples) {
        HSGD_TRY(sample_batch(p, err));
        look(p);
        HSGD_TRY(keep_if_due(p, err));
    }
done:
    return st;
}

hsgd_status hsgd_probes_result(const hsgd_probes *p, hsgd_trace_result *result, hsgd_error *err)
{
    const int64_t count = p->met ? p->looked : p->done[PROBES_SAMPLED];
    const size_t row = (size_t)p->width * sizeof(double);
    hsgd_status st = HSGD_OK;

    *result =
        (hsgd_trace_result){.products = p->done[PROBES_SKETCHED] + p->done[PROBES_MULTIPLIED] + p->done[PROBES_SAMPLED],
                            .sketch = p->done[PROBES_BASIS],
                            .samples = count,
                            .met = p->met,
                            .width = p->width};
    result->known = malloc(row);
    result->sample = malloc((size_t)count * row);
    result->estimate = malloc((size_t)p->width * sizeof *result->estimate);
    if (result->known == NULL || result->sample == NULL || result->estimate == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the trace's %lld samples", (long long)count);
    }
    HSGD_TRY(hsgd_comm_agree(hsgd_linop_space(p->op)->comm, st, err));
    memcpy(result->known, p->known, row);
    memcpy(result->sample, p->sample, (size_t)count * row);
    for (int64_t i = 0; i < p->width; i++) {
        result->estimate[i] = hsgd_estimate_of(count, p->width, p->sample + i, p->known[i]);
    }
done:
    return st;
}
