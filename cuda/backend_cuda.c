/* cuda/backend_cuda.c - the CUDA column of src/backend.h: a table of thin members over kernels and libraries.  All work
 * goes, in the order of the calls, on the device's one stream. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>

/* Samples in a group.  A pass is some tens of launches of 5 to 10 us each, whatever the group; a thousand samples of
 * 28 x 28 pixels give an H100 work for milliseconds, and their activations still take only some hundred MiB a column.
 * The least: 100 = 2 x 50 keeps two GPUs busy at the default batch. */
enum { GROUP = 1000, LEAST_GROUP = 50 };

/* For `self` of a member that launches once: the backend, its stream and its precision, and leave to launch. */
#define MEMBER                                                                                                         \
    hsgd_cuda_backend *const b = self;                                                                                 \
    const cudaStream_t stream = b->device->stream;                                                                     \
    const hsgd_precision p = b->precision;                                                                             \
    const hsgd_status paced = hsgd_cuda_pace(b->device, 1, err);                                                       \
    (void)p

/* The status of a launch; without leave nothing is launched. */
#define LAUNCH(call) (paced != HSGD_OK ? paced : hsgd_cuda_check(b->device, (call), #call, err))

static hsgd_status for_groups(void *self, int64_t count, bool spread_fixed, hsgd_group_body body, void *context,
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    (void)self;
    (void)spread_fixed; /* there is one worker */
    for (int64_t g = 0; g < count; g++) {
        HSGD_TRY(body(context, 0, g, err));
    }
done:
    return st;
}

static hsgd_status images(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m, const int64_t *index,
                          float mean, float deviation, void *x, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_images(stream, p, pixels, count, m, index, mean, deviation, x));
}

/* ---- convolutions and linear layers ---- */

static int64_t places(const hsgd_layer *layer)
{
    return layer->out.height * layer->out.width;
}

static hsgd_status affine_value(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                hsgd_columns w, hsgd_columns bias, hsgd_columns y, bool add, hsgd_error *err)
{
    MEMBER;
    hsgd_status st = HSGD_OK;

    (void)worker;
    if (m == 0 || k == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_cuda_weights_in(b, layer, k, w, &w, err));
    if (layer->kind == HSGD_LAYER_CONV) {
        HSGD_TRY(hsgd_cuda_conv_value(b, layer, m, k, x, w, y, add, err));
    } else {
        HSGD_TRY(hsgd_cuda_linear_value(b, layer, m, k, x, w, y, add, err));
    }
    if (bias.data != NULL) {
        st = LAUNCH(hsgd_cuda_bias_add(stream, p, m, layer->out.channels, places(layer), k, bias, y));
    }
done:
    return st;
}

static hsgd_status affine_adjoint_input(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                        hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_backend *b = self;

    (void)worker;
    if (m == 0 || k == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_cuda_weights_in(b, layer, k, w, &w, err));
    st = layer->kind == HSGD_LAYER_CONV ? hsgd_cuda_conv_adjoint_input(b, layer, m, k, dy, w, dx, add, err)
                                        : hsgd_cuda_linear_adjoint_input(b, layer, m, k, dy, w, dx, add, err);
done:
    return st;
}

static hsgd_status affine_adjoint_weight(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                         hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                         hsgd_error *err)
{
    MEMBER;
    hsgd_status st = HSGD_OK;
    hsgd_columns used = dw;

    (void)worker;
    if (m == 0 || k == 0) {
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_cuda_weights_in(b, layer, k, dw, &used, err));
    if (layer->kind == HSGD_LAYER_CONV) {
        HSGD_TRY(hsgd_cuda_conv_adjoint_weight(b, layer, m, k, dy, x, used, err));
    } else {
        HSGD_TRY(hsgd_cuda_linear_adjoint_weight(b, layer, m, k, dy, x, used, err));
    }
    HSGD_TRY(hsgd_cuda_weights_out(b, layer, k, used, dw, err));
    if (db.data != NULL) {
        st = LAUNCH(hsgd_cuda_bias_gradient(stream, p, m, layer->out.channels, places(layer), k, dy, db));
    }
done:
    return st;
}

/* ---- activations and pooling ---- */

static hsgd_status relu_value(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_relu_value(stream, p, count, x, y));
}

static hsgd_status relu_derivative(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                   hsgd_columns out, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_relu_derivative(stream, p, count, k, y, t, out));
}

static hsgd_status tanh_value(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_tanh_value(stream, p, count, x, y));
}

static hsgd_status tanh_derivative(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                   hsgd_columns out, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_tanh_derivative(stream, p, count, k, y, t, out));
}

