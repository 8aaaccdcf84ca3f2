/* src/deck/check.c - what keys ask of one another, and the texts that hold more than one value. */
#include "base/nearest.h"
#include "deck/schema.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUOTED = 64,
    DIRECTIONS = 64, /* the most that one study takes */
};

static const char BLANKS[] = " \t";
static const char *const STAGE_NAMES[HSGD_STAGES] = {
    [HSGD_STAGE_TRAIN] = "train", [HSGD_STAGE_EVALUATE] = "evaluate",   [HSGD_STAGE_VERIFY] = "verify",
    [HSGD_STAGE_HVP] = "hvp",     [HSGD_STAGE_EIGEN] = "eigen",         [HSGD_STAGE_DENSITY] = "density",
    [HSGD_STAGE_TRACE] = "trace", [HSGD_STAGE_LANDSCAPE] = "landscape",
};

const char *hsgd_stage_name(hsgd_stage stage)
{
    return STAGE_NAMES[stage];
}

/* Refuse section.key, at the place where it was set. */
#define REFUSE(r, err, section, key, ...)                                                                              \
    hsgd_resolution_refuse((r), hsgd_schema_find((section), (key)), (err), __VA_ARGS__)

static bool is_none(const char *text)
{
    return text[0] == '\0' || strcmp(text, "none") == 0;
}

/* The whole of `text` as a finite number. */
static bool to_number(const char *text, double *out)
{
    char *end = NULL;

    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out) && strspn(text, "0123456789+-.eE") == strlen(text);
}

static hsgd_status refuse_stage(const hsgd_resolution *r, const char *word, hsgd_error *err)
{
    const char *near = hsgd_nearest(word, STAGE_NAMES, HSGD_STAGES);
    char quoted[QUOTED];

    hsgd_quote(word, quoted, sizeof quoted);
    if (near != NULL) {
        return REFUSE(r, err, "run", "stages", "unknown stage '%s'; did you mean '%s'?", quoted, near);
    }
    return REFUSE(
        r, err, "run", "stages",
        "unknown stage '%s'; name some of train evaluate verify hvp eigen density trace landscape, with blanks "
        "between them",
        quoted);
}

static hsgd_status check_stages(const hsgd_resolution *r, hsgd_error *err)
{
    hsgd_deck *deck = r->deck;
    bool asked[HSGD_STAGES] = {false};
    char copy[HSGD_TEXT], *rest = copy, *word;

    (void)snprintf(copy, sizeof copy, "%s", deck->run.stages);
    while ((word = strtok_r(rest, BLANKS, &rest)) != NULL) {
        int stage = 0;

        while (stage < HSGD_STAGES && strcmp(word, STAGE_NAMES[stage]) != 0) {
            stage++;
        }
        if (stage == HSGD_STAGES) {
            return refuse_stage(r, word, err);
        }
        if (asked[stage]) {
            return REFUSE(r, err, "run", "stages", "'%s' stands there twice; leave one", word);
        }
        asked[stage] = true;
    }
    deck->stages = 0;
    for (int stage = 0; stage < HSGD_STAGES; stage++) {
        if (asked[stage]) {
            deck->stage[deck->stages++] = (hsgd_stage)stage;
        }
    }
    if (deck->stages == 0) {
        return REFUSE(r, err, "run", "stages", "no stage; name at least one");
    }
    if (asked[HSGD_STAGE_HVP] && is_none(deck->hvp.vectors)) {
        return REFUSE(r, err, "run", "stages",
                      "the stage hvp needs hvp.vectors; name an HDF5 file with /vectors, or leave hvp out");
    }
    return HSGD_OK;
}

static hsgd_status check_normalize(const hsgd_resolution *r, hsgd_error *err)
{
    hsgd_deck *deck = r->deck;
    char copy[HSGD_TEXT], *rest = copy;
    double mean = 0.0, deviation = 1.0;

    (void)snprintf(copy, sizeof copy, "%s", deck->data.normalize);
    if (strcmp(copy, "none") != 0) {
        const char *first = strtok_r(rest, BLANKS, &rest), *second = strtok_r(rest, BLANKS, &rest);

        if (first == NULL || second == NULL || strtok_r(rest, BLANKS, &rest) != NULL || !to_number(first, &mean) ||
            !to_number(second, &deviation) || fabs(mean) > 1e6 || !(deviation >= 1e-6 && deviation <= 1e6)) {
            char quoted[QUOTED];

            hsgd_quote(deck->data.normalize, quoted, sizeof quoted);
            return REFUSE(r, err, "data", "normalize",
                          "'%s' is not a mean and a standard deviation > 0 (from 1e-6 to 1e6); write none, or two "
                          "numbers such as 0.1307 0.3081",
                          quoted);
        }
    }
    deck->mean = (float)mean;
    deck->deviation = (float)deviation;
    return HSGD_OK;
}

