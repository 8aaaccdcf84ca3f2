/* src/study/dry_run.c - what --dry-run tells: deck, places, work, memory and disk of a study that is not begun. */
#include "study/limits.h"
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const double MIB = 1048576.0;

enum {
    VERIFY_SAMPLES = 256,  /* at most, as in verify.c */
    VERIFY_PRODUCTS = 20,  /* about */
    NOISE_PRODUCTS = 3,    /* of hsgd_eigen_noise */
    SMALL_FILES = 1 << 20, /* bytes for attributes and small datasets of all files */
};

/* Free bytes on the file system of the nearest existing folder above `path`; -1 where that cannot be known. */
static double free_disk(const char *path)
{
    char folder[STUDY_PATH];
    struct statvfs fs;

    (void)snprintf(folder, sizeof folder, "%s", path);
    while (statvfs(folder, &fs) != 0) {
        char *slash = strrchr(folder, '/');

        if (slash == NULL || slash == folder) {
            (void)snprintf(folder, sizeof folder, "%s", slash == NULL ? "." : "/");
            return statvfs(folder, &fs) == 0 ? (double)fs.f_bavail * (double)fs.f_frsize : -1.0;
        }
        *slash = '\0';
    }
    return (double)fs.f_bavail * (double)fs.f_frsize;
}

/* ---- work ---- */

typedef struct {
    double passes;  /* counted in forward passes of one image: a gradient is 3 of them, a product 6 */
    char what[128]; /* in words */
} stage_work;

static void products(stage_work *w, double samples, int64_t count, const char *words)
{
    w->passes = 6.0 * samples * (double)count;
    (void)snprintf(w->what, sizeof w->what, "%s%lld products", words, (long long)count);
}

/* Of the trace, over all samples. */
static double trace_passes(const study_state *s)
{
    if (study_trace_is_exact(s)) { /* a forward pass, and an adjoint one for each class */
        return (double)s->sample_count * (1.0 + 2.0 * (double)s->network->classes);
    }
    return 6.0 * (double)s->sample_count * (double)s->deck->trace.probes;
}

/* Measurements along the training, of which the first measures the noise of the products too. */
static void add_measurements(const study_state *s, int64_t steps, stage_work *w)
{
    const int64_t measurements = steps / s->deck->train.curvature_every + 1;
    const int64_t search = s->deck->eigen.max_products + s->extent.curvature;
    const bool exact = study_trace_is_exact(s);
    const int64_t products_each = search + (exact ? 0 : s->deck->trace.probes);
    const double samples = (double)s->sample_count;
    const size_t length = strlen(w->what);

    w->passes += 6.0 * NOISE_PRODUCTS * samples +
                 (double)measurements * (6.0 * samples * (double)search + 3.0 * samples + trace_passes(s));
    (void)snprintf(w->what + length, sizeof w->what - length, "; %lld measurements, each of at most %lld products%s",
                   (long long)measurements, (long long)products_each, exact ? " and an exact trace" : "");
}

static void training(const study_state *s, stage_work *w)
{
    const hsgd_deck *deck = s->deck;
    const int64_t all = s->data->train.count, batch = deck->train.batch < all ? deck->train.batch : all;
    const double drawn =
        deck->train.steps > 0 ? (double)deck->train.steps * (double)batch : (double)deck->train.epochs * (double)all;

    w->passes = 3.0 * drawn + drawn / (double)all * (double)s->data->test.count;
    (void)snprintf(w->what, sizeof w->what, "gradients of %.0f images", drawn);
    if (s->extent.curvature > 0) {
        const int64_t epoch = (all + batch - 1) / batch;

        add_measurements(s, deck->train.steps > 0 ? deck->train.steps : deck->train.epochs * epoch, w);
    }
}

