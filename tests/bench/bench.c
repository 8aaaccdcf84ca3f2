/* tests/bench/bench.c - samples per second of what a study spends its time in.
 *
 * usage: hsgd-bench cpu|cuda fast|reproducible SECONDS-PER-FIGURE [tf32=true] [samples=N] [threads=N] [cache=MIB]
 *                   [mode=M] [brief=true]
 * Prints lines "figure: samples/s" (times columns, where several products are made at once), each the median over
 * repetitions, and "# key: text" of what computed.  Modes: all (left out), and for bench.py --growth samples, vectors
 * and ranks.  In all, figures without a number in their name are over `samples` samples of the training set: 60,000 on
 * a GPU; on the CPU they are left out, and operators are over 1000, unless it is given; in the other modes it is 1000.
 * cache: what kept base passes may take (65536: as much as there is room for).
 * brief: one call each, bursts of one step, lines of one point, active shares of ten samples: to try the bench itself.
 * Weights are the seeded initialisation, or $HSGD_BENCH_WEIGHTS: a file of n float64 in flat order.  Data: $HSGD_DATA
 * or the generated digits. */
#include "bench.h"
#include "activity.h"
#include "counting.h"
#include "support.h"
#include "wiring/devices.h"
#include <stdlib.h>

typedef struct {
    const char *name;
    hsgd_status (*print)(bench *b, int64_t samples, hsgd_error *err);
    int64_t samples; /* where none are given, on the CPU; 0: no sets */
    int64_t most;    /* times the samples that it looks at */
} mode;

static const mode modes[] = {{"all", figures_all, 0, 1},
                             {"samples", figures_samples, BENCH_BATCH, 4},
                             {"vectors", figures_vectors, BENCH_BATCH, 1},
                             {"ranks", figures_ranks, BENCH_BATCH, 1}};

typedef struct {
    hsgd_device_choice choice;
    hsgd_reduction reduction;
    double seconds;
    int64_t samples; /* of the whole-set figures; 0: none */
    int64_t cache;   /* MiB */
    const mode *mode;
    bool brief;
} arguments;

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
    const hsgd_problem *p = &b->problem;
    const int64_t n = p->network->parameters;

    b->index = malloc((size_t)b->all * sizeof *b->index);
    b->weights = malloc((size_t)n * sizeof *b->weights);
    b->shifted = malloc((size_t)(BENCH_TOGETHER * n) * sizeof *b->shifted);
    HSGD_CHECK(b->index != NULL && b->weights != NULL && b->shifted != NULL, HSGD_ERR_MEMORY, err, "memory");
    for (int64_t i = 0; i < b->all; i++) {
        b->index[i] = i;
    }
    HSGD_TRY(hsgd_space_create(n, HSGD_REPLICATED, p->reduction, p->comm, p->backend, &b->replicated, err));
    HSGD_TRY(hsgd_space_create(n, HSGD_SPREAD, p->reduction, p->comm, p->backend, &b->spread, err));
    HSGD_TRY(hsgd_sgd_create(b->replicated, &b->sgd, err));
    HSGD_TRY(load_weights(b, err));
    HSGD_TRY(hsgd_network_objective_create(p, b->replicated, b->all, &b->objective, err));
    HSGD_TRY(hsgd_losses_create(p, b->index, BENCH_POINT_SAMPLES, BENCH_TOGETHER, &b->losses, err));
    HSGD_TRY(hsgd_vector_create(b->spread, BENCH_COLUMNS, &b->x, err));
    HSGD_TRY(hsgd_vector_create(b->spread, BENCH_COLUMNS, &b->y, err));
    for (int64_t j = 0; j < BENCH_COLUMNS; j++) {
        HSGD_TRY(hsgd_vector_random(b->x, j, HSGD_DRAW_SIGN, &stream, err));
    }
done:
    return st;
}

static void finish(bench *b)
{
    hsgd_vector_destroy(&b->y);
    hsgd_vector_destroy(&b->x);
    hsgd_losses_destroy(&b->losses);
    hsgd_objective_destroy(&b->objective);
    hsgd_sgd_destroy(&b->sgd);
    hsgd_space_destroy(&b->spread);
    hsgd_space_destroy(&b->replicated);
    free(b->shifted);
    free(b->weights);
    free(b->index);
}

