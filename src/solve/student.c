/* src/solve/student.c - see student.h. */
#include "solve/student.h"
#include <math.h>

/* From here on the asymptotic series, whose error falls as the fifth power of the degrees, is the better way. */
enum { MANY = 1000 };

/* P(|T| <= t) by the finite series for whole degrees of freedom; all terms are positive, so nothing cancels. */
static double within(double t, int64_t degrees)
{
    const double theta = atan(t / sqrt((double)degrees)), s = sin(theta), c = cos(theta);
    const int64_t odd = degrees % 2;
    double term = odd ? c : 1.0, sum = 0.0;

    for (int64_t i = odd ? 3 : 2; i <= degrees; i += 2) {
        sum += term;
        term *= c * c * (double)(i - 1) / (double)i;
    }
    return odd ? 2.0 / M_PI * (theta + s * sum) : s * sum;
}

/* The quantile of the normal distribution, widened. */
static double of_many(int64_t degrees)
{
    const double z = 1.959963984540054235524595, z2 = z * z, n = (double)degrees;
    const double g1 = z * (z2 + 1.0) / 4.0;
    const double g2 = z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
    const double g3 = z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
    const double g4 = z * ((((79.0 * z2 + 776.0) * z2 + 1482.0) * z2 - 1920.0) * z2 - 945.0) / 92160.0;

    return z + (g1 + (g2 + (g3 + g4 / n) / n) / n) / n;
}

double hsgd_student(int64_t degrees)
{
    double low = 1.9, high = 13.0; /* t falls from 12.7 at one degree to the normal distribution's 1.96 */

    if (degrees > MANY) {
        return of_many(degrees);
    }
    for (;;) {
        const double middle = 0.5 * (low + high);

        if (middle <= low || middle >= high) {
            return middle; /* neighbours: no double lies between them */
        }
        *(within(middle, degrees) < HSGD_CONFIDENCE ? &low : &high) = middle;
    }
}
