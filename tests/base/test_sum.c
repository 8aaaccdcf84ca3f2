/* tests/base/test_sum.c - mirrors src/base/sum.h: exact words, any order, known limits. */
#include "base/random.h"
#include "base/sum.h"
#include "support.h"
#include <math.h>

enum { GROUPS = 1000 };

/* Addends of both signs over many magnitudes. */
static double addend(uint64_t i)
{
    const hsgd_random r = hsgd_random_stream(11, HSGD_RANDOM_TEST, 0);

    return hsgd_random_normal(&r, i) * ldexp(1.0, (int)hsgd_random_below(&r, 5000 + i, 60) - 30);
}

static void words_do_not_depend_on_order_or_partition(void **state)
{
    const double scale = hsgd_sum_scale(GROUPS);
    int64_t high = 0, low = 0, other_high = 0, other_low = 0;

    (void)state;
    for (uint64_t i = 0; i < GROUPS; i++) {
        assert_int_equal(hsgd_sum_add(addend(i), scale, &high, &low), 0);
    }
    for (uint64_t part = 0; part < 7; part++) { /* seven ranks, each with its own words, backwards */
        int64_t h = 0, l = 0;

        for (uint64_t i = GROUPS; i-- > 0;) {
            if (i % 7 == part) {
                assert_int_equal(hsgd_sum_add(addend(i), scale, &h, &l), 0);
            }
        }
        other_high += h;
        other_low += l;
    }
    assert_true(high == other_high && low == other_low);
}

/* The header's bound, g * 2^(s - 70), and the rounding of the value itself; long double holds the reference to 2^-64
 * of the largest partial sum, which 2^-53 of the sum of magnitudes covers. */
static void the_sum_is_within_its_stated_error(void **state)
{
    const double scale = hsgd_sum_scale(GROUPS);
    long double exact = 0.0L, magnitudes = 0.0L;
    int64_t high = 0, low = 0;

    (void)state;
    for (uint64_t i = 0; i < GROUPS; i++) {
        exact += (long double)addend(i);
        magnitudes += fabsl((long double)addend(i));
        assert_int_equal(hsgd_sum_add(addend(i), scale, &high, &low), 0);
    }
    assert_near(hsgd_sum_value(high, low, scale), (double)exact,
                GROUPS * ldexp(1.0, -70) / scale + 4.0 * ldexp((double)magnitudes, -53));
}

static void what_cancels_leaves_nothing(void **state)
{
    const double scale = hsgd_sum_scale(2 * GROUPS);
    int64_t high = 0, low = 0;

    (void)state;
    for (uint64_t i = 0; i < GROUPS; i++) {
        assert_int_equal(hsgd_sum_add(addend(i), scale, &high, &low), 0);
        assert_int_equal(hsgd_sum_add(-addend(GROUPS - 1 - i), scale, &high, &low), 0);
    }
    assert_true(high == 0 && low == 0); /* cut towards zero, so x and -x are cut alike */
}

static void small_whole_numbers_are_exact(void **state)
{
    const double scale = hsgd_sum_scale(5);
    int64_t high = 0, low = 0;

    (void)state;
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(hsgd_sum_add(i * 1.25, scale, &high, &low), 0);
    }
    assert_true(hsgd_sum_value(high, low, scale) == 18.75);
}

static void addends_out_of_range_are_told_and_left_out(void **state)
{
    const double bad[] = {HSGD_SUM_LIMIT, -HSGD_SUM_LIMIT, 1e300, INFINITY, -INFINITY, NAN};
    int64_t high = 3, low = 4;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(hsgd_sum_add(bad[i], 1.0, &high, &low), 1);
        assert_true(high == 3 && low == 4);
    }
}

/* As many groups as are allowed, each as large as is allowed, of one sign: neither word overflows (a signed overflow
 * would be found by UBSan here, and by the value anywhere). */
static void the_largest_sum_does_not_overflow(void **state)
{
    const double scale = hsgd_sum_scale(HSGD_SUM_MAX_GROUPS), largest = nextafter(HSGD_SUM_LIMIT, 0.0);

    (void)state;
    for (double sign = -1.0; sign <= 1.0; sign += 2.0) {
        int64_t high = 0, low = 0;

        for (int64_t i = 0; i < HSGD_SUM_MAX_GROUPS; i++) {
            assert_int_equal(hsgd_sum_add(sign * largest, scale, &high, &low), 0);
        }
        assert_near(hsgd_sum_value(high, low, scale) / ((double)HSGD_SUM_MAX_GROUPS * largest), sign, 4 * 0x1p-53);
    }
}

/* The low word at its worst: addends just below one unit of the high word. */
static void the_largest_rests_do_not_overflow(void **state)
{
    const double scale = hsgd_sum_scale(HSGD_SUM_MAX_GROUPS);
    const double rest = nextafter(1.0 / HSGD_SUM_HIGH, 0.0) / scale;
    int64_t high = 0, low = 0;

    (void)state;
    for (int64_t i = 0; i < HSGD_SUM_MAX_GROUPS; i++) {
        assert_int_equal(hsgd_sum_add(rest, scale, &high, &low), 0);
    }
    assert_true(high == 0 && low > 0);
    assert_near(hsgd_sum_value(high, low, scale) / ((double)HSGD_SUM_MAX_GROUPS * rest), 1.0,
                ldexp(1.0, -70) * HSGD_SUM_HIGH + 4 * 0x1p-53);
}

static void the_scale_is_the_power_of_two_that_covers_the_groups(void **state)
{
    static const int64_t groups[] = {0, 1, 2, 3, 4, 5, 1024, 1025};
    static const double scales[] = {1.0, 1.0, 0.5, 0.25, 0.25, 0.125, 0x1p-10, 0x1p-11};

    (void)state;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        assert_true(hsgd_sum_scale(groups[i]) == scales[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_do_not_depend_on_order_or_partition),
        cmocka_unit_test(the_sum_is_within_its_stated_error),
        cmocka_unit_test(what_cancels_leaves_nothing),
        cmocka_unit_test(small_whole_numbers_are_exact),
        cmocka_unit_test(addends_out_of_range_are_told_and_left_out),
        cmocka_unit_test(the_largest_sum_does_not_overflow),
        cmocka_unit_test(the_largest_rests_do_not_overflow),
        cmocka_unit_test(the_scale_is_the_power_of_two_that_covers_the_groups),
    };

    return test_run(tests);
}
