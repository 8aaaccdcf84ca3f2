/* src/cpu/host.c - members of the CPU backend that know neither real type nor instruction set: memory, the spread of
 * groups over workers, the order of weights. */
#include "cpu/internal.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

hsgd_status hsgd_cpu_alloc(void *self, size_t bytes, void **out, hsgd_error *err)
{
    const size_t rounded = bytes > 0 ? hsgd_cpu_round(bytes) : 64;

    (void)self;
    *out = aligned_alloc(64, rounded);
    if (*out == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate %zu bytes", bytes);
    }
    memset(*out, 0, rounded);
    return HSGD_OK;
}

void hsgd_cpu_release(void *self, void *memory)
{
    (void)self;
    free(memory);
}

hsgd_status hsgd_cpu_upload(void *self, size_t bytes, const void *host, void *memory, hsgd_error *err)
{
    (void)self;
    (void)err;
    if (bytes > 0) {
        memcpy(memory, host, bytes);
    }
    return HSGD_OK;
}

hsgd_status hsgd_cpu_download(void *self, size_t bytes, const void *memory, void *host, hsgd_error *err)
{
    return hsgd_cpu_upload(self, bytes, memory, host, err);
}

hsgd_status hsgd_cpu_zero(void *self, int worker, size_t bytes, void *memory, hsgd_error *err)
{
    (void)self;
    (void)worker;
    (void)err;
    if (bytes > 0) {
        memset(memory, 0, bytes);
    }
    return HSGD_OK;
}

hsgd_status hsgd_cpu_copy(void *self, int worker, size_t bytes, const void *from, void *to, hsgd_error *err)
{
    (void)worker;
    return hsgd_cpu_upload(self, bytes, from, to, err);
}

hsgd_status hsgd_cpu_hold(void *self, size_t bytes, const void *host, const void **memory, hsgd_error *err)
{
    (void)self;
    (void)bytes;
    (void)err;
    *memory = host;
    return HSGD_OK;
}

void hsgd_cpu_let_go(void *self, const void *host)
{
    (void)self;
    (void)host;
}

/* ---- groups over workers ---- */

/* The failure of the lowest group so far; groups beyond it need not run. */
typedef struct {
    int64_t group;
    hsgd_status status;
    hsgd_error *err;
} first_failure;

static void run_group(first_failure *failure, hsgd_group_body body, void *context, int worker, int64_t group)
{
    hsgd_error own = {0};
    hsgd_status st = HSGD_OK;
    int64_t limit = 0;

#pragma omp atomic read
    limit = failure->group;
    if (group > limit) {
        return;
    }
    st = body(context, worker, group, &own);
    if (st != HSGD_OK) {
#pragma omp critical(hsgd_cpu_failure)
        if (group < failure->group) {
#pragma omp atomic write
            failure->group = group;
            failure->status = st;
            if (failure->err != NULL) {
                *failure->err = own;
            }
        }
    }
}

hsgd_status hsgd_cpu_for_groups(void *self, int64_t count, bool spread_fixed, hsgd_group_body body, void *context,
                                hsgd_error *err)
{
    const int workers = ((const hsgd_cpu *)self)->workers;
    first_failure failure = {INT64_MAX, HSGD_OK, err};

    if (workers == 1) { /* OpenMP takes and returns memory for every region of one thread */
        for (int64_t g = 0; g < count; g++) {
            run_group(&failure, body, context, 0, g);
        }
    } else if (spread_fixed) { /* over workers, not threads: the same spread also where OpenMP gives fewer threads */
#pragma omp parallel for schedule(static, 1) num_threads(workers)
        for (int w = 0; w < workers; w++) {
            for (int64_t g = count * w / workers; g < count * (w + 1) / workers; g++) {
                run_group(&failure, body, context, w, g);
            }
        }
    } else {
#pragma omp parallel for schedule(dynamic) num_threads(workers)
        for (int64_t g = 0; g < count; g++) {
            run_group(&failure, body, context, omp_get_thread_num(), g);
        }
    }
    return failure.status;
}

/* ---- layouts ---- */

/* Activations are [sample][y][x][channel]: so conv weights are [out][y][x][in], whose rows of one y lie as the pixels
 * they meet do, and linear weights [out][in] have their inputs in (y, x, channel) order. */
void hsgd_cpu_weight_order(void *self, const hsgd_layer *layer, int64_t *order)
{
    const bool conv = layer->kind == HSGD_LAYER_CONV;
    const int64_t channels = conv ? layer->in.channels : layer->unflat.channels;
    const int64_t places = conv ? layer->size * layer->size : layer->unflat.height * layer->unflat.width;

    (void)self;
    for (int64_t o = 0; o < layer->out.channels; o++) {
        for (int64_t p = 0; p < places; p++) {
            for (int64_t c = 0; c < channels; c++) {
                order[(o * places + p) * channels + c] = (o * channels + c) * places + p;
            }
        }
    }
}
