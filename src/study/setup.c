/* src/study/setup.c - from the deck to data, network, backend, weights and studied samples. */
#include "base/clock.h"
#include "base/hash.h"
#include "study/limits.h"
#include "study/probe_groups.h"
#include "study/selection.h"
#include "study/resample.h"
#include "study/times.h"
#include <stdlib.h>
#include <string.h>

static hsgd_status list_parameters(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    s->parameters = calloc((size_t)s->network->count * 2, sizeof *s->parameters);
    HSGD_CHECK(s->parameters != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the list of parameters");
    for (int64_t i = 0; i < s->network->count; i++) {
        const hsgd_layer *layer = &s->network->layers[i];
        const bool conv = layer->kind == HSGD_LAYER_CONV;
        hsgd_parameter *weight = &s->parameters[s->parameter_count], *bias = weight + 1;

        if (layer->weight < 0) {
            continue;
        }
        *weight = (hsgd_parameter){.part = "weight",
                                   .rank = conv ? 4 : 2,
                                   .dims = {layer->out.channels, layer->in.channels, layer->size, layer->size},
                                   .offset = layer->weight,
                                   .count = layer->weight_count};
        *bias = (hsgd_parameter){.part = "bias",
                                 .rank = 1,
                                 .dims = {layer->out.channels},
                                 .offset = layer->bias,
                                 .count = layer->bias_count};
        memcpy(weight->layer, layer->name, sizeof weight->layer);
        memcpy(bias->layer, layer->name, sizeof bias->layer);
        s->parameter_count += 2;
    }
done:
    return st;
}

hsgd_status study_set_weights(study_state *s, const double *weights, const char *source, hsgd_error *err)
{
    const bool single = s->backend->precision == HSGD_SINGLE;
    const void *part = s->weights;
    const size_t bytes = (size_t)s->n * sizeof(double);

    for (int64_t i = 0; i < s->n; i++) {
        s->weights[i] = single ? (double)(float)weights[i] : weights[i];
    }
    (void)snprintf(s->weights_source, sizeof s->weights_source, "%s", source);
    return hsgd_sha256(1, &part, &bytes, s->weights_sha256, err);
}

hsgd_status study_read_weights(study_state *s, const char *file, double *weights, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool certified = false; /* others' weights have no manifest */

    HSGD_TRY(hsgd_store_check(s->comm, file, &certified, err));
    HSGD_TRY(hsgd_store_read_parameters(s->comm, file, "/params", s->parameters, s->parameter_count, weights, err));
done:
    return st;
}

hsgd_status study_initial_weights(study_state *s, double *weights, char *source, size_t size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (strcmp(s->deck->model.init, "default") == 0) {
        hsgd_network_init(s->network, (uint64_t)s->deck->run.seed, weights);
        (void)snprintf(source, size, "initialisation (seed %lld)", (long long)s->deck->run.seed);
    } else {
        HSGD_TRY(study_read_weights(s, s->deck->model.init, weights, err));
        (void)snprintf(source, size, "%s", s->deck->model.init);
    }
done:
    return st;
}

hsgd_status study_find_weights(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char source[STUDY_PATH];
    bool exists = false;
    double *weights = malloc((size_t)s->n * sizeof *weights);

    HSGD_TRY(hsgd_comm_agree(s->comm, weights != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    if (strcmp(s->deck->model.init, "default") == 0) {
        HSGD_TRY(hsgd_store_exists(s->comm, s->deck->run.output, "weights.h5", &exists, err));
    }
    if (exists) {
        output_path(s, "weights.h5", source, sizeof source);
        HSGD_TRY(study_read_weights(s, source, weights, err));
    } else {
        HSGD_TRY(study_initial_weights(s, weights, source, sizeof source, err));
    }
    HSGD_TRY(study_set_weights(s, weights, source, err));
    hsgd_progress_say(s->progress, "weights: %s", source);
done:
    free(weights);
    return st;
}

static hsgd_status samples_from_file(study_state *s, int64_t available, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *file = s->deck->hessian.indices;
    int64_t dims[4] = {0};
    int rank = 0;

    HSGD_TRY(hsgd_store_dims(s->comm, file, "/indices", &rank, dims, err));
    HSGD_CHECK(rank == 1 && dims[0] >= 1, HSGD_ERR_DATA, err,
               "%s: /indices has %d dimensions; it must be a list of at least one sample number", file, rank);
    HSGD_CHECK(dims[0] <= (INT64_C(1) << 31), HSGD_ERR_DATA, err, "%s: /indices holds %lld numbers; that is too many",
               file, (long long)dims[0]);
    s->sample_count = dims[0];
    s->samples = malloc((size_t)dims[0] * sizeof *s->samples);
    HSGD_TRY(hsgd_comm_agree(s->comm, s->samples != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(hsgd_store_read_i64(s->comm, file, "/indices", 1, dims, s->samples, err));
    for (int64_t i = 0; i < s->sample_count; i++) {
        HSGD_CHECK(s->samples[i] >= 0 && s->samples[i] < available, HSGD_ERR_DATA, err,
                   "%s: /indices[%lld] is %lld, but hessian.split has samples 0 to %lld; correct the list", file,
                   (long long)i, (long long)s->samples[i], (long long)available - 1);
    }
done:
    return st;
}

static hsgd_status samples_from_range(study_state *s, int64_t available, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t first = s->deck->hessian.first;
    int64_t count = s->deck->hessian.samples;

    HSGD_CHECK(first < available, HSGD_ERR_USAGE, err,
               "hessian.first = %lld: the split has only %lld samples; lower it", (long long)first,
               (long long)available);
    HSGD_CHECK(count <= available - first || !hsgd_deck_is_explicit(s->deck, "hessian", "samples"), HSGD_ERR_USAGE, err,
               "hessian.samples = %lld: only %lld samples from hessian.first on; lower it, or 0 for all",
               (long long)count, (long long)(available - first));
    s->sample_count = count == 0 || count > available - first ? available - first : count;
    s->samples = malloc((size_t)s->sample_count * sizeof *s->samples);
    HSGD_CHECK(s->samples != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate %lld sample numbers",
               (long long)s->sample_count);
    for (int64_t i = 0; i < s->sample_count; i++) {
        s->samples[i] = first + i;
    }
done:
    return st;
}

static hsgd_status choose_samples(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_split *split = s->deck->hessian.split == 1 ? &s->data->test : &s->data->train;
    const void *part;
    size_t bytes;
    bool needed = false;

    for (int i = 0; i < s->deck->stages; i++) {
        needed = needed || s->deck->stage[i] >= HSGD_STAGE_VERIFY;
    }
    needed = needed || (study_runs(s, HSGD_STAGE_TRAIN) && s->deck->train.curvature_every > 0);
    if (!needed) { /* limits against the data are checked only for stages that run */
        return HSGD_OK;
    }
    if (s->deck->hessian.indices[0] != '\0' && strcmp(s->deck->hessian.indices, "none") != 0) {
        HSGD_TRY(samples_from_file(s, split->count, err));
    } else {
        HSGD_TRY(hsgd_comm_agree(s->comm, samples_from_range(s, split->count, err), err));
    }
    part = s->samples;
    bytes = (size_t)s->sample_count * sizeof *s->samples;
    HSGD_TRY(hsgd_sha256(1, &part, &bytes, s->samples_sha256, err));
done:
    return st;
}

/* Local. */
static hsgd_status make_network(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_network_create(s->deck->model.layers, (hsgd_shape){1, s->data->train.height, s->data->train.width},
                                 s->data->train.classes, &s->network, err));
    s->n = s->network->parameters;
    HSGD_TRY(list_parameters(s, err));
done:
    return st;
}

/* Which rows and columns of the operator are studied, and say so where it is not all.  Collective. */
static hsgd_status choose_rows(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char names[SELECTION_NAMES];

    HSGD_TRY(hsgd_comm_agree(s->comm, selection_resolve(s, err), err));
    if (selection_is_block(s)) {
        selection_names(s, names);
        hsgd_progress_say(s->progress, "studied block: %lld of %lld parameters (%s)", (long long)s->m, (long long)s->n,
                          names);
    }
done:
    return st;
}

hsgd_status study_open(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_deck *deck = s->deck;
    const hsgd_dataset_options data = {.dir = deck->data.dir,
                                       .train_samples = deck->data.train_samples,
                                       .test_samples = deck->data.test_samples,
                                       .seed = (uint64_t)deck->run.seed};
    study_clock begin;

    HSGD_TRY(hsgd_comm_agree(s->comm, hsgd_deck_format(deck, &s->deck_text, err), err));
    begin = times_now(s);
    HSGD_TRY(hsgd_dataset_load(&data, s->comm, &s->data, err));
    times_count_input(s, &begin);
    if (s->data->generated) {
        hsgd_progress_warn(s->progress,
                           "no MNIST was named or found: the built-in GENERATED DIGITS serve instead; fetch "
                           "MNIST with tools/fetch_mnist.sh and set data.dir or HSGD_DATA");
    }
    hsgd_progress_say(s->progress, "data: %s (%lld training, %lld test images of %lld x %lld)", s->data->source,
                      (long long)s->data->train.count, (long long)s->data->test.count, (long long)s->data->train.height,
                      (long long)s->data->train.width);
    HSGD_TRY(hsgd_comm_agree(s->comm, make_network(s, err), err));
    HSGD_TRY(choose_rows(s, err));
    HSGD_TRY(study_check_limits(s, err));
    HSGD_TRY(choose_samples(s, err));
    HSGD_TRY(study_resample_check(s, err));
    HSGD_TRY(study_open_device(s, err));
    HSGD_TRY(study_choose_groups(s, err));
    s->weights = calloc((size_t)s->n, sizeof *s->weights);
    if (s->weights == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %lld weights", (long long)s->n);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    if (!s->setup->dry_run) { /* which tells the figures, and compares with all there is */
        HSGD_TRY(study_memory_check(s, err));
        HSGD_TRY(study_hold_images(s, err));
    }
done:
    return st;
}

void study_close(study_state *s)
{
    free(s->weights);
    selection_close_space(s);
    hsgd_space_destroy(&s->spread);
    hsgd_space_destroy(&s->replicated);
    hsgd_backend_destroy(&s->backend);
    free(s->samples);
    selection_clear(s);
    free(s->parameters);
    hsgd_network_destroy(&s->network);
    hsgd_dataset_destroy(&s->data);
    free(s->deck_text);
}
