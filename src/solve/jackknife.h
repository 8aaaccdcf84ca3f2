/* src/solve/jackknife.h - how much a result depends on the samples: each group of them left out in turn.
 * Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11. */
#pragma once
#include <stdint.h>

/* Group number `group` of `groups` is the positions [low, high) of `samples`: sizes differ by one at most.
 * samples >= groups >= 2.  Local. */
void hsgd_jackknife_group(int64_t samples, int64_t groups, int64_t group, int64_t *low, int64_t *high);

/* rest [samples - (high - low)]: index [samples] without the positions [low, high).  Local. */
void hsgd_jackknife_without(int64_t samples, const int64_t *index, int64_t low, int64_t high, int64_t *rest);

/* values [groups][count]: means over all samples but a group's, of the groups' own means [groups][count].  Local. */
void hsgd_jackknife_means(int64_t samples, int64_t groups, int64_t count, const double *means, double *values);

/* Of `count` results over all samples, full [count], and without each group, values [groups][count]:
 * error [count] standard errors sqrt((groups - 1) / groups * sum (value - mean)^2), bias [count] (groups - 1) (mean -
 * full).  For smooth results; an interval takes Student's quantile of groups - 1 degrees.  Local. */
void hsgd_jackknife(int64_t groups, int64_t count, const double *full, const double *values, double *error,
                    double *bias);
