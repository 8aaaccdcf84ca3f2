/* src/study/internal.h - what the stages share: the study's state and the ways to files and operators. */
#pragma once
#include "curvature/block.h"
#include "curvature/curvature.h"
#include "data/dataset.h"
#include "model/layers.h"
#include "solve/snapshot.h"
#include "store/lock.h"
#include "store/store.h"
#include "study/study.h"

enum { STUDY_MAX_PARAMETERS = 128, STUDY_SUMMARY = 16384, STUDY_PATH = HSGD_TEXT + 64 };

/* How much the stages that run will handle; 0 where a stage does not run. */
typedef struct {
    int64_t vectors;   /* rows of hvp.vectors */
    int64_t pairs;     /* eigenpairs that the deck's keys give: of the eigen stage, or of one that others need first */
    int64_t curvature; /* eigenpairs measured along the training */
    int64_t probes;    /* of the density: density.probes, the rows of density.start, or density.accuracy's choice */
    int64_t steps;     /* of each: density.steps, or density.accuracy's choice */
    int64_t lines, axes;  /* directions of the landscape's lines and of its plane */
    bool eigenvectors;    /* the landscape looks along some */
    bool deflates;        /* the density takes some out */
    bool searches;        /* these are searched for first: no valid eigen.h5 is known */
    int64_t file_vectors; /* rows of landscape.vectors, where it looks along some */
} study_extent;

/* What results name apart: a layer with parameters, or its weight or bias alone. */
typedef struct {
    char name[sizeof((hsgd_parameter *)0)->layer + 8];
    int64_t first, count; /* of the parameters' list */
} study_part;

typedef struct study_metrics study_metrics; /* metrics.h */
#define METRICS_FILE "metrics.jsonl"

/* Where time went (times.h): of the stages, by their numbers, then set-up and all. */
enum { TIMES_SETUP = HSGD_STAGES, TIMES_STUDY, TIMES_PARTS };
enum { TIMES_ALL, TIMES_COMPUTE, TIMES_COMMUNICATION, TIMES_FILES, TIMES_KINDS };
typedef struct {
    bool known;
    double mean[TIMES_KINDS], most[TIMES_KINDS]; /* seconds, over the ranks */
} study_time;
typedef struct {
    double all, communication, files; /* seconds; only differences have a meaning */
} study_clock;

typedef struct {
    const hsgd_study_setup *setup; /* as main gave it, but for `stop` */
    const hsgd_study_setup *asked; /* as main gave it */
    const hsgd_deck *deck;
    hsgd_comm *comm;
    hsgd_progress *progress;
    hsgd_dataset *data;
    hsgd_network *network;
    hsgd_backend *backend;
    char device[64], libraries[96], instruction_set[32]; /* of rank 0's backend: what files tell */
    char binding[16];                                    /* of rank 0's threads */
    int threads;                                         /* of rank 0 */
    int sharers; /* ranks that compute on this rank's device, or with this node's memory */
    hsgd_space *replicated, *spread;
    hsgd_space *studied; /* of the operator and all that solvers hold: `spread`, or one of m rows */
    int64_t n;           /* parameters */
    study_extent extent;
    int groups; /* of ranks that the density's probes are dealt to; see probe_groups.h */

    hsgd_parameter *parameters; /* [parameter_count]: names and shapes in flat order */
    int64_t parameter_count;

    study_part *part;  /* [parts]: what hessian.layers selects, in flat order */
    hsgd_range *range; /* [parts]: its places */
    int64_t parts, m;  /* m: rows of the operator studied, of all parts together */

    double *weights; /* [n], canonical order, the same on all ranks; rounded to the working precision */
    char weights_sha256[65];
    char weights_source[STUDY_PATH];

    int64_t *samples; /* [sample_count]: the studied samples, numbers within hessian.split */
    int64_t sample_count;
    char samples_sha256[65];

    const hsgd_keeper *keeper; /* of the stage that runs, where it keeps its state; else NULL */

    hsgd_lock *lock; /* of run.output; rank 0's, else NULL */
    char *deck_text; /* resolved */
    char summary[STUDY_SUMMARY];
    size_t summary_length;
    double started;
    study_metrics *metrics; /* of rank 0; NULL: nothing is written */
    study_time time[TIMES_PARTS];
} study_state;

/* ---- setup.c ---- */
hsgd_status study_open(study_state *s, hsgd_error *err);
void study_close(study_state *s);
/* Set the studied weights (copied, rounded to the working precision) and their hash.  Local. */
hsgd_status study_set_weights(study_state *s, const double *weights, const char *source, hsgd_error *err);
/* Find the weights of a study without training.  Collective. */
hsgd_status study_find_weights(study_state *s, hsgd_error *err);
/* Read a weights file into weights [n], after a look at its manifest where it has one.  Collective.  Errors:
 * HSGD_ERR_DATA. */
