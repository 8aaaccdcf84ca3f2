/* tests/emulation/agreement.c - do the emulated declarations agree with NVIDIA's?  Compile it, for syntax only, with
 * tests/emulation/include before and with a toolkit's include folder instead: redeclaring a function with another type
 * is an error, and so is a code, a flag or a member that differs. */
#include <stddef.h>
#include <cuda_runtime_api.h>
#include "include/emulated_calls.h"
#include "include/emulated_errors.h"

#define SAME(name, value)            _Static_assert((int)(name) == (value), #name);
#define SAME_CODE(name, value, text) SAME(name, value)
#define MEMBER(structure, member, type)                                                                                \
    _Static_assert(_Generic(&((struct structure *)0)->member, __typeof__(type) * : 1, default : 0),                    \
                   #structure "." #member);

EMULATION_ERRORS(SAME_CODE)

SAME(cudaMemcpyHostToHost, 0)
SAME(cudaMemcpyHostToDevice, 1)
SAME(cudaMemcpyDeviceToHost, 2)
SAME(cudaMemcpyDeviceToDevice, 3)
SAME(cudaMemcpyDefault, 4)
SAME(cudaComputeModeDefault, 0)
SAME(cudaComputeModeExclusive, 1)
SAME(cudaComputeModeProhibited, 2)
SAME(cudaComputeModeExclusiveProcess, 3)
SAME(cudaDevAttrMaxThreadsPerBlock, 1)
SAME(cudaDevAttrMaxSharedMemoryPerBlock, 8)
SAME(cudaDevAttrWarpSize, 10)
SAME(cudaDevAttrMultiProcessorCount, 16)
SAME(cudaDevAttrIntegrated, 18)
SAME(cudaDevAttrComputeMode, 20)
SAME(cudaDevAttrPciBusId, 33)
SAME(cudaDevAttrPciDeviceId, 34)
SAME(cudaDevAttrMaxThreadsPerMultiProcessor, 39)
SAME(cudaDevAttrPciDomainId, 50)
SAME(cudaDevAttrComputeCapabilityMajor, 75)
SAME(cudaDevAttrComputeCapabilityMinor, 76)
SAME(cudaHostAllocDefault, 0)
SAME(cudaHostAllocPortable, 1)
SAME(cudaHostAllocMapped, 2)
SAME(cudaHostAllocWriteCombined, 4)
SAME(cudaStreamDefault, 0)
SAME(cudaStreamNonBlocking, 1)
SAME(cudaEventDefault, 0)
SAME(cudaEventBlockingSync, 1)
SAME(cudaEventDisableTiming, 2)

MEMBER(cudaDeviceProp, name, char[256])
MEMBER(cudaDeviceProp, totalGlobalMem, size_t)
MEMBER(cudaDeviceProp, sharedMemPerBlock, size_t)
MEMBER(cudaDeviceProp, regsPerBlock, int)
MEMBER(cudaDeviceProp, warpSize, int)
MEMBER(cudaDeviceProp, maxThreadsPerBlock, int)
MEMBER(cudaDeviceProp, maxThreadsDim, int[3])
MEMBER(cudaDeviceProp, maxGridSize, int[3])
MEMBER(cudaDeviceProp, major, int)
MEMBER(cudaDeviceProp, minor, int)
MEMBER(cudaDeviceProp, multiProcessorCount, int)
MEMBER(cudaDeviceProp, integrated, int)
MEMBER(cudaDeviceProp, pciBusID, int)
MEMBER(cudaDeviceProp, pciDeviceID, int)
MEMBER(cudaDeviceProp, pciDomainID, int)
MEMBER(cudaDeviceProp, maxThreadsPerMultiProcessor, int)
MEMBER(cudaFuncAttributes, sharedSizeBytes, size_t)
MEMBER(cudaFuncAttributes, constSizeBytes, size_t)
MEMBER(cudaFuncAttributes, localSizeBytes, size_t)
MEMBER(cudaFuncAttributes, maxThreadsPerBlock, int)
MEMBER(cudaFuncAttributes, numRegs, int)
MEMBER(cudaFuncAttributes, ptxVersion, int)
MEMBER(cudaFuncAttributes, binaryVersion, int)