static hsgd_status tanh_second(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns ty,
                               const void *dy, hsgd_columns dx, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_tanh_second(stream, p, count, k, y, ty, dy, dx));
}

static hsgd_status maxpool_value(void *self, int worker, const hsgd_layer *layer, int64_t m, const void *x, void *y,
                                 int32_t *choice, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_maxpool_value(stream, p, layer, m, x, y, choice));
}

static hsgd_status maxpool_tangent(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                   const int32_t *choice, hsgd_columns tx, hsgd_columns ty, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_maxpool_tangent(stream, p, layer, m, k, choice, tx, ty));
}

static hsgd_status maxpool_adjoint(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                   const int32_t *choice, hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_maxpool_adjoint(stream, p, layer, m, k, choice, dy, dx));
}

static hsgd_status avgpool_value(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                 hsgd_columns y, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_avgpool_value(stream, p, layer, m, k, x, y));
}

static hsgd_status avgpool_adjoint(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                   hsgd_columns dy, hsgd_columns dx, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_avgpool_adjoint(stream, p, layer, m, k, dy, dx));
}

/* ---- the loss ---- */

static hsgd_status softmax_loss(void *self, int worker, int64_t m, int64_t classes, const void *z,
                                const uint8_t *labels, const int64_t *index, void *soft, void *delta, double *tally,
                                int64_t *confusion, hsgd_error *err)
{
    MEMBER;
    hsgd_status st = HSGD_OK;

    (void)worker;
    HSGD_TRY(hsgd_cuda_scratch_grow(b->device, &b->loss, (size_t)(2 * m) * sizeof(double), err));
    st = LAUNCH(
        hsgd_cuda_softmax_loss(stream, p, m, classes, z, labels, index, soft, delta, tally, confusion, b->loss.memory));
done:
    return st;
}

static hsgd_status softmax_tangent(void *self, int worker, int64_t m, int64_t classes, int64_t k, const void *soft,
                                   hsgd_columns tz, hsgd_columns tdelta, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_softmax_tangent(stream, p, m, classes, k, soft, tz, tdelta));
}

static hsgd_status softmax_root(void *self, int worker, int64_t classes, int64_t first, int64_t k, const void *soft,
                                void *out, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_softmax_root(stream, p, classes, first, k, soft, out));
}

/* ---- sums ---- */

static hsgd_status squares(void *self, int worker, int64_t count, int64_t k, hsgd_columns x, double *out,
                           hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_squares(stream, p, count, k, x, out, b->squares));
}

static hsgd_status accumulate(void *self, int worker, hsgd_reduction reduction, int64_t count, const void *x,
                              double scale, void *sum, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_accumulate(stream, p, reduction, count, x, scale, sum));
}

static hsgd_status accumulate_double(void *self, int worker, hsgd_reduction reduction, int64_t count, const double *x,
                                     double scale, void *sum, hsgd_error *err)
{
    MEMBER;
    (void)worker;
    return LAUNCH(hsgd_cuda_accumulate(stream, HSGD_DOUBLE, reduction, count, x, scale, sum));
}

static hsgd_status merge(void *self, hsgd_reduction reduction, int64_t words, int workers, void *const *sums, void *out,
                         hsgd_error *err)
{
    MEMBER;
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_cuda_memory_copy(self, 0, (size_t)words * sizeof(int64_t), sums[0], out, err));
    for (int w = 1; w < workers; w++) {
        HSGD_TRY(LAUNCH(hsgd_cuda_merge(stream, reduction, words, sums[w], out)));
    }
done:
    return st;
}

static hsgd_status permute(void *self, int64_t count, const int64_t *index, const void *from, void *to, hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_permute(stream, count, index, from, to));
}

static hsgd_status count_beyond(void *self, int64_t count, const double *x, double limit, double *out, hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_count_beyond(stream, count, x, limit, out));
}

/* ---- vectors ---- */

static hsgd_status exponents(void *self, int64_t n, int64_t k, const double *x, int32_t *out, hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_exponents(stream, n, k, x, out));
}

static hsgd_status narrow(void *self, int64_t n, int64_t k, const double *x, const int64_t *order,
                          const int32_t *powers, void *out, hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_narrow(stream, p, n, k, x, order, powers, out));
}

static hsgd_status expand(void *self, hsgd_reduction reduction, int64_t rows, int64_t k, const void *words,
                          double scale, double divisor, const int32_t *powers, double *y, int64_t ldy, hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_expand(stream, reduction, rows, k, words, scale, divisor, powers, y, ldy));
}

