/* src/base/random.c - Philox4x32-10 and the distributions drawn from it. */
#include "base/random.h"
#include <math.h>

enum { ROUNDS = 10 };

__extension__ typedef unsigned __int128 wide; /* gcc and clang have it; -Wpedantic does not */

void hsgd_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];

    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

hsgd_random hsgd_random_stream(uint64_t seed, hsgd_random_purpose purpose, uint32_t stream)
{
    return (hsgd_random){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)}, .purpose = (uint32_t)purpose, .stream = stream};
}

static void block(const hsgd_random *r, uint64_t index, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), r->stream, r->purpose};

    hsgd_philox(r->key, counter, out);
}

uint64_t hsgd_random_bits(const hsgd_random *r, uint64_t index)
{
    uint32_t w[4];

    block(r, index, w);
    return (uint64_t)w[1] << 32 | w[0];
}

double hsgd_random_uniform(const hsgd_random *r, uint64_t index)
{
    return (double)(hsgd_random_bits(r, index) >> 11) * 0x1.0p-53;
}

uint64_t hsgd_random_below(const hsgd_random *r, uint64_t index, uint64_t bound)
{
    /* the high half of a 64 x 64 bit product: biased by less than bound / 2^64 */
    return (uint64_t)(((wide)hsgd_random_bits(r, index) * bound) >> 64);
}

double hsgd_random_normal(const hsgd_random *r, uint64_t index)
{
    uint32_t w[4];
    double u, v;

    block(r, index, w);
    u = ((double)(((uint64_t)w[1] << 32 | w[0]) >> 11) + 0.5) * 0x1.0p-53; /* never 0 */
    v = (double)(((uint64_t)w[3] << 32 | w[2]) >> 11) * 0x1.0p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

double hsgd_random_sign(const hsgd_random *r, uint64_t index)
{
    return (hsgd_random_bits(r, index) & 1) != 0 ? 1.0 : -1.0;
}
