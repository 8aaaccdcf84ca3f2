/* src/solve/search.c - what is kept of a search for eigenpairs that may be interrupted. */
#include "solve/search.h"
#include <stdlib.h>
#include <string.h>

enum {
    SAVED_PRODUCTS,
    SAVED_SEQUENCE,
    SAVED_RESTARTS,
    SAVED_LOCKED,
    SAVED_SIZE,
    SAVED_NEXT,
    SAVED_DRAWN,
    SAVED_LOOKED,
    SAVED_MARKS,
    SAVED_FINISHED,
    SAVED
};
enum {
    SAVED_NORM,
    SAVED_DROPPED,
    SAVED_PRODUCT_SECONDS,
    SAVED_COMMUNICATION_SECONDS,
    SAVED_GRAM_SCHMIDT_SECONDS,
    SAVED_REALS
};
enum { MARK = 8 }; /* reals of a mark; counts are exact in them */

static void save_mark(const hsgd_eigen_mark *m, double *to)
{
    const double all[MARK] = {
        (double)m->products, (double)m->converged, (double)m->basis,         m->worst,
        m->largest,          m->seconds_products,  m->seconds_communication, m->seconds_orthogonalization};

    memcpy(to, all, sizeof all);
}

static hsgd_eigen_mark read_mark(const double *from)
{
    return (hsgd_eigen_mark){.products = (int64_t)from[0],
                             .converged = (int64_t)from[1],
                             .basis = (int64_t)from[2],
                             .worst = from[3],
                             .largest = from[4],
                             .seconds_products = from[5],
                             .seconds_communication = from[6],
                             .seconds_orthogonalization = from[7]};
}

hsgd_status eigen_search_keep(const eigen_search *f, hsgd_error *err)
{
    const hsgd_krylov *k = &f->k;
    const hsgd_projected *p = &k->projected;
    const int64_t rows = p->size + p->rows;
    hsgd_vector columns = hsgd_vector_view(k->basis, 0, k->locked + p->size + k->next);
    int64_t integer[SAVED] = {
        [SAVED_PRODUCTS] = f->products, [SAVED_SEQUENCE] = f->sequence, [SAVED_RESTARTS] = f->restarts,
        [SAVED_LOCKED] = k->locked,     [SAVED_SIZE] = p->size,         [SAVED_NEXT] = k->next,
        [SAVED_DRAWN] = k->drawn,       [SAVED_LOOKED] = f->looked,     [SAVED_MARKS] = f->marks,
        [SAVED_FINISHED] = f->finished};
    double *real = malloc((size_t)(SAVED_REALS + k->locked + rows * p->size + MARK * f->marks) * sizeof *real);
    hsgd_snapshot snapshot = {.integers = SAVED, .integer = integer, .real = real, .vectors = &columns};
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_comm_agree(k->basis->space->comm, real != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    real[SAVED_NORM] = k->norm;
    real[SAVED_DROPPED] = k->dropped;
    real[SAVED_PRODUCT_SECONDS] = k->seconds_products;
    real[SAVED_COMMUNICATION_SECONDS] = k->seconds_communication;
    real[SAVED_GRAM_SCHMIDT_SECONDS] = k->seconds_orthogonalization;
    memcpy(real + SAVED_REALS, f->locked, (size_t)k->locked * sizeof *real);
    for (int64_t i = 0; i < rows; i++) { /* T's rows, then B's */
        const double *from = i < p->size ? p->t + i * p->capacity : p->b + (i - p->size) * p->capacity;

        memcpy(real + SAVED_REALS + k->locked + i * p->size, from, (size_t)p->size * sizeof *real);
    }
    snapshot.reals = SAVED_REALS + k->locked + rows * p->size;
    for (int64_t i = 0; i < f->marks; i++, snapshot.reals += MARK) {
        save_mark(&f->history[i], real + snapshot.reals);
    }
    /* every rank has its own times, but a state is the same on all */
    HSGD_TRY(hsgd_comm_broadcast(k->basis->space->comm, 0, (size_t)snapshot.reals * sizeof *real, real, err));
    HSGD_TRY(hsgd_keeper_keep(f->options->keeper, &snapshot, err));
done:
    free(real);
    return st;
}

hsgd_status eigen_search_take(eigen_search *f, const hsgd_snapshot *s, hsgd_error *err)
{
    hsgd_krylov *k = &f->k;
    hsgd_projected *p = &k->projected;
    const int64_t locked = s->integers == SAVED ? s->integer[SAVED_LOCKED] : -1;
    const int64_t size = s->integers == SAVED ? s->integer[SAVED_SIZE] : -1;
    const int64_t next = s->integers == SAVED ? s->integer[SAVED_NEXT] : -1;
    const int64_t marks = s->integers == SAVED ? s->integer[SAVED_MARKS] : -1;
    hsgd_status st = HSGD_OK;
    hsgd_vector to;

    HSGD_CHECK(locked >= 0 && locked <= f->wanted && size >= 0 && size <= p->capacity && next >= 0 &&
                   next <= k->block && marks >= 0 &&
                   s->reals == SAVED_REALS + locked + (size + next) * size + MARK * marks && s->vectors != NULL &&
                   s->vectors->columns == locked + size + next,
               HSGD_ERR_DATA, err, "eigen: the state that was kept does not fit this search; remove it");
    f->products = s->integer[SAVED_PRODUCTS];
    f->sequence = s->integer[SAVED_SEQUENCE];
    f->restarts = s->integer[SAVED_RESTARTS];
    k->locked = locked;
    k->next = p->rows = next;
    k->drawn = s->integer[SAVED_DRAWN];
    f->looked = s->integer[SAVED_LOOKED];
    f->finished = s->integer[SAVED_FINISHED] != 0;
    p->size = size;
    k->norm = s->real[SAVED_NORM];
    k->dropped = s->real[SAVED_DROPPED];
    k->seconds_products = s->real[SAVED_PRODUCT_SECONDS];
    k->seconds_communication = s->real[SAVED_COMMUNICATION_SECONDS];
    k->seconds_orthogonalization = s->real[SAVED_GRAM_SCHMIDT_SECONDS];
    memcpy(f->locked, s->real + SAVED_REALS, (size_t)locked * sizeof *f->locked);
    for (int64_t i = 0; i < size + next; i++) {
        double *row = i < size ? p->t + i * p->capacity : p->b + (i - size) * p->capacity;

        memcpy(row, s->real + SAVED_REALS + locked + i * size, (size_t)size * sizeof *row);
    }
    f->history = malloc((size_t)(marks + 1) * sizeof *f->history);
    HSGD_TRY(hsgd_comm_agree(k->basis->space->comm, f->history != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    f->marks_capacity = marks + 1;
    for (f->marks = 0; f->marks < marks; f->marks++) {
        f->history[f->marks] = read_mark(s->real + s->reals - MARK * (marks - f->marks));
    }
    to = hsgd_vector_view(k->basis, 0, s->vectors->columns);
    HSGD_TRY(hsgd_vector_copy(s->vectors, &to, err));
done:
    return st;
}
