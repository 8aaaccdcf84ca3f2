/* src/backend.h - what a device must be able to do; CPU and CUDA implement it, the CPU is the reference.
 *
 * Reals are `float` or `double` as the backend's precision says.  *Backend memory* is what `alloc` gives out: host memory
 * on the CPU, device memory on a GPU; every pointer here points there unless it is said to be host memory.  Work comes
 * in *groups* of consecutive samples, handled by one worker with calls of fixed shape, so that no result depends on
 * ranks or threads.  Activations are in a layout of the backend's own choice (only images, logits and flat parameter
 * vectors are fixed); m is the number of samples of a group, k of tangent vectors.
 *
 * A call may return before its work is done: all work of a backend is carried out in the order of the calls (those of
 * one worker inside for_groups), and only `download` waits for it.  A failure of the device may therefore be reported by
 * a later call.
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

/* A gated convolution: with the max-pooling behind it and, before or after the pooling, a ReLU. */
typedef struct {
    const hsgd_layer *conv, *pool;
    bool relu;
} hsgd_gated;

enum { HSGD_GATED_TERMS = 2 }; /* most in a sum */

/* k arrays, `stride` reals apart; stride 0: one array that serves all k (inputs only).  Arrays of activations begin at
 * multiples of 64 bytes; of weights, wherever a real may stand. */
typedef struct {
    void *data;
    int64_t stride;
} hsgd_columns;

/* A group's share of the loss: numbers in backend memory. */
enum {
    HSGD_TALLY_LOSS,    /* sum of the samples' cross-entropies, nats */
    HSGD_TALLY_CORRECT, /* samples whose largest logit (lowest index on ties) is the label */
    HSGD_TALLIES_OF_LOSS
};

/* One step of gradient descent with momentum; see solve/sgd.h for the rule. */
typedef struct {
    double lr, weight_decay, momentum, dampening;
    bool nesterov;
    bool first;           /* of all: the momentum buffer begins */
    bool round_to_single; /* the new weights are rounded to float */
} hsgd_sgd_rule;

/* A vector of norm beyond 2^HSGD_MOST_EXPONENT becomes NaN in `narrow`: what is left to 2^1024 holds the product. */
enum { HSGD_MOST_EXPONENT = 900 };

typedef hsgd_status (*hsgd_group_body)(void *context, int worker, int64_t group, hsgd_error *err);

