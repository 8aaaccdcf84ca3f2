/* src/algebra/space.h - where the rows of a vector live, and hence whether a dot product is local or collective. */
#pragma once
#include "algebra/exchange.h"

typedef enum {
    HSGD_REPLICATED, /* every rank holds all rows (weights, momentum); dots are local */
    HSGD_SPREAD      /* every rank holds its rows [low, high) (Krylov vectors); dots are collective */
} hsgd_layout;

/* Memory that the operations on a space keep between calls, so that none of them allocates in a loop. */
typedef enum {
    HSGD_SCRATCH_HOST,   /* host memory */
    HSGD_SCRATCH_SHARED, /* backend memory that is also sent to other ranks */
    HSGD_SCRATCH_RESULT, /* backend memory: what collective operations leave there for the host */
    HSGD_SCRATCH_BACKEND /* backend memory, for local operations */
} hsgd_scratch_kind;

typedef struct hsgd_scratch hsgd_scratch;

/* Read by all, changed by none after hsgd_space_create; `scratch` points to memory that its vectors' operations
 * overwrite, so they are called from one thread at a time. */
typedef struct {
    int64_t n;         /* length of a vector */
    int64_t low, high; /* rows held here; may be empty */
    int64_t block;     /* rows in a block: never split over ranks; a function of n alone */
    int64_t blocks;    /* in all n rows */
    int64_t *counts;   /* [ranks] rows of each rank were the space spread (also where it is replicated); owned */
    int64_t *slots;    /* [ranks] scratch of collective operations; owned */
    hsgd_layout layout;
    hsgd_reduction reduction;
    hsgd_comm *comm;             /* borrowed */
    const hsgd_backend *backend; /* borrowed; its memory holds the vectors */
    hsgd_exchange *exchange;     /* owned: how they reach the other ranks */
    double *one;                 /* owned, backend memory: the number 1, as a coefficient */
    hsgd_scratch *scratch;       /* owned */
} hsgd_space;

/* Make the space of vectors of length n >= 1.  comm and backend must outlive it.
 * Rows are cut into at most 128 blocks, dealt to the ranks in order; ranks beyond the blocks hold no row.
 * Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_USAGE (n < 1). */
hsgd_status hsgd_space_create(int64_t n, hsgd_layout layout, hsgd_reduction reduction, hsgd_comm *comm,
                              const hsgd_backend *backend, hsgd_space **out, hsgd_error *err);

/* End *space and set it to NULL; accepts NULL.  Local. */
void hsgd_space_destroy(hsgd_space **space);

/* Rows held here: high - low.  Local. */
static inline int64_t hsgd_space_rows(const hsgd_space *space)
{
    return space->high - space->low;
}

/* Rows in a block of an operation, as gram and update want it: in fast mode 0, all rows held here.  Local. */
int64_t hsgd_space_block(const hsgd_space *space);

/* At least `bytes` of the space's scratch memory of a kind, until the next call for that kind; content undefined.
 * HSGD_SCRATCH_HOST, _SHARED and _RESULT: collective on a spread space with the same `bytes` on every rank (a rank short of memory
 * is known to all before anyone goes on); else local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_space_scratch(const hsgd_space *space, hsgd_scratch_kind kind, size_t bytes, void **out,
                               hsgd_error *err);

/* Make ready for hsgd_vector_whole.  Local.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status hsgd_space_reserve(const hsgd_space *space, hsgd_error *err);
