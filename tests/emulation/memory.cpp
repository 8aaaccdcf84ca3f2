/* tests/emulation/memory.cpp - device and pinned memory.
 *
 * Each device has one range of addresses, its arena, from which allocations are cut; around each stand guard bytes, which
 * are looked at when it ends and at cudaDeviceSynchronize.  Fresh memory holds NaN, as nobody promises zeros. */
#include "internal.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace emulation
{
enum { GUARD = 256, ALIGNMENT = 256, GUARD_BYTE = 0xA5, FRESH_BYTE = 0xFF };
static const size_t most_filled = (size_t)64 << 20; /* of a fresh allocation: more would take the host's memory */

struct allocation {
    size_t bytes;
    size_t room; /* from its first guard byte to the last */
};

struct arena {
    char *start = nullptr;
    size_t reach = 0;    /* all allocations so far lie below start + reach */
    size_t reserved = 0; /* addresses */
    size_t used = 0;     /* bytes of its device */
    std::map<uintptr_t, allocation> all;
};

static arena *const arenas = new arena[MOST_DEVICES];                                 /* never ended: see lock() */
static std::map<uintptr_t, size_t> &pinned_memory = *new std::map<uintptr_t, size_t>; /* never ended: see lock() */
static int opened = 0;

static void protect(int flags)
{
    for (int d = 0; d < MOST_DEVICES; d++) {
        arena &a = arenas[d];

        if (a.reach > 0 && mprotect(a.start, a.reach, flags) != 0) {
            die("mprotect failed");
        }
    }
}

void open_memory()
{
    if (opened++ == 0 && configured().guard) {
        protect(PROT_READ | PROT_WRITE);
    }
}

void close_memory()
{
    if (--opened == 0 && configured().guard) {
        protect(PROT_NONE);
    }
}

void protect_memory()
{
    if (opened == 0) {
        protect(configured().guard ? PROT_NONE : PROT_READ | PROT_WRITE);
    }
}

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void reserve(arena *a)
{
    a->reserved = round_up(2 * configured().memory + ((size_t)64 << 20)); /* twice: holes and guards take addresses */
    void *start = mmap(NULL, a->reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED) {
        die("cannot reserve %zu bytes of addresses", a->reserved);
    }
    a->start = (char *)start;
}

/* The first hole of `room` bytes, or NULL. */
static char *find_hole(const arena *a, size_t room)
{
    uintptr_t at = (uintptr_t)a->start;

    for (const auto &entry : a->all) {
        const uintptr_t begins = entry.first - GUARD;

        if (begins - at >= room) {
            break;
        }
        at = begins + entry.second.room;
    }
    return at + room <= (uintptr_t)a->start + a->reserved ? (char *)at : NULL;
}

static void *allocate(arena *a, size_t bytes)
{
    const size_t room = GUARD + round_up(bytes) + GUARD;
    char *hole = find_hole(a, room);

    if (hole == NULL) {
        return NULL;
    }
    a->reach = std::max(a->reach, (size_t)(round_up((size_t)(hole + room - a->start)) + 4095) / 4096 * 4096);
    open_memory();
    ASAN_UNPOISON_MEMORY_REGION(hole, room);
    memset(hole, GUARD_BYTE, GUARD);
    memset(hole + GUARD, FRESH_BYTE, std::min(bytes, most_filled));
    memset(hole + GUARD + bytes, GUARD_BYTE, room - GUARD - bytes);
    ASAN_POISON_MEMORY_REGION(hole, GUARD);
    ASAN_POISON_MEMORY_REGION(hole + GUARD + bytes, room - GUARD - bytes);
    close_memory();
    a->all[(uintptr_t)hole + GUARD] = {bytes, room};
    a->used += round_up(bytes);
    return hole + GUARD;
}

static void check_bytes(const char *from, size_t bytes, uintptr_t memory, size_t size)
{
    ASAN_UNPOISON_MEMORY_REGION(from, bytes);
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)from[i] != GUARD_BYTE) {
            die("out of bounds: byte %td of an allocation of %zu bytes was written", from + i - (const char *)memory,
                size);
        }
    }
    ASAN_POISON_MEMORY_REGION(from, bytes);
}

static void check_guard(uintptr_t memory, const allocation &entry)
{
    open_memory();
    check_bytes((const char *)memory - GUARD, GUARD, memory, entry.bytes);
    check_bytes((const char *)memory + entry.bytes, entry.room - GUARD - entry.bytes, memory, entry.bytes);
    close_memory();
}