/* `worker` is the index that for_groups handed out; kernels with different workers may run at once.
 * Errors of all: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
typedef struct {
    const char *name; /* "cpu", "cuda" */
    void (*destroy)(void *self);

    /* memory: `bytes` of zeroed memory, 64-byte aligned.  upload: the host memory may be reused at once.  download: waits
     * for all work so far.  copy: from and to do not overlap.  zero and copy are in the order of `worker`. */
    hsgd_status (*alloc)(void *self, size_t bytes, void **out, hsgd_error *err);
    void (*release)(void *self, void *memory); /* accepts NULL */
    hsgd_status (*upload)(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err);
    hsgd_status (*download)(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err);
    hsgd_status (*zero)(void *self, int worker, size_t bytes, void *memory, hsgd_error *err);
    hsgd_status (*copy)(void *self, int worker, size_t bytes, const void *from, void *to, hsgd_error *err);

    /* `bytes` of host memory, which nobody changes until let_go, where kernels can read them: *memory is `host` itself or
     * a copy on the device; who holds the same host memory again shares it.  let_go: `host` as held; accepts NULL. */
    hsgd_status (*hold)(void *self, size_t bytes, const void *host, const void **memory, hsgd_error *err);
    void (*let_go)(void *self, const void *host);

    /* Host memory for `download` at full speed (pinned), and its end (accepts NULL).  NULL slots where
     * backend memory is host memory. */
    hsgd_status (*staging_alloc)(void *self, size_t bytes, void **host, hsgd_error *err);
    void (*staging_release)(void *self, void *host);

    /* Bytes of backend memory that are free now, and in all.  NULL slot: the host's. */
    hsgd_status (*memory)(void *self, size_t *free, size_t *total, hsgd_error *err);

    /* Call body(context, worker, g) for g = 0 .. count - 1, spread over the workers, each g once; returns when all are
     * done, with the failure of the lowest g.  Worker 0 is the caller's thread.  spread_fixed: worker w always gets the
     * same g (fast mode). */
    hsgd_status (*for_groups)(void *self, int64_t count, bool spread_fixed, hsgd_group_body body, void *context,
                              hsgd_error *err);

    /* The order in which the backend wants a layer's weight: backend weight[i] = canonical weight[order[i]].
     * order: [layer->weight_count], filled.  Canonical is C order: conv [out][in][y][x], linear [out][in] with the
     * inputs in (channel, y, x) order.  Biases are never reordered.  NULL slot: canonical. */
    void (*weight_order)(void *self, const hsgd_layer *layer, int64_t *order);

    /* Pixels of samples index[0..m) out of `pixels` ([samples][count] bytes, held) as reals in x:
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

    /* z: logits [m][classes]; labels: [samples] bytes, held; label of sample i of the group is labels[index[i]].
     * p: [m][classes] softmax; delta: p - onehot, the adjoint of the summed loss.  Sums in double, in the order of the
     * samples or by a tree that m alone decides.  tally: [HSGD_TALLIES_OF_LOSS], overwritten.
     * confusion: [classes][classes] counts by (label, prediction), added to; NULL: not wanted. */
    hsgd_status (*softmax_loss)(void *self, int worker, int64_t m, int64_t classes, const void *z,
                                const uint8_t *labels, const int64_t *index, void *p, void *delta, double *tally,
                                int64_t *confusion, hsgd_error *err);
    /* tdelta_j = p (tz_j - p'tz_j): tangent of delta, also the Gauss-Newton core applied to tz_j. */
    hsgd_status (*softmax_tangent)(void *self, int worker, int64_t m, int64_t classes, int64_t k, const void *p,
                                   hsgd_columns tz, hsgd_columns tdelta, hsgd_error *err);

    /* out_j[c] = sqrt(p_b) ((c == b) - p_c), b = first + j, for j < k: columns of a square root of the softmax's Hessian
     * diag(p) - p p' of one sample.  p: [classes]; out: [k][classes]; computed in double. */
    hsgd_status (*softmax_root)(void *self, int worker, int64_t classes, int64_t first, int64_t k, const void *p,
                                void *out, hsgd_error *err);
    /* *out += the sum of x_j[i]^2 over i < count and j < k, in double. */
    hsgd_status (*squares)(void *self, int worker, int64_t count, int64_t k, hsgd_columns x, double *out,
                           hsgd_error *err);

    /* Add x[count] (reals; doubles in accumulate_double) to a worker's sum.  reproducible: sum is int64 [2*count + 1]:
     * high words, low words, number of addends out of range (base/sum.h).  fast: sum is double [count] and scale is not
     * used. */
    hsgd_status (*accumulate)(void *self, int worker, hsgd_reduction reduction, int64_t count, const void *x,
                              double scale, void *sum, hsgd_error *err);
    hsgd_status (*accumulate_double)(void *self, int worker, hsgd_reduction reduction, int64_t count, const double *x,
                                     double scale, void *sum, hsgd_error *err);
    /* out[words] = the sum of sums[0..workers)[words], in that order: int64 (reproducible) or double (fast).  sums: host
     * array of pointers to backend memory; out is none of them. */
    hsgd_status (*merge)(void *self, hsgd_reduction reduction, int64_t words, int workers, void *const *sums, void *out,
                         hsgd_error *err);

    /* to[i] = from[index[i]] for i < count, entries of 8 bytes; from and to do not overlap. */
    hsgd_status (*permute)(void *self, int64_t count, const int64_t *index, const void *from, void *to,
                           hsgd_error *err);

    /* exponents[j]: the power of two that brings x_j[n] to a norm in [1/2, 1): norm(x_j) 2^-exponent; 0 where x_j is zero
     * or not finite.  No square overflows or vanishes on the way.
     * narrow: out_j[i] = the real nearest to x_j[order[i]] 2^-exponents[j]; NaN where exponents[j] exceeds
     *   HSGD_MOST_EXPONENT.
     * expand: y_j[i] = 2^exponents[j] times (number (i, j) divided by `divisor`).  words: [rows][k] numbers; reproducible:
     *   two int64 each, high and low, accumulated with `scale`; fast: one double each.
     * exponents: [k], NULL: 0 (in the last two); x: [k][n]; y_j = y + j * ldy. */
    hsgd_status (*exponents)(void *self, int64_t n, int64_t k, const double *x, int32_t *exponents, hsgd_error *err);
    hsgd_status (*narrow)(void *self, int64_t n, int64_t k, const double *x, const int64_t *order,
                          const int32_t *exponents, void *out, hsgd_error *err);
    hsgd_status (*expand)(void *self, hsgd_reduction reduction, int64_t rows, int64_t k, const void *words,
                          double scale, double divisor, const int32_t *exponents, double *y, int64_t ldy,
                          hsgd_error *err);

    /* *out += how many of x[count] do not have |x| <= limit; NaN counts. */
    hsgd_status (*count_beyond)(void *self, int64_t count, const double *x, double limit, double *out, hsgd_error *err);

    /* One step of gradient descent on p[n] and momentum[n] with gradient g[n], in double; nothing changes where *halted is
     * not 0.  momentum is neither read nor written where the rule has none. */
    hsgd_status (*sgd_update)(void *self, const hsgd_sgd_rule *rule, int64_t n, const double *g, const double *halted,
                              double *p, double *momentum, hsgd_error *err);

    /* Double-precision vector algebra on columns of `rows` rows (leading dimensions ldx, ldy), in blocks of `block` rows
     * (the last may be shorter); the bits of a block depend on nothing but its rows, kx and ky.  block 0: all rows are one
     * block, by whatever way is fastest.
     * gram:       partial[b][i][j] = x_i' y_j over block b; partial: [blocks][kx][ky].
     * add_blocks: g[i] = partial[0][i] + partial[1][i] + ..., in this order, i < products.
     * update:     y_j += a * sum over i of x_i c[i][j]; c: [kx][ky]. */
    hsgd_status (*gram)(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx, int64_t ky,
                        const double *y, int64_t ldy, double *partial, hsgd_error *err);
    hsgd_status (*add_blocks)(void *self, int64_t blocks, int64_t products, const double *partial, double *g,
                              hsgd_error *err);
    hsgd_status (*update)(void *self, int64_t rows, int64_t block, double a, int64_t kx, const double *x, int64_t ldx,
                          const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err);

    /* Optional, all five slots or none: gated convolutions in one step each.  Once the weights are fixed such layers are
     * linear, and mostly shut: an output y passes on a derivative only where its window's largest value is positive
     * (anywhere, without a ReLU), and only from the one place of the convolution that won.  `gates` tell both of every
     * output.  x: [m] inputs of the convolution; y, dy: [m] outputs of the pooling.
     *
     * gates_bytes: of the gates of m samples; 0: this one is better computed layer by layer.
     * gated_base:  y_j of x_j at weight w_j and bias b_j, for j < k; fills the gates, unless NULL, of k = 1.  Ties as in
     *              maxpool_value.
     * Then, at the gates, for `terms` (1 or 2) pairs of operands:
     *   gated_value:          y  = sum over t of W_t x_t, + b, where a gate is open, else 0   (b NULL: no bias)
     *   gated_adjoint_input:  dx = sum over t of W_t' dy_t
     *   gated_adjoint_weight: dw += sum over t of dy_t x_t', db += sum of dy_0                (db NULL: no bias)
     * dy counts only where a gate is open; all operands are finite.  m as it was in gated_base: gates of some samples
     * are not the first of those of more. */
    size_t (*gates_bytes)(void *self, const hsgd_gated *gated, int64_t m);
    hsgd_status (*gated_base)(void *self, int worker, const hsgd_gated *gated, int64_t m, int64_t k, hsgd_columns x,
                              hsgd_columns w, hsgd_columns b, hsgd_columns y, void *gates, hsgd_error *err);
    hsgd_status (*gated_value)(void *self, int worker, const hsgd_gated *gated, int64_t m, const void *gates, int terms,
                               const void *const *x, const void *const *w, const void *b, void *y, hsgd_error *err);
    hsgd_status (*gated_adjoint_input)(void *self, int worker, const hsgd_gated *gated, int64_t m, const void *gates,
                                       int terms, const void *const *dy, const void *const *w, void *dx,
                                       hsgd_error *err);
    hsgd_status (*gated_adjoint_weight)(void *self, int worker, const hsgd_gated *gated, int64_t m, const void *gates,
                                        int terms, const void *const *dy, const void *const *x, void *dw, void *db,
                                        hsgd_error *err);
} hsgd_backend_ops;

