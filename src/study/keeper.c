/* src/study/keeper.c - see keeper.h.  The file holds the snapshot's numbers, and its vectors in pieces of a few columns,
 * so that no rank ever holds more than these whole; a SHA-256 over all of it, formed from hashes of blocks of rows where
 * they live, is the same for any number of ranks. */
#include "study/keeper.h"
#include "study/metrics.h"
#include "base/clock.h"
#include "base/hash.h"
#include <stdlib.h>
#include <string.h>

enum {
    COLUMNS = 8,       /* of a piece: as many as an operator gathers at a time */
    MOST_BLOCKS = 128, /* of a space; see space.h */
    DIGEST = 64,       /* characters of a hash */
    WORDS = DIGEST / sizeof(int64_t)
};

static const char DECK_HASH[] = "deck_hash", STATE_HASH[] = "state_sha256";

struct study_keeper {
    hsgd_keeper face;
    study_state *s;
    hsgd_stage stage;
    char name[32]; /* of the file in run.output */
    double last;   /* when a state was kept last; of rank 0 */
    bool stopping; /* somebody asked to stop */
    bool found;    /* the file holds a state of this very stage */
};

static const char *folder_of(const study_state *s)
{
    return s->deck->run.output;
}

static void name_of(hsgd_stage stage, char *name, size_t size)
{
    (void)snprintf(name, size, "%s-state.h5", hsgd_stage_name(stage));
}

bool study_keeper_serves(hsgd_stage stage)
{
    return stage == HSGD_STAGE_EIGEN || stage == HSGD_STAGE_DENSITY || stage == HSGD_STAGE_TRACE ||
           stage == HSGD_STAGE_LANDSCAPE;
}

/* ---- the hash of a state ---- */

/* Of the numbers; `digest` begins with it. */
static hsgd_status hash_numbers(const hsgd_snapshot *x, int64_t columns, char digest[65], hsgd_error *err)
{
    const int64_t counts[] = {x->integers, x->reals, columns};
    const void *const parts[] = {counts, x->integer, x->real};
    const size_t bytes[] = {sizeof counts, (size_t)x->integers * sizeof *x->integer,
                            (size_t)x->reals * sizeof *x->real};

    return hsgd_sha256(3, parts, bytes, digest, err);
}

/* The hashes of this rank's blocks of a piece's rows, local [columns][rows], one after the other. */
static hsgd_status hash_blocks(const hsgd_space *space, int64_t columns, const double *local, char *mine,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t rows = hsgd_space_rows(space);

    for (int64_t first = 0; first < rows; first += space->block) {
        const int64_t count = rows - first < space->block ? rows - first : space->block;
        const void *parts[COLUMNS];
        size_t bytes[COLUMNS];
        char hex[65];

        for (int64_t j = 0; j < columns; j++) {
            parts[j] = local + j * rows + first;
            bytes[j] = (size_t)count * sizeof *local;
        }
        HSGD_TRY(hsgd_sha256((int)columns, parts, bytes, hex, err));
        memcpy(mine + first / space->block * DIGEST, hex, DIGEST);
    }
done:
    return st;
}

/* digest = the hash of itself and of a piece, local [columns][rows].  Collective. */
static hsgd_status hash_piece(const hsgd_space *space, int64_t columns, const double *local, char digest[65],
                              hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t mine[MOST_BLOCKS * WORDS], all[MOST_BLOCKS * WORDS];
    const void *const parts[] = {digest, all};
    const size_t bytes[] = {DIGEST, (size_t)space->blocks * DIGEST};

    st = hash_blocks(space, columns, local, (char *)mine, err);
    HSGD_TRY(hsgd_comm_agree(space->comm, st, err));
    for (int rank = 0; rank < space->comm->ranks; rank++) {
        space->slots[rank] = (space->counts[rank] + space->block - 1) / space->block * (int64_t)WORDS;
    }
    HSGD_TRY(hsgd_comm_all_gather(space->comm, HSGD_TYPE_I64, space->slots, mine, all, err));
    HSGD_TRY(hsgd_sha256(2, parts, bytes, digest, err));
done:
    return st;
}