static hsgd_status sgd_update(void *self, const hsgd_sgd_rule *rule, int64_t n, const double *g, const double *halted,
                              double *weights, double *momentum, hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_sgd_update(stream, rule, n, g, halted, weights, momentum));
}

static hsgd_status add_blocks(void *self, int64_t blocks, int64_t products, const double *partial, double *g,
                              hsgd_error *err)
{
    MEMBER;
    return LAUNCH(hsgd_cuda_add_blocks(stream, blocks, products, partial, g));
}

/* ---- making and ending ---- */

static void destroy(void *self)
{
    hsgd_cuda_backend *b = self;

    hsgd_cuda_free(b->device, b->loss.memory);
    hsgd_cuda_free(b->device, b->squares);
    free(b);
}

static const hsgd_backend_ops table = {
    .name = "cuda",
    .destroy = destroy,
    .alloc = hsgd_cuda_memory_alloc,
    .release = hsgd_cuda_memory_release,
    .upload = hsgd_cuda_memory_upload,
    .download = hsgd_cuda_memory_download,
    .zero = hsgd_cuda_memory_zero,
    .copy = hsgd_cuda_memory_copy,
    .hold = hsgd_cuda_memory_hold,
    .let_go = hsgd_cuda_memory_let_go,
    .staging_alloc = hsgd_cuda_memory_staging_alloc,
    .staging_release = hsgd_cuda_memory_staging_release,
    .memory = hsgd_cuda_memory_info,
    .for_groups = for_groups,
    .weight_order = NULL, /* canonical: activations are [sample][channel][y][x] */
    .images = images,
    .affine_value = affine_value,
    .affine_adjoint_input = affine_adjoint_input,
    .affine_adjoint_weight = affine_adjoint_weight,
    .relu_value = relu_value,
    .relu_derivative = relu_derivative,
    .tanh_value = tanh_value,
    .tanh_derivative = tanh_derivative,
    .tanh_second = tanh_second,
    .maxpool_value = maxpool_value,
    .maxpool_tangent = maxpool_tangent,
    .maxpool_adjoint = maxpool_adjoint,
    .avgpool_value = avgpool_value,
    .avgpool_adjoint = avgpool_adjoint,
    .softmax_loss = softmax_loss,
    .softmax_tangent = softmax_tangent,
    .softmax_root = softmax_root,
    .squares = squares,
    .accumulate = accumulate,
    .accumulate_double = accumulate_double,
    .merge = merge,
    .permute = permute,
    .exponents = exponents,
    .narrow = narrow,
    .expand = expand,
    .count_beyond = count_beyond,
    .sgd_update = sgd_update,
    .gram = hsgd_cuda_gram,
    .add_blocks = add_blocks,
    .update = hsgd_cuda_update,
};

static void fill(hsgd_backend *backend, const hsgd_cuda_device *device, hsgd_precision precision)
{
    backend->ops = &table;
    backend->precision = precision;
    backend->host_memory = false;
    backend->workers = 1; /* one stream; the host queues ahead of it */
    backend->group = GROUP;
    backend->least_group = LEAST_GROUP;
    backend->tf32 = device->tf32 && precision == HSGD_SINGLE;
    (void)snprintf(backend->instruction_set, sizeof backend->instruction_set, "%s", device->architecture);
    (void)snprintf(backend->device, sizeof backend->device, "%.63s", device->name);
    (void)snprintf(backend->place, sizeof backend->place, "%.31s", device->bus_id);
    (void)snprintf(backend->libraries, sizeof backend->libraries, "%s", device->libraries);
}

hsgd_status hsgd_backend_cuda_create(hsgd_cuda_device *device, hsgd_precision precision, hsgd_backend **out,
                                     hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_backend *backend = calloc(1, sizeof *backend);
    hsgd_cuda_backend *b = calloc(1, sizeof *b);
    void *memory = NULL;

    *out = NULL;
    HSGD_CHECK(backend != NULL && b != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the CUDA backend");
    b->device = device;
    b->precision = precision;
    HSGD_TRY(hsgd_cuda_scratch_grow(device, &b->loss, (size_t)(2 * GROUP) * sizeof(double), err));
    HSGD_TRY(hsgd_cuda_allocate(device, HSGD_CUDA_SQUARES * sizeof(double), &memory, err));
    b->squares = memory;
    fill(backend, device, precision);
    backend->self = b;
    *out = backend;
    backend = NULL;
    b = NULL;
done:
    if (b != NULL && b->device != NULL) {
        destroy(b);
    } else {
        free(b);
    }
    free(backend);
    return st;
}
