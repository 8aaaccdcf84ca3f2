/* tests/emulation/runtime.cpp - settings, devices and errors of the emulated runtime. */
#include "internal.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulation
{
static thread_local cudaError_t last_error = cudaSuccess;
static thread_local int device = 0;
static cudaError_t loss = cudaSuccess; /* sticky: why the device is lost */
static long fail_count = 0;
static bool known = false;
static settings current;

std::recursive_mutex &lock()
{
    static std::recursive_mutex *mutex = new std::recursive_mutex; /* never ended: calls may come from destructors */

    return *mutex;
}

void die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("emulation: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

static long long number(const char *name, long long fallback)
{
    const char *text = getenv(name);
    char *end = NULL;

    if (text == NULL || *text == '\0') {
        return fallback;
    }
    const long long value = strtoll(text, &end, 10);
    if (*end != '\0') {
        die("%s=%s is no number", name, text);
    }
    return value;
}

static void read_order(settings *to)
{
    const char *text = getenv("HSGD_EMULATION_ORDER");

    to->order = order::FORWARD;
    if (text == NULL || *text == '\0' || strcmp(text, "forward") == 0) {
        return;
    }
    if (strcmp(text, "backward") == 0) {
        to->order = order::BACKWARD;
    } else if (strncmp(text, "shuffled:", 9) == 0) {
        to->order = order::SHUFFLED;
        to->seed = strtoull(text + 9, NULL, 10);
    } else {
        die("HSGD_EMULATION_ORDER=%s: must be forward, backward or shuffled:SEED", text);
    }
}

static void read_failure(settings *to)
{
    const char *text = getenv("HSGD_EMULATION_FAIL");
    const char *colon = text != NULL ? strchr(text, ':') : NULL;

    if (text == NULL || *text == '\0') {
        return;
    }
    if (colon == NULL || atol(colon + 1) < 1) {
        die("HSGD_EMULATION_FAIL=%s: must be name:N, N from 1", text);
    }
    to->fail_name.assign(text, (size_t)(colon - text));
    to->fail_at = atol(colon + 1);
}

const settings &configured()
{
    if (!known) {
        settings read = {};

        read.devices = (int)number("HSGD_EMULATION_DEVICES", 1);
        read.memory = (size_t)number("HSGD_EMULATION_MEMORY", 1LL << 31);
        read.guard = number("HSGD_EMULATION_GUARD", 0) != 0;
        read_order(&read);
        read_failure(&read);
        if (read.devices > MOST_DEVICES) {
            die("HSGD_EMULATION_DEVICES=%d: at most %d", read.devices, (int)MOST_DEVICES);
        }
        current = read;
        known = true;
    }
    return current;
}

int current_device()
{
    return device;
}

bool fails(const char *name)
{
    const settings &now = configured();

    return now.fail_at > 0 && now.fail_name == name && ++fail_count == now.fail_at;
}

bool lost()
{
    return loss != cudaSuccess;
}

static cudaError_t device_error()
{
    const int devices = configured().devices;

    return devices < 0 ? cudaErrorInsufficientDriver : devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t enter(const char *call, cudaError_t failure)
{
    if (device_error() != cudaSuccess) {
        return device_error();
    }
    if (loss != cudaSuccess) {
        return loss;
    }
    return fails(call) ? failure : cudaSuccess;
}

cudaError_t leave(cudaError_t error)
{
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

cudaError_t outcome()
{
    return leave(loss);
}
} // namespace emulation

using namespace emulation;

typedef std::lock_guard<std::recursive_mutex> locked;

extern "C" int emulation_fails(const char *name)
{
    const locked held(lock());

    return fails(name);
}

extern "C" void emulation_lose_device(cudaError_t error)
{
    const locked held(lock());

    loss = error;
}

extern "C" void emulation_reconfigure(void)
{
    const locked held(lock());

    known = false;
    fail_count = 0;
    loss = cudaSuccess;
    last_error = cudaSuccess;
    protect_memory();
}

#define NAME_OF(code, value, text)                                                                                     \
    case code:                                                                                                         \
        return #code;
#define TEXT_OF(code, value, text)                                                                                     \
    case code:                                                                                                         \
        return text;

extern "C" const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
        EMULATION_ERRORS(NAME_OF)
    }
    return "unrecognized error code";
}

extern "C" const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
        EMULATION_ERRORS(TEXT_OF)
    }
    return "unrecognized error code";
}

