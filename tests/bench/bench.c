/* tests/bench/bench.c - samples per second of what a study spends its time in.
 *
 * usage: hsgd-bench cpu|cuda fast|reproducible SECONDS-PER-FIGURE [tf32=true] [samples=N] [threads=N]
 * Prints lines "figure: samples/s" (times columns, where several products are made at once), each the median over
 * repetitions, and "# key: text" of what computed.  Figures without a number in their name are over `samples` samples of
 * the training set: 60,000 on a GPU; on the CPU they are left out, and operators are over 1000, unless it is given.
 * Weights are the seeded initialisation, or $HSGD_BENCH_WEIGHTS: a file of n float64 in flat order.  Data: $HSGD_DATA or
 * the generated digits. */
#include "base/clock.h"
#include "curvature/curvature.h"
#include "solve/sgd.h"
#include "support.h"
#include "wiring/devices.h"
#include <stdlib.h>

enum { REPEATS = 400, BATCH = 1000, COLUMNS = 8, POINTS = 21, POINT_SAMPLES = 2000, BURST = 100 };

typedef struct {
    hsgd_device_choice choice;
    hsgd_reduction reduction;
    double seconds;
    int64_t samples; /* of the whole-set figures; 0: none */
} arguments;

typedef struct {
    hsgd_problem problem;
    hsgd_space *replicated, *spread;
    hsgd_objective *objective;
    hsgd_sgd_state sgd;
    hsgd_vector *point; /* of the landscape */
    double *weights, *shifted;
    int64_t *index, all; /* [all] */
    hsgd_linop *batch, *kept, *rebuilt;
    hsgd_vector *x, *y;
    int64_t samples, columns; /* of the figure at hand */
    double seconds;
} bench;

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

typedef hsgd_status (*figure)(bench *b, hsgd_error *err);

static hsgd_status forward(bench *b, hsgd_error *err)
{
    hsgd_loss loss;

    return hsgd_objective_evaluate(b->objective, b->sgd.weights, b->index, b->samples, NULL, &loss, err);
}

static hsgd_status gradient(bench *b, hsgd_error *err)
{
    hsgd_loss loss;

    return hsgd_objective_evaluate(b->objective, b->sgd.weights, b->index, b->samples, b->sgd.gradient, &loss, err);
}

/* BURST steps with one wait at their end, as in training.  The learning rate is zero: the weights, and so the work, stay
 * the same. */
static hsgd_status steps(bench *b, hsgd_error *err)
{
    const hsgd_sgd_options options = {.lr = 0.0, .momentum = 0.9, .round_to_single = true};
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < b->columns; i++) {
        HSGD_TRY(hsgd_sgd_step(&options, 0.0, b->objective, b->index, b->samples, &b->sgd, err));
    }
    HSGD_TRY(hsgd_sgd_settle(b->objective, &b->sgd, NULL, err));
done:
    return st;
}

static hsgd_status apply(bench *b, hsgd_linop *op, hsgd_error *err)
{
    const hsgd_vector x = hsgd_vector_view(b->x, 0, b->columns);
    hsgd_vector y = hsgd_vector_view(b->y, 0, b->columns);

    return hsgd_linop_apply(op, &x, &y, err);
}

static hsgd_status product_batch(bench *b, hsgd_error *err)
{
    return apply(b, b->batch, err);
}

static hsgd_status product_kept(bench *b, hsgd_error *err)
{
    return apply(b, b->kept, err);
}

static hsgd_status product_rebuilt(bench *b, hsgd_error *err)
{
    return apply(b, b->rebuilt, err);
}

/* A line through the weights, as the stage landscape walks it. */
static hsgd_status landscape(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->problem.network->parameters;

    for (int point = 0; point < POINTS; point++) {
        hsgd_loss loss;

        for (int64_t i = 0; i < n; i++) {
            b->shifted[i] = b->weights[i] + 1e-3 * (double)(point - POINTS / 2) * b->weights[i];
        }
        HSGD_TRY(hsgd_vector_set_full(b->point, b->shifted, err));
        HSGD_TRY(hsgd_objective_evaluate(b->objective, b->point, b->index, POINT_SAMPLES, NULL, &loss, err));
    }
done:
    return st;
}

