/* src/solve/lanczos_eigen.c - eigenpairs at the ends of the spectrum by the Lanczos process, without restart. */
#include "solve/eigen.h"
#include "solve/lanczos.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_CAPACITY = 64, /* basis vectors at first; doubled as needed */
    JUDGE_EVERY = 5,     /* steps between looks at the Ritz pairs, or a tenth of the steps made: */
    JUDGE_SHARE = 10     /* a look costs steps^3, so that all looks together cost a few times the last */
};

/* A residual that small against norm(A) says that a Krylov sequence has shown all it has but rounding. */
static const double SEQUENCE_END = 1.5e-8; /* sqrt(eps): what rounding grows to before it looks like a new direction */

/* The estimated residual at which a pair counts as found, in tolerances.  The estimate knows nothing of the noise of A: a
 * product in single precision is off by some 1e-6 of norm(A), which can lift a measured residual just above a tolerance
 * that the estimate has just met.  Half leaves room for noise as large as half the tolerance, for a step or two more. */
static const double SETTLED_AT = 0.5;

/* A Ritz value and how far it is from an eigenvalue. */
typedef struct {
    double value, bound;
} ritz_end;

typedef struct {
    hsgd_linop *op;
    const hsgd_eigen_options *options;
    hsgd_lanczos *lanczos;
    hsgd_vector *direction; /* [n, 1] random */
    uint32_t directions;    /* drawn so far */
    int64_t limit, wanted;  /* steps at most; pairs */
    double *theta, *s;      /* Ritz values and vectors at the last look, as hsgd_lanczos_ritz gives them */
    int64_t *chosen;        /* [wanted] the wanted ones among them */
    int64_t chosen_count, converged;
    double scale; /* largest |theta| */
    bool settled; /* the search ended because nothing more is to be found */

    /* where a Krylov sequence ended and a further one began */
    int64_t sequence;   /* the step at which the present one began */
    double *earlier;    /* [sequence] Ritz values when it began, ascending */
    double gap;         /* the largest coupling to it that was left or dropped */
    double dropped;     /* the sum of those dropped: what Ritz vectors may be off for it */
    ritz_end low, high; /* the ends of its own spectrum, at the last look */
} search;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* How far the Ritz pair i of `k` is from an eigenpair: norm(A v - theta v) = beta |s_last,i|, without a product. */
static double bound(const search *f, int64_t k, int64_t i)
{
    return f->lanczos->beta[f->lanczos->steps - 1] * fabs(f->s[(k - 1) * k + i]) + f->dropped;
}

/* Choose the wanted ones among the Ritz values, from the two ends inwards, so that none is taken twice. */
static void choose(search *f)
{
    const hsgd_which which = f->options->which;
    int64_t low = 0, high = f->lanczos->steps - 1;

    f->chosen_count = smaller(f->wanted, f->lanczos->steps);
    for (int64_t i = 0; i < f->chosen_count; i++) {
        const bool from_top = which == HSGD_WHICH_LARGEST || (which == HSGD_WHICH_BOTH && i % 2 == 0) ||
                              (which == HSGD_WHICH_MAGNITUDE && fabs(f->theta[high]) >= fabs(f->theta[low]));

        f->chosen[i] = from_top ? high-- : low++;
    }
}

/* The place of a Ritz value in the order in which `which` wants them: the greater the earlier. */
static double rank_of(hsgd_which which, double theta)
{
    return which == HSGD_WHICH_MAGNITUDE ? fabs(theta) : which == HSGD_WHICH_SMALLEST ? -theta : theta;
}

/* A Krylov sequence shows each multiple eigenvalue once.  When one has ended, a further sequence in the complement of
 * what was found tells whether there are more: no more at this end once its own extreme value has converged and the
 * earlier sequences hold `count` values at least as extreme. */
static bool exhausted(const search *f, hsgd_which which)
{
    /* sequences end with residuals of at most 64 eps norm or the gap: equal eigenvalues agree to twice that */
    const double margin = 2.0 * (64.0 * DBL_EPSILON * f->lanczos->norm + f->gap);
    const ritz_end extreme = rank_of(which, f->low.value) > rank_of(which, f->high.value) ? f->low : f->high;
    int64_t as_extreme = 0;

    for (int64_t i = 0; i < f->sequence; i++) {
        as_extreme += rank_of(which, f->earlier[i]) >= rank_of(which, extreme.value) - margin;
    }
    return extreme.bound <= SETTLED_AT * f->options->tolerance * f->scale && as_extreme >= f->options->count;
}

/* Whether the present Krylov sequence has ended, to rounding. */
static bool has_ended(const search *f)
{
    return f->lanczos->beta[f->lanczos->steps - 1] <= SEQUENCE_END * f->lanczos->norm;
}

/* Whether the wanted pairs are found, to the estimate of their residuals. */
static bool is_settled(const search *f)
{
    const hsgd_which which = f->options->which;
    const bool converged = f->converged == f->wanted;

    if (!converged || f->lanczos->steps == hsgd_linop_space(f->op)->n) {
        return converged;
    }
    if (f->sequence == 0) {
        return !has_ended(f);
    }
    if (which == HSGD_WHICH_BOTH) {
        return exhausted(f, HSGD_WHICH_LARGEST) && exhausted(f, HSGD_WHICH_SMALLEST);
    }
    return exhausted(f, which);
}

