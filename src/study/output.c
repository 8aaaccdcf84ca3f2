/* src/study/output.c - result files: names, provenance, and whether a finished one is still valid. */
#include "base/hash.h"
#include "study/selection.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void output_path(const study_state *s, const char *name, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/%s", s->deck->run.output, name);
}

/* SHA-256 of what `file` holds, read by rank 0; "" where it cannot be read (who uses the file says so). */
static hsgd_status hash_file(study_state *s, const char *file, char hex[65], hsgd_error *err)
{
    const bool named = file[0] != '\0' && strcmp(file, "none") != 0 && strcmp(file, "default") != 0;
    hsgd_error unread = {0};
    int64_t bytes = 0;

    memset(hex, 0, 65);
    if (named && s->comm->rank == 0) {
        (void)hsgd_sha256_file(file, &bytes, hex, &unread);
    }
    return hsgd_comm_broadcast(s->comm, 0, 65, hex, err);
}

/* The file of the user's that a stage reads: its name is among the keys, its content counts as well. */
static const char *file_of(const study_state *s, hsgd_stage stage)
{
    switch (stage) {
    case HSGD_STAGE_TRAIN:
        return s->deck->model.init;
    case HSGD_STAGE_HVP:
        return s->deck->hvp.vectors;
    case HSGD_STAGE_DENSITY:
        return s->deck->density.start;
    case HSGD_STAGE_LANDSCAPE:
        return s->deck->landscape.vectors;
    default:
        return "";
    }
}

/* Is it a training that measures the curvature? */
static bool curvature_is_trained(const study_state *s, hsgd_stage stage)
{
    return stage == HSGD_STAGE_TRAIN && s->deck->train.curvature_every > 0;
}

/* The stage whose keys a stage's results depend on beside its own; the stage itself where there is none. */
static hsgd_stage other_keys(const study_state *s, hsgd_stage stage)
{
    const bool usual = s->deck->hessian.operator_ == 0 && s->deck->hessian.split == 0 && !selection_is_block(s);

    if (stage == HSGD_STAGE_LANDSCAPE || (stage == HSGD_STAGE_DENSITY && s->deck->density.deflate)) {
        /* it looks along the eigenvectors, or takes them out */
        return HSGD_STAGE_EIGEN;
    }
    if (curvature_is_trained(s, stage) && !usual) { /* of the usual operator older checkpoints know nothing */
        return HSGD_STAGE_VERIFY;
    }
    return stage;
}

/* The keys of other stages that measurements along the training obey, as text; "" where there are none, so that the
 * hashes of trainings without them stay what they were. */
static void measured_keys(const study_state *s, hsgd_stage stage, char *text, size_t size)
{
    text[0] = '\0';
    if (curvature_is_trained(s, stage)) {
        (void)snprintf(text, size, "trace.method=%lld trace.probes=%lld eigen.max_products=%lld",
                       (long long)s->deck->trace.method, (long long)s->deck->trace.probes,
                       (long long)s->deck->eigen.max_products);
    }
}

