/* tests/emulation/reduced.h - what rounding to a shorter type does to a float, so that a test sees when a library may. */
#pragma once
#include <stdlib.h>
#include <string.h>

/* x rounded to the 10 fraction bits of TF32, ties to even; finite x. */
static inline float emulated_tf32(float x)
{
    unsigned bits;

    memcpy(&bits, &x, sizeof bits);
    bits += 0xfffu + (bits >> 13 & 1u);
    bits &= ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Is the environment variable set to `value`? */
static inline int environment_says(const char *name, const char *value)
{
    const char *text = getenv(name);

    return text != NULL && strcmp(text, value) == 0;
}
