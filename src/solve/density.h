/* src/solve/density.h - what becomes of the nodes of a quadrature: densities, moments, the cumulative measure.
 * ritz, weights: [probes][steps]; weights of a probe sum to 1. */
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

/* grid, density [bins]: Gaussians of variance sigma_squared * max(1, range) at the Ritz values.
 * full false: range and grid from the means over probes of the extreme Ritz values, less and plus overhead, and the
 * density divided by its grid sum, exactly as PyHessian's density_generate.  full true: from the extremes over all probes,
 * and divided by the Gaussians' mass between the ends of the grid, which the error function gives: the integral over the
 * grid is 1 however wide the bins are.
 * stderr_of: [bins] standard error over the probes, or NULL (needs probes >= 2).  bins >= 2.
 * Returns that mass: 1 less what the Gaussians have beyond the ends.  Local. */
double hsgd_density(int64_t probes, int64_t steps, const double *ritz, const double *weights, int64_t bins,
                    double sigma_squared, double overhead, bool full, double *grid, double *density, double *stderr_of);

/* Moments 1..4 of the density, moment[j] = mean over probes of sum w theta^(j+1), and their standard errors (NULL where
 * probes < 2).  Local. */
void hsgd_density_moments(int64_t probes, int64_t steps, const double *ritz, const double *weights, double moment[4],
                          double *stderr_of);

/* The cumulative spectral measure, unblurred: eigenvalue [probes * steps] all Ritz values, ascending; measure: mean over
 * the probes of the weight up to and with each; its standard error (NULL where probes < 2).  Local.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_cumulative(int64_t probes, int64_t steps, const double *ritz, const double *weights,
                            double *eigenvalue, double *measure, double *stderr_of, hsgd_error *err);