typedef struct {
    const hsgd_backend_ops *ops;
    void *self;
    hsgd_precision precision;
    bool host_memory;         /* backend memory is host memory: no copy is needed to send it */
    int workers;              /* how many groups are in flight at once */
    int64_t group;            /* most samples in a group; written to every file */
    int64_t least_group;      /* fewest, but for the last of a set and for small sets; written to every file */
    char instruction_set[32]; /* "avx512", "avx2", "generic", "sm_90"; bits are the same for one of them */
    char device[64];          /* "" or the GPU's name */
    char place[32];           /* "" or which GPU of the node: its bus id */
    char libraries[96];       /* "" or what computes there, with versions; bits may change with them */
    bool tf32;                /* products of floats may be rounded to TF32 */
} hsgd_backend;

/* Samples in a group of a sum over `count` >= 1 samples.  In reproducible mode a function of backend and count alone, so
 * that the bits do not depend on the ranks: an eighth of the set (the GPUs of a common node all have work), within the
 * backend's limits.  In fast mode the largest that gives every rank work.  Local. */
static inline int64_t hsgd_backend_group(const hsgd_backend *backend, hsgd_reduction reduction, int64_t count,
                                         int ranks)
{
    const int64_t shares = reduction == HSGD_REDUCTION_FAST ? ranks : 8;
    const int64_t share = (count + shares - 1) / shares;

    if (share < backend->least_group) {
        return backend->least_group;
    }
    return share < backend->group ? share : backend->group;
}

/* Bytes of one real.  Local. */
static inline size_t hsgd_real_size(hsgd_precision p)
{
    return p == HSGD_DOUBLE ? sizeof(double) : sizeof(float);
}

/* End *backend and set it to NULL; accepts NULL.  Local. */
void hsgd_backend_destroy(hsgd_backend **backend);
