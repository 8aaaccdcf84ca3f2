/* src/deck/deck.h - the resolved input deck: every key of every section, typed and checked. */
#pragma once
#include "base/error.h"
#include "base/sum.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    HSGD_TEXT = 1024,           /* longest text value, with its final 0 */
    HSGD_KEYS = 96,             /* room for the rows of the schema, which asserts that they fit */
    HSGD_DECK_LONGEST = 1 << 20 /* bytes of a deck: a larger file is not one */
};

typedef enum {
    HSGD_STAGE_TRAIN,
    HSGD_STAGE_EVALUATE,
    HSGD_STAGE_VERIFY,
    HSGD_STAGE_HVP,
    HSGD_STAGE_EIGEN,
    HSGD_STAGE_DENSITY,
    HSGD_STAGE_TRACE,
    HSGD_STAGE_LANDSCAPE,
    HSGD_STAGES
} hsgd_stage;

/* One member a key, in the schema's order; the schema says what each means.  Enumerated values hold the position of the
 * word in the key's list of choices, which stands beside them. */
typedef struct {
    struct {
        char stages[HSGD_TEXT], output[HSGD_TEXT];
        int64_t seed, reduction;               /* reproducible fast */
        double time_limit;                     /* seconds; -1: auto */
        int64_t stall_timeout, snapshot_every; /* seconds */
    } run;
    struct {
        char dir[HSGD_TEXT];
        int64_t train_samples, test_samples;
        char normalize[HSGD_TEXT];
    } data;
    struct {
        char layers[HSGD_TEXT], init[HSGD_TEXT];
        int64_t precision; /* single double */
    } model;
    struct {
        int64_t epochs, steps, batch;
        double lr;
        char schedule[HSGD_TEXT];
        double momentum, dampening, weight_decay;
        bool nesterov, shuffle;
        int64_t log_every, checkpoint_every, checkpoint_keep, evaluate_every, curvature_every, curvature_count;
        double curvature_tolerance;
    } train;
    struct {
        int64_t split /* train test */, samples, first;
        char indices[HSGD_TEXT];
        int64_t operator_ /* hessian gauss-newton */; /* `operator` is a keyword of C++ */
        char layers[HSGD_TEXT];
        int64_t batch;
        char cache[HSGD_TEXT];
        int64_t resample;
    } hessian;
    struct {
        char vectors[HSGD_TEXT];
    } hvp;
    struct {
        int64_t method /* lanczos power */, count, which /* both largest smallest magnitude */;
        double tolerance;
        int64_t max_products, basis, block;
        bool confirm, require_convergence;
    } eigen;
    struct {
        int64_t probes, steps, block, groups, distribution /* rademacher sphere */, bins;
        double sigma_squared, overhead;
        char start[HSGD_TEXT];
        double accuracy;
        bool deflate;
    } density;
    struct {
        int64_t method /* auto exact hutchinson hutch++ */, probes;
        double tolerance;
    } trace;
    struct {
        char directions[HSGD_TEXT];
        int64_t points;
        double range;
        char plane[HSGD_TEXT];
        int64_t plane_points;
        double plane_range;
        int64_t normalize; /* vector filter */
        char vectors[HSGD_TEXT];
    } landscape;
    struct {
        int64_t backend /* auto cpu cuda */, threads, allreduce /* auto mpi nccl */;
        bool tf32;
    } device;

    /* parsed from the texts above */
    hsgd_stage stage[HSGD_STAGES]; /* the stages asked for, in the order of execution (the enum's) */
    int stages;
    float mean, deviation; /* data.normalize; 0 and 1 where none */
    int64_t schedule;      /* constant step cosine */
    double schedule_epochs, schedule_factor;
    int64_t cache_bytes;       /* hessian.cache: -1 auto, else bytes */
    bool explicit_[HSGD_KEYS]; /* by row of the schema: see hsgd_deck_is_explicit */
} hsgd_deck;

/* The text of the file `path`, checked to be one that a deck may be (regular, at most HSGD_DECK_LONGEST bytes, no NUL
 * byte), into a new string (caller frees).  Local.  Errors: HSGD_ERR_USAGE, HSGD_ERR_MEMORY. */
hsgd_status hsgd_deck_read(const char *path, char **text, hsgd_error *err);

/* Resolve a deck: defaults, then the INI file `path` (NULL: none), then `count` words "section.key=value".
 * Local (where there are ranks, rank 0 reads the file, and all resolve its text with hsgd_deck_resolve_text).
 * Errors: HSGD_ERR_USAGE with file and line (or the word), the nearest known name, the allowed range;
 * HSGD_ERR_DATA is never returned: an unreadable deck is usage too. */
hsgd_status hsgd_deck_resolve(const char *path, const char *const *words, int count, hsgd_deck *deck, hsgd_error *err);

/* The same from a text in memory (NULL: none), named `name` in messages.  Local. */
hsgd_status hsgd_deck_resolve_text(const char *name, const char *text, const char *const *words, int count,
                                   hsgd_deck *deck, hsgd_error *err);

/* Did the user ask for this value of section.key: by a word, or by a file whose value is not the default?  A file that
 * spells out the defaults, as inputs/mnist.ini and every resolved deck do, thus means the same as no file.  Local. */
bool hsgd_deck_is_explicit(const hsgd_deck *deck, const char *section, const char *key);

/* The resolved deck as an INI text that resolves to the same deck, into a new string (caller frees).  Local.
 * Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_deck_format(const hsgd_deck *deck, char **text, hsgd_error *err);

/* The lines "section.key = value" of all keys that the results of `stage` depend on, in schema order (keys that may
 * change on restart are left out), into a new string (caller frees): hashed into each file.  What a file named in the
 * deck holds is not in them, nor are the images and weights: their own hashes stand beside.
 * Local.  Errors: HSGD_ERR_MEMORY. */
hsgd_status hsgd_deck_stage_keys(const hsgd_deck *deck, hsgd_stage stage, char **text, hsgd_error *err);

/* Every key with default, range and help, for --help.  Local. */
void hsgd_deck_help(FILE *out);

/* The stage's word in run.stages.  Local. */
const char *hsgd_stage_name(hsgd_stage stage);
