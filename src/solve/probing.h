/* src/solve/probing.h - Hutchinson's estimate of the trace.
 * Source: Hutchinson, Commun. Stat. Simul. Comput. 19(2), 1990, doi:10.1080/03610919008812866. */
#pragma once
#include "curvature/linop.h"

/* sample[probes] = z'Az for Rademacher z keyed by (seed, probe); parts [probes][ranges] = the same restricted to rows
 * [bounds[r], bounds[r+1]) (bounds [ranges + 1], ascending, within [0, n]).  `columns` probes at a time.  Collective.
 * Errors: HSGD_ERR_NUMERIC, HSGD_ERR_MEMORY. */
hsgd_status hsgd_hutchinson(hsgd_linop *op, int64_t probes, uint64_t seed, int64_t columns, int64_t ranges,
                            const int64_t *bounds, double *sample, double *parts, hsgd_error *err);

/* Mean and standard error (of the mean) of count >= 1 samples; *error is -1 where count is 1.  Local. */
void hsgd_mean_error(int64_t count, const double *sample, double *mean, double *error);
