/* src/study/landscape.c - the loss along directions through the weights, and on a plane of two of them. */
#include "base/hash.h"
#include "study/directions.h"
#include "study/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    study_state *s;
    const direction_list *lines, *axes; /* borrowed */
    hsgd_losses *losses;
    double *shifted;         /* [STUDY_POINTS][n]: the weights looked at */
    double *x, *y;           /* coordinates: [points], [plane_points] */
    double *loss, *accuracy; /* results of the curve or plane that is written */
    double *value;           /* [total][2]: loss and accuracy of all points, lines first, the plane's row by row */
    int64_t done, total;     /* points */
    int64_t from;            /* done before this run */
} landscape;

static void linspace(double range, int64_t points, double *x)
{
    for (int64_t i = 0; i < points; i++) {
        x[i] = points == 1 ? 0.0 : -range + 2.0 * range * (double)i / (double)(points - 1);
    }
}

/* Where point number `index` is: the weights + a d + b e (e may be NULL). */
typedef struct {
    double a, b;
    const double *d, *e;
} place;

static place place_of(const landscape *l, int64_t index)
{
    const int64_t points = l->s->deck->landscape.points, edge = l->s->deck->landscape.plane_points;
    const int64_t inside = index - l->lines->count * points; /* the plane */

    if (inside < 0) {
        return (place){.a = l->x[index % points], .d = l->lines->vector[index / points]};
    }
    return (place){
        .a = l->y[inside % edge], .b = l->y[inside / edge], .d = l->axes->vector[0], .e = l->axes->vector[1]};
}

/* Loss and accuracy of the next points.  Collective. */
static hsgd_status look(landscape *l, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_state *s = l->s;
    const int64_t count = l->total - l->done < STUDY_POINTS ? l->total - l->done : STUDY_POINTS;
    hsgd_loss loss[STUDY_POINTS];

    for (int64_t j = 0; j < count; j++) {
        const place at = place_of(l, l->done + j);
        double *to = l->shifted + j * s->n;

        for (int64_t i = 0; i < s->n; i++) {
            to[i] = s->weights[i] + at.a * at.d[i] + (at.e != NULL ? at.b * at.e[i] : 0.0);
        }
    }
    HSGD_TRY(hsgd_losses_at(l->losses, count, l->shifted, loss, err));
    for (int64_t j = 0; j < count; j++, l->done++) {
        l->value[2 * l->done] = loss[j].loss;
        l->value[2 * l->done + 1] = loss[j].accuracy;
    }
    hsgd_progress_update(s->progress, "landscape", "points", l->done, l->total, "%lld of %lld points",
                         (long long)l->done, (long long)l->total);
    metrics_add_progress(s, metrics_progress(s, "landscape", "points", l->done, l->total));
done:
    return st;
}

/* A number that tells these directions from others.  The stage's hash stands for what they are made from, but on another
 * device the same deck may give others. */
static hsgd_status fingerprint(const landscape *l, int64_t *print, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const void *parts[2 * DIRECTIONS_MOST];
    size_t bytes[2 * DIRECTIONS_MOST];
    char hex[65];
    int count = 0;

    for (int64_t i = 0; i < l->lines->count; i++) {
        parts[count++] = l->lines->vector[i];
    }
    for (int64_t i = 0; i < l->axes->count; i++) {
        parts[count++] = l->axes->vector[i];
    }
    for (int i = 0; i < count; i++) {
        bytes[i] = (size_t)l->s->n * sizeof(double);
    }
    HSGD_TRY(hsgd_sha256(count, parts, bytes, hex, err));
    hex[15] = '\0'; /* 60 bits */
    *print = strtoll(hex, NULL, 16);
done:
    return st;
}

/* Take over the points of a run that was interrupted. */
static hsgd_status recall(landscape *l, int64_t print, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_snapshot kept = {0};
    bool found = false;

    HSGD_TRY(hsgd_keeper_recall(l->s->keeper, l->s->spread, &kept, &found, err));
    if (found && kept.integers == 1 && kept.integer[0] == print && kept.reals <= 2 * l->total) {
        memcpy(l->value, kept.real, (size_t)kept.reals * sizeof *kept.real);
        l->done = l->from = kept.reals / 2;
    } else if (found) {
        hsgd_progress_say(l->s->progress, "landscape: the directions have other bits now; all points are looked at "
                                          "again");
    }
done:
    hsgd_snapshot_clear(&kept);
    return st;
}

static hsgd_status look_at_all(landscape *l, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t print = 0;
    bool due = false;

    HSGD_TRY(hsgd_comm_agree(l->s->comm, fingerprint(l, &print, err), err));
    HSGD_TRY(recall(l, print, err));
    while (l->done < l->total) {
        HSGD_TRY(look(l, err));
        HSGD_TRY(hsgd_keeper_due(l->s->keeper, &due, err));
        if (due) {
            const hsgd_snapshot state = {.integers = 1, .integer = &print, .reals = 2 * l->done, .real = l->value};

            HSGD_TRY(hsgd_keeper_keep(l->s->keeper, &state, err));
        }
    }
done:
    return st;
}

/* The results of `count` points from `first` on, as they are written. */
static void split(landscape *l, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        l->loss[i] = l->value[2 * (first + i)];
        l->accuracy[i] = l->value[2 * (first + i) + 1];
    }
}