hsgd_status study_read_weights(study_state *s, const char *file, double *weights, hsgd_error *err);
/* Read model.init: `default` draws, anything else is a weights file.  Collective. */
hsgd_status study_initial_weights(study_state *s, double *weights, char *source, size_t size, hsgd_error *err);

/* ---- operators.c ---- */
hsgd_problem study_problem(const study_state *s, const hsgd_backend *backend, bool test_split);
hsgd_problem study_studied(const study_state *s, const hsgd_backend *backend);
/* What files call the operator, made or not: "hessian" or "gauss-newton", also of a block.  Local. */
const char *study_operator_name(const study_state *s);
/* The operator of the curvature stages, on s->studied: the block that hessian.layers selects.  Collective. */
hsgd_status study_operator(study_state *s, hsgd_linop **out, hsgd_error *err);
/* The same over the samples index[count] (copied) of hessian.split in place of all that are studied.  Collective. */
hsgd_status study_operator_over(study_state *s, const int64_t *index, int64_t count, hsgd_linop **out, hsgd_error *err);
/* Exact trace of each part that is studied, parts [s->parts], over the samples index[count] at the studied weights.
 * told: as hsgd_problem's, with s; may be NULL.  Collective.  Errors: as hsgd_exact_trace. */
hsgd_status study_exact_trace(study_state *s, const int64_t *index, int64_t count,
                              void (*told)(void *s, int64_t done, int64_t groups), double *parts, hsgd_error *err);
/* Measure the noise floor of the products and refuse a tolerance, of the deck's `key`, below it: it could not be met, and is
 * told before the work.  Collective.  Errors: HSGD_ERR_NUMERIC, those of hsgd_eigen_noise. */
hsgd_status study_check_noise(const study_state *s, hsgd_linop *op, const char *key, double tolerance, double *noise,
                              hsgd_error *err);
/* Loss, accuracy and gradient [n] (host) of the studied samples at the studied weights.  Collective. */
hsgd_status study_gradient(study_state *s, double *gradient, hsgd_loss *loss, hsgd_error *err);

/* ---- device.c ---- */
/* Make the backend and the spaces of parameter vectors, and find out what the ranks compute on.  Collective. */
hsgd_status study_open_device(study_state *s, hsgd_error *err);
/* Put the images of both splits where the device reads them, for as long as the study lasts.  Collective. */
hsgd_status study_hold_images(study_state *s, hsgd_error *err);

/* ---- memory.c ---- */
/* Bytes that this rank takes at most, roughly, without kept base passes: in host memory and on its device (0 where backend
 * memory is host memory); images stand once a node, and once on each device. */
typedef struct {
    double host, device, images;
    double nodes;     /* of host: what the density's nodes take */
    double operator_; /* of host or device: what the operator of the curvature stages takes */
    double kept;      /* what keeping all base passes of this rank's samples would take, in the stage that has most */
} study_memory;
hsgd_status study_memory_need(const study_state *s, study_memory *need, hsgd_error *err);
/* Vectors of the studied rows that a kept state of a stage holds at most.  Local. */
double study_state_vectors(const study_state *s);
/* Bytes of free memory where the backend has its own; of the host where that is it.  0 where it cannot be known. */
hsgd_status study_memory_free(const study_state *s, double *free, double *total, hsgd_error *err);
/* Does it fit into what is free on this rank's device (host memory: always), and would all base passes be kept?  Local. */
hsgd_status study_memory_fits(const study_state *s, bool *fits, bool *kept, hsgd_error *err);
/* Refuse a study that the device of some rank cannot hold.  Collective.  Errors: HSGD_ERR_MEMORY, with figures. */
hsgd_status study_memory_check(study_state *s, hsgd_error *err);
/* Bytes for kept base passes: what the deck allows, and what is free beside the rest.  Local. */
hsgd_status study_cache_bytes(const study_state *s, size_t *bytes, hsgd_error *err);

/* ---- output.c ---- */
/* Begin a result file of `stage`, with provenance and the hash of all it depends on.  Collective. */
hsgd_status output_begin(study_state *s, const char *name, hsgd_stage stage, hsgd_store **out, hsgd_error *err);
/* Attribute with the hash of output_stage_hash. */
#define OUTPUT_HASH "stage_hash"
/* Attribute of a result that ended the run with exit 4: a restart does not take it for finished. */
#define OUTPUT_FAILED "failed"
/* The hash of all that the results of `stage` depend on: keys, the content of the file they name, weights, samples,
 * data.  Collective. */
hsgd_status output_stage_hash(study_state *s, hsgd_stage stage, char hex[65], hsgd_error *err);
/* The same but for the weights: what the deck alone says.  Collective. */
hsgd_status output_deck_hash(study_state *s, hsgd_stage stage, char hex[65], hsgd_error *err);
/* What there is of a stage's results: nothing, what belongs to these keys, weights and samples, what belongs to others, what
 * ended a run with exit 4, or a file that cannot be read. */
