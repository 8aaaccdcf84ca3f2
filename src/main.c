/* src/main.c - command line, wiring, exit code. */
#include "base/clock.h"
#include "deck/arguments.h"
#include "study/study.h"
#include "wiring/devices.h"
#ifdef HSGD_MPI
#include "comm_mpi.h"
#include "launch.h"
#endif
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LEISURE = 60,        /* seconds that ranks are given to leave after a stop: all is well, and many may take long */
    STALL_TIMEOUT = 600, /* seconds: run.stall_timeout until the deck is read */
    SLURM_MARGIN = 180,  /* seconds before Slurm's end of the job that a run stops, of at least four times that */
};

static const char USAGE[] =
    "usage: hsgd-dist [INPUT.ini] [section.key=value ...] [options]\n"
    "       mpirun -np 8 hsgd-dist inputs/mnist.ini train.epochs=5 density.probes=32\n"
    "\n"
    "Trains a small convolutional network and studies the curvature of its loss on many ranks.\n"
    "Without INPUT.ini the built-in study runs (inputs/mnist.ini explains it, line by line).\n"
    "\n"
    "  --dry-run   check deck, data, memory and disk; print what would run; write nothing\n"
    "  --restart   go on in an output folder that holds results\n"
    "  --quiet     warnings and errors only\n"
    "  --verbose   more about what is done\n"
    "  --help      this text and all keys\n"
    "  --version   the version\n"
    "\n"
    "exit: 0 done, 2 usage or deck or existing output, 3 data or weights, 4 numerical failure, 5 input/output,\n"
    "      6 MPI, NCCL, device or memory, 75 stopped with everything saved: run again with --restart\n";

/* What a signal handler can reach. */
static volatile sig_atomic_t stop_asked;

static void on_stop(int signal)
{
    (void)signal;
    stop_asked = 1;
}

/* The watch has found that this rank can do no more for the others: end, and the launcher ends them. */
static void on_lost(void *context, hsgd_status status, const char *text)
{
    char line[sizeof((hsgd_error *)0)->text + 32];

    (void)context;
    if (text[0] != '\0') {
        (void)snprintf(line, sizeof line, "hsgd-dist: error: %s\n", text);
        (void)!write(STDERR_FILENO, line, strlen(line));
    }
    _exit(hsgd_error_exit_code(status));
}

/* Ranks that fail together leave together, and rank 0 tells why; one that fails alone must not wait for the others for
 * ever, and tells it itself: a rank that is still there after HSGD_WATCH_PATIENCE has not been ended by rank 0. */
static void on_failure(void *watch, hsgd_status status, const hsgd_error *err)
{
    const bool stopped = status == HSGD_STOPPED; /* no error: nothing to tell */

    hsgd_watch_limit(watch, HSGD_WATCH_LEAVING, stopped ? LEISURE : HSGD_WATCH_PATIENCE, status,
                     stopped ? "" : err->text);
}

static void handle(int signal, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    (void)sigaction(signal, &action, NULL);
}

static hsgd_status read_deck(hsgd_comm *comm, const hsgd_arguments *a, hsgd_deck *deck, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char *text = NULL;
    int64_t length = 0;

    if (a->input == NULL) {
        return hsgd_deck_resolve(NULL, a->words, a->count, deck, err);
    }
    if (comm->rank == 0) {
        st = hsgd_deck_read(a->input, &text, err);
        length = st == HSGD_OK ? (int64_t)strlen(text) : 0;
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof length, &length, err));
    if (comm->rank != 0) {
        text = calloc((size_t)length + 1, 1);
    }
    HSGD_TRY(hsgd_comm_agree(comm, text != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, (size_t)length, text, err));
    HSGD_TRY(hsgd_deck_resolve_text(a->input, text, a->words, a->count, deck, err));
done:
    free(text);
    return st;
}

static hsgd_status make_backend(void *context, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    return hsgd_devices_backend(context, precision, out, err);
}

/* The monotonic time at which to stop, or 0: run.time_limit, by default from Slurm's end of the job.  A short job keeps
 * three quarters of its time; an end in the past is that of a job whose limit was raised, and tells nothing. */
static double stop_time(const hsgd_deck *deck)
{
    const char *end = getenv("SLURM_JOB_END_TIME");
    const double left = end != NULL ? (double)(strtoll(end, NULL, 10) - (long long)time(NULL)) : 0.0;

    if (deck->run.time_limit > 0.0) {
        return hsgd_clock() + deck->run.time_limit;
    }
    if (deck->run.time_limit < 0.0 && left > 0.0) {
        return hsgd_clock() + left - (left / 4.0 < SLURM_MARGIN ? left / 4.0 : SLURM_MARGIN);
    }
    return 0.0;
}

