/* src/curvature/linop.c - see linop.h. */
#include "curvature/linop.h"
#include <stdlib.h>

struct hsgd_linop {
    const hsgd_space *space;
    const hsgd_linop_ops *ops;
    void *self;
    int64_t products;
};

hsgd_status hsgd_linop_create(const hsgd_space *space, const hsgd_linop_ops *ops, void *self, hsgd_linop **out,
                              hsgd_error *err)
{
    hsgd_linop *op = calloc(1, sizeof *op);

    *out = op;
    if (op == NULL) { /* `ops` may go with `self` */
        const hsgd_status st =
            hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the operator '%s'", ops->name);

        if (ops->destroy != NULL) {
            ops->destroy(self);
        }
        return st;
    }
    *op = (hsgd_linop){.space = space, .ops = ops, .self = self};
    return HSGD_OK;
}

static bool fits(const hsgd_space *space, const hsgd_vector *x)
{
    return x->space->n == space->n && x->space->low == space->low && x->space->high == space->high;
}

hsgd_status hsgd_linop_apply(hsgd_linop *op, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(fits(op->space, x) && fits(op->space, y), HSGD_ERR_USAGE, err,
               "%s: the vectors are not of the operator's space; make them on hsgd_linop_space", op->ops->name);
    HSGD_CHECK(x->columns == y->columns, HSGD_ERR_USAGE, err, "%s: %lld columns in, %lld out; give as many",
               op->ops->name, (long long)x->columns, (long long)y->columns);
    HSGD_CHECK(x != y && (x->data == NULL || x->data != y->data), HSGD_ERR_USAGE, err,
               "%s: the product would overwrite its operand; give another vector", op->ops->name);
    op->products += x->columns;
    HSGD_TRY(op->ops->apply(op->self, x, y, err));
done:
    return st;
}

int64_t hsgd_linop_products(const hsgd_linop *op)
{
    return op->products;
}

const hsgd_space *hsgd_linop_space(const hsgd_linop *op)
{
    return op->space;
}

const char *hsgd_linop_name(const hsgd_linop *op)
{
    return op->ops->name;
}

void hsgd_linop_destroy(hsgd_linop **op)
{
    if (op == NULL || *op == NULL) {
        return;
    }
    if ((*op)->ops->destroy != NULL) {
        (*op)->ops->destroy((*op)->self);
    }
    free(*op);
    *op = NULL;
}
