/* src/data/batch.c - see batch.h. */
#include "data/batch.h"
#include "base/comm.h"
#include "base/random.h"

void hsgd_batch_shuffle(uint64_t seed, int64_t epoch, int64_t count, int64_t *order)
{
    const hsgd_random random = hsgd_random_stream(seed, HSGD_RANDOM_SHUFFLE, (uint32_t)epoch);

    for (int64_t i = 0; i < count; i++) {
        order[i] = i;
    }
    for (int64_t i = count - 1; i > 0; i--) { /* the draw for place i is number i of the epoch's stream */
        const int64_t j = (int64_t)hsgd_random_below(&random, (uint64_t)i, (uint64_t)i + 1);
        const int64_t other = order[j];

        order[j] = order[i];
        order[i] = other;
    }
}

hsgd_groups hsgd_groups_deal(int64_t count, int64_t group, int rank, int ranks)
{
    hsgd_groups groups = {.count = count, .group = group, .groups = count / group + (count % group != 0)};

    hsgd_share(groups.groups, rank, ranks, &groups.low, &groups.high);
    return groups;
}

void hsgd_groups_range(const hsgd_groups *groups, int64_t g, int64_t *first, int64_t *count)
{
    const int64_t left = groups->count - g * groups->group;

    *first = g * groups->group;
    *count = left < groups->group ? left : groups->group;
}
