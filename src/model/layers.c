/* src/model/layers.c - reads a layer list and lays its parameters out in one flat vector. */
#include "model/layers.h"
#include "base/nearest.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHERE            "model.layers"
#define LARGEST          INT64_C(2147483647) /* of parameters and of a sample's activations: BLAS counts in 32 bits */
#define LARGEST_ARGUMENT INT64_C(1000000)

typedef struct {
    hsgd_layer_kind kind;
    int64_t arguments;
    const char *usage;
} layer_form;

static const char *const words[] = {"conv", "linear", "relu", "tanh", "maxpool", "avgpool"};
static const layer_form forms[] = {
    {HSGD_LAYER_CONV, 2, "conv CHANNELS KERNEL"},
    {HSGD_LAYER_LINEAR, 1, "linear OUTPUTS"},
    {HSGD_LAYER_RELU, 0, "relu"},
    {HSGD_LAYER_TANH, 0, "tanh"},
    {HSGD_LAYER_MAXPOOL, 1, "maxpool WINDOW"},
    {HSGD_LAYER_AVGPOOL, 1, "avgpool WINDOW"},
};
enum { FORMS = sizeof forms / sizeof forms[0] };

/* Where the reader stands: the shape so far, and how many layers of each named kind have been seen. */
typedef struct {
    int64_t number; /* of the layer being read, from 1: for messages */
    hsgd_shape shape;
    bool flat; /* a linear layer has been read */
    int convs, linears;
} reader;

static int64_t elements(hsgd_shape s)
{
    return s.channels * s.height * s.width;
}

static hsgd_status find_form(const reader *at, const char *word, const layer_form **form, hsgd_error *err)
{
    const char *nearest = hsgd_nearest(word, words, FORMS);

    for (size_t i = 0; i < FORMS; i++) {
        if (strcmp(word, words[i]) == 0) {
            *form = &forms[i];
            return HSGD_OK;
        }
    }
    if (nearest != NULL) {
        return hsgd_error_set(err, HSGD_ERR_USAGE,
                              WHERE ": layer %" PRId64 ": unknown layer '%.60s'; did you mean '%s'?", at->number, word,
                              nearest);
    }
    return hsgd_error_set(err, HSGD_ERR_USAGE,
                          WHERE ": layer %" PRId64
                                ": unknown layer '%.60s'; use conv, linear, relu, tanh, maxpool or avgpool",
                          at->number, word);
}

/* Split one layer's text (changed) into its form and its arguments, whole numbers from 1. */
static hsgd_status read_words(const reader *at, char *text, const layer_form **form, int64_t arguments[2],
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char *rest = NULL;
    const char *word = strtok_r(text, " \t\r\n", &rest);
    int64_t found = 0;

    HSGD_CHECK(word != NULL, HSGD_ERR_USAGE, err, WHERE ": layer %" PRId64 " is empty; separate layers by a single '/'",
               at->number);
    HSGD_TRY(find_form(at, word, form, err));
    while ((word = strtok_r(NULL, " \t\r\n", &rest)) != NULL) {
        char *end = NULL;
        const long long value = strtoll(word, &end, 10);

        HSGD_CHECK(found < (*form)->arguments, HSGD_ERR_USAGE, err,
                   WHERE ": layer %" PRId64 ": '%.60s' is one word too many; write '%s'", at->number, word,
                   (*form)->usage);
        HSGD_CHECK(*end == '\0' && value >= 1 && value <= LARGEST_ARGUMENT, HSGD_ERR_USAGE, err,
                   WHERE ": layer %" PRId64 ": '%.60s' in '%s' is not a whole number from 1 to %" PRId64 "; give one",
                   at->number, word, (*form)->usage, LARGEST_ARGUMENT);
        arguments[found++] = value;
    }
    HSGD_CHECK(found == (*form)->arguments, HSGD_ERR_USAGE, err,
               WHERE ": layer %" PRId64 ": %" PRId64 " of %" PRId64 " numbers given; write '%s'", at->number, found,
               (*form)->arguments, (*form)->usage);
done:
    return st;
}

static hsgd_status read_conv(reader *at, const int64_t arguments[2], hsgd_layer *layer, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t edge = layer->in.height < layer->in.width ? layer->in.height : layer->in.width;

    layer->size = arguments[1];
    HSGD_CHECK(layer->size % 2 == 1, HSGD_ERR_USAGE, err,
               WHERE ": layer %" PRId64 ": a convolution's kernel must be odd, not %" PRId64 "; try %" PRId64,
               at->number, layer->size, layer->size + 1);
    HSGD_CHECK(layer->size / 2 < edge, HSGD_ERR_USAGE, err,
               WHERE ": layer %" PRId64 ": the kernel %" PRId64 " has weights that never meet its %" PRId64
                     " x %" PRId64 " input; use at most %" PRId64,
               at->number, layer->size, layer->in.height, layer->in.width, 2 * edge - 1);
    layer->out.channels = arguments[0];
    layer->weight_count = layer->out.channels * layer->in.channels * layer->size * layer->size;
    layer->bias_count = layer->out.channels;
    (void)snprintf(layer->name, sizeof layer->name, "conv%d", ++at->convs);
done:
    return st;
}

static void read_linear(reader *at, const int64_t arguments[2], hsgd_layer *layer)
{
    layer->unflat = layer->in;
    layer->in = (hsgd_shape){elements(layer->in), 1, 1};
    layer->out = (hsgd_shape){arguments[0], 1, 1};
    layer->weight_count = layer->in.channels * layer->out.channels;
    layer->bias_count = layer->out.channels;
    at->flat = true;
    (void)snprintf(layer->name, sizeof layer->name, "linear%d", ++at->linears);
}

