/* tests/emulation/cublas.c - cuBLAS on the host: plain loops, strict about its arguments, queued on the handle's stream.
 *
 * Stricter than the real one, on purpose: a stream and a workspace must have been given, and matrices must lie in device
 * memory.  As in the real one, a new stream takes the workspace away, and the environment is read by cublasCreate.
 * TF32, atomics and imitated precision are made visible: they change results. */
#include "emulation.h"
#include "reduced.h"
#include <cublas_v2.h>
#include <stdbool.h>
#include <stdint.h>

_Static_assert(CUBLAS_STATUS_SUCCESS == 0 && CUBLAS_STATUS_NOT_INITIALIZED == 1 && CUBLAS_STATUS_ALLOC_FAILED == 3 &&
                   CUBLAS_STATUS_INVALID_VALUE == 7 && CUBLAS_STATUS_ARCH_MISMATCH == 8 &&
                   CUBLAS_STATUS_MAPPING_ERROR == 11 && CUBLAS_STATUS_EXECUTION_FAILED == 13 &&
                   CUBLAS_STATUS_INTERNAL_ERROR == 14 && CUBLAS_STATUS_NOT_SUPPORTED == 15 &&
                   CUBLAS_STATUS_LICENSE_ERROR == 16,
               "status");
_Static_assert(CUBLAS_OP_N == 0 && CUBLAS_OP_T == 1 && CUBLAS_OP_C == 2, "operation");
_Static_assert(CUBLAS_POINTER_MODE_HOST == 0 && CUBLAS_POINTER_MODE_DEVICE == 1, "pointer mode");
_Static_assert(CUBLAS_ATOMICS_NOT_ALLOWED == 0 && CUBLAS_ATOMICS_ALLOWED == 1, "atomics");
_Static_assert(CUBLAS_DEFAULT_MATH == 0 && CUBLAS_TENSOR_OP_MATH == 1 && CUBLAS_PEDANTIC_MATH == 2 &&
                   CUBLAS_TF32_TENSOR_OP_MATH == 3 && CUBLAS_FP32_EMULATED_BF16X9_MATH == 4 &&
                   CUBLAS_FP64_EMULATED_FIXEDPOINT_MATH == 8 && CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION == 16,
               "math mode");

enum { VERSION = 130100, LEAST_WORKSPACE = 1024 * 1024 };

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    cublasPointerMode_t pointers;
    cublasAtomicsMode_t atomics;
    cublasMath_t math;
    bool tf32_forbidden, imitates_single, imitates_double;
};

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    int count = 0;

    if (handle == NULL) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *handle = NULL;
    if (emulation_fails("cublasCreate") || cudaGetDeviceCount(&count) != cudaSuccess) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *handle = calloc(1, sizeof **handle);
    if (*handle == NULL) {
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    (*handle)->atomics = CUBLAS_ATOMICS_NOT_ALLOWED; /* as NVIDIA's default is */
    (*handle)->tf32_forbidden = environment_says("NVIDIA_TF32_OVERRIDE", "0");
    (*handle)->imitates_single = environment_says("CUBLAS_EMULATE_SINGLE_PRECISION", "1");
    (*handle)->imitates_double = environment_says("CUBLAS_EMULATE_DOUBLE_PRECISION", "1");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    free(handle);
    return cudaDeviceSynchronize() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int *version)
{
    (void)handle; /* may be NULL */
    if (version == NULL) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *version = VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t workspaceSizeInBytes)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if ((uintptr_t)workspace % 256 != 0 || workspaceSizeInBytes < LEAST_WORKSPACE ||
        !emulation_on_device(workspace, workspaceSizeInBytes)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    handle->workspace = workspace;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t streamId)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    handle->stream = streamId;
    handle->workspace = NULL;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t *streamId)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *streamId = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    handle->atomics = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (mode != CUBLAS_DEFAULT_MATH && mode != CUBLAS_PEDANTIC_MATH && mode != CUBLAS_TF32_TENSOR_OP_MATH) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode)
{
    if (handle == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "CUBLAS_STATUS_UNKNOWN";
    }
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "the library was given or met something it cannot use";
}

/* ---- products ---- */

/* A queued product, of floats or of doubles. */
typedef struct {
    bool twice, rounds; /* doubles; inputs rounded to a shorter type */
    bool trans_a, trans_b;
    int m, n, k, lda, ldb, ldc;
    double alpha, beta;
    const void *a, *b;
    void *c;
} product;

