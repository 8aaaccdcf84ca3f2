/* src/study/selection.c - see selection.h. */
#include "study/selection.h"
#include "base/nearest.h"
#include "deck/schema.h"
#include <stdlib.h>
#include <string.h>

enum { QUOTED = 64, NAME = sizeof((study_part *)0)->name };

static const char SEPARATORS[] = " \t,";

bool selection_is_block(const study_state *s)
{
    return s->m < s->n;
}

hsgd_selection selection_of(const study_state *s)
{
    return (hsgd_selection){.ranges = s->range, .count = s->parts};
}

void selection_names(const study_state *s, char names[SELECTION_NAMES])
{
    size_t used = 0;

    names[0] = '\0';
    for (int64_t i = 0; i < s->parts && used < SELECTION_NAMES; i++) {
        used += (size_t)snprintf(names + used, SELECTION_NAMES - used, "%s%s", i > 0 ? " " : "", s->part[i].name);
    }
}

/* ---- from names to rows ---- */

static void name_parameter(const hsgd_parameter *p, char name[NAME])
{
    (void)snprintf(name, NAME, "%s.%s", p->layer, p->part);
}

static hsgd_status refuse(const study_state *s, const char *word, hsgd_error *err)
{
    const char *layer[STUDY_MAX_PARAMETERS], *near;
    char quoted[QUOTED], names[SELECTION_NAMES] = "";
    size_t layers = 0, used = 0;

    for (int64_t i = 0; i < s->parameter_count && layers < STUDY_MAX_PARAMETERS; i += 2) {
        layer[layers++] = s->parameters[i].layer;
    }
    for (size_t i = 0; i < layers && used < sizeof names / 2; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? " " : "", layer[i]);
    }
    near = hsgd_nearest(word, layer, layers);
    hsgd_quote(word, quoted, sizeof quoted);
    return hsgd_error_set(err, HSGD_ERR_USAGE,
                          "hessian.layers: no layer '%s' with parameters; %s%s%sthis network has %.512s (or one of "
                          "their parameters, as %s.weight or %s.bias)",
                          quoted, near != NULL ? "did you mean '" : "", near != NULL ? near : "",
                          near != NULL ? "'? " : "", names, layer[0], layer[0]);
}

/* Mark what `word` names among chosen [parameter_count]. */
static hsgd_status choose(const study_state *s, const char *word, bool *chosen, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool known = false;
    char name[NAME];

    for (int64_t i = 0; i < s->parameter_count; i++) {
        const hsgd_parameter *p = &s->parameters[i];

        name_parameter(p, name);
        if (strcmp(word, p->layer) == 0 || strcmp(word, name) == 0) {
            HSGD_CHECK(!chosen[i], HSGD_ERR_USAGE, err,
                       "hessian.layers: '%s' names what stands there already; leave "
                       "one",
                       word);
            chosen[i] = known = true;
        }
    }
    HSGD_TRY(known ? HSGD_OK : refuse(s, word, err));
done:
    return st;
}

static hsgd_status choose_all(const study_state *s, bool *chosen, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char copy[HSGD_TEXT], *rest = copy, *word;
    int64_t words = 0;

    if (strcmp(s->deck->hessian.layers, "all") == 0) {
        for (int64_t i = 0; i < s->parameter_count; i++) {
            chosen[i] = true;
        }
        return HSGD_OK;
    }
    (void)snprintf(copy, sizeof copy, "%s", s->deck->hessian.layers);
    while ((word = strtok_r(rest, SEPARATORS, &rest)) != NULL) {
        HSGD_TRY(choose(s, word, chosen, err));
        words++;
    }
    HSGD_CHECK(words > 0, HSGD_ERR_USAGE, err, "hessian.layers: no name; write all, or some of the network's layers");
done:
    return st;
}