/* Look at the Ritz pairs of the present sequence alone, then of all steps made so far. */
static hsgd_status judge(search *f, hsgd_error *err)
{
    const hsgd_eigen_options *options = f->options;
    const int64_t k = f->lanczos->steps, own = k - f->sequence;
    hsgd_status st = HSGD_OK;
    double worst = 0.0;

    if (f->sequence > 0) {
        HSGD_TRY(hsgd_lanczos_ritz_from(f->lanczos, f->sequence, f->theta, f->s, err));
        f->low = (ritz_end){f->theta[0], bound(f, own, 0)};
        f->high = (ritz_end){f->theta[own - 1], bound(f, own, own - 1)};
    }
    HSGD_TRY(hsgd_lanczos_ritz(f->lanczos, f->theta, f->s, err));
    f->scale = fmax(fabs(f->theta[0]), fabs(f->theta[k - 1]));
    choose(f);
    f->converged = 0;
    for (int64_t i = 0; i < f->chosen_count; i++) {
        const double residual = bound(f, k, f->chosen[i]);

        f->converged += residual <= SETTLED_AT * options->tolerance * f->scale;
        worst = fmax(worst, residual);
    }
    f->settled = is_settled(f);
    if (options->monitor != NULL) {
        options->monitor(options->context, k, f->converged, f->wanted, f->scale > 0.0 ? worst / f->scale : 0.0);
    }
done:
    return st;
}

/* A new random direction; the first starts the process. */
static hsgd_status draw(search *f, hsgd_error *err)
{
    const hsgd_random stream = hsgd_random_stream(f->options->seed, HSGD_RANDOM_EIGEN, f->directions++);

    return hsgd_vector_random(f->direction, 0, HSGD_DRAW_NORMAL, &stream, err);
}

/* Room for more steps; by doubling, as most studies end long before the limit. */
static hsgd_status make_room(search *f, int64_t capacity, hsgd_error *err)
{
    const size_t k = (size_t)capacity;
    hsgd_status st = HSGD_OK;
    double *numbers = malloc((2 * k + k * k) * sizeof *numbers); /* earlier, theta, s in one piece */

    if (numbers == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld Lanczos steps; set eigen.basis lower",
                            (long long)capacity);
    }
    HSGD_TRY(hsgd_comm_agree(hsgd_linop_space(f->op)->comm, st, err));
    if (f->sequence > 0) {
        memcpy(numbers, f->earlier, (size_t)f->sequence * sizeof *numbers);
    }
    free(f->earlier);
    f->earlier = numbers;
    f->theta = numbers + k;
    f->s = f->theta + k;
    numbers = NULL;
    HSGD_TRY(hsgd_lanczos_reserve(f->lanczos, capacity, err));
done:
    free(numbers);
    return st;
}

/* The present sequence has ended and the last look was not content: begin a further one.  Where the coupling to it is
 * far below the tolerance it is dropped and a random direction taken; else the process goes on as it stands, its
 * residual being a direction of the complement that rounding chose. */
static hsgd_status begin_sequence(search *f, hsgd_error *err)
{
    const double beta = f->lanczos->beta[f->lanczos->steps - 1];
    hsgd_status st = HSGD_OK;

    f->sequence = f->lanczos->steps;
    memcpy(f->earlier, f->theta, (size_t)f->sequence * sizeof *f->earlier);
    f->gap = fmax(f->gap, beta);
    if (f->lanczos->broken || beta <= 0.1 * f->options->tolerance * f->scale) {
        f->dropped += beta;
        HSGD_TRY(draw(f, err));
        HSGD_TRY(hsgd_lanczos_redirect(f->lanczos, f->direction, err));
    }
done:
    return st;
}

/* Step until the wanted pairs are found or the limit is reached; ends with a look at all steps. */
static hsgd_status run(search *f, hsgd_error *err)
{
    hsgd_lanczos *lanczos = f->lanczos;
    hsgd_status st = HSGD_OK;
    int64_t next = JUDGE_EVERY;

    while (!f->settled && lanczos->steps < f->limit) {
        if (lanczos->steps == lanczos->capacity) {
            HSGD_TRY(make_room(f, smaller(2 * lanczos->capacity, f->limit), err));
        }
        HSGD_TRY(hsgd_lanczos_step(lanczos, err));
        if (has_ended(f) || lanczos->steps >= next || lanczos->steps == f->limit) {
            const int64_t tenth = lanczos->steps / JUDGE_SHARE;

            HSGD_TRY(judge(f, err));
            next = lanczos->steps + (tenth > JUDGE_EVERY ? tenth : JUDGE_EVERY);
        }
        if (!f->settled && has_ended(f) && lanczos->steps < f->limit) {
            HSGD_TRY(begin_sequence(f, err));
        }
    }
done:
    return st;
}

