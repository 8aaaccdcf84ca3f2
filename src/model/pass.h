/* src/model/pass.h - forward, adjoint and tangent passes of one group of samples, composed from backend kernels.
 * Parameter vectors here are reals in backend memory and backend order ([n], see hsgd_network_order).
 * All calls with different workers may run at once.  Errors of all: HSGD_ERR_DEVICE. */
#pragma once
#include "model/layers.h"

typedef struct hsgd_pass hsgd_pass;

/* The samples of a group; all in backend memory. */
typedef struct {
    const uint8_t *pixels; /* [samples][pixels of one], held */
    const uint8_t *labels; /* [samples], held */
    const int64_t *index;  /* [m] */
    int64_t m;             /* 1 <= m <= samples of the pass */
    float mean, deviation; /* of the normalisation; 0 and 1: none */
} hsgd_group;

/* Plan the passes of `network` on `backend` for groups of at most `samples` samples and at most `columns` tangent vectors
 * at once; takes all scratch memory.  Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_pass_create(const hsgd_network *network, const hsgd_backend *backend, int64_t samples, int64_t columns,
                             hsgd_pass **out, hsgd_error *err);
void hsgd_pass_destroy(hsgd_pass **pass);

/* Bytes of the base state of one group (activations, pooling choices, softmax, delta at the logits, adjoints of the
 * loss): a block of backend memory that the caller provides, one per worker or one per kept group.  Local. */
size_t hsgd_pass_state_bytes(const hsgd_pass *pass);

/* Bytes of a base state and of a worker's scratch memory that such passes would take; nothing is taken.  Local.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_pass_measure(const hsgd_network *network, const hsgd_backend *backend, int64_t samples,
                              int64_t columns, size_t *state, size_t *scratch, hsgd_error *err);

/* Forward pass at `params`; fills `state`; tally [HSGD_TALLIES_OF_LOSS] gets the group's sums.  tally and confusion (may
 * be NULL) as in softmax_loss: backend memory. */
hsgd_status hsgd_pass_base(hsgd_pass *pass, int worker, const void *params, const hsgd_group *group, void *state,
                           double *tally, int64_t *confusion, hsgd_error *err);

/* The group's losses at k points params [k][n], the images read once where the first layer has parameters: tallies [k][HSGD_TALLIES_OF_LOSS].  states: k
 * blocks, one behind the other, of which nothing is kept for the calls below.  confusion (may be NULL) counts the
 * predictions at all points. */
hsgd_status hsgd_pass_losses(hsgd_pass *pass, int worker, const void *params, int64_t k, const hsgd_group *group,
                             void *states, double *tallies, int64_t *confusion, hsgd_error *err);

/* As base, with every ReLU and pooling choice taken from `frozen` (the state of another base pass on the same group)
 * instead of from the values: the smooth function whose Hessian the almost-everywhere Hessian is. */
hsgd_status hsgd_pass_base_frozen(hsgd_pass *pass, int worker, const void *params, const hsgd_group *group,
                                  const void *frozen, void *state, double *tally, hsgd_error *err);

/* gradient[n] (overwritten) of the group's summed loss; state from base at the same params, here and below of the same
 * m samples. */
hsgd_status hsgd_pass_gradient(hsgd_pass *pass, int worker, const void *params, int64_t m, const void *state,
                               void *gradient, hsgd_error *err);

/* The same for a state from base_frozen, with the choices of the same `frozen`: a value that was let through by them
 * may be negative, so the state alone does not tell. */
hsgd_status hsgd_pass_gradient_frozen(hsgd_pass *pass, int worker, const void *params, int64_t m, const void *frozen,
                                      const void *state, void *gradient, hsgd_error *err);

typedef enum { HSGD_OPERATOR_HESSIAN, HSGD_OPERATOR_GAUSS_NEWTON } hsgd_operator;

/* Complete a state from base, at the same params, for products with the Hessian: the adjoints of the loss, which all
 * products share. */
hsgd_status hsgd_pass_base_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, void *state,
                                   hsgd_error *err);

/* products[k][n] (overwritten) = (Hessian or Gauss-Newton matrix of the group's summed loss) times tangents[k][n];
 * k <= columns.  state: from base and, for the Hessian, base_adjoint. */
hsgd_status hsgd_pass_products(hsgd_pass *pass, int worker, hsgd_operator kind, const void *params, int64_t m,
                               int64_t k, const void *tangents, const void *state, void *products, hsgd_error *err);

/* result[k][n] (overwritten) = J' u_j for u [k][m][classes] in backend memory: adjoints of chosen logit directions;
 * k <= columns. */
hsgd_status hsgd_pass_output_adjoint(hsgd_pass *pass, int worker, const void *params, int64_t m, int64_t k,
                                     const void *u, const void *state, void *result, hsgd_error *err);

/* Where the softmax probabilities [m][classes] stand in a state (backend memory).  Local. */
const void *hsgd_pass_probabilities(const hsgd_pass *pass, const void *state);
