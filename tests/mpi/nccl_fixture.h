/* tests/mpi/nccl_fixture.h - the NCCL communicator around that of the launch, with the emulated CUDA and NCCL of
 * tests/emulation: every rank has a GPU of its own. */
#pragma once
#include <cuda_runtime.h>
#include <stdlib.h>
#include <time.h>
#include "comm_nccl.h"
#include "emulation/emulation.h"
#include "support.h"

typedef struct {
    hsgd_comm *comm;  /* owned; NULL where it could not be made */
    hsgd_comm *inner; /* owned by comm, but not ended with it after a failure: then the process would end */
    cudaStream_t stream;
    hsgd_status (*watch)(void *context, hsgd_error *err);
    void *context;
    char why[256];
} nccl_fixture;

/* What became of the last call of the inner communicator's abort, which here returns: else the test would end. */
static int exit_code_of_abort;

static inline void nccl_record_abort(void *self, int exit_code)
{
    (void)self;
    exit_code_of_abort = exit_code;
}

static inline void nccl_set_watch(void *device, hsgd_status (*watch)(void *context, hsgd_error *err), void *context)
{
    nccl_fixture *f = device;

    f->watch = watch;
    f->context = context;
}

static _Alignas(64) char alone_block[4096];

static inline hsgd_status nccl_alone_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle,
                                           hsgd_error *err)
{
    (void)self, (void)err;
    assert_in_range(bytes, 1, sizeof alone_block);
    *out = *handle = memset(alone_block, 0, sizeof alone_block);
    *leader = true;
    return HSGD_OK;
}

static inline void nccl_alone_free(void *self, void **handle)
{
    (void)self, (void)handle;
}

/* The communicator of the launch, to be owned and ended by another one without ending itself.
 * alone: as if each rank had a node for itself, so that none hears of another's failure. */
static inline hsgd_comm *nccl_inner(bool alone)
{
    static hsgd_comm_ops ops;
    hsgd_comm *inner = malloc(sizeof *inner);

    assert_non_null(inner);
    *inner = *test_comm();
    ops = *inner->ops;
    ops.destroy = NULL;
    ops.abort = nccl_record_abort;
    if (alone) {
        ops.shared_alloc = nccl_alone_alloc;
        ops.shared_free = nccl_alone_free;
    }
    inner->ops = &ops;
    exit_code_of_abort = 0;
    return inner;
}

static inline void nccl_take_gpu(int device)
{
    if (setenv("HSGD_EMULATION_DEVICES", "16", 1) == 0) {
        emulation_reconfigure();
    }
    if (cudaSetDevice(device) != cudaSuccess) {
        (void)fprintf(stderr, "no emulated GPU %d\n", device);
        abort();
    }
}

/* Try to make it.  device: the GPU that this rank takes; fault: HSGD_EMULATION_NCCL. */
static inline hsgd_status nccl_try(nccl_fixture *f, int device, double timeout, bool alone, const char *fault,
                                   hsgd_error *err)
{
    hsgd_comm *inner = nccl_inner(alone);
    char bus_id[32] = "";
    hsgd_nccl_options options = {
        .bus_id = bus_id, .timeout = timeout, .patience = timeout, .set_watch = nccl_set_watch, .device = f};
    hsgd_status st;

    *f = (nccl_fixture){.inner = inner};
    assert_int_equal(setenv("HSGD_EMULATION_NCCL", fault, 1), 0);
    nccl_take_gpu(device);
    assert_int_equal(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking), cudaSuccess);
    options.stream = f->stream;
    st = hsgd_comm_nccl_create(inner, &options, &f->comm, f->why, sizeof f->why, err);
    return st;
}

static inline void nccl_end(nccl_fixture *f)
{
    const bool ended = f->comm != NULL;

    hsgd_comm_destroy(&f->comm);
    if (!ended || exit_code_of_abort != 0) {
        free(f->inner);
    }
    assert_null(f->watch);
    assert_int_equal(cudaStreamDestroy(f->stream), cudaSuccess);
    nccl_take_gpu(test_comm()->rank); /* of the next test */
}

#define PATIENT 60.0 /* seconds: longer than any wait that ends well */
#define SHORT   0.3

static inline void nccl_make(nccl_fixture *f, double timeout, bool alone, const char *fault)
{
    hsgd_error err = {0};

    assert_ok(nccl_try(f, test_comm()->rank, timeout, alone, fault, &err));
    assert_non_null(f->comm);
    assert_string_equal(f->why, "");
    assert_string_equal(f->comm->ops->name, "nccl");
}

/* Wait for the stream as the backend does. */
static inline hsgd_status nccl_wait(const nccl_fixture *f, hsgd_error *err)
{
    const struct timespec millisecond = {.tv_nsec = 1000 * 1000};

    while (cudaStreamQuery(f->stream) == cudaErrorNotReady) {
        const hsgd_status st = f->watch(f->context, err);

        if (st != HSGD_OK) {
            return st;
        }
        (void)nanosleep(&millisecond, NULL);
    }
    return HSGD_OK;
}

static inline void *nccl_words(size_t words)
{
    void *memory = NULL;

    assert_int_equal(cudaMalloc(&memory, 8 * words + 8), cudaSuccess);
    return memory;
}

static inline char *fault(const char *kind, int rank, int at)
{
    static char text[64];

    (void)snprintf(text, sizeof text, "%s:%d:%d", kind, rank, at);
    return text;
}

/* " on rank R of HOST" of the launch's rank `rank`. */
static inline const char *place(int rank)
{
    static char text[128];

    (void)snprintf(text, sizeof text, " on rank %d of %s", rank, test_comm()->host);
    return text;
}

static inline void assert_says(const hsgd_error *err, const char *words)
{
    if (strstr(err->text, words) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", words, err->text);
    }
}