void check_guards()
{
    for (int d = 0; d < MOST_DEVICES; d++) {
        const arena &a = arenas[d];

        for (const auto &entry : a.all) {
            check_guard(entry.first, entry.second);
        }
    }
}

static bool inside(const arena *a, const void *memory, size_t bytes)
{
    auto after = a->all.upper_bound((uintptr_t)memory);

    if (after == a->all.begin()) {
        return false;
    }
    --after;
    return (uintptr_t)memory + bytes <= after->first + after->second.bytes;
}

bool on_device(const void *memory, size_t bytes)
{
    for (int d = 0; d < MOST_DEVICES; d++) {
        const arena &a = arenas[d];

        if (inside(&a, memory, bytes)) {
            return true;
        }
    }
    return false;
}

bool on_any_device(const void *memory)
{
    for (int d = 0; d < MOST_DEVICES; d++) {
        const arena &a = arenas[d];

        if (a.start != NULL && (const char *)memory >= a.start && (const char *)memory < a.start + a.reserved) {
            return true;
        }
    }
    return false;
}

bool pinned(const void *memory)
{
    auto after = pinned_memory.upper_bound((uintptr_t)memory);

    if (after == pinned_memory.begin()) {
        return false;
    }
    --after;
    return (uintptr_t)memory < after->first + after->second;
}
} // namespace emulation

using namespace emulation;

typedef std::lock_guard<std::recursive_mutex> locked;

extern "C" int emulation_on_device(const void *memory, size_t bytes)
{
    const locked held(lock());

    return on_device(memory, bytes);
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaMemGetInfo");
    const arena &a = arenas[current_device()];

    *total = configured().memory;
    *free = a.used < *total ? *total - a.used : 0;
    return leave(error);
}

extern "C" cudaError_t cudaMalloc(void **devPtr, size_t size)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaMalloc", cudaErrorMemoryAllocation);
    arena &a = arenas[current_device()];

    if (error != cudaSuccess || size == 0) {
        *devPtr = NULL;
        return leave(error);
    }
    if (a.start == NULL) {
        reserve(&a);
    }
    if (size > configured().memory || a.used + round_up(size) > configured().memory) {
        return leave(cudaErrorMemoryAllocation);
    }
    *devPtr = allocate(&a, size);
    return leave(*devPtr == NULL ? cudaErrorMemoryAllocation : cudaSuccess);
}

/* Waits for the device, as the real one does; ends the memory of a lost device too. */
extern "C" cudaError_t cudaFree(void *devPtr)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaFree");

    if (devPtr == NULL) {
        return leave(error);
    }
    drain_all();
    for (int d = 0; d < MOST_DEVICES; d++) {
        arena &a = arenas[d];

        auto found = a.all.find((uintptr_t)devPtr);

        if (found != a.all.end()) {
            check_guard(found->first, found->second);
            open_memory();
            memset(devPtr, FRESH_BYTE, std::min(found->second.bytes, most_filled));
            ASAN_POISON_MEMORY_REGION(devPtr, found->second.bytes);
            close_memory();
            a.used -= round_up(found->second.bytes);
            a.all.erase(found);
            return leave(lost() ? error : cudaSuccess);
        }
    }
    die("cudaFree of %p, which is no allocation", devPtr);
}

extern "C" cudaError_t cudaHostAlloc(void **pHost, size_t size, unsigned int)
{
    const locked held(lock());
    cudaError_t error = enter("cudaHostAlloc", cudaErrorMemoryAllocation);

    *pHost = NULL;
    if (error == cudaSuccess && size > 0) {
        *pHost = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
        error = *pHost == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
    }
    if (*pHost != NULL) {
        memset(*pHost, FRESH_BYTE, std::min(size, most_filled));
        pinned_memory[(uintptr_t)*pHost] = size;
    }
    return leave(error);
}

extern "C" cudaError_t cudaMallocHost(void **ptr, size_t size)
{
    return cudaHostAlloc(ptr, size, cudaHostAllocDefault);
}

extern "C" cudaError_t cudaFreeHost(void *ptr)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaFreeHost");

    if (ptr == NULL) {
        return leave(error);
    }
    drain_all();
    if (pinned_memory.erase((uintptr_t)ptr) == 0) {
        die("cudaFreeHost of %p, which is no pinned memory", ptr);
    }
    free(ptr);
    return leave(lost() ? error : cudaSuccess);
}

extern "C" size_t emulation_held(void)
{
    const locked held(lock());
    size_t count = pinned_memory.size();

    for (int d = 0; d < MOST_DEVICES; d++) {
        count += arenas[d].all.size();
    }
    return count;
}
