/* tests/bench/peak.c - what the machine can do at this moment: sgemm, a memory triad, and multiply-adds from the cache.
 *
 * usage: hsgd-bench-peak THREADS SECONDS-PER-FIGURE
 * Prints "sgemm: GFLOP/s" of OpenBLAS on matrices of EDGE x EDGE, and "triad: GB/s" of a = b + s c over arrays far
 * beyond the caches, three streams counted, and "cache: GFLOP/s" of multiply-adds with one operand each from the first-level
 * cache, as the kernels of gated convolutions make them; medians over repetitions. */
#include "base/clock.h"
#include <cblas.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { EDGE = 2048, REPEATS = 400, TRIAD = 24 << 20 /* doubles: 192 MiB an array */ };

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
enum { SUMS = 8, NEAR = 4096 /* floats: 16 KiB */, SWEEPS = 20000 };

typedef struct {
    float *a, *b, *c;
    double *x, *y, *z;
    int threads;
} memory;

typedef void (*work)(const memory *m);

static void sgemm(const memory *m)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, EDGE, EDGE, EDGE, 1.0f, m->a, EDGE, m->b, EDGE, 0.0f, m->c,
                EDGE);
}

static void triad(const memory *m)
{
    double *x = m->x;
    const double *y = m->y, *z = m->z;

#pragma omp parallel for simd num_threads(m->threads) schedule(static)
    for (int64_t i = 0; i < TRIAD; i++) {
        x[i] = y[i] + 3.0 * z[i];
    }
}

static void cache(const memory *m)
{
#pragma omp parallel for num_threads(m->threads) schedule(static, 1)
    for (int t = 0; t < m->threads; t++) {
        const float *near = m->a + t * NEAR;
        vec sum[SUMS] = {0};

        for (int64_t r = 0; r < SWEEPS; r++) {
            const float factor = 1.0f / (float)(r + 1); /* another in every sweep, or sweeps would be added up */

            for (int64_t p = 0; p < NEAR; p += SUMS * 16) {
                for (int i = 0; i < SUMS; i++) {
                    sum[i] += factor * *(const vec *)(near + p + i * 16);
                }
            }
        }
        for (int i = 0; i < SUMS; i++) {
            *(vec *)(m->c + (t * SUMS + i) * 16) = sum[i];
        }
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median_seconds(work f, const memory *m, double seconds)
{
    static double times[REPEATS];
    const double end = hsgd_clock() + seconds;
    int count = 0;

    f(m);
    while (count < 3 || (hsgd_clock() < end && count < REPEATS)) {
        const double start = hsgd_clock();

        f(m);
        times[count++] = hsgd_clock() - start;
    }
    qsort(times, (size_t)count, sizeof times[0], ascending);
    return times[count / 2];
}

/* First touched by the threads that will use it. */
static void fill(const memory *m)
{
#pragma omp parallel for num_threads(m->threads) schedule(static)
    for (int64_t i = 0; i < TRIAD; i++) {
        m->x[i] = 0.0;
        m->y[i] = 1.0;
        m->z[i] = 2.0;
    }
    for (int64_t i = 0; i < (int64_t)EDGE * EDGE; i++) {
        m->a[i] = (float)(i % 7) - 3.0f;
        m->b[i] = (float)(i % 5) - 2.0f;
    }
}

int main(int argc, char **argv)
{
    memory m = {.threads = argc == 3 ? (int)strtol(argv[1], NULL, 10) : 0};
    const double seconds = argc == 3 ? strtod(argv[2], NULL) : 0.0;
    const size_t matrix = (size_t)EDGE * EDGE * sizeof(float), array = (size_t)TRIAD * sizeof(double);
    int code = 2;

    if (m.threads < 1 || m.threads > EDGE || !(seconds > 0.0)) {
        (void)fprintf(stderr, "usage: hsgd-bench-peak THREADS SECONDS\n");
        return code;
    }
    m.a = aligned_alloc(64, matrix), m.b = malloc(matrix), m.c = malloc(matrix);
    m.x = malloc(array), m.y = malloc(array), m.z = malloc(array);
    if (m.a != NULL && m.b != NULL && m.c != NULL && m.x != NULL && m.y != NULL && m.z != NULL) {
        openblas_set_num_threads(m.threads);
        fill(&m);
        printf("sgemm: %.1f\n", 2.0 * EDGE * EDGE * EDGE / median_seconds(sgemm, &m, seconds) / 1e9);
        printf("triad: %.1f\n", 3.0 * (double)array / median_seconds(triad, &m, seconds) / 1e9);
        printf("cache: %.1f\n", 2.0 * SWEEPS * NEAR * m.threads / median_seconds(cache, &m, seconds) / 1e9);
        code = 0;
    } else {
        (void)fprintf(stderr, "hsgd-bench-peak: memory\n");
    }
    free(m.z), free(m.y), free(m.x), free(m.c), free(m.b), free(m.a);
    return code;
}