extern "C" cudaError_t cudaPeekAtLastError(void)
{
    const locked held(lock());

    return loss != cudaSuccess ? loss : last_error;
}

extern "C" cudaError_t cudaGetLastError(void)
{
    const locked held(lock());
    const cudaError_t error = loss != cudaSuccess ? loss : last_error;

    last_error = cudaSuccess;
    return error;
}

extern "C" cudaError_t cudaGetDeviceCount(int *count)
{
    const locked held(lock());

    *count = configured().devices > 0 ? configured().devices : 0;
    if (device_error() == cudaSuccess && fails("cudaGetDeviceCount")) {
        return leave(cudaErrorUnknown);
    }
    return leave(device_error());
}

static cudaError_t valid_device(int number)
{
    return number >= 0 && number < configured().devices ? cudaSuccess : cudaErrorInvalidDevice;
}

extern "C" cudaError_t cudaSetDevice(int number)
{
    const locked held(lock());
    cudaError_t error = enter("cudaSetDevice", cudaErrorDevicesUnavailable);

    error = error == cudaSuccess ? valid_device(number) : error;
    if (error == cudaSuccess) {
        device = number;
    }
    return leave(error);
}

extern "C" cudaError_t cudaGetDevice(int *number)
{
    const locked held(lock());

    *number = device;
    return leave(enter("cudaGetDevice"));
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int number)
{
    const locked held(lock());
    cudaError_t error = enter("cudaGetDeviceProperties");

    error = error == cudaSuccess ? valid_device(number) : error;
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "Emulated GPU");
    prop->totalGlobalMem = configured().memory;
    prop->sharedMemPerBlock = 48 << 10;
    prop->regsPerBlock = 65536;
    prop->warpSize = WARP;
    prop->maxThreadsPerBlock = 1024;
    prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
    prop->maxThreadsDim[2] = 64;
    prop->maxGridSize[0] = 2147483647;
    prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->major = 9;
    prop->minor = 0;
    prop->multiProcessorCount = 132;
    prop->pciBusID = number + 1;
    prop->maxThreadsPerMultiProcessor = 2048;
    return leave(error);
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int number)
{
    const locked held(lock());
    struct cudaDeviceProp prop;
    cudaError_t error = enter("cudaDeviceGetAttribute");

    error = error == cudaSuccess ? cudaGetDeviceProperties(&prop, number) : error;
    if (error != cudaSuccess) {
        return leave(error);
    }
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = prop.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)prop.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = prop.warpSize;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = prop.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrPciBusId:
        *value = prop.pciBusID;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = prop.maxThreadsPerMultiProcessor;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = prop.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = prop.minor;
        return cudaSuccess;
    }
    return leave(cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *pciBusId, int len, int number)
{
    const locked held(lock());
    cudaError_t error = enter("cudaDeviceGetPCIBusId");

    error = error == cudaSuccess ? valid_device(number) : error;
    if (error == cudaSuccess && snprintf(pciBusId, (size_t)len, "0000:%02X:00.0", (unsigned)number + 1) >= len) {
        error = cudaErrorInvalidValue;
    }
    return leave(error);
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    const locked held(lock());

    *version = configured().devices < 0 ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attr, const void *func)
{
    const locked held(lock());
    cudaError_t error = enter("cudaFuncGetAttributes", cudaErrorNoKernelImageForDevice);

    memset(attr, 0, sizeof *attr);
    attr->maxThreadsPerBlock = 1024;
    attr->numRegs = 32;
    attr->ptxVersion = attr->binaryVersion = 90;
    if (error == cudaSuccess && func == NULL) {
        error = cudaErrorInvalidValue;
    }
    return leave(error);
}
