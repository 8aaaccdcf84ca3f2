/* tests/emulation/emulation.h - CUDA's runtime on the host, for tests where no GPU is: what tests and the stand-ins of
 * other libraries (cuBLAS, cuDNN, NCCL) may ask of it beyond the runtime's own calls.
 *
 * The work of a stream is carried out late: when somebody waits for it, and one step at each query.  Host code that
 * reads a result too early or reuses a pinned buffer too early therefore fails here, always.
 *
 * Environment, read at the first call and by emulation_reconfigure:
 *   HSGD_EMULATION_ORDER    forward (default), backward or shuffled:SEED: in which order threads and blocks run
 *   HSGD_EMULATION_GUARD    1: device memory cannot be touched except by queued work
 *   HSGD_EMULATION_DEVICES  how many (1); 0: cudaErrorNoDevice; -1: cudaErrorInsufficientDriver
 *   HSGD_EMULATION_MEMORY   bytes of each device (2 GiB)
 *   HSGD_EMULATION_FAIL     name:N: the N-th call of that name fails, once; a kernel's name: its N-th launch fails when
 *                           it runs, and with it everything after */
#pragma once
#include <stddef.h>
#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Queue run(copy of the `bytes` at `argument`) on `stream`: it is called once, in the stream's order, with device memory
 * accessible, and must not wait for a stream.  Nothing is called once a kernel has failed. */
void emulation_enqueue(cudaStream_t stream, void (*run)(void *argument), const void *argument, size_t bytes);

/* The same for work that may have to wait for others (another process): `run` is called again and again, the lock of
 * the emulation being free in between, until it returns other than 0. */
void emulation_enqueue_polled(cudaStream_t stream, int (*run)(void *argument), const void *argument, size_t bytes);

/* Is this call of `name` the one that HSGD_EMULATION_FAIL wants to fail?  Counts the calls; so ask once in each. */
int emulation_fails(const char *name);

/* Are the `bytes` from `memory` on inside one allocation of device memory? */
int emulation_on_device(const void *memory, size_t bytes);

/* Allocations of device memory and blocks of pinned memory that have not been freed. */
size_t emulation_held(void);

/* From here on every device is lost, as after a kernel that failed: calls return `error`. */
void emulation_lose_device(cudaError_t error);

/* Read the environment anew, count the calls of HSGD_EMULATION_FAIL from 0, and find lost devices again.  Memory and
 * streams stay. */
void emulation_reconfigure(void);

#ifdef __cplusplus
}
#endif