/* Did srun start this rank?  Then a TERM is Slurm's own, sent to ranks alone, with time before the KILL; from mpirun it
 * means a second. */
static bool is_slurms_task(void)
{
    const char *job = getenv("PMIX_NAMESPACE");

    return job != NULL && strncmp(job, "slurm.", strlen("slurm.")) == 0;
}

static bool stop(void *context)
{
    const double *at = context;

    return stop_asked != 0 || (*at > 0.0 && hsgd_clock() >= *at);
}

static char *join(int argc, char **argv)
{
    size_t length = 1;
    char *line;

    for (int i = 0; i < argc; i++) {
        length += strlen(argv[i]) + 1;
    }
    line = calloc(length, 1);
    for (int i = 0; i < argc && line != NULL; i++) {
        strcat(strcat(line, i > 0 ? " " : ""), argv[i]);
    }
    return line;
}

/* *comm may be replaced: see hsgd_devices_open. */
static hsgd_status study(hsgd_comm **comm, hsgd_watch *watch, hsgd_devices **devices, int argc, char **argv,
                         const hsgd_arguments *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_deck *deck = calloc(1, sizeof *deck);
    hsgd_progress *progress = NULL;
    char *command = join(argc, argv), note[512] = "", cores[64];
    hsgd_device_choice choice = {0};
    const hsgd_placement *placement = NULL;
    double stop_at = 0.0;

    HSGD_TRY(hsgd_comm_agree(*comm, deck != NULL && command != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    st = read_deck(*comm, a, deck, err);
    if (st == HSGD_OK) {
        st = hsgd_progress_create((*comm)->rank, a->quiet, a->verbose, &progress, err);
    }
    HSGD_TRY(hsgd_comm_agree(*comm, st, err)); /* one rank alone may have been short of memory */
    hsgd_watch_timeout(watch, deck->run.stall_timeout);
    choice = (hsgd_device_choice){.backend = (hsgd_device_kind)deck->device.backend,
                                  .allreduce = (hsgd_allreduce_kind)deck->device.allreduce,
                                  .tf32 = deck->device.tf32,
                                  .threads = (int)deck->device.threads,
                                  .collective_timeout = (double)deck->run.stall_timeout};
    HSGD_TRY(hsgd_devices_open(&choice, comm, note, sizeof note, devices, err));
    if (note[0] != '\0') {
        hsgd_progress_warn(progress, "%s", note);
    }
    placement = hsgd_devices_placement(*devices);
    if (placement->warning[0] != '\0') {
        hsgd_progress_warn(progress, "%s", placement->warning);
    }
    hsgd_cores_text(&placement->cores, cores, sizeof cores);
    stop_at = stop_time(deck);
    {
        const hsgd_study_setup setup = {.comm = *comm,
                                        .deck = deck,
                                        .progress = progress,
                                        .make_backend = make_backend,
                                        .context = *devices,
                                        .command = command,
                                        .threads = placement->threads,
                                        .binding = hsgd_binding_name(placement->binding),
                                        .cores = cores,
                                        .restart = a->restart,
                                        .dry_run = a->dry_run,
                                        .failing = on_failure,
                                        .failing_context = watch,
                                        .stop = stop,
                                        .stop_context = &stop_at};

        st = hsgd_study_run(&setup, err);
    }
done:
    hsgd_progress_destroy(&progress);
    free(command);
    free(deck);
    return st;
}

#ifndef HSGD_MPI
/* Several copies of a serial program would all write the same files. */
static hsgd_status refuse_ranks(hsgd_error *err)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);

        if (value != NULL && strtol(value, NULL, 10) > 1) {
            return hsgd_error_set(
                err, HSGD_ERR_DEVICE,
                "mpi: started as %s ranks (%s), but this program was built without MPI; build it with "
                "-DHSGD_MPI=ON, or start one process",
                value, names[i]);
        }
    }
    return HSGD_OK;
}
#endif

/* run.stall_timeout as far as one rank alone can know it, before there are others: what was typed, else the default. */
static int64_t early_timeout(int argc, char **argv)
{
    static const char key[] = "run.stall_timeout=";
    int64_t seconds = STALL_TIMEOUT;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], key, sizeof key - 1) == 0) {
            char *end = NULL;
            const long long typed = strtoll(argv[i] + sizeof key - 1, &end, 10);

            seconds = *end == '\0' && typed >= 0 ? typed : seconds; /* else the deck will refuse it */
        }
    }
    return seconds;
}

