/* src/deck/schema.c - the table of all keys: type, range, default, help, and which results depend on them. */
#include "deck/schema.h"
#include "base/nearest.h"
#include <stddef.h>
#include <string.h>

/* Upper limit of counts that have no nearer one: the product of two of them stays below 2^63. */
#define MANY INT64_C(1000000000)

enum { MOST_THREADS = 4096, LONGEST_EDGE = 10000, SECTIONS = 16 };

/* Sets of stages. */
enum {
    NONE = 0,
    TRAIN = 1 << HSGD_STAGE_TRAIN,
    EVALUATE = 1 << HSGD_STAGE_EVALUATE,
    VERIFY = 1 << HSGD_STAGE_VERIFY,
    HVP = 1 << HSGD_STAGE_HVP,
    EIGEN = 1 << HSGD_STAGE_EIGEN,
    DENSITY = 1 << HSGD_STAGE_DENSITY,
    TRACE = 1 << HSGD_STAGE_TRACE,
    LANDSCAPE = 1 << HSGD_STAGE_LANDSCAPE,
    CURVATURE = HVP | EIGEN | DENSITY | TRACE | LANDSCAPE,
    DRAWN = TRAIN | VERIFY | EIGEN | DENSITY | TRACE | LANDSCAPE, /* use random numbers */
    ALL = (1 << HSGD_STAGES) - 1
};

static const char *const REDUCTIONS[] = {"reproducible", "fast", NULL};
static const char *const PRECISIONS[] = {"single", "double", NULL};
static const char *const SPLITS[] = {"train", "test", NULL};
static const char *const OPERATORS[] = {"hessian", "gauss-newton", NULL};
static const char *const EIGEN_METHODS[] = {"lanczos", "power", NULL};
static const char *const ENDS[] = {"both", "largest", "smallest", "magnitude", NULL};
static const char *const DISTRIBUTIONS[] = {"rademacher", "sphere", NULL};
static const char *const TRACE_METHODS[] = {"auto", "exact", "hutchinson", "hutch++", NULL};
static const char *const NORMALIZATIONS[] = {"vector", "filter", NULL};
static const char *const BACKENDS[] = {"auto", "cpu", "cuda", NULL};
static const char *const ALLREDUCES[] = {"auto", "mpi", "nccl", NULL};

/* The head of a row: its name and place.  AS is for the one key whose member has another name. */
#define AS(in, name, member) .section = #in, .key = #name, .offset = offsetof(hsgd_deck, in.member)
#define AT(in, name)         AS(in, name, name)
/* Its type and range: whole numbers low..high; reals of the range named, ends left out where it says above or below. */
#define WHOLE(low_, high_) .type = HSGD_KEY_INTEGER, .least = (low_), .most = (high_)
#define POSITIVE           .type = HSGD_KEY_REAL, .low = 0.0, .above = true, .high = 1e30
#define NOT_NEGATIVE       .type = HSGD_KEY_REAL, .low = 0.0, .high = 1e30
#define UP_TO_ONE          .type = HSGD_KEY_REAL, .low = 0.0, .high = 1.0
#define BELOW_ONE          .type = HSGD_KEY_REAL, .low = 0.0, .high = 1.0, .below = true
#define ABOVE_UP_TO_ONE    .type = HSGD_KEY_REAL, .low = 0.0, .above = true, .high = 1.0
#define YES_NO             .type = HSGD_KEY_BOOL
#define ONE_OF(words)      .type = HSGD_KEY_CHOICE, .choices = (words)
#define WORDS(form_)       .type = HSGD_KEY_TEXT, .least = 1, .form = (form_)
#define MAYBE_EMPTY(form_) .type = HSGD_KEY_TEXT, .least = 0, .form = (form_)
/* What depends on it. */
#define RESULTS_OF(set) .stages = (set)
#define MAY_CHANGE(set) .stages = (set), .may_change = true

/* On whom no result depends: keys that name a place or say how to run; and those that choose images, first weights or
 * samples where what they chose is hashed itself, beside the keys. */
