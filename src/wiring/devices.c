/* src/wiring/devices.c - chooses CPU or CUDA, MPI or NCCL, and opens the module with CUDA's side where it is wanted. */
#include "wiring/devices.h"
#include "base/cores.h"
#include "cpu/cpu.h"
#include "wiring/module.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char MODULE[] = "hsgd-cuda.so"; /* found by the program's run path */
static const double FOR_EVER = 1e30;         /* seconds */

struct hsgd_devices {
    hsgd_device_choice choice;
    hsgd_comm *comm;                    /* borrowed */
    const hsgd_cuda_module_table *cuda; /* NULL: not opened */
    hsgd_cuda_device *gpu;              /* NULL: the CPU serves */
    hsgd_placement placement;
    cpu_set_t unbound; /* the cores of all threads before they were bound */
};

/* Open the module.  It stays open: closing it would end CUDA's libraries while the process still holds their memory. */
static hsgd_status open_module(const hsgd_cuda_module_table **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *named = getenv("HSGD_CUDA_MODULE");
    const char *path = named != NULL && named[0] != '\0' ? named : MODULE;
    const hsgd_cuda_module_table *table = NULL;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    HSGD_CHECK(module != NULL, HSGD_ERR_DEVICE, err,
               "cuda: the module cannot be opened (%.400s); build with -DHSGD_CUDA=ON and have the "
               "libraries of CUDA and cuDNN where the loader finds them (LD_LIBRARY_PATH), or take auto or cpu",
               dlerror());
    table = dlsym(module, HSGD_CUDA_MODULE_SYMBOL);
    HSGD_CHECK(table != NULL && table->version == HSGD_CUDA_MODULE_VERSION && table->size == sizeof *table,
               HSGD_ERR_DEVICE, err, "cuda: %.400s belongs to another version of this program; build both together",
               path);
    *out = table;
done:
    return st;
}

/* Is there a driver that sees a device?  Asked first where nobody insists: the module's libraries take longer to load than
 * a small run on the CPU takes to finish. */
static bool driver_sees_device(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*init)(unsigned) = NULL;
    int (*get_count)(int *) = NULL;
    int count = 0;

    if (driver == NULL) {
        return false;
    }
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&get_count = dlsym(driver, "cuDeviceGetCount");
    return init != NULL && get_count != NULL && init(0) == 0 && get_count(&count) == 0 && count > 0;
}

/* This rank's GPU, as far as it goes: on failure *d has none.  *seen: a device is there, or is insisted on. */
static hsgd_status open_gpu(hsgd_devices *d, bool *seen, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *named = getenv("HSGD_CUDA_MODULE");

    *seen = d->choice.backend == HSGD_DEVICE_CUDA || (named != NULL && named[0] != '\0') || driver_sees_device();
    if (!*seen) {
        return HSGD_ERR_DEVICE; /* nothing to tell: nobody asked for a GPU, and there is none */
    }
    HSGD_TRY(open_module(&d->cuda, err));
    HSGD_TRY(d->cuda->device_create(d->comm->local_rank, d->choice.tf32, &d->gpu, err));
done:
    return st;
}

/* Under auto: why the GPUs that some ranks see do not serve; "" where none sees one.  Collective. */
static hsgd_status tell_why(hsgd_devices *d, int64_t able, bool seen, const hsgd_error *why, char *note, size_t size,
                            hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int ranks = d->comm->ranks;
    int64_t last = seen && why->text[0] != '\0' ? ranks - d->comm->rank : 0; /* of the ranks that know, the first */
    char text[sizeof why->text];

    HSGD_TRY(hsgd_comm_max(d->comm, HSGD_TYPE_I64, 1, &last, err));
    if (last == 0 && able > 0) {
        (void)snprintf(note, size, "device.backend = auto: the CPU serves, for only %lld of %d ranks have a GPU",
                       (long long)able, ranks);
    } else if (last > 0) {
        memcpy(text, why->text, sizeof text);
        HSGD_TRY(hsgd_comm_broadcast(d->comm, ranks - (int)last, sizeof text, text, err));
        (void)snprintf(note, size, "device.backend = auto: the CPU serves, for %lld of %d ranks can use a GPU: %.400s",
                       (long long)able, ranks, text);
    }
done:
    return st;
}

/* CUDA on every rank, or on none: *use tells; *note why not, where that is worth a word. */
static hsgd_status choose_cuda(hsgd_devices *d, bool *use, char *note, size_t size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_error why = {0};
    bool seen = false;
    const hsgd_status mine = open_gpu(d, &seen, &why);
    int64_t able = mine == HSGD_OK;

    *use = false;
    if (d->choice.backend == HSGD_DEVICE_CUDA) {
        if (mine != HSGD_OK) {
            (void)hsgd_error_set(err, mine, "%s", why.text);
        }
        HSGD_TRY(hsgd_comm_agree(d->comm, mine, err));
    }
    HSGD_TRY(hsgd_comm_sum(d->comm, HSGD_TYPE_I64, 1, &able, err));
    *use = able == d->comm->ranks;
    if (!*use) {
        HSGD_TRY(tell_why(d, able, seen, &why, note, size, err));
    }
done:
    return st;
}

