/* tests/emulation/launch.cpp - kernels: the order of their blocks and threads. */
#include "internal.h"
#include <cstring>

namespace emulation
{
uint3 thread_index, block_index;
dim3 block_size, grid_size;

static const char *running; /* the kernel that runs now and whether its threads can wait */
static bool can_wait;

/* A permutation of 0 .. count - 1. */
struct permutation {
    uint64_t count, factor, offset;

    uint64_t operator()(uint64_t i) const { return (uint64_t)(((unsigned __int128)i * factor + offset) % count); }
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        const uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static permutation permute(uint64_t count, uint64_t salt)
{
    const settings &now = configured();

    if (now.order == order::FORWARD || count == 1) {
        return {count, 1, 0};
    }
    if (now.order == order::BACKWARD) {
        return {count, count - 1, count - 1};
    }
    uint64_t factor = mix(now.seed + salt) % count;

    while (common_divisor(factor, count) != 1) {
        factor = (factor + 1) % count;
    }
    return {count, factor, mix(now.seed * 3 + salt + 1) % count};
}

void set_thread(unsigned flat)
{
    thread_index.x = flat % block_size.x;
    thread_index.y = flat / block_size.x % block_size.y;
    thread_index.z = flat / block_size.x / block_size.y;
}

static unsigned flat_thread()
{
    return thread_index.x + block_size.x * (thread_index.y + block_size.y * thread_index.z);
}

int lane()
{
    return (int)(flat_thread() % WARP);
}

static void run_plain_block(unsigned threads, const permutation &place, const std::function<void()> &body)
{
    for (unsigned i = 0; i < threads; i++) {
        set_thread((unsigned)place(i));
        body();
    }
}

static void run_forward_block(const std::function<void()> &body)
{
    for (unsigned z = 0; z < block_size.z; z++) {
        for (unsigned y = 0; y < block_size.y; y++) {
            for (unsigned x = 0; x < block_size.x; x++) {
                thread_index = {x, y, z};
                body();
            }
        }
    }
}

static std::vector<uint8_t> listed(unsigned count, uint64_t salt)
{
    const permutation order = permute(count, salt);
    std::vector<uint8_t> list(count);

    for (unsigned i = 0; i < count; i++) {
        list[i] = (uint8_t)order(i);
    }
    return list;
}

static void run_kernel(const char *name, dim3 grid, dim3 block, bool barriers, const std::function<void()> &body)
{
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    const unsigned threads = block.x * block.y * block.z;
    const permutation block_order = permute(blocks, 1), thread_order = permute(threads, 2);
    const std::vector<uint8_t> warps = listed((threads + WARP - 1) / WARP, 3), lanes = listed(WARP, 4);

    grid_size = grid;
    block_size = block;
    running = name;
    can_wait = barriers;
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = block_order(i);

        block_index = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
        if (barriers) {
            run_block_with_fibers(name, threads, warps, lanes, body);
        } else if (configured().order == order::FORWARD) {
            run_forward_block(body);
        } else {
            run_plain_block(threads, thread_order, body);
        }
    }
    running = NULL;
}

static bool shape_fits(dim3 grid, dim3 block)
{
    const bool some = grid.x > 0 && grid.y > 0 && grid.z > 0 && block.x > 0 && block.y > 0 && block.z > 0;

    return some && grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 &&
           block.z <= 64 && (uint64_t)block.x * block.y * block.z <= 1024;
}

cudaError_t enqueue_kernel(const char *name, dim3 grid, dim3 block, cudaStream_t stream, bool barriers,
                           std::function<void()> body)
{
    const std::lock_guard<std::recursive_mutex> held(lock());
    const std::string plain(name, strcspn(name, "<"));
    const cudaError_t error = enter("cudaLaunchKernel", cudaErrorLaunchOutOfResources);

    if (error != cudaSuccess) {
        return leave(error);
    }
    if (!shape_fits(grid, block)) {
        return leave(cudaErrorInvalidConfiguration);
    }
    return leave(enqueue(stream, plain.c_str(), [plain, grid, block, barriers, body]() {
        if (fails(plain.c_str())) {
            emulation_lose_device(cudaErrorLaunchFailure);
        } else {
            run_kernel(plain.c_str(), grid, block, barriers, body);
        }
        return true;
    }));
}

void need_fibers(site where)
{
    if (running == NULL || !can_wait) {
        die("%s waits at %s:%d, but was launched without barriers", running != NULL ? running : "host code", where.file,
            where.line);
    }
}
} // namespace emulation