/* columns: products, steps or points that one call makes of `samples` samples each. */
static hsgd_status measure(bench *b, const char *name, figure f, int64_t samples, int64_t columns, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static double times[REPEATS];
    double end = 0.0;
    int64_t more = 1;
    int count = 0;

    b->samples = samples;
    b->columns = columns;
    HSGD_TRY(f(b, err)); /* first touch of all memory */
    end = hsgd_clock() + b->seconds;
    while (more != 0) {
        const double start = hsgd_clock();

        HSGD_TRY(f(b, err));
        times[count++] = hsgd_clock() - start;
        more = count < 3 || (hsgd_clock() < end && count < REPEATS);
        HSGD_TRY(hsgd_comm_broadcast(b->problem.comm, 0, sizeof more, &more, err));
    }
    qsort(times, (size_t)count, sizeof times[0], ascending);
    if (b->problem.comm->rank == 0) {
        printf("%s: %.0f\n", name, (double)(samples * columns) / times[count / 2]);
    }
done:
    return st;
}

static hsgd_status load_weights(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *path = getenv("HSGD_BENCH_WEIGHTS");
    const int64_t n = b->problem.network->parameters;

    if (path == NULL) {
        hsgd_network_init(b->problem.network, 1, b->weights);
    } else {
        FILE *file = fopen(path, "rb");
        const size_t count = file != NULL ? fread(b->weights, sizeof(double), (size_t)n, file) : 0;

        if (file != NULL) {
            (void)fclose(file);
        }
        HSGD_CHECK(count == (size_t)n, HSGD_ERR_DATA, err, "%s: not %lld float64", path, (long long)n);
    }
    HSGD_TRY(hsgd_vector_set_full(b->sgd.weights, b->weights, err));
done:
    return st;
}

static hsgd_status make_operator(bench *b, int64_t count, size_t cache_bytes, hsgd_linop **out, hsgd_error *err)
{
    const hsgd_hessian_options options = {
        .index = b->index, .count = count, .weights = b->weights, .columns = COLUMNS, .cache_bytes = cache_bytes};

    return hsgd_hessian_create(&b->problem, b->spread, &options, out, err);
}

static hsgd_status prepare(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_random stream = hsgd_random_stream(1, HSGD_RANDOM_TEST, 0);
    const hsgd_problem *p = &b->problem;
    const int64_t n = p->network->parameters;

    b->index = malloc((size_t)b->all * sizeof *b->index);
    b->weights = malloc((size_t)n * sizeof *b->weights);
    b->shifted = malloc((size_t)n * sizeof *b->shifted);
    HSGD_CHECK(b->index != NULL && b->weights != NULL && b->shifted != NULL, HSGD_ERR_MEMORY, err, "memory");
    for (int64_t i = 0; i < b->all; i++) {
        b->index[i] = i;
    }
    HSGD_TRY(hsgd_space_create(n, HSGD_REPLICATED, p->reduction, p->comm, p->backend, &b->replicated, err));
    HSGD_TRY(hsgd_space_create(n, HSGD_SPREAD, p->reduction, p->comm, p->backend, &b->spread, err));
    HSGD_TRY(hsgd_sgd_create(b->replicated, &b->sgd, err));
    HSGD_TRY(load_weights(b, err));
    HSGD_TRY(hsgd_network_objective_create(p, b->replicated, b->all, &b->objective, err));
    HSGD_TRY(hsgd_vector_create(b->replicated, 1, &b->point, err));
    HSGD_TRY(hsgd_vector_create(b->spread, COLUMNS, &b->x, err));
    HSGD_TRY(hsgd_vector_create(b->spread, COLUMNS, &b->y, err));
    for (int64_t j = 0; j < COLUMNS; j++) {
        HSGD_TRY(hsgd_vector_random(b->x, j, HSGD_DRAW_SIGN, &stream, err));
    }
done:
    return st;
}

