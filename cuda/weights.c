/* cuda/weights.c - weights where cuBLAS and cuDNN get them.
 *
 * Activations begin at multiples of 64 bytes, but a layer's weight stands anywhere in its flat vector, and the vectors of
 * several columns stand one behind the other.  The libraries choose kernels by alignment, and some of cuDNN's take none
 * below 16 bytes for granted.  So a weight that begins elsewhere is handed over as a copy: no bit depends on a column's
 * place among others. */
#include "internal.h"

enum { ALIGN = 64 };

static size_t pitch_of(const hsgd_cuda_backend *b, const hsgd_layer *layer)
{
    const size_t bytes = (size_t)layer->weight_count * hsgd_real_size(b->precision);

    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int64_t arrays_of(hsgd_columns w, int64_t k)
{
    return w.stride == 0 ? 1 : k;
}

static bool all_aligned(const hsgd_cuda_backend *b, int64_t k, hsgd_columns w)
{
    const size_t stride = (size_t)w.stride * hsgd_real_size(b->precision);

    return (uintptr_t)w.data % ALIGN == 0 && (arrays_of(w, k) == 1 || stride % ALIGN == 0);
}

hsgd_status hsgd_cuda_weights_in(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t k, hsgd_columns w,
                                 hsgd_columns *used, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *d = b->device;
    const size_t real = hsgd_real_size(b->precision), pitch = pitch_of(b, layer);
    const size_t arrays = (size_t)arrays_of(w, k), bytes = (size_t)layer->weight_count * real;

    *used = w;
    HSGD_TRY(hsgd_cuda_pace(d, 1, err));
    if (!all_aligned(b, k, w)) {
        HSGD_TRY(hsgd_cuda_scratch_grow(d, &d->weights, arrays * pitch, err));
        *used = (hsgd_columns){d->weights.memory, w.stride == 0 ? 0 : (int64_t)(pitch / real)};
        CUDA_TRY(d,
                 cudaMemcpy2DAsync(used->data, pitch, w.data, arrays == 1 ? bytes : (size_t)w.stride * real, bytes,
                                   arrays, cudaMemcpyDeviceToDevice, d->stream),
                 err);
    }
done:
    return st;
}

hsgd_status hsgd_cuda_weights_out(hsgd_cuda_backend *b, const hsgd_layer *layer, int64_t k, hsgd_columns used,
                                  hsgd_columns w, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_cuda_device *d = b->device;
    const size_t real = hsgd_real_size(b->precision), bytes = (size_t)layer->weight_count * real;
    const size_t arrays = (size_t)arrays_of(w, k);

    if (used.data != w.data) {
        CUDA_TRY(d,
                 cudaMemcpy2DAsync(w.data, arrays == 1 ? bytes : (size_t)w.stride * real, used.data, pitch_of(b, layer),
                                   bytes, arrays, cudaMemcpyDeviceToDevice, d->stream),
                 err);
    }
done:
    return st;
}
