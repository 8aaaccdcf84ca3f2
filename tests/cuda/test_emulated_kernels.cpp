/* tests/cuda/test_emulated_kernels.cpp - kernels on the host: barriers that are missing or not reached by all, orders of
 * threads and blocks, launches that a GPU would refuse. */
#include "planted.h"

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

static void divergence_is_found(void **)
{
    dies([]() { run_and_wait(WAITING(early_exit, dim3(2), dim3(N), NULL, N - 1)); }, "early_exit diverges");
    dies([]() { run_and_wait(WAITING(two_barriers, dim3(1), dim3(N), NULL, 32)); }, "two_barriers diverges");
    run_and_wait(WAITING(lanes_missing, dim3(1), dim3(N), NULL, N)); /* so that the lanes have been there before */
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
    int no_stream = 0;

    assert_int_equal(PLAIN(early_exit, dim3(0), dim3(1), NULL, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(PLAIN(early_exit, dim3(1, 65536), dim3(1), NULL, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(PLAIN(early_exit, dim3(1), dim3(32, 33), NULL, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(PLAIN(early_exit, dim3(1), dim3(1), (cudaStream_t)(void *)&no_stream, 0),
                     cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidResourceHandle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_missing_barrier_shows_in_another_order),
        TEST(divergence_is_found),
        TEST(shuffles_move_values),
        TEST(every_order_visits_every_thread_once),
        TEST(impossible_launches_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