static double entry(const product *p, const void *matrix, size_t at)
{
    if (p->twice) {
        const double x = ((const double *)matrix)[at];

        return p->rounds ? (double)(float)x : x;
    }
    return (double)(p->rounds ? emulated_tf32(((const float *)matrix)[at]) : ((const float *)matrix)[at]);
}

static void multiply(void *argument)
{
    const product *p = argument;

    for (int j = 0; j < p->n; j++) {
        for (int i = 0; i < p->m; i++) {
            const size_t at = (size_t)j * (size_t)p->ldc + (size_t)i;
            double sum = 0.0;

            for (int l = 0; l < p->k; l++) {
                const size_t ia =
                    p->trans_a ? (size_t)i * (size_t)p->lda + (size_t)l : (size_t)l * (size_t)p->lda + (size_t)i;
                const size_t ib =
                    p->trans_b ? (size_t)l * (size_t)p->ldb + (size_t)j : (size_t)j * (size_t)p->ldb + (size_t)l;

                sum += entry(p, p->a, ia) * entry(p, p->b, ib);
            }
            if (p->twice) {
                double *c = (double *)p->c + at;

                *c = p->alpha * sum + (p->beta != 0.0 ? p->beta * *c : 0.0); /* beta 0: c is not read */
            } else {
                float *c = (float *)p->c + at;

                *c = (float)(p->alpha * sum + (p->beta != 0.0 ? p->beta * (double)*c : 0.0));
            }
        }
    }
}

/* Does a matrix of rows x columns fit its leading dimension and its memory? */
static bool fits(const product *p, const void *matrix, int rows, int columns, int ld)
{
    const size_t size = p->twice ? sizeof(double) : sizeof(float);

    if (ld < (rows > 1 ? rows : 1) || (uintptr_t)matrix % size != 0) {
        return false;
    }
    return rows == 0 || columns == 0 ||
           emulation_on_device(matrix, ((size_t)(columns - 1) * (size_t)ld + (size_t)rows) * size);
}

static cublasStatus_t queue(cublasHandle_t handle, const char *name, cublasOperation_t transa, cublasOperation_t transb,
                            product *p)
{
    if (handle == NULL || handle->stream == NULL || handle->workspace == NULL) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (transa > CUBLAS_OP_T || transb > CUBLAS_OP_T || p->m < 0 || p->n < 0 || p->k < 0 ||
        handle->pointers != CUBLAS_POINTER_MODE_HOST) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    p->trans_a = transa == CUBLAS_OP_T;
    p->trans_b = transb == CUBLAS_OP_T;
    if (!fits(p, p->a, p->trans_a ? p->k : p->m, p->trans_a ? p->m : p->k, p->lda) ||
        !fits(p, p->b, p->trans_b ? p->n : p->k, p->trans_b ? p->k : p->n, p->ldb) ||
        !fits(p, p->c, p->m, p->n, p->ldc)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (emulation_fails(name)) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    p->rounds =
        handle->atomics == CUBLAS_ATOMICS_ALLOWED ||
        (p->twice ? handle->imitates_double
                  : handle->imitates_single || (handle->math == CUBLAS_TF32_TENSOR_OP_MATH && !handle->tf32_forbidden));
    emulation_enqueue(handle->stream, multiply, p, sizeof *p);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                              int k, const float *alpha, const float *A, int lda, const float *B, int ldb,
                              const float *beta, float *C, int ldc)
{
    if (alpha == NULL || beta == NULL) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    product p = {.m = m,
                 .n = n,
                 .k = k,
                 .lda = lda,
                 .ldb = ldb,
                 .ldc = ldc,
                 .alpha = (double)*alpha,
                 .beta = (double)*beta,
                 .a = A,
                 .b = B,
                 .c = C};
    return queue(handle, "cublasSgemm", transa, transb, &p);
}

cublasStatus_t cublasDgemm_v2(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                              int k, const double *alpha, const double *A, int lda, const double *B, int ldb,
                              const double *beta, double *C, int ldc)
{
    if (alpha == NULL || beta == NULL) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    product p = {.twice = true,
                 .m = m,
                 .n = n,
                 .k = k,
                 .lda = lda,
                 .ldb = ldb,
                 .ldc = ldc,
                 .alpha = *alpha,
                 .beta = *beta,
                 .a = A,
                 .b = B,
                 .c = C};
    return queue(handle, "cublasDgemm", transa, transb, &p);
}
