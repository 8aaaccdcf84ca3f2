/* tests/cuda/test_device.c - mirrors cuda/device.c, failure.c and wait.c: what there is, in which precision it computes,
 * who is asked while one waits, and what remains of a failure. */
#include "fixture.h"
#include "base/clock.h"

/* ---- what there is ---- */

static void refuses(const char *devices, const char *fail, const char *text)
{
    hsgd_cuda_device *device = NULL;
    hsgd_error err = {0};

    (void)unsetenv("NVIDIA_TF32_OVERRIDE");
    set("HSGD_EMULATION_DEVICES", devices);
    set("HSGD_EMULATION_FAIL", fail);
    assert_int_equal(hsgd_cuda_device_create(0, false, &device, &err), HSGD_ERR_DEVICE);
    assert_null(device);
    assert_non_null(strstr(err.text, text));
    set("HSGD_EMULATION_DEVICES", NULL);
    set("HSGD_EMULATION_FAIL", NULL);
}

static void what_is_missing_is_told(void **state)
{
    (void)state;
    refuses("-1", NULL, "cuda: no NVIDIA driver");
    (void)setenv("CUDA_VISIBLE_DEVICES", "7", 1);
    refuses("0", NULL, "CUDA_VISIBLE_DEVICES is '7'");
    (void)unsetenv("CUDA_VISIBLE_DEVICES");
    refuses("0", NULL, "CUDA_VISIBLE_DEVICES is not set");
    refuses(NULL, "cudaFuncGetAttributes:1", "CMAKE_CUDA_ARCHITECTURES");
}

static void local_ranks_go_round_the_visible_devices(void **state)
{
    hsgd_cuda_description d;
    hsgd_error err = {0};

    (void)state;
    set("HSGD_EMULATION_DEVICES", "3");
    for (int rank = 0; rank < 7; rank++) {
        hsgd_cuda_device *device = NULL;

        (void)unsetenv("NVIDIA_TF32_OVERRIDE");
        assert_ok(hsgd_cuda_device_create(rank, false, &device, &err));
        assert_ok(hsgd_cuda_device_describe(device, &d, &err));
        assert_int_equal(d.ordinal, rank % 3);
        assert_int_equal(d.count, 3);
        hsgd_cuda_device_destroy(&device);
    }
    hsgd_cuda_device *none = NULL;
    assert_int_equal(hsgd_cuda_device_create(-1, false, &none, &err), HSGD_ERR_DEVICE);
    hsgd_cuda_device_destroy(&none);
    set("HSGD_EMULATION_DEVICES", NULL);
}

static void a_backend_tells_what_computes(void **state)
{
    fixture f = fixture_make(HSGD_DOUBLE, false);
    hsgd_cuda_description d;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_cuda_device_describe(f.device, &d, &err));
    assert_string_equal(d.architecture, "sm_90");
    assert_string_equal(d.libraries, "CUDA 13.0, cuDNN 9.19.0, cuBLAS 13.1.0");
    assert_true(d.free > 0 && d.free < d.total && d.name[0] != '\0' && d.bus_id[0] != '\0');
    assert_ptr_equal(d.stream, f.device->stream);
    assert_string_equal(f.backend->ops->name, "cuda");
    assert_string_equal(f.backend->instruction_set, d.architecture);
    assert_string_equal(f.backend->libraries, d.libraries);
    assert_non_null(strstr(f.backend->device, d.name));
    assert_string_equal(f.backend->place, d.bus_id);
    assert_int_equal(f.backend->precision, HSGD_DOUBLE);
    assert_int_equal(f.backend->workers, 1);
    assert_int_equal(f.backend->group, 1000);
    assert_int_equal(f.backend->least_group, 50);
    assert_false(f.backend->host_memory || f.backend->tf32);
    assert_null(f.backend->ops->weight_order);
    fixture_end(&f);
}

/* ---- precision ---- */