/* Both parameters of a layer make one part: they stand one behind the other. */
static void add_parts(study_state *s, const bool *chosen)
{
    for (int64_t i = 0; i < s->parameter_count; i += 2) {
        const hsgd_parameter *weight = &s->parameters[i], *bias = weight + 1, *one = chosen[i] ? weight : bias;
        study_part *part = &s->part[s->parts];
        hsgd_range *range = &s->range[s->parts];

        if (!chosen[i] && !chosen[i + 1]) {
            continue;
        }
        part->first = chosen[i] ? i : i + 1;
        part->count = chosen[i] + chosen[i + 1];
        if (part->count == 2) {
            (void)snprintf(part->name, sizeof part->name, "%s", weight->layer);
            *range = (hsgd_range){.first = weight->offset, .count = weight->count + bias->count};
        } else {
            name_parameter(one, part->name);
            *range = (hsgd_range){.first = one->offset, .count = one->count};
        }
        s->m += range->count;
        s->parts++;
    }
}

hsgd_status selection_resolve(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t layers = (size_t)s->parameter_count / 2;
    bool *chosen = calloc((size_t)s->parameter_count + 1, sizeof *chosen);

    s->part = calloc(layers + 1, sizeof *s->part);
    s->range = calloc(layers + 1, sizeof *s->range);
    HSGD_CHECK(chosen != NULL && s->part != NULL && s->range != NULL, HSGD_ERR_MEMORY, err,
               "memory: cannot hold the selection of layers");
    HSGD_TRY(choose_all(s, chosen, err));
    add_parts(s, chosen);
done:
    free(chosen);
    return st;
}

hsgd_status selection_open_space(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    if (!selection_is_block(s)) {
        s->studied = s->spread;
        return HSGD_OK;
    }
    HSGD_TRY(hsgd_space_create(s->m, HSGD_SPREAD, (hsgd_reduction)s->deck->run.reduction, s->comm, s->backend,
                               &s->studied, err));
done:
    return st;
}

void selection_close_space(study_state *s)
{
    if (s->studied != s->spread) {
        hsgd_space_destroy(&s->studied);
    }
    s->studied = NULL;
}

void selection_clear(study_state *s)
{
    free(s->range);
    free(s->part);
}

/* ---- vectors ---- */

void selection_confine(const study_state *s, double *x)
{
    int64_t end = 0;

    for (int64_t i = 0; i < s->parts; i++) {
        memset(x + end, 0, (size_t)(s->range[i].first - end) * sizeof *x);
        end = s->range[i].first + s->range[i].count;
    }
    memset(x + end, 0, (size_t)(s->n - end) * sizeof *x);
}

hsgd_status selection_embed(study_state *s, const hsgd_vector *x, hsgd_vector **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_selection selection = selection_of(s);
    double *small = malloc((size_t)s->m * sizeof *small), *full = malloc((size_t)s->n * sizeof *full);

    *out = NULL;
    if (small == NULL || full == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold a vector of %lld parameters", (long long)s->n);
    } else {
        st = hsgd_vector_create(s->spread, x->columns, out, err);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    for (int64_t j = 0; j < x->columns; j++) {
        const hsgd_vector from = hsgd_vector_view(x, j, 1);
        hsgd_vector to = hsgd_vector_view(*out, j, 1);

        HSGD_TRY(hsgd_vector_gather(&from, small, err));
        hsgd_selection_embed(&selection, 1, s->n, small, full);
        st = hsgd_vector_set_full(&to, full, err);
        HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    }
done:
    if (st != HSGD_OK) {
        hsgd_vector_destroy(out);
    }
    free(full);
    free(small);
    return st;
}

hsgd_status selection_read_rows(study_state *s, const char *file, const char *path, double **rows, int64_t *count,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hsgd_selection selection = selection_of(s);

    HSGD_TRY(study_read_rows(s, file, path, rows, count, err));
    hsgd_selection_restrict(&selection, *count, s->n, *rows, *rows);
done:
    return st;
}
