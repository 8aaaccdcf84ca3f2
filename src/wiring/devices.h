/* src/wiring/devices.h - which device computes and what adds over ranks: the only place that names them. */
#pragma once
#include "backend.h"
#include "base/comm.h"
#include "wiring/placement.h"

typedef enum { HSGD_DEVICE_AUTO, HSGD_DEVICE_CPU, HSGD_DEVICE_CUDA } hsgd_device_kind; /* device.backend */
typedef enum {
    HSGD_ALLREDUCE_AUTO,
    HSGD_ALLREDUCE_MPI,
    HSGD_ALLREDUCE_NCCL
} hsgd_allreduce_kind; /* device.allreduce */

typedef struct {
    hsgd_device_kind backend;
    hsgd_allreduce_kind allreduce;
    bool tf32;
    int threads;               /* of each rank, for the CPU; 0: its share of the cores */
    double collective_timeout; /* seconds that one of NCCL's may be under way before all ranks are ended; 0: for ever */
} hsgd_device_choice;

typedef struct hsgd_devices hsgd_devices;

/* Choose, and where the CPU serves, put this rank's threads on cores of their own if that is wise (placement.h).
 * auto: CUDA where the module is there and every rank has a GPU, else the CPU; NCCL where there are several
 * ranks with a GPU each, else what the communicator has.
 * *comm: the communicator of the launch; replaced by one around it where NCCL serves (then the one to be ended).
 * note[]: a sentence worth telling once ("" if none): why a GPU or NCCL is not used though it might have been.
 * Collective.  Errors, the same on all ranks: HSGD_ERR_DEVICE (cuda or nccl was asked for and cannot be had; the text
 * says why), HSGD_ERR_MEMORY. */
hsgd_status hsgd_devices_open(const hsgd_device_choice *choice, hsgd_comm **comm, char *note, size_t note_size,
                              hsgd_devices **out, hsgd_error *err);

/* How many threads this rank has and where they run.  A GPU's host threads are left to the system.
 * The result is owned by `devices`.  Local. */
const hsgd_placement *hsgd_devices_placement(const hsgd_devices *devices);

/* Make a backend of that precision.  Collective on the communicator of open.  Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_devices_backend(hsgd_devices *devices, hsgd_precision precision, hsgd_backend **out, hsgd_error *err);

/* End *devices, after its backends and the communicator, and set it to NULL; accepts NULL.  Local. */
void hsgd_devices_close(hsgd_devices **devices);
