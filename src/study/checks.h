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

/* What the checks share. */
typedef struct {
    study_state *s;
    int64_t count;                  /* samples: the first 256 of the studied ones, or all if fewer */
    hsgd_backend *single, *twofold; /* one of each precision; the working one is borrowed */
    double *gradient;               /* [n] of those samples */
    double gradient_norm;
    double scale;      /* trace of the Gauss-Newton matrix: at least its norm */
    double *x, *y, *z; /* [CHECK_COLUMNS][n] scratch */
    double *rich;      /* [2][n] unit vectors rich in the top eigenspaces */
} check_bench;

enum { CHECK_COLUMNS = 2, CHECK_SAMPLES = 256 };

hsgd_status bench_create(study_state *s, check_bench *b, hsgd_error *err);
void bench_destroy(check_bench *b);

/* Each fills *c.  Collective. */
hsgd_status check_symmetry(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_null_space(check_bench *b, check *c, hsgd_error *err);
/* The rescaling identity of the channels between parameters `layer` and the next layer with parameters. */
hsgd_status check_rescaling(check_bench *b, int64_t layer, check *c, hsgd_error *err);
hsgd_status check_central_difference(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_cached(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_layout(check_bench *b, check *c, hsgd_error *err);
hsgd_status check_precision(check_bench *b, check *c, hsgd_error *err);
