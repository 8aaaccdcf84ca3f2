/* src/curvature/linop.h - a symmetric linear operator, all that a solver ever learns of a model. */
#pragma once
#include "algebra/vector.h"
#include "base/error.h"

typedef struct hsgd_linop hsgd_linop; /* made by create, ended by destroy */

/* What an implementation supplies. */
typedef struct {
    const char *name; /* in messages and files: "hessian", "gauss-newton" */
    hsgd_status (*apply)(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err);
    void (*destroy)(void *self); /* optional: NULL where self is borrowed */
} hsgd_linop_ops;

/* Make an operator on `space`.
 * space, ops: borrowed, must outlive the operator.  self: owned by it, also when this call fails.
 * Local.  Errors: HSGD_ERR_MEMORY (*out stays NULL). */
hsgd_status hsgd_linop_create(const hsgd_space *space, const hsgd_linop_ops *ops, void *self, hsgd_linop **out,
                              hsgd_error *err);

/* Y = A X for all k columns of X in one sweep over the samples.
 * X, Y: [n, k], rows spread over the ranks as `space` says, distinct; Y is overwritten.
 * Unit of A: nats per squared parameter.  Collective: every rank calls it, with the same k.
 * Errors, the same on every rank: HSGD_ERR_NUMERIC (Y would hold NaN or Inf), HSGD_ERR_DEVICE, HSGD_STOPPED.
 * Source: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6(1), 1994,
 * doi:10.1162/neco.1994.6.1.147. */
hsgd_status hsgd_linop_apply(hsgd_linop *op, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err);

/* Columns that apply has been given so far; the operator's space; its name.  Local. */
int64_t hsgd_linop_products(const hsgd_linop *op);
const hsgd_space *hsgd_linop_space(const hsgd_linop *op);
const char *hsgd_linop_name(const hsgd_linop *op);

/* End *op and set it to NULL; *op may be NULL already.  Local.  Cannot fail. */
void hsgd_linop_destroy(hsgd_linop **op);
