/* src/deck/derived.c - what follows from the texts of a deck, and its keys checked against each other. */
#include "base/nearest.h"
#include "deck/parse.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MOST = 64 };

static const char *const stage_names[HSGD_STAGES] = {"train", "evaluate", "verify", "hvp",
                                                     "eigen", "density",  "trace",  "landscape"};

const char *hsgd_stage_name(hsgd_stage stage)
{
    return stage_names[stage];
}

/* The words of `text` (copied into copy[HSGD_TEXT]), at most WORDS_MOST; returns how many there are. */
static int split(const char *text, char *copy, char **words)
{
    char *rest = copy, *word;
    int count = 0;

    (void)snprintf(copy, HSGD_TEXT, "%s", text);
    while (count < WORDS_MOST && (word = strtok_r(rest, " \t", &rest)) != NULL) {
        words[count++] = word;
    }
    return count;
}

static bool number(const char *word, double *x)
{
    char *end;

    *x = strtod(word, &end);
    return end != word && *end == '\0' && isfinite(*x) && strpbrk(word, "xXnN") == NULL;
}

static hsgd_status derive_stages(hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char copy[HSGD_TEXT], *words[WORDS_MOST];
    const int count = split(deck->run.stages, copy, words);
    bool wanted[HSGD_STAGES] = {false};

    HSGD_CHECK(count > 0, HSGD_ERR_USAGE, err, "run.stages: empty; name at least one stage, such as train");
    for (int i = 0; i < count; i++) {
        int stage = 0;

        while (stage < HSGD_STAGES && strcmp(words[i], stage_names[stage]) != 0) {
            stage++;
        }
        if (stage == HSGD_STAGES) {
            const char *near = hsgd_nearest(words[i], stage_names, HSGD_STAGES);

            return hsgd_error_set(err, HSGD_ERR_USAGE, "run.stages: unknown stage '%.60s'; %s%s%s", words[i],
                                  near != NULL ? "did you mean '" : "see --help", near != NULL ? near : "",
                                  near != NULL ? "'?" : "");
        }
        HSGD_CHECK(!wanted[stage], HSGD_ERR_USAGE, err, "run.stages: '%s' twice; name it once", words[i]);
        wanted[stage] = true;
    }
    for (int stage = 0; stage < HSGD_STAGES; stage++) {
        if (wanted[stage]) {
            deck->stage[deck->stages++] = (hsgd_stage)stage;
        }
    }
    HSGD_CHECK(!wanted[HSGD_STAGE_HVP] || (deck->hvp.vectors[0] != '\0' && strcmp(deck->hvp.vectors, "none") != 0),
               HSGD_ERR_USAGE, err,
               "hvp.vectors: the stage hvp needs an HDF5 file with /vectors; set hvp.vectors=FILE");
done:
    return st;
}

static hsgd_status derive_normalize(hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char copy[HSGD_TEXT], *words[WORDS_MOST];
    const int count = split(deck->data.normalize, copy, words);
    double mean = 0.0, deviation = 1.0;

    if (count != 1 || strcmp(words[0], "none") != 0) {
        HSGD_CHECK(count == 2 && number(words[0], &mean) && number(words[1], &deviation) && deviation > 0.0,
                   HSGD_ERR_USAGE, err,
                   "data.normalize = %.80s: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081",
                   deck->data.normalize);
    }
    deck->mean = (float)mean;
    deck->deviation = (float)deviation;
done:
    return st;
}

static hsgd_status derive_schedule(hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char copy[HSGD_TEXT], *words[WORDS_MOST];
    const int count = split(deck->train.schedule, copy, words);
    const bool step = count == 3 && strcmp(words[0], "step") == 0 && number(words[1], &deck->schedule_epochs) &&
                      number(words[2], &deck->schedule_factor) && deck->schedule_epochs > 0.0 &&
                      deck->schedule_factor > 0.0;
    const bool cosine = count == 1 && strcmp(words[0], "cosine") == 0;

    HSGD_CHECK(step || cosine || (count == 1 && strcmp(words[0], "constant") == 0), HSGD_ERR_USAGE, err,
               "train.schedule = %.80s: allowed: constant; step EPOCHS FACTOR (both > 0); cosine",
               deck->train.schedule);
    deck->schedule = step ? 1 : cosine ? 2 : 0;
    HSGD_CHECK(!deck->train.nesterov || (deck->train.momentum > 0.0 && deck->train.dampening == 0.0), HSGD_ERR_USAGE,
               err, "train.nesterov = true: needs train.momentum > 0 and train.dampening = 0");
done:
    return st;
}

