/* src/base/random.h - random numbers as a pure function of (seed, purpose, index): Philox4x32-10.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11,
 * doi:10.1145/2063384.2063405; checked against the known-answer vectors of Random123. */
#pragma once
#include <stdint.h>

/* What a number is drawn for: streams with different purposes never meet.  Values are part of the file format. */
typedef enum {
    HSGD_RANDOM_INIT = 1,      /* stream: layer * 2 + (0 weight, 1 bias) */
    HSGD_RANDOM_SHUFFLE = 2,   /* stream: epoch */
    HSGD_RANDOM_DIGITS = 3,    /* stream: split */
    HSGD_RANDOM_EIGEN = 4,     /* stream: start vector */
    HSGD_RANDOM_DENSITY = 5,   /* stream: probe */
    HSGD_RANDOM_TRACE = 6,     /* stream: probe */
    HSGD_RANDOM_LANDSCAPE = 7, /* stream: direction */
    HSGD_RANDOM_VERIFY = 8,    /* stream: vector */
    HSGD_RANDOM_TEST = 9,
} hsgd_random_purpose;

typedef struct {
    uint32_t key[2];
    uint32_t purpose, stream;
} hsgd_random;

/* The stream named by its three words.  Local. */
hsgd_random hsgd_random_stream(uint64_t seed, hsgd_random_purpose purpose, uint32_t stream);

/* The four words of block `index` of the Philox4x32-10 generator.  Local. */
void hsgd_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* Number `index` of the stream: 64 random bits; uniform in [0, 1) with 53 bits; uniform integer in [0, bound);
 * standard normal (Box-Muller); +1 or -1.  Local, no state. */
uint64_t hsgd_random_bits(const hsgd_random *r, uint64_t index);
double hsgd_random_uniform(const hsgd_random *r, uint64_t index);
uint64_t hsgd_random_below(const hsgd_random *r, uint64_t index, uint64_t bound);
double hsgd_random_normal(const hsgd_random *r, uint64_t index);
double hsgd_random_sign(const hsgd_random *r, uint64_t index);
