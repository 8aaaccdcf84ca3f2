/* src/study/directions.c - eigenvectors, random vectors, the gradient and vectors from a file, at unit norm. */
#include "study/directions.h"
#include "base/random.h"
#include "study/selection.h"
#include "study/small_vectors.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void directions_clear(direction_list *list)
{
    for (int64_t i = 0; i < list->count; i++) {
        free(list->vector[i]);
    }
    list->count = 0;
}

/* Row `wanted` (from 1) out of rows[count][n] into d. */
static hsgd_status pick(const study_state *s, const char *word, const double *rows, int64_t count, int64_t wanted,
                        double *d, hsgd_error *err)
{
    if (wanted < 1 || wanted > count) {
        return hsgd_error_set(err, strncmp(word, "file", 4) == 0 ? HSGD_ERR_DATA : HSGD_ERR_USAGE,
                              "landscape.directions: '%s' asks for row %lld, but there are %lld; name one of them",
                              word, (long long)wanted, (long long)count);
    }
    memcpy(d, rows + (wanted - 1) * s->n, (size_t)s->n * sizeof *d);
    return HSGD_OK;
}

static hsgd_status fill(study_state *s, const char *word, double *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *rows = NULL;
    int64_t count = 0;
    hsgd_loss loss;

    if (strncmp(word, "eigenvector", 11) == 0) {
        HSGD_TRY(study_eigenvectors(s, &rows, &count, err));
        HSGD_TRY(pick(s, word, rows, count, word[11] != '\0' ? strtoll(word + 11, NULL, 10) : 1, d, err));
    } else if (strncmp(word, "file", 4) == 0) {
        HSGD_TRY(study_read_rows(s, s->deck->landscape.vectors, "/vectors", &rows, &count, err));
        HSGD_TRY(pick(s, word, rows, count, strtoll(word + 4, NULL, 10), d, err));
    } else if (strcmp(word, "gradient") == 0) {
        HSGD_TRY(study_gradient(s, d, &loss, err));
    } else {
        const hsgd_random stream = hsgd_random_stream((uint64_t)s->deck->run.seed, HSGD_RANDOM_LANDSCAPE, 0);

        for (int64_t i = 0; i < s->n; i++) {
            d[i] = hsgd_random_normal(&stream, (uint64_t)i);
        }
    }
done:
    free(rows);
    return st;
}

/* Each output channel or row at its weights' norm; every bias entry is a filter of its own.
 * Source: Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018, section 4. */
static void normalize_filters(const study_state *s, double *d)
{
    for (int64_t p = 0; p < s->parameter_count; p++) {
        const hsgd_parameter *parameter = &s->parameters[p];
        const int64_t filters = parameter->dims[0], size = parameter->count / filters;

        for (int64_t f = 0; f < filters; f++) {
            const int64_t place = parameter->offset + f * size;

            small_rescale(size, d + place, small_norm(size, s->weights + place));
        }
    }
}

static hsgd_status make(study_state *s, const char *word, double *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(fill(s, word, d, err));
    selection_confine(s, d);
    HSGD_CHECK(small_norm(s->n, d) > 0.0 && isfinite(small_norm(s->n, d)), HSGD_ERR_NUMERIC, err,
               "landscape: direction '%s' is zero or not finite%s; leave it away", word,
               selection_is_block(s) ? " within hessian.layers" : "");
    if (s->deck->landscape.normalize == 1) {
        normalize_filters(s, d);
    } else {
        small_rescale(s->n, d, 1.0);
    }
done:
    return st;
}

hsgd_status directions_make(study_state *s, const char *words, direction_list *list, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char copy[HSGD_TEXT], *rest = copy, *word;

    (void)snprintf(copy, sizeof copy, "%s", words);
    while ((word = strtok_r(rest, " \t", &rest)) != NULL) {
        double *d;

        HSGD_CHECK(list->count < DIRECTIONS_MOST, HSGD_ERR_USAGE, err, "landscape: more than %d directions",
                   DIRECTIONS_MOST);
        d = malloc((size_t)s->n * sizeof *d);
        (void)snprintf(list->name[list->count], sizeof list->name[0], "%s", word);
        list->vector[list->count++] = d; /* the list's from here on, also where another rank has no memory */
        HSGD_TRY(hsgd_comm_agree(s->comm, d != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
        HSGD_TRY(make(s, word, d, err));
    }
done:
    return st;
}
