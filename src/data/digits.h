/* src/data/digits.h - generated digits: ten classes of pen strokes, for machines without MNIST and for tests. */
#pragma once
#include <stdint.h>

enum { HSGD_DIGITS_EDGE = 28, HSGD_DIGITS_CLASSES = 10 };

/* Draw the samples [low, high) of a split (0 training, 1 test) into pixels[sample][28 * 28] and labels[sample].
 * Sample i is a function of (seed, split, i) alone, in the arithmetic of IEEE 754 without library functions but the
 * square root.  Local. */
void hsgd_digits_draw(uint64_t seed, int split, int64_t low, int64_t high, uint8_t *pixels, uint8_t *labels);
