/* tests/emulation/internal.h - what the parts of the emulation know of each other. */
#pragma once
#include "emulation.h"
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace emulation
{
enum class order { FORWARD, BACKWARD, SHUFFLED };
enum { MOST_DEVICES = 16 };

struct settings {
    int devices;
    size_t memory;
    bool guard;
    enum order order;
    uint64_t seed;
    std::string fail_name;
    long fail_at; /* 0: never */
};

/* runtime.cpp: settings, devices, errors */
std::recursive_mutex &lock(); /* held in every call and while queued work runs */
const settings &configured();
int current_device();
bool fails(const char *name); /* as emulation_fails */

/* Begin a call: cudaSuccess, or why it must not go on (no device, a lost device, told to fail). */
cudaError_t enter(const char *call, cudaError_t failure = cudaErrorUnknown);
/* End a call: note `error` for cudaGetLastError and return it. */
cudaError_t leave(cudaError_t error);
/* End a call that carried out work. */
cudaError_t outcome();
bool lost();
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* memory.cpp: device memory.  Queued work runs between open and close; these nest. */
void open_memory();
void close_memory();
void protect_memory(); /* as the settings say now */
bool on_device(const void *memory, size_t bytes);
bool on_any_device(const void *memory);
bool pinned(const void *memory);
void check_guards();

/* streams.cpp, copies.cpp.  run: true when the work is done, false to be asked again. */
cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<bool()> run);
void drain_all();
void drain_default();

/* launch.cpp, fibers.cpp: carry out one block whose threads wait for each other.  warps, lanes: in which order. */
void run_block_with_fibers(const char *kernel, unsigned threads, const std::vector<uint8_t> &warps,
                           const std::vector<uint8_t> &lanes, const std::function<void()> &body);
void set_thread(unsigned flat);
void need_fibers(site where); /* a thread waits: end the program where it was launched as one that does not */
} // namespace emulation
