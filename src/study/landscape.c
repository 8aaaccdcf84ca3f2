/* src/study/landscape.c - the loss along directions through the weights, and on a plane of two of them. */
#include "study/directions.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    study_state *s;
    hsgd_objective *objective;
    hsgd_vector *point;      /* the weights looked at */
    double *shifted;         /* [n] scratch */
    double *x, *y;           /* coordinates: [points], [plane_points] */
    double *loss, *accuracy; /* results of the curve or plane at hand */
    int64_t done, total;     /* evaluations, for progress */
} landscape;

static void linspace(double range, int64_t points, double *x)
{
    for (int64_t i = 0; i < points; i++) {
        x[i] = points == 1 ? 0.0 : -range + 2.0 * range * (double)i / (double)(points - 1);
    }
}

/* Loss and accuracy at weights + a d + b e (e may be NULL).  Collective. */
static hsgd_status at(landscape *l, double a, const double *d, double b, const double *e, double *loss,
                      double *accuracy, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = l->s;
    hsgd_loss value;
    int64_t stop = s->setup->stop != NULL && s->setup->stop(s->setup->stop_context);

    HSGD_TRY(hsgd_comm_max(s->comm, HSGD_TYPE_I64, 1, &stop, err));
    HSGD_CHECK(!stop, HSGD_STOPPED, err, "landscape: stopped; run again with --restart");
    for (int64_t i = 0; i < s->n; i++) {
        l->shifted[i] = s->weights[i] + a * d[i] + (e != NULL ? b * e[i] : 0.0);
    }
    HSGD_TRY(hsgd_vector_set_full(l->point, l->shifted, err));
    HSGD_TRY(hsgd_objective_evaluate(l->objective, l->point, s->samples, s->sample_count, NULL, &value, err));
    *loss = value.loss;
    *accuracy = value.accuracy;
    l->done++;
    hsgd_progress_update(s->progress, "landscape", l->done, l->total, "%lld of %lld points", (long long)l->done,
                         (long long)l->total);
done:
    return st;
}

static hsgd_status curve(landscape *l, hsgd_store *store, const char *name, const double *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t points = l->s->deck->landscape.points;
    char alpha[96], loss[96], accuracy[96], vector[96];

    (void)snprintf(alpha, sizeof alpha, "/%s/alpha", name);
    (void)snprintf(loss, sizeof loss, "/%s/loss", name);
    (void)snprintf(accuracy, sizeof accuracy, "/%s/accuracy", name);
    (void)snprintf(vector, sizeof vector, "/%s/vector", name);
    for (int64_t i = 0; i < points; i++) {
        HSGD_TRY(at(l, l->x[i], d, 0.0, NULL, &l->loss[i], &l->accuracy[i], err));
    }
    HSGD_TRY(
        output_vector(store, alpha, "1", "multiple of the direction added to the weights", points, NULL, l->x, err));
    HSGD_TRY(
        output_vector(store, loss, "nats", "mean cross-entropy of the studied samples", points, alpha, l->loss, err));
    HSGD_TRY(output_vector(store, accuracy, "1", "share of the studied samples classified correctly", points, alpha,
                           l->accuracy, err));
    HSGD_TRY(output_vector(store, vector, "1", "the direction, normalised as landscape.normalize says", l->s->n,
                           "/parameter", d, err));
done:
    return st;
}

static hsgd_status plane(landscape *l, hsgd_store *store, const double *dx, const double *dy, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t points = l->s->deck->landscape.plane_points;

    for (int64_t j = 0; j < points; j++) {
        for (int64_t i = 0; i < points; i++) {
            const int64_t place = j * points + i;

            HSGD_TRY(at(l, l->y[i], dx, l->y[j], dy, &l->loss[place], &l->accuracy[place], err));
        }
    }
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
    l->total = lines->count * points + (axes->count == 2 ? edge * edge : 0);
    l->shifted = malloc((size_t)s->n * sizeof(double));
    l->x = malloc((size_t)points * sizeof(double));
    l->y = malloc((size_t)edge * sizeof(double));
    l->loss = malloc(most * sizeof(double));
    l->accuracy = malloc(most * sizeof(double));
    if (l->shifted == NULL || l->x == NULL || l->y == NULL || l->loss == NULL || l->accuracy == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the landscape; lower landscape.plane_points");
    } else {
        linspace(s->deck->landscape.range, points, l->x);
        linspace(s->deck->landscape.plane_range, edge, l->y);
        st = hsgd_network_objective_create(&problem, s->replicated, s->sample_count, &l->objective, err);
    }
    if (st == HSGD_OK) {
        st = hsgd_vector_create(s->replicated, 1, &l->point, err);
    }
    return hsgd_comm_agree(s->comm, st, err);
}

static void destroy(landscape *l)
{
    hsgd_vector_destroy(&l->point);
    hsgd_objective_destroy(&l->objective);
    free(l->shifted);
    free(l->x);
    free(l->y);
    free(l->loss);
    free(l->accuracy);
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
    HSGD_TRY(begin(s, &store, err));
    for (int64_t i = 0; i < lines.count; i++) {
        HSGD_TRY(curve(&l, store, lines.name[i], lines.vector[i], err));
    }
    if (axes.count == 2) {
        HSGD_TRY(plane(&l, store, axes.vector[0], axes.vector[1], err));
    }
    HSGD_TRY(hsgd_store_commit(&store, true, err));
    summary_add(s, "  landscape: %lld points on %lld lines%s", (long long)l.total, (long long)lines.count,
                axes.count == 2 ? " and a plane" : "");
done:
    hsgd_store_abandon(&store);
    destroy(&l);
    directions_clear(&axes);
    directions_clear(&lines);
    return st;
}