static void finish(bench *b)
{
    hsgd_linop_destroy(&b->rebuilt);
    hsgd_linop_destroy(&b->kept);
    hsgd_linop_destroy(&b->batch);
    hsgd_vector_destroy(&b->y);
    hsgd_vector_destroy(&b->x);
    hsgd_vector_destroy(&b->point);
    hsgd_objective_destroy(&b->objective);
    hsgd_sgd_destroy(&b->sgd);
    hsgd_space_destroy(&b->spread);
    hsgd_space_destroy(&b->replicated);
    free(b->shifted);
    free(b->weights);
    free(b->index);
}

static hsgd_status batches(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(measure(b, "forward 100", forward, 100, 1, err));
    HSGD_TRY(measure(b, "forward 1000", forward, BATCH, 1, err));
    HSGD_TRY(measure(b, "train step 100", steps, 100, BURST, err));
    HSGD_TRY(measure(b, "train step 1000", steps, BATCH, BURST / 10, err));
    HSGD_TRY(measure(b, "gradient 100", gradient, 100, 1, err));
    HSGD_TRY(measure(b, "gradient 1000", gradient, BATCH, 1, err));
    HSGD_TRY(make_operator(b, BATCH, (size_t)4 << 30, &b->batch, err));
    HSGD_TRY(measure(b, "product kept", product_batch, BATCH, 1, err));
    HSGD_TRY(measure(b, "8 products kept", product_batch, BATCH, COLUMNS, err));
    hsgd_linop_destroy(&b->batch);
done:
    return st;
}

/* Over `samples` samples; over a batch, products from scratch alone. */
static hsgd_status sets(bench *b, int64_t samples, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t studied = samples > 0 ? samples : BATCH;

    HSGD_TRY(make_operator(b, studied, 0, &b->rebuilt, err));
    HSGD_TRY(measure(b, "product rebuilt", product_rebuilt, studied, 1, err));
    HSGD_TRY(measure(b, "8 products rebuilt", product_rebuilt, studied, COLUMNS, err));
    hsgd_linop_destroy(&b->rebuilt);
    if (samples > 0) {
        HSGD_TRY(measure(b, "forward", forward, samples, 1, err));
        HSGD_TRY(measure(b, "gradient", gradient, samples, 1, err));
        HSGD_TRY(make_operator(b, samples, (size_t)64 << 30, &b->kept, err)); /* as much of it as there is room for */
        HSGD_TRY(measure(b, "product", product_kept, samples, 1, err));
        HSGD_TRY(measure(b, "8 products", product_kept, samples, COLUMNS, err));
        hsgd_linop_destroy(&b->kept);
    }
    HSGD_TRY(measure(b, "landscape points", landscape, POINT_SAMPLES, POINTS, err));
done:
    return st;
}

static void tell(const bench *b)
{
    const hsgd_backend *backend = b->problem.backend;

    if (b->problem.comm->rank == 0) {
        printf("# backend: %s (%s)\n# ranks: %d, sums by %s\n# groups: %lld to %lld samples\n", backend->ops->name,
               backend->instruction_set, b->problem.comm->ranks, b->problem.comm->ops->name,
               (long long)backend->least_group, (long long)backend->group);
        if (backend->device[0] != '\0') {
            printf("# device: %s\n# libraries: %s\n", backend->device, backend->libraries);
        }
    }
}

static bool number(const char *word, const char *key, int64_t *out)
{
    const size_t length = strlen(key);
    char *end = NULL;

    if (strncmp(word, key, length) != 0) {
        return false;
    }
    *out = strtoll(word + length, &end, 10);
    return end != word + length && *end == '\0' && *out > 0;
}

