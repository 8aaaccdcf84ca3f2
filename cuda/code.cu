/* cuda/code.cu - whether this build has code for a device: all our kernels are built for the same ones. */
#include "kernels.h"

static __global__ void nothing(void) {}

extern "C" cudaError_t hsgd_cuda_has_code(void)
{
    cudaFuncAttributes attributes;

    return cudaFuncGetAttributes(&attributes, (const void *)nothing);
}
