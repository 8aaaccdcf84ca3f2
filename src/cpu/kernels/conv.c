/* src/cpu/kernels/conv.c - convolutions and their adjoint in the input.  Images [sample][y][x][in], weights
 * [out][y][x][in].  Dense products run over a zero-padded copy of the images, tile by tile (tile.h), with the channels of
 * the result along the vectors; where dy is mostly zero, its entries spread their filters one by one (sparse.h). */
#include "cpu/kernels/sparse.h"

/* The weights of the adjoint, itself a convolution with the filters turned by half a turn and the channels exchanged:
 * [y][x][out][in padded]. */
static void pack_turned(const conv *c, const real *restrict w, real *restrict packed)
{
    const int64_t taps = c->edge * c->edge, padded = round_up(c->in, V);

    memset(packed, 0, (size_t)(taps * c->out * padded) * sizeof(real));
    for (int64_t t = 0; t < taps; t++) {
        for (int64_t o = 0; o < c->out; o++) {
            memcpy(packed + (t * c->out + o) * padded, w + (o * taps + taps - 1 - t) * c->in,
                   (size_t)c->in * sizeof(real));
        }
    }
}

/* y (+)= tile + bias for lanes [from, to) of the tile and `channels` channels, y_pixel reals from pixel to pixel. */
static void put_tile(const real *tile, int64_t tile_row, int64_t from, int64_t to, int64_t channels, const real *bias,
                     bool add, real *y, int64_t y_pixel)
{
    for (int64_t i = from; i < to; i++) {
        const real *restrict sum = tile + i * tile_row;
        real *restrict pixel = y + i * y_pixel;

        if (add) {
            for (int64_t v = 0; v < channels; v++) {
                pixel[v] += sum[v] + bias[v];
            }
        } else {
            for (int64_t v = 0; v < channels; v++) {
                pixel[v] = sum[v] + bias[v];
            }
        }
    }
}

/* y [height][width][to] (+)= one padded sample of `from` channels met with packed weights, + bias [to padded]. */
static void correlate(const conv *c, int64_t from, int64_t to, const real *padded, const real *packed, const real *bias,
                      bool add, real *y)
{
    const int64_t to_padded = round_up(to, V);
    const int lanes = tile_lanes(c->width);
    const tile_walk walk = {
        .rows = c->edge,
        .steps = c->edge * from,
        .a_row = c->padded_width * from,
        .a_step = 1,
        .a_lane = from,
        .b_row = c->edge * from * to_padded,
        .b_step = to_padded,
    };
    _Alignas(64) real tile[LANES * 2 * V];

    for (int64_t row = 0; row < c->height; row++) {
        for (int64_t x0 = 0; x0 < c->width; x0 += lanes) {
            const int64_t pixels = least(lanes, c->width - x0);

            for (int64_t o = 0; o < to; o += 2 * V) {
                const int vectors = o + V < to ? 2 : 1;

                tile_run(lanes, vectors, &walk, padded + (row * c->padded_width + x0) * from, packed + o, tile);
                put_tile(tile, vectors * V, 0, pixels, least(vectors * V, to - o), bias + o, add,
                         y + (row * c->width + x0) * to + o, to);
            }
        }
    }
}

hsgd_status KERNEL(conv_value)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k, hsgd_columns x,
                               hsgd_columns w, hsgd_columns b, hsgd_columns y, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv c = conv_of(layer);
    const size_t padded_bytes = (size_t)conv_padded_all(&c, m, c.in) * sizeof(real);
    const size_t packed_bytes = (size_t)(c.edge * c.run * round_up(c.out, V)) * sizeof(real);
    const size_t bias_bytes = (size_t)round_up(c.out, V) * sizeof(real);
    void *at = NULL;
    real *padded = NULL, *packed = NULL, *bias = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(
        cpu, worker, hsgd_cpu_round(padded_bytes) + hsgd_cpu_round(packed_bytes) + hsgd_cpu_round(bias_bytes), &at,
        err));
    padded = hsgd_cpu_take(&at, padded_bytes);
    packed = hsgd_cpu_take(&at, packed_bytes);
    bias = hsgd_cpu_take(&at, bias_bytes);
    for (int64_t j = 0; j < k; j++) {
        if (fresh(x, j)) {
            conv_pad(&c, m, c.in, column(x, j), padded);
        }
        if (fresh(w, j) || fresh(b, j)) {
            pack_weight(&c, column(w, j), b.data != NULL ? column(b, j) : NULL, packed, bias);
        }
        for (int64_t s = 0; s < m; s++) {
            correlate(&c, c.in, c.out, padded + s * conv_padded(&c, c.in), packed, bias, add,
                      column(y, j) + s * c.places * c.out);
        }
    }
done:
    return st;
}

/* ---- the adjoint where dy is mostly zero ---- */

/* Entries of dy, pixel by pixel, at their filters: those of pixel p are list[start[p]] to list[start[p + 1]].  False
 * where they are too many. */
