/* src/backend.h - what a device must be able to do; CPU and CUDA implement it, the CPU is the reference.
 *
 * Reals are `float` or `double` as the backend's precision says; all pointers to reals point to the backend's own
 * memory.  Work comes in *groups*: at most `group` consecutive samples, handled by one worker with calls of fixed
 * shape, so that no result depends on ranks or threads.  Activations are in a layout of the backend's own choice (only
 * images, logits and flat parameter vectors are fixed); m is the number of samples of a group, k of tangent vectors.
 *
 * Convolutions and linear layers are bilinear in (input, weight), so three kernels for k columns at once - value,
 * adjoint in the input, adjoint in the weight - give value, tangent, adjoint and tangent-adjoint; model/pass.c holds
 * the chain rule, once. */
#pragma once
#include "base/error.h"
#include "base/sum.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { HSGD_SINGLE, HSGD_DOUBLE } hsgd_precision;

typedef enum {
    HSGD_LAYER_CONV,
    HSGD_LAYER_LINEAR,
    HSGD_LAYER_RELU,
    HSGD_LAYER_TANH,
    HSGD_LAYER_MAXPOOL,
    HSGD_LAYER_AVGPOOL
} hsgd_layer_kind;

typedef struct {
    int64_t channels, height, width;
} hsgd_shape;

/* One layer of a network, with its place in the flat parameter vector. */
typedef struct {
    hsgd_layer_kind kind;
    hsgd_shape in, out;   /* of one sample; after flattening and for linear layers {features, 1, 1} */
    hsgd_shape unflat;    /* linear: the shape that was flattened ({features, 1, 1} where none was) */
    int64_t size;         /* conv: kernel edge (odd, stride 1, zero padding 'same'); pools: window and stride */
    char name[24];        /* "conv1", "linear1", "out"; "" without parameters */
    int64_t weight, bias; /* offsets in the flat vector; -1 without parameters */
    int64_t weight_count, bias_count; /* conv: out*in*size*size and out; linear: out*in and out; else 0 */
} hsgd_layer;

/* k arrays, `stride` reals apart; stride 0: one array that serves all k. */
typedef struct {
    void *data;
    int64_t stride;
} hsgd_columns;

/* One group's share of the loss. */
typedef struct {
    double loss;     /* sum of the samples' cross-entropies, nats */
    int64_t correct; /* samples whose largest logit (lowest index on ties) is the label */
} hsgd_group_loss;

typedef hsgd_status (*hsgd_group_body)(void *context, int worker, int64_t group, hsgd_error *err);

