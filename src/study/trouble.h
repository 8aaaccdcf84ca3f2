/* src/study/trouble.h - after numbers that are not finite: where they are, in the words of the network. */
#pragma once
#include "study/train.h"

/* Where to look after the weights: at loss and gradient of samples of a split, at a product of the studied ones. */
typedef struct {
    const double *weights; /* [n], host; trouble_in_training finds them itself */
    const int64_t *index;
    int64_t count;
    bool test;
    bool product;
} trouble_suspects;

/* Is a number of flat [n] (canonical order) not finite?  Then HSGD_ERR_NUMERIC, and *found says which parameters of `what`
 * hold the first one; else HSGD_OK.  Local. */
hsgd_status trouble_look(const study_state *s, const char *what, const double *flat, hsgd_error *found);

/* Are the weights and the momentum in t->flat and t->flat_momentum finite: what a checkpoint may hold?  Collective.
 * Errors, the same on every rank: HSGD_ERR_NUMERIC, with the layer and the last good checkpoint. */
hsgd_status trouble_check(training *t, hsgd_error *err);

/* After a step, a test or a measurement failed for a number that is not finite (err->not_finite; else nothing happens): add
 * to *err where the first bad number is - in the weights, else in what the suspects name, evaluated once more - and the last
 * good checkpoint.  A product is one at the studied weights, which are the training's.  Through t->flat.  Returns st.
 * Collective, as st and err->not_finite are the same on every rank. */
hsgd_status trouble_in_training(training *t, hsgd_status st, const trouble_suspects *suspects, hsgd_error *err);

/* After a stage that is no training ended with st: where that is HSGD_ERR_NUMERIC, add to *err the stage, and, where a number
 * was not finite, where the first bad number of weights, loss, gradient or product at the studied weights is, if there is
 * one.  Returns st.  Collective, as st and err->not_finite are the same on every rank. */
hsgd_status trouble_in_stage(study_state *s, hsgd_stage stage, hsgd_status st, hsgd_error *err);
