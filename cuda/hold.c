/* cuda/hold.c - copies on the device of host memory that does not change, shared by all who hold it. */
#include "internal.h"
#include <stdlib.h>

struct hsgd_cuda_held {
    hsgd_cuda_held *next;
    const void *host;
    size_t bytes;
    int64_t holders;
    void *memory;
};

/* The copy of `host` that is at least so long; NULL: none yet. */
static hsgd_cuda_held *find(const hsgd_cuda_device *device, const void *host, size_t bytes)
{
    for (hsgd_cuda_held *held = device->held; held != NULL; held = held->next) {
        if (held->host == host && held->bytes >= bytes) {
            return held;
        }
    }
    return NULL;
}

hsgd_status hsgd_cuda_memory_hold(void *self, size_t bytes, const void *host, const void **memory, hsgd_error *err)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_status st = HSGD_OK;
    hsgd_cuda_held *made = NULL, *held = find(device, host, bytes);

    *memory = NULL;
    HSGD_TRY(hsgd_cuda_ready(device, err));
    if (held == NULL) {
        made = calloc(1, sizeof *made);
        HSGD_CHECK(made != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the record of a copy on the GPU");
        *made = (hsgd_cuda_held){.next = device->held, .host = host, .bytes = bytes};
        HSGD_TRY(hsgd_cuda_allocate(device, bytes, &made->memory, err));
        HSGD_TRY(hsgd_cuda_memory_upload(self, bytes, host, made->memory, err));
        device->held = made;
        held = made;
        made = NULL;
    }
    held->holders++;
    *memory = held->memory;
done:
    if (made != NULL) {
        hsgd_cuda_free(device, made->memory);
        free(made);
    }
    return st;
}

/* End the copies of `host`, or of everything where it is NULL. */
static void end_copies(hsgd_cuda_device *device, const void *host)
{
    hsgd_cuda_held **at = &device->held;

    while (*at != NULL) {
        hsgd_cuda_held *held = *at;

        if (host != NULL && held->host != host) {
            at = &held->next;
            continue;
        }
        *at = held->next;
        hsgd_cuda_free(device, held->memory);
        free(held);
    }
}

/* One may hold more of the same memory than another, so there may be copies of different length; who lets go does not
 * say which he had.  They all live until the last holder has gone. */
void hsgd_cuda_memory_let_go(void *self, const void *host)
{
    hsgd_cuda_device *device = ((const hsgd_cuda_backend *)self)->device;
    hsgd_cuda_held *one = NULL;
    int64_t holders = 0;

    for (hsgd_cuda_held *held = device->held; held != NULL && host != NULL; held = held->next) {
        if (held->host == host && held->holders > 0) {
            holders += held->holders;
            one = held;
        }
    }
    if (one != NULL) {
        one->holders--;
        if (holders == 1) {
            end_copies(device, host);
        }
    }
}

void hsgd_cuda_held_destroy(hsgd_cuda_device *device)
{
    end_copies(device, NULL);
}