static void trace(const study_state *s, stage_work *w)
{
    const bool resampled = s->deck->hessian.resample > 0; /* every group alone: the same once more */

    if (study_trace_is_exact(s)) {
        w->passes = trace_passes(s);
        (void)snprintf(w->what, sizeof w->what, resampled ? "exact: one sweep, and one by groups" : "exact: one sweep");
        w->passes *= resampled ? 2.0 : 1.0;
    } else {
        char words[32];

        (void)snprintf(words, sizeof words, "%s%s", study_trace_is_sketched(s) ? "hutch++: " : "hutchinson: ",
                       s->deck->trace.tolerance > 0.0 ? "at most " : "");
        products(w, (double)s->sample_count, (resampled ? 2 : 1) * s->deck->trace.probes, words);
    }
}

/* Searches for eigenpairs over all samples: without each of K groups one goes over (K - 1) / K of them. */
static int64_t searches(const study_state *s)
{
    return s->deck->hessian.resample > 0 ? s->deck->hessian.resample : 1;
}

static void eigen_search(const study_state *s, stage_work *w)
{
    products(w, (double)s->sample_count, searches(s) * (s->deck->eigen.max_products + s->extent.pairs), "at most ");
}

static void density(const study_state *s, stage_work *w)
{
    const study_extent *e = &s->extent;
    const int64_t count = e->probes * (e->steps < s->m ? e->steps : s->m);
    char words[64] = "";

    if (s->deck->density.accuracy > 0.0) {
        (void)snprintf(words, sizeof words, "accuracy %g: %lld probes of %lld steps: ", s->deck->density.accuracy,
                       (long long)e->probes, (long long)e->steps);
    }
    if (e->deflates && e->searches) {
        products(w, (double)s->sample_count, count + searches(s) * (s->deck->eigen.max_products + e->pairs), words);
        (void)snprintf(w->what, sizeof w->what, "%s%lld products; before them the eigen stage", words,
                       (long long)count);
    } else {
        products(w, (double)s->sample_count, count, words);
    }
}

static void landscape(const study_state *s, stage_work *w)
{
    const study_extent *e = &s->extent;
    const int64_t edge = s->deck->landscape.plane_points, plane = e->axes == 2 ? edge * edge : 0;
    const int64_t points = e->lines * s->deck->landscape.points + plane;

    const bool eigen = e->eigenvectors && e->searches && !e->deflates; /* else the density searches */

    if (eigen) {
        eigen_search(s, w);
    }
    w->passes += (double)s->sample_count * (double)points;
    (void)snprintf(w->what, sizeof w->what, "%lld points: %lld directions%s%s", (long long)points, (long long)e->lines,
                   e->axes == 2 ? " and a plane" : "", eigen ? "; before them the eigen stage" : "");
}

static stage_work work_of(const study_state *s, hsgd_stage stage)
{
    const study_extent *e = &s->extent;
    const double samples = (double)s->sample_count;
    stage_work w = {0};

    switch (stage) {
    case HSGD_STAGE_TRAIN:
        training(s, &w);
        break;
    case HSGD_STAGE_EVALUATE:
        w.passes = (double)s->data->test.count;
        (void)snprintf(w.what, sizeof w.what, "forward passes");
        break;
    case HSGD_STAGE_VERIFY:
        products(&w, samples < VERIFY_SAMPLES ? samples : VERIFY_SAMPLES, VERIFY_PRODUCTS,
                 "first samples only: about ");
        break;
    case HSGD_STAGE_HVP:
        products(&w, samples, e->vectors, "");
        break;
    case HSGD_STAGE_EIGEN:
        eigen_search(s, &w);
        break;
    case HSGD_STAGE_DENSITY:
        density(s, &w);
        break;
    case HSGD_STAGE_TRACE:
        trace(s, &w);
        break;
    default:
        landscape(s, &w);
        break;
    }
    return w;
}

/* ---- disk ---- */