static hsgd_status write_curve(landscape *l, hsgd_store *store, int64_t line, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t points = l->s->deck->landscape.points;
    const char *name = l->lines->name[line];
    char alpha[96], loss[96], accuracy[96], vector[96];

    (void)snprintf(alpha, sizeof alpha, "/%s/alpha", name);
    (void)snprintf(loss, sizeof loss, "/%s/loss", name);
    (void)snprintf(accuracy, sizeof accuracy, "/%s/accuracy", name);
    (void)snprintf(vector, sizeof vector, "/%s/vector", name);
    split(l, line * points, points);
    HSGD_TRY(
        output_vector(store, alpha, "1", "multiple of the direction added to the weights", points, NULL, l->x, err));
    HSGD_TRY(
        output_vector(store, loss, "nats", "mean cross-entropy of the studied samples", points, alpha, l->loss, err));
    HSGD_TRY(output_vector(store, accuracy, "1", "share of the studied samples classified correctly", points, alpha,
                           l->accuracy, err));
    HSGD_TRY(output_vector(store, vector, "1", "the direction, normalised as landscape.normalize says", l->s->n,
                           "/parameter", l->lines->vector[line], err));
done:
    return st;
}

static hsgd_status write_plane(landscape *l, hsgd_store *store, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t points = l->s->deck->landscape.plane_points;

    split(l, l->total - points * points, points * points);
    HSGD_TRY(output_vector(store, "/plane/x", "1", "multiple of the first direction", points, NULL, l->y, err));
    HSGD_TRY(output_vector(store, "/plane/y", "1", "multiple of the second direction", points, NULL, l->y, err));
    HSGD_TRY(output_matrix(store, "/plane/loss", "nats", "mean cross-entropy of the studied samples, [y, x]", points,
                           points, "/plane/y", "/plane/x", l->loss, err));
    HSGD_TRY(output_matrix(store, "/plane/accuracy", "1", "share of the studied samples classified correctly, [y, x]",
                           points, points, "/plane/y", "/plane/x", l->accuracy, err));
done:
    return st;
}

static hsgd_status create(study_state *s, landscape *l, const direction_list *lines, const direction_list *axes,
                          hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t points = s->deck->landscape.points, edge = s->deck->landscape.plane_points;
    const size_t most = (size_t)(points > edge * edge ? points : edge * edge);
    const hsgd_problem problem = study_studied(s, s->backend);

    l->s = s;
    l->lines = lines;
    l->axes = axes;
    l->total = lines->count * points + (axes->count == 2 ? edge * edge : 0);
    l->shifted = malloc((size_t)(STUDY_POINTS * s->n) * sizeof(double));
    l->x = malloc((size_t)points * sizeof(double));
    l->y = malloc((size_t)edge * sizeof(double));
    l->loss = malloc(most * sizeof(double));
    l->accuracy = malloc(most * sizeof(double));
    l->value = malloc((size_t)(2 * l->total + 1) * sizeof(double));
    if (l->shifted == NULL || l->x == NULL || l->y == NULL || l->loss == NULL || l->accuracy == NULL ||
        l->value == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the landscape; lower landscape.plane_points");
    } else {
        linspace(s->deck->landscape.range, points, l->x);
        linspace(s->deck->landscape.plane_range, edge, l->y);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(hsgd_losses_create(&problem, s->samples, s->sample_count,
                                l->total < STUDY_POINTS ? l->total : STUDY_POINTS, &l->losses, err));
done:
    return st;
}

static void destroy(landscape *l)
{
    hsgd_losses_destroy(&l->losses);
    free(l->shifted);
    free(l->x);
    free(l->y);
    free(l->loss);
    free(l->accuracy);
    free(l->value);
}

static hsgd_status begin(study_state *s, hsgd_store **store, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(output_begin(s, "landscape.h5", HSGD_STAGE_LANDSCAPE, store, err));
    HSGD_TRY(hsgd_store_attribute_text(*store, "/", "normalize",
                                       s->deck->landscape.normalize == 1 ? "filter" : "vector", err));
    HSGD_TRY(hsgd_store_attribute_text(*store, "/", "plane", s->deck->landscape.plane, err));
    HSGD_TRY(hsgd_store_attribute_i64(*store, "/", "samples", s->sample_count, err));
    HSGD_TRY(output_axis(*store, "/parameter", "place in the flat parameter vector", s->n, 0, err));
done:
    return st;
}

static void tell_result(const landscape *l)
{
    hsgd_json *line = metrics_event(l->s, "result", "landscape");
    double low = l->value[0], high = l->value[0];

    for (int64_t i = 0; i < l->total; i++) {
        low = fmin(low, l->value[2 * i]);
        high = fmax(high, l->value[2 * i]);
    }
    hsgd_json_integer(line, "points", l->total);
    hsgd_json_real(line, "lowest_loss", low);
    hsgd_json_real(line, "highest_loss", high);
    metrics_add(l->s, line);
}

hsgd_status stage_landscape(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    direction_list lines = {0}, axes = {0};
    landscape l = {0};
    hsgd_store *store = NULL;

    HSGD_TRY(directions_make(s, s->deck->landscape.directions, &lines, err));
    if (strcmp(s->deck->landscape.plane, "none") != 0) {
        HSGD_TRY(directions_make(s, s->deck->landscape.plane, &axes, err));
    }
    HSGD_TRY(create(s, &l, &lines, &axes, err));
    HSGD_TRY(look_at_all(&l, err));
    HSGD_TRY(begin(s, &store, err));
    for (int64_t i = 0; i < lines.count; i++) {
        HSGD_TRY(write_curve(&l, store, i, err));
    }
    if (axes.count == 2) {
        HSGD_TRY(write_plane(&l, store, err));
    }
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
    tell_result(&l);
    summary_add(s, "  landscape: %lld points on %lld lines%s", (long long)l.total, (long long)lines.count,
                axes.count == 2 ? " and a plane" : "");
done:
    hsgd_store_abandon(&store);
    destroy(&l);
    directions_clear(&axes);
    directions_clear(&lines);
    return st;
}