/* Which of the two carries device arrays; *comm may be wrapped. */
static hsgd_status choose_allreduce(hsgd_devices *d, hsgd_comm **comm, char *note, size_t size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const bool asked = d->choice.allreduce == HSGD_ALLREDUCE_NCCL;
    hsgd_comm *wrapped = NULL;
    const double timeout = d->choice.collective_timeout > 0.0 ? d->choice.collective_timeout : FOR_EVER;
    char why[256] = "";

    HSGD_CHECK(!asked || d->gpu != NULL, HSGD_ERR_DEVICE, err,
               "device.allreduce = nccl: it needs device.backend = cuda and a GPU for every rank; take auto or mpi");
    HSGD_CHECK(!asked || d->cuda->comm_create != NULL, HSGD_ERR_DEVICE, err,
               "device.allreduce = nccl: this program was built without NCCL (-DHSGD_NCCL=ON); take auto or mpi");
    if (d->gpu == NULL || d->choice.allreduce == HSGD_ALLREDUCE_MPI || d->cuda->comm_create == NULL ||
        (!asked && d->comm->ranks == 1)) {
        return HSGD_OK;
    }
    HSGD_TRY(d->cuda->comm_create(*comm, d->gpu, timeout, &wrapped, why, sizeof why, err));
    HSGD_CHECK(!asked || wrapped != NULL, HSGD_ERR_DEVICE, err, "device.allreduce = nccl: %s; take auto or mpi", why);
    if (wrapped != NULL) {
        *comm = d->comm = wrapped;
    } else {
        (void)snprintf(note, size, "%s", why);
    }
done:
    return st;
}

/* Find the threads' places and, for the CPU, take them; where the system refuses, it goes on choosing them. */
static hsgd_status place_threads(hsgd_devices *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_placement *placement = &d->placement;

    HSGD_TRY(hsgd_placement_find(d->comm, d->choice.threads, placement, err));
    if (d->gpu != NULL) {
        placement->warning[0] = '\0';
    }
    if (d->gpu != NULL || (placement->binding == HSGD_BINDING_CORES &&
                           !(hsgd_cores_of(0, &d->unbound) && hsgd_cpu_bind(placement->threads, &placement->cores)))) {
        placement->binding = HSGD_BINDING_NONE;
        (void)hsgd_cores_of(0, &placement->cores); /* all of the rank's, not a share of its own */
    }
done:
    return st;
}

hsgd_status hsgd_devices_open(const hsgd_device_choice *choice, hsgd_comm **comm, char *note, size_t note_size,
                              hsgd_devices **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_devices *d = calloc(1, sizeof *d);
    bool cuda = false;

    *out = NULL;
    note[0] = '\0';
    HSGD_TRY(hsgd_comm_agree(*comm, d != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    d->choice = *choice;
    d->comm = *comm;
    if (choice->backend != HSGD_DEVICE_CPU) {
        HSGD_TRY(choose_cuda(d, &cuda, note, note_size, err));
    }
    if (!cuda && d->gpu != NULL) {
        d->cuda->device_destroy(&d->gpu);
    }
    HSGD_TRY(place_threads(d, err));
    HSGD_TRY(choose_allreduce(d, comm, note, note_size, err));
    *out = d;
    d = NULL;
done:
    hsgd_devices_close(&d);
    return st;
}

const hsgd_placement *hsgd_devices_placement(const hsgd_devices *devices)
{
    return &devices->placement;
}

/* The widest instruction set that all ranks have: nodes may differ, and the bits with the set. */
static hsgd_status agree_on_width(hsgd_comm *comm, int *width, hsgd_error *err)
{
    hsgd_status st = hsgd_cpu_width(width, err);
    int64_t narrowest = -*width; /* the maximum of the negative widths is the least of the widths */

    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_max(comm, HSGD_TYPE_I64, 1, &narrowest, err));
    *width = (int)-narrowest;
done:
    return st;
}

hsgd_status hsgd_devices_backend(hsgd_devices *devices, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int width = 0;

    *out = NULL;
    if (devices->gpu != NULL) {
        return devices->cuda->backend_create(devices->gpu, precision, out, err);
    }
    HSGD_TRY(agree_on_width(devices->comm, &width, err));
    HSGD_TRY(hsgd_backend_cpu_create_within(precision, devices->placement.threads, width, out, err));
done:
    return st;
}

void hsgd_devices_close(hsgd_devices **devices)
{
    if (devices == NULL || *devices == NULL) {
        return;
    }
    if ((*devices)->gpu != NULL) {
        (*devices)->cuda->device_destroy(&(*devices)->gpu);
    }
    if ((*devices)->placement.binding == HSGD_BINDING_CORES) {
        hsgd_cpu_unbind((*devices)->placement.threads, &(*devices)->unbound);
    }
    free(*devices);
    *devices = NULL;
}