static hsgd_status read_pool(const reader *at, const int64_t arguments[2], hsgd_layer *layer, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    layer->size = arguments[0];
    HSGD_CHECK(layer->size <= layer->in.height && layer->size <= layer->in.width, HSGD_ERR_USAGE, err,
               WHERE ": layer %" PRId64 ": a window of %" PRId64 " is larger than its %" PRId64 " x %" PRId64
                     " input; make it smaller or leave the layer out",
               at->number, layer->size, layer->in.height, layer->in.width);
    layer->out.height = layer->in.height / layer->size;
    layer->out.width = layer->in.width / layer->size;
done:
    return st;
}

static hsgd_status read_layer(reader *at, char *text, hsgd_layer *layer, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const layer_form *form = NULL;
    int64_t arguments[2] = {0, 0};

    HSGD_TRY(read_words(at, text, &form, arguments, err));
    *layer = (hsgd_layer){.kind = form->kind, .in = at->shape, .out = at->shape, .weight = -1, .bias = -1};
    switch (form->kind) {
    case HSGD_LAYER_CONV:
    case HSGD_LAYER_MAXPOOL:
    case HSGD_LAYER_AVGPOOL:
        HSGD_CHECK(!at->flat, HSGD_ERR_USAGE, err,
                   WHERE ": layer %" PRId64 ": '%s' stands after a linear layer, which leaves no image; move it before",
                   at->number, words[form - forms]);
        if (form->kind == HSGD_LAYER_CONV) {
            HSGD_TRY(read_conv(at, arguments, layer, err));
        } else {
            HSGD_TRY(read_pool(at, arguments, layer, err));
        }
        break;
    case HSGD_LAYER_LINEAR:
        read_linear(at, arguments, layer);
        break;
    case HSGD_LAYER_RELU:
    case HSGD_LAYER_TANH:
        break;
    }
    HSGD_CHECK(elements(layer->out) <= LARGEST, HSGD_ERR_USAGE, err,
               WHERE ": layer %" PRId64 " has more than %" PRId64 " outputs; make it smaller", at->number, LARGEST);
    at->shape = layer->out;
done:
    return st;
}

/* Give the layer its place behind the `*n` parameters so far. */
static hsgd_status place_parameters(const reader *at, hsgd_layer *layer, int64_t *n, hsgd_error *err)
{
    if (layer->weight_count == 0) {
        return HSGD_OK;
    }
    layer->weight = *n;
    layer->bias = *n + layer->weight_count;
    *n = layer->bias + layer->bias_count;
    if (*n > LARGEST) {
        return hsgd_error_set(err, HSGD_ERR_USAGE,
                              WHERE ": layer %" PRId64 " brings the network to more than %" PRId64
                                    " parameters; make it smaller",
                              at->number, LARGEST);
    }
    return HSGD_OK;
}

static hsgd_status finish(hsgd_network *network, int64_t classes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_layer *last = &network->layers[network->count - 1];

    HSGD_CHECK(last->kind == HSGD_LAYER_LINEAR, HSGD_ERR_USAGE, err,
               WHERE ": the last layer is '%s', not linear; end with '/ linear %" PRId64 "'", words[last->kind],
               classes);
    HSGD_CHECK(last->out.channels >= classes, HSGD_ERR_USAGE, err,
               WHERE ": the last layer has %" PRId64 " outputs for %" PRId64 " classes; end with 'linear %" PRId64 "'",
               last->out.channels, classes, classes);
    (void)snprintf(last->name, sizeof last->name, "out");
    network->classes = last->out.channels;
done:
    return st;
}

hsgd_status hsgd_network_create(const char *layers, hsgd_shape input, int64_t classes, hsgd_network **out,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    reader at = {.shape = input};
    hsgd_network *network = calloc(1, sizeof *network);
    char *text = strdup(layers), *rest = text, *piece = NULL;
    int64_t most = 1;

    *out = NULL;
    for (const char *c = layers; *c != '\0'; c++) {
        most += *c == '/';
    }
    HSGD_CHECK(network != NULL && text != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the network");
    network->layers = calloc((size_t)most, sizeof *network->layers);
    HSGD_CHECK(network->layers != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the network's layers");
    network->input = input;
    network->piecewise_linear = true;
    while ((piece = strsep(&rest, "/")) != NULL) {
        hsgd_layer *layer = &network->layers[network->count];

        at.number = ++network->count;
        HSGD_TRY(read_layer(&at, piece, layer, err));
        HSGD_TRY(place_parameters(&at, layer, &network->parameters, err));
        network->piecewise_linear = network->piecewise_linear && layer->kind != HSGD_LAYER_TANH;
    }
    HSGD_TRY(finish(network, classes, err));
    *out = network;
    network = NULL;
done:
    hsgd_network_destroy(&network);
    free(text);
    return st;
}

void hsgd_network_destroy(hsgd_network **network)
{
    if (network == NULL || *network == NULL) {
        return;
    }
    free((*network)->layers);
    free(*network);
    *network = NULL;
}

void hsgd_network_order(const hsgd_network *network, const hsgd_backend *backend, int64_t *order)
{
    for (int64_t i = 0; i < network->parameters; i++) {
        order[i] = i;
    }
    for (int64_t l = 0; l < network->count && backend->ops->weight_order != NULL; l++) {
        const hsgd_layer *layer = &network->layers[l];

        if (layer->weight_count > 0) {
            backend->ops->weight_order(backend->self, layer, order + layer->weight);
            for (int64_t i = 0; i < layer->weight_count; i++) {
                order[layer->weight + i] += layer->weight;
            }
        }
    }
}