static hsgd_status tell(const bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = b->problem.backend;
    activity active;

    if (b->problem.comm->rank == 0) { /* the others would but take its cores */
        st = activity_measure(b->problem.split, b->brief ? 10 : BENCH_BATCH, b->weights, &active, err);
    }
    HSGD_TRY(hsgd_comm_agree(b->problem.comm, st, err));
    if (b->problem.comm->rank == 0) {
        printf("# backend: %s (%s)\n# ranks: %d, sums by %s\n# groups: %lld to %lld samples\n", backend->ops->name,
               backend->instruction_set, b->problem.comm->ranks, b->problem.comm->ops->name,
               (long long)backend->least_group, (long long)backend->group);
        printf("# active conv1: %.4f\n# active conv2: %.4f\n# pixels not zero: %.4f\n# parameters: %lld\n",
               active.active[0], active.active[1], active.pixels, (long long)b->problem.network->parameters);
        if (backend->device[0] != '\0') {
            printf("# device: %s\n# libraries: %s\n", backend->device, backend->libraries);
        }
    }
done:
    return st;
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

static bool named(const char *word, const mode **out)
{
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strncmp(word, "mode=", 5) == 0 && strcmp(word + 5, modes[i].name) == 0) {
            *out = &modes[i];
            return true;
        }
    }
    return false;
}

static hsgd_status parse(int argc, char **argv, arguments *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t threads = 2;
    char *end = NULL;

    HSGD_CHECK(argc >= 4, HSGD_ERR_USAGE, err,
               "usage: hsgd-bench cpu|cuda fast|reproducible SECONDS [tf32=true] [samples=N] [threads=N] [cache=MIB] "
               "[mode=all|samples|vectors|ranks] [brief=true]");
    a->choice.backend = strcmp(argv[1], "cuda") == 0 ? HSGD_DEVICE_CUDA : HSGD_DEVICE_CPU;
    HSGD_CHECK(a->choice.backend == HSGD_DEVICE_CUDA || strcmp(argv[1], "cpu") == 0, HSGD_ERR_USAGE, err,
               "%s: cpu or cuda", argv[1]);
    a->reduction = strcmp(argv[2], "fast") == 0 ? HSGD_REDUCTION_FAST : HSGD_REDUCTION_REPRODUCIBLE;
    HSGD_CHECK(a->reduction == HSGD_REDUCTION_FAST || strcmp(argv[2], "reproducible") == 0, HSGD_ERR_USAGE, err,
               "%s: fast or reproducible", argv[2]);
    a->seconds = strtod(argv[3], &end);
    HSGD_CHECK(end != argv[3] && *end == '\0' && a->seconds > 0.0, HSGD_ERR_USAGE, err, "%s: seconds", argv[3]);
    a->mode = &modes[0];
    a->cache = 65536;
    for (int i = 4; i < argc; i++) {
        a->choice.tf32 = a->choice.tf32 || strcmp(argv[i], "tf32=true") == 0;
        a->brief = a->brief || strcmp(argv[i], "brief=true") == 0;
        HSGD_CHECK(strncmp(argv[i], "tf32=", 5) == 0 || strncmp(argv[i], "brief=", 6) == 0 ||
                       number(argv[i], "samples=", &a->samples) || number(argv[i], "threads=", &threads) ||
                       number(argv[i], "cache=", &a->cache) || named(argv[i], &a->mode),
                   HSGD_ERR_USAGE, err, "%s: tf32=true, samples=N, threads=N, cache=MIB, mode=M or brief=true",
                   argv[i]);
    }
    if (a->samples == 0) {
        a->samples = a->choice.backend == HSGD_DEVICE_CUDA && a->mode == &modes[0] ? 60000 : a->mode->samples;
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
    const int64_t seen = a->samples * a->mode->most;
    bench b = {.seconds = a->seconds,
               .brief = a->brief,
               .cache = (size_t)a->cache << 20,
               .all = seen > BENCH_POINT_SAMPLES ? seen : BENCH_POINT_SAMPLES};
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
    HSGD_TRY(tell(&b, err));
    messages_count(*comm);
    HSGD_TRY(a->mode->print(&b, a->samples, err));
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
