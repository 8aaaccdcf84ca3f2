/* tests/solve/test_jackknife.c - mirrors src/solve/jackknife.c: what is known in closed form. */
#include "solve/jackknife.h"
#include <math.h>
#include "support.h"

enum { SAMPLES = 11 };

static const double data[SAMPLES] = {3.0, -1.0, 4.0, 1.5, -9.0, 2.0, 6.0, 5.0, -3.5, 8.0, 7.0};

static double mean_of(int64_t count, const int64_t *index)
{
    double sum = 0.0;

    for (int64_t i = 0; i < count; i++) {
        sum += data[index[i]];
    }
    return sum / (double)count;
}

/* With the divisor n: biased by -variance / n. */
static double variance_of(int64_t count, const int64_t *index)
{
    const double mean = mean_of(count, index);
    double sum = 0.0;

    for (int64_t i = 0; i < count; i++) {
        sum += (data[index[i]] - mean) * (data[index[i]] - mean);
    }
    return sum / (double)count;
}

static void all_of(int64_t *index)
{
    for (int64_t i = 0; i < SAMPLES; i++) {
        index[i] = SAMPLES - 1 - i;
    }
}

static void groups_share_out_the_samples(void **state)
{
    (void)state;
    for (int64_t groups = 2; groups <= SAMPLES; groups++) {
        int64_t end = 0;

        for (int64_t group = 0; group < groups; group++) {
            int64_t low = -1, high = -1;

            hsgd_jackknife_group(SAMPLES, groups, group, &low, &high);
            assert_int_equal(low, end);
            assert_in_range(high - low, SAMPLES / groups, SAMPLES / groups + 1);
            end = high;
        }
        assert_int_equal(end, SAMPLES);
    }
}

/* Each sample a group: the mean's error is s / sqrt(n), without bias; the variance's bias is found exactly. */
static void closed_forms_are_met(void **state)
{
    int64_t index[SAMPLES], rest[SAMPLES];
    double values[SAMPLES][2], full[2], error[2], bias[2];

    (void)state;
    all_of(index);
    full[0] = mean_of(SAMPLES, index);
    full[1] = variance_of(SAMPLES, index);
    for (int64_t group = 0; group < SAMPLES; group++) {
        int64_t low = 0, high = 0;

        hsgd_jackknife_group(SAMPLES, SAMPLES, group, &low, &high);
        hsgd_jackknife_without(SAMPLES, index, low, high, rest);
        values[group][0] = mean_of(SAMPLES - 1, rest);
        values[group][1] = variance_of(SAMPLES - 1, rest);
    }
    hsgd_jackknife(SAMPLES, 2, full, values[0], error, bias);
    assert_near(error[0], sqrt(full[1] / (SAMPLES - 1)), 1e-13);
    assert_near(bias[0], 0.0, 1e-13);
    assert_near(bias[1], -full[1] / (SAMPLES - 1), 1e-12);
    assert_true(error[1] > 0.0);
}

static void means_of_the_rest_come_from_means_of_groups(void **state)
{
    int64_t index[SAMPLES], rest[SAMPLES];

    (void)state;
    all_of(index);
    for (int64_t groups = 2; groups <= SAMPLES; groups++) {
        double means[SAMPLES], values[SAMPLES];

        for (int64_t group = 0; group < groups; group++) {
            int64_t low = 0, high = 0;

            hsgd_jackknife_group(SAMPLES, groups, group, &low, &high);
            means[group] = mean_of(high - low, index + low);
        }
        hsgd_jackknife_means(SAMPLES, groups, 1, means, values);
        for (int64_t group = 0; group < groups; group++) {
            int64_t low = 0, high = 0;

            hsgd_jackknife_group(SAMPLES, groups, group, &low, &high);
            hsgd_jackknife_without(SAMPLES, index, low, high, rest);
            assert_near(values[group], mean_of(SAMPLES - (high - low), rest), 1e-13);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_share_out_the_samples),
        cmocka_unit_test(closed_forms_are_met),
        cmocka_unit_test(means_of_the_rest_come_from_means_of_groups),
    };
    return test_run(tests);
}
