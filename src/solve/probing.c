/* src/solve/probing.c - Hutchinson's estimate of the trace, and the statistics of samples. */
#include "solve/probing.h"
#include "solve/probes.h"
#include <math.h>
#include <stdlib.h>

hsgd_status hsgd_hutchinson(hsgd_linop *op, const hsgd_trace_options *options, hsgd_trace_result *result,
                            hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_probes probes = {0};

    *result = (hsgd_trace_result){0};
    HSGD_TRY(hsgd_probes_create(op, options, 0, options->probes, &probes, err));
    HSGD_TRY(hsgd_probes_sample(&probes, err));
    HSGD_TRY(hsgd_probes_result(&probes, result, err));
done:
    hsgd_probes_destroy(&probes);
    return st;
}

void hsgd_trace_result_clear(hsgd_trace_result *result)
{
    free(result->known);
    free(result->sample);
    free(result->estimate);
    *result = (hsgd_trace_result){0};
}

static void mean_error(int64_t count, int64_t stride, const double *sample, double *mean, double *error)
{
    double sum = 0.0, squares = 0.0;

    for (int64_t i = 0; i < count; i++) {
        sum += sample[i * stride];
    }
    *mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        squares += (sample[i * stride] - *mean) * (sample[i * stride] - *mean);
    }
    *error = count > 1 ? sqrt(squares / (double)(count - 1) / (double)count) : -1.0;
}

void hsgd_mean_error(int64_t count, const double *sample, double *mean, double *error)
{
    mean_error(count, 1, sample, mean, error);
}

hsgd_estimate hsgd_estimate_of(int64_t count, int64_t stride, const double *sample, double known)
{
    hsgd_estimate e = {0};
    double half = 0.0;

    mean_error(count, stride, sample, &e.mean, &e.error);
    half = e.error > 0.0 ? hsgd_student(count - 1) * e.error : 0.0;
    e.mean += known;
    e.low = e.mean - half;
    e.high = e.mean + half;
    return e;
}
