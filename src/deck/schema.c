/* src/deck/schema.c - the table of keys.  inputs/mnist.ini, --help and the README are held to it by tests. */
#include "deck/schema.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

#define AT(section, field) offsetof(hsgd_deck, section.field)
#define STAGE(name)        (1u << HSGD_STAGE_##name)
#define STUDIED            (STAGE(VERIFY) | STAGE(HVP) | STAGE(EIGEN) | STAGE(DENSITY) | STAGE(TRACE) | STAGE(LANDSCAPE))
#define ALL                (STAGE(TRAIN) | STAGE(EVALUATE) | STUDIED)
#define SOLVED             (STAGE(HVP) | STAGE(EIGEN) | STAGE(DENSITY) | STAGE(TRACE) | STAGE(LANDSCAPE))
#define COUNT              2147483647.0
#define NONE               0u

const schema_row schema_rows[] = {
    {"run", "stages", KEY_TEXT, AT(run, stages), "train evaluate verify eigen density trace landscape", 0, 0, false,
     NULL, NONE, "what to do, out of: train evaluate verify hvp eigen density trace landscape"},
    {"run", "output", KEY_TEXT, AT(run, output), "results/mnist", 0, 0, false, NULL, NONE, "folder of the results"},
    {"run", "seed", KEY_INTEGER, AT(run, seed), "1", 0, 9e15, false, NULL, ALL, "of everything drawn at random"},
    {"run", "reduction", KEY_CHOICE, AT(run, reduction), "reproducible", 0, 0, false, "reproducible fast", ALL,
     "reproducible: the same bits on any number of ranks and threads"},
    {"run", "time_limit", KEY_REAL, AT(run, time_limit), "auto", 0, 1e9, true, NULL, NONE,
     "seconds after which to stop with everything saved; auto: Slurm's end of the job less 3 minutes, else none"},

    {"data", "dir", KEY_TEXT, AT(data, dir), "", 0, 0, false, NULL, NONE,
     "folder of the IDX files; empty: $HSGD_DATA, then data/mnist, then generated digits"},
    {"data", "train_samples", KEY_INTEGER, AT(data, train_samples), "0", 0, COUNT, false, NULL, ALL,
     "keep only the first so many training samples; 0: all"},
    {"data", "test_samples", KEY_INTEGER, AT(data, test_samples), "0", 0, COUNT, false, NULL, ALL,
     "keep only the first so many test samples; 0: all"},
    {"data", "normalize", KEY_TEXT, AT(data, normalize), "none", 0, 0, false, NULL, ALL,
     "none: pixels are byte / 255; or MEAN STD: (byte / 255 - MEAN) / STD"},

    {"model", "layers", KEY_TEXT, AT(model, layers),
     "conv 16 5 / relu / maxpool 2 / conv 32 5 / relu / maxpool 2 / linear 10", 0, 0, false, NULL, ALL,
     "conv CHANNELS KERNEL, relu, tanh, maxpool N, avgpool N, linear OUTPUTS, separated by /"},
    {"model", "init", KEY_TEXT, AT(model, init), "default", 0, 0, false, NULL, STAGE(TRAIN),
     "default: PyTorch's initialisation, drawn from run.seed; or a weights file"},
    {"model", "precision", KEY_CHOICE, AT(model, precision), "single", 0, 0, false, "single double", ALL,
     "of the network's arithmetic; sums over samples and dot products are always double"},

    {"train", "epochs", KEY_INTEGER, AT(train, epochs), "5", 0, 1e6, false, NULL, NONE, "passes over the training set"},
    {"train", "steps", KEY_INTEGER, AT(train, steps), "0", 0, 1e12, false, NULL, NONE,
     "updates; 0: as many as the epochs have, else it alone counts"},
    {"train", "batch", KEY_INTEGER, AT(train, batch), "100", 1, COUNT, false, NULL, STAGE(TRAIN),
     "samples of an update, over all ranks"},
    {"train", "lr", KEY_REAL, AT(train, lr), "0.01", 0, 1e6, true, NULL, STAGE(TRAIN), "learning rate"},
    {"train", "schedule", KEY_TEXT, AT(train, schedule), "constant", 0, 0, false, NULL, STAGE(TRAIN),
     "of the learning rate: constant; step EPOCHS FACTOR; cosine"},
    {"train", "momentum", KEY_REAL, AT(train, momentum), "0", 0, 1, false, NULL, STAGE(TRAIN),
     "share of the last update kept"},
    {"train", "dampening", KEY_REAL, AT(train, dampening), "0", 0, 1, false, NULL, STAGE(TRAIN),
     "of the gradient beside momentum"},
    {"train", "weight_decay", KEY_REAL, AT(train, weight_decay), "0", 0, 1e6, false, NULL, STAGE(TRAIN),
     "multiple of the weights added to the gradient; no part of the studied function"},
    {"train", "nesterov", KEY_BOOL, AT(train, nesterov), "false", 0, 0, false, NULL, STAGE(TRAIN),
     "Nesterov's momentum"},
    {"train", "shuffle", KEY_BOOL, AT(train, shuffle), "true", 0, 0, false, NULL, STAGE(TRAIN),
     "a new seeded order each epoch; false: the order of the file"},
    {"train", "log_every", KEY_INTEGER, AT(train, log_every), "100", 0, COUNT, false, NULL, NONE,
     "steps between progress lines; 0: none"},
    {"train", "checkpoint_every", KEY_INTEGER, AT(train, checkpoint_every), "600", 0, COUNT, false, NULL, NONE,
     "steps between checkpoints; 0: only the last"},
    {"train", "checkpoint_keep", KEY_INTEGER, AT(train, checkpoint_keep), "2", 1, COUNT, false, NULL, NONE,
     "newest checkpoints kept"},
    {"train", "evaluate_every", KEY_INTEGER, AT(train, evaluate_every), "0", 0, COUNT, false, NULL, STAGE(TRAIN),
     "steps between tests on the test set; 0: after each epoch"},

    {"hessian", "split", KEY_CHOICE, AT(hessian, split), "train", 0, 0, false, "train test", STUDIED,
     "set that the studied samples are taken from"},
    {"hessian", "samples", KEY_INTEGER, AT(hessian, samples), "2000", 0, COUNT, false, NULL, NONE,
     "studied samples; 0: all"},
    {"hessian", "first", KEY_INTEGER, AT(hessian, first), "0", 0, COUNT, false, NULL, NONE,
     "number of the first studied sample"},
    {"hessian", "indices", KEY_TEXT, AT(hessian, indices), "none", 0, 0, false, NULL, NONE,
     "none; or an HDF5 file with /indices, which then overrides samples and first"},
    {"hessian", "operator", KEY_CHOICE, AT(hessian, operator_), "hessian", 0, 0, false, "hessian gauss-newton", SOLVED,
     "the matrix that is studied"},
    {"hessian", "batch", KEY_INTEGER, AT(hessian, batch), "0", 0, COUNT, false, NULL, NONE,
     "samples between looks for a signal to stop; 0: chosen; no bit depends on it"},
    {"hessian", "cache", KEY_TEXT, AT(hessian, cache), "auto", 0, 0, false, NULL, NONE,
     "bytes per node for kept base passes (K, M, G allowed); auto: half of the free memory; no bit depends on it"},

    {"hvp", "vectors", KEY_TEXT, AT(hvp, vectors), "none", 0, 0, false, NULL, STAGE(HVP),
     "HDF5 file with /vectors [k, n], for the stage hvp"},

    {"eigen", "method", KEY_CHOICE, AT(eigen, method), "lanczos", 0, 0, false, "lanczos power", STAGE(EIGEN),
     "power: deflated power iteration, as PyHessian does it (with which = magnitude)"},
    {"eigen", "count", KEY_INTEGER, AT(eigen, count), "2", 1, 1e6, false, NULL, STAGE(EIGEN),
     "eigenpairs at each end asked for"},
    {"eigen", "which", KEY_CHOICE, AT(eigen, which), "both", 0, 0, false, "both largest smallest magnitude",
     STAGE(EIGEN), "ends of the spectrum"},
    {"eigen", "tolerance", KEY_REAL, AT(eigen, tolerance), "1e-4", 0, 1, true, NULL, STAGE(EIGEN),
     "residual norm over the largest eigenvalue's magnitude"},
    {"eigen", "max_products", KEY_INTEGER, AT(eigen, max_products), "1000", 1, 1e9, false, NULL, STAGE(EIGEN),
     "operator products at most"},
    {"eigen", "basis", KEY_INTEGER, AT(eigen, basis), "0", 0, 1e9, false, NULL, STAGE(EIGEN),
     "Lanczos vectors at most; 0: max_products"},
    {"eigen", "require_convergence", KEY_BOOL, AT(eigen, require_convergence), "false", 0, 0, false, NULL, STAGE(EIGEN),
     "true: an eigenpair that did not converge ends the run with exit 4"},

    {"density", "probes", KEY_INTEGER, AT(density, probes), "4", 1, 1e6, false, NULL, STAGE(DENSITY),
     "random start vectors"},
    {"density", "steps", KEY_INTEGER, AT(density, steps), "80", 1, 1e6, false, NULL, STAGE(DENSITY),
     "Lanczos steps of each"},
    {"density", "distribution", KEY_CHOICE, AT(density, distribution), "rademacher", 0, 0, false, "rademacher sphere",
     STAGE(DENSITY), "of the start vectors"},
    {"density", "bins", KEY_INTEGER, AT(density, bins), "10000", 2, 1e8, false, NULL, STAGE(DENSITY),
     "points of the density's grid"},
    {"density", "sigma_squared", KEY_REAL, AT(density, sigma_squared), "1e-5", 0, 1e6, true, NULL, STAGE(DENSITY),
     "variance of the Gaussians, times max(1, range)"},
    {"density", "overhead", KEY_REAL, AT(density, overhead), "0.01", 0, 1e6, false, NULL, STAGE(DENSITY),
     "margin of the grid beyond the Ritz values"},
    {"density", "start", KEY_TEXT, AT(density, start), "none", 0, 0, false, NULL, STAGE(DENSITY),
     "none; or an HDF5 file with /start [probes, n]"},

    {"trace", "method", KEY_CHOICE, AT(trace, method), "auto", 0, 0, false, "auto exact hutchinson", STAGE(TRACE),
     "auto: exact where that holds (Gauss-Newton, networks without tanh), else hutchinson"},
    {"trace", "probes", KEY_INTEGER, AT(trace, probes), "32", 1, 1e6, false, NULL, STAGE(TRACE),
     "random vectors of hutchinson"},

    {"landscape", "directions", KEY_TEXT, AT(landscape, directions), "eigenvector random gradient", 0, 0, false, NULL,
     STAGE(LANDSCAPE),
     "out of: eigenvector eigenvectorJ (row J of eigen.h5, 1 = largest) random gradient fileJ (row J of vectors)"},
    {"landscape", "points", KEY_INTEGER, AT(landscape, points), "21", 1, 1e6, false, NULL, STAGE(LANDSCAPE),
     "on each line"},
    {"landscape", "range", KEY_REAL, AT(landscape, range), "0.5", 0, 1e6, true, NULL, STAGE(LANDSCAPE),
     "the line goes from -range to range"},
    {"landscape", "plane", KEY_TEXT, AT(landscape, plane), "none", 0, 0, false, NULL, STAGE(LANDSCAPE),
     "none; or two directions"},
    {"landscape", "plane_points", KEY_INTEGER, AT(landscape, plane_points), "21", 1, 10000, false, NULL,
     STAGE(LANDSCAPE), "along each edge of the plane"},
    {"landscape", "plane_range", KEY_REAL, AT(landscape, plane_range), "0.5", 0, 1e6, true, NULL, STAGE(LANDSCAPE),
     "the plane goes from -plane_range to plane_range"},
    {"landscape", "normalize", KEY_CHOICE, AT(landscape, normalize), "vector", 0, 0, false, "vector filter",
     STAGE(LANDSCAPE), "vector: unit norm; filter: each output channel or row at its weights' norm"},
    {"landscape", "vectors", KEY_TEXT, AT(landscape, vectors), "none", 0, 0, false, NULL, STAGE(LANDSCAPE),
     "none; or an HDF5 file with /vectors [k, n], for fileJ"},

    {"device", "backend", KEY_CHOICE, AT(device, backend), "auto", 0, 0, false, "auto cpu cuda", NONE, "what computes"},
    {"device", "threads", KEY_INTEGER, AT(device, threads), "0", 0, 4096, false, NULL, NONE,
     "per rank; 0: cores over the node's ranks"},
    {"device", "allreduce", KEY_CHOICE, AT(device, allreduce), "auto", 0, 0, false, "auto mpi nccl", NONE,
     "what sums over the ranks"},
};
const int schema_count = sizeof schema_rows / sizeof schema_rows[0];

int schema_find(const char *section, const char *key)
{
    for (int i = 0; i < schema_count; i++) {
        if (strcmp(schema_rows[i].section, section) == 0 && strcmp(schema_rows[i].key, key) == 0) {
            return i;
        }
    }
    return -1;
}
