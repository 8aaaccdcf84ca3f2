/* src/study/probe_catch.c - see probe_catch.h. */
#include "study/probe_catch.h"
#include <stdlib.h>
#include <string.h>

enum { DONE = HSGD_QUADRATURE_DONE, RUNNING = HSGD_QUADRATURE_RUNNING, HEAD = HSGD_QUADRATURE_HEAD };

/* ---- catching ---- */

static hsgd_status never_due(void *context, bool *due, hsgd_error *err)
{
    (void)context;
    (void)err;
    *due = false; /* only all ranks together can keep a state */
    return HSGD_OK;
}

static hsgd_status nothing_kept(void *context, const hsgd_space *space, hsgd_snapshot *snapshot, bool *found,
                                hsgd_error *err)
{
    (void)context;
    (void)space;
    (void)err;
    *snapshot = (hsgd_snapshot){0};
    *found = false;
    return HSGD_OK;
}

/* False where memory does not suffice.  Local. */
static bool copy(probe_catch *c, const hsgd_snapshot *x)
{
    const int64_t rows = hsgd_space_rows(x->vectors->space);
    hsgd_error ignored = {0};

    c->space = x->vectors->space;
    c->columns = x->vectors->columns;
    c->numbers = (hsgd_snapshot){.integers = x->integers, .reals = x->reals};
    c->numbers.integer = malloc((size_t)x->integers * sizeof *x->integer);
    c->numbers.real = malloc(((size_t)x->reals + 1) * sizeof *x->real);
    c->rows = malloc((size_t)(c->columns * rows + 1) * sizeof *c->rows);
    if (c->numbers.integer == NULL || c->numbers.real == NULL || c->rows == NULL) {
        return false;
    }
    memcpy(c->numbers.integer, x->integer, (size_t)x->integers * sizeof *x->integer);
    memcpy(c->numbers.real, x->real, (size_t)x->reals * sizeof *x->real);
    return hsgd_vector_get_local(x->vectors, c->rows, &ignored) == HSGD_OK;
}

/* Nothing is caught where some rank of the group cannot: the block is then made again, which is no failure. */
static hsgd_status catch_state(void *context, const hsgd_snapshot *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    probe_catch *c = context;
    int64_t lacks;

    if (x->vectors == NULL || x->integers < HEAD || x->integer[RUNNING] == 0 || x->integer[DONE] > 0) {
        return HSGD_OK;
    }
    lacks = !copy(c, x);
    HSGD_TRY(hsgd_comm_max(x->vectors->space->comm, HSGD_TYPE_I64, 1, &lacks, err));
    if (lacks != 0) {
        probe_catch_clear(c);
    }
done:
    return st;
}

void probe_catch_begin(probe_catch *c)
{
    probe_catch_clear(c);
    c->face = (hsgd_keeper){.context = c, .due = never_due, .keep = catch_state, .recall = nothing_kept};
}

void probe_catch_clear(probe_catch *c)
{
    hsgd_snapshot_clear(&c->numbers);
    free(c->rows);
    c->rows = NULL;
    c->columns = 0;
}

/* ---- putting together ---- */

/* What each group has caught. */
typedef struct {
    int64_t running, integers, reals, columns;
} caught;

enum { COUNTS = sizeof(caught) / sizeof(int64_t) };

/* The state of all ranks while it is put together. */
typedef struct {
    hsgd_snapshot whole;
    double *full;     /* [rows of the operator] */
    hsgd_vector *one; /* a column on the group's own ranks; NULL where these have caught nothing */
} assembly;

static void destroy(assembly *a)
{
    hsgd_vector_destroy(&a->one);
    free(a->full);
    hsgd_snapshot_clear(&a->whole);
}

/* *made false on all ranks where one has no memory left.  Collective. */
static hsgd_status create(const probe_catch *c, const study_state *s, int64_t columns, assembly *a, bool *made,
                          hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_error ignored = {0};
    int64_t lacks;

    a->whole.integer = malloc((size_t)a->whole.integers * sizeof *a->whole.integer);
    a->whole.real = malloc(((size_t)a->whole.reals + 1) * sizeof *a->whole.real);
    a->full = malloc((size_t)s->m * sizeof *a->full);
    lacks = a->whole.integer == NULL || a->whole.real == NULL || a->full == NULL ||
            hsgd_vector_create(s->studied, columns, &a->whole.vectors, &ignored) != HSGD_OK ||
            (c->rows != NULL && hsgd_vector_create(c->space, 1, &a->one, &ignored) != HSGD_OK);
    HSGD_TRY(hsgd_comm_max(s->comm, HSGD_TYPE_I64, 1, &lacks, err));
    *made = lacks == 0;
done:
    return st;
}

