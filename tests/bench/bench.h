/* tests/bench/bench.h - what hsgd-bench is made of: the problem at hand, and figures over it. */
#pragma once
#include "curvature/curvature.h"
#include "solve/sgd.h"

enum { BENCH_BATCH = 1000, BENCH_COLUMNS = 16, BENCH_POINT_SAMPLES = 2000, BENCH_TOGETHER = 4 };

typedef struct bench {
    hsgd_problem problem;
    hsgd_space *replicated, *spread;
    hsgd_objective *objective;
    hsgd_sgd_state sgd;
    hsgd_losses *losses;       /* of the landscape */
    double *weights, *shifted; /* [n], [BENCH_TOGETHER][n] */
    int64_t *index, all;       /* [all] */
    hsgd_vector *x, *y;        /* [n, BENCH_COLUMNS] */
    size_t cache;              /* bytes that kept base passes may take */
    double seconds;            /* for each figure */
    bool messages;             /* tell them too */
    bool brief;                /* one call each, bursts of one step, lines of one point */
} bench;

/* Print the figures of a mode, each the median over repetitions.  samples: of the sets (0 in figures_all: none).
 * Collective.  Errors: those of the figures. */
hsgd_status figures_all(bench *b, int64_t samples, hsgd_error *err);
hsgd_status figures_samples(bench *b, int64_t samples, hsgd_error *err); /* over samples, and two and four times them */
hsgd_status figures_vectors(bench *b, int64_t samples, hsgd_error *err); /* 1, 2, 4, 8, 16 products at once */
hsgd_status figures_ranks(bench *b, int64_t samples, hsgd_error *err);   /* what many ranks have to share */