static void true_floats_are_had_whatever_the_environment_says(void **state)
{
    static const char *const variables[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION",
                                            "CUBLAS_EMULATE_DOUBLE_PRECISION"};
    hsgd_cuda_device *device = NULL;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        (void)setenv(variables[i], "1", 1);
    }
    assert_ok(hsgd_cuda_device_create(0, false, &device, &err));
    for (int i = 0; i < 3; i++) {
        assert_string_equal(getenv(variables[i]), "0");
    }
    hsgd_cuda_device_destroy(&device);
}

static void tf32_is_refused_where_the_environment_forbids_it(void **state)
{
    hsgd_cuda_device *device = NULL;
    hsgd_error err = {0};

    (void)state;
    (void)setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
    assert_int_equal(hsgd_cuda_device_create(0, true, &device, &err), HSGD_ERR_DEVICE);
    assert_null(device);
    assert_non_null(strstr(err.text, "NVIDIA_TF32_OVERRIDE"));
    (void)setenv("NVIDIA_TF32_OVERRIDE", "1", 1);
    assert_ok(hsgd_cuda_device_create(0, true, &device, &err));
    assert_string_equal(getenv("NVIDIA_TF32_OVERRIDE"), "1");
    assert_string_equal(getenv("CUBLAS_EMULATE_SINGLE_PRECISION"), "0");
    hsgd_cuda_device_destroy(&device);
    fixture f = fixture_make(HSGD_SINGLE, true);
    assert_true(f.backend->tf32);
    fixture_end(&f);
}

/* ---- waiting ---- */

typedef struct {
    int asked;
    int fails_at; /* 0: never */
} watcher;

static hsgd_status watch(void *context, hsgd_error *err)
{
    watcher *w = context;

    w->asked++;
    if (w->asked == w->fails_at) {
        return hsgd_error_set(err, HSGD_ERR_DEVICE, "nccl: rank 3 on node7 is lost; see its log");
    }
    return HSGD_OK;
}

/* Work that takes until a moment. */
static int linger(void *argument)
{
    return hsgd_clock() >= *(const double *)argument;
}

static void the_watch_is_asked_while_one_waits(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    watcher w = {0, 0};
    hsgd_error err = {0};

    (void)state;
    hsgd_cuda_device_set_watch(f.device, watch, &w);
    assert_ok(hsgd_cuda_wait(f.device, &err));
    const double begun = hsgd_clock(), until = begun + 20e-3;
    w.asked = 0;
    emulation_enqueue_polled(f.device->stream, linger, &until, sizeof until);
    assert_ok(hsgd_cuda_wait(f.device, &err));
    assert_int_equal(cudaPeekAtLastError(), cudaSuccess); /* "not ready" is not left for others to find */
    assert_true(w.asked >= 2 && w.asked <= (hsgd_clock() - begun) * 1e3);
    hsgd_cuda_device_set_watch(f.device, NULL, NULL);
    w.asked = 0;
    const double later = hsgd_clock() + 5e-3;
    emulation_enqueue_polled(f.device->stream, linger, &later, sizeof later);
    assert_ok(hsgd_cuda_wait(f.device, &err));
    assert_int_equal(w.asked, 0);
    fixture_end(&f);
}

/* Work that is never done: with the watch's failure everything ends, also what would free memory. */
static int never(void *argument)
{
    return **(bool **)argument;
}