/* Bytes of the results: vectors as long as the parameters are the large ones. */
static double disk_needed(const study_state *s)
{
    const study_extent *e = &s->extent;
    const hsgd_deck *deck = s->deck;
    const double edge = (double)deck->landscape.plane_points;
    double vectors = 0.0, numbers = 0.0;

    if (study_runs(s, HSGD_STAGE_TRAIN)) { /* weights.h5; in checkpoints momentum and eigenvectors, one being written */
        vectors += 1.0 + (2.0 + (double)e->curvature) * (double)(deck->train.checkpoint_keep + 1);
    }
    if (study_runs(s, HSGD_STAGE_HVP)) { /* also the gradient and the axis, as in the next ones */
        vectors += (double)e->vectors + 2.0;
    }
    if (e->pairs > 0) {
        vectors += (double)e->pairs + 1.0;
    }
    if (study_runs(s, HSGD_STAGE_LANDSCAPE)) {
        vectors += (double)e->lines + 1.0;
        numbers += 3.0 * (double)(e->lines * deck->landscape.points) + (e->axes == 2 ? 2.0 * edge * edge : 0.0);
    }
    if (study_runs(s, HSGD_STAGE_DENSITY)) {
        numbers += 6.0 * (double)deck->density.bins + 2.0 * (double)(e->probes * e->steps) +
                   3.0 * (double)(e->probes * (e->steps + (e->deflates ? e->pairs : 0)));
    }
    numbers += 2.0 * study_state_vectors(s) * (double)s->m; /* half-done, and its next state beside it */
    return 8.0 * ((double)s->n * vectors + numbers) + SMALL_FILES;
}

static hsgd_status check_disk(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const double need = disk_needed(s), disk = free_disk(s->deck->run.output);

    if (disk < 0.0) {
        hsgd_progress_say(s->progress, "disk: about %.1f MiB of results; free space is not known", need / MIB);
        return HSGD_OK;
    }
    hsgd_progress_say(s->progress, "disk: about %.1f MiB of results, %.1f MiB free", need / MIB, disk / MIB);
    HSGD_CHECK(need < disk, HSGD_ERR_IO, err,
               "run.output: the results need about %.1f MiB but only %.1f MiB are free; name another folder",
               need / MIB, disk / MIB);
done:
    return st;
}

/* ---- places ---- */

typedef struct {
    char host[64], backend[16], instruction_set[32], device[64], place[32], cores[80];
    int local_rank, threads;
    study_memory need;
    double kept;         /* bytes of base passes that will be kept */
    double memory;       /* of its node */
    double device_total; /* of its device; 0 where it has none of its own */
} placement;

static hsgd_status describe_own(const study_state *s, placement *own, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double free = 0.0, total = 0.0;
    size_t room = 0;

    (void)snprintf(own->host, sizeof own->host, "%s", s->comm->host);
    (void)snprintf(own->backend, sizeof own->backend, "%s", s->backend->ops->name);
    (void)snprintf(own->instruction_set, sizeof own->instruction_set, "%s", s->backend->instruction_set);
    (void)snprintf(own->device, sizeof own->device, "%s", s->backend->device);
    (void)snprintf(own->place, sizeof own->place, "%s", s->backend->place);
    own->local_rank = s->comm->local_rank;
    own->threads = s->setup->threads;
    (void)snprintf(own->cores, sizeof own->cores, "%s cores %s",
                   strcmp(s->setup->binding, "core") == 0 ? "bound to" : "on", s->setup->cores);
    own->memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    HSGD_TRY(study_memory_need(s, &own->need, err));
    HSGD_TRY(study_memory_free(s, &free, &total, err));
    HSGD_TRY(study_cache_bytes(s, &room, err));
    own->kept = own->need.kept < (double)room ? own->need.kept : (double)room;
    own->device_total = s->backend->host_memory ? 0.0 : total;
    *(s->backend->host_memory ? &own->need.host : &own->need.device) += own->kept;
done:
    return st;
}

