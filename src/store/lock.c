/* src/store/lock.c - see lock.h. */
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
    OWNER = 384,   /* bytes of the file at most */
    TOUCH = 10000, /* milliseconds between two signs of life */
    SIGNS = 3,     /* so many times that without one is no life */
    STEP = 250,    /* milliseconds at most that the other ranks wait for rank 0: less than run.stall_timeout can be */
    CONFIRM = 1000 /* milliseconds for another that takes the file over at the same time to write its name */
};

struct hsgd_lock {
    int fd;
    char path[STORE_PATH];
    char text[OWNER + 1]; /* what this run wrote into the file; "": nothing yet */
    int64_t touch;        /* milliseconds between two signs of life */
    pthread_t toucher;
    bool touching, ending; /* ending: guarded by the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t end;
};

/* ---- who holds it ---- */

typedef struct {
    char host[64], job[64]; /* job: the batch system's number, or "none" */
    long pid;
    long restart; /* how often Slurm has started the job again; 0 of another's jobs */
} owner;

/* The variable, or NULL where it is no word that the file could hold. */
static const char *word_of(const char *name)
{
    const char *word = getenv(name);

    return word != NULL && word[0] != '\0' && strpbrk(word, " \t\r\n") == NULL ? word : NULL;
}

static void describe_job(owner *self)
{
    const char *slurm = word_of("SLURM_JOB_ID"), *restart = word_of("SLURM_RESTART_COUNT");
    const char *pbs = word_of("PBS_JOBID");
    const char *lsf = word_of("LSB_JOBID"), *index = word_of("LSB_JOBINDEX");

    if (slurm != NULL) {
        (void)snprintf(self->job, sizeof self->job, "%.63s", slurm);
        self->restart = restart != NULL ? strtol(restart, NULL, 10) : 0;
    } else if (pbs != NULL) { /* an array's index is in it */
        (void)snprintf(self->job, sizeof self->job, "%.63s", pbs);
    } else if (lsf != NULL && index != NULL && strcmp(index, "0") != 0) {
        (void)snprintf(self->job, sizeof self->job, "%.40s[%.20s]", lsf, index);
    } else {
        (void)snprintf(self->job, sizeof self->job, "%.63s", lsf != NULL ? lsf : "none");
    }
}

static void describe_self(owner *self)
{
    *self = (owner){.pid = (long)getpid()};
    describe_job(self);
    if (gethostname(self->host, sizeof self->host - 1) != 0 || self->host[0] == '\0') {
        (void)snprintf(self->host, sizeof self->host, "unknown");
    }
    self->host[sizeof self->host - 1] = '\0';
}

/* Has Slurm started this very job again since `other`?  It does so only after the end of the first. */
static bool is_started_again(const owner *self, const owner *other)
{
    return strcmp(self->job, other->job) == 0 && self->restart > other->restart; /* of others' jobs both are 0 */
}

/* ---- the file ---- */

typedef struct {
    struct stat info;
    char text[OWNER + 1];
} sight;

/* The file of that name as it is now: opened anew, since a network file system may else answer from memory. */
static bool look(const char *path, sight *out)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const bool there = fd >= 0 && fstat(fd, &out->info) == 0;
    const ssize_t length = there ? pread(fd, out->text, OWNER, 0) : 0;

    out->text[length > 0 ? length : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
    return there && length >= 0;
}

/* The owner that the file names; what it does not tell is "unknown" or 0. */
static void read_owner(const char *path, owner *out)
{
    sight now;
    char pid[24] = "", restart[24] = "";

    *out = (owner){.host = "unknown", .job = "unknown"};
    if (look(path, &now)) {
        (void)sscanf(now.text, "host %63s pid %23s job %63s restart %23s", out->host, pid, out->job, restart);
        out->pid = strtol(pid, NULL, 10);
        out->restart = strtol(restart, NULL, 10);
    }
}

/* Is the open file still the one of that name? */
static bool is_current(int fd, const struct stat *there)
{
    struct stat here;

    return fstat(fd, &here) == 0 && here.st_ino == there->st_ino && here.st_dev == there->st_dev;
}

/* Is the file there, and does it name this run? */
static bool is_ours(const hsgd_lock *lock)
{
    sight now;

    return look(lock->path, &now) && lock->text[0] != '\0' && strcmp(now.text, lock->text) == 0 &&
           is_current(lock->fd, &now.info);
}

/* The same for the toucher, which opens nothing; true also where it cannot be told, as where a server does not answer. */
static bool may_be_ours(const hsgd_lock *lock)
{
    char text[OWNER + 1];
    struct stat there;
    const ssize_t length = pread(lock->fd, text, OWNER, 0);

    if (length < 0) {
        return true;
    }
    text[length] = '\0';
    return strcmp(text, lock->text) == 0 &&
           (stat(lock->path, &there) == 0 ? is_current(lock->fd, &there) : errno != ENOENT);
}

/* Down to the disk: a file server tells other machines only what has left this one. */
static bool write_self(hsgd_lock *lock, const owner *self)
{
    char since[32];
    int length;

    hsgd_clock_iso(since, sizeof since);
    length = snprintf(lock->text, sizeof lock->text, "host %s\npid %ld\njob %s\nrestart %ld\nsince %s\n", self->host,
                      self->pid, self->job, self->restart, since);
    return ftruncate(lock->fd, 0) == 0 && pwrite(lock->fd, lock->text, (size_t)length, 0) == length &&
           fsync(lock->fd) == 0;
}

/* Open the file and ask for its lock; again where the holder removes it between the two.  *locked: granted. *refused:
 * another process has it; neither: this file system has no locks. */
static hsgd_status open_locked(hsgd_lock *lock, bool *locked, bool *refused, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    struct stat there;

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
    } while (stat(lock->path, &there) != 0 || !is_current(lock->fd, &there));
done:
    return st;
}

