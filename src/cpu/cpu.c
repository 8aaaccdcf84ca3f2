/* src/cpu/cpu.c - makes the CPU backend: picks the kernels for this machine, and owns the workers' scratch memory. */
#include "cpu/cpu.h"
#include "cpu/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Samples in a group.  Ten divides the default batch of 100 into 10 groups, which 2 workers share evenly, and is enough
 * that cutting a group's 28,938 derivatives into fixed-point words costs about a hundredth of computing them. */
enum { GROUP = 10 };

typedef struct {
    const char *name;
    const hsgd_backend_ops *single, *twice; /* for float and for double */
} instruction_set;

/* Widest first. */
static const instruction_set built[] = {
#ifdef HSGD_CPU_X86
    {"avx512", &hsgd_cpu_ops_float_avx512, &hsgd_cpu_ops_double_avx512},
    {"avx2", &hsgd_cpu_ops_float_avx2, &hsgd_cpu_ops_double_avx2},
#endif
    {"generic", &hsgd_cpu_ops_float_generic, &hsgd_cpu_ops_double_generic},
};
enum { BUILT = sizeof built / sizeof built[0] };

/* Whether this machine can run the kernels of that name. */
static bool supported(const char *name)
{
#ifdef HSGD_CPU_X86
    if (strcmp(name, "avx512") == 0) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    if (strcmp(name, "avx2") == 0) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
#endif
    return strcmp(name, "generic") == 0;
}

hsgd_status hsgd_cpu_width(int *width, hsgd_error *err)
{
    const char *wanted = getenv("HSGD_INSTRUCTION_SET");
    const bool any = wanted == NULL || wanted[0] == '\0';

    for (int i = 0; i < BUILT; i++) {
        if ((any || strcmp(wanted, built[i].name) == 0) && supported(built[i].name)) {
            *width = BUILT - 1 - i;
            return HSGD_OK;
        }
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE,
                          "cpu: $HSGD_INSTRUCTION_SET asks for '%.40s', which this build or this machine lacks; unset "
                          "it, or use generic, avx2 or avx512 as the machine allows",
                          any ? "" : wanted);
}

/* The widest set here of at most that width; generic is always there. */
static const instruction_set *choose(int width)
{
    int i = 0;

    while (i < BUILT - 1 && (BUILT - 1 - i > width || !supported(built[i].name))) {
        i++;
    }
    return &built[i];
}

hsgd_status hsgd_backend_cpu_create(hsgd_precision precision, int threads, hsgd_backend **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int width = 0;

    *out = NULL;
    HSGD_TRY(hsgd_cpu_width(&width, err));
    HSGD_TRY(hsgd_backend_cpu_create_within(precision, threads, width, out, err));
done:
    return st;
}

hsgd_status hsgd_backend_cpu_create_within(hsgd_precision precision, int threads, int width, hsgd_backend **out,
                                           hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const instruction_set *set = choose(width);
    hsgd_backend *backend = calloc(1, sizeof *backend);
    hsgd_cpu *cpu = calloc(1, sizeof *cpu);

    *out = NULL;
    HSGD_CHECK(backend != NULL && cpu != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the CPU backend");
    HSGD_CHECK(threads >= 1, HSGD_ERR_DEVICE, err, "cpu: %d threads; use at least 1", threads);
    cpu->workers = threads;
    cpu->scratch = aligned_alloc(64, (size_t)threads * sizeof *cpu->scratch);
    HSGD_CHECK(cpu->scratch != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the CPU backend");
    memset(cpu->scratch, 0, (size_t)threads * sizeof *cpu->scratch);
    backend->ops = precision == HSGD_DOUBLE ? set->twice : set->single;
    backend->precision = precision;
    backend->workers = threads;
    backend->host_memory = true;
    backend->group = backend->least_group = GROUP;
    (void)snprintf(backend->instruction_set, sizeof backend->instruction_set, "%s", set->name);
    backend->self = cpu;
    *out = backend;
    backend = NULL;
    cpu = NULL;
done:
    free(cpu);
    free(backend);
    return st;
}

void hsgd_cpu_destroy(void *self)
{
    hsgd_cpu *cpu = self;

    for (int w = 0; w < cpu->workers; w++) {
        free(cpu->scratch[w].memory);
    }
    free(cpu->scratch);
    free(cpu);
}

hsgd_status hsgd_cpu_scratch_get(hsgd_cpu *cpu, int worker, size_t bytes, void **out, hsgd_error *err)
{
    hsgd_cpu_scratch *scratch = &cpu->scratch[worker];

    if (bytes > scratch->bytes) {
        free(scratch->memory);
        scratch->bytes = hsgd_cpu_round(bytes);
        scratch->memory = aligned_alloc(64, scratch->bytes);
        if (scratch->memory == NULL) {
            scratch->bytes = 0;
            return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %zu bytes of scratch for worker %d",
                                  bytes, worker);
        }
    }
    *out = scratch->memory;
    return HSGD_OK;
}
