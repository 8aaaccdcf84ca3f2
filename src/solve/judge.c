/* src/solve/judge.c - what the pairs held so far say: which of them are wanted, which are found, and whether the search is over. */
#include "solve/search.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

/* The estimated residual at which a pair counts as found, in tolerances.  The estimate knows nothing of the noise of A: a
 * product in single precision is off by some 1e-7 of norm(A), which can lift a measured residual just above a tolerance
 * that the estimate has just met.  Half leaves room for noise as large as half the tolerance. */
static const double SETTLED_AT = 0.5;

static int ascending(const void *a, const void *b)
{
    const eigen_candidate *x = a, *y = b;

    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    if (x->locked != y->locked) {
        return x->locked ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

void eigen_search_order(hsgd_which which, int64_t total, const double *value, size_t stride, int64_t count,
                        int64_t *taken)
{
    int64_t low = 0, high = total - 1;

    for (int64_t i = 0; i < count; i++) {
        const double top = value[(size_t)high * stride], bottom = value[(size_t)low * stride];
        const bool from_top = which == HSGD_WHICH_LARGEST || (which == HSGD_WHICH_BOTH && i % 2 == 0) ||
                              (which == HSGD_WHICH_MAGNITUDE && fabs(top) >= fabs(bottom));

        taken[i] = from_top ? high-- : low++;
    }
}

/* The bound at which a pair is found.  What is locked leaves its residual in what is found after it: with confirmation a
 * quarter leaves room for a few sequences. */
static double settled_at(const eigen_search *f)
{
    return (f->options->confirm ? 0.25 : 1.0) * SETTLED_AT * f->options->tolerance * f->scale;
}

/* All pairs there are, in order, and the wanted ones among them. */
static void choose(eigen_search *f)
{
    const hsgd_projected *p = &f->k.projected;

    f->count = 0;
    for (int64_t i = 0; i < f->k.locked; i++) {
        f->all[f->count++] = (eigen_candidate){.value = f->locked[i], .bound = f->k.dropped, .locked = true, .at = i};
    }
    for (int64_t i = 0; i < p->size; i++) {
        f->all[f->count++] = (eigen_candidate){.value = p->theta[i], .bound = p->bound[i] + f->k.dropped, .at = i};
    }
    qsort(f->all, (size_t)f->count, sizeof *f->all, ascending);
    f->chosen_count = f->wanted < f->count ? f->wanted : f->count;
    eigen_search_order(f->options->which, f->count, &f->all[0].value, sizeof *f->all / sizeof(double), f->chosen_count,
                       f->kept);
    for (int64_t i = 0; i < f->chosen_count; i++) {
        f->chosen[i] = f->all[f->kept[i]];
    }
}

/* The place of a value in the order in which `which` wants them: the greater the earlier. */
static double rank_of(hsgd_which which, double value)
{
    return which == HSGD_WHICH_MAGNITUDE ? fabs(value) : which == HSGD_WHICH_SMALLEST ? -value : value;
}

/* A sequence after the first lies in the complement of the locked pairs.  There is no more to be found at an end once
 * the sequence's own extreme value there has converged and the locked pairs hold `count` values at least as extreme. */
static bool is_exhausted(const eigen_search *f, hsgd_which which)
{
    const hsgd_projected *p = &f->k.projected;
    const int64_t last = p->size - 1, at = rank_of(which, p->theta[last]) >= rank_of(which, p->theta[0]) ? last : 0;
    /* equal eigenvalues agree to twice what sequences ended with */
    const double margin = 2.0 * (64.0 * DBL_EPSILON * f->k.norm + f->k.dropped);
    int64_t as_extreme = 0;

    for (int64_t i = 0; i < f->k.locked; i++) {
        as_extreme += rank_of(which, f->locked[i]) >= rank_of(which, p->theta[at]) - margin;
    }
    return p->bound[at] <= settled_at(f) && as_extreme >= f->options->count;
}

/* Of a sequence's two ends the lesser in magnitude may still be on its way past the other.  It is not where it has
 * converged, or where its residual r is too small for that: a random start has a share w ~ chi^2_1 / n along an eigenvector
 * beyond the end, the end's Ritz vector no less (its polynomial grows beyond it), hence r >= distance * sqrt(w).  At a
 * hundredth of sqrt(1 / n) one start in a hundred is too poor for it. */
static bool is_other_end_quiet(const eigen_search *f)
{
    static const double share = 0.01;
    const hsgd_projected *p = &f->k.projected;
    const int64_t last = p->size - 1, at = fabs(p->theta[last]) >= fabs(p->theta[0]) ? 0 : last;
    double least = INFINITY; /* magnitude of a wanted pair */

    for (int64_t i = 0; i < f->chosen_count; i++) {
        least = fmin(least, fabs(f->chosen[i].value));
    }
    return p->bound[at] <=
           fmax(settled_at(f), share / sqrt((double)f->k.basis->space->n) * (least - fabs(p->theta[at])));
}

static bool is_settled(const eigen_search *f)
{
    const hsgd_which which = f->options->which;

    if (f->converged < f->wanted || eigen_search_is_whole(f)) {
        return f->converged == f->wanted;
    }
    if (f->sequence == 0) {
        return f->k.next > 0 && !f->options->confirm && (which != HSGD_WHICH_MAGNITUDE || is_other_end_quiet(f));
    }
    if (which == HSGD_WHICH_BOTH) {
        return is_exhausted(f, HSGD_WHICH_LARGEST) && is_exhausted(f, HSGD_WHICH_SMALLEST);
    }
    return is_exhausted(f, which) && (which != HSGD_WHICH_MAGNITUDE || is_other_end_quiet(f));
}

hsgd_status eigen_search_judge(eigen_search *f, hsgd_error *err)
{
    const hsgd_projected *p = &f->k.projected;
    const hsgd_eigen_options *options = f->options;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_projected_solve(&f->k.projected, f->k.basis->space->comm, err));
    choose(f);
    f->scale = fmax(fabs(f->all[0].value), fabs(f->all[f->count - 1].value));
    f->k.norm = fmax(f->k.norm, fmax(fabs(p->theta[0]), fabs(p->theta[p->size - 1])));
    f->converged = 0;
    f->worst = 0.0;
    for (int64_t i = 0; i < f->chosen_count; i++) {
        const eigen_candidate *pair = &f->chosen[i];
        /* what was dropped when pairs were locked is within the tolerance already; it is no reason to go on */
        const double own = pair->locked ? 0.0 : p->bound[pair->at];

        f->converged += own <= settled_at(f);
        f->worst = fmax(f->worst, f->chosen[i].bound);
    }
    f->settled = is_settled(f);
    if (options->monitor != NULL) {
        options->monitor(options->context, f->products, f->converged, f->wanted,
                         f->scale > 0.0 ? f->worst / f->scale : 0.0);
    }
done:
    return st;
}
