/* src/algebra/space.c - how rows are cut into blocks and dealt to ranks, and the scratch memory of a space. */
#include "algebra/space.h"
#include <stdlib.h>

enum {
    MOST_BLOCKS = 128,   /* ranks that can share a vector; also the length of the sum over blocks in a dot product */
    BLOCK_MULTIPLE = 16, /* doubles: two cache lines, so that blocks do not share one and fill whole SIMD registers */
    SCRATCHES = HSGD_SCRATCH_BACKEND + 1,
    RESULT_BYTES = 1024 /* a few numbers, such as the outcome of an evaluation */
};

struct hsgd_scratch {
    void *memory[SCRATCHES];
    size_t bytes[SCRATCHES];
};

static int64_t block_length(int64_t n)
{
    const int64_t length = (n + MOST_BLOCKS - 1) / MOST_BLOCKS;

    return (length + BLOCK_MULTIPLE - 1) / BLOCK_MULTIPLE * BLOCK_MULTIPLE;
}

/* Rows [*low, *high) of the blocks that `rank` takes. */
static void rows_of(const hsgd_space *space, int rank, int64_t *low, int64_t *high)
{
    hsgd_share(space->blocks, rank, space->comm->ranks, low, high);
    *low = *low * space->block < space->n ? *low * space->block : space->n;
    *high = *high * space->block < space->n ? *high * space->block : space->n;
}

/* Replace the scratch memory of a kind by a larger one. */
static hsgd_status grow(const hsgd_space *space, hsgd_scratch_kind kind, size_t bytes, hsgd_error *err)
{
    const hsgd_backend *backend = space->backend;
    hsgd_scratch *scratch = space->scratch;
    hsgd_status st = HSGD_OK;
    void *memory = NULL;

    if (kind != HSGD_SCRATCH_HOST) {
        HSGD_TRY(backend->ops->alloc(backend->self, bytes, &memory, err));
        backend->ops->release(backend->self, scratch->memory[kind]);
        scratch->memory[kind] = NULL;
    } else {
        memory = malloc(bytes);
        HSGD_CHECK(memory != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate %zu bytes for vector products",
                   bytes);
        free(scratch->memory[kind]);
    }
    scratch->memory[kind] = memory;
    scratch->bytes[kind] = 0; /* until all that belongs to it is there */
    if (kind == HSGD_SCRATCH_SHARED && space->layout == HSGD_SPREAD) {
        HSGD_TRY(hsgd_exchange_reserve(space->exchange, (int64_t)(bytes / sizeof(int64_t)), err));
    }
    scratch->bytes[kind] = bytes;
done:
    return st;
}

static hsgd_status create_parts(hsgd_space *space, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = space->backend;
    const double one = 1.0;
    void *memory = NULL;

    space->counts = calloc((size_t)space->comm->ranks, sizeof *space->counts);
    space->slots = calloc((size_t)space->comm->ranks, sizeof *space->slots);
    space->scratch = calloc(1, sizeof *space->scratch);
    space->exchange = calloc(1, sizeof *space->exchange);
    HSGD_CHECK(space->counts != NULL && space->slots != NULL && space->scratch != NULL && space->exchange != NULL,
               HSGD_ERR_MEMORY, err, "memory: cannot allocate a vector space");
    *space->exchange = hsgd_exchange_of(space->comm, backend);
    HSGD_TRY(backend->ops->alloc(backend->self, sizeof one, &memory, err));
    space->one = memory;
    HSGD_TRY(backend->ops->upload(backend->self, sizeof one, &one, memory, err));
    HSGD_TRY(grow(space, HSGD_SCRATCH_RESULT, RESULT_BYTES, err)); /* who needs no more cannot fail alone later */
done:
    return st;
}

/* What local operations want of scratch memory, a column or the coefficients of some tens of vectors, ahead of them: a rank
 * that fell short of it later would leave the others alone in the next collective call. */
static hsgd_status reserve_local(const hsgd_space *space, hsgd_error *err)
{
    enum { COEFFICIENTS = 4096 }; /* 128 Lanczos vectors onto 32 */
    const int64_t rows = hsgd_space_rows(space), most = rows > COEFFICIENTS ? rows : COEFFICIENTS;

    return rows == 0 ? HSGD_OK : grow(space, HSGD_SCRATCH_BACKEND, (size_t)most * sizeof(double), err);
}

hsgd_status hsgd_space_create(int64_t n, hsgd_layout layout, hsgd_reduction reduction, hsgd_comm *comm,
                              const hsgd_backend *backend, hsgd_space **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_space *space = NULL;

    *out = NULL;
    HSGD_CHECK(n >= 1, HSGD_ERR_USAGE, err, "space: a vector of length %lld; it needs at least 1", (long long)n);
    space = calloc(1, sizeof *space);
    HSGD_CHECK(space != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate a vector space");
    space->n = n;
    space->block = block_length(n);
    space->blocks = (n + space->block - 1) / space->block;
    space->layout = layout;
    space->reduction = reduction;
    space->comm = comm;
    space->backend = backend;
    HSGD_TRY(create_parts(space, err));
    for (int rank = 0; rank < comm->ranks; rank++) {
        rows_of(space, rank, &space->low, &space->high);
        space->counts[rank] = space->high - space->low;
    }
    if (layout == HSGD_REPLICATED) {
        space->low = 0;
        space->high = n;
    } else {
        rows_of(space, comm->rank, &space->low, &space->high);
    }
    HSGD_TRY(reserve_local(space, err));
    *out = space;
    space = NULL;
done:
    hsgd_space_destroy(&space);
    return st;
}

void hsgd_space_destroy(hsgd_space **space)
{
    const hsgd_backend *backend = NULL;

    if (space == NULL || *space == NULL) {
        return;
    }
    backend = (*space)->backend;
    if ((*space)->scratch != NULL) {
        free((*space)->scratch->memory[HSGD_SCRATCH_HOST]);
        for (int kind = HSGD_SCRATCH_SHARED; kind < SCRATCHES; kind++) {
            backend->ops->release(backend->self, (*space)->scratch->memory[kind]);
        }
    }
    if ((*space)->exchange != NULL) {
        hsgd_exchange_release((*space)->exchange);
    }
    backend->ops->release(backend->self, (*space)->one);
    free((*space)->exchange);
    free((*space)->scratch);
    free((*space)->counts);
    free((*space)->slots);
    free(*space);
    *space = NULL;
}

int64_t hsgd_space_block(const hsgd_space *space)
{
    return space->reduction == HSGD_REDUCTION_FAST ? 0 : space->block;
}

hsgd_status hsgd_space_scratch(const hsgd_space *space, hsgd_scratch_kind kind, size_t bytes, void **out,
                               hsgd_error *err)
{
    const size_t held = space->scratch->bytes[kind];
    hsgd_status st = HSGD_OK;

    if (bytes > held) {
        /* at least doubled: a basis that grows by one column a step must not grow this at every step */
        st = grow(space, kind, bytes > 2 * held ? bytes : 2 * held, err);
        if (kind != HSGD_SCRATCH_BACKEND && space->layout == HSGD_SPREAD) {
            st = hsgd_comm_agree(space->comm, st, err);
            space->scratch->bytes[kind] =
                st == HSGD_OK ? space->scratch->bytes[kind] : 0; /* all grow at the next call */
        }
    }
    *out = space->scratch->memory[kind];
    return st;
}

hsgd_status hsgd_space_reserve(const hsgd_space *space, hsgd_error *err)
{
    return hsgd_exchange_reserve(space->exchange, 2 * space->n, err);
}