static void the_failure_of_the_watch_ends_the_waiting(void **state)
{
    static bool released; /* outlives the test: the stream may still look */
    bool *flag = &released;
    fixture f = fixture_make(HSGD_SINGLE, false);
    const cublasHandle_t blas = f.device->blas; /* left to the end of the process */
    const cudnnHandle_t dnn = f.device->dnn;
    watcher w = {0, 3};
    void *memory = NULL;
    int number = 0;
    hsgd_error err = {0};

    (void)state;
    assert_ok(f.backend->ops->alloc(f.backend->self, sizeof number, &memory, &err));
    hsgd_cuda_device_set_watch(f.device, watch, &w);
    emulation_enqueue_polled(f.device->stream, never, &flag, sizeof flag);
    assert_int_equal(f.backend->ops->download(f.backend->self, sizeof number, memory, &number, &err), HSGD_ERR_DEVICE);
    assert_string_equal(err.text, "nccl: rank 3 on node7 is lost; see its log");
    assert_int_equal(w.asked, 3);
    memset(&err, 0, sizeof err);
    assert_int_equal(f.backend->ops->zero(f.backend->self, 0, sizeof number, memory, &err), HSGD_ERR_DEVICE);
    assert_string_equal(err.text, "nccl: rank 3 on node7 is lost; see its log");
    f.backend->ops->release(f.backend->self, memory);
    fixture_end(&f);
    released = true;
    assert_int_equal(cublasDestroy(blas), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudnnDestroy(dnn), CUDNN_STATUS_SUCCESS);
}

/* A stream takes only so many launches; behind work that is never done the watch is asked before it is full. */
static void who_launches_without_waiting_is_told_of_the_watchs_failure(void **state)
{
    static bool released; /* outlives the test, as above */
    bool *flag = &released;
    fixture f = fixture_make(HSGD_SINGLE, false);
    const cublasHandle_t blas = f.device->blas;
    const cudnnHandle_t dnn = f.device->dnn;
    watcher w = {0, 3};
    void *memory = NULL;
    hsgd_status st = HSGD_OK;
    hsgd_error err = {0};
    int launched = 0;

    (void)state;
    assert_ok(f.backend->ops->alloc(f.backend->self, 64, &memory, &err));
    hsgd_cuda_device_set_watch(f.device, watch, &w);
    emulation_enqueue_polled(f.device->stream, never, &flag, sizeof flag);
    while (st == HSGD_OK && launched < 1000) {
        st = f.backend->ops->relu_value(f.backend->self, 0, 1, memory, memory, &err);
        launched++;
    }
    assert_int_equal(st, HSGD_ERR_DEVICE);
    assert_string_equal(err.text, "nccl: rank 3 on node7 is lost; see its log");
    assert_true(launched > 200); /* nor does the host wait while the stream has room */
    fixture_end(&f);
    released = true;
    assert_int_equal(cublasDestroy(blas), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudnnDestroy(dnn), CUDNN_STATUS_SUCCESS);
}

/* ---- failures ---- */

/* A launch that is not made, as the mark before it cannot be, is a failure although the device is well. */
static void no_launch_is_left_out_in_silence(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    watcher w = {0, 0};
    void *memory = NULL;
    hsgd_status st = HSGD_OK;
    hsgd_error err = {0};

    (void)state;
    assert_ok(f.backend->ops->alloc(f.backend->self, 64, &memory, &err));
    hsgd_cuda_device_set_watch(f.device, watch, &w);
    set("HSGD_EMULATION_FAIL", "cudaEventCreateWithFlags:1");
    for (int i = 0; i < 200 && st == HSGD_OK; i++) {
        st = f.backend->ops->relu_value(f.backend->self, 0, 1, memory, memory, &err);
    }
    assert_int_equal(st, HSGD_ERR_MEMORY);
    set("HSGD_EMULATION_FAIL", NULL);
    assert_ok(f.backend->ops->relu_value(f.backend->self, 0, 1, memory, memory, &err));
    f.backend->ops->release(f.backend->self, memory);
    fixture_end(&f);
}

