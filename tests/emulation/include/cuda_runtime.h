/* tests/emulation/include/cuda_runtime.h - stands in for NVIDIA's header of this name; needs no toolkit.  C code gets the
 * runtime's calls, C++ code also what kernels are written with. */
#pragma once
#include "emulated_types.h"
#include "emulated_calls.h"
#ifdef __cplusplus
#include "emulated_device.h"
#endif
