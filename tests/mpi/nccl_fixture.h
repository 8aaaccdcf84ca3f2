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
    hsgd_comm *comm; /* owned; NULL where it could not be made */
    cudaStream_t stream;
    hsgd_status (*watch)(void *context, hsgd_error *err);
    void *context;
    char why[256];
} nccl_fixture;

/* What became of the last call of the inner communicator's abort, which here returns: else the test would end. */
static int exit_code_of_abort;

static void nccl_record_abort(void *self, int exit_code)
{
    (void)self;
    exit_code_of_abort = exit_code;
}

static void nccl_set_watch(void *device, hsgd_status (*watch)(void *context, hsgd_error *err), void *context)
{
    nccl_fixture *f = device;

    f->watch = watch;
    f->context = context;
}

static hsgd_status nccl_alone_alloc(void *self, size_t bytes, void **out, bool *leader, void **handle, hsgd_error *err)
{
    (void)self, (void)err;
    *out = *handle = calloc(1, bytes);
    *leader = true;
    return *out != NULL ? HSGD_OK : HSGD_ERR_MEMORY;
}

static void nccl_alone_free(void *self, void **handle)
{
    (void)self;
    free(*handle);
}

/* The communicator of the launch, to be owned and ended by another one without ending itself.
 * alone: as if each rank had a node for itself, so that none hears of another's failure. */
static hsgd_comm *nccl_inner(bool alone)
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

static void nccl_take_gpu(int device)
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
static hsgd_status nccl_try(nccl_fixture *f, int device, double timeout, bool alone, const char *fault, hsgd_error *err)
{
    hsgd_comm *inner = nccl_inner(alone);
    char bus_id[32] = "";
    hsgd_nccl_options options = {.bus_id = bus_id, .timeout = timeout, .set_watch = nccl_set_watch, .device = f};
    hsgd_status st;

    *f = (nccl_fixture){0};
    assert_int_equal(setenv("HSGD_EMULATION_NCCL", fault, 1), 0);
    nccl_take_gpu(device);
    assert_int_equal(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking), cudaSuccess);
    options.stream = f->stream;
    st = hsgd_comm_nccl_create(inner, &options, &f->comm, f->why, sizeof f->why, err);
    if (f->comm == NULL) {
        free(inner);
    }
    return st;
}

static void nccl_end(nccl_fixture *f)
{
    hsgd_comm_destroy(&f->comm);
    assert_null(f->watch);
    assert_int_equal(cudaStreamDestroy(f->stream), cudaSuccess);
    nccl_take_gpu(test_comm()->rank); /* of the next test */
}
