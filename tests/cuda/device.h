/* tests/cuda/device.h - tests of kernels: each runs in both precisions and several times, in other orders of the threads
 * where CUDA is emulated, and every time has to give the same bits. */
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels.h"

enum { MOST_PARTS = 512 };

/* One pass through a test's body. */
typedef struct {
    hsgd_precision p;
    cudaStream_t stream;
    int turn;               /* 0: results are compared with what is expected and kept; later: with what was kept */
    int checks;             /* so far in this turn */
    void *kept[MOST_PARTS]; /* [checks], bytes */
    void *host[MOST_PARTS], *device[MOST_PARTS];
    int hosts, devices;
} fixture;

/* Call body in single and double precision, several times each. */
void in_every_order(void (*body)(fixture *f));

/* `count` doubles of host memory, zero; ended with the turn. */
double *room(fixture *f, int64_t count);

/* `count` numbers in [-2, 2), multiples of 1/128, so exact in float, and the same for the same seed. */
double *numbers(fixture *f, int64_t count, uint64_t seed);

/* Device memory with these reals (rounded to the precision), or bytes; ended with the turn. */
void *put(fixture *f, int64_t count, const double *values);
void *put_bytes(fixture *f, size_t bytes, const void *values);

/* `k` columns of `count` reals on the device; shared: one column with stride 0. */
hsgd_columns put_columns(fixture *f, int64_t count, int64_t k, const double *values, bool shared);

/* The launch went well. */
void launched(cudaError_t error);

/* |got - expected| <= ulps * scale, in units of the precision's epsilon; NaN where NaN is expected, and only there.
 * check_doubles: the device memory holds doubles whatever the precision.  check_bytes: exactly these bytes. */
void check(fixture *f, const void *device, int64_t count, const double *expected, double ulps, double scale);
void check_doubles(fixture *f, const void *device, int64_t count, const double *expected, double ulps, double scale);
void check_bytes(fixture *f, const void *device, size_t bytes, const void *expected);
