/* tests/solve/test_student.c - mirrors src/solve/student.c. */
#include "solve/student.h"
#include <float.h>
#include <math.h>
#include "support.h"

/* Quantiles from 40-digit arithmetic: the root of the incomplete beta function. */
static void agrees_with_tabulated_values(void **state)
{
    static const struct {
        int64_t degrees;
        double t;
    } table[] = {
        {1, 12.706204736174704646},    {2, 4.3026527297494638523},    {3, 3.1824463052837095927},
        {4, 2.7764451051977943578},    {5, 2.5705818356363155147},    {7, 2.3646242515927853417},
        {10, 2.2281388519862747484},   {15, 2.1314495455597756821},   {23, 2.0686576104190486515},
        {31, 2.0395134463964084879},   {63, 1.9983405425207415782},   {100, 1.9839715185235522866},
        {500, 1.9647198374673677934},  {999, 1.9623414611334499787},  {1000, 1.962339080826408485},
        {1001, 1.9623367052808799185}, {5000, 1.9604385517065079186}, {100000, 1.9599877075346096386},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_near(hsgd_student(table[i].degrees), table[i].t, 1e-13 * table[i].t);
    }
}

/* It falls towards the normal distribution's quantile, also from one way of computing it to the other. */
static void falls_with_the_degrees_of_freedom(void **state)
{
    (void)state;
    for (int64_t degrees = 1; degrees < 1200; degrees++) {
        assert_true(hsgd_student(degrees) > hsgd_student(degrees + 1));
    }
    assert_near(hsgd_student(INT64_C(1000000000000)), 1.959963984540054, 1e-11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_tabulated_values),
        cmocka_unit_test(falls_with_the_degrees_of_freedom),
    };
    return test_run(tests);
}