static hsgd_status check_schedule(const hsgd_resolution *r, hsgd_error *err)
{
    static const char *const names[] = {"constant", "step", "cosine"};
    hsgd_deck *deck = r->deck;
    char copy[HSGD_TEXT], quoted[QUOTED], *rest = copy;
    const char *name, *epochs, *factor;
    bool good;

    (void)snprintf(copy, sizeof copy, "%s", deck->train.schedule);
    name = strtok_r(rest, BLANKS, &rest);
    epochs = strtok_r(rest, BLANKS, &rest);
    factor = strtok_r(rest, BLANKS, &rest);
    deck->schedule = 0;
    while (name != NULL && deck->schedule < 3 && strcmp(name, names[deck->schedule]) != 0) {
        deck->schedule++;
    }
    if (deck->schedule == 1) {
        good = epochs != NULL && factor != NULL && to_number(epochs, &deck->schedule_epochs) &&
               to_number(factor, &deck->schedule_factor) && deck->schedule_epochs > 0.0 && deck->schedule_factor > 0.0;
    } else {
        good = name != NULL && deck->schedule < 3 && epochs == NULL;
    }
    if (!good || strtok_r(rest, BLANKS, &rest) != NULL) {
        const char *near = deck->schedule == 3 ? hsgd_nearest(name, names, 3) : NULL;

        hsgd_quote(deck->train.schedule, quoted, sizeof quoted);
        return REFUSE(r, err, "train", "schedule",
                      "'%s' is no schedule; write constant, cosine, or step EPOCHS FACTOR (both > 0), such as step 2 "
                      "0.5%s%s%s",
                      quoted, near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                      near != NULL ? "'?" : "");
    }
    return HSGD_OK;
}

static hsgd_status check_train(const hsgd_resolution *r, hsgd_error *err)
{
    if (r->deck->train.nesterov && !(r->deck->train.momentum > 0.0 && r->deck->train.dampening == 0.0)) {
        return REFUSE(r, err, "train", "nesterov",
                      "needs train.momentum > 0 and train.dampening = 0, which are %g and %g; set them, or nesterov "
                      "to false",
                      r->deck->train.momentum, r->deck->train.dampening);
    }
    return check_schedule(r, err);
}

/* "512M" in bytes, or -1 where it is none. */
static int64_t to_bytes(const char *text)
{
    static const char units[] = "KMG";
    const size_t digits = strspn(text, "0123456789");
    const char *unit = text[digits] != '\0' ? strchr(units, text[digits]) : NULL;
    const int shift = unit != NULL ? 10 * (int)(unit - units + 1) : 0;
    int64_t value = 0;

    if (digits == 0 || digits > 18 || text[digits + (unit != NULL)] != '\0') { /* 18 digits stay below 2^63 */
        return -1;
    }
    for (size_t i = 0; i < digits; i++) {
        value = 10 * value + (text[i] - '0');
    }
    return value <= INT64_MAX >> shift ? value * (INT64_C(1) << shift) : -1;
}

static hsgd_status check_cache(const hsgd_resolution *r, hsgd_error *err)
{
    const char *text = r->deck->hessian.cache;
    char quoted[QUOTED];

    r->deck->cache_bytes = to_bytes(text);
    if (r->deck->cache_bytes < 0 && strcmp(text, "auto") != 0) {
        hsgd_quote(text, quoted, sizeof quoted);
        return REFUSE(r, err, "hessian", "cache",
                      "'%s' is no number of bytes; write auto, 0, or one such as 512M or 2G", quoted);
    }
    return HSGD_OK;
}

/* Against the samples that there are: see study/resample.c. */
static hsgd_status check_resample(const hsgd_resolution *r, hsgd_error *err)
{
    const int64_t groups = r->deck->hessian.resample, samples = r->deck->hessian.samples;

    if (groups == 1) {
        return REFUSE(r, err, "hessian", "resample", "with one group left out none are left; use 2 or more, or 0");
    }
    if (groups > samples && samples > 0 && is_none(r->deck->hessian.indices)) {
        return REFUSE(r, err, "hessian", "resample", "%lld groups of %lld studied samples; use at most as many",
                      (long long)groups, (long long)samples);
    }
    return HSGD_OK;
}

static hsgd_status check_eigen(const hsgd_resolution *r, hsgd_error *err)
{
    enum { POWER = 1, MAGNITUDE = 3 };

    if (r->deck->eigen.method == POWER && r->deck->eigen.which != MAGNITUDE) {
        return REFUSE(r, err, "eigen", "method",
                      "power finds eigenvalues by magnitude alone; set eigen.which = magnitude, or eigen.method = "
                      "lanczos");
    }
    return HSGD_OK;
}

