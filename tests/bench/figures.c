/* tests/bench/figures.c - see bench.h. */
#include "bench.h"
#include "base/clock.h"
#include "counting.h"
#include <stdio.h>
#include <stdlib.h>

enum { REPEATS = 400, POINTS = 21, BURST = 100, MOST = 5 /* variants */, LEAST = 3, PATIENCE = 4 };

/* One thing to be timed: `columns` products, steps or points of `samples` samples each. */
typedef struct variant {
    const char *name, *word; /* what is told before the number: name, or name | word */
    hsgd_status (*call)(bench *b, const struct variant *v, hsgd_error *err);
    int64_t samples, columns;
    hsgd_linop *op; /* of products */
    bool warm;      /* its memory is touched and its cache filled: the first call is as good as any */
} variant;

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* ---- what is timed ---- */

static hsgd_status forward(bench *b, const variant *v, hsgd_error *err)
{
    hsgd_loss loss;

    return hsgd_objective_evaluate(b->objective, b->sgd.weights, b->index, v->samples, NULL, &loss, err);
}

static hsgd_status gradient(bench *b, const variant *v, hsgd_error *err)
{
    hsgd_loss loss;

    return hsgd_objective_evaluate(b->objective, b->sgd.weights, b->index, v->samples, b->sgd.gradient, &loss, err);
}

/* Steps with one wait at their end, as in training.  The learning rate is zero: the weights, and so the work, stay the
 * same. */
static hsgd_status steps(bench *b, const variant *v, hsgd_error *err)
{
    const hsgd_sgd_options options = {.lr = 0.0, .momentum = 0.9, .round_to_single = true};
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < v->columns; i++) {
        HSGD_TRY(hsgd_sgd_step(&options, 0.0, b->objective, b->index, v->samples, &b->sgd, err));
    }
    HSGD_TRY(hsgd_sgd_settle(b->objective, &b->sgd, NULL, err));
done:
    return st;
}

static hsgd_status product(bench *b, const variant *v, hsgd_error *err)
{
    const hsgd_vector x = hsgd_vector_view(b->x, 0, v->columns);
    hsgd_vector y = hsgd_vector_view(b->y, 0, v->columns);

    return hsgd_linop_apply(v->op, &x, &y, err);
}

/* A line through the weights, as the stage landscape walks it. */
static hsgd_status landscape(bench *b, const variant *v, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->problem.network->parameters;

    for (int64_t point = 0; point < v->columns; point += BENCH_TOGETHER) {
        const int64_t count = v->columns - point < BENCH_TOGETHER ? v->columns - point : BENCH_TOGETHER;
        hsgd_loss loss[BENCH_TOGETHER];

        for (int64_t i = 0; i < count * n; i++) {
            b->shifted[i] = b->weights[i % n] * (1.0 + 1e-3 * (double)(point + i / n - v->columns / 2));
        }
        HSGD_TRY(hsgd_losses_at(b->losses, count, b->shifted, loss, err));
    }
done:
    return st;
}

/* ---- timing ---- */

/* One call and its seconds. */
static hsgd_status timed(bench *b, const variant *v, double *seconds, hsgd_error *err)
{
    const double start = hsgd_clock();
    const hsgd_status st = v->call(b, v, err);

    *seconds = hsgd_clock() - start;
    return st;
}

/* The first call; where messages are told, what it sends on rank 0, for each step or product of it. */
static hsgd_status first_call(bench *b, const variant *v, double *seconds, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const message_count before = messages_so_far();
    message_count after;

    HSGD_TRY(timed(b, v, seconds, err));
    after = messages_so_far();
    if (b->messages && b->problem.comm->rank == 0) {
        printf("# messages %s: %.2f calls, %.1f bytes\n", v->name,
               (double)(after.calls - before.calls) / (double)v->columns,
               (double)(after.bytes - before.bytes) / (double)v->columns);
    }
done:
    return st;
}

static void tell(const variant *v, double *times, int turns)
{
    qsort(times, (size_t)turns, sizeof times[0], ascending);
    printf("%s%s%s: %.0f\n", v->name, v->word != NULL ? " | " : "", v->word != NULL ? v->word : "",
           (double)(v->samples * v->columns) / times[turns / 2]);
    (void)fflush(stdout);
}

/* All `count` variants take turns until `seconds` each are over, LEAST times at least; but one turn alone where those
 * would take PATIENCE times as long.  The first calls (first touch of all memory, filling of caches) count for nothing,
 * unless the bench is to be brief, or what is warm took that long already. */
static hsgd_status measure(bench *b, const variant *v, int count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static double times[MOST][REPEATS];
    const double each = (double)count * b->seconds;
    double begun = 0.0;
    int64_t more = 1;
    int turns = 0;

    for (int i = 0; i < count; i++) {
        HSGD_TRY(first_call(b, &v[i], &times[i][0], err));
    }
    begun = hsgd_clock();
    more = !b->brief && !(v->warm && times[0][0] > PATIENCE * each);
    HSGD_TRY(hsgd_comm_broadcast(b->problem.comm, 0, sizeof more, &more, err));
    turns = more == 0;
    while (more != 0) {
        for (int i = 0; i < count; i++) {
            HSGD_TRY(timed(b, &v[i], &times[i][turns], err));
        }
        turns++;
        more = turns < REPEATS && hsgd_clock() - begun < (turns < LEAST ? PATIENCE : 1) * each;
        HSGD_TRY(hsgd_comm_broadcast(b->problem.comm, 0, sizeof more, &more, err));
    }
    for (int i = 0; i < count && b->problem.comm->rank == 0; i++) {
        tell(&v[i], times[i], turns);
    }
done:
    return st;
}

