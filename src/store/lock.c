/* src/store/lock.c - see lock.h. */
#include "base/clock.h"
#include "base/ticker.h"
#include "store/internal.h"
#include "store/owner.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TOUCH = 10000,  /* milliseconds between two signs of life */
    SIGNS = 3,      /* so many times that without one is no life */
    STEP = 250,     /* milliseconds at most that the other ranks wait for rank 0: less than run.stall_timeout can be */
    CONFIRM = 1000, /* milliseconds for another that takes the file over at the same time to write its name */
    TRIES = 10,     /* of what another run's step may spoil, which takes it an instant, ... */
    PAUSE = 20      /* ... and milliseconds between them: together less than a STEP */
};

struct hsgd_lock {
    int fd;
    struct stat file; /* that is open */
    char path[STORE_PATH];
    char text[OWNER_TEXT]; /* what this run wrote into the file; "": nothing yet */
    int64_t touch;         /* milliseconds between two signs of life */
    hsgd_ticker *toucher;
    atomic_bool lost; /* another run has it: once seen, for good */
};

/* ---- the file ---- */

typedef struct {
    struct stat info;
    char text[OWNER_TEXT];
} sight;

/* The file of that name as it is now: opened anew, since a network file system may else answer from memory.  false: it
 * cannot be read, errno says why, and the text names nobody. */
static bool look(const char *path, sight *out)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const bool there = fd >= 0 && fstat(fd, &out->info) == 0;
    const ssize_t length = there ? pread(fd, out->text, sizeof out->text - 1, 0) : -1;
    const int why = errno;

    out->text[length > 0 ? length : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = why;
    return length >= 0;
}

