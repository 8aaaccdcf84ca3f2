/* src/solve/hutchpp.c - see hutchpp.h. */
#include "solve/hutchpp.h"
#include "solve/probes.h"

hsgd_status hsgd_hutch_plus_plus(hsgd_linop *op, const hsgd_trace_options *options, hsgd_trace_result *result,
                                 hsgd_error *err)
{
    const int64_t n = hsgd_linop_space(op)->n, third = options->probes / 3, sketch = third < n ? third : n;
    hsgd_status st = HSGD_OK;
    hsgd_probes probes = {0};

    *result = (hsgd_trace_result){0};
    HSGD_CHECK(options->probes >= 3, HSGD_ERR_USAGE, err,
               "trace.probes = %lld: hutch++ needs at least 3 products; use more or take hutchinson",
               (long long)options->probes);
    HSGD_TRY(hsgd_probes_create(op, options, sketch, options->probes - 2 * sketch, &probes, err));
    HSGD_TRY(hsgd_probes_sketch(&probes, err));
    HSGD_TRY(hsgd_probes_sample(&probes, err));
    HSGD_TRY(hsgd_probes_result(&probes, result, err));
done:
    hsgd_probes_destroy(&probes);
    return st;
}
