/* src/algebra/vector.h - k columns on a space, in double.  Column j of the local rows is data + j * rows.
 * In reproducible mode every result is the same for any number of ranks: products are formed in fixed blocks of rows
 * and added in the order of the blocks. */
#pragma once
#include "algebra/space.h"
#include "base/random.h"

typedef struct {
    const hsgd_space *space; /* borrowed */
    int64_t columns;
    double *data; /* [columns][rows], backend memory */
    bool owner;   /* false for a view */
} hsgd_vector;

/* Make a zero vector of `columns` columns; a clone of another's shape and content.  Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_vector_create(const hsgd_space *space, int64_t columns, hsgd_vector **out, hsgd_error *err);
hsgd_status hsgd_vector_clone(const hsgd_vector *x, hsgd_vector **out, hsgd_error *err);
void hsgd_vector_destroy(hsgd_vector **x);

/* Columns [first, first + count) of x without a copy; valid while x is.  Local. */
hsgd_vector hsgd_vector_view(const hsgd_vector *x, int64_t first, int64_t count);

/* y = x; y += a x; x = a x; x and y exchange contents (same space and columns, neither a view).
 * Local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_vector_copy(const hsgd_vector *x, hsgd_vector *y, hsgd_error *err);
hsgd_status hsgd_vector_axpy(double a, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err);
hsgd_status hsgd_vector_scale(double a, hsgd_vector *x, hsgd_error *err);
void hsgd_vector_swap(hsgd_vector *x, hsgd_vector *y);

/* g[i][j] = x_i' y_j, [x columns][y columns], identical on all ranks; one collective call for all of them.
 * Collective on a spread space, else local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_vector_gram(const hsgd_vector *x, const hsgd_vector *y, double *g, hsgd_error *err);

/* y_j += a * sum over i of x_i c[i][j], c: [x columns][y columns], the same on all ranks; x and y do not overlap.
 * Local.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_vector_update(double a, const hsgd_vector *x, const double *c, hsgd_vector *y, hsgd_error *err);

/* y = y - X (X'y) for the orthonormal columns of x and a single column y, in two passes; coefficients [2 k + 1] (host):
 * the first k get both passes' sum, the rest is overwritten; *norm: of what is left.  The host waits once.
 * Collective as gram.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_vector_orthogonalize(const hsgd_vector *x, hsgd_vector *y, double *coefficients, double *norm,
                                      hsgd_error *err);

/* y_j = y_j - X (X'y_j) for the orthonormal columns of x and every column of y, in two passes, each with one reduction
 * for all columns; c [x columns][y columns] (host): both passes' sum.  scratch: [x columns * y columns] (host).  The host
 * waits twice.  Collective as gram.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_vector_project_out(const hsgd_vector *x, hsgd_vector *y, double *c, double *scratch, hsgd_error *err);

/* x'y, norm(x) of single columns (longer vectors: over all columns together is an error of the caller).
 * Collective as gram.  normalize: x /= norm(x); HSGD_ERR_NUMERIC where the norm is 0 or not finite. */
hsgd_status hsgd_vector_dot(const hsgd_vector *x, const hsgd_vector *y, double *dot, hsgd_error *err);
hsgd_status hsgd_vector_norm(const hsgd_vector *x, double *norm, hsgd_error *err);
hsgd_status hsgd_vector_normalize(hsgd_vector *x, hsgd_error *err);

typedef enum { HSGD_DRAW_NORMAL, HSGD_DRAW_SIGN } hsgd_draw;

/* Fill column `column` with draws keyed by the row's global number, so the same on any number of ranks.  Local. */
hsgd_status hsgd_vector_random(hsgd_vector *x, int64_t column, hsgd_draw draw, const hsgd_random *stream,
                               hsgd_error *err);

/* All n rows of all columns in backend memory: *full [columns][n] is x's own memory where this rank holds all rows, else
 * room [columns][n], which is filled.  hsgd_space_reserve must have been called.  Collective if spread; nothing waits. */
hsgd_status hsgd_vector_whole(const hsgd_vector *x, double *room, const double **full, hsgd_error *err);

/* All n rows of all columns on every rank: full [columns][n], host memory of the caller.  Collective if spread. */
hsgd_status hsgd_vector_gather(const hsgd_vector *x, double *full, hsgd_error *err);

/* The local rows out of full [columns][n] host values that are the same on all ranks; and the local rows
 * [columns][rows] to and from host memory.  Local. */
hsgd_status hsgd_vector_set_full(hsgd_vector *x, const double *full, hsgd_error *err);
hsgd_status hsgd_vector_set_local(hsgd_vector *x, const double *local, hsgd_error *err);
hsgd_status hsgd_vector_get_local(const hsgd_vector *x, double *local, hsgd_error *err);