/* What every rank knows of itself, to all: *out [ranks], which becomes the caller's. */
static hsgd_status gather(study_state *s, placement **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    placement *all = calloc((size_t)s->comm->ranks, sizeof *all);

    *out = all;
    st = all == NULL
             ? hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the places of %d ranks", s->comm->ranks)
             : describe_own(s, &all[s->comm->rank], err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    for (int rank = 0; rank < s->comm->ranks; rank++) {
        HSGD_TRY(hsgd_comm_broadcast(s->comm, rank, sizeof *all, &all[rank], err));
    }
done:
    return st;
}

static void tell_place(study_state *s, int rank, const placement *p)
{
    hsgd_progress_say(s->progress, "rank %d: host %s, local rank %d, device %s (%s), %d threads %s, %.1f MiB", rank,
                      p->host, p->local_rank, p->backend, p->instruction_set, p->threads, p->cores, p->need.host / MIB);
    if (p->device_total > 0.0) {
        hsgd_progress_say(s->progress,
                          "rank %d: %s at %s, about %.1f MiB (%.1f MiB of them kept base passes) of %.1f MiB", rank,
                          p->device, p->place, p->need.device / MIB, p->kept / MIB, p->device_total / MIB);
    }
}

/* The node of rank `first`: its ranks and the images together against its memory. */
static hsgd_status check_node(study_state *s, const placement *all, int first, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const placement *node = &all[first];
    const double images = node->need.images;
    double bytes = images;
    int ranks = 0;

    for (int rank = 0; rank < s->comm->ranks; rank++) {
        if (strcmp(all[rank].host, node->host) == 0) {
            bytes += all[rank].need.host;
            ranks++;
        }
    }
    hsgd_progress_say(s->progress, "node %s: %d ranks, about %.1f MiB (%.1f MiB of them images, once) of %.1f MiB",
                      node->host, ranks, bytes / MIB, images / MIB, node->memory / MIB);
    HSGD_CHECK(bytes<node->memory, HSGD_ERR_MEMORY, err,
                       "memory: the %d ranks of node %s need about %.1f MiB, it has %.1f MiB; %s or use more nodes",
                       ranks, node->host, bytes / MIB, node->memory / MIB, node->need.nodes> 0.5 *
                       node->need.host
                   ? study_fewer_nodes(s)
                   : "lower eigen.basis");
done:
    return st;
}

static hsgd_status check_places(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    placement *all = NULL;

    HSGD_TRY(gather(s, &all, err));
    for (int rank = 0; rank < s->comm->ranks; rank++) {
        tell_place(s, rank, &all[rank]);
    }
    hsgd_progress_say(s->progress, "sums over ranks: %s", s->comm->ops->name);
    for (int rank = 0; rank < s->comm->ranks; rank++) {
        if (all[rank].local_rank == 0) {
            HSGD_TRY(check_node(s, all, rank, err));
        }
    }
    HSGD_TRY(study_memory_check(s, err));
done:
    free(all);
    return st;
}

/* Eigenpairs that a valid eigen.h5 holds are not searched for; of weights that are still to be trained it holds none. */
static hsgd_status look_for_eigenpairs(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    output_found found = OUTPUT_ABSENT;
    hsgd_error unread = {0};

    if (!study_runs(s, HSGD_STAGE_TRAIN)) {
        HSGD_TRY(output_look(s, "eigen.h5", HSGD_STAGE_EIGEN, &found, &unread, err));
    }
    s->extent.searches = found != OUTPUT_VALID;
done:
    return st;
}

hsgd_status study_dry_run(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_check_folder(s, err));
    if (!study_runs(s, HSGD_STAGE_TRAIN)) {
        HSGD_TRY(study_find_weights(s, err));
    }
    if (s->extent.searches) {
        HSGD_TRY(look_for_eigenpairs(s, err));
    }
    hsgd_progress_say(s->progress, "%s", s->deck_text);
    hsgd_progress_say(s->progress, "parameters: %lld", (long long)s->n);
    hsgd_progress_say(s->progress, "studied samples: %lld", (long long)s->sample_count);
    HSGD_TRY(check_places(s, err));
    for (int i = 0; i < s->deck->stages; i++) {
        const stage_work w = work_of(s, s->deck->stage[i]);

        hsgd_progress_say(s->progress, "stage %-10s about %.3g forward passes of work (%s)",
                          hsgd_stage_name(s->deck->stage[i]), w.passes, w.what);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, check_disk(s, err), err)); /* ranks may see another free space */
    hsgd_progress_say(s->progress, "dry run: the deck is valid; nothing was written");
done:
    return st;
}
