/* src/cpu/kernels/kernel.h - what all kernels share.  Every file here is compiled once per real type (REAL) and
 * instruction set (INSTRUCTION_SET); no result depends on worker, thread, k or the other columns of a call. */
#pragma once
#include "cpu/internal.h"

#define KERNEL_JOIN_(name, real, set) hsgd_cpu_##name##_##real##_##set
#define KERNEL_JOIN(name, real, set)  KERNEL_JOIN_(name, real, set)
#define KERNEL(name)                  KERNEL_JOIN(name, REAL, INSTRUCTION_SET)
#define KERNEL_DOUBLE(name)           KERNEL_JOIN(name, double, INSTRUCTION_SET)

typedef REAL real;

/* One vector register of reals.  Memory is reached through `vec` at any alignment a real has. */
#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX2__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
typedef real vec __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));
enum { V = VEC_BYTES / sizeof(real) };

/* As many integers of a real's size: what comparisons of vectors give, all bits set where true. */
#ifdef REAL_IS_float
typedef int32_t mask_lane;
#else
typedef int64_t mask_lane;
#endif
typedef mask_lane mask __attribute__((vector_size(VEC_BYTES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *p)
{
    return *(const vec *)p;
}
INLINE void store(real *p, vec v)
{
    *(vec *)p = v;
}

INLINE int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}
INLINE int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Column j of k arrays. */
INLINE real *column(hsgd_columns c, int64_t j)
{
    return (real *)c.data + j * c.stride;
}
/* Whether column j holds what column j - 1 did not. */
INLINE bool fresh(hsgd_columns c, int64_t j)
{
    return j == 0 || c.stride != 0;
}

/* The members of the table, as backend.h says. */
hsgd_status KERNEL(affine_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                 hsgd_columns w, hsgd_columns b, hsgd_columns y, bool add, hsgd_error *err);
hsgd_status KERNEL(affine_adjoint_input)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                         hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err);
hsgd_status KERNEL(affine_adjoint_weight)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                          hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                          hsgd_error *err);
hsgd_status KERNEL(conv_value)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                               hsgd_columns w, hsgd_columns b, hsgd_columns y, bool add, hsgd_error *err);
hsgd_status KERNEL(conv_adjoint_input)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                       hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err);
hsgd_status KERNEL(conv_adjoint_weight)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                        hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                        hsgd_error *err);
hsgd_status KERNEL(images)(void *self, int worker, const uint8_t *pixels, int64_t count, int64_t m,
                           const int64_t *index, float mean, float deviation, void *x, hsgd_error *err);
hsgd_status KERNEL(relu_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err);
hsgd_status KERNEL(relu_derivative)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                    hsgd_columns out, hsgd_error *err);
hsgd_status KERNEL(tanh_value)(void *self, int worker, int64_t count, const void *x, void *y, hsgd_error *err);
hsgd_status KERNEL(tanh_derivative)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns t,
                                    hsgd_columns out, hsgd_error *err);
hsgd_status KERNEL(tanh_second)(void *self, int worker, int64_t count, int64_t k, const void *y, hsgd_columns ty,
                                const void *dy, hsgd_columns dx, hsgd_error *err);
hsgd_status KERNEL(maxpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, const void *x, void *y,
                                  int32_t *choice, hsgd_error *err);
hsgd_status KERNEL(maxpool_tangent)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    const int32_t *choice, hsgd_columns tx, hsgd_columns ty, hsgd_error *err);
hsgd_status KERNEL(maxpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    const int32_t *choice, hsgd_columns dy, hsgd_columns dx, hsgd_error *err);
hsgd_status KERNEL(avgpool_value)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                                  hsgd_columns y, hsgd_error *err);
hsgd_status KERNEL(avgpool_adjoint)(void *self, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                    hsgd_columns dy, hsgd_columns dx, hsgd_error *err);
hsgd_status KERNEL(softmax_loss)(void *self, int worker, int64_t m, int64_t classes, const void *z,
                                 const uint8_t *labels, const int64_t *index, void *p, void *delta, double *tally,
                                 int64_t *confusion, hsgd_error *err);
hsgd_status KERNEL(softmax_tangent)(void *self, int worker, int64_t m, int64_t classes, int64_t k, const void *p,
                                    hsgd_columns tz, hsgd_columns tdelta, hsgd_error *err);
hsgd_status KERNEL(softmax_root)(void *self, int worker, int64_t classes, int64_t first, int64_t k, const void *p,
                                 void *out, hsgd_error *err);
hsgd_status KERNEL(narrow)(void *self, int64_t n, int64_t k, const double *x, const int64_t *order,
                           const int32_t *exponents, void *out, hsgd_error *err);
hsgd_status KERNEL(squares)(void *self, int worker, int64_t count, int64_t k, hsgd_columns x, double *out,
                            hsgd_error *err);
hsgd_status KERNEL(accumulate)(void *self, int worker, hsgd_reduction reduction, int64_t count, const void *x,
                               double scale, void *sum, hsgd_error *err);
/* Always of doubles: made in that compilation alone. */
hsgd_status KERNEL_DOUBLE(accumulate_double)(void *self, int worker, hsgd_reduction reduction, int64_t count,
                                             const double *x, double scale, void *sum, hsgd_error *err);
hsgd_status KERNEL_DOUBLE(gram)(void *self, int64_t rows, int64_t block, int64_t kx, const double *x, int64_t ldx,
                                int64_t ky, const double *y, int64_t ldy, double *partial, hsgd_error *err);
hsgd_status KERNEL_DOUBLE(update)(void *self, int64_t rows, int64_t block, double a, int64_t kx, const double *x,
                                  int64_t ldx, const double *c, int64_t ky, double *y, int64_t ldy, hsgd_error *err);
size_t KERNEL(gates_bytes)(void *self, const hsgd_gated *layers, int64_t m);
hsgd_status KERNEL(gated_base)(void *self, int worker, const hsgd_gated *layers, int64_t m, int64_t k, hsgd_columns x,
                               hsgd_columns w, hsgd_columns b, hsgd_columns y, void *gates, hsgd_error *err);
hsgd_status KERNEL(gated_value)(void *self, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                int terms, const void *const *x, const void *const *w, const void *b, void *y,
                                hsgd_error *err);
hsgd_status KERNEL(gated_adjoint_input)(void *self, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                        int terms, const void *const *dy, const void *const *w, void *dx,
                                        hsgd_error *err);
hsgd_status KERNEL(gated_adjoint_weight)(void *self, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                         int terms, const void *const *dy, const void *const *x, void *dw, void *db,
                                         hsgd_error *err);

/* The same where gates are tabled (gated.h). */
hsgd_status KERNEL(tabled_value)(hsgd_cpu *cpu, int worker, const hsgd_gated *layers, int64_t m, const void *gates,
                                 int terms, const void *const *x, const void *const *w, const void *b, void *y,
                                 hsgd_error *err);
hsgd_status KERNEL(tabled_adjoint_weight)(hsgd_cpu *cpu, int worker, const hsgd_gated *layers, int64_t m,
                                          const void *gates, int terms, const void *const *dy, const void *const *x,
                                          void *dw, void *db, hsgd_error *err);