typedef enum { OUTPUT_ABSENT, OUTPUT_VALID, OUTPUT_STALE, OUTPUT_OF_FAILURE, OUTPUT_DAMAGED } output_found;
/* Look into the stage's file.  *unread: why it is damaged.  Collective.  Errors: HSGD_ERR_IO, HSGD_ERR_DATA. */
hsgd_status output_look(study_state *s, const char *name, hsgd_stage stage, output_found *out, hsgd_error *unread,
                        hsgd_error *err);
/* The same for a stage that will run unless its file is valid: where it is not, what becomes of it is told. */
hsgd_status output_judge(study_state *s, const char *name, hsgd_stage stage, output_found *found, hsgd_error *err);
/* With --restart: is the stage's file there and still valid?  As output_judge. */
hsgd_status output_finished(study_state *s, const char *name, hsgd_stage stage, bool *finished, hsgd_error *err);
/* A dataset of real numbers: scalar (rank 0), vector, matrix; axis may be NULL.  Collective. */
hsgd_status output_scalar(hsgd_store *store, const char *path, const char *units, const char *description, double value,
                          hsgd_error *err);
hsgd_status output_vector(hsgd_store *store, const char *path, const char *units, const char *description,
                          int64_t count, const char *axis, const double *data, hsgd_error *err);
hsgd_status output_matrix(hsgd_store *store, const char *path, const char *units, const char *description, int64_t rows,
                          int64_t columns, const char *row_axis, const char *column_axis, const double *data,
                          hsgd_error *err);
hsgd_status output_integers(hsgd_store *store, const char *path, const char *units, const char *description,
                            int64_t count, const char *axis, const int64_t *data, hsgd_error *err);
/* The columns of a vector on s->spread or s->studied as the rows of a dataset [columns, n], 0 outside hessian.layers; each
 * rank writes its own part.  Collective. */
hsgd_status output_rows(study_state *s, hsgd_store *store, const hsgd_dataset_spec *spec, const hsgd_vector *x,
                        hsgd_error *err);
/* An axis 0, 1, 2, ... (or 1, 2, 3, ...) as integers.  Collective. */
hsgd_status output_axis(hsgd_store *store, const char *path, const char *description, int64_t count, int64_t first,
                        hsgd_error *err);
/* Path of a file in run.output.  Local. */
void output_path(const study_state *s, const char *name, char *path, size_t size);
/* Refuse an output folder that holds results unless --restart was given.  Collective. */
hsgd_status output_check_folder(study_state *s, hsgd_error *err);
/* Take run.output for this run alone, for as long as s->lock is held, and tidy it.  Collective. */
hsgd_status output_take(study_state *s, hsgd_error *err);
/* `st`, but HSGD_ERR_IO where that is success or a stop and run.output is another run's by now.  Collective after success or
 * a stop, else local. */
hsgd_status output_check_lock(study_state *s, hsgd_status st, hsgd_error *err);

/* ---- summary.c ---- */
void summary_add(study_state *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
hsgd_status study_dry_run(study_state *s, hsgd_error *err);

/* ---- one file a stage ---- */
/* Points of a landscape in one sweep: images are prepared once for all, and on the CPU the first outputs of four points
 * of a group, 0.5 MB for the default network, still wait in the second-level cache. */
enum { STUDY_POINTS = 4 };
typedef hsgd_status (*study_stage)(study_state *s, hsgd_error *err);
hsgd_status stage_train(study_state *s, hsgd_error *err);
hsgd_status stage_evaluate(study_state *s, hsgd_error *err);
hsgd_status stage_verify(study_state *s, hsgd_error *err);
hsgd_status stage_hvp(study_state *s, hsgd_error *err);
hsgd_status stage_eigen(study_state *s, hsgd_error *err);
hsgd_status stage_density(study_state *s, hsgd_error *err);
hsgd_status stage_trace(study_state *s, hsgd_error *err);
hsgd_status stage_landscape(study_state *s, hsgd_error *err);

/* ---- study.c ---- */
/* Run a stage with a keeper of its own in s->keeper: also one that another stage needs first.  Collective. */
hsgd_status study_run_kept(study_state *s, hsgd_stage stage, hsgd_error *err);

/* ---- input.c ---- */
/* Dataset `path` [count, n] of `file` into *rows [count][n], which becomes the caller's.  Collective.
 * Errors: HSGD_ERR_DATA (missing, wrong shape), HSGD_ERR_MEMORY. */
hsgd_status study_read_rows(study_state *s, const char *file, const char *path, double **rows, int64_t *count,
                            hsgd_error *err);

/* ---- eigen.c ---- */
/* The eigenvectors [*count][n] (*count largest first) of eigen.h5, which the eigen stage makes first where it is
 * missing, stale, or of a search that failed; *vectors becomes the caller's.  Collective. */
hsgd_status study_eigenvectors(study_state *s, double **vectors, int64_t *count, hsgd_error *err);
