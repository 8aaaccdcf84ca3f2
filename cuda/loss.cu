/* cuda/loss.cu - softmax cross-entropy and its derivatives; sums in double.  A thread takes a sample: its at most 256
 * classes are summed in their order, as on the CPU. */
#include "launch.cuh"

enum {
    SAMPLE_THREADS = 32, /* of a block: a group of some hundred samples is to reach many multiprocessors */
    TALLY_THREADS = 256
};

/* Largest of z, the lowest index on ties. */
template <typename real> static __device__ int64_t largest(int64_t classes, const real *z)
{
    int64_t best = 0;

    for (int64_t c = 1; c < classes; c++) {
        if (z[c] > z[best]) {
            best = c;
        }
    }
    return best;
}

/* losses, correct: [m], what each sample gives to the tally. */
template <typename real>
static __global__ void softmax_loss(int64_t m, int64_t classes, const real *__restrict__ z,
                                    const uint8_t *__restrict__ labels, const int64_t *__restrict__ index,
                                    real *__restrict__ soft, real *__restrict__ delta, int64_t *confusion,
                                    double *losses, double *correct)
{
    for (int64_t s = first_x(); s < m; s += step_x()) {
        const real *logits = z + s * classes;
        const int64_t label = labels[index[s]], best = largest(classes, logits);
        const double top = (double)logits[best]; /* subtracted, so that exp cannot overflow */
        double sum = 0.0;

        for (int64_t c = 0; c < classes; c++) {
            sum += exp((double)logits[c] - top); /* a NaN or Inf logit makes the sum, hence the loss, NaN */
        }
        for (int64_t c = 0; c < classes; c++) {
            const double share = exp((double)logits[c] - top) / sum;

            soft[s * classes + c] = (real)share;
            delta[s * classes + c] = (real)(share - (c == label ? 1.0 : 0.0));
        }
        losses[s] = log(sum) - ((double)logits[label] - top);
        correct[s] = best == label;
        if (confusion != NULL) {
            atomicAdd(reinterpret_cast<unsigned long long *>(&confusion[label * classes + best]), 1ULL);
        }
    }
}

static __global__ void tally_samples(int64_t m, const double *losses, const double *correct, double *tally)
{
    double loss = 0.0, right = 0.0;

    for (int64_t s = threadIdx.x; s < m; s += TALLY_THREADS) {
        loss += losses[s];
        right += correct[s];
    }
    loss = over_block<plus>(loss);
    right = over_block<plus>(right);
    if (threadIdx.x == 0) {
        tally[HSGD_TALLY_LOSS] = loss;
        tally[HSGD_TALLY_CORRECT] = right;
    }
}

template <typename real>
static __global__ void softmax_tangent(int64_t m, int64_t classes, int64_t k, const real *p, columns<real> tz,
                                       columns<real> tdelta)
{
    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        for (int64_t s = first_x(); s < m; s += step_x()) {
            const real *soft = p + s * classes;
            const real *tangent = tz.at(j) + s * classes;
            real *to = tdelta.at(j) + s * classes;
            double mean = 0.0;

            for (int64_t c = 0; c < classes; c++) {
                mean += (double)soft[c] * (double)tangent[c];
            }
            for (int64_t c = 0; c < classes; c++) {
                to[c] = (real)((double)soft[c] * ((double)tangent[c] - mean));
            }
        }
    }
}

template <typename real>
static __global__ void softmax_root(int64_t classes, int64_t first, int64_t k, const real *p, real *out)
{
    for (int64_t j = blockIdx.y; j < k; j += gridDim.y) {
        const double root = sqrt((double)p[first + j]);

        for (int64_t c = first_x(); c < classes; c += step_x()) {
            out[j * classes + c] = (real)(root * ((c == first + j ? 1.0 : 0.0) - (double)p[c]));
        }
    }
}

static shape sample_shape(int64_t m, int64_t k)
{
    shape s;

    s.block = dim3(SAMPLE_THREADS);
    s.grid = dim3((unsigned)least(quotient_up(m, SAMPLE_THREADS), MOST_BLOCKS), (unsigned)least(k, MOST_GRID_YZ));
    return s;
}

template <typename real>
static cudaError_t launch_softmax_loss(cudaStream_t stream, int64_t m, int64_t classes, const void *z,
                                       const uint8_t *labels, const int64_t *index, void *soft, void *delta,
                                       int64_t *confusion, double *scratch)
{
    const shape s = sample_shape(m, 1);

    return HSGD_LAUNCH(softmax_loss<real>, s.grid, s.block, stream, m, classes, static_cast<const real *>(z), labels,
                       index, static_cast<real *>(soft), static_cast<real *>(delta), confusion, scratch, scratch + m);
}

template <typename real>
static cudaError_t launch_softmax_tangent(cudaStream_t stream, int64_t m, int64_t classes, int64_t k, const void *soft,
                                          hsgd_columns tz, hsgd_columns tdelta)
{
    const shape s = sample_shape(m, k);

    return HSGD_LAUNCH(softmax_tangent<real>, s.grid, s.block, stream, m, classes, k, static_cast<const real *>(soft),
                       columns<real>(tz), columns<real>(tdelta));
}

template <typename real>
static cudaError_t launch_softmax_root(cudaStream_t stream, int64_t classes, int64_t first, int64_t k, const void *soft,
                                       void *out)
{
    const shape s = sample_shape(classes, k);

    return HSGD_LAUNCH(softmax_root<real>, s.grid, s.block, stream, classes, first, k, static_cast<const real *>(soft),
                       static_cast<real *>(out));
}

extern "C" cudaError_t hsgd_cuda_softmax_loss(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t classes,
                                              const void *z, const uint8_t *labels, const int64_t *index, void *soft,
                                              void *delta, double *tally, int64_t *confusion, double *scratch)
{
    cudaError_t error = cudaSuccess;

    if (m > 0) { /* without samples the tally is still to be zero */
        error = HSGD_BY_PRECISION(p, launch_softmax_loss, stream, m, classes, z, labels, index, soft, delta, confusion,
                                  scratch);
    }
    if (error != cudaSuccess) {
        return error;
    }
    return HSGD_LAUNCH_WITH_BARRIERS(tally_samples, dim3(1), dim3(TALLY_THREADS), stream, m, scratch, scratch + m,
                                     tally);
}

extern "C" cudaError_t hsgd_cuda_softmax_tangent(cudaStream_t stream, hsgd_precision p, int64_t m, int64_t classes,
                                                 int64_t k, const void *soft, hsgd_columns tz, hsgd_columns tdelta)
{
    if (m == 0 || k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_softmax_tangent, stream, m, classes, k, soft, tz, tdelta);
}

extern "C" cudaError_t hsgd_cuda_softmax_root(cudaStream_t stream, hsgd_precision p, int64_t classes, int64_t first,
                                              int64_t k, const void *soft, void *out)
{
    if (k == 0) {
        return cudaSuccess;
    }
    return HSGD_BY_PRECISION(p, launch_softmax_root, stream, classes, first, k, soft, out);
}
