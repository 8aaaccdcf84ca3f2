/* src/algebra/space.h - where the rows of a vector live, and hence whether a dot product is local or collective. */
#pragma once
#include "backend.h"
#include "base/comm.h"
#include "base/sum.h"

typedef enum {
    HSGD_REPLICATED, /* every rank holds all rows (weights, momentum); dots are local */
    HSGD_SPREAD      /* every rank holds its rows [low, high) (Krylov vectors); dots are collective */
} hsgd_layout;

/* Read by all, changed by none after hsgd_space_create. */
typedef struct {
    int64_t n;         /* length of a vector */
    int64_t low, high; /* rows held here; may be empty */
    int64_t block;     /* rows in a block: never split over ranks; a function of n alone */
    int64_t *counts;   /* [ranks] rows of each rank; owned */
    hsgd_layout layout;
    hsgd_reduction reduction;
    hsgd_comm *comm;             /* borrowed */
    const hsgd_backend *backend; /* borrowed; its memory holds the vectors */
} hsgd_space;

/* Make the space of vectors of length n >= 1.  comm and backend must outlive it.
 * Rows are cut into at most 128 blocks, dealt to the ranks in order; ranks beyond the blocks hold no row.
 * Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_space_create(int64_t n, hsgd_layout layout, hsgd_reduction reduction, hsgd_comm *comm,
                              const hsgd_backend *backend, hsgd_space **out, hsgd_error *err);

/* End *space and set it to NULL; accepts NULL.  Local. */
void hsgd_space_destroy(hsgd_space **space);

/* Rows held here: high - low.  Local. */
static inline int64_t hsgd_space_rows(const hsgd_space *space) { return space->high - space->low; }
