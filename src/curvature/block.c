/* src/curvature/block.c - see block.h.  Rows of the block live on other ranks than in the full space: columns pass
 * through the host, whole on every rank. */
#include "curvature/block.h"
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_COLUMNS = 8 };

typedef struct {
    hsgd_linop_ops ops; /* with the name of `inner`, for messages and files */
    hsgd_linop *inner;  /* owned */
    hsgd_selection selection;
    hsgd_range *ranges; /* owned: selection's */
    const hsgd_space *space;
    int64_t columns;        /* at most in one go */
    hsgd_vector *from, *to; /* [n, columns] on inner's space */
    double *full, *small;   /* [columns][n], [columns][m] host */
} block;

int64_t hsgd_selection_rows(const hsgd_selection *selection)
{
    int64_t rows = 0;

    for (int64_t i = 0; i < selection->count; i++) {
        rows += selection->ranges[i].count;
    }
    return rows;
}

void hsgd_selection_embed(const hsgd_selection *selection, int64_t columns, int64_t n, const double *small,
                          double *full)
{
    memset(full, 0, (size_t)(columns * n) * sizeof *full);
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < selection->count; i++) {
            const hsgd_range *range = &selection->ranges[i];

            memcpy(full + j * n + range->first, small, (size_t)range->count * sizeof *small);
            small += range->count;
        }
    }
}

void hsgd_selection_restrict(const hsgd_selection *selection, int64_t columns, int64_t n, const double *full,
                             double *small)
{
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < selection->count; i++) {
            const hsgd_range *range = &selection->ranges[i];

            memmove(small, full + j * n + range->first, (size_t)range->count * sizeof *small);
            small += range->count;
        }
    }
}

static hsgd_status apply_chunk(block *b, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t k = x->columns, n = b->from->space->n;
    hsgd_vector from = hsgd_vector_view(b->from, 0, k), to = hsgd_vector_view(b->to, 0, k);

    HSGD_TRY(hsgd_vector_gather(x, b->small, err));
    hsgd_selection_embed(&b->selection, k, n, b->small, b->full);
    st = hsgd_vector_set_full(&from, b->full, err);
    HSGD_TRY(hsgd_comm_agree(b->space->comm, st, err));
    HSGD_TRY(hsgd_linop_apply(b->inner, &from, &to, err));
    HSGD_TRY(hsgd_vector_gather(&to, b->full, err));
    hsgd_selection_restrict(&b->selection, k, n, b->full, b->small);
    st = hsgd_vector_set_full(y, b->small, err);
    HSGD_TRY(hsgd_comm_agree(b->space->comm, st, err));
done:
    return st;
}

static hsgd_status apply(void *self, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    block *b = self;

    for (int64_t first = 0; first < x->columns; first += b->columns) {
        const int64_t k = x->columns - first < b->columns ? x->columns - first : b->columns;
        const hsgd_vector from = hsgd_vector_view(x, first, k);
        hsgd_vector to = hsgd_vector_view(y, first, k);

        HSGD_TRY(apply_chunk(b, &from, &to, err));
    }
done:
    return st;
}

static void destroy(void *self)
{
    block *b = self;

    hsgd_vector_destroy(&b->from);
    hsgd_vector_destroy(&b->to);
    hsgd_linop_destroy(&b->inner);
    free(b->ranges);
    free(b->full);
    free(b->small);
    free(b);
}

static bool fits(const hsgd_selection *selection, int64_t n, int64_t m)
{
    int64_t end = 0;

    for (int64_t i = 0; i < selection->count; i++) {
        const hsgd_range *range = &selection->ranges[i];

        if (range->count < 1 || range->first < end || range->count > n - range->first) {
            return false;
        }
        end = range->first + range->count;
    }
    return hsgd_selection_rows(selection) == m;
}

static hsgd_status create(block *b, const hsgd_selection *selection, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_space *whole = hsgd_linop_space(b->inner);
    const size_t k = (size_t)b->columns, bytes = (size_t)selection->count * sizeof *b->ranges;

    HSGD_CHECK(fits(selection, whole->n, b->space->n), HSGD_ERR_USAGE, err,
               "curvature: the ranges of a block must ascend within the %lld parameters and fill its space of %lld",
               (long long)whole->n, (long long)b->space->n);
    b->ranges = malloc(bytes);
    b->full = malloc(k * (size_t)whole->n * sizeof *b->full);
    b->small = malloc(k * (size_t)b->space->n * sizeof *b->small);
    HSGD_CHECK(b->ranges != NULL && b->full != NULL && b->small != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot allocate the block's buffers");
    memcpy(b->ranges, selection->ranges, bytes);
    b->selection = (hsgd_selection){.ranges = b->ranges, .count = selection->count};
    HSGD_TRY(hsgd_vector_create(whole, b->columns, &b->from, err));
    HSGD_TRY(hsgd_vector_create(whole, b->columns, &b->to, err));
done:
    return st;
}

hsgd_status hsgd_block_create(hsgd_linop *inner, const hsgd_selection *selection, const hsgd_space *space,
                              int64_t columns, hsgd_linop **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    block *b = calloc(1, sizeof *b);

    *out = NULL;
    if (b == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the block");
        hsgd_linop_destroy(&inner);
    } else {
        b->inner = inner;
        b->ops = (hsgd_linop_ops){.name = hsgd_linop_name(inner), .apply = apply, .destroy = destroy};
        b->space = space;
        b->columns = columns > 0 ? columns : DEFAULT_COLUMNS;
        st = create(b, selection, err);
    }
    if (st == HSGD_OK) {
        st = hsgd_linop_create(space, &b->ops, b, out, err);
        b = NULL; /* the operator's, also on failure */
    }
    st = hsgd_comm_agree(space->comm, st, err);
    if (st != HSGD_OK) {
        hsgd_linop_destroy(out);
    }
    if (b != NULL) {
        destroy(b);
    }
    return st;
}
