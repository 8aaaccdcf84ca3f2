/* tests/cuda/test_emulation.cpp - does the emulation find what it is there to find?  Planted faults: work read too early,
 * barriers missing or not reached by all, memory overrun, host code that touches device memory, calls that fail. */
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <csetjmp>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>
extern "C" {
#include <cmocka.h>
}
#include "emulation.h"

#define PLAIN(kernel, grid, block, stream, ...)                                                                        \
    emulation::launch(#kernel, false, kernel, grid, block, stream, __VA_ARGS__)
#define WAITING(kernel, grid, block, stream, ...)                                                                      \
    emulation::launch(#kernel, true, kernel, grid, block, stream, __VA_ARGS__)

enum { N = 64 };

static void configure(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0);
    emulation_reconfigure();
}

static int restore(void **)
{
    for (const char *name : {"ORDER", "GUARD", "DEVICES", "MEMORY", "FAIL"}) {
        char full[64] = "HSGD_EMULATION_";

        assert_int_equal(unsetenv(strcat(full, name)), 0);
    }
    emulation_reconfigure();
    return 0;
}

static cudaStream_t new_stream()
{
    cudaStream_t stream = NULL;

    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    return stream;
}

static int *new_ints(int count)
{
    void *memory = NULL;

    assert_int_equal(cudaMalloc(&memory, (size_t)count * sizeof(int)), cudaSuccess);
    return (int *)memory;
}

/* Run `body` in a process of its own: it must end badly and say `message`. */
static void dies(void (*body)(), const char *message)
{
    char said[4096] = "";
    size_t length = 0;
    int ends[2], status = 0;

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();

    if (child == 0) {
        for (int s : {SIGSEGV, SIGBUS, SIGABRT}) {
            signal(s, SIG_DFL); /* not the test library's */
        }
        dup2(ends[1], 2);
        body();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got = 1; got > 0 && length < sizeof said - 1; length += (size_t)(got > 0 ? got : 0)) {
        got = read(ends[0], said + length, sizeof said - 1 - length);
    }
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (strstr(said, message) == NULL && strstr(said, "AddressSanitizer") == NULL) {
        fail_msg("said \"%s\" instead of \"%s\"", said, message);
    }
}

/* ---- streams ---- */

static void results_come_late(void **)
{
    cudaStream_t stream = new_stream();
    int *memory = new_ints(1);
    int in = 7, out = 1;

    assert_int_equal(cudaMemcpyAsync(memory, &in, sizeof in, cudaMemcpyHostToDevice, stream), cudaSuccess);
    in = 8; /* pageable memory was read at the call */
    assert_int_equal(cudaMemcpyAsync(&out, memory, sizeof out, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    assert_int_equal(out, 1);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(out, 7);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

static void pinned_memory_is_read_when_the_copy_runs(void **)
{
    cudaStream_t stream = new_stream();
    int *memory = new_ints(1), out = 0;
    void *pinned = NULL;

    assert_int_equal(cudaHostAlloc(&pinned, sizeof(int), cudaHostAllocDefault), cudaSuccess);
    *(int *)pinned = 7;
    assert_int_equal(cudaMemcpyAsync(memory, pinned, sizeof(int), cudaMemcpyHostToDevice, stream), cudaSuccess);
    *(int *)pinned = 8; /* too early */
    assert_int_equal(cudaMemcpyAsync(&out, memory, sizeof out, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(out, 8);
    assert_int_equal(cudaFreeHost(pinned), cudaSuccess);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

static void a_query_makes_one_step(void **)
{
    cudaStream_t stream = new_stream();
    int *memory = new_ints(2);

    for (int i = 0; i < 2; i++) {
        assert_int_equal(cudaMemsetAsync(memory + i, 0, sizeof(int), stream), cudaSuccess);
    }
    assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady); /* as on a GPU: who asks for it later gets it too */
    assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
    assert_int_equal(cudaStreamQuery(stream), cudaSuccess);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

static void events_order_streams(void **)
{
    cudaStream_t first = new_stream(), second = new_stream();
    cudaEvent_t event = NULL;
    int *memory = new_ints(1), out = 0;

    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(memory, 0, sizeof(int), first), cudaSuccess);
    assert_int_equal(cudaEventRecord(event, first), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(memory, 1, sizeof(int), first), cudaSuccess); /* after the event: not waited for */
    assert_int_equal(cudaStreamWaitEvent(second, event, 0), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(&out, memory, sizeof out, cudaMemcpyDeviceToHost, second), cudaSuccess);
    out = 5;
    assert_int_equal(cudaStreamSynchronize(second), cudaSuccess);
    assert_int_equal(out, 0);
    assert_int_equal(cudaEventQuery(event), cudaSuccess);
    assert_int_equal(cudaStreamQuery(first), cudaErrorNotReady);
    (void)cudaGetLastError();
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(first), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(second), cudaSuccess);
}

static void the_default_stream_waits_for_blocking_streams_alone(void **)
{
    cudaStream_t blocking = NULL, free_stream = new_stream();
    int *memory = new_ints(2), out[2] = {9, 9};

    assert_int_equal(cudaStreamCreate(&blocking), cudaSuccess);
    assert_int_equal(cudaMemset(memory, 0, 2 * sizeof(int)), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(memory, 1, sizeof(int), blocking), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(memory + 1, 1, sizeof(int), free_stream), cudaSuccess);
    assert_int_equal(cudaMemcpy(out, memory, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_equal(out[0], 0x01010101);
    assert_int_equal(out[1], 0);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(blocking), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(free_stream), cudaSuccess);
}

static int asked = 0;

static int third_time(void *argument)
{
    *(int **)argument = NULL; /* its own copy */
    return ++asked == 3;
}

static void add_seven(void *argument)
{
    **(int **)argument += 7;
}

static void stand_ins_queue_work(void **)
{
    cudaStream_t stream = new_stream();
    int *memory = new_ints(1), out = 0;

    asked = 0;
    assert_int_equal(cudaMemsetAsync(memory, 0, sizeof(int), stream), cudaSuccess);
    emulation_enqueue(stream, add_seven, &memory, sizeof memory);
    emulation_enqueue_polled(stream, third_time, &memory, sizeof memory);
    assert_int_equal(cudaMemcpyAsync(&out, memory, sizeof out, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    assert_int_equal(asked, 0);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(out, 7);
    assert_int_equal(asked, 3);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

/* ---- kernels ---- */

static __global__ void rotate(bool with_barrier, const int *x, int *y)
{
    __shared__ int shared[N];

    shared[threadIdx.x] = x[threadIdx.x];
    if (with_barrier) {
        __syncthreads();
    }
    y[threadIdx.x] = shared[(threadIdx.x + 1) % N];
}

static void run_rotate(const char *order, bool with_barrier, int *out)
{
    int *x = new_ints(N), *y = new_ints(N), in[N];

    configure("HSGD_EMULATION_ORDER", order);
    for (int turn = 0; turn < 2; turn++) { /* the first leaves 100, 101, ... in shared memory */
        for (int i = 0; i < N; i++) {
            in[i] = i + 100 * (1 - turn);
        }
        assert_int_equal(cudaMemcpy(x, in, sizeof in, cudaMemcpyHostToDevice), cudaSuccess);
        assert_int_equal(WAITING(rotate, dim3(1), dim3(N), NULL, with_barrier, x, y), cudaSuccess);
        assert_int_equal(cudaMemcpy(out, y, sizeof in, cudaMemcpyDeviceToHost), cudaSuccess);
    }
    assert_int_equal(cudaFree(x), cudaSuccess);
    assert_int_equal(cudaFree(y), cudaSuccess);
}

static void a_missing_barrier_shows_in_another_order(void **)
{
    int forward[N], backward[N], shuffled[N];

    run_rotate("forward", false, forward);
    run_rotate("backward", false, backward);
    run_rotate("shuffled:5", false, shuffled);
    assert_memory_not_equal(forward, backward, sizeof forward);
    assert_memory_not_equal(forward, shuffled, sizeof forward);
    run_rotate("forward", true, forward);
    run_rotate("backward", true, backward);
    run_rotate("shuffled:5", true, shuffled);
    assert_memory_equal(forward, backward, sizeof forward);
    assert_memory_equal(forward, shuffled, sizeof forward);
    for (int i = 0; i < N; i++) {
        assert_int_equal(forward[i], (i + 1) % N);
    }
}

static __global__ void early_exit(int threads)
{
    if ((int)threadIdx.x >= threads) {
        return;
    }
    __syncthreads();
}

static __global__ void two_barriers(int threads)
{
    if ((int)threadIdx.x < threads) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

static __global__ void lanes_missing(int lanes)
{
    if ((int)threadIdx.x < lanes) {
        (void)__shfl_down_sync(0xffffffffu, 1.0, 1);
    }
}

static __global__ void stranger_asked(int lanes)
{
    if ((int)threadIdx.x < lanes) {
        (void)__shfl_sync(0x0000ffffu, 1.0, 20);
    }
}

static void run_and_wait(cudaError_t launched)
{
    assert_int_equal(launched, cudaSuccess);
    (void)cudaDeviceSynchronize();
}

static void divergence_is_found(void **)
{
    dies([]() { run_and_wait(WAITING(early_exit, dim3(2), dim3(N), NULL, N - 1)); }, "early_exit diverges");
    dies([]() { run_and_wait(WAITING(two_barriers, dim3(1), dim3(N), NULL, 32)); }, "two_barriers diverges");
    dies([]() { run_and_wait(WAITING(lanes_missing, dim3(1), dim3(N), NULL, 31)); }, "lanes_missing diverges");
    dies([]() { run_and_wait(WAITING(stranger_asked, dim3(1), dim3(N), NULL, 16)); }, "does not take part");
    dies([]() { run_and_wait(PLAIN(early_exit, dim3(1), dim3(N), NULL, N)); }, "early_exit waits at");
    run_and_wait(WAITING(early_exit, dim3(3), dim3(N), NULL, N));
    run_and_wait(WAITING(two_barriers, dim3(3), dim3(N), NULL, N));
}

static __global__ void shuffles(int *out)
{
    const int own = (int)threadIdx.x;

    out[own] = __shfl_down_sync(0xffffffffu, own, 3);
    out[N + own] = __shfl_xor_sync(0xffffffffu, own, 5);
    out[2 * N + own] = __shfl_sync(0xffffffffu, own, 9);
    out[3 * N + own] = __shfl_up_sync(0xffffffffu, own, 2);
    __syncwarp();
}

static void shuffles_move_values(void **)
{
    int *memory = new_ints(4 * N), out[4 * N];

    run_and_wait(WAITING(shuffles, dim3(1), dim3(N), NULL, memory));
    assert_int_equal(cudaMemcpy(out, memory, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < N; i++) {
        const int lane = i % 32, warp = i - lane;

        assert_int_equal(out[i], lane + 3 < 32 ? i + 3 : i);
        assert_int_equal(out[N + i], warp + (lane ^ 5));
        assert_int_equal(out[2 * N + i], warp + 9);
        assert_int_equal(out[3 * N + i], lane >= 2 ? i - 2 : i);
    }
    assert_int_equal(cudaFree(memory), cudaSuccess);
}

static __global__ void visit(int *visits)
{
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);

    visits[block * blockDim.x * blockDim.y * blockDim.z + thread]++;
}

static void every_order_visits_every_thread_once(void **)
{
    enum { ALL = 3 * 5 * 2 * 4 * 3 * 7 };
    static int out[ALL];
    int *memory = new_ints(ALL);

    for (const char *order : {"forward", "backward", "shuffled:0", "shuffled:1", "shuffled:99"}) {
        configure("HSGD_EMULATION_ORDER", order);
        assert_int_equal(cudaMemset(memory, 0, sizeof out), cudaSuccess);
        run_and_wait(PLAIN(visit, dim3(3, 5, 2), dim3(4, 3, 7), NULL, memory));
        run_and_wait(WAITING(visit, dim3(3, 5, 2), dim3(4, 3, 7), NULL, memory));
        assert_int_equal(cudaMemcpy(out, memory, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int i = 0; i < ALL; i++) {
            assert_int_equal(out[i], 2);
        }
    }
    assert_int_equal(cudaFree(memory), cudaSuccess);
}

static void impossible_launches_are_refused(void **)
{
    assert_int_equal(PLAIN(early_exit, dim3(0), dim3(1), NULL, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(PLAIN(early_exit, dim3(1, 65536), dim3(1), NULL, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(PLAIN(early_exit, dim3(1), dim3(32, 33), NULL, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(PLAIN(early_exit, dim3(1), dim3(1), (cudaStream_t)(void *)&asked, 0),
                     cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidResourceHandle);
}

/* ---- memory ---- */

static __global__ void write_at(char *memory, long offset)
{
    memory[offset] = 1;
}

static void overrun(long offset)
{
    void *memory = NULL;

    assert_int_equal(cudaMalloc(&memory, 100), cudaSuccess);
    run_and_wait(PLAIN(write_at, dim3(1), dim3(1), NULL, (char *)memory, offset));
    (void)cudaFree(memory);
}

static void writes_out_of_bounds_are_found(void **)
{
    dies([]() { overrun(100); }, "out of bounds: byte 100 of an allocation of 100 bytes");
    dies([]() { overrun(-1); }, "out of bounds: byte -1 of");
    overrun(99);
}

static void host_code_cannot_touch_guarded_memory(void **)
{
    configure("HSGD_EMULATION_GUARD", "1");
    dies([]() { *new_ints(1) = 3; }, "");
    dies(
        []() {
            int *memory = new_ints(1);
            volatile int seen = *memory;

            (void)seen;
        },
        "");
    overrun(5);
}

static void fresh_memory_is_not_zero(void **)
{
    int *memory = new_ints(1), out = 0;

    assert_int_equal(cudaMemcpy(&out, memory, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_not_equal(out, 0);
    assert_int_equal(cudaFree(memory), cudaSuccess);
}

static void memory_ends(void **)
{
    void *first = NULL, *second = NULL;
    size_t free = 0, total = 0;

    configure("HSGD_EMULATION_MEMORY", "1048576");
    assert_int_equal(cudaMalloc(&first, 1000000), cudaSuccess);
    assert_int_equal(cudaMalloc(&second, 100000), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMemGetInfo(&free, &total), cudaSuccess);
    assert_true(total == 1048576 && free < 50000 && free > 40000);
    assert_int_equal(cudaFree(first), cudaSuccess);
    assert_int_equal(cudaMalloc(&second, 1048576), cudaSuccess);
    assert_int_equal(cudaFree(second), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&free, &total), cudaSuccess);
    assert_true(free == total);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
}

static void copies_need_the_right_sides(void **)
{
    int *memory = new_ints(1), host = 0;

    assert_int_equal(cudaMemcpy(memory, &host, sizeof host, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(memory, &host, 2 * sizeof host, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(memory, 0, 2 * sizeof host, NULL), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(memory), cudaSuccess);
    (void)cudaGetLastError();
}

/* ---- failures ---- */

static void failures_come_as_told(void **)
{
    void *memory = NULL, *other = NULL;

    configure("HSGD_EMULATION_FAIL", "cudaMalloc:2");
    assert_int_equal(cudaMalloc(&memory, 8), cudaSuccess);
    assert_int_equal(cudaMalloc(&other, 8), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&other, 8), cudaSuccess);
    assert_int_equal(cudaFree(other), cudaSuccess);
    configure("HSGD_EMULATION_FAIL", "write_at:1");
    assert_int_equal(PLAIN(write_at, dim3(1), dim3(1), NULL, (char *)memory, 0L), cudaSuccess); /* fails when it runs */
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaMalloc(&other, 8), cudaErrorLaunchFailure);
    assert_int_equal(cudaFree(memory), cudaErrorLaunchFailure); /* but it is gone */
    configure("HSGD_EMULATION_FAIL", "");
    assert_int_equal(cudaMalloc(&other, 8), cudaSuccess);
    assert_int_equal(cudaFree(other), cudaSuccess);
}

static void machines_without_devices(void **)
{
    struct cudaDeviceProp properties;
    int count = 9;

    configure("HSGD_EMULATION_DEVICES", "0");
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    assert_int_equal(count, 0);
    assert_int_equal(cudaSetDevice(0), cudaErrorNoDevice);
    configure("HSGD_EMULATION_DEVICES", "-1");
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    configure("HSGD_EMULATION_DEVICES", "3");
    assert_int_equal(cudaGetDeviceCount(&count), cudaSuccess);
    assert_int_equal(count, 3);
    assert_int_equal(cudaSetDevice(3), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetDeviceProperties(&properties, 2), cudaSuccess);
    assert_string_equal(properties.name, "Emulated GPU");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, restore)
    const struct CMUnitTest tests[] = {
        TEST(results_come_late),
        TEST(pinned_memory_is_read_when_the_copy_runs),
        TEST(a_query_makes_one_step),
        TEST(events_order_streams),
        TEST(the_default_stream_waits_for_blocking_streams_alone),
        TEST(stand_ins_queue_work),
        TEST(a_missing_barrier_shows_in_another_order),
        TEST(divergence_is_found),
        TEST(shuffles_move_values),
        TEST(every_order_visits_every_thread_once),
        TEST(impossible_launches_are_refused),
        TEST(writes_out_of_bounds_are_found),
        TEST(host_code_cannot_touch_guarded_memory),
        TEST(fresh_memory_is_not_zero),
        TEST(memory_ends),
        TEST(copies_need_the_right_sides),
        TEST(failures_come_as_told),
        TEST(machines_without_devices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