static hsgd_status prepare(search *f, hsgd_error *err)
{
    const hsgd_space *space = hsgd_linop_space(f->op);
    const int64_t capacity = smaller(FIRST_CAPACITY, f->limit);
    hsgd_status st = HSGD_OK;

    f->chosen = calloc((size_t)f->wanted + 1, sizeof *f->chosen); /* never 0 bytes */
    if (f->chosen == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld eigenvalues", (long long)f->wanted);
    } else {
        st = hsgd_vector_create(space, 1, &f->direction, err);
    }
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    HSGD_TRY(draw(f, err));
    HSGD_TRY(hsgd_lanczos_create(f->op, f->direction, capacity, &f->lanczos, err));
    HSGD_TRY(make_room(f, capacity, err));
done:
    return st;
}

/* The chosen Ritz pairs as vectors: basis times s.  values: [chosen_count].  *out is the caller's. */
static hsgd_status form_vectors(const search *f, double **values, hsgd_vector **out, hsgd_error *err)
{
    const int64_t k = f->lanczos->steps, m = f->chosen_count;
    const hsgd_vector basis = hsgd_vector_view(f->lanczos->basis, 0, k);
    hsgd_status st = HSGD_OK;
    double *c = malloc((size_t)(k * m) * sizeof *c);

    *values = malloc((size_t)m * sizeof **values);
    if (c == NULL || *values == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld eigenpairs", (long long)m);
    } else {
        st = hsgd_vector_create(basis.space, m, out, err);
    }
    HSGD_TRY(hsgd_comm_agree(basis.space->comm, st, err));
    for (int64_t i = 0; i < m; i++) {
        (*values)[i] = f->theta[f->chosen[i]];
        for (int64_t j = 0; j < k; j++) {
            c[j * m + i] = f->s[j * k + f->chosen[i]];
        }
    }
    HSGD_TRY(hsgd_vector_update(1.0, &basis, c, *out, err));
done:
    free(c);
    return st;
}

/* Why it stopped, and what the measured residuals say of it. */
static void give_reason(const search *f, int64_t steps, hsgd_eigen_result *result)
{
    const bool by_basis = f->limit < f->options->max_products;
    int64_t converged = 0;

    for (int64_t i = 0; i < result->count; i++) {
        converged += result->converged[i];
    }
    if (f->settled && converged == f->wanted) {
        (void)snprintf(result->reason, sizeof result->reason, "all %lld pairs converged in %lld Lanczos steps",
                       (long long)f->wanted, (long long)steps);
    } else if (f->settled) {
        (void)snprintf(result->reason, sizeof result->reason,
                       "converged by estimate, but %lld of %lld measured residuals are above the tolerance: noise of A",
                       (long long)(f->wanted - converged), (long long)f->wanted);
    } else {
        (void)snprintf(result->reason, sizeof result->reason, "the limit of %lld %s; %lld of %lld pairs converged",
                       (long long)steps, by_basis ? "basis vectors was reached" : "products was used up",
                       (long long)converged, (long long)f->wanted);
    }
}

/* Check what is asked for and set the limits of the search. */
static hsgd_status plan(search *f, hsgd_error *err)
{
    const hsgd_eigen_options *options = f->options;
    const int64_t n = hsgd_linop_space(f->op)->n;
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(options->count >= 1 && options->count <= n && options->max_products >= 1 && options->basis >= 0,
               HSGD_ERR_USAGE, err, "eigen: %lld pairs in %lld products of a matrix of order %lld; ask for 1 to %lld",
               (long long)options->count, (long long)options->max_products, (long long)n, (long long)n);
    f->limit = smaller(options->max_products, n);
    if (options->basis > 0) {
        f->limit = smaller(f->limit, options->basis);
    }
    f->wanted = smaller(options->which == HSGD_WHICH_BOTH ? 2 * options->count : options->count, n);
done:
    return st;
}

hsgd_status hsgd_lanczos_eigen(hsgd_linop *op, const hsgd_eigen_options *options, hsgd_eigen_result *result,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_vector *vectors = NULL;
    double *values = NULL;
    search f = {.op = op, .options = options};
    int64_t steps = 0;

    *result = (hsgd_eigen_result){0};
    HSGD_TRY(plan(&f, err));
    HSGD_TRY(prepare(&f, err));
    HSGD_TRY(run(&f, err));
    HSGD_TRY(form_vectors(&f, &values, &vectors, err));
    steps = f.lanczos->steps;
    hsgd_lanczos_destroy(&f.lanczos); /* the basis is the greater part of the memory */
    HSGD_TRY(hsgd_eigen_certify(op, options, values, &vectors, f.scale, result, err));
    result->products += steps;
    give_reason(&f, steps, result);
done:
    hsgd_vector_destroy(&vectors);
    hsgd_vector_destroy(&f.direction);
    hsgd_lanczos_destroy(&f.lanczos);
    free(values);
    free(f.chosen);
    free(f.earlier);
    if (st != HSGD_OK) {
        hsgd_eigen_result_clear(result);
    }
    return st;
}
