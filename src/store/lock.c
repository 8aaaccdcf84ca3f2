/* src/store/lock.c - see lock.h. */
#include "store/lock.h"
#include "base/clock.h"
#include "store/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    OWNER = 256,       /* bytes of the file at most */
    TOUCH_SECONDS = 10 /* between two signs of life; three times that without one is no life */
};

struct hsgd_lock {
    int fd;
    char path[STORE_PATH];
    pthread_t toucher;
    bool touching, ending; /* ending: guarded by the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t end;
};

/* ---- who holds it ---- */

typedef struct {
    char host[64], job[64]; /* job: the batch system's number, or "none" */
    long pid;
} owner;

static void describe_self(owner *self)
{
    static const char *const names[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};

    (void)snprintf(self->job, sizeof self->job, "none");
    for (int i = 2; i >= 0; i--) {
        const char *job = getenv(names[i]);

        if (job != NULL && job[0] != '\0' && strpbrk(job, " \n") == NULL) {
            (void)snprintf(self->job, sizeof self->job, "%.63s", job);
        }
    }
    self->pid = (long)getpid();
    if (gethostname(self->host, sizeof self->host - 1) != 0 || self->host[0] == '\0') {
        (void)snprintf(self->host, sizeof self->host, "unknown");
    }
    self->host[sizeof self->host - 1] = '\0';
}

static bool write_self(int fd, const owner *self)
{
    char text[OWNER], since[32];
    int length;

    hsgd_clock_iso(since, sizeof since);
    length =
        snprintf(text, sizeof text, "host %s\npid %ld\njob %s\nsince %s\n", self->host, self->pid, self->job, since);
    return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)length, 0) == length;
}

/* The owner that the file names; fields that it does not tell are "unknown". */
static void read_owner(int fd, owner *out)
{
    char text[OWNER + 1];
    const ssize_t length = pread(fd, text, OWNER, 0);

    *out = (owner){.host = "unknown", .job = "unknown"};
    text[length > 0 ? length : 0] = '\0';
    (void)sscanf(text, "host %63s pid %ld job %63s", out->host, &out->pid, out->job);
}

/* ---- is the holder alive? ---- */

/* The file of that name as it is now: opened anew, since a network file system may else answer from memory. */
static bool look(const char *path, struct stat *info)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const bool there = fd >= 0 && fstat(fd, info) == 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return there;
}

/* Wait for a sign of life of a holder on another machine.  The file's time is compared with itself, so that no two clocks
 * need agree.  A file that is gone or another one is a sign of life too. */
static bool is_touched(const char *path)
{
    struct stat before, now;

    if (!look(path, &before)) {
        return true;
    }
    for (int second = 0; second < 3 * TOUCH_SECONDS; second++) {
        (void)sleep(1);
        if (!look(path, &now) || now.st_ino != before.st_ino || now.st_mtim.tv_sec != before.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != before.st_mtim.tv_nsec) {
            return true;
        }
    }
    return false;
}

typedef void teller(void *context, const char *text);

/* Is the lock file, whose owner it names, left over?  locked: flock was granted. */
static bool is_left_over(const char *path, bool locked, const owner *self, const owner *other, teller *warn,
                         void *context)
{
    char text[256];

    if ((locked && strcmp(self->host, other->host) == 0) ||
        (strcmp(self->job, "none") != 0 && strcmp(self->job, other->job) == 0)) {
        return true; /* it ended without leaving; or it is this very job, started again elsewhere */
    }
    (void)snprintf(text, sizeof text,
                   "run.output: looks for %d seconds whether process %ld on %s (job %s), whose lock is there, is alive",
                   3 * TOUCH_SECONDS, other->pid, other->host, other->job);
    warn(context, text);
    return !is_touched(path);
}

/* ---- taking it ---- */

/* Is the open file still the one of that name? */
static bool is_current(int fd, const char *path)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino &&
           here.st_dev == there.st_dev;
}

/* Open the file and ask for its lock; again where the holder removes it between the two.  *locked: granted. *refused:
 * another process has it; neither: this file system has no locks. */
static hsgd_status open_locked(hsgd_lock *lock, bool *locked, bool *refused, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    do {
        if (lock->fd >= 0) {
            (void)close(lock->fd);
        }
        lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        HSGD_CHECK(lock->fd >= 0, HSGD_ERR_IO, err,
                   "%s: cannot make the lock: %s; check permissions, or name another folder with run.output=...",
                   lock->path, strerror(errno));
        *locked = flock(lock->fd, LOCK_EX | LOCK_NB) == 0;
        *refused = !*locked && errno == EWOULDBLOCK;
    } while (!is_current(lock->fd, lock->path));
done:
    return st;
}

