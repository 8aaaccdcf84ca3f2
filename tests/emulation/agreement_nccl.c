/* tests/emulation/agreement_nccl.c - do the values of the emulated nccl.h agree with NVIDIA's?  Compile it, for syntax
 * only, with tests/emulation/include before and with a toolkit's include folder instead.  That the functions agree is
 * shown by compiling nccl.c, which defines them, with NVIDIA's header; -Wno-missing-prototypes, since that declares
 * ncclGroupStart and ncclGroupEnd without saying that they take nothing. */
#include <nccl.h>

#define SAME(name, value) _Static_assert((int)(name) == (value), #name);

SAME(ncclSuccess, 0)
SAME(ncclUnhandledCudaError, 1)
SAME(ncclSystemError, 2)
SAME(ncclInternalError, 3)
SAME(ncclInvalidArgument, 4)
SAME(ncclInvalidUsage, 5)
SAME(ncclRemoteError, 6)
SAME(ncclInProgress, 7)
SAME(ncclSum, 0)
SAME(ncclProd, 1)
SAME(ncclMax, 2)
SAME(ncclMin, 3)
SAME(ncclAvg, 4)
SAME(ncclInt64, 4)
SAME(ncclUint64, 5)
SAME(ncclFloat32, 7)
SAME(ncclFloat64, 8)
SAME(NCCL_MAJOR, 2)
SAME(NCCL_UNIQUE_ID_BYTES, 128)
SAME(NCCL_CONFIG_UNDEF_INT, INT_MIN)
SAME(NCCL_VERSION(2, 28, 9), 22809)
SAME(sizeof(ncclUniqueId), 128)
SAME(offsetof(ncclConfig_t, magic), 8)
SAME(offsetof(ncclConfig_t, version), 12)
SAME(offsetof(ncclConfig_t, blocking), 16)