static hsgd_status one(bench *b, const char *name, hsgd_status (*call)(bench *b, const variant *v, hsgd_error *err),
                       int64_t samples, int64_t columns, hsgd_error *err)
{
    const variant v = {.name = name, .call = call, .samples = samples, .columns = columns};

    return measure(b, &v, 1, err);
}

static hsgd_status make_operator(bench *b, int64_t count, int64_t columns, size_t cache_bytes, hsgd_linop **out,
                                 hsgd_error *err)
{
    const hsgd_hessian_options options = {
        .index = b->index, .count = count, .weights = b->weights, .columns = columns, .cache_bytes = cache_bytes};

    return hsgd_hessian_create(&b->problem, b->spread, &options, out, err);
}

/* One product and eight at once. */
static hsgd_status products(bench *b, const char *name, const char *eight, int64_t samples, size_t cache,
                            hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    variant v = {.name = name, .call = product, .samples = samples, .columns = 1};

    HSGD_TRY(make_operator(b, samples, 8, cache, &v.op, err));
    HSGD_TRY(measure(b, &v, 1, err));
    v.name = eight;
    v.columns = 8;
    v.warm = true;
    HSGD_TRY(measure(b, &v, 1, err));
done:
    hsgd_linop_destroy(&v.op);
    return st;
}

static hsgd_status train_steps(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(one(b, "train step 100", steps, 100, b->brief ? 1 : BURST, err));
    HSGD_TRY(one(b, "train step 1000", steps, BENCH_BATCH, b->brief ? 1 : BURST / 10, err));
done:
    return st;
}

/* ---- modes ---- */

hsgd_status figures_all(bench *b, int64_t samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(one(b, "forward 100", forward, 100, 1, err));
    HSGD_TRY(one(b, "forward 1000", forward, BENCH_BATCH, 1, err));
    HSGD_TRY(train_steps(b, err));
    HSGD_TRY(one(b, "gradient 100", gradient, 100, 1, err));
    HSGD_TRY(one(b, "gradient 1000", gradient, BENCH_BATCH, 1, err));
    HSGD_TRY(products(b, "product kept 100", "8 products kept 100", 100, b->cache, err));
    HSGD_TRY(products(b, "product kept", "8 products kept", BENCH_BATCH, b->cache, err));
    /* without a set, products from scratch of the batch alone */
    HSGD_TRY(products(b, "product rebuilt", "8 products rebuilt", samples > 0 ? samples : BENCH_BATCH, 0, err));
    if (samples > 0) {
        HSGD_TRY(one(b, "forward", forward, samples, 1, err));
        HSGD_TRY(one(b, "gradient", gradient, samples, 1, err));
        HSGD_TRY(products(b, "product", "8 products", samples, b->cache, err));
    }
    HSGD_TRY(one(b, "landscape points", landscape, BENCH_POINT_SAMPLES, b->brief ? 1 : POINTS, err));
done:
    return st;
}

/* The figure for samples or vectors that grow, in turns.  v: [count] with word, samples and columns. */
static hsgd_status grow(bench *b, const char *name, hsgd_status (*call)(bench *b, const variant *v, hsgd_error *err),
                        size_t cache, variant *v, int count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int i = 0; i < count; i++) {
        v[i].name = name;
        v[i].call = call;
        if (call == product) {
            HSGD_TRY(make_operator(b, v[i].samples, v[i].columns, cache, &v[i].op, err));
        }
    }
    HSGD_TRY(measure(b, v, count, err));
done:
    for (int i = 0; i < count; i++) {
        hsgd_linop_destroy(&v[i].op);
    }
    return st;
}

hsgd_status figures_samples(bench *b, int64_t samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    variant v[] = {{.word = "x1", .samples = samples, .columns = 1},
                   {.word = "x2", .samples = 2 * samples, .columns = 1},
                   {.word = "x4", .samples = 4 * samples, .columns = 1}};

    HSGD_TRY(grow(b, "forward", forward, 0, v, 3, err));
    HSGD_TRY(grow(b, "gradient", gradient, 0, v, 3, err));
    HSGD_TRY(grow(b, "product kept", product, b->cache, v, 3, err));
    HSGD_TRY(grow(b, "product rebuilt", product, 0, v, 3, err));
done:
    return st;
}

hsgd_status figures_vectors(bench *b, int64_t samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    variant v[MOST] = {{.word = "1"}, {.word = "2"}, {.word = "4"}, {.word = "8"}, {.word = "16"}};

    for (int i = 0; i < MOST; i++) {
        v[i].samples = samples;
        v[i].columns = (int64_t)1 << i;
    }
    HSGD_TRY(grow(b, "product kept", product, b->cache, v, MOST, err));
    HSGD_TRY(grow(b, "product rebuilt", product, 0, v, MOST, err));
done:
    return st;
}

hsgd_status figures_ranks(bench *b, int64_t samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    b->messages = true;
    HSGD_TRY(train_steps(b, err));
    HSGD_TRY(one(b, "gradient", gradient, samples, 1, err));
    HSGD_TRY(products(b, "product kept", "8 products kept", samples, b->cache, err));
    HSGD_TRY(products(b, "product rebuilt", "8 products rebuilt", samples, 0, err));
done:
    return st;
}
