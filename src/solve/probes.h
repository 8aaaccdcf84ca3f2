/* src/solve/probes.h - what Hutchinson's estimate and Hutch++ share: probes made in batches, kept when interrupted. */
#pragma once
#include "solve/probing.h"

/* How far the work has come. */
enum { PROBES_SKETCHED, PROBES_BASIS, PROBES_MULTIPLIED, PROBES_SAMPLED, PROBES_WORDS };

typedef struct {
    hsgd_linop *op;                    /* borrowed */
    const hsgd_trace_options *options; /* borrowed */
    int64_t width, columns;            /* 1 + ranges; vectors in one product */
    int64_t sketch, samples;           /* the most */
    int64_t done[PROBES_WORDS];        /* columns of the sketch drawn, those of q, of Aq, samples */
    int64_t looked;                    /* samples at the last look at the interval */
    bool narrow, met;                  /* it was narrow enough then; and at the look before too */
    hsgd_vector *q;                    /* [n, sketch]: the first done[PROBES_BASIS] are orthonormal; NULL: no sketch */
    hsgd_vector *z, *y;                /* [n, columns]: probes and products */
    hsgd_vector *masked;               /* [n, width]: a column, whole and within each range alone */
    double *local, *piece;             /* [rows]: a column, and its rows within a range */
    double *products, *coefficients;   /* [width]; [2 sketch + 1] */
    double *known, *sample;            /* [width], and behind it [samples][width] */
} hsgd_probes;

/* Take all memory and go on from a kept state if there is one; to be destroyed also after a failure.  Collective.
 * Errors: HSGD_ERR_USAGE, HSGD_ERR_MEMORY, HSGD_ERR_DATA. */
hsgd_status hsgd_probes_create(hsgd_linop *op, const hsgd_trace_options *options, int64_t sketch, int64_t samples,
                               hsgd_probes *p, hsgd_error *err);
void hsgd_probes_destroy(hsgd_probes *p);

/* Q = orth(AS) and known = Q'AQ's trace and its parts.  Collective.  Errors: as hsgd_hutchinson. */
hsgd_status hsgd_probes_sketch(hsgd_probes *p, hsgd_error *err);

/* All samples, or as many as the tolerance asks for.  Collective.  Errors: as hsgd_hutchinson. */
hsgd_status hsgd_probes_sample(hsgd_probes *p, hsgd_error *err);

/* What came out, into memory of the caller's.  Collective.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_probes_result(const hsgd_probes *p, hsgd_trace_result *result, hsgd_error *err);
