/* cuda/device.c - one GPU of this process: which, its stream, its libraries, and the precision they compute in. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What NVIDIA's guide to cuBLAS recommends for its workspace on GPUs of the Hopper generation. */
enum { BLAS_WORKSPACE = 32 * 1024 * 1024 };

/* ---- what there is ---- */

static hsgd_status no_driver(hsgd_error *err)
{
    int driver = 0, needed = 0;

    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        (void)cudaGetLastError();
        return hsgd_error_set(err, HSGD_ERR_DEVICE,
                              "cuda: no NVIDIA driver on this machine; run where there is a GPU, or on the CPU");
    }
    (void)cudaRuntimeGetVersion(&needed);
    return hsgd_error_set(
        err, HSGD_ERR_DEVICE,
        "cuda: the driver is too old: it knows CUDA %d.%d, this program needs %d.%d; update the driver "
        "or build with an older toolkit",
        driver / 1000, driver % 1000 / 10, needed / 1000, needed % 1000 / 10);
}

static hsgd_status none_visible(hsgd_error *err)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");

    return hsgd_error_set(err, HSGD_ERR_DEVICE,
                          "cuda: no GPU is visible (CUDA_VISIBLE_DEVICES is %s%.60s%s); ask the batch system for one "
                          "(--gpus-per-task=1), or run on the CPU",
                          visible != NULL ? "'" : "", visible != NULL ? visible : "not set",
                          visible != NULL ? "'" : "");
}

static hsgd_status count_devices(int *count, hsgd_error *err)
{
    cudaError_t result = cudaSuccess;

    *count = 0;
    result = cudaGetDeviceCount(count);
    if (result == cudaSuccess && *count > 0) {
        return HSGD_OK;
    }
    (void)cudaGetLastError();
    if (result == cudaErrorInsufficientDriver) { /* also where there is no driver at all */
        return no_driver(err);
    }
    if (result == cudaSuccess || result == cudaErrorNoDevice) {
        return none_visible(err);
    }
    return hsgd_error_set(err, HSGD_ERR_DEVICE,
                          "cuda: cannot count the GPUs: %s (%s); see whether nvidia-smi works here, or run on the CPU",
                          cudaGetErrorString(result), cudaGetErrorName(result));
}

/* Does the current device, visible number `ordinal`, run our code? */
static hsgd_status check_code(int ordinal, hsgd_error *err)
{
    const cudaError_t result = hsgd_cuda_probe();
    int major = 0, minor = 0;

    if (result == cudaSuccess) {
        return HSGD_OK;
    }
    (void)cudaGetLastError();
    if (result == cudaErrorNoKernelImageForDevice || result == cudaErrorInvalidDeviceFunction) {
        (void)cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
        (void)cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
        return hsgd_error_set(err, HSGD_ERR_DEVICE,
                              "cuda: this build has no code for GPU %d, of architecture sm_%d%d; build with "
                              "-DCMAKE_CUDA_ARCHITECTURES=%d%d",
                              ordinal, major, minor, major, minor);
    }
    return hsgd_error_set(
        err, HSGD_ERR_DEVICE,
        "cuda: GPU %d cannot be used: %s (%s); see with nvidia-smi who uses it and in which mode it is", ordinal,
        cudaGetErrorString(result), cudaGetErrorName(result));
}

/* ---- precision ---- */

/* Before the libraries begin, for they look at the environment.  NVIDIA_TF32_OVERRIDE=0 forbids them to round products
 * of floats to TF32 whatever the program asks for; cuBLAS 13 may imitate float and double by shorter types, whose
 * results are others, where the environment says so. */
static hsgd_status settle_precision(bool tf32, hsgd_error *err)
{
    static const char *const variables[] = {"CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION",
                                            "NVIDIA_TF32_OVERRIDE"}; /* the last not with tf32 */
    const char *forbidden = getenv("NVIDIA_TF32_OVERRIDE");
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(!tf32 || forbidden == NULL || strcmp(forbidden, "0") != 0, HSGD_ERR_DEVICE, err,
               "cuda: TF32 is asked for, but NVIDIA_TF32_OVERRIDE=0 in the environment forbids it; unset the variable, "
               "or do not ask for TF32");
    for (int i = 0; i < (tf32 ? 2 : 3); i++) {
        HSGD_CHECK(setenv(variables[i], "0", 1) == 0, HSGD_ERR_MEMORY, err, "memory: cannot set %s in the environment",
                   variables[i]);
    }
done:
    return st;
}

/* ---- making and ending ---- */

static hsgd_status open_gpu(hsgd_cuda_device *device, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    struct cudaDeviceProp properties;

    CUDA_TRY(device, cudaSetDevice(device->ordinal), err);
    CUDA_TRY(device, cudaGetDeviceProperties(&properties, device->ordinal), err);
    (void)snprintf(device->name, sizeof device->name, "%.63s", properties.name);
    (void)snprintf(device->architecture, sizeof device->architecture, "sm_%d%d", properties.major % 1000,
                   properties.minor % 10);
    CUDA_TRY(device, cudaDeviceGetPCIBusId(device->bus_id, sizeof device->bus_id, device->ordinal), err);
    HSGD_TRY(check_code(device->ordinal, err));
    CUDA_TRY(device, cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking), err);
