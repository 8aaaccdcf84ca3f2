/* src/study/checks.h - the certificates of the stage `verify`. */
#pragma once
#include "study/internal.h"

/* One certificate: it holds where value <= bound. */
typedef struct {
    char name[48];
    char description[160];
    double value, bound;
    char skipped[128]; /* why it does not apply; "" where it was made */
} check;

typedef struct check_bench check_bench;

/* How a product is made. */
typedef struct {
    hsgd_operator kind;
    const hsgd_backend *backend;
    hsgd_comm *comm;
    size_t cache_bytes; /* of base passes kept; 0: none */
    bool block;         /* by the operator of hessian.layers, of whose rows x and y have the entries, else 0 */
} check_way;

/* y[k][n] = A x[k][n] over the bench's samples, host vectors that are whole on every rank.  Collective on way->comm.
 * Errors as those of the operator. */
typedef hsgd_status (*check_product)(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                                     hsgd_error *err);

/* What the checks share. */
struct check_bench {
    study_state *s;
    check_product product;          /* the network's; another one would be put to the same checks */
    int64_t count;                  /* samples: the first 256 of the studied ones, or all if fewer */
    hsgd_backend *single, *twofold; /* one of each precision; the working one is borrowed */
    double *gradient;               /* [n] of those samples */
    double gradient_norm;
    double scale;      /* trace of the Gauss-Newton matrix: at least its norm */
    double *x, *y, *z; /* [CHECK_COLUMNS][n] scratch */
    double *rich;      /* [2][n] unit vectors rich in the top eigenspaces */
};

enum { CHECK_COLUMNS = 2, CHECK_SAMPLES = 256 };

hsgd_status bench_create(study_state *s, check_bench *b, hsgd_error *err);
void bench_destroy(check_bench *b);

/* Each fills *c.  Rescaling and the central difference are identities of the Hessian and are put to it always, the
 * others to the operator studied.  Collective. */
hsgd_status check_symmetry(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_null_space(check_bench *b, check *c, hsgd_error *err);
/* The rescaling identity of the channels between parameters `layer` and the next layer with parameters. */
hsgd_status check_rescaling(check_bench *b, int64_t layer, check *c, hsgd_error *err);
hsgd_status check_central_difference(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_cached(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_layout(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_precision(check_bench *b, check *c, hsgd_error *err);
/* Products of the block that hessian.layers selects against rows of the whole operator's. */
hsgd_status check_block(check_bench *b, check *c, hsgd_error *err);