static int64_t piece_columns(int64_t columns, int64_t first)
{
    return columns - first < COLUMNS ? columns - first : COLUMNS;
}

static void piece_path(int64_t first, char *path, size_t size)
{
    (void)snprintf(path, size, "/vectors/%lld", (long long)first);
}

/* Room for `count` doubles, on every rank or on none.  Collective. */
static hsgd_status room(study_state *s, int64_t count, double **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    *out = malloc(((size_t)count + 1) * sizeof **out);
    if (*out == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold %lld numbers of a half-done stage",
                            (long long)count);
    }
    return hsgd_comm_agree(s->comm, st, err);
}

/* ---- keeping ---- */

static hsgd_status write_numbers(study_keeper *k, hsgd_store *store, const hsgd_snapshot *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t columns = x->vectors != NULL ? x->vectors->columns : 0;
    char deck[65];

    HSGD_TRY(output_deck_hash(k->s, k->stage, deck, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", DECK_HASH, deck, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "integers", x->integers, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "reals", x->reals, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "columns", columns, err));
    if (x->integers > 0) {
        HSGD_TRY(
            output_integers(store, "/integers", "1", "counters of the solver", x->integers, NULL, x->integer, err));
    }
    if (x->reals > 0) {
        HSGD_TRY(output_vector(store, "/reals", "1", "numbers of the solver", x->reals, NULL, x->real, err));
    }
done:
    return st;
}

static hsgd_status write_vectors(study_keeper *k, hsgd_store *store, const hsgd_vector *x, char digest[65],
                                 hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_space *space = x->space;
    double *local = NULL;
    char path[64];

    HSGD_TRY(room(k->s, COLUMNS * hsgd_space_rows(space), &local, err));
    for (int64_t first = 0; first < x->columns; first += COLUMNS) {
        const int64_t columns = piece_columns(x->columns, first);
        const hsgd_vector piece = hsgd_vector_view(x, first, columns);
        const hsgd_dataset_spec spec = {.path = path,
                                        .rank = 2,
                                        .dims = {columns, space->n},
                                        .units = "1",
                                        .description = "vectors of the solver, from this number on"};

        piece_path(first, path, sizeof path);
        st = hsgd_vector_get_local(&piece, local, err);
        HSGD_TRY(hsgd_comm_agree(k->s->comm, st, err));
        HSGD_TRY(hash_piece(space, columns, local, digest, err));
        HSGD_TRY(hsgd_store_write_rows(store, &spec, space->low, space->high, local, err));
    }
done:
    free(local);
    return st;
}

static hsgd_status keep(void *context, const hsgd_snapshot *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_keeper *k = context;
    const double start = hsgd_clock();
    hsgd_store *store = NULL;
    char digest[65];

    HSGD_CHECK(x->vectors == NULL || x->vectors->space->layout == HSGD_SPREAD, HSGD_ERR_USAGE, err,
               "%s: only vectors that are spread over the ranks can be kept", hsgd_stage_name(k->stage));
    HSGD_TRY(output_begin(k->s, k->name, k->stage, &store, err));
    HSGD_TRY(write_numbers(k, store, x, err));
    HSGD_TRY(hash_numbers(x, x->vectors != NULL ? x->vectors->columns : 0, digest, err));
    if (x->vectors != NULL) {
        HSGD_TRY(write_vectors(k, store, x->vectors, digest, err));
    }
    HSGD_TRY(hsgd_store_attribute_text(store, "/", STATE_HASH, digest, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_CERTIFY, err));
    k->last = hsgd_clock();
    metrics_file(k->s, "state", k->stage, k->name, -1, k->last - start);
    HSGD_CHECK(!k->stopping, HSGD_STOPPED, err, "%s: stopped with its state in %s/%s; run again with --restart",
               hsgd_stage_name(k->stage), folder_of(k->s), k->name);
done:
    hsgd_store_abandon(&store);
    return st;
}

static hsgd_status due(void *context, bool *out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_keeper *k = context;
    const hsgd_study_setup *setup = k->s->setup;
    enum { NOTHING, TIME, STOP };
    int64_t why = setup->stop != NULL && setup->stop(setup->stop_context) ? STOP : NOTHING;

    if (why == NOTHING && k->s->comm->rank == 0 && hsgd_clock() - k->last >= (double)k->s->deck->run.snapshot_every) {
        why = TIME; /* by one clock */
    }
    HSGD_TRY(hsgd_comm_max(k->s->comm, HSGD_TYPE_I64, 1, &why, err));
    k->stopping = why == STOP;
    *out = why != NOTHING;
done:
    return st;
}

/* ---- recalling ---- */

/* How much there is of everything, checked against the datasets before any memory is taken. */
static hsgd_status read_counts(study_state *s, const char *file, int64_t n, hsgd_snapshot *x, int64_t *columns,
                               hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[64];

    HSGD_TRY(hsgd_store_read_attribute_i64(s->comm, file, "integers", &x->integers, err));
    HSGD_TRY(hsgd_store_read_attribute_i64(s->comm, file, "reals", &x->reals, err));
    HSGD_TRY(hsgd_store_read_attribute_i64(s->comm, file, "columns", columns, err));
    HSGD_CHECK(x->integers >= 0 && x->reals >= 0 && *columns >= 0, HSGD_ERR_DATA, err, "%s: holds negative counts",
               file);
    if (x->integers > 0) {
        HSGD_TRY(hsgd_store_expect(s->comm, file, "/integers", 1, &x->integers, err));
    }
    if (x->reals > 0) {
        HSGD_TRY(hsgd_store_expect(s->comm, file, "/reals", 1, &x->reals, err));
    }
    for (int64_t first = 0; first < *columns; first += COLUMNS) {
        const int64_t dims[] = {piece_columns(*columns, first), n};

        piece_path(first, path, sizeof path);
        HSGD_TRY(hsgd_store_expect(s->comm, file, path, 2, dims, err));
    }
done:
    return st;
}

static hsgd_status read_numbers(study_state *s, const char *file, hsgd_snapshot *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    _Static_assert(sizeof(int64_t) == sizeof(double), "room is of doubles");
    HSGD_TRY(room(s, x->reals, &x->real, err));
    x->integer = malloc(((size_t)x->integers + 1) * sizeof *x->integer);
    HSGD_TRY(hsgd_comm_agree(s->comm, x->integer != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    if (x->integers > 0) {
        HSGD_TRY(hsgd_store_read_i64(s->comm, file, "/integers", 1, &x->integers, x->integer, err));
    }
    if (x->reals > 0) {
        HSGD_TRY(hsgd_store_read_f64(s->comm, file, "/reals", 1, &x->reals, x->real, err));
    }
done:
    return st;
}

static hsgd_status read_vectors(study_state *s, const char *file, hsgd_vector *x, char digest[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_space *space = x->space;
    double *full = NULL, *local = NULL;
    char path[64];

    HSGD_TRY(room(s, COLUMNS * space->n, &full, err));
    HSGD_TRY(room(s, COLUMNS * hsgd_space_rows(space), &local, err));
    for (int64_t first = 0; first < x->columns; first += COLUMNS) {
        const int64_t columns = piece_columns(x->columns, first), dims[] = {columns, space->n};
        hsgd_vector piece = hsgd_vector_view(x, first, columns);

        piece_path(first, path, sizeof path);
        HSGD_TRY(hsgd_store_read_f64(s->comm, file, path, 2, dims, full, err));
        st = hsgd_vector_set_full(&piece, full, err);
        if (st == HSGD_OK) {
            st = hsgd_vector_get_local(&piece, local, err); /* what is hashed is what the solver gets */
        }
        HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
        HSGD_TRY(hash_piece(space, columns, local, digest, err));
    }
done:
    free(local);
    free(full);
    return st;
}

static hsgd_status load(study_state *s, const char *file, const hsgd_space *space, hsgd_snapshot *x, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char want[65] = "", digest[65];
    int64_t columns = 0;

    HSGD_TRY(hsgd_store_read_attribute_text(s->comm, file, STATE_HASH, want, sizeof want, err));
    HSGD_TRY(read_counts(s, file, space != NULL ? space->n : s->n, x, &columns, err));
    HSGD_CHECK(columns == 0 || (space != NULL && space->layout == HSGD_SPREAD), HSGD_ERR_DATA, err,
               "%s: holds vectors where none are expected", file);
    HSGD_TRY(read_numbers(s, file, x, err));
    HSGD_TRY(hash_numbers(x, columns, digest, err));
    if (columns > 0) {
        st = hsgd_vector_create(space, columns, &x->vectors, err);
        HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
        HSGD_TRY(read_vectors(s, file, x->vectors, digest, err));
    }
    HSGD_CHECK(strcmp(want, digest) == 0, HSGD_ERR_DATA, err, "%s: its content is not what was written (checksum)",
               file);
done:
    return st;
}

/* A state that cannot be trusted: tell why, and put it aside. */
static hsgd_status refuse(study_keeper *k, const char *why, hsgd_error *err)
{
    k->found = false;
    hsgd_progress_warn(k->s->progress, "%s; it is kept as %s.old, and the stage starts afresh", why, k->name);
    return hsgd_store_set_aside(k->s->comm, folder_of(k->s), k->name, k->s->lock, err);
}

static hsgd_status recall(void *context, const hsgd_space *space, hsgd_snapshot *x, bool *found, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_keeper *k = context;
    char file[STUDY_PATH];
    hsgd_error damage = {0};

    *x = (hsgd_snapshot){0};
    *found = false;
    if (!k->found) {
        return HSGD_OK;
    }
    output_path(k->s, k->name, file, sizeof file);
    st = load(k->s, file, space, x, &damage);
    if (st == HSGD_OK) {
        *found = true;
        hsgd_progress_say(k->s->progress, "%s: goes on from %s", hsgd_stage_name(k->stage), file);
        metrics_file(k->s, "resume", k->stage, k->name, -1, -1.0);
        return HSGD_OK;
    }
    hsgd_snapshot_clear(x);
    if (st == HSGD_ERR_DATA) {
        return refuse(k, damage.text, err);
    }
    return hsgd_error_set(err, st, "%s", damage.text);
}

/* ---- beginning and end ---- */

/* HSGD_ERR_DATA unless a manifest tells that the state is what was written.  Collective. */
static hsgd_status vouched(study_state *s, const char *file, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool certified = false;

    HSGD_TRY(hsgd_store_check(s->comm, file, &certified, err));
    HSGD_CHECK(certified, HSGD_ERR_DATA, err, "%s: its manifest is missing", file);
done:
    return st;
}

/* A state that is there: of this very stage, or of what? */
static hsgd_status look(study_keeper *k, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = k->s;
    char file[STUDY_PATH], want[65], want_deck[65], hash[65] = "", deck[65] = "";
    hsgd_error damage = {0};

    output_path(s, k->name, file, sizeof file);
    HSGD_TRY(output_stage_hash(s, k->stage, want, err));
    HSGD_TRY(output_deck_hash(s, k->stage, want_deck, err));
    if ((st = vouched(s, file, &damage)) != HSGD_OK ||
        (st = hsgd_store_read_attribute_text(s->comm, file, OUTPUT_HASH, hash, sizeof hash, &damage)) != HSGD_OK ||
        (st = hsgd_store_read_attribute_text(s->comm, file, DECK_HASH, deck, sizeof deck, &damage)) != HSGD_OK) {
        HSGD_CHECK(st == HSGD_ERR_DATA, st, err, "%s", damage.text);
        return refuse(k, damage.text, err);
    }
    if (strcmp(want, hash) == 0) {
        k->found = true;
    } else {
        HSGD_CHECK(strcmp(want_deck, deck) == 0, HSGD_ERR_USAGE, err,
                   "%s: %s belongs to a half-done stage with other keys, samples or data than this deck's; restore "
                   "them, or remove that file to start the stage afresh, or name another run.output",
                   hsgd_stage_name(k->stage), file);
        hsgd_progress_say(s->progress,
                          "%s: %s belongs to other weights; it is kept as %s.old, and the stage starts "
                          "afresh",
                          hsgd_stage_name(k->stage), file, k->name);
        HSGD_TRY(hsgd_store_set_aside(s->comm, folder_of(s), k->name, s->lock, err));
    }
done:
    return st;
}

hsgd_status study_keeper_open(study_state *s, hsgd_stage stage, study_keeper **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_keeper *k = calloc(1, sizeof *k);
    bool exists = false;

    *out = NULL;
    HSGD_TRY(hsgd_comm_agree(s->comm, k != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    k->face = (hsgd_keeper){.context = k, .due = due, .keep = keep, .recall = recall};
    k->s = s;
    k->stage = stage;
    k->last = hsgd_clock();
    name_of(stage, k->name, sizeof k->name);
    if (s->setup->restart) {
        HSGD_TRY(hsgd_store_exists(s->comm, folder_of(s), k->name, &exists, err));
    }
    if (exists) {
        HSGD_TRY(look(k, err));
    }
    *out = k;
    k = NULL;
done:
    free(k);
    return st;
}

const hsgd_keeper *study_keeper_face(const study_keeper *keeper)
{
    return keeper != NULL ? &keeper->face : NULL;
}

hsgd_status study_keeper_finish(study_keeper *k, hsgd_error *err)
{
    return k == NULL ? HSGD_OK : hsgd_store_remove(k->s->comm, folder_of(k->s), k->name, k->s->lock, err);
}

void study_keeper_close(study_keeper **keeper, hsgd_status st)
{
    study_state *const s = *keeper != NULL ? (*keeper)->s : NULL;

    if (s != NULL && st == HSGD_ERR_NUMERIC && s->comm->rank == 0) { /* not together: the ranks may have parted */
        hsgd_store_discard(folder_of(s), (*keeper)->name, s->lock);
    }
    free(*keeper);
    *keeper = NULL;
}

/* The stage's hash in a file of run.output, a state or a result, or "" where there is none.  Collective. */
static hsgd_status hash_in(study_state *s, const char *name, bool state, char hash[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char file[STUDY_PATH];
    hsgd_error unread = {0};
    bool exists = false;

    HSGD_TRY(hsgd_store_exists(s->comm, folder_of(s), name, &exists, err));
    output_path(s, name, file, sizeof file);
    if (!exists || (state && (st = vouched(s, file, &unread)) != HSGD_OK) ||
        (st = hsgd_store_read_attribute_text(s->comm, file, OUTPUT_HASH, hash, 65, &unread)) != HSGD_OK) {
        hash[0] = '\0';
    }
    HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", unread.text);
    st = HSGD_OK;
done:
    return st;
}

hsgd_status study_keeper_sweep(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char name[32], result[32], kept[65], finished[65];

    for (int stage = 0; stage < HSGD_STAGES; stage++) {
        if (!study_keeper_serves((hsgd_stage)stage)) {
            continue;
        }
        name_of((hsgd_stage)stage, name, sizeof name);
        (void)snprintf(result, sizeof result, "%s.h5", hsgd_stage_name((hsgd_stage)stage));
        HSGD_TRY(hash_in(s, name, true, kept, err));
        HSGD_TRY(hash_in(s, result, false, finished, err));
        if (kept[0] != '\0' && strcmp(kept, finished) == 0) {
            HSGD_TRY(hsgd_store_remove(s->comm, folder_of(s), name, s->lock, err));
        }
    }
done:
    return st;
}
