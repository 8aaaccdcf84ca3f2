/* tests/base/test_random.c - mirrors src/base/random.c. */
#include "base/random.h"
#include "support.h"
#include <math.h>

/* Source: kat_vectors of Random123, the lines of philox4x32 with 10 rounds (the last: digits of pi). */
static void philox_gives_the_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t out[4];

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        hsgd_philox(known[i].key, known[i].counter, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

/* The same answer by way of a stream: seed is the key, (index, stream, purpose) the counter.  Files hold numbers drawn
 * so, hence the order of the words must never change. */
static void a_stream_numbers_the_blocks_of_philox(void **state)
{
    const hsgd_random r = hsgd_random_stream(UINT64_C(0x299f31d0a4093822), HSGD_RANDOM_TEST, 0x13198a2e);
    const uint64_t index = UINT64_C(0x85a308d3243f6a88);
    const uint32_t counter[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, HSGD_RANDOM_TEST};
    const uint32_t key[2] = {0xa4093822, 0x299f31d0};
    uint32_t out[4];

    (void)state;
    hsgd_philox(key, counter, out);
    assert_true(hsgd_random_bits(&r, index) == ((uint64_t)out[1] << 32 | out[0]));
}

static void streams_differ_in_seed_purpose_and_number(void **state)
{
    const hsgd_random r[] = {
        hsgd_random_stream(1, HSGD_RANDOM_TEST, 0),
        hsgd_random_stream(2, HSGD_RANDOM_TEST, 0),
        hsgd_random_stream(1, HSGD_RANDOM_TRACE, 0),
        hsgd_random_stream(1, HSGD_RANDOM_TEST, 1),
        hsgd_random_stream(UINT64_C(1) << 32, HSGD_RANDOM_TEST, 0),
    };

    (void)state;
    for (size_t i = 0; i < sizeof r / sizeof r[0]; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_true(hsgd_random_bits(&r[i], 0) != hsgd_random_bits(&r[j], 0));
        }
    }
}

enum { DRAWS = 100000 };

/* Mean and variance of DRAWS numbers lie within 6 standard errors: the numbers are fixed, so this holds for good or not
 * at all, and a wrong distribution is off by far more. */
static void moments_are_those_of_the_distribution(void **state)
{
    const struct {
        double (*draw)(const hsgd_random *, uint64_t);
        double mean, variance, fourth; /* the fourth central moment gives the variance of the variance */
    } cases[] = {
        {hsgd_random_uniform, 0.5, 1.0 / 12.0, 1.0 / 80.0},
        {hsgd_random_normal, 0.0, 1.0, 3.0},
        {hsgd_random_sign, 0.0, 1.0, 1.0},
    };
    const hsgd_random r = hsgd_random_stream(7, HSGD_RANDOM_TEST, 3);

    (void)state;
    for (size_t c = 0; c < 3; c++) {
        double sum = 0.0, squares = 0.0;

        for (uint64_t i = 0; i < DRAWS; i++) {
            const double x = cases[c].draw(&r, i) - cases[c].mean;

            assert_true(isfinite(x));
            sum += x;
            squares += x * x;
        }
        assert_near(sum / DRAWS, 0.0, 6.0 * sqrt(cases[c].variance / DRAWS));
        assert_near(squares / DRAWS, cases[c].variance,
                    6.0 * sqrt((cases[c].fourth - cases[c].variance * cases[c].variance) / DRAWS) + 1e-12);
    }
}

static void uniform_numbers_stay_below_one_and_integers_below_their_bound(void **state)
{
    static const uint64_t bounds[] = {1, 2, 3, 60000, UINT64_C(1) << 63, UINT64_MAX};
    const hsgd_random r = hsgd_random_stream(7, HSGD_RANDOM_TEST, 4);
    int seen[3] = {0};

    (void)state;
    for (uint64_t i = 0; i < 3000; i++) {
        const double u = hsgd_random_uniform(&r, i);

        assert_true(u >= 0.0 && u < 1.0);
        for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
            assert_true(hsgd_random_below(&r, i, bounds[b]) < bounds[b]);
        }
        seen[hsgd_random_below(&r, i, 3)]++;
    }
    for (int k = 0; k < 3; k++) { /* a third of 3000 with standard deviation sqrt(3000 * 2) / 3 < 26 */
        assert_in_range(seen[k], 1000 - 6 * 26, 1000 + 6 * 26);
    }
}

static void signs_are_nothing_but_one_and_minus_one(void **state)
{
    const hsgd_random r = hsgd_random_stream(7, HSGD_RANDOM_TEST, 5);

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        const double x = hsgd_random_sign(&r, i);

        assert_true(x == 1.0 || x == -1.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(a_stream_numbers_the_blocks_of_philox),
        cmocka_unit_test(streams_differ_in_seed_purpose_and_number),
        cmocka_unit_test(moments_are_those_of_the_distribution),
        cmocka_unit_test(uniform_numbers_stay_below_one_and_integers_below_their_bound),
        cmocka_unit_test(signs_are_nothing_but_one_and_minus_one),
    };

    return test_run(tests);
}
