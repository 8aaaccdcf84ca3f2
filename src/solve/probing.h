/* src/solve/probing.h - the trace from products with random signs, whole and of ranges of rows, with its interval.
 * Sources: Hutchinson, Commun. Stat. Simul. Comput. 19(2), 1990, doi:10.1080/03610919008812866; Student, "The probable
 * error of a mean", Biometrika 6(1), 1908. */
#pragma once
#include "curvature/linop.h"
#include "solve/snapshot.h"
#include "solve/student.h"

/* A look at the interval is taken after so many samples, and after so many more, and so on. */
enum { HSGD_TRACE_LOOK = 8 };

/* A mean with its standard error and Student's interval of confidence HSGD_CONFIDENCE.  One sample has neither:
 * error -1, low = high = mean. */
typedef struct {
    double mean, error, low, high;
} hsgd_estimate;

typedef struct {
    int64_t probes;   /* the most: of Hutchinson's samples, or of Hutch++'s products in all */
    double tolerance; /* stop when the interval's half width is at most this times |trace| at two looks in a row, so not
                         before the second; 0: all are made */
    uint64_t seed;
    int64_t columns;           /* vectors in one product: no sample, nor when it stops, depends on it */
    int64_t ranges;            /* may be 0 */
    const int64_t *bounds;     /* [ranges + 1] ascending, within [0, n]: range r is rows [bounds[r], bounds[r+1]) */
    const hsgd_keeper *keeper; /* may be NULL */
    /* Told after each batch of products, of which `most` may be made, with the estimate so far where a sample is made
     * (samples > 0); may be NULL. */
    void (*monitor)(void *context, int64_t products, int64_t most, int64_t samples, const hsgd_estimate *so_far);
    void *context;
} hsgd_trace_options;

typedef struct {
    int64_t products;        /* columns given to the operator, also by the runs before an interruption */
    int64_t sketch;          /* orthonormal columns whose part of the trace is known; 0 for Hutchinson */
    int64_t samples;         /* that the estimates rest on */
    bool met;                /* the tolerance was met; false: all probes were made */
    int64_t width;           /* 1 + ranges: the whole, then each range */
    double *known;           /* [width]: what the sketch holds of the trace */
    double *sample;          /* [samples][width]: of the rest */
    hsgd_estimate *estimate; /* [width]: known + mean of the samples */
} hsgd_trace_result;

/* Hutchinson's estimate: samples z'Az, and for range r the sum over its rows of z_i (Az)_i, for signs z keyed by (seed,
 * probe).  *result is to be cleared by the caller, also after a failure.  Collective.
 * Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY, HSGD_ERR_USAGE, HSGD_ERR_DATA (a kept state of another work), those of the
 * product and of the keeper; on HSGD_STOPPED all that was done is kept. */
hsgd_status hsgd_hutchinson(hsgd_linop *op, const hsgd_trace_options *options, hsgd_trace_result *result,
                            hsgd_error *err);

/* Free what a result holds (not the struct).  Local. */
void hsgd_trace_result_clear(hsgd_trace_result *result);

/* Mean and standard error (of the mean) of count >= 1 samples; *error is -1 where count is 1.  Local. */
void hsgd_mean_error(int64_t count, const double *sample, double *mean, double *error);

/* known + the mean of sample[0], sample[stride], ... (count >= 1 of them), with error and interval.  Local. */
hsgd_estimate hsgd_estimate_of(int64_t count, int64_t stride, const double *sample, double known);