static hsgd_status check_density(const hsgd_resolution *r, hsgd_error *err)
{
    if (r->deck->density.accuracy > 0.0 && !is_none(r->deck->density.start)) {
        return REFUSE(r, err, "density", "accuracy",
                      "%g holds for start vectors drawn on the sphere, not for those of density.start; leave one away",
                      r->deck->density.accuracy);
    }
    return HSGD_OK;
}

/* Is `word` a direction: eigenvector, random, gradient, or eigenvectorJ or fileJ with a J from 1 to 9999? */
static bool is_direction(const char *word)
{
    static const char *const plain[] = {"eigenvector", "random", "gradient"}, *const numbered[] = {"eigenvector",
                                                                                                   "file"};

    for (int i = 0; i < 3; i++) {
        if (strcmp(word, plain[i]) == 0) {
            return true;
        }
    }
    for (int i = 0; i < 2; i++) {
        const size_t length = strlen(numbered[i]);

        if (strncmp(word, numbered[i], length) == 0) {
            const char *row = word + length;
            const size_t digits = strspn(row, "0123456789");

            return digits >= 1 && digits <= 4 && row[digits] == '\0' && row[0] != '0';
        }
    }
    return false;
}

/* The directions of landscape.<key>, whose value is `text`, into words[DIRECTIONS], which point into copy[HSGD_TEXT]. */
static hsgd_status check_directions(const hsgd_resolution *r, const char *key, const char *text, char *copy,
                                    const char **words, int *count, hsgd_error *err)
{
    char quoted[QUOTED], *rest = copy, *word;

    *count = 0;
    (void)snprintf(copy, HSGD_TEXT, "%s", text);
    while ((word = strtok_r(rest, BLANKS, &rest)) != NULL) {
        hsgd_quote(word, quoted, sizeof quoted);
        if (!is_direction(word)) {
            static const char *const known[] = {"eigenvector", "random", "gradient"};
            const char *near = hsgd_nearest(word, known, 3);

            return REFUSE(r, err, "landscape", key,
                          "unknown direction '%s'; name eigenvector, random, gradient, eigenvectorJ or fileJ (J from 1 "
                          "on)%s%s%s",
                          quoted, near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                          near != NULL ? "'?" : "");
        }
        if (strncmp(word, "file", 4) == 0 && is_none(r->deck->landscape.vectors)) {
            return REFUSE(r, err, "landscape", key,
                          "'%s' needs landscape.vectors; name an HDF5 file with /vectors, or leave '%s' out", quoted,
                          quoted);
        }
        for (int i = 0; i < *count; i++) {
            if (strcmp(words[i], word) == 0) {
                return REFUSE(r, err, "landscape", key, "'%s' stands there twice; leave one", quoted);
            }
        }
        if (*count == DIRECTIONS) {
            return REFUSE(r, err, "landscape", key, "more than %d directions; leave some out", DIRECTIONS);
        }
        words[(*count)++] = word;
    }
    return HSGD_OK;
}

static hsgd_status check_landscape(const hsgd_resolution *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char copy[HSGD_TEXT];
    const char *words[DIRECTIONS];
    int lines = 0, axes = 0;
    bool same;

    if (!is_none(r->deck->landscape.directions)) {
        HSGD_TRY(check_directions(r, "directions", r->deck->landscape.directions, copy, words, &lines, err));
    }
    if (!is_none(r->deck->landscape.plane)) {
        HSGD_TRY(check_directions(r, "plane", r->deck->landscape.plane, copy, words, &axes, err));
        if (axes != 2) {
            return REFUSE(r, err, "landscape", "plane", "%d direction%s; write none, or two different ones", axes,
                          axes == 1 ? "" : "s");
        }
        same = strncmp(words[0], "eigenvector", 11) == 0 && strncmp(words[1], "eigenvector", 11) == 0 &&
               strcmp(words[0][11] != '\0' ? words[0] + 11 : "1", words[1][11] != '\0' ? words[1] + 11 : "1") == 0;
        if (same) {
            return REFUSE(r, err, "landscape", "plane", "'%s' and '%s' are one direction; name two", words[0],
                          words[1]);
        }
    }
    if (lines + axes == 0) {
        return REFUSE(r, err, "landscape", "directions",
                      "no direction and no plane; name a direction, or leave the stage landscape out");
    }
done:
    return st;
}

hsgd_status hsgd_deck_check(const hsgd_resolution *r, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_TRY(check_stages(r, err));
    HSGD_TRY(check_normalize(r, err));
    HSGD_TRY(check_train(r, err));
    HSGD_TRY(check_cache(r, err));
    HSGD_TRY(check_resample(r, err));
    HSGD_TRY(check_eigen(r, err));
    HSGD_TRY(check_density(r, err));
    HSGD_TRY(check_landscape(r, err));
done:
    return st;
}
