/* src/data/batch.h - which samples make a batch, and which groups of them a rank takes. */
#pragma once
#include "base/error.h"
#include <stdint.h>

/* order[0..count) becomes the permutation of 0..count-1 for (seed, epoch): Fisher-Yates on Philox draws; the same on
 * every rank.  Local. */
void hsgd_batch_shuffle(uint64_t seed, int64_t epoch, int64_t count, int64_t *order);

/* Positions 0..count-1 in groups of `group` consecutive ones; the last may be shorter. */
typedef struct {
    int64_t count, group;
    int64_t groups;    /* in the whole set */
    int64_t low, high; /* groups of this rank */
} hsgd_groups;

/* Deal the groups of `count` positions to the ranks in order.  Local. */
hsgd_groups hsgd_groups_deal(int64_t count, int64_t group, int rank, int ranks);

/* First position and number of positions of group g.  Local. */
void hsgd_groups_range(const hsgd_groups *groups, int64_t g, int64_t *first, int64_t *count);