static hsgd_status derive_cache(hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const char *text = deck->hessian.cache;
    char *end;
    double bytes, unit = 1.0;

    if (strcmp(text, "auto") == 0) {
        deck->cache_bytes = -1;
        return HSGD_OK;
    }
    bytes = strtod(text, &end);
    if (*end == 'K' || *end == 'M' || *end == 'G') {
        unit = *end == 'K' ? 1024.0 : *end == 'M' ? 1048576.0 : 1073741824.0;
        end++;
    }
    HSGD_CHECK(end != text && *end == '\0' && isdigit((unsigned char)text[0]) && bytes * unit >= 0.0 &&
                   bytes * unit < 9e18,
               HSGD_ERR_USAGE, err, "hessian.cache = %.80s: allowed: auto, or bytes such as 0, 512M or 2G", text);
    deck->cache_bytes = (int64_t)(bytes * unit);
done:
    return st;
}

/* eigenvector, eigenvectorJ, random, gradient, fileJ with J from 1? */
static bool is_direction(const char *word)
{
    const char *rest = strncmp(word, "eigenvector", 11) == 0 ? word + 11
                       : strncmp(word, "file", 4) == 0       ? word + 4
                                                             : NULL;

    if (rest == NULL) {
        return strcmp(word, "random") == 0 || strcmp(word, "gradient") == 0;
    }
    if (*rest == '\0') {
        return word[0] == 'e';
    }
    return *rest >= '1' && *rest <= '9' && strlen(rest) < 7 && rest[strspn(rest, "0123456789")] == '\0';
}

static bool same_eigenvector(const char *a, const char *b)
{
    return strncmp(a, "eigenvector", 11) == 0 && strncmp(b, "eigenvector", 11) == 0 &&
           strcmp(a[11] != '\0' ? a + 11 : "1", b[11] != '\0' ? b + 11 : "1") == 0;
}

static hsgd_status check_directions(const hsgd_deck *deck, const char *key, const char *text, int least, int most,
                                    hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static const char *const known[] = {"eigenvector", "random", "gradient", "file1"};
    char copy[HSGD_TEXT], *words[WORDS_MOST];
    const int count = split(text, copy, words);

    HSGD_CHECK(count >= least && count <= most, HSGD_ERR_USAGE, err,
               "landscape.%s = %.80s: %d directions; give %s, such as eigenvector random", key, text, count,
               most == 2 ? "'none' or two" : "at least one (and at most 64)");
    for (int i = 0; i < count; i++) {
        if (!is_direction(words[i])) {
            const char *near = hsgd_nearest(words[i], known, 4);

            return hsgd_error_set(err, HSGD_ERR_USAGE, "landscape.%s: unknown direction '%.60s'; %s%s%s", key, words[i],
                                  near != NULL ? "did you mean '" : "see --help", near != NULL ? near : "",
                                  near != NULL ? "'?" : "");
        }
        HSGD_CHECK(strncmp(words[i], "file", 4) != 0 ||
                       (deck->landscape.vectors[0] != '\0' && strcmp(deck->landscape.vectors, "none") != 0),
                   HSGD_ERR_USAGE, err, "landscape.%s: '%s' needs landscape.vectors, an HDF5 file with /vectors", key,
                   words[i]);
        for (int j = 0; j < i; j++) {
            HSGD_CHECK(strcmp(words[i], words[j]) != 0, HSGD_ERR_USAGE, err, "landscape.%s: '%s' twice; name it once",
                       key, words[i]);
        }
    }
    HSGD_CHECK(most > 2 || !same_eigenvector(words[0], words[1]), HSGD_ERR_USAGE, err,
               "landscape.%s: '%s' and '%s' are one direction; name two", key, words[0], words[1]);
done:
    return st;
}

hsgd_status parse_derived(hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    HSGD_CHECK(deck->run.output[0] != '\0', HSGD_ERR_USAGE, err, "run.output: empty; name a folder for the results");
    HSGD_CHECK(deck->model.layers[0] != '\0', HSGD_ERR_USAGE, err, "model.layers: empty; see inputs/mnist.ini");
    HSGD_CHECK(deck->model.init[0] != '\0', HSGD_ERR_USAGE, err, "model.init: empty; 'default' or a weights file");
    HSGD_CHECK(deck->train.momentum < 1.0, HSGD_ERR_USAGE, err, "train.momentum = 1: must be less than 1");
    HSGD_CHECK(deck->eigen.method != 1 || deck->eigen.which == 3, HSGD_ERR_USAGE, err,
               "eigen.method = power finds eigenvalues by magnitude only; set eigen.which=magnitude, or "
               "eigen.method=lanczos");
    HSGD_TRY(derive_stages(deck, err));
    HSGD_TRY(derive_normalize(deck, err));
    HSGD_TRY(derive_schedule(deck, err));
    HSGD_TRY(derive_cache(deck, err));
    HSGD_TRY(check_directions(deck, "directions", deck->landscape.directions, 1, WORDS_MOST, err));
    if (strcmp(deck->landscape.plane, "none") != 0) {
        HSGD_TRY(check_directions(deck, "plane", deck->landscape.plane, 2, 2, err));
    }
done:
    return st;
}
