/* cuda/transfer.c - between host and device.  The host waits in downloads alone; an upload copies into pinned memory,
 * queues the transfer and returns. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>

/* Parts of a segment begin on cache lines of their own. */
static const size_t line = 64;

/* Pinned memory that staging_alloc gave out: a download may go there directly. */
struct hsgd_cuda_staging {
    struct hsgd_cuda_staging *next;
    char *memory;
    size_t bytes;
};

static hsgd_status pinned(hsgd_cuda_device *device, size_t bytes, void **out, hsgd_error *err)
{
    const cudaError_t result = cudaHostAlloc(out, bytes, cudaHostAllocDefault);

    if (result == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        *out = NULL;
        return hsgd_error_set(err, HSGD_ERR_MEMORY,
                              "memory: cannot pin %.1f MiB of host memory; ask the batch system for more memory, raise "
                              "the limit of locked memory (ulimit -l), or use fewer ranks on a node",
                              (double)bytes / (1024.0 * 1024.0));
    }
    return hsgd_cuda_check(device, result, "cudaHostAlloc", err);
}

hsgd_status hsgd_cuda_transfer_create(hsgd_cuda_device *device, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_ring *ring = &device->ring;
    void *memory = NULL;

    HSGD_TRY(pinned(device, (size_t)HSGD_CUDA_SEGMENTS * HSGD_CUDA_SEGMENT, &memory, err));
    ring->memory = memory;
    HSGD_TRY(pinned(device, HSGD_CUDA_LANDING, &memory, err));
    device->landing = memory;
    for (int i = 0; i < HSGD_CUDA_SEGMENTS; i++) {
        CUDA_TRY(device, cudaEventCreateWithFlags(&ring->left[i], cudaEventDisableTiming), err);
    }
done:
    return st;
}

static void unpin(hsgd_cuda_device *device, void *memory)
{
    if (memory != NULL && hsgd_cuda_at_rest(device)) {
        (void)cudaFreeHost(memory);
    }
}

void hsgd_cuda_transfer_destroy(hsgd_cuda_device *device)
{
    while (device->staging != NULL) {
        hsgd_cuda_staging *staging = device->staging;

        device->staging = staging->next;
        unpin(device, staging->memory);
        free(staging);
    }
    unpin(device, device->landing);
    unpin(device, device->ring.memory);
    for (int i = 0; i < HSGD_CUDA_SEGMENTS; i++) {
        if (device->ring.left[i] != NULL) { /* may be destroyed before it comes */
            (void)cudaEventDestroy(device->ring.left[i]);
        }
    }
}

/* Leave the segment, which is full, for the next.  That was left a whole round ago, so there is rarely need to wait. */
static hsgd_status next_segment(hsgd_cuda_device *device, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_ring *ring = &device->ring;

    CUDA_TRY(device, cudaEventRecord(ring->left[ring->segment], device->stream), err);
    ring->in_use[ring->segment] = true;
    ring->segment = (ring->segment + 1) % HSGD_CUDA_SEGMENTS;
    ring->used = 0;
    if (ring->in_use[ring->segment]) {
        HSGD_TRY(hsgd_cuda_wait_event(device, ring->left[ring->segment], err));
        ring->in_use[ring->segment] = false;
    }
done:
    return st;
}

hsgd_status hsgd_cuda_memory_upload(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;
    hsgd_cuda_ring *ring = &device->ring;
    const char *from = host;
    char *to = memory;

    HSGD_TRY(hsgd_cuda_pace(device, 1, err));
    while (bytes > 0) {
        if (ring->used == HSGD_CUDA_SEGMENT) {
            HSGD_TRY(next_segment(device, err));
        }
        const size_t room = HSGD_CUDA_SEGMENT - ring->used, part = bytes < room ? bytes : room;
        char *through = ring->memory + (size_t)ring->segment * HSGD_CUDA_SEGMENT + ring->used;

        memcpy(through, from, part);
        ring->used += (part + line - 1) / line * line; /* before anything can fail: what is queued stays untouched */
        CUDA_TRY(device, cudaMemcpyAsync(to, through, part, cudaMemcpyHostToDevice, device->stream), err);
        bytes -= part;
        from += part;
        to += part;
    }
done:
    return st;
}

/* ---- downloads ---- */

static bool is_staging(const hsgd_cuda_device *device, const char *host, size_t bytes)
{
    for (const hsgd_cuda_staging *s = device->staging; s != NULL; s = s->next) {
        if (host >= s->memory && host + bytes <= s->memory + s->bytes) {
            return true;
        }
    }
    return false;
}

hsgd_status hsgd_cuda_memory_download(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;
    const bool direct = is_staging(device, host, bytes);
    const size_t most = direct ? bytes : HSGD_CUDA_LANDING;
    const char *from = memory;
    char *to = host;

    HSGD_TRY(hsgd_cuda_ready(device, err));
    while (bytes > 0) {
        const size_t part = bytes < most ? bytes : most;
        char *landing = direct ? to : device->landing;

        CUDA_TRY(device, cudaMemcpyAsync(landing, from, part, cudaMemcpyDeviceToHost, device->stream), err);
        HSGD_TRY(hsgd_cuda_wait(device, err));
        if (!direct) {
            memcpy(to, landing, part);
        }
        bytes -= part;
        from += part;
        to += part;
    }
done:
    return st;
}

hsgd_status hsgd_cuda_memory_staging_alloc(void *self, size_t bytes, void **host, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;
    hsgd_cuda_staging *staging = malloc(sizeof *staging);
    void *memory = NULL;

    *host = NULL;
    HSGD_CHECK(staging != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the record of a pinned buffer");
    HSGD_TRY(hsgd_cuda_ready(device, err));
    HSGD_TRY(pinned(device, bytes > 0 ? bytes : 1, &memory, err));
    *staging = (hsgd_cuda_staging){device->staging, memory, bytes};
    device->staging = staging;
    staging = NULL;
    *host = memory;
done:
    free(staging);
    return st;
}

void hsgd_cuda_memory_staging_release(void *self, void *host)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;

    for (hsgd_cuda_staging **at = &device->staging; *at != NULL; at = &(*at)->next) {
        hsgd_cuda_staging *staging = *at;

        if (staging->memory == host) {
            *at = staging->next;
            free(staging);
            unpin(device, host);
            return;
        }
    }
}
