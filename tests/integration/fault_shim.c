/* tests/integration/fault_shim.c - preloaded before the program: one rank dies, stops or ends in the N-th call of a
 * function of a library, for faults that no deck can ask for.
 *
 *   HSGD_FAULT_CALL    MPI_Init_thread, MPI_Barrier, MPI_Allreduce, MPI_Bcast, MPI_Reduce_scatter, MPI_Finalize, H5Dwrite,
 *                      GOMP_parallel (a sweep over samples), read (of a file whose name ends in "-ubyte")
 *   HSGD_FAULT_NUMBER  which call of it, from 1
 *   HSGD_FAULT_RANK    on which rank ($OMPI_COMM_WORLD_RANK), or ranks: "1,2"
 *   HSGD_FAULT_ACTION  exit0, exit1, abort, kill, stop, term; fail: MPI_Allreduce alone returns an error, and the rank
 *                      goes on
 *   HSGD_FAULT_AFTER   "CALL NUMBER": only calls after that one of another function count
 *   HSGD_FAULT_MARK    a file that is made where the fault happens */
#include <dlfcn.h>
#include <fcntl.h>
#include <hdf5.h>
#include <limits.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    return value != NULL ? value : "";
}

/* Is it this rank whom it befalls? */
static int is_chosen(void)
{
    const long rank = strtol(setting("OMPI_COMM_WORLD_RANK"), NULL, 10);
    const char *list = setting("HSGD_FAULT_RANK");
    char *end = NULL;

    while (*list != '\0') {
        if (strtol(list, &end, 10) == rank) {
            return 1;
        }
        list = *end == ',' ? end + 1 : end;
    }
    return 0;
}

static int failing; /* the call itself is to fail */

static void act(const char *action)
{
    const int mark = open(setting("HSGD_FAULT_MARK"), O_CREAT | O_WRONLY, 0600);

    if (mark >= 0) {
        (void)close(mark);
    }
    if (strncmp(action, "exit", 4) == 0) {
        exit(atoi(action + 4));
    } else if (strcmp(action, "abort") == 0) {
        abort();
    } else if (strcmp(action, "fail") == 0) {
        failing = 1;
    } else {
        (void)kill(getpid(), strcmp(action, "stop") == 0 ? SIGSTOP : strcmp(action, "term") == 0 ? SIGTERM : SIGKILL);
    }
}

/* One call more of `call`, of which there were *calls: do what is asked for. */
static void count(const char *call, long *calls)
{
    static int begun; /* the call of HSGD_FAULT_AFTER was made, or there is none */
    char after[64] = "";
    long first = 0;

    if (!is_chosen()) {
        return;
    }
    if (!begun && sscanf(setting("HSGD_FAULT_AFTER"), "%63s %ld", after, &first) == 2) {
        begun = strcmp(call, after) == 0 && ++*calls == first;
        return;
    }
    begun = 1;
    if (strcmp(setting("HSGD_FAULT_CALL"), call) == 0 && ++*calls == atol(setting("HSGD_FAULT_NUMBER"))) {
        act(setting("HSGD_FAULT_ACTION"));
    }
}

/* Define `name` as itself behind a count; `when`: whether this call counts. */
#define INTERPOSE(result, name, when, parameters, arguments)                                                           \
    result name parameters                                                                                             \
    {                                                                                                                  \
        static long calls;                                                                                             \
        static result(*next) parameters;                                                                               \
                                                                                                                       \
        if (next == NULL) {                                                                                            \
            *(void **)&next = dlsym(RTLD_NEXT, #name);                                                                 \
        }                                                                                                              \
        if (when) {                                                                                                    \
            count(#name, &calls);                                                                                      \
        }                                                                                                              \
        return next arguments;                                                                                         \
    }

INTERPOSE(int, MPI_Init_thread, 1, (int *argc, char ***argv, int required, int *provided),
          (argc, argv, required, provided))
INTERPOSE(int, MPI_Finalize, 1, (void), ())
INTERPOSE(int, MPI_Barrier, 1, (MPI_Comm comm), (comm))
INTERPOSE(int, MPI_Bcast, 1, (void *data, int n, MPI_Datatype type, int root, MPI_Comm comm),
          (data, n, type, root, comm))
int MPI_Allreduce(const void *from, void *to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    static long calls;

    count("MPI_Allreduce", &calls);
    return failing ? MPI_ERR_OTHER : PMPI_Allreduce(from, to, n, type, op, comm);
}

INTERPOSE(int, MPI_Reduce_scatter, 1,
          (const void *from, void *to, const int *n, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
          (from, to, n, type, op, comm))
INTERPOSE(herr_t, H5Dwrite, 1,
          (hid_t dataset, hid_t memory, hid_t memory_space, hid_t file_space, hid_t transfer, const void *data),
          (dataset, memory, memory_space, file_space, transfer, data))

static int is_data(int fd)
{
    static const char end[] = "-ubyte";
    char link[64], path[PATH_MAX];
    ssize_t length;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path);
    return length >= (ssize_t)sizeof end - 1 &&
           memcmp(path + (size_t)length - (sizeof end - 1), end, sizeof end - 1) == 0;
}

INTERPOSE(ssize_t, read, is_data(fd), (int fd, void *data, size_t bytes), (fd, data, bytes))

void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags);
void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags)
{
    static long calls;
    static void (*next)(void (*)(void *), void *, unsigned, unsigned);

    if (next == NULL) {
        *(void **)&next = dlsym(RTLD_NEXT, "GOMP_parallel");
    }
    count("GOMP_parallel", &calls);
    next(work, data, threads, flags);
}