static const hsgd_key SCHEMA[] = {
    {AT(run, stages), WORDS("STAGE ..."), .initial = "train evaluate verify eigen density trace landscape",
     MAY_CHANGE(NONE),
     .help = "what to do: train evaluate verify hvp eigen density trace landscape; always done in this order"},
    {AT(run, output), WORDS("FOLDER"), .initial = "results/mnist", MAY_CHANGE(NONE),
     .help = "where all results go; refused where it holds results, unless --restart"},
    {AT(run, seed), WHOLE(0, INT64_MAX), .initial = "1", RESULTS_OF(DRAWN),
     .help = "of every random number: weights, order of samples, probes, start vectors"},
    {AT(run, reduction), ONE_OF(REDUCTIONS), .initial = "reproducible", RESULTS_OF(ALL),
     .help = "reproducible: the same bits for every number of ranks and threads; fast: plain sums"},
    {AT(run, time_limit), .type = HSGD_KEY_SECONDS, .low = 0.0, .above = true, .high = 1e30, .initial = "auto",
     MAY_CHANGE(NONE),
     .help = "stop with a checkpoint after so many seconds (exit 75); auto: before Slurm ends the job, else never"},
    {AT(run, stall_timeout), WHOLE(0, MANY), .initial = "600", MAY_CHANGE(NONE),
     .help =
         "seconds that a rank waits for the others in one operation before it names who is late and ends all; 0: for "
         "ever"},
    {AT(run, snapshot_every), WHOLE(0, MANY), .initial = "60", MAY_CHANGE(NONE),
     .help = "seconds after which eigen, density, trace and landscape keep how far they are, for --restart; 0: always"},

    {AT(data, dir), MAYBE_EMPTY("FOLDER"), .initial = "", MAY_CHANGE(NONE),
     .help = "the four IDX files, plain or .gz; empty: $HSGD_DATA, then data/mnist, then digits that are generated"},
    {AT(data, train_samples), WHOLE(0, MANY), .initial = "0", RESULTS_OF(TRAIN),
     .help = "take only the first so many images for training; 0: all"},
    {AT(data, test_samples), WHOLE(0, MANY), .initial = "0", RESULTS_OF(TRAIN | EVALUATE),
     .help = "take only the first so many images for testing; 0: all"},
    {AT(data, normalize), WORDS("none | MEAN STD"), .initial = "none", RESULTS_OF(ALL),
     .help = "pixels are byte / 255; then (pixel - MEAN) / STD, as 0.1307 0.3081"},

    {AT(model, layers), WORDS("LAYER / LAYER / ..."),
     .initial = "conv 16 5 / relu / maxpool 2 / conv 32 5 / relu / maxpool 2 / linear 10", RESULTS_OF(ALL),
     .help = "conv CHANNELS SIZE, maxpool SIZE, avgpool SIZE, relu, tanh, linear OUTPUTS; the last is linear"},
    {AT(model, init), WORDS("default | FILE"), .initial = "default", RESULTS_OF(TRAIN),
     .help = "first weights: default, drawn as PyTorch does (without the stage train: weights.h5 in run.output), or a "
             "weights file"},
    {AT(model, precision), ONE_OF(PRECISIONS), .initial = "single", RESULTS_OF(ALL),
     .help = "of the network; sums over samples are always double"},

    {AT(train, epochs), WHOLE(0, MANY), .initial = "5", MAY_CHANGE(TRAIN), .help = "passes over the training samples"},
    {AT(train, steps), WHOLE(0, MANY), .initial = "0", MAY_CHANGE(TRAIN),
     .help = "updates of the weights; 0: as many as the epochs have, else it alone counts"},
    {AT(train, batch), WHOLE(1, MANY), .initial = "100", RESULTS_OF(TRAIN),
     .help = "samples an update, over all ranks together"},
    {AT(train, lr), POSITIVE, .initial = "0.01", RESULTS_OF(TRAIN), .help = "learning rate"},
    {AT(train, schedule), WORDS("constant | step EPOCHS FACTOR | cosine"), .initial = "constant", RESULTS_OF(TRAIN),
     .help = "of the rate: step multiplies it by FACTOR every EPOCHS; cosine brings it to 0 at the end"},
    {AT(train, momentum), BELOW_ONE, .initial = "0", RESULTS_OF(TRAIN), .help = "share of the last update kept"},
    {AT(train, dampening), UP_TO_ONE, .initial = "0", RESULTS_OF(TRAIN),
     .help = "share of the gradient that stays out of the momentum"},
    {AT(train, weight_decay), NOT_NEGATIVE, .initial = "0", RESULTS_OF(TRAIN),
     .help = "added to the gradient, times the weights; never part of the curvature"},
    {AT(train, nesterov), YES_NO, .initial = "false", RESULTS_OF(TRAIN),
     .help = "Nesterov's momentum; needs momentum and no dampening"},
    {AT(train, shuffle), YES_NO, .initial = "true", RESULTS_OF(TRAIN), .help = "a new order of the samples each epoch"},
    {AT(train, log_every), WHOLE(0, MANY), .initial = "100", MAY_CHANGE(NONE),
     .help = "steps from one line of progress to the next; 0: none"},
    {AT(train, checkpoint_every), WHOLE(0, MANY), .initial = "600", MAY_CHANGE(NONE),
     .help = "steps from one checkpoint to the next; 0: only at the end"},
    {AT(train, checkpoint_keep), WHOLE(1, MANY), .initial = "2", MAY_CHANGE(NONE),
     .help = "the newest so many checkpoints stay"},
    {AT(train, evaluate_every), WHOLE(0, MANY), .initial = "0", RESULTS_OF(TRAIN),
     .help = "steps from one look at the test images to the next; 0: each epoch"},
    {AT(train, curvature_every), WHOLE(0, MANY), .initial = "0", RESULTS_OF(TRAIN), .silent_default = true,
     .help = "steps from one measurement of the studied samples' curvature to the next, into train.h5; 0: none"},
    {AT(train, curvature_count), WHOLE(1, MANY), .initial = "2", RESULTS_OF(TRAIN), .silent_default = true,
     .help = "largest eigenpairs measured"},
    {AT(train, curvature_tolerance), ABOVE_UP_TO_ONE, .initial = "1e-3", RESULTS_OF(TRAIN), .silent_default = true,
     .help = "of their residuals, over the largest eigenvalue's magnitude"},

    {AT(hessian, split), ONE_OF(SPLITS), .initial = "train", RESULTS_OF(VERIFY | CURVATURE),
     .help = "where the studied samples come from"},
    {AT(hessian, samples), WHOLE(0, MANY), .initial = "2000", RESULTS_OF(NONE),
     .help = "how many samples make up the studied loss (mean cross-entropy); 0: all"},
    {AT(hessian, first), WHOLE(0, MANY), .initial = "0", RESULTS_OF(NONE),
     .help = "number of the first of them, from 0"},
    {AT(hessian, indices), MAYBE_EMPTY("none | FILE"), .initial = "none", RESULTS_OF(NONE),
     .help = "HDF5 file whose /indices names the samples instead, in any order"},
    {AS(hessian, operator, operator_), ONE_OF(OPERATORS), .initial = "hessian", RESULTS_OF(VERIFY | CURVATURE),
     .help = "the matrix studied; gauss-newton is the part that is never negative"},
    {AT(hessian, layers), WORDS("all | LAYER ..."), .initial = "all", RESULTS_OF(VERIFY | CURVATURE),
     .silent_default = true,
     .help = "the diagonal block studied: rows and columns of these layers (conv1 conv2 ... linear1 ... out, or one "
             "parameter, as conv2.weight)"},
    {AT(hessian, batch), WHOLE(0, MANY), .initial = "0", MAY_CHANGE(NONE),
     .help = "samples between looks for a signal to stop; 0: chosen; no bit depends on it"},
    {AT(hessian, cache), WORDS("auto | BYTES[K|M|G]"), .initial = "auto", MAY_CHANGE(NONE),
     .help =
         "memory for base passes kept between products, of a node or of each GPU; auto: half of what a node has free, "
         "what a GPU has left; no bit depends on it"},
    {AT(hessian, resample), WHOLE(0, MANY), .initial = "0", RESULTS_OF(EIGEN | TRACE), .silent_default = true,
     .help = "leave out each of so many groups of the studied samples in turn: the jackknife's standard errors and "
             "intervals of eigenvalues and trace; at least 2; 0: none"},

    {AT(hvp, vectors), MAYBE_EMPTY("none | FILE"), .initial = "none", RESULTS_OF(HVP),
     .help = "HDF5 file whose /vectors [k, n] the stage hvp multiplies by the operator"},

    {AT(eigen, method), ONE_OF(EIGEN_METHODS), .initial = "lanczos", RESULTS_OF(EIGEN),
     .help = "power: deflated power iteration, as PyHessian does it; needs which = magnitude"},
    {AT(eigen, count), WHOLE(1, MANY), .initial = "2", RESULTS_OF(EIGEN), .help = "eigenpairs at each end asked for"},
    {AT(eigen, which), ONE_OF(ENDS), .initial = "both", RESULTS_OF(EIGEN), .help = "ends of the spectrum"},
    {AT(eigen, tolerance), ABOVE_UP_TO_ONE, .initial = "1e-4", RESULTS_OF(EIGEN),
     .help = "residual norm over the largest eigenvalue's magnitude"},
    {AT(eigen, max_products), WHOLE(1, MANY), .initial = "1000", RESULTS_OF(EIGEN),
     .help = "operator products after which it stops, converged or not; the products that measure the final residuals "
             "come on top"},
    {AT(eigen, basis), WHOLE(0, MANY), .initial = "0", RESULTS_OF(EIGEN),
     .help = "Lanczos vectors at most, raised to what a restart needs; 0: 128, or 4 for each pair where that is more"},
    {AT(eigen, block), WHOLE(0, MANY), .initial = "0", RESULTS_OF(EIGEN),
     .help = "columns that Lanczos advances at once, and copies of a multiple eigenvalue that it sees at once; 0: 1"},
    {AT(eigen, confirm), YES_NO, .initial = "false", RESULTS_OF(EIGEN), .silent_default = true,
     .help =
         "look for hidden copies of multiple eigenvalues once all pairs are found; two to three times the products"},
    {AT(eigen, require_convergence), YES_NO, .initial = "false", RESULTS_OF(EIGEN),
     .help = "an eigenpair that did not converge is a failure (exit 4)"},

    {AT(density, probes), WHOLE(1, MANY), .initial = "4", RESULTS_OF(DENSITY), .help = "random start vectors"},
    {AT(density, steps), WHOLE(1, MANY), .initial = "80", RESULTS_OF(DENSITY), .help = "Lanczos steps a probe"},
    {AT(density, block), WHOLE(0, MANY), .initial = "0", MAY_CHANGE(NONE),
     .help = "probes that advance together, one sweep over the samples for all; 0: chosen; no bit depends on it"},
    {AT(density, groups), WHOLE(0, MANY), .initial = "0", MAY_CHANGE(NONE),
     .help = "groups of ranks, each of which takes blocks of probes and holds all samples; 0: chosen; no bit depends "
             "on it"},
    {AT(density, distribution), ONE_OF(DISTRIBUTIONS), .initial = "rademacher", RESULTS_OF(DENSITY),
     .help = "of the start vectors: signs, or uniform on the sphere"},
    {AT(density, bins), WHOLE(2, MANY), .initial = "10000", RESULTS_OF(DENSITY),
     .help = "points of the density's grid"},
    {AT(density, sigma_squared), POSITIVE, .initial = "1e-5", RESULTS_OF(DENSITY),
     .help = "variance of the Gaussian at each Ritz value, times max(1, range of the spectrum)"},
    {AT(density, overhead), NOT_NEGATIVE, .initial = "0.01", RESULTS_OF(DENSITY),
     .help = "margin of the grid beyond the extreme Ritz values"},
    {AT(density, start), MAYBE_EMPTY("none | FILE"), .initial = "none", RESULTS_OF(DENSITY),
     .help = "HDF5 file whose /start [probes, n] holds the start vectors"},
    {AT(density, accuracy), UP_TO_ONE, .initial = "0", RESULTS_OF(DENSITY), .silent_default = true,
     .help =
         "choose probes and steps, on the sphere, so that with probability 0.95 the measure is within this share of "
         "the spectrum's width of the exact one (Wasserstein distance); 0: as probes, steps and distribution say"},
    {AT(density, deflate), YES_NO, .initial = "false", RESULTS_OF(DENSITY), .silent_default = true,
     .help = "take the converged pairs of eigen.h5 out of the process and put them into the measure exactly; the eigen "
             "stage runs first where there are none yet"},

    {AT(trace, method), ONE_OF(TRACE_METHODS), .initial = "auto", RESULTS_OF(TRACE),
     .help =
         "exact where it can be had (no tanh, or gauss-newton), else Hutchinson's estimate; auto: the better; "
         "hutch++: a third of the products on a subspace; its error is relative to the sum of all |eigenvalues|, so "
         "for an indefinite Hessian it may be no better than hutchinson"},
    {AT(trace, probes), WHOLE(1, MANY), .initial = "32", RESULTS_OF(TRACE),
     .help = "most random vectors of hutchinson; products of hutch++ in all, at least 3"},
    {AT(trace, tolerance), NOT_NEGATIVE, .initial = "0", RESULTS_OF(TRACE),
     .help = "stop at the second look in a row, each after 8 more probes, that finds the 95 % interval's half width at "
             "most this times |trace|; 0: make all probes"},

    {AT(landscape, directions), MAYBE_EMPTY("DIRECTION ..."), .initial = "eigenvector random gradient",
     RESULTS_OF(LANDSCAPE),
     .help = "lines through the weights: eigenvector random gradient, eigenvectorJ (row J of eigen.h5, 1 = largest), "
             "fileJ"},
    {AT(landscape, points), WHOLE(1, MANY), .initial = "21", RESULTS_OF(LANDSCAPE), .help = "points on a line"},
    {AT(landscape, range), POSITIVE, .initial = "0.5", RESULTS_OF(LANDSCAPE),
     .help = "a line goes from -range to +range along a unit vector"},
    {AT(landscape, plane), MAYBE_EMPTY("none | DIRECTION DIRECTION"), .initial = "none", RESULTS_OF(LANDSCAPE),
     .help = "the loss over the plane of two directions too"},
    {AT(landscape, plane_points), WHOLE(1, LONGEST_EDGE), .initial = "21", RESULTS_OF(LANDSCAPE),
     .help = "points on each side of the plane"},
    {AT(landscape, plane_range), POSITIVE, .initial = "0.5", RESULTS_OF(LANDSCAPE),
     .help = "the plane goes from -range to +range along both"},
    {AT(landscape, normalize), ONE_OF(NORMALIZATIONS), .initial = "vector", RESULTS_OF(LANDSCAPE),
     .help = "vector: directions of length 1; filter: each channel or row as long as its weights"},
    {AT(landscape, vectors), MAYBE_EMPTY("none | FILE"), .initial = "none", RESULTS_OF(LANDSCAPE),
     .help = "HDF5 file whose /vectors [k, n] fileJ takes row J of"},

    {AT(device, backend), ONE_OF(BACKENDS), .initial = "auto", MAY_CHANGE(NONE), .help = "what computes"},
    {AT(device, threads), WHOLE(0, MOST_THREADS), .initial = "0", MAY_CHANGE(NONE),
     .help = "threads of a rank; 0: its share of the cores that it may use"},
    {AT(device, allreduce), ONE_OF(ALLREDUCES), .initial = "auto", MAY_CHANGE(NONE), .help = "what adds over ranks"},
    {AT(device, tf32), YES_NO, .initial = "false", RESULTS_OF(ALL), .silent_default = true,
     .help =
         "cuda in single precision: let products be rounded to TF32, faster and about a thousand times less accurate"},
};