static void the_first_failure_stays(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    hsgd_error first = {0}, later = {0};
    hsgd_cuda_description d;
    int number = 0;
    void *memory = NULL;

    (void)state;
    assert_int_equal(b->ops->alloc(b->self, sizeof number, &memory, &first), HSGD_OK);
    emulation_lose_device(cudaErrorIllegalAddress);
    assert_int_equal(b->ops->download(b->self, sizeof number, memory, &number, &first), HSGD_ERR_DEVICE);
    assert_non_null(strstr(first.text, "cudaMemcpyAsync: an illegal memory access was encountered"));
    assert_non_null(strstr(first.text, "cudaErrorIllegalAddress"));
    assert_non_null(strstr(first.text, f.device->name));
    emulation_reconfigure(); /* the device would answer again; nobody asks it */
    assert_int_equal(b->ops->upload(b->self, sizeof number, &number, memory, &later), HSGD_ERR_DEVICE);
    assert_string_equal(later.text, first.text);
    memset(&later, 0, sizeof later);
    assert_int_equal(b->ops->relu_value(b->self, 0, 1, memory, memory, &later), HSGD_ERR_DEVICE);
    assert_string_equal(later.text, first.text);
    memset(&later, 0, sizeof later);
    assert_int_equal(hsgd_cuda_check(f.device, cudaErrorUnknown, "cudaFree(memory)", &later), HSGD_ERR_DEVICE);
    assert_string_equal(later.text, first.text);
    assert_int_equal(b->ops->gram(b->self, 1, 1, 1, memory, 1, 1, memory, 1, memory, NULL), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_cuda_device_describe(f.device, &d, &later), HSGD_ERR_DEVICE);
    b->ops->release(b->self, memory);
    fixture_end(&f);
}

static void a_kernel_that_fails_is_told_by_who_waits(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend *b = f.backend;
    hsgd_error err = {0};
    int number = 0;
    void *memory = NULL;

    (void)state;
    assert_ok(b->ops->alloc(b->self, 64, &memory, &err));
    set("HSGD_EMULATION_FAIL", "relu_value:1");
    assert_ok(b->ops->relu_value(b->self, 0, 1, memory, memory, &err));
    assert_int_equal(b->ops->download(b->self, sizeof number, memory, &number, &err), HSGD_ERR_DEVICE);
    assert_non_null(strstr(err.text, "CUDA_LAUNCH_BLOCKING"));
    b->ops->release(b->self, memory);
    fixture_end(&f);
    set("HSGD_EMULATION_FAIL", NULL);
}

/* Whatever call fails, nothing is left behind: run under a leak checker. */
static void a_device_that_cannot_be_made_leaves_nothing(void **state)
{
    static const char *const calls[] = {"cudaSetDevice:1",   "cudaStreamCreateWithFlags:1",
                                        "cublasCreate:1",    "cudaMalloc:1",
                                        "cudnnCreate:1",     "cudaHostAlloc:1",
                                        "cudaHostAlloc:2",   "cudaEventCreateWithFlags:3",
                                        "cudaMemsetAsync:1", "cudaGetDeviceCount:1"};

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        hsgd_cuda_device *device = NULL;
        hsgd_error err = {0};
        const size_t held = emulation_held();

        set("HSGD_EMULATION_FAIL", calls[i]);
        const hsgd_status st = hsgd_cuda_device_create(0, false, &device, &err);
        if (st != HSGD_ERR_DEVICE && st != HSGD_ERR_MEMORY) {
            fail_msg("%s: status %d", calls[i], st);
        }
        assert_null(device);
        assert_int_equal(emulation_held(), held);
        assert_true(err.status == st && err.text[0] != '\0');
    }
    set("HSGD_EMULATION_FAIL", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_told),
        cmocka_unit_test(local_ranks_go_round_the_visible_devices),
        cmocka_unit_test(a_backend_tells_what_computes),
        cmocka_unit_test(true_floats_are_had_whatever_the_environment_says),
        cmocka_unit_test(tf32_is_refused_where_the_environment_forbids_it),
        cmocka_unit_test(the_watch_is_asked_while_one_waits),
        cmocka_unit_test(the_failure_of_the_watch_ends_the_waiting),
        cmocka_unit_test(who_launches_without_waiting_is_told_of_the_watchs_failure),
        cmocka_unit_test(no_launch_is_left_out_in_silence),
        cmocka_unit_test(the_first_failure_stays),
        cmocka_unit_test(a_kernel_that_fails_is_told_by_who_waits),
        cmocka_unit_test(a_device_that_cannot_be_made_leaves_nothing),
    };
    return test_run(tests);
}