/* Make the watch and, under its eyes where there may be others to wait for, the communicator of all ranks. */
static hsgd_status make_comm(int argc, char **argv, hsgd_watch **watch, hsgd_comm **comm, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
#ifdef HSGD_MPI
    const int rank = hsgd_launch_rank();

    HSGD_TRY(hsgd_watch_create(rank < 0 ? 0 : rank, on_lost, NULL, watch, err));
    hsgd_watch_timeout(*watch, early_timeout(argc, argv));
    if (rank >= 0) {
        HSGD_TRY(hsgd_watch_start(*watch, err));
    }
    hsgd_watch_enter(*watch, 0, 0, HSGD_WATCH_START);
    HSGD_TRY(hsgd_comm_mpi_create(comm, err));
    hsgd_watch_leave(*watch);
    if ((*comm)->ranks > 1) {
        HSGD_TRY(hsgd_watch_start(*watch, err));
        HSGD_TRY(hsgd_comm_watch(*comm, *watch, err));
    }
#else
    HSGD_TRY(refuse_ranks(err));
    HSGD_TRY(hsgd_watch_create(0, on_lost, NULL, watch, err));
    hsgd_watch_timeout(*watch, early_timeout(argc, argv));
    HSGD_TRY(hsgd_comm_serial_create(comm, err));
#endif
done:
    return st;
}

/* End the communicator: the last that the ranks do together. */
static void end_comm(hsgd_watch *watch, hsgd_comm **comm)
{
    if (*comm != NULL) {
        hsgd_comm_unwatch(*comm);
        hsgd_watch_enter(watch, 0, 0, HSGD_WATCH_END);
        hsgd_comm_destroy(comm);
        hsgd_watch_leave(watch);
    }
}

/* End after writing failed.  A file may lie half-written and still be open: HDF5, which ends with MPI or with the
 * process, would write it once more, fail once more, and crash on what it has freed by then. */
static void leave_unwritten(hsgd_comm *comm)
{
    hsgd_error err = {0};

    /* the first that leaves ends all: not before the message is out, which the limit tells where this rank is alone */
    if (hsgd_comm_agree(comm, HSGD_OK, &err) != HSGD_OK && comm->rank != 0) {
        hsgd_clock_sleep(HSGD_WATCH_OUTLAST);
    }
    _exit(hsgd_error_exit_code(HSGD_ERR_IO));
}

/* Once per node: where another rank has told a failure, this one's follows from it. */
static bool may_tell(hsgd_watch *watch)
{
    return watch == NULL || hsgd_watch_may_tell(watch);
}

int main(int argc, char **argv)
{
    hsgd_status st = HSGD_OK;
    hsgd_error err = {0};
    hsgd_watch *watch = NULL;
    hsgd_comm *comm = NULL;
    hsgd_devices *devices = NULL;
    hsgd_arguments a = {0};

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    handle(SIGUSR1, on_stop);
    handle(SIGXFSZ, SIG_IGN); /* a file-size limit is an error of write(), not a death */
    if (is_slurms_task()) {   /* before MPI, whose start may take long on many nodes */
        handle(SIGTERM, on_stop);
    }
    HSGD_TRY(make_comm(argc, argv, &watch, &comm, &err));
    if (comm->ranks == 1) {
        handle(SIGTERM, on_stop);
    }
    HSGD_TRY(hsgd_arguments_parse(argc, argv, &a, &err));
    if (a.help || a.version) {
        if (comm->rank == 0 && a.version) {
            (void)printf("hsgd-dist %s (%s)\n", HSGD_VERSION, HSGD_GIT_COMMIT);
        } else if (comm->rank == 0) {
            (void)printf("%s\n", USAGE);
            hsgd_deck_help(stdout);
        }
        goto done;
    }
    st = study(&comm, watch, &devices, argc, argv, &a, &err);
done:
    if ((comm == NULL || comm->rank == 0) && st != HSGD_OK && st != HSGD_STOPPED && may_tell(watch)) {
        (void)fprintf(stderr, "hsgd-dist: error: %s\n",
                      err.text[0] != '\0' ? err.text : "memory: not enough for this study; use more nodes");
    }
    if (st != HSGD_OK && watch != NULL) {
        on_failure(watch, st, &err);
    }
    hsgd_arguments_free(&a);
    if (st == HSGD_ERR_IO && comm != NULL) {
        leave_unwritten(comm);
    }
    end_comm(watch, &comm);
    hsgd_devices_close(&devices);
    hsgd_watch_destroy(&watch);
    return hsgd_error_exit_code(st);
}