/* ---- the sign of life ---- */

static void sleep_for(int64_t milliseconds)
{
    (void)nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000},
                    NULL);
}

static void *touch(void *context)
{
    hsgd_lock *lock = context;
    struct timespec until;
    bool ours = true;

    (void)pthread_mutex_lock(&lock->mutex);
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    while (!lock->ending && ours) {
        until.tv_sec += lock->touch / 1000;
        until.tv_nsec += (long)(lock->touch % 1000) * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (!lock->ending && pthread_cond_timedwait(&lock->end, &lock->mutex, &until) != ETIMEDOUT) {
        }
        ours = lock->ending || may_be_ours(lock); /* another's file gets no life from here */
        if (!lock->ending && ours) {
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
    if (lock->touching) {
        (void)pthread_setname_np(lock->toucher, "hsgd-lock"); /* for who lists the threads */
    }
    return lock->touching;
}

static void stop_touching(hsgd_lock *lock)
{
    if (lock->touching) {
        (void)pthread_mutex_lock(&lock->mutex);
        lock->ending = true;
        (void)pthread_cond_signal(&lock->end);
        (void)pthread_mutex_unlock(&lock->mutex);
        (void)pthread_join(lock->toucher, NULL);
        (void)pthread_cond_destroy(&lock->end);
        (void)pthread_mutex_destroy(&lock->mutex);
    }
}

/* ---- taking it: rank 0 goes in steps, so that the others can come along ---- */

typedef void teller(void *context, const char *text);

typedef struct {
    hsgd_lock *lock;    /* NULL: it could not be had */
    const char *folder; /* borrowed */
    owner self, other;  /* other.pid 0: the file named nobody */
    bool locked;        /* flock was granted */
    sight before;       /* of the file, when the look for a sign of life began */
    enum { SETTLED, LOOKING, CONFIRMING } stage;
    int64_t step, left; /* milliseconds of a step; steps of this stage to go */
    teller *warn;
    void *context;
} attempt;

static hsgd_status refuse(attempt *a, hsgd_error *err)
{
    owner holder;

    read_owner(a->lock->path, &holder); /* as it is now: not always the one that was waited for */
    if (holder.pid == 0) {
        holder = a->other; /* it is just going, or another is writing */
    }
    return hsgd_error_set(err, HSGD_ERR_USAGE,
                          "run.output: process %ld on %s (job %s) is writing to '%s'; wait for its end, or name "
                          "another folder with run.output=...",
                          holder.pid, holder.host, holder.job, a->folder);
}

/* The file names this run, and no other is at it. */
static hsgd_status settle(attempt *a, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char text[512];

    a->stage = SETTLED;
    if (a->other.pid != 0) {
        (void)snprintf(text, sizeof text,
                       "run.output: process %ld on %s (job %s) ended without giving back its lock; taken over",
                       a->other.pid, a->other.host, a->other.job);
        a->warn(a->context, text);
    }
    HSGD_CHECK(start_touching(a->lock), HSGD_ERR_MEMORY, err, "memory: cannot start the thread that keeps the lock");
done:
    return st;
}

/* Nobody alive has it: put this run's name there. */
static hsgd_status seize(attempt *a, hsgd_error *err)
{
    const bool elsewhere = a->other.pid != 0 && strcmp(a->self.host, a->other.host) != 0;

    if (!write_self(a->lock, &a->self)) {
        (void)hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot write the lock: %s; check free space and quota",
                             a->lock->path, strerror(errno));
        (void)unlink(a->lock->path); /* it is ours, and perhaps empty */
        return HSGD_ERR_IO;
    }
    if (a->locked && !elsewhere) {
        return settle(a, err);
    }
    a->stage = CONFIRMING; /* a run on another machine may have been granted the same */
    a->step = STEP;
    a->left = CONFIRM / STEP;
    return HSGD_OK;
}

/* One step of the wait for a sign of life of a holder on another machine.  The file's time is compared with itself, so
 * that no two clocks need agree.  A file that is gone or another one is a sign of life too. */
static hsgd_status look_again(attempt *a, hsgd_error *err)
{
    const struct stat *was = &a->before.info;
    sight now;

    if (!look(a->lock->path, &now) || now.info.st_ino != was->st_ino ||
        now.info.st_mtim.tv_sec != was->st_mtim.tv_sec || now.info.st_mtim.tv_nsec != was->st_mtim.tv_nsec ||
        strcmp(now.text, a->before.text) != 0) {
        return refuse(a, err);
    }
    return --a->left > 0 ? HSGD_OK : seize(a, err);
}

static hsgd_status confirm(attempt *a, hsgd_error *err)
{
    if (--a->left > 0) {
        return HSGD_OK;
    }
    return is_ours(a->lock) ? settle(a, err) : refuse(a, err);
}

/* One step of what is not settled. */
static hsgd_status go_on(attempt *a, hsgd_error *err)
{
    sleep_for(a->step);
    return a->stage == LOOKING ? look_again(a, err) : confirm(a, err);
}

static hsgd_status begin_to_look(attempt *a, hsgd_error *err)
{
    const int64_t all = SIGNS * a->lock->touch;
    char text[256];

    (void)snprintf(text, sizeof text,
                   "run.output: looks for %g seconds whether process %ld on %s (job %s), whose lock is there, is alive",
                   (double)all / 1000.0, a->other.pid, a->other.host, a->other.job);
    a->warn(a->context, text);
    if (!look(a->lock->path, &a->before)) {
        return refuse(a, err);
    }
    a->stage = LOOKING;
    a->step = all < STEP ? all : STEP;
    a->left = (all + a->step - 1) / a->step;
    return HSGD_OK;
}

static hsgd_status begin(attempt *a, int64_t milliseconds, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool refused;

    a->lock = calloc(1, sizeof *a->lock);
    HSGD_CHECK(a->lock != NULL, HSGD_ERR_MEMORY, err, "memory: cannot prepare the lock of %.200s", a->folder);
    a->lock->fd = -1;
    a->lock->touch = milliseconds;
    HSGD_CHECK(snprintf(a->lock->path, STORE_PATH, "%s/" HSGD_LOCK_NAME, a->folder) < STORE_PATH, HSGD_ERR_IO, err,
               "%.200s...: the folder's name is too long", a->folder);
    HSGD_TRY(store_make_folder(a->folder, err));
    describe_self(&a->self);
    HSGD_TRY(open_locked(a->lock, &a->locked, &refused, err));
    read_owner(a->lock->path, &a->other);
    if (refused) {
        st = refuse(a, err);
    } else if (a->other.pid == 0 || (a->locked && strcmp(a->self.host, a->other.host) == 0) ||
               is_started_again(&a->self, &a->other)) {
        st = seize(a, err);
    } else {
        st = begin_to_look(a, err);
    }
done:
    return st;
}

hsgd_status store_lock_take(hsgd_comm *comm, const char *folder, int64_t milliseconds,
                            void (*warn)(void *context, const char *text), void *context, hsgd_lock **out,
                            hsgd_error *err)
{
    hsgd_status st = HSGD_OK, shared;
    attempt a = {.folder = folder, .warn = warn, .context = context};
    int64_t more = 0;

    *out = NULL;
    if (comm->rank == 0) {
        st = begin(&a, milliseconds, err);
    }
    do {
        more = comm->rank == 0 && st == HSGD_OK && a.stage != SETTLED;
        shared = hsgd_comm_broadcast(comm, 0, sizeof more, &more, err);
        if (shared == HSGD_OK && more != 0 && comm->rank == 0) {
            st = go_on(&a, err);
        }
    } while (shared == HSGD_OK && more != 0);
    st = shared != HSGD_OK ? shared : hsgd_comm_agree(comm, st, err);
    if (st != HSGD_OK) {
        hsgd_lock_release(&a.lock);
    }
    *out = a.lock;
    return st;
}

hsgd_status hsgd_lock_take(hsgd_comm *comm, const char *folder, void (*warn)(void *context, const char *text),
                           void *context, hsgd_lock **out, hsgd_error *err)
{
    return store_lock_take(comm, folder, TOUCH, warn, context, out, err);
}

void hsgd_lock_release(hsgd_lock **out)
{
    hsgd_lock *lock = *out;

    *out = NULL;
    if (lock == NULL) {
        return;
    }
    stop_touching(lock);
    if (is_ours(lock)) {
        (void)unlink(lock->path); /* before it is given back: another may hold the next one of that name */
    }
    if (lock->fd >= 0) {
        (void)close(lock->fd);
    }
    free(lock);
}
