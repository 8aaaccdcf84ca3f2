/* src/cpu/kernels/conv_weight.c - the adjoint of a convolution in its weight.  Dense: tiles of sums over the pixels of a
 * sample, [y][x][in][out].  Where dy is mostly zero: for each channel of dy, the patches of the image at its entries. */
#include "cpu/kernels/sparse.h"

/* sums [edge * run][out padded] += one padded sample met with its dy [height][width][out padded]. */
static void correlate_weight(const conv *c, const real *padded, const real *dy, real *sums)
{
    const int64_t out_padded = round_up(c->out, V);
    const int lanes = tile_lanes(c->run);
    const tile_walk walk = {
        .rows = c->height,
        .steps = c->width,
        .a_row = c->padded_width * c->in,
        .a_step = c->in,
        .a_lane = 1,
        .b_row = c->width * out_padded,
        .b_step = out_padded,
    };
    _Alignas(64) real tile[LANES * 2 * V];

    for (int64_t row = 0; row < c->edge; row++) {
        for (int64_t r0 = 0; r0 < c->run; r0 += lanes) {
            for (int64_t o = 0; o < out_padded; o += 2 * V) {
                const int vectors = o + V < out_padded ? 2 : 1;
                real *to = sums + (row * c->run + r0) * out_padded + o;

                tile_run(lanes, vectors, &walk, padded + row * c->padded_width * c->in + r0, dy + o, tile);
                for (int64_t i = 0; i < least(lanes, c->run - r0); i++) {
                    for (int64_t v = 0; v < vectors * V; v++) {
                        to[i * out_padded + v] += tile[i * vectors * V + v];
                    }
                }
            }
        }
    }
}

/* dy [pixels][out] with the channels padded to whole vectors. */
static void pad_channels(const conv *c, int64_t pixels, const real *restrict dy, real *restrict padded)
{
    const int64_t out_padded = round_up(c->out, V);

    memset(padded, 0, (size_t)(pixels * out_padded) * sizeof(real));
    for (int64_t p = 0; p < pixels; p++) {
        memcpy(padded + p * out_padded, dy + p * c->out, (size_t)c->out * sizeof(real));
    }
}

