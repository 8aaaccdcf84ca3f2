/* src/study/summary.c - what a study has found, in a few lines; and what --dry-run tells beforehand. */
#include "study/internal.h"
#include <stdarg.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

void summary_add(study_state *s, const char *format, ...)
{
    va_list args;
    int written;

    va_start(args, format);
    written = vsnprintf(s->summary + s->summary_length, STUDY_SUMMARY - s->summary_length, format, args);
    va_end(args);
    if (written > 0 && s->summary_length + (size_t)written + 2 < STUDY_SUMMARY) {
        s->summary_length += (size_t)written;
        s->summary[s->summary_length++] = '\n';
    }
    s->summary[s->summary_length] = '\0';
}

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

/* Sweeps over one sample that a stage makes, counted in forward passes of one image: a gradient is 3, a product 6. */
static double work(const study_state *s, hsgd_stage stage, const char **what)
{
    const hsgd_deck *deck = s->deck;
    const double all = (double)s->data->train.count, tests = (double)s->data->test.count;
    const double samples = (double)s->sample_count;
    const double steps = deck->train.steps > 0 ? (double)deck->train.steps * (double)deck->train.batch
                                               : (double)deck->train.epochs * all;

    switch (stage) {
    case HSGD_STAGE_TRAIN:
        *what = "gradients";
        return 3.0 * steps + steps / all * tests;
    case HSGD_STAGE_EVALUATE:
        *what = "forward passes";
        return tests;
    case HSGD_STAGE_EIGEN:
        *what = "products, at most";
        return 6.0 * samples * (double)deck->eigen.max_products;
    case HSGD_STAGE_DENSITY:
        *what = "products";
        return 6.0 * samples * (double)(deck->density.probes * deck->density.steps);
    case HSGD_STAGE_TRACE:
        *what = s->network->piecewise_linear ? "exact: one sweep" : "products";
        return 6.0 * samples * (s->network->piecewise_linear ? 2.0 : (double)deck->trace.probes);
    case HSGD_STAGE_LANDSCAPE:
        *what = "forward passes";
        return samples * (double)(3 * deck->landscape.points +
                                  (strcmp(deck->landscape.plane, "none") == 0
                                       ? 0
                                       : deck->landscape.plane_points * deck->landscape.plane_points));
    case HSGD_STAGE_VERIFY:
        *what = "products on 256 samples";
        return 6.0 * 256.0 * 20.0;
    default:
        *what = "products";
        return 6.0 * samples;
    }
}

/* Bytes of the results: eigenvectors and landscape directions are the large ones. */
static double disk_needed(const study_state *s)
{
    const double vectors =
        2.0 * (double)s->deck->eigen.count + 4.0 + 3.0 * (double)(s->deck->train.checkpoint_keep + 1);

    return 8.0 * (double)s->n * vectors + 40.0 * (double)s->deck->density.bins + 1e6;
}

static hsgd_status place(study_state *s, double bytes, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    for (int rank = 0; rank < s->comm->ranks; rank++) {
        struct {
            char host[64];
            int local;
        } where = {.local = s->comm->local_rank};

        memcpy(where.host, s->comm->host, sizeof where.host);
        HSGD_TRY(hsgd_comm_broadcast(s->comm, rank, sizeof where, &where, err));
        hsgd_progress_say(s->progress, "rank %d: host %s, local rank %d, device %s (%s), %d threads, %.1f MiB", rank,
                          where.host, where.local, s->backend->ops->name, s->backend->instruction_set,
                          s->setup->threads, bytes / 1048576.0);
    }
done:
    return st;
}

hsgd_status study_dry_run(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const double disk = free_disk(s->deck->run.output), need = disk_needed(s);
    /* weights, gradient and sums of every worker for 8 columns, and the Krylov basis spread over the ranks */
    const double per_rank = (double)s->n * (8.0 * 10.0 + (double)s->backend->workers * 8.0 * 32.0) +
                            (double)hsgd_space_rows(s->spread) * 8.0 * (double)s->deck->eigen.max_products;
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);

    hsgd_progress_say(s->progress, "%s", s->deck_text);
    hsgd_progress_say(s->progress, "parameters: %lld", (long long)s->n);
    hsgd_progress_say(s->progress, "studied samples: %lld", (long long)s->sample_count);
    HSGD_TRY(place(s, per_rank, err));
    for (int i = 0; i < s->deck->stages; i++) {
        const char *what;
        const double passes = work(s, s->deck->stage[i], &what);

        hsgd_progress_say(s->progress, "stage %-10s about %.3g forward passes of work (%s)",
                          hsgd_stage_name(s->deck->stage[i]), passes, what);
    }
    hsgd_progress_say(s->progress, "disk: about %.1f MiB of results, %.1f MiB free", need / 1048576.0,
                      disk / 1048576.0);
    HSGD_CHECK(disk < 0.0 || need < disk, HSGD_ERR_IO, err,
               "run.output: the results need about %.1f MiB but only %.1f MiB are free; name another folder",
               need / 1048576.0, disk / 1048576.0);
    HSGD_CHECK(
        per_rank * s->comm->local_ranks < memory, HSGD_ERR_MEMORY, err,
        "memory: %d ranks of this node need %.1f MiB, it has %.1f MiB; lower eigen.max_products or use more nodes",
        s->comm->local_ranks, per_rank * s->comm->local_ranks / 1048576.0, memory / 1048576.0);
    hsgd_progress_say(s->progress, "dry run: the deck is valid; nothing was written");
done:
    return hsgd_comm_agree(s->comm, st, err);
}
