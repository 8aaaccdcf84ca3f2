/* tests/emulation/include/cuda_runtime_api.h - stands in for NVIDIA's header of this name: the calls alone. */
#pragma once
#include "emulated_types.h"
#include "emulated_calls.h"