/* sums [0..V) = sum of n vectors, `step` reals apart: four sums at a time, to hide the latency of additions. */
INLINE void sum_vectors(int64_t n, const real *from, int64_t step, real *sums)
{
    vec sum[4] = {0};
    int64_t p = 0;

    for (; p + 4 <= n; p += 4) {
        for (int i = 0; i < 4; i++) {
            sum[i] += load(from + (p + i) * step);
        }
    }
    for (; p < n; p++) {
        sum[0] += load(from + p * step);
    }
    store(sums, (sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* db [out] += sum of dy [m * places][out], one sample's sum at a time. */
static void add_bias(const conv *c, int64_t m, const real *restrict dy, real *restrict db)
{
    for (int64_t s = 0; s < m; s++) {
        const real *sample = dy + s * c->places * c->out;
        int64_t o = 0;

        for (; o + V <= c->out; o += V) {
            real sums[V];

            sum_vectors(c->places, sample + o, c->out, sums);
            for (int64_t v = 0; v < V; v++) {
                db[o + v] += sums[v];
            }
        }
        for (; o < c->out; o++) {
            real sum = 0;

            for (int64_t p = 0; p < c->places; p++) {
                sum += sample[p * c->out + o];
            }
            db[o] += sum;
        }
    }
}

/* ---- where dy is mostly zero ---- */

/* Add the entries of one pixel, dy [out], to the lists of their channels, `places` apart; returns how many. */
INLINE int64_t list_pixel(const conv *c, const real *dy, uint32_t patch, entry *list, int64_t *count)
{
    int64_t n = 0;

    for (int64_t o = 0; o < c->out; o += V) {
        for (uint32_t bits = nonzero_bits(dy + o, c->out - o); bits != 0; bits &= bits - 1) {
            const int64_t channel = o + __builtin_ctz(bits);

            list[channel * c->places + count[channel]++] = (entry){patch, dy[channel]};
            n++;
        }
    }
    return n;
}

/* Entries of dy at the patches they meet in their padded sample, by sample and channel: the count[i] entries of channel
 * i % out of sample i / out begin at list[i * places].  False where they are too many. */
static bool list_by_channel(const conv *c, int64_t m, const real *dy, entry *list, int64_t *count)
{
    int64_t n = 0;

    memset(count, 0, (size_t)(m * c->out) * sizeof *count);
    for (int64_t s = 0; s < m && mostly_zero(c, m, n); s++) {
        entry *own = list + s * c->out * c->places;

        for (int64_t y = 0; y < c->height; y++) {
            for (int64_t x = 0; x < c->width; x++) {
                n += list_pixel(c, dy, (uint32_t)((y * c->padded_width + x) * c->in), own, count + s * c->out);
                dy += c->out;
            }
        }
    }
    return mostly_zero(c, m, n);
}

/* sums [out][edge][run padded] += the patches of one padded sample at its entries. */
static void gather(const conv *c, const int64_t *count, const entry *list, const real *padded, real *sums)
{
    for (int64_t o = 0; o < c->out; o++) {
        if (count[o] > 0) {
            span(c->edge, c->run_padded / V, count[o], list + o * c->places, padded, c->padded_width * c->in,
                 sums + o * c->edge * c->run_padded, c->run_padded);
        }
    }
}

/* ---- both ---- */

/* Scratch of the adjoint in the weight. */
typedef struct {
    real *padded, *dy, *sums;
    entry *list;
    int64_t *count;
    size_t sums_bytes;
    bool sparse;
} weight_work;

static hsgd_status weight_work_get(const conv *c, int64_t m, hsgd_cpu *cpu, int worker, weight_work *work,
                                   hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t out_padded = round_up(c->out, V), dense = c->run * out_padded, sparse = c->out * c->run_padded;
    const size_t padded_bytes = (size_t)conv_padded_all(c, m, c->in) * sizeof(real);
    const size_t dy_bytes = (size_t)(m * c->places * out_padded) * sizeof(real);
    const size_t list_bytes = (size_t)(m * c->places * c->out) * sizeof(entry);
    const size_t count_bytes = (size_t)(m * c->out) * sizeof(int64_t);
    void *at = NULL;

    work->sums_bytes = (size_t)(c->edge * (dense > sparse ? dense : sparse)) * sizeof(real);
    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker,
                                  hsgd_cpu_round(padded_bytes) + hsgd_cpu_round(dy_bytes) +
                                      hsgd_cpu_round(work->sums_bytes) + hsgd_cpu_round(list_bytes) +
                                      hsgd_cpu_round(count_bytes),
                                  &at, err));
    work->padded = hsgd_cpu_take(&at, padded_bytes);
    work->dy = hsgd_cpu_take(&at, dy_bytes);
    work->sums = hsgd_cpu_take(&at, work->sums_bytes);
    work->list = hsgd_cpu_take(&at, list_bytes);
    work->count = hsgd_cpu_take(&at, count_bytes);
done:
    return st;
}

/* Bring dy into the form that the kernel of choice wants. */
static void weight_prepare(const conv *c, int64_t m, const real *dy, weight_work *work)
{
    work->sparse = list_by_channel(c, m, dy, work->list, work->count);
    if (!work->sparse) {
        pad_channels(c, m * c->places, dy, work->dy);
    }
}

hsgd_status KERNEL(conv_adjoint_weight)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                        hsgd_columns dy, hsgd_columns x, hsgd_columns dw, hsgd_columns db,
                                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv c = conv_of(layer);
    const int64_t out_padded = round_up(c.out, V);
    weight_work work = {0};

    HSGD_TRY(weight_work_get(&c, m, cpu, worker, &work, err));
    for (int64_t j = 0; j < k; j++) {
        if (fresh(x, j)) {
            conv_pad(&c, m, c.in, column(x, j), work.padded);
        }
        if (fresh(dy, j)) {
            weight_prepare(&c, m, column(dy, j), &work);
        }
        if (db.data != NULL) {
            add_bias(&c, m, column(dy, j), column(db, j));
        }
        memset(work.sums, 0, work.sums_bytes);
        for (int64_t s = 0; s < m; s++) {
            const real *sample = work.padded + s * conv_padded(&c, c.in);

            if (work.sparse) {
                gather(&c, work.count + s * c.out, work.list + s * c.out * c.places, sample, work.sums);
            } else {
                correlate_weight(&c, sample, work.dy + s * c.places * out_padded, work.sums);
            }
        }
        if (work.sparse) {
            put_rows(&c, work.sums, column(dw, j));
        } else {
            put_taps(&c, work.sums, column(dw, j));
        }
    }
done:
    return st;
}
