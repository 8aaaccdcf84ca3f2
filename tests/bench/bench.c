/* tests/bench/bench.c - samples per second of what a study spends its time in.
 *
 * usage: bench [threads] [reproducible|fast] [seconds per figure] [rank layout from mpirun]
 * Prints lines "figure: samples/s", each the median over repetitions; weights are the seeded initialisation, or
 * $HSGD_BENCH_WEIGHTS: a file of n float64 in flat order.  Data: $HSGD_DATA or the generated digits. */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "curvature/curvature.h"
#include "solve/sgd.h"
#include "support.h"
#include <stdlib.h>

enum { TRAIN = 2000, REPEATS = 400 };

typedef struct {
    hsgd_problem problem;
    hsgd_space *replicated, *spread;
    hsgd_objective *objective;
    hsgd_sgd_state sgd;
    double *weights;
    int64_t index[TRAIN];
    hsgd_linop *kept, *rebuilt;
    hsgd_vector *x, *y;
    int64_t samples, columns;
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

/* The learning rate is zero: the weights, and so the work, stay the same. */
static hsgd_status step(bench *b, hsgd_error *err)
{
    const hsgd_sgd_options options = {.lr = 0.0, .momentum = 0.9, .round_to_single = true};
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_sgd_step(&options, 0.0, b->objective, b->index, b->samples, &b->sgd, err));
    HSGD_TRY(hsgd_sgd_settle(b->objective, &b->sgd, NULL, err));
done:
    return st;
}

static hsgd_status product_kept(bench *b, hsgd_error *err)
{
    const hsgd_vector x = hsgd_vector_view(b->x, 0, b->columns);
    hsgd_vector y = hsgd_vector_view(b->y, 0, b->columns);

    return hsgd_linop_apply(b->kept, &x, &y, err);
}

static hsgd_status product_rebuilt(bench *b, hsgd_error *err)
{
    const hsgd_vector x = hsgd_vector_view(b->x, 0, b->columns);
    hsgd_vector y = hsgd_vector_view(b->y, 0, b->columns);

    return hsgd_linop_apply(b->rebuilt, &x, &y, err);
}

static hsgd_status measure(bench *b, const char *name, figure f, int64_t samples, int64_t columns, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static double times[REPEATS];
    const double end = hsgd_clock() + b->seconds;
    int64_t more = 1;
    int count = 0;

    b->samples = samples;
    b->columns = columns;
    HSGD_TRY(f(b, err)); /* first touch of all memory */
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

static hsgd_status prepare(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_random stream = hsgd_random_stream(1, HSGD_RANDOM_TEST, 0);
    hsgd_hessian_options options = {.index = b->index, .count = 1000, .columns = 8, .cache_bytes = (size_t)4 << 30};

    for (int64_t i = 0; i < TRAIN; i++) {
        b->index[i] = i;
    }
    b->weights = malloc((size_t)b->problem.network->parameters * sizeof(double));
    HSGD_CHECK(b->weights != NULL, HSGD_ERR_MEMORY, err, "memory");
    HSGD_TRY(hsgd_space_create(b->problem.network->parameters, HSGD_REPLICATED, b->problem.reduction, b->problem.comm,
                               b->problem.backend, &b->replicated, err));
    HSGD_TRY(hsgd_space_create(b->problem.network->parameters, HSGD_SPREAD, b->problem.reduction, b->problem.comm,
                               b->problem.backend, &b->spread, err));
    HSGD_TRY(hsgd_sgd_create(b->replicated, &b->sgd, err));
    HSGD_TRY(load_weights(b, err));
    HSGD_TRY(hsgd_network_objective_create(&b->problem, b->replicated, 1000, &b->objective, err));
    HSGD_TRY(hsgd_vector_create(b->spread, 8, &b->x, err));
    HSGD_TRY(hsgd_vector_create(b->spread, 8, &b->y, err));
    for (int64_t j = 0; j < 8; j++) {
        HSGD_TRY(hsgd_vector_random(b->x, j, HSGD_DRAW_SIGN, &stream, err));
    }
    options.weights = b->weights;
    HSGD_TRY(hsgd_hessian_create(&b->problem, b->spread, &options, &b->kept, err));
    options.cache_bytes = 0;
    HSGD_TRY(hsgd_hessian_create(&b->problem, b->spread, &options, &b->rebuilt, err));
done:
    return st;
}

static void finish(bench *b)
{
    hsgd_linop_destroy(&b->rebuilt);
    hsgd_linop_destroy(&b->kept);
    hsgd_vector_destroy(&b->y);
    hsgd_vector_destroy(&b->x);
    hsgd_objective_destroy(&b->objective);
    hsgd_sgd_destroy(&b->sgd);
    hsgd_space_destroy(&b->spread);
    hsgd_space_destroy(&b->replicated);
    free(b->weights);
}

static hsgd_status run(bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(prepare(b, err));
    HSGD_TRY(measure(b, "forward 100", forward, 100, 1, err));
    HSGD_TRY(measure(b, "forward 1000", forward, 1000, 1, err));
    HSGD_TRY(measure(b, "train step 100", step, 100, 1, err));
    HSGD_TRY(measure(b, "gradient 100", gradient, 100, 1, err));
    HSGD_TRY(measure(b, "gradient 1000", gradient, 1000, 1, err));
    HSGD_TRY(measure(b, "product kept", product_kept, 1000, 1, err));
    HSGD_TRY(measure(b, "product rebuilt", product_rebuilt, 1000, 1, err));
    HSGD_TRY(measure(b, "8 products kept", product_kept, 1000, 8, err));
    HSGD_TRY(measure(b, "8 products rebuilt", product_rebuilt, 1000, 8, err));
done:
    finish(b);
    return st;
}

int main(int argc, char **argv)
{
    hsgd_status st = HSGD_OK;
    hsgd_error err = {0};
    hsgd_dataset *data = NULL;
    hsgd_network *network = NULL;
    hsgd_backend *backend = NULL;
    const hsgd_dataset_options options = {.dir = "", .train_samples = TRAIN, .test_samples = 10, .seed = 1};
    static bench b;

    HSGD_TRY(hsgd_dataset_load(&options, test_comm(), &data, &err));
    HSGD_TRY(hsgd_network_create("conv 16 5 / relu / maxpool 2 / conv 32 5 / relu / maxpool 2 / linear 10",
                                 (hsgd_shape){1, data->train.height, data->train.width}, data->train.classes, &network,
                                 &err));
    HSGD_TRY(hsgd_backend_cpu_create(HSGD_SINGLE, argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2, &backend, &err));
    b.problem = (hsgd_problem){.network = network,
                               .backend = backend,
                               .comm = test_comm(),
                               .reduction = argc > 2 && strcmp(argv[2], "fast") == 0 ? HSGD_REDUCTION_FAST
                                                                                     : HSGD_REDUCTION_REPRODUCIBLE,
                               .split = &data->train,
                               .deviation = 1.0f};
    b.seconds = argc > 3 ? strtod(argv[3], NULL) : 1.0;
    HSGD_TRY(run(&b, &err));
done:
    if (st != HSGD_OK) {
        (void)fprintf(stderr, "bench: %s\n", err.text);
    }
    hsgd_backend_destroy(&backend);
    hsgd_network_destroy(&network);
    hsgd_dataset_destroy(&data);
    return test_finish(st != HSGD_OK);
}