/* Required tier.  `worker` is the index that for_groups handed out; kernels with different workers may run at once.
 * Errors of all: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
typedef struct {
    const char *name; /* "cpu", "cuda" */
    void (*destroy)(void *self);

    /* memory: `bytes` of zeroed memory, 64-byte aligned; copies between host and backend */
    hsgd_status (*alloc)(void *self, size_t bytes, void **out, hsgd_error *err);
    void (*release)(void *self, void *memory); /* accepts NULL */
    hsgd_status (*upload)(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err);
    hsgd_status (*download)(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err);
    hsgd_status (*zero)(void *self, int worker, size_t bytes, void *memory, hsgd_error *err);

    /* Call body(context, worker, g) for g = 0 .. count - 1, spread over the workers, each g once; returns when all are
     * done, with the failure of the lowest g.  spread_fixed: worker w always gets the same g (fast mode). */
    hsgd_status (*for_groups)(void *self, int64_t count, bool spread_fixed, hsgd_group_body body, void *context,
                              hsgd_error *err);

    /* The order in which the backend wants a layer's weight: backend weight[i] = canonical weight[order[i]].
     * order: [layer->weight_count], filled.  Canonical is C order: conv [out][in][y][x], linear [out][in] with the
     * inputs in (channel, y, x) order.  Biases are never reordered.  NULL slot: canonical. */
    void (*weight_order)(void *self, const hsgd_layer *layer, int64_t *order);

    /* Pixels of samples index[0..m) out of `pixels` ([samples][count] bytes, host memory) as reals in x:
     * ((float)byte / 255.0f - mean) / deviation, computed in float. */
    hsgd_status (*images)(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m, const int64_t *index,
                          float mean, float deviation, void *x, hsgd_error *err);

    /* conv and linear: for each column j < k
     *   value:          y_j  = (add ? y_j : 0) + W_j x_j + b_j     (b.data NULL: no bias)
     *   adjoint_input:  dx_j = (add ? dx_j : 0) + W_j' dy_j
     *   adjoint_weight: dw_j += dy_j x_j', db_j += sum of dy_j     (db.data NULL: no bias)
     * summed over the m samples where a weight is the result.  Zeros in dy may be skipped. */
    hsgd_status (*affine_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                hsgd_columns w, hsgd_columns b, hsgd_columns y, bool add, hsgd_error *err);
    hsgd_status (*affine_adjoint_input)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                        hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err);
    hsgd_status (*affine_adjoint_weight)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                         hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                         hsgd_error *err);

    /* relu: y = max(x, 0); derivative: out_j = t_j where y > 0, else 0 (tangent and adjoint alike).
     * tanh: y = tanh(x);   derivative: out_j = (1 - y^2) t_j.
     * tanh_second: dx_j += -2 y ty_j dy, ty_j the tangent of y, dy the adjoint of y (one column).
     * count: reals per column (m samples).  Input and output may be the same memory. */
    hsgd_status (*relu_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err);
    hsgd_status (*relu_derivative)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                   hsgd_columns out, hsgd_error *err);
    hsgd_status (*tanh_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err);
    hsgd_status (*tanh_derivative)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                   hsgd_columns out, hsgd_error *err);
    hsgd_status (*tanh_second)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns ty,
                               const void *dy, hsgd_columns dx, hsgd_error *err);

    /* maxpool_value: y and choice [m * out] (int32: which of the window's size*size places, row order; the first of
     * equals wins).  maxpool_tangent: ty_j = tx_j at the choice.  maxpool_adjoint: dx_j = dy_j at the choice, else 0.
     * Rows and columns beyond the last whole window are dropped (their adjoint is 0). */
    hsgd_status (*maxpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, const void *x, void *y,
                                 int32_t *choice, hsgd_error *err);
    hsgd_status (*maxpool_tangent)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                   const int32_t *choice, hsgd_columns tx, hsgd_columns ty, hsgd_error *err);
    hsgd_status (*maxpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                   const int32_t *choice, hsgd_columns dy, hsgd_columns dx, hsgd_error *err);
    hsgd_status (*avgpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                 hsgd_columns y, hsgd_error *err);
    hsgd_status (*avgpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                   hsgd_columns dy, hsgd_columns dx, hsgd_error *err);

    /* z: logits [m][classes]; labels: [samples] bytes in host memory, label of sample i of the group is
     * labels[index[i]].  p: [m][classes] softmax; delta: p - onehot, the adjoint of the summed loss.  Sums in double.
     * confusion: [classes][classes] counts by (label, prediction), added to; NULL: not wanted. */
    hsgd_status (*softmax_loss)(void *self, int worker, int64_t m, int64_t classes, const void *z,
                                const uint8_t *labels, const int64_t *index, void *p, void *delta, hsgd_group_loss *out,
                                int64_t *confusion, hsgd_error *err);
    /* tdelta_j = p (tz_j - p'tz_j): tangent of delta, also the Gauss-Newton core applied to tz_j. */
    hsgd_status (*softmax_tangent)(void *self, int worker, int64_t m, int64_t classes, int64_t k, const void *p,
                                   hsgd_columns tz, hsgd_columns tdelta, hsgd_error *err);

    /* Add the group's result x[count] to a worker's sum.  reproducible: sum is int64 [2*count + 1]: high words, low
     * words, number of addends out of range (base/sum.h).  fast: sum is double [count] and scale is not used. */
    hsgd_status (*accumulate)(void *self, int worker, hsgd_reduction reduction, int64_t count, const void *x,
                              double scale, void *sum, hsgd_error *err);
    /* The sum of the workers' sums, sums[0..workers), in host memory: out [2*count + 1] or [count] as above. */
    hsgd_status (*merge)(void *self, hsgd_reduction reduction, int64_t count, int workers, void *const *sums, void *out,
                         hsgd_error *err);

    /* Double-precision vector algebra on columns of `rows` rows (leading dimensions ldx, ldy; backend memory), in
     * blocks of `block` rows (the last may be shorter), each block a call of fixed shape.
     * gram:   partial[b][i][j] = x_i' y_j over block b; partial in host memory, [ceil(rows/block)][kx][ky].
     * update: y_j += sum over i of x_i c[i][j]; c in host memory, [kx][ky]. */
    hsgd_status (*gram)(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx, int64_t ky,
                        const double *y, int64_t ldy, double *partial, hsgd_error *err);
    hsgd_status (*update)(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx,
                          const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err);
} hsgd_backend_ops;

/* Optional tier: fused whole passes; a NULL slot means model/pass.c composes them.  (No backend fills it yet.) */

typedef struct {
    const hsgd_backend_ops *ops;
    void *self;
    hsgd_precision precision;
    int workers;              /* how many groups are in flight at once */
    int64_t group;            /* samples in a group, fixed per backend; written to every file */
    char instruction_set[32]; /* "avx512", "avx2", "generic"; bits are the same for one of them */
} hsgd_backend;

/* Bytes of one real.  Local. */
static inline size_t hsgd_real_size(hsgd_precision p)
{
    return p == HSGD_DOUBLE ? sizeof(double) : sizeof(float);
}

/* End *backend and set it to NULL; accepts NULL.  Local. */
void hsgd_backend_destroy(hsgd_backend **backend);
