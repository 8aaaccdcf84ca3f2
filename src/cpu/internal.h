/* src/cpu/internal.h - what the host side of the CPU backend and its kernels share; of no use outside src/cpu. */
#pragma once
#include "backend.h"

/* Memory of one worker that its kernels overwrite at will; on cache lines of its own. */
typedef struct {
    _Alignas(64) void *memory;
    size_t bytes;
} hsgd_cpu_scratch;

typedef struct {
    int workers;
    hsgd_cpu_scratch *scratch; /* [workers] */
} hsgd_cpu;

/* At least `bytes` of worker's scratch memory, 64-byte aligned, content undefined, until its next call.  It grows in the
 * first calls of a shape and is kept, so nothing is allocated once a computation is under way.  Local.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_cpu_scratch_get(hsgd_cpu *cpu, int worker, size_t bytes, void **out, hsgd_error *err);

/* The next part of scratch memory at *at, `bytes` long, rounded up so that all parts are 64-byte aligned.  Local. */
static inline size_t hsgd_cpu_round(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}
static inline void *hsgd_cpu_take(void **at, size_t bytes)
{
    void *part = *at;

    *at = (char *)part + hsgd_cpu_round(bytes);
    return part;
}

/* The members of the table that know neither the real type nor the instruction set; as backend.h says. */
void hsgd_cpu_destroy(void *self);
hsgd_status hsgd_cpu_alloc(void *self, size_t bytes, void **out, hsgd_error *err);
void hsgd_cpu_release(void *self, void *memory);
hsgd_status hsgd_cpu_upload(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err);
hsgd_status hsgd_cpu_download(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err);
hsgd_status hsgd_cpu_zero(void *self, int worker, size_t bytes, void *memory, hsgd_error *err);
hsgd_status hsgd_cpu_for_groups(void *self, int64_t count, bool spread_fixed, hsgd_group_body body, void *context,
                                hsgd_error *err);
void hsgd_cpu_weight_order(void *self, const hsgd_layer *layer, int64_t *order);
hsgd_status hsgd_cpu_copy(void *self, int worker, size_t bytes, const void *from, void *to, hsgd_error *err);
hsgd_status hsgd_cpu_hold(void *self, size_t bytes, const void *host, const void **memory, hsgd_error *err);
void hsgd_cpu_let_go(void *self, const void *host);
hsgd_status hsgd_cpu_merge(void *self, hsgd_reduction reduction, int64_t words, int workers, void *const *sums,
                           void *out, hsgd_error *err);
hsgd_status hsgd_cpu_permute(void *self, int64_t count, const int64_t *index, const void *from, void *to,
                             hsgd_error *err);
hsgd_status hsgd_cpu_exponents(void *self, int64_t n, int64_t k, const double *x, int32_t *exponents, hsgd_error *err);
hsgd_status hsgd_cpu_expand(void *self, hsgd_reduction reduction, int64_t rows, int64_t k, const void *words,
                            double scale, double divisor, const int32_t *exponents, double *y, int64_t ldy,
                            hsgd_error *err);
hsgd_status hsgd_cpu_count_beyond(void *self, int64_t count, const double *x, double limit, double *out,
                                  hsgd_error *err);
hsgd_status hsgd_cpu_sgd_update(void *self, const hsgd_sgd_rule *rule, int64_t n, const double *g, const double *halted,
                                double *p, double *momentum, hsgd_error *err);
hsgd_status hsgd_cpu_add_blocks(void *self, int64_t blocks, int64_t products, const double *partial, double *g,
                                hsgd_error *err);

/* The tables, one per real type and instruction set. */
extern const hsgd_backend_ops hsgd_cpu_ops_float_generic, hsgd_cpu_ops_double_generic;
extern const hsgd_backend_ops hsgd_cpu_ops_float_avx2, hsgd_cpu_ops_double_avx2;
extern const hsgd_backend_ops hsgd_cpu_ops_float_avx512, hsgd_cpu_ops_double_avx512;