done:
    return st;
}

/* Results of cuBLAS depend on its workspace and on atomics: the first is ours, of fixed size, the second are off. */
static hsgd_status open_blas(hsgd_cuda_device *device, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    BLAS_TRY(device, cublasCreate(&device->blas), err);
    BLAS_TRY(device, cublasSetStream(device->blas, device->stream),
             err); /* before the workspace, which it would reset */
    HSGD_TRY(hsgd_cuda_allocate(device, BLAS_WORKSPACE, &device->blas_workspace, err));
    BLAS_TRY(device, cublasSetWorkspace(device->blas, device->blas_workspace, BLAS_WORKSPACE), err);
    BLAS_TRY(device, cublasSetPointerMode(device->blas, CUBLAS_POINTER_MODE_HOST), err);
    BLAS_TRY(device, cublasSetAtomicsMode(device->blas, CUBLAS_ATOMICS_NOT_ALLOWED), err);
    BLAS_TRY(device, cublasSetMathMode(device->blas, device->tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH),
             err);
done:
    return st;
}

static hsgd_status open_libraries(hsgd_cuda_device *device, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t dnn = cudnnGetVersion();
    int cuda = 0, blas = 0;

    HSGD_TRY(open_blas(device, err));
    DNN_TRY(device, cudnnCreate(&device->dnn), err);
    DNN_TRY(device, cudnnSetStream(device->dnn, device->stream), err);
    CUDA_TRY(device, cudaRuntimeGetVersion(&cuda), err);
    BLAS_TRY(device, cublasGetVersion(device->blas, &blas), err);
    (void)snprintf(device->libraries, sizeof device->libraries, "CUDA %d.%d, cuDNN %zu.%zu.%zu, cuBLAS %d.%d.%d",
                   cuda / 1000, cuda % 1000 / 10, dnn / 10000, dnn % 10000 / 100, dnn % 100, blas / 10000,
                   blas % 10000 / 100, blas % 100);
done:
    return st;
}

hsgd_status hsgd_cuda_device_create(int local_rank, bool tf32, hsgd_cuda_device **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *device = NULL;
    int count = 0;

    *out = NULL;
    HSGD_CHECK(local_rank >= 0, HSGD_ERR_DEVICE, err, "cuda: local rank %d; it counts from 0", local_rank);
    HSGD_TRY(settle_precision(tf32, err));
    HSGD_TRY(count_devices(&count, err));
    device = calloc(1, sizeof *device);
    HSGD_CHECK(device != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the record of a GPU");
    device->count = count;
    device->ordinal = local_rank % count;
    device->tf32 = tf32;
    HSGD_TRY(open_gpu(device, err));
    HSGD_TRY(open_libraries(device, err));
    HSGD_TRY(hsgd_cuda_transfer_create(device, err));
    *out = device;
    device = NULL;
done:
    hsgd_cuda_device_destroy(&device);
    return st;
}

void hsgd_cuda_device_destroy(hsgd_cuda_device **device)
{
    hsgd_cuda_device *d = *device;

    if (d == NULL) {
        return;
    }
    *device = NULL;
    hsgd_cuda_held_destroy(d);
    hsgd_cuda_conv_destroy(d);
    hsgd_cuda_free(d, d->conv_workspace.memory);
    hsgd_cuda_free(d, d->weights.memory);
    hsgd_cuda_transfer_destroy(d);
    if (d->stream != NULL && hsgd_cuda_at_rest(d)) {
        if (d->dnn != NULL) {
            (void)cudnnDestroy(d->dnn);
        }
        if (d->blas != NULL) {
            (void)cublasDestroy(d->blas);
        }
        hsgd_cuda_free(d, d->blas_workspace);
        for (int i = 0; i < HSGD_CUDA_MARKS; i++) {
            if (d->marks[i] != NULL) {
                (void)cudaEventDestroy(d->marks[i]);
            }
        }
        (void)cudaStreamDestroy(d->stream);
    }
    free(d);
}

hsgd_status hsgd_cuda_device_describe(hsgd_cuda_device *device, hsgd_cuda_description *out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    *out = (hsgd_cuda_description){.ordinal = device->ordinal, .count = device->count, .stream = device->stream};
    (void)snprintf(out->name, sizeof out->name, "%s", device->name);
    (void)snprintf(out->bus_id, sizeof out->bus_id, "%s", device->bus_id);
    (void)snprintf(out->architecture, sizeof out->architecture, "%s", device->architecture);
    (void)snprintf(out->libraries, sizeof out->libraries, "%s", device->libraries);
    HSGD_TRY(hsgd_cuda_ready(device, err));
    CUDA_TRY(device, cudaMemGetInfo(&out->free, &out->total), err);
done:
    return st;
}