/* The columns of a group, whose first rank is `root`, to the state's from `at` on.  Collective. */
static hsgd_status move_columns(const probe_catch *c, const study_state *s, bool own, int root, int64_t columns,
                                int64_t at, assembly *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int64_t j = 0; j < columns; j++) {
        hsgd_vector column = hsgd_vector_view(a->whole.vectors, at + j, 1);

        if (own) {
            st = hsgd_vector_set_local(a->one, c->rows + j * hsgd_space_rows(c->space), err);
            st = st == HSGD_OK ? hsgd_vector_gather(a->one, a->full, err) : st;
        }
        HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
        HSGD_TRY(hsgd_comm_broadcast(s->comm, root, (size_t)s->m * sizeof *a->full, a->full, err));
        HSGD_TRY(hsgd_comm_agree(s->comm, hsgd_vector_set_full(&column, a->full, err), err));
    }
done:
    return st;
}

/* The groups [first, last), all of which caught something, into the state behind `integers` and `reals` numbers of it. */
static hsgd_status move_groups(const probe_catch *c, const study_state *s, int groups, int group, int first, int last,
                               const caught *all, int64_t reals, assembly *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t integers = HEAD, columns = 0;

    for (int g = first; g < last; g++) {
        const caught *x = &all[g];
        int64_t root, beyond;

        hsgd_share(s->comm->ranks, g, groups, &root, &beyond);
        if (g == group) {
            memcpy(a->whole.integer + integers, c->numbers.integer + HEAD,
                   (size_t)(x->integers - HEAD) * sizeof *a->whole.integer);
            memcpy(a->whole.real + reals, c->numbers.real, (size_t)x->reals * sizeof *a->whole.real);
        }
        HSGD_TRY(hsgd_comm_broadcast(s->comm, (int)root, (size_t)(x->integers - HEAD) * sizeof *a->whole.integer,
                                     a->whole.integer + integers, err));
        HSGD_TRY(hsgd_comm_broadcast(s->comm, (int)root, (size_t)x->reals * sizeof *a->whole.real,
                                     a->whole.real + reals, err));
        HSGD_TRY(move_columns(c, s, g == group, (int)root, x->columns, columns, a, err));
        integers += x->integers - HEAD;
        reals += x->reals;
        columns += x->columns;
    }
done:
    return st;
}

/* What each of the groups has caught, on all ranks: all [groups].  Collective. */
static hsgd_status tell(const probe_catch *c, const study_state *s, int groups, int group, caught *all, hsgd_error *err)
{
    memset(all, 0, (size_t)groups * sizeof *all);
    if (c->rows != NULL) {
        all[group] = (caught){.running = c->numbers.integer[RUNNING],
                              .integers = c->numbers.integers,
                              .reals = c->numbers.reals,
                              .columns = c->columns};
    }
    return hsgd_comm_max(s->comm, HSGD_TYPE_I64, groups * (int64_t)COUNTS, all, err);
}

/* The sum of the groups from `first` on that caught something; *last: the group behind them. */
static caught add(const caught *all, int groups, int first, int *last)
{
    caught sum = {0};

    for (*last = first; *last < groups && all[*last].running > 0; ++*last) {
        sum.running += all[*last].running;
        sum.integers += all[*last].integers - HEAD;
        sum.reals += all[*last].reals;
        sum.columns += all[*last].columns;
    }
    return sum;
}

hsgd_status probe_catch_keep(const probe_catch *c, study_state *s, int groups, int group, int first,
                             const hsgd_quadrature_options *options, int64_t done, const double *ritz,
                             const double *weights, bool *kept, hsgd_error *err)
{
    const int64_t nodes = done * options->steps;
    hsgd_status st = HSGD_OK;
    assembly a = {0};
    caught *all = calloc((size_t)groups, sizeof *all), sum;
    int last = 0;

    *kept = false;
    HSGD_TRY(hsgd_comm_agree(s->comm, all != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(tell(c, s, groups, group, all, err));
    sum = add(all, groups, first, &last);
    if (sum.running > 0) {
        a.whole.integers = HEAD + sum.integers;
        a.whole.reals = 2 * nodes + sum.reals;
        HSGD_TRY(create(c, s, sum.columns, &a, kept, err));
    }
    if (*kept) {
        a.whole.integer[DONE] = done;
        a.whole.integer[RUNNING] = sum.running;
        memcpy(a.whole.real, ritz, (size_t)nodes * sizeof *ritz);
        memcpy(a.whole.real + nodes, weights, (size_t)nodes * sizeof *weights);
        HSGD_TRY(move_groups(c, s, groups, group, first, last, all, 2 * nodes, &a, err));
        HSGD_TRY(hsgd_keeper_keep(options->keeper, &a.whole, err));
    }
done:
    destroy(&a);
    free(all);
    return st;
}
