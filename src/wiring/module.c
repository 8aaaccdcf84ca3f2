/* src/wiring/module.c - the module's side of module.h: compiled into hsgd-cuda.so alone. */
#include "wiring/module.h"

#ifdef HSGD_NCCL
/* set_watch of the device, as a communicator that does not know the backend sees it. */
static void set_watch(void *device, hsgd_status (*watch)(void *context, hsgd_error *err), void *context)
{
    hsgd_cuda_device_set_watch(device, watch, context);
}

static hsgd_status comm_create(hsgd_comm *inner, hsgd_cuda_device *device, double timeout, hsgd_comm **out, char *why,
                               size_t why_size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_description of = {0};

    *out = NULL;
    st = hsgd_cuda_device_describe(device, &of, err);
    HSGD_TRY(hsgd_comm_agree(inner, st, err));
    {
        const hsgd_nccl_options options = {.stream = of.stream,
                                           .bus_id = of.bus_id,
                                           .timeout = timeout,
                                           .patience = HSGD_WATCH_OUTLAST,
                                           .set_watch = set_watch,
                                           .device = device};

        HSGD_TRY(hsgd_comm_nccl_create(inner, &options, out, why, why_size, err));
    }
done:
    return st;
}
#endif

__attribute__((visibility("default"))) const hsgd_cuda_module_table hsgd_cuda_module = {
    .version = HSGD_CUDA_MODULE_VERSION,
    .size = sizeof(hsgd_cuda_module_table),
    .device_create = hsgd_cuda_device_create,
    .device_destroy = hsgd_cuda_device_destroy,
    .backend_create = hsgd_backend_cuda_create,
#ifdef HSGD_NCCL
    .comm_create = comm_create,
#endif
};