static bool list_by_pixel(const conv *c, int64_t m, const real *dy, entry *list, int64_t *start)
{
    const int64_t filter = c->edge * c->run_padded;
    int64_t n = 0;

    for (int64_t p = 0; p < m * c->places && mostly_zero(c, m, n); p++) {
        start[p] = n;
        for (int64_t o = 0; o < c->out; o += V) {
            const real *from = dy + p * c->out + o;

            for (uint32_t bits = nonzero_bits(from, c->out - o); bits != 0; bits &= bits - 1) {
                const int bit = __builtin_ctz(bits);

                list[n++] = (entry){(uint32_t)((o + bit) * filter), from[bit]};
            }
        }
    }
    start[m * c->places] = n;
    return mostly_zero(c, m, n);
}

/* dx [height][width][in] (+)= the filters of one sample's entries, spread on `canvas`: padded rows `pitch` apart, so far
 * that the vectors of one row do not reach into the next. */
static void spread(const conv *c, const int64_t *start, const entry *list, const real *packed, bool add, real *canvas,
                   real *dx)
{
    const int64_t pitch = conv_pitch(c), row = c->width * c->in;

    memset(canvas, 0, (size_t)(c->padded_height * pitch) * sizeof(real));
    for (int64_t y = 0; y < c->height; y++) {
        for (int64_t x = 0; x < c->width; x++, start++) {
            if (start[1] > start[0]) {
                span(c->edge, c->run_padded / V, start[1] - start[0], list + start[0], packed, c->run_padded,
                     canvas + y * pitch + x * c->in, pitch);
            }
        }
    }
    for (int64_t y = 0; y < c->height; y++) {
        const real *restrict from = canvas + (y + c->margin) * pitch + c->margin * c->in;
        real *restrict to = dx + y * row;

        for (int64_t i = 0; i < row; i++) {
            to[i] = add ? to[i] + from[i] : from[i];
        }
    }
}

/* Scratch of the adjoint in the input, and what of it is up to date. */
typedef struct {
    real *padded, *turned, *zeros; /* dense */
    real *packed, *canvas;         /* sparse */
    entry *list;
    int64_t *start;
    bool sparse, turned_ready, packed_ready;
} input_work;

static hsgd_status input_work_get(const conv *c, int64_t m, hsgd_cpu *cpu, int worker, input_work *work,
                                  hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t reals[] = {
        conv_padded_all(c, m, c->out),
        c->edge * c->edge * c->out * round_up(c->in, V),
        round_up(c->in, V),
        c->out * c->edge * c->run_padded,
        c->padded_height * conv_pitch(c),
    };
    real **const parts[] = {&work->padded, &work->turned, &work->zeros, &work->packed, &work->canvas};
    const size_t list_bytes = (size_t)(m * c->places * c->out / SPARSE_SHARE + c->out + 1) * sizeof(entry);
    const size_t start_bytes = (size_t)(m * c->places + 1) * sizeof(int64_t);
    size_t bytes = hsgd_cpu_round(list_bytes) + hsgd_cpu_round(start_bytes);
    void *at = NULL;

    for (int i = 0; i < 5; i++) {
        bytes += hsgd_cpu_round((size_t)reals[i] * sizeof(real));
    }
    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker, bytes, &at, err));
    for (int i = 0; i < 5; i++) {
        *parts[i] = hsgd_cpu_take(&at, (size_t)reals[i] * sizeof(real));
    }
    work->list = hsgd_cpu_take(&at, list_bytes);
    work->start = hsgd_cpu_take(&at, start_bytes);
    memset(work->zeros, 0, (size_t)reals[2] * sizeof(real));
done:
    return st;
}

/* Bring dy and w into the form that the kernel of choice wants. */
static void input_prepare(const conv *c, int64_t m, bool new_dy, const real *dy, bool new_w, const real *w,
                          input_work *work)
{
    if (new_dy) {
        work->sparse = list_by_pixel(c, m, dy, work->list, work->start);
        if (!work->sparse) {
            conv_pad(c, m, c->out, dy, work->padded);
        }
    }
    if (new_w) {
        work->packed_ready = work->turned_ready = false;
    }
    if (work->sparse && !work->packed_ready) {
        pack_rows(c, w, work->packed);
        work->packed_ready = true;
    }
    if (!work->sparse && !work->turned_ready) {
        pack_turned(c, w, work->turned);
        work->turned_ready = true;
    }
}

hsgd_status KERNEL(conv_adjoint_input)(hsgd_cpu *cpu, int worker, const hsgd_layer *layer, int64_t m, int64_t k,
                                       hsgd_columns dy, hsgd_columns w, hsgd_columns dx, bool add, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const conv c = conv_of(layer);
    input_work work = {0};

    HSGD_TRY(input_work_get(&c, m, cpu, worker, &work, err));
    for (int64_t j = 0; j < k; j++) {
        input_prepare(&c, m, fresh(dy, j), column(dy, j), fresh(w, j), column(w, j), &work);
        for (int64_t s = 0; s < m; s++) {
            real *to = column(dx, j) + s * c.places * c.in;

            if (work.sparse) {
                spread(&c, work.start + s * c.places, work.list, work.packed, add, work.canvas, to);
            } else {
                correlate(&c, c.out, c.in, work.padded + s * conv_padded(&c, c.out), work.turned, work.zeros, add, to);
            }
        }
    }
done:
    return st;
}
