/* src/solve/student.h - Student's t: how wide an interval around a mean of few samples must be. */
#pragma once
#include <stdint.h>

#define HSGD_CONFIDENCE 0.95 /* of every interval that is told */

/* The t with P(|T| <= t) = HSGD_CONFIDENCE for T of so many degrees of freedom (>= 1), to a relative error of 1e-13.
 * Local.  Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 to 26.7.5. */
double hsgd_student(int64_t degrees);
