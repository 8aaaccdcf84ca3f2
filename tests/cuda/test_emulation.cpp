/* tests/cuda/test_emulation.cpp - the runtime on the host: work read too early, memory overrun, host code that touches
 * device memory, calls that fail. */
#include "planted.h"
#include <atomic>
#include <thread>

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
    assert_int_equal(cudaMemsetAsync(memory, 3, sizeof(int), blocking), cudaSuccess);
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

static std::atomic<int> arrived;

static int meet(void *)
{
    static thread_local bool counted = false;

    arrived += !counted;
    counted = true;
    return arrived == 2;
}

static __global__ void add_one(int *x)
{
    x[threadIdx.x]++;
}

/* What one thread of the program does; false where it went wrong. */
static void use_device(bool *well)
{
    cudaStream_t stream = NULL;
    void *memory = NULL;
    int out[N] = {};

    *well = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess &&
            cudaMalloc(&memory, sizeof out) == cudaSuccess &&
            cudaMemsetAsync(memory, 0, sizeof out, stream) == cudaSuccess;
    for (int i = 0; i < 100 && *well; i++) {
        *well = PLAIN(add_one, dim3(1), dim3(N), stream, (int *)memory) == cudaSuccess &&
                cudaMemcpyAsync(out, memory, sizeof out, cudaMemcpyDeviceToHost, stream) == cudaSuccess &&
                cudaStreamSynchronize(stream) == cudaSuccess && out[0] == i + 1 && out[N - 1] == i + 1;
    }
    emulation_enqueue_polled(stream, meet, NULL, 0); /* as a collective: each waits for the other */
    *well = *well && cudaStreamSynchronize(stream) == cudaSuccess && cudaFree(memory) == cudaSuccess &&
            cudaStreamDestroy(stream) == cudaSuccess;
}

static void threads_share_the_device(void **)
{
    bool well[2] = {false, false};

    arrived = 0;
    std::thread first(use_device, &well[0]), second(use_device, &well[1]);
    first.join();
    second.join();
    assert_true(well[0] && well[1]);
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
    const struct CMUnitTest tests[] = {
        TEST(results_come_late),
        TEST(pinned_memory_is_read_when_the_copy_runs),
        TEST(a_query_makes_one_step),
        TEST(events_order_streams),
        TEST(the_default_stream_waits_for_blocking_streams_alone),
        TEST(stand_ins_queue_work),
        TEST(threads_share_the_device),
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