static hsgd_status take(hsgd_lock *lock, const char *folder, teller *warn, void *context, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    owner self = {0}, other = {0};
    bool locked, refused, left_over;
    char text[512];

    describe_self(&self);
    HSGD_TRY(open_locked(lock, &locked, &refused, err));
    read_owner(lock->fd, &other);
    left_over = !refused && other.pid != 0 && is_left_over(lock->path, locked, &self, &other, warn, context);
    HSGD_CHECK(
        !refused && (other.pid == 0 || left_over), HSGD_ERR_USAGE, err,
        "run.output: process %ld on %s (job %s) is writing to '%s'; wait for its end, or name another folder with "
        "run.output=...",
        other.pid, other.host, other.job, folder);
    if (left_over) {
        (void)snprintf(text, sizeof text,
                       "run.output: process %ld on %s (job %s) ended without giving back its lock; taken over",
                       other.pid, other.host, other.job);
        warn(context, text);
    }
    if (!write_self(lock->fd, &self)) {
        st = hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot write the lock: %s; check free space and quota", lock->path,
                            strerror(errno));
        (void)unlink(lock->path); /* it is ours, and empty */
    }
done:
    return st;
}

/* ---- the sign of life ---- */

static void *touch(void *context)
{
    hsgd_lock *lock = context;
    struct timespec until;

    (void)pthread_mutex_lock(&lock->mutex);
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    while (!lock->ending) {
        until.tv_sec += TOUCH_SECONDS;
        while (!lock->ending && pthread_cond_timedwait(&lock->end, &lock->mutex, &until) != ETIMEDOUT) {
        }
        if (!lock->ending) {
            (void)futimens(lock->fd, NULL);
        }
    }
    (void)pthread_mutex_unlock(&lock->mutex);
    return NULL;
}

/* A thread that takes no signals: they are the main thread's. */
static bool start_touching(hsgd_lock *lock)
{
    pthread_condattr_t monotonic;
    sigset_t all, before;

    (void)pthread_mutex_init(&lock->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&lock->end, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    lock->touching = pthread_create(&lock->toucher, NULL, touch, lock) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return lock->touching;
}

/* On rank 0. */
static hsgd_status make(const char *folder, teller *warn, void *context, hsgd_lock **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_lock *lock = calloc(1, sizeof *lock);

    HSGD_CHECK(lock != NULL, HSGD_ERR_MEMORY, err, "memory: cannot prepare the lock of %.200s", folder);
    lock->fd = -1;
    HSGD_CHECK(snprintf(lock->path, sizeof lock->path, "%s/" HSGD_LOCK_NAME, folder) < (int)sizeof lock->path,
               HSGD_ERR_IO, err, "%.200s...: the folder's name is too long", folder);
    HSGD_TRY(store_make_folder(folder, err));
    HSGD_TRY(take(lock, folder, warn, context, err));
    HSGD_CHECK(start_touching(lock), HSGD_ERR_MEMORY, err, "memory: cannot start the thread that keeps the lock");
    *out = lock;
    lock = NULL;
done:
    if (lock != NULL && lock->fd >= 0) {
        (void)close(lock->fd);
    }
    free(lock);
    return st;
}

hsgd_status hsgd_lock_take(hsgd_comm *comm, const char *folder, void (*warn)(void *context, const char *text),
                           void *context, hsgd_lock **out, hsgd_error *err)
{
    hsgd_status st;

    *out = NULL;
    st = hsgd_comm_agree(comm, comm->rank == 0 ? make(folder, warn, context, out, err) : HSGD_OK, err);
    if (st != HSGD_OK) {
        hsgd_lock_release(out);
    }
    return st;
}

void hsgd_lock_release(hsgd_lock **out)
{
    hsgd_lock *lock = *out;

    *out = NULL;
    if (lock == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&lock->mutex);
    lock->ending = true;
    (void)pthread_cond_signal(&lock->end);
    (void)pthread_mutex_unlock(&lock->mutex);
    if (lock->touching) {
        (void)pthread_join(lock->toucher, NULL);
    }
    (void)pthread_cond_destroy(&lock->end);
    (void)pthread_mutex_destroy(&lock->mutex);
    if (is_current(lock->fd, lock->path)) {
        (void)unlink(lock->path); /* before it is given back: another may hold the next one of that name */
    }
    (void)close(lock->fd);
    free(lock);
}
