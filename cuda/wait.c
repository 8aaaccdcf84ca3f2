/* cuda/wait.c - waiting for the device, so that nobody waits for ever. */
#include "internal.h"
#include "base/clock.h"
#include <time.h>

/* Most waits end within tens of microseconds: so long the host looks without pause.  Then it sleeps, ever longer, up to
 * a fifth of the watch's period, and the core is free for others. */
static const double spin = 50e-6, ask_every = 1e-3; /* seconds */
enum { FIRST_SLEEP = 20 * 1000, LONGEST_SLEEP = 200 * 1000 /* nanoseconds */ };

void hsgd_cuda_device_set_watch(hsgd_cuda_device *device, hsgd_cuda_watch watch, void *context)
{
    device->watch = watch;
    device->watch_context = context;
}

/* The watch's failure is the device's: what was queued is not done, and results can no longer be trusted. */
static hsgd_status ask(hsgd_cuda_device *device, hsgd_error *err)
{
    hsgd_error own = {0};
    const hsgd_status st = device->watch(device->watch_context, &own);

    if (st != HSGD_OK) {
        own.status = st;
        device->failure = own;
        device->stuck = true;
        return hsgd_cuda_ready(device, err);
    }
    return HSGD_OK;
}

static cudaError_t look(const hsgd_cuda_device *device, cudaEvent_t event)
{
    const cudaError_t result = event != NULL ? cudaEventQuery(event) : cudaStreamQuery(device->stream);

    if (result == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* else the next launch would report it as its own */
    }
    return result;
}

static hsgd_status poll(hsgd_cuda_device *device, cudaEvent_t event, hsgd_error *err)
{
    const double begun = hsgd_clock();
    double asked = begun;
    struct timespec sleep = {0, FIRST_SLEEP};

    for (;;) {
        const cudaError_t result = look(device, event);
        const double now = hsgd_clock();

        if (result != cudaErrorNotReady) {
            return hsgd_cuda_check(device, result, "waiting for the GPU", err);
        }
        if (now - asked >= ask_every) {
            const hsgd_status st = ask(device, err);

            if (st != HSGD_OK) {
                return st;
            }
            asked = hsgd_clock();
        }
        if (now - begun >= spin) {
            (void)nanosleep(&sleep, NULL);
            sleep.tv_nsec = 2 * sleep.tv_nsec < LONGEST_SLEEP ? 2 * sleep.tv_nsec : LONGEST_SLEEP;
        }
    }
}

static hsgd_status await(hsgd_cuda_device *device, cudaEvent_t event, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (device->watch != NULL) {
        HSGD_TRY(poll(device, event, err));
    } else if (event != NULL) {
        CUDA_TRY(device, cudaEventSynchronize(event), err);
    } else {
        CUDA_TRY(device, cudaStreamSynchronize(device->stream), err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_wait_event(hsgd_cuda_device *device, cudaEvent_t event, hsgd_error *err)
{
    const hsgd_status st = hsgd_cuda_ready(device, err);

    return st != HSGD_OK ? st : await(device, event, err);
}

hsgd_status hsgd_cuda_wait(hsgd_cuda_device *device, hsgd_error *err)
{
    return hsgd_cuda_wait_event(device, NULL, err);
}

/* Launches between two marks: with four marks and the weight of one call a few hundred are outstanding at most, and as
 * many keep the device busy while the host looks. */
enum { PACE = 96 };

hsgd_status hsgd_cuda_pace(hsgd_cuda_device *device, int64_t calls, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    cudaEvent_t *mark = &device->marks[device->mark];

    HSGD_TRY(hsgd_cuda_ready(device, err));
    device->queued += calls;
    if (device->watch == NULL || device->queued < PACE) {
        goto done;
    }
    device->queued = 0;
    if (*mark == NULL) {
        CUDA_TRY(device, cudaEventCreateWithFlags(mark, cudaEventDisableTiming), err);
    } else {
        HSGD_TRY(hsgd_cuda_wait_event(device, *mark, err));
    }
    CUDA_TRY(device, cudaEventRecord(*mark, device->stream), err);
    device->mark = (device->mark + 1) % HSGD_CUDA_MARKS;
done:
    return st;
}

bool hsgd_cuda_at_rest(hsgd_cuda_device *device)
{
    if (!device->stuck) {
        (void)await(device, NULL, NULL);
    }
    return !device->stuck;
}
