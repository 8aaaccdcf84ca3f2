/* src/curvature/block.h - a diagonal block P'AP of an operator: its rows and columns in some ranges of the parameters. */
#pragma once
#include "curvature/linop.h"

/* Places [first, first + count) of the full vector. */
typedef struct {
    int64_t first, count;
} hsgd_range;

/* The rows of a block, in order: ranges ascend and do not overlap.  Borrowed, the same on all ranks. */
typedef struct {
    const hsgd_range *ranges;
    int64_t count;
} hsgd_selection;

/* Rows of the block.  Local. */
int64_t hsgd_selection_rows(const hsgd_selection *selection);

/* full [columns][n] = 0 but for the selected places, which are small's [columns][m] in turn; and back, where
 * small may be full.  Local. */
void hsgd_selection_embed(const hsgd_selection *selection, int64_t columns, int64_t n, const double *small,
                          double *full);
void hsgd_selection_restrict(const hsgd_selection *selection, int64_t columns, int64_t n, const double *full,
                             double *small);

/* The block of `inner` on `space`, which has hsgd_selection_rows rows.  Its products have the bits of the rows of
 * inner's, its name is inner's; up to `columns` vectors (0: 8) go to inner at once.
 * inner: the block's, also when this call fails.  selection: copied.  space: borrowed, must outlive the block.
 * Collective.  Errors: HSGD_ERR_USAGE (the selection does not fit the spaces), HSGD_ERR_MEMORY. */
hsgd_status hsgd_block_create(hsgd_linop *inner, const hsgd_selection *selection, const hsgd_space *space,
                              int64_t columns, hsgd_linop **out, hsgd_error *err);
