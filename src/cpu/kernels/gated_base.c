/* src/cpu/kernels/gated_base.c - a gated convolution's value in one step: convolution, bias, pooling and ReLU, and which
 * gates are open.  Nothing but the pooled values leaves the cache. */
#include "cpu/kernels/gated_tabled.h"

enum { MOST_CODES = 65536 }; /* of 16 bits */

size_t KERNEL(gates_bytes)(void *self, const hsgd_gated *layers, int64_t m)
{
    const gated g = gated_of(layers);

    (void)self;
    if (g.size < 2 || g.square >= SHUT || places_count(&g) > MOST_CODES ||
        conv_padded_all(&g.c, 1, g.c.in) > UINT32_MAX || m * g.count > UINT32_MAX) {
        return 0; /* nothing is shut but by the ReLU, or numbers that gates do not hold */
    }
    return g.listed ? (size_t)(m * g.c.out + 1) * sizeof(uint32_t) + (size_t)(m * g.count) * sizeof(uint16_t)
                    : (size_t)(m * g.count);
}

/* What becomes of a vector of channels in one window; through: value where its gate is open, and not 0 there, else 0. */
typedef struct {
    vec value, through;
    mask choice;
} pooled;

/* a where `where` is set, else b. */
INLINE mask either(mask where, mask a, mask b)
{
    return (where & a) | (~where & b);
}

/* Where v is NaN. */
INLINE mask not_numbers(vec v)
{
    const vec same = v;

    return v != same;
}

/* One vector of channels of window wx of the rows.  size, vectors: compile-time constants in the common case.  As
 * maxpool_value: the first of equals wins, and a NaN is not hidden. */
INLINE pooled pool_window(const int64_t size, const int vectors, const row_plan *p, const real *rows, vec bias,
                          int64_t wx)
{
    const int64_t row = p->tiles * p->lanes * vectors * V;
    const real *from = rows + wx * size * vectors * V;
    mask best = (mask)(load(from) + bias), chosen = {0};

    for (int64_t i = 0; i < size; i++) {
        for (int64_t j = 0; j < size; j++) {
            const vec candidate = load(from + i * row + j * vectors * V) + bias;
            const mask wins = (candidate > (vec)best) | not_numbers(candidate);

            best = either(wins, (mask)candidate, best);
            chosen = either(wins, (mask){0} + (mask_lane)(i * size + j), chosen);
        }
    }
    if (p->g->relu) { /* a NaN stays, and is shut */
        const mask open = (vec)best > (vec){0};

        chosen = either(open, chosen, (mask){0} + SHUT);
        return (pooled){(vec)(~((vec)best <= (vec){0}) & best), (vec)(open & best), chosen};
    }
    return (pooled){(vec)best, (vec)best, chosen};
}

/* Where a sample's gates are put down: a table, or lists by channel. */
typedef struct {
    uint8_t *choice;  /* tabled: [windows][out], or NULL */
    uint16_t *code;   /* listed: [out][windows], or NULL */
    uint32_t *length; /* listed: [out] */
} gate_book;

/* Note the gates of a vector of channels from o on. */
INLINE void note_gates(const gated *g, const pooled *w, int64_t window, int64_t o, const gate_book *book)
{
    const int64_t channels = least(V, g->c.out - o);

    if (book->choice != NULL) {
        uint8_t own[V];

#pragma GCC unroll 16
        for (int v = 0; v < V; v++) {
            own[v] = (uint8_t)w->choice[v];
        }
        if (channels == V) {
            memcpy(book->choice + window * g->c.out + o, own, V);
        } else {
            memcpy(book->choice + window * g->c.out + o, own, (size_t)channels);
        }
    } else if (book->code != NULL) {
        const mask_lane first = (mask_lane)(window << g->shift);
        real through[V];
        uint32_t bits = 0;

        store(through, w->through);
        bits = g->relu ? nonzero_bits(through, V) : UINT32_MAX;
        for (bits &= (uint32_t)((UINT64_C(1) << channels) - 1); bits != 0; bits &= bits - 1) {
            const int64_t i = __builtin_ctz(bits), channel = o + i;

            book->code[channel * g->windows + book->length[channel]++] = (uint16_t)(first + w->choice[i]);
        }
    }
}

/* y [windows][out] and gates of one padded sample, for the channels of a block.  list: NULL where gates are listed. */
INLINE void base_block(const int vectors, const row_plan *p, const real *padded, const real *packed, const real *bias,
                       const patch_list *list, int64_t o, real *rows, real *y, const gate_book *book)
{
    const gated *g = p->g;

    for (int64_t wy = 0; wy < g->rows; wy++) {
        if (list != NULL) {
            convolve_patches(p, list, padded, packed + o, wy, rows);
        } else {
            convolve_rows(p, vectors, padded, packed + o, wy, rows);
        }
        for (int64_t wx = 0; wx < g->columns; wx++) {
            const int64_t window = wy * g->columns + wx;

            for (int v = 0; v < vectors; v++) {
                const int64_t first = o + v * V;
                const pooled w = g->size == 2 ? pool_window(2, vectors, p, rows + v * V, load(bias + first), wx)
                                              : pool_window(g->size, vectors, p, rows + v * V, load(bias + first), wx);

                store_part(y + window * g->c.out + first, least(V, g->c.out - first), w.value);
                note_gates(g, &w, window, first, book);
            }
        }
    }
}