static hsgd_status hash_stage(study_state *s, hsgd_stage stage, bool weights, char hex[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char *keys = NULL, *more = NULL, content[65], measured[128];
    const bool studies = stage != HSGD_STAGE_TRAIN;
    const bool samples = studies ? stage != HSGD_STAGE_EVALUATE : curvature_is_trained(s, stage);

    st = hsgd_deck_stage_keys(s->deck, stage, &keys, err);
    if (st == HSGD_OK && other_keys(s, stage) != stage) {
        st = hsgd_deck_stage_keys(s->deck, other_keys(s, stage), &more, err);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    measured_keys(s, stage, measured, sizeof measured);
    HSGD_TRY(hash_file(s, file_of(s, stage), content, err));
    {
        const void *parts[] = {content,           keys,    more != NULL ? more : "", s->data->sha256, s->weights_sha256,
                               s->samples_sha256, measured};
        const size_t bytes[] = {strlen(content),
                                strlen(keys),
                                more != NULL ? strlen(more) : 0,
                                strlen(s->data->sha256),
                                studies && weights ? strlen(s->weights_sha256) : 0,
                                samples ? strlen(s->samples_sha256) : 0,
                                strlen(measured)};

        HSGD_TRY(hsgd_sha256(7, parts, bytes, hex, err));
    }
done:
    free(more);
    free(keys);
    return st;
}

hsgd_status output_stage_hash(study_state *s, hsgd_stage stage, char hex[65], hsgd_error *err)
{
    return hash_stage(s, stage, true, hex, err);
}

hsgd_status output_deck_hash(study_state *s, hsgd_stage stage, char hex[65], hsgd_error *err)
{
    return hash_stage(s, stage, false, hex, err);
}

/* Which rows and columns of the operator a result tells of. */
static hsgd_status write_selection(const study_state *s, hsgd_store *store, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char names[SELECTION_NAMES] = "all";

    if (selection_is_block(s)) {
        selection_names(s, names);
    }
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "hessian_layers", names, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", "hessian_rows", s->m, err));
done:
    return st;
}

hsgd_status output_begin(study_state *s, const char *name, hsgd_stage stage, hsgd_store **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char hash[65];
    const hsgd_provenance provenance = {
        .command = s->setup->command,
        .deck = s->deck_text,
        .backend = s->backend->ops->name,
        .instruction_set = s->instruction_set,
        .device = s->device[0] != '\0' ? s->device : NULL,
        .libraries = s->libraries[0] != '\0' ? s->libraries : NULL,
        .communicator = s->comm->ops->name,
        .precision = s->backend->precision == HSGD_DOUBLE ? "double" : "single",
        .reduction = s->deck->run.reduction == 0 ? "reproducible" : "fast",
        .data_source = s->data->source,
        .data_sha256 = s->data->sha256,
        .weights_sha256 = s->weights_sha256[0] != '\0' ? s->weights_sha256 : NULL,
        .seed = s->deck->run.seed,
        .binding = s->binding,
        .threads = s->threads,
        .group = s->backend->group,
        .least_group = s->backend->least_group,
        .tf32 = s->backend->tf32,
    };

    *out = NULL;
    hsgd_progress_detail(s->progress, "%s: writes %s/%s", hsgd_stage_name(stage), s->deck->run.output, name);
    HSGD_TRY(output_stage_hash(s, stage, hash, err));
    HSGD_TRY(hsgd_store_create(s->comm, s->deck->run.output, name, &provenance, s->lock, out, err));
    HSGD_TRY(hsgd_store_attribute_text(*out, "/", OUTPUT_HASH, hash, err));
    if (stage != HSGD_STAGE_TRAIN) {
        HSGD_TRY(hsgd_store_attribute_text(*out, "/", "weights_source", s->weights_source, err));
    }
    if (stage >= HSGD_STAGE_VERIFY || curvature_is_trained(s, stage)) {
        HSGD_TRY(write_selection(s, *out, err));
    }
done:
    if (st != HSGD_OK) {
        hsgd_store_abandon(out);
    }
    return st;
}

hsgd_status output_look(study_state *s, const char *name, hsgd_stage stage, output_found *out, hsgd_error *unread,
                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool exists = false;
    char path[STUDY_PATH], want[65], found[65] = "";
    hsgd_error none = {0};
    int64_t failed = 0;

    *out = OUTPUT_ABSENT;
    HSGD_TRY(hsgd_store_exists(s->comm, s->deck->run.output, name, &exists, err));
    if (!exists) {
        return HSGD_OK;
    }
    HSGD_TRY(output_stage_hash(s, stage, want, err));
    output_path(s, name, path, sizeof path);
    st = hsgd_store_read_attribute_text(s->comm, path, OUTPUT_HASH, found, sizeof found, unread);
    HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", unread->text);
    if (st != HSGD_OK) {
        *out = OUTPUT_DAMAGED;
        return HSGD_OK;
    }
    st = hsgd_store_read_attribute_i64(s->comm, path, OUTPUT_FAILED, &failed, &none); /* absent: it did not fail */
    HSGD_CHECK(st == HSGD_OK || st == HSGD_ERR_DATA, st, err, "%s", none.text);
    st = HSGD_OK;
    *out = failed != 0 ? OUTPUT_OF_FAILURE : strcmp(want, found) == 0 ? OUTPUT_VALID : OUTPUT_STALE;
done:
    return st;
}

hsgd_status output_judge(study_state *s, const char *name, hsgd_stage stage, output_found *found, hsgd_error *err)
{
    hsgd_error unread = {0};
    const hsgd_status st = output_look(s, name, stage, found, &unread, err);

    if (st != HSGD_OK) {
        return st;
    }
    if (*found == OUTPUT_DAMAGED) {
        hsgd_progress_warn(s->progress, "%s; it is kept as %s.old and computed again", unread.text, name);
    } else if (*found == OUTPUT_OF_FAILURE) {
        hsgd_progress_say(s->progress, "%s: failed before; %s is kept as %s.old and computed again",
                          hsgd_stage_name(stage), name, name);
    } else if (*found == OUTPUT_STALE) {
        hsgd_progress_say(s->progress, "%s: %s belongs to other keys, weights or samples; it is kept as %s.old",
                          hsgd_stage_name(stage), name, name);
    }
    return HSGD_OK;
}

hsgd_status output_finished(study_state *s, const char *name, hsgd_stage stage, bool *finished, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    output_found found = OUTPUT_ABSENT;

    if (s->setup->restart) {
        HSGD_TRY(output_judge(s, name, stage, &found, err));
    }
    *finished = found == OUTPUT_VALID;
done:
    return st;
}

/* What a study leaves in its folder; anything else there is none of our business. */
static bool is_result(const char *name)
{
    static const char *const names[] = {"weights.h5", "train.h5", "evaluate.h5", "verify.h5", "hvp.h5", "eigen.h5",
                                        "density.h5", "trace.h5", "landscape.h5",
                                        /* of stages that are half done */
                                        "eigen-state.h5", "density-state.h5", "trace-state.h5", "landscape-state.h5"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return strncmp(name, "checkpoint-", 11) == 0;
}

/* HSGD_ERR_USAGE where the folder holds a result; a folder that does not exist holds none.  Local. */
static hsgd_status look(const char *folder, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    DIR *dir = opendir(folder);
    const struct dirent *entry;

    if (dir == NULL) {
        if (errno == ENOENT) {
            return HSGD_OK;
        }
        return hsgd_error_set(err, HSGD_ERR_IO, "run.output: cannot read folder '%s': %s; name another folder", folder,
                              strerror(errno));
    }
    while (st == HSGD_OK && (errno = 0, entry = readdir(dir)) != NULL) {
        if (is_result(entry->d_name)) {
            st = hsgd_error_set(err, HSGD_ERR_USAGE,
                                "run.output: '%s' already holds results (%s); add --restart to go on with them, or "
                                "name another folder with run.output=...",
                                folder, entry->d_name);
        }
    }
    if (st == HSGD_OK && errno != 0) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "run.output: cannot read folder '%s': %s; run again", folder,
                            strerror(errno));
    }
    (void)closedir(dir);
    return st;
}

hsgd_status output_check_folder(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (!s->setup->restart && s->comm->rank == 0) {
        st = look(s->deck->run.output, err);
    }
    return hsgd_comm_agree(s->comm, st, err);
}

static void warn(void *context, const char *text)
{
    hsgd_progress_warn(((const study_state *)context)->progress, "%s", text);
}

hsgd_status output_take(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(hsgd_lock_take(s->comm, s->deck->run.output, warn, s, &s->lock, err));
    HSGD_TRY(output_check_folder(s, err)); /* again: another run may have come and gone in between */
    HSGD_TRY(hsgd_store_tidy(s->comm, s->deck->run.output, s->lock, err));
done:
    return st;
}

hsgd_status output_check_lock(study_state *s, hsgd_status st, hsgd_error *err)
{
    const bool together = st == HSGD_OK || st == HSGD_STOPPED;
    const hsgd_status held = together ? hsgd_comm_agree(s->comm, hsgd_lock_check(s->lock, err), err) : HSGD_OK;

    return held == HSGD_OK ? st : held;
}

hsgd_status output_scalar(hsgd_store *store, const char *path, const char *units, const char *description, double value,
                          hsgd_error *err)
{
    const hsgd_dataset_spec spec = {.path = path, .units = units, .description = description};

    return hsgd_store_write(store, &spec, &value, err);
}

hsgd_status output_vector(hsgd_store *store, const char *path, const char *units, const char *description,
                          int64_t count, const char *axis, const double *data, hsgd_error *err)
{
    const hsgd_dataset_spec spec = {
        .path = path, .rank = 1, .dims = {count}, .units = units, .description = description, .axes = {axis}};

    return hsgd_store_write(store, &spec, data, err);
}

hsgd_status output_matrix(hsgd_store *store, const char *path, const char *units, const char *description, int64_t rows,
                          int64_t columns, const char *row_axis, const char *column_axis, const double *data,
                          hsgd_error *err)
{
    const hsgd_dataset_spec spec = {.path = path,
                                    .rank = 2,
                                    .dims = {rows, columns},
                                    .units = units,
                                    .description = description,
                                    .axes = {row_axis, column_axis}};

    return hsgd_store_write(store, &spec, data, err);
}

hsgd_status output_integers(hsgd_store *store, const char *path, const char *units, const char *description,
                            int64_t count, const char *axis, const int64_t *data, hsgd_error *err)
{
    const hsgd_dataset_spec spec = {.path = path,
                                    .type = HSGD_STORE_I64,
                                    .rank = 1,
                                    .dims = {count},
                                    .units = units,
                                    .description = description,
                                    .axes = {axis}};

    return hsgd_store_write(store, &spec, data, err);
}

hsgd_status output_rows(study_state *s, hsgd_store *store, const hsgd_dataset_spec *spec, const hsgd_vector *x,
                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_space *space = s->spread;
    hsgd_vector *whole = NULL;
    double *local = malloc(((size_t)(hsgd_space_rows(space) * x->columns) + 1) * sizeof *local);

    if (local == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the local rows of %lld vectors",
                            (long long)x->columns);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    if (x->space == s->studied && selection_is_block(s)) {
        HSGD_TRY(selection_embed(s, x, &whole, err));
    }
    HSGD_TRY(hsgd_vector_get_local(whole != NULL ? whole : x, local, err));
    HSGD_TRY(hsgd_store_write_rows(store, spec, space->low, space->high, local, err));
done:
    hsgd_vector_destroy(&whole);
    free(local);
    return st;
}

hsgd_status output_axis(hsgd_store *store, const char *path, const char *description, int64_t count, int64_t first,
                        hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t *number = malloc((size_t)(count > 0 ? count : 1) * sizeof *number);

    for (int64_t i = 0; number != NULL && i < count; i++) { /* a rank without them says so to all in the store */
        number[i] = first + i;
    }
    HSGD_TRY(output_integers(store, path, "1", description, count, NULL, number, err));
done:
    free(number);
    return st;
}
