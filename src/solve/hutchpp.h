/* src/solve/hutchpp.h - Hutch++: the trace within a sketched subspace exactly, Hutchinson's estimate of the rest.
 * Source: Meyer, Musco, Musco, Woodruff, "Hutch++: Optimal stochastic trace estimation", SOSA 2021, arXiv:2010.09649,
 * algorithm 1; the parts by ranges of rows are derived in docs/curvature.md.
 * Its bound is relative to the nuclear norm (the sum of |eigenvalues|): for an indefinite matrix, whose trace may be
 * small against that, it may be no better than Hutchinson's. */
#pragma once
#include "solve/probing.h"

/* With `probes` >= 3 products at most: a third (at most n) for the sketch S, Q = orth(AS); as many for AQ; the rest for
 * samples w'Aw with w = (I - QQ')z.  Dependent columns of AS are left out, so fewer products may do.  The signs of S and
 * of the z are keyed by (seed, 0), (seed, 1), ...  Everything else as hsgd_hutchinson. */
hsgd_status hsgd_hutch_plus_plus(hsgd_linop *op, const hsgd_trace_options *options, hsgd_trace_result *result,
                                 hsgd_error *err);