typedef struct {
    real *padded, *rows;
    real *packed, *bias; /* [k], these many reals apart: */
    int64_t packed_step, bias_step;
    patch_list patches;
    uint16_t *code;
    uint32_t *length;
} base_work;

static hsgd_status base_work_get(const row_plan *p, hsgd_cpu *cpu, int worker, int64_t k, base_work *work,
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated *g = p->g;
    const conv *c = &g->c;
    const size_t padded = (size_t)conv_padded_all(c, 1, c->in) * sizeof(real);
    const int64_t packed_step = c->edge * c->run * p->out_padded, bias_step = p->out_padded;
    const size_t packed = (size_t)(k * packed_step) * sizeof(real), bias = (size_t)(k * bias_step) * sizeof(real);
    const size_t rows = (size_t)rows_count(p) * sizeof(real);
    const size_t code = (size_t)g->count * sizeof(uint16_t), length = (size_t)c->out * sizeof(uint32_t);
    void *at = NULL;

    HSGD_TRY(hsgd_cpu_scratch_get(cpu, worker,
                                  hsgd_cpu_round(padded) + hsgd_cpu_round(packed) + hsgd_cpu_round(bias) +
                                      hsgd_cpu_round(rows) + patch_list_bytes(g) + hsgd_cpu_round(code) +
                                      hsgd_cpu_round(length),
                                  &at, err));
    work->padded = hsgd_cpu_take(&at, padded);
    work->packed = hsgd_cpu_take(&at, packed);
    work->bias = hsgd_cpu_take(&at, bias);
    work->packed_step = packed_step;
    work->bias_step = bias_step;
    work->rows = hsgd_cpu_take(&at, rows);
    work->patches = patch_list_take(g, &at);
    work->code = hsgd_cpu_take(&at, code);
    work->length = hsgd_cpu_take(&at, length);
    memset(work->padded, 0, padded);
done:
    return st;
}

/* Put a sample's lists behind those of the samples before it. */
static void append_lists(const gated *g, int64_t m, int64_t s, const base_work *work, void *gates)
{
    uint32_t *start = (uint32_t *)gates + s * g->c.out;
    uint16_t *code = gate_codes(g, m, gates);

    start[0] = s == 0 ? 0 : start[0];
    for (int64_t o = 0; o < g->c.out; o++) {
        memcpy(code + start[o], work->code + o * g->windows, work->length[o] * sizeof *code);
        start[o + 1] = start[o] + work->length[o];
    }
}

/* One sample, padded by now, at column j. */
static void base_sample(const row_plan *p, int64_t j, const base_work *work, real *y, const gate_book *book)
{
    const gated *g = p->g;
    const real *packed = work->packed + j * work->packed_step, *bias = work->bias + j * work->bias_step;

    memset(work->length, 0, (size_t)g->c.out * sizeof *work->length);
    for (int64_t o = 0; o < g->c.out; o += g->listed ? 2 * V : V) {
        if (!g->listed) {
            base_block(1, p, work->padded, packed, bias, &work->patches, o, work->rows, y, book);
        } else if (o + V < g->c.out) {
            base_block(2, p, work->padded, packed, bias, NULL, o, work->rows, y, book);
        } else {
            base_block(1, p, work->padded, packed, bias, NULL, o, work->rows, y, book);
        }
    }
}

hsgd_status KERNEL(gated_base)(void *self, int worker, const hsgd_gated *layers, int64_t m, int64_t k, hsgd_columns x,
                               hsgd_columns w, hsgd_columns b, hsgd_columns y, void *gates, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const gated g = gated_of(layers);
    const row_plan p = row_plan_of(&g);
    base_work work = {0};

    HSGD_TRY(base_work_get(&p, self, worker, k, &work, err));
    for (int64_t j = 0; j < k; j++) {
        pack_weight(&g.c, column(w, j), b.data != NULL ? column(b, j) : NULL, work.packed + j * work.packed_step,
                    work.bias + j * work.bias_step);
    }
    for (int64_t s = 0; s < m; s++) {
        const gate_book book = {
            .choice = gates != NULL && !g.listed ? (uint8_t *)gates + s * g.count : NULL,
            .code = gates != NULL && g.listed ? work.code : NULL,
            .length = work.length,
        };

        for (int64_t j = 0; j < k; j++) {
            if (fresh(x, j)) {
                pad_sample(&g.c, g.c.in, column(x, j) + s * g.c.places * g.c.in, work.padded);
            }
            if (fresh(x, j) && !g.listed) {
                find_patches(&g, work.padded, &work.patches);
            }
            base_sample(&p, j, &work, column(y, j) + s * g.count, &book);
        }
        if (book.code != NULL) {
            append_lists(&g, m, s, &work, gates);
        }
    }
done:
    return st;
}
