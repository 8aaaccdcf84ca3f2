/* tests/cuda/device.c - see device.h. */
#include "device.h"
#include <float.h>
#ifdef HSGD_EMULATION
#include "emulation.h"
#endif

static const char *const orders[] = {"forward", "backward", "shuffled:1", "shuffled:20"};

static void set_order(const char *order)
{
#ifdef HSGD_EMULATION
    assert_int_equal(setenv("HSGD_EMULATION_ORDER", order, 1), 0);
    emulation_reconfigure();
#else
    (void)order;
#endif
}

void launched(cudaError_t error)
{
    assert_string_equal(cudaGetErrorName(error), "cudaSuccess");
}

static void end_turn(fixture *f)
{
    for (int i = 0; i < f->hosts; i++) {
        free(f->host[i]);
    }
    for (int i = 0; i < f->devices; i++) {
        launched(cudaFree(f->device[i]));
    }
    f->hosts = f->devices = 0;
}

void in_every_order(void (*body)(fixture *f))
{
    static fixture f;

    for (int p = 0; p < 2; p++) {
        memset(&f, 0, sizeof f);
        f.p = p == 0 ? HSGD_SINGLE : HSGD_DOUBLE;
        launched(cudaStreamCreateWithFlags(&f.stream, cudaStreamNonBlocking));
        for (f.turn = 0; f.turn < (int)(sizeof orders / sizeof *orders); f.turn++) {
            set_order(orders[f.turn]);
            f.checks = 0;
            body(&f);
            end_turn(&f);
        }
        for (int i = 0; i < f.checks; i++) {
            free(f.kept[i]);
        }
        launched(cudaStreamDestroy(f.stream));
    }
    set_order("forward");
}

double *room(fixture *f, int64_t count)
{
    double *values = calloc((size_t)count + 1, sizeof *values);

    assert_non_null(values);
    assert_true(f->hosts < MOST_PARTS);
    return f->host[f->hosts++] = values;
}

double *numbers(fixture *f, int64_t count, uint64_t seed)
{
    double *values = room(f, count);
    uint64_t x = seed + 1;

    for (int64_t i = 0; i < count; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        values[i] = ((double)(x >> 55) - 256.0) / 128.0;
    }
    return values;
}

void *put_bytes(fixture *f, size_t bytes, const void *values)
{
    void *memory = NULL;

    assert_true(f->devices < MOST_PARTS);
    launched(cudaMalloc(&memory, bytes > 0 ? bytes : 1));
    f->device[f->devices++] = memory;
    launched(cudaMemcpyAsync(memory, values, bytes, cudaMemcpyHostToDevice, f->stream));
    return memory;
}

void *put(fixture *f, int64_t count, const double *values)
{
    float *rounded = (float *)room(f, count);

    if (f->p == HSGD_DOUBLE) {
        return put_bytes(f, (size_t)count * sizeof(double), values);
    }
    for (int64_t i = 0; i < count; i++) {
        rounded[i] = (float)values[i];
    }
    return put_bytes(f, (size_t)count * sizeof(float), rounded);
}

hsgd_columns put_columns(fixture *f, int64_t count, int64_t k, const double *values, bool shared)
{
    return (hsgd_columns){put(f, shared ? count : count * k, values), shared ? 0 : count};
}

/* The bytes on the device; those of the first turn are kept and those of a later one must be the same. */
static void *fetch(fixture *f, const void *device, size_t bytes)
{
    void *got = room(f, (int64_t)(bytes / sizeof(double)) + 1);

    launched(cudaMemcpyAsync(got, device, bytes, cudaMemcpyDeviceToHost, f->stream));
    launched(cudaStreamSynchronize(f->stream));
    assert_true(f->checks < MOST_PARTS);
    if (f->turn == 0) {
        f->kept[f->checks] = malloc(bytes + 1);
        assert_non_null(f->kept[f->checks]);
        memcpy(f->kept[f->checks], got, bytes);
    } else {
        assert_memory_equal(got, f->kept[f->checks], bytes);
    }
    f->checks++;
    return got;
}

static void compare(int64_t i, double got, double expected, double tolerance)
{
    if (isnan(got) != isnan(expected) || (got != expected && fabs(got - expected) > tolerance)) {
        fail_msg("entry %lld: %.17g, expected %.17g within %g", (long long)i, got, expected, tolerance);
    }
}

void check(fixture *f, const void *device, int64_t count, const double *expected, double ulps, double scale)
{
    const float *got = NULL;

    if (f->p == HSGD_DOUBLE) {
        check_doubles(f, device, count, expected, ulps, scale);
        return;
    }
    got = fetch(f, device, (size_t)count * sizeof *got);
    for (int64_t i = 0; i < count; i++) {
        compare(i, (double)got[i], expected[i], ulps * FLT_EPSILON * scale);
    }
}

void check_doubles(fixture *f, const void *device, int64_t count, const double *expected, double ulps, double scale)
{
    const double *got = fetch(f, device, (size_t)count * sizeof *got);

    for (int64_t i = 0; i < count; i++) {
        compare(i, got[i], expected[i], ulps * DBL_EPSILON * scale);
    }
}

void check_bytes(fixture *f, const void *device, size_t bytes, const void *expected)
{
    assert_memory_equal(fetch(f, device, bytes), expected, bytes);
}