enum { ROWS = sizeof SCHEMA / sizeof SCHEMA[0] };
_Static_assert((int)ROWS <= (int)HSGD_KEYS, "hsgd_deck has room for every row of the schema");

const hsgd_key *hsgd_schema(int *count)
{
    *count = ROWS;
    return SCHEMA;
}

int hsgd_schema_find(const char *section, const char *key)
{
    for (int i = 0; i < ROWS; i++) {
        if ((section == NULL || strcmp(SCHEMA[i].section, section) == 0) && strcmp(SCHEMA[i].key, key) == 0) {
            return i;
        }
    }
    return -1;
}

bool hsgd_schema_has_section(const char *section)
{
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(SCHEMA[i].section, section) == 0) {
            return true;
        }
    }
    return false;
}

static void suggest_section(const char *section, char *out, size_t size)
{
    const char *names[SECTIONS], *near;
    size_t count = 0;

    for (int i = 0; i < ROWS && count < SECTIONS; i++) {
        if (i == 0 || strcmp(SCHEMA[i].section, SCHEMA[i - 1].section) != 0) {
            names[count++] = SCHEMA[i].section;
        }
    }
    near = hsgd_nearest(section, names, count);
    if (near != NULL) {
        (void)snprintf(out, size, "; did you mean '%s'?", near);
    } else {
        (void)snprintf(out, size, "; see --help for all sections");
    }
}

void hsgd_schema_suggest(const char *section, const char *key, char *out, size_t size)
{
    const char *names[ROWS], *near;
    size_t count = 0;
    int elsewhere;

    if (key == NULL) {
        suggest_section(section, out, size);
        return;
    }
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(SCHEMA[i].section, section) == 0) {
            names[count++] = SCHEMA[i].key;
        }
    }
    near = hsgd_nearest(key, names, count);
    elsewhere = hsgd_schema_find(NULL, key);
    if (elsewhere >= 0) {
        (void)snprintf(out, size, "; did you mean the one of [%s]?", SCHEMA[elsewhere].section);
    } else if (near != NULL) {
        (void)snprintf(out, size, "; did you mean '%s'?", near);
    } else {
        (void)snprintf(out, size, "; see --help for the keys of [%s]", section);
    }
}