static bool is_same(const struct stat *one, const struct stat *other)
{
    return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

/* Is the file there, and does it hold what this run writes, or as much of it as a full disk let through?  UNTOLD: it
 * cannot be read, errno says why. */
static enum { NO, YES, UNTOLD } is_ours(const hsgd_lock *lock, bool whole)
{
    sight now;

    if (lock->text[0] == '\0') {
        return NO;
    }
    if (!look(lock->path, &now)) {
        return errno == ENOENT ? NO : UNTOLD;
    }
    return is_same(&lock->file, &now.info) &&
                   strncmp(now.text, lock->text, whole ? sizeof now.text : strlen(now.text)) == 0
               ? YES
               : NO;
}

/* Does the text name another run than this one?  It is in *named then, else nobody is. */
static bool names_another(const hsgd_lock *lock, const char *text, owner *named)
{
    *named = strcmp(text, lock->text) != 0 ? owner_named_in(text) : (owner){.pid = 0};
    return named->pid != 0;
}

/* Is it certain that the file of that name is another run's (*taker), or that there is none (nobody)?  It is not where a
 * server does not answer, nor where nobody is named.  What was opened long ago is not asked: it may be answered from
 * memory, or be a file that is gone, whose number another one has. */
static bool is_anothers(const hsgd_lock *lock, owner *taker)
{
    sight now;

    *taker = (owner){.pid = 0};
    return look(lock->path, &now) ? names_another(lock, now.text, taker) : errno == ENOENT;
}

/* Down to the disk: a file server tells other machines only what has left this one. */
static bool write_self(hsgd_lock *lock, const owner *self)
{
    ssize_t length, written;

    owner_format(self, lock->text);
    length = (ssize_t)strlen(lock->text);
    written = ftruncate(lock->fd, 0) == 0 ? pwrite(lock->fd, lock->text, (size_t)length, 0) : -1;
    if (written >= 0 && written < length) { /* which is no failure to the system yet */
        errno = ENOSPC;
    }
    return written == length && fsync(lock->fd) == 0;
}

static void sleep_for(int64_t milliseconds)
{
    hsgd_clock_sleep((double)milliseconds / 1000.0); /* whole steps: a signal must not shorten the look */
}

/* ---- the sign of life ---- */

/* Another's file gets no life from here. */
static bool touch(void *context, int64_t period)
{
    hsgd_lock *lock = context;
    owner taker;

    (void)period;
    if (is_anothers(lock, &taker)) {
        atomic_store(&lock->lost, true);
    } else {
        (void)futimens(lock->fd, NULL);
    }
    return !hsgd_lock_is_lost(lock);
}

static hsgd_status start_touching(hsgd_lock *lock, hsgd_error *err)
{
    static const hsgd_ticker_task task = {.name = "hsgd-lock", .duty = "keeps the lock of run.output", .tick = touch};
    const hsgd_status st = hsgd_ticker_create(&task, lock, lock->touch, &lock->toucher, err);

    return st == HSGD_OK ? hsgd_ticker_start(lock->toucher, err) : st;
}

/* ---- taking it: rank 0 goes in steps, so that the others can come along ---- */

typedef void teller(void *context, const char *text);

typedef struct {
    hsgd_lock *lock;                           /* NULL: it could not be had */
    const char *folder;                        /* borrowed */
    owner self, other;                         /* other: whom the file named, or nobody */
    bool made;                                 /* the file was not there before */
    enum { GRANTED, REFUSED, WITHOUT } answer; /* to flock; WITHOUT: this file system has no locks */
    sight before;                              /* of the file, when the look for a sign of life began */
    enum { SETTLED, LOOKING, CONFIRMING } stage;
    int64_t step, left; /* milliseconds of a step; steps of this stage to go */
    teller *warn;
    void *context;
} attempt;

/* Open the file and ask for its lock; again where the holder removes it between the two. */
static hsgd_status open_locked(attempt *a, hsgd_error *err)
{
    const int how = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    hsgd_status st = HSGD_OK;
    hsgd_lock *lock = a->lock;
    struct stat there;
    bool current = false;

    for (int i = 0; !current; i++) {
        HSGD_CHECK(i < TRIES, HSGD_ERR_IO, err,
                   "%s: cannot make the lock: at each look the name leads to another file, or to none; check the file "
                   "system, or name another folder with run.output=...",
                   lock->path);
        if (i > 0) {
            (void)close(lock->fd);
            sleep_for(PAUSE);
        }
        lock->fd = open(lock->path, how | O_EXCL, 0666);
        a->made = lock->fd >= 0;
        if (!a->made && errno == EEXIST) {
            lock->fd = open(lock->path, how, 0666);
        }
        HSGD_CHECK(lock->fd >= 0 && fstat(lock->fd, &lock->file) == 0, HSGD_ERR_IO, err,
                   "%s: cannot make the lock: %s; check permissions, or name another folder with run.output=...",
                   lock->path, strerror(errno));
        a->answer = flock(lock->fd, LOCK_EX | LOCK_NB) == 0 ? GRANTED : errno == EWOULDBLOCK ? REFUSED : WITHOUT;
        current = stat(lock->path, &there) == 0 && is_same(&lock->file, &there);
    }
done:
    return st;
}

/* errno says why. */
static hsgd_status cannot_read(const attempt *a, hsgd_error *err)
{
    return hsgd_error_set(
        err, HSGD_ERR_IO,
        "%s: cannot read whose lock it is: %s; check permissions, or name another folder with run.output=...",
        a->lock->path, strerror(errno));
}

static hsgd_status refuse(const attempt *a, hsgd_error *err)
{
    sight now = {.text = ""};
    owner holder = {.pid = 0}; /* as it is now: not always the one that was waited for */

    for (int i = 0; i < TRIES && holder.pid == 0; i++) { /* it may be about to write its name, or just going */
        sleep_for(i > 0 ? PAUSE : 0);
        (void)look(a->lock->path, &now);
        (void)names_another(a->lock, now.text, &holder);
    }
    return hsgd_error_set(
        err, HSGD_ERR_USAGE,
        "run.output: %s is writing to '%s'; wait for its end, or name another folder with run.output=...",
        owner_words(holder.pid != 0 ? &holder : &a->other).text, a->folder);
}

/* Its machine may have gone down, which a server of files need not learn before that machine is up again. */
static hsgd_status refuse_silent(const attempt *a, hsgd_error *err)
{
    return hsgd_error_set(err, HSGD_ERR_USAGE,
                          "run.output: %s has the lock of '%s', but has shown no life for %g seconds; where it is "
                          "certain that it does not run any more, remove %s, else name another folder with "
                          "run.output=...",
                          owner_words(&a->other).text, a->folder, (double)(SIGNS * a->lock->touch) / 1000.0,
                          a->lock->path);
}

/* The file names this run, and no other is at it. */
static hsgd_status settle(attempt *a, hsgd_error *err)
{
    char text[512];

    a->stage = SETTLED;
    if (a->other.pid != 0) {
        (void)snprintf(text, sizeof text, "run.output: %s ended without giving back its lock; taken over",
                       owner_words(&a->other).text);
        a->warn(a->context, text);
    }
    return start_touching(a->lock, err);
}

/* Nobody alive has it: put this run's name there. */
static hsgd_status seize(attempt *a, hsgd_error *err)
{
    const bool alone = a->made || (a->other.pid != 0 && strcmp(a->self.host, a->other.host) == 0);

    if (!write_self(a->lock, &a->self)) {
        (void)hsgd_error_set(err, HSGD_ERR_IO, "%s: cannot write the lock: %s; check free space and quota",
                             a->lock->path, strerror(errno));
        if (is_ours(a->lock, false) == YES) {
            (void)unlink(a->lock->path);
        }
        return HSGD_ERR_IO;
    }
    if (a->answer == GRANTED && alone) {
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
    const bool there = look(a->lock->path, &now);

    if (!there && errno != ENOENT) {
        return cannot_read(a, err); /* which tells of no life */
    }
    if (!there || now.info.st_ino != was->st_ino || now.info.st_mtim.tv_sec != was->st_mtim.tv_sec ||
        now.info.st_mtim.tv_nsec != was->st_mtim.tv_nsec || strcmp(now.text, a->before.text) != 0) {
        return refuse(a, err);
    }
    if (--a->left > 0) {
        return HSGD_OK;
    }
    return a->answer == REFUSED ? refuse_silent(a, err) : seize(a, err);
}

static hsgd_status confirm(attempt *a, hsgd_error *err)
{
    if (--a->left > 0) {
        return HSGD_OK;
    }
    switch (is_ours(a->lock, true)) {
    case YES:
        return settle(a, err);
    case NO:
        return refuse(a, err);
    default:
        return cannot_read(a, err);
    }
}

/* One step of what is not settled. */
static hsgd_status go_on(attempt *a, hsgd_error *err)
{
    sleep_for(a->step);
    return a->stage == LOOKING ? look_again(a, err) : confirm(a, err);
}

static void begin_to_look(attempt *a)
{
    const int64_t all = SIGNS * a->lock->touch;
    char text[512];

    (void)snprintf(text, sizeof text, "run.output: looks for %g seconds whether %s, whose lock is there, is alive",
                   (double)all / 1000.0, owner_words(&a->other).text);
    a->warn(a->context, text);
    a->stage = LOOKING;
    a->step = all < STEP ? all : STEP;
    a->left = (all + a->step - 1) / a->step;
}

static hsgd_status begin(attempt *a, int64_t milliseconds, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool here;

    a->lock = calloc(1, sizeof *a->lock);
    HSGD_CHECK(a->lock != NULL, HSGD_ERR_MEMORY, err, "memory: cannot prepare the lock of %.200s", a->folder);
    a->lock->fd = -1;
    a->lock->touch = milliseconds;
    HSGD_CHECK(snprintf(a->lock->path, STORE_PATH, "%s/" HSGD_LOCK_NAME, a->folder) < STORE_PATH, HSGD_ERR_IO, err,
               "%.200s...: the folder's name is too long", a->folder);
    HSGD_TRY(store_make_folder(a->folder, err));
    a->self = owner_self();
    HSGD_TRY(open_locked(a, err));
    if (!look(a->lock->path, &a->before) && (a->answer != REFUSED || errno != ENOENT)) { /* it may have gone just now */
        return cannot_read(a, err);
    }
    a->other = owner_named_in(a->before.text);
    here = a->other.pid == 0 || strcmp(a->self.host, a->other.host) == 0;
    if (a->answer == REFUSED && here) {
        st = refuse(a, err);
    } else if (a->other.pid == 0 || (a->answer == GRANTED && here)) {
        st = seize(a, err);
    } else {
        begin_to_look(a);
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

bool hsgd_lock_is_lost(const hsgd_lock *lock)
{
    return lock != NULL && atomic_load(&lock->lost);
}

hsgd_status hsgd_lock_check(hsgd_lock *lock, hsgd_error *err)
{
    owner taker;
    bool seen, gone;

    if (lock == NULL) {
        return HSGD_OK;
    }
    seen = is_anothers(lock, &taker);
    gone = seen && taker.pid == 0;
    if (!seen && !hsgd_lock_is_lost(lock)) {
        return HSGD_OK;
    }
    atomic_store(&lock->lost, true);
    return hsgd_error_set(
        err, HSGD_ERR_IO,
        "%s: this run has lost the lock: %s%s; this run writes nothing more; go on with --restart when "
        "no other run writes to this folder, or name another with run.output=...",
        lock->path, gone ? "the file" : owner_words(&taker).text,
        gone ? " is gone" : " took it over, maybe while this one stood still");
}

void hsgd_lock_release(hsgd_lock **out)
{
    hsgd_lock *lock = *out;

    *out = NULL;
    if (lock == NULL) {
        return;
    }
    hsgd_ticker_destroy(&lock->toucher);
    if (is_ours(lock, true) == YES) {
        (void)unlink(lock->path); /* before it is given back: another may hold the next one of that name */
    }
    if (lock->fd >= 0) {
        (void)close(lock->fd);
    }
    free(lock);
}