static hsgd_status parse(int argc, char **argv, arguments *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t threads = 2;
    char *end = NULL;

    HSGD_CHECK(argc >= 4, HSGD_ERR_USAGE, err,
               "usage: hsgd-bench cpu|cuda fast|reproducible SECONDS [tf32=true] [samples=N] [threads=N]");
    a->choice.backend = strcmp(argv[1], "cuda") == 0 ? HSGD_DEVICE_CUDA : HSGD_DEVICE_CPU;
    HSGD_CHECK(a->choice.backend == HSGD_DEVICE_CUDA || strcmp(argv[1], "cpu") == 0, HSGD_ERR_USAGE, err,
               "%s: cpu or cuda", argv[1]);
    a->reduction = strcmp(argv[2], "fast") == 0 ? HSGD_REDUCTION_FAST : HSGD_REDUCTION_REPRODUCIBLE;
    HSGD_CHECK(a->reduction == HSGD_REDUCTION_FAST || strcmp(argv[2], "reproducible") == 0, HSGD_ERR_USAGE, err,
               "%s: fast or reproducible", argv[2]);
    a->seconds = strtod(argv[3], &end);
    HSGD_CHECK(end != argv[3] && *end == '\0' && a->seconds > 0.0, HSGD_ERR_USAGE, err, "%s: seconds", argv[3]);
    a->samples = a->choice.backend == HSGD_DEVICE_CUDA ? 60000 : 0;
    for (int i = 4; i < argc; i++) {
        a->choice.tf32 = a->choice.tf32 || strcmp(argv[i], "tf32=true") == 0;
        HSGD_CHECK(strncmp(argv[i], "tf32=", 5) == 0 || number(argv[i], "samples=", &a->samples) ||
                       number(argv[i], "threads=", &threads),
                   HSGD_ERR_USAGE, err, "%s: tf32=true, samples=N or threads=N", argv[i]);
    }
    a->choice.threads = (int)threads;
done:
    return st;
}

static hsgd_status run(const arguments *a, hsgd_comm **comm, hsgd_devices **devices, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_dataset *data = NULL;
    hsgd_network *network = NULL;
    hsgd_backend *backend = NULL;
    bench b = {.seconds = a->seconds, .all = a->samples > POINT_SAMPLES ? a->samples : POINT_SAMPLES};
    const hsgd_dataset_options options = {.dir = "", .train_samples = b.all, .test_samples = 10, .seed = 1};
    char note[256];

    HSGD_TRY(hsgd_devices_open(&a->choice, comm, note, sizeof note, devices, err));
    HSGD_TRY(hsgd_devices_backend(*devices, HSGD_SINGLE, &backend, err));
    HSGD_TRY(hsgd_dataset_load(&options, *comm, &data, err));
    HSGD_TRY(hsgd_network_create("conv 16 5 / relu / maxpool 2 / conv 32 5 / relu / maxpool 2 / linear 10",
                                 (hsgd_shape){1, data->train.height, data->train.width}, data->train.classes, &network,
                                 err));
    b.problem = (hsgd_problem){.network = network,
                               .backend = backend,
                               .comm = *comm,
                               .reduction = a->reduction,
                               .split = &data->train,
                               .deviation = 1.0f};
    HSGD_TRY(prepare(&b, err));
    tell(&b);
    HSGD_TRY(batches(&b, err));
    HSGD_TRY(sets(&b, a->samples, err));
done:
    if (backend != NULL) {
        finish(&b);
    }
    hsgd_network_destroy(&network);
    hsgd_backend_destroy(&backend);
    hsgd_dataset_destroy(&data);
    return st;
}

int main(int argc, char **argv)
{
    hsgd_status st = HSGD_OK;
    hsgd_error err = {0};
    hsgd_comm *comm = test_comm();
    hsgd_devices *devices = NULL;
    arguments a = {0};

    st = parse(argc, argv, &a, &err);
    if (st == HSGD_OK) {
        st = run(&a, &comm, &devices, &err);
    }
    if (st != HSGD_OK && comm->rank == 0) {
        (void)fprintf(stderr, "bench: %s\n", err.text);
    }
    if (comm == test_comm()) {
        hsgd_devices_close(&devices);
        return test_finish(st != HSGD_OK);
    }
    hsgd_comm_destroy(&comm); /* around the launch's, which ends with it */
    hsgd_devices_close(&devices);
    return st != HSGD_OK;
}
