/* src/base/watch.c - see watch.h. */
#include "base/watch.h"
#include "base/ticker.h"
#include "base/watch_word.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PATIENT_TICK = 1000, /* milliseconds between two looks ... */
    HASTY_TICK = 250,    /* ... and where the time-out is no longer than HASTY seconds, or a limit runs */
    HASTY = 10,
    FIRST_SAY = 4, /* seconds that a node which sees nobody late leaves to one that does */
    STAGGER = 3,   /* seconds from one rank to the next that cannot see it: a launcher takes up to 2 to end a job ... */
    PLACES = 2,    /* ... so rank 0 speaks first, then rank 1, then all others at once */
    CACHE_LINE = 64 /* a slot has one of its own: a rank's marks disturb no other's */
};

typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t word;
    atomic_uint marks; /* of getting on where the word stays what it is */
    atomic_uint beat;  /* counts its watch's looks: one that stands still belongs to a process that does */
    atomic_int rank;
} slot;

/* What the ranks of a node share. */
typedef struct {
    _Alignas(CACHE_LINE) atomic_bool told; /* a failure was told on this node */
    slot slots[];
} node;

/* What this rank last saw of another, and since which tick that has not got on, and its process has not. */
typedef struct {
    uint64_t word;
    unsigned marks, beat;
    int64_t same_since, beat_since;
} sight;

typedef struct {
    int64_t end; /* tick; 0: no limit */
    hsgd_status status;
    char text[sizeof((hsgd_error *)0)->text];
} limit;

struct hsgd_watch {
    hsgd_watch_end end;
    void *context;
    slot *own;           /* of the thread that marks: in the node's memory, or `alone` */
    slot alone;          /* while there is no node's memory */
    hsgd_ticker *ticker; /* its lock is that of all that follows */
    node *shared;        /* borrowed; NULL: none */
    atomic_bool told;
    int rank, ranks, local_rank, local_ranks;
    char host[64];
    sight *sights; /* [local_ranks] */
    int64_t timeout;
    int64_t tick, since; /* ticks of HASTY_TICK; since when the own word is what it is */
    uint64_t word;
    limit limits[HSGD_WATCH_LIMITS];
    hsgd_error verdict; /* what to end with */
};

/* ---- marks ---- */

void hsgd_watch_enter(hsgd_watch *watch, int group, int64_t number, hsgd_watch_operation operation)
{
    const uint64_t word = watch_word(group, number, operation);

    atomic_store_explicit(&watch->own->word, word, memory_order_relaxed);
}

void hsgd_watch_leave(hsgd_watch *watch)
{
    const uint64_t word = atomic_load_explicit(&watch->own->word, memory_order_relaxed);

    atomic_store_explicit(&watch->own->word, watch_word_left(word), memory_order_relaxed);
}

void hsgd_watch_mark(hsgd_watch *watch, int group, int64_t number)
{
    slot *own = watch->own;
    const uint64_t word = watch_word_left(watch_word(group, number, HSGD_WATCH_WORK));

    atomic_store_explicit(&own->word, word, memory_order_relaxed);
    atomic_store_explicit(&own->marks, atomic_load_explicit(&own->marks, memory_order_relaxed) + 1,
                          memory_order_relaxed); /* by this thread alone */
}

/* ---- who is late ---- */

static int64_t ticks(int64_t seconds)
{
    return seconds * 1000 / HASTY_TICK;
}

/* Look at the other ranks of the node; `anew` where a wait begins: nobody has stood still yet. */
static void look_around(hsgd_watch *watch, bool anew)
{
    for (int i = 0; i < watch->local_ranks && watch->shared != NULL; i++) {
        const slot *other = &watch->shared->slots[i];
        const uint64_t word = atomic_load_explicit(&other->word, memory_order_relaxed);
        const unsigned marks = atomic_load_explicit(&other->marks, memory_order_relaxed);
        const unsigned beat = atomic_load_explicit(&other->beat, memory_order_relaxed);
        sight *s = &watch->sights[i];

        s->same_since = anew || s->word != word || s->marks != marks ? watch->tick : s->same_since;
        s->beat_since = anew || s->beat != beat ? watch->tick : s->beat_since;
        s->word = word;
        s->marks = marks;
        s->beat = beat;
    }
}

typedef enum { NOBODY, BEHIND, OUTSIDE, STILL, GONE } lateness; /* the last two hold whatever other ranks do */

/* Can this rank, in its operation, wait for rank i of the node?  Within a group not for those seen in another one. */
static bool concerns(const hsgd_watch *watch, int i)
{
    const uint64_t own = watch_word_group(watch->word), others = watch_word_group(watch->sights[i].word);

    return i != watch->local_rank && (own == 0 || others == 0 || others == own);
}

/* For how long a rank must have done the same to be late: half of the time-out; before a meeting all of it, for what
 * goes before may be long. */
static int64_t long_enough(const hsgd_watch *watch)
{
    return ticks(watch->timeout) / (watch_word_operation(watch->word) == HSGD_WATCH_MEETING ? 1 : 2);
}

/* Is rank i of the node late, while this rank waits? */
static lateness lateness_of(const hsgd_watch *watch, int i)
{
    const sight *s = &watch->sights[i];

    if (!concerns(watch, i)) {
        return NOBODY;
    }
    if (watch_word_operation(s->word) == HSGD_WATCH_END) {
        return GONE;
    }
    if (watch->tick - s->beat_since >= ticks(watch->timeout) / 2) {
        return STILL;
    }
    if (watch->tick - s->same_since < long_enough(watch)) {
        return NOBODY;
    }
    if (!watch_word_inside(s->word)) {
        return OUTSIDE;
    }
    return watch_word_group(s->word) == watch_word_group(watch->word) &&
                   watch_word_number(s->word) < watch_word_number(watch->word)
               ? BEHIND
               : NOBODY;
}

/* What a look around the node shows. */
typedef struct {
    lateness worst;
    int which;  /* of the node's ranks, is so late */
    bool moves; /* somebody who may be waited for gets on */
    bool equal; /* all are in this rank's operation */
} view;

static view survey(const hsgd_watch *watch)
{
    view v = {.worst = NOBODY, .equal = true};

    for (int i = 0; i < watch->local_ranks && watch->shared != NULL; i++) {
        const sight *s = &watch->sights[i];
        const lateness l = lateness_of(watch, i);

        if (l > v.worst) {
            v.worst = l;
            v.which = i;
        }
        v.moves = v.moves || (concerns(watch, i) && watch->tick - s->same_since < long_enough(watch));
        v.equal = v.equal && (i == watch->local_rank || s->word == watch->word);
    }
    return v;
}

/* Who of this node keeps the others waiting, in words. */
static void describe_late(const hsgd_watch *watch, const view *v, char *text, size_t size)
{
    static const char *const forms[] = {
        [BEHIND] = "rank %d of %s is still in %s",
        [OUTSIDE] = "rank %d of %s has not come since it %s",
        [STILL] = "rank %d of %s stands still (a stopped process?), %s",
        [GONE] = "rank %d of %s has gone to %s",
    };
    const uint64_t word = watch->sights[v->which].word;
    const bool works = watch_word_operation(word) == HSGD_WATCH_WORK;
    const char *relation = "";
    char doing[80], when[96];

    watch_word_describe(word, doing, sizeof doing);
    if (v->worst == OUTSIDE) {
        relation = works ? "was seen at " : "left ";
    } else if (v->worst == STILL) {
        relation = works ? "at " : watch_word_inside(word) ? "in " : "after ";
    }
    (void)snprintf(when, sizeof when, "%s%s", relation, doing);
    (void)snprintf(text, size, forms[v->worst], atomic_load(&watch->shared->slots[v->which].rank), watch->host, when);
}

/* Has this rank waited too long for somebody of its node, or for whom it cannot see?  While a rank of the node gets on
 * it may just have more to do, as in a long round of another group; and so may those of other nodes before a meeting. */
static bool is_too_long(const hsgd_watch *watch, const view *v)
{
    const int64_t waited = watch->tick - watch->since;
    const int64_t order = STAGGER * (watch->rank < PLACES ? watch->rank : PLACES);
    const bool one_node = watch->shared != NULL && watch->local_ranks == watch->ranks;
    int64_t patience = watch->timeout;

    if (v->worst >= STILL) {
        return true;
    }
    if (v->moves) {
        return false;
    }
    if (v->worst != NOBODY) {
        return true;
    }
    if (watch_word_operation(watch->word) == HSGD_WATCH_MEETING) {
        return one_node && v->equal;
    }
    patience += one_node ? 0 : watch->shared == NULL ? order : FIRST_SAY + order;
    return waited >= ticks(patience);
}

/* Is this rank caught?  Then *text says where and for whom, and *status is HSGD_ERR_IO where a file is what holds up. */
static bool is_stalled(const hsgd_watch *watch, hsgd_status *status, char *text, size_t size)
{
    const int64_t waited = watch->tick - watch->since;
    const bool one_node = watch->shared != NULL && watch->local_ranks == watch->ranks;
    uint64_t holds_up = watch->word; /* where nobody is late: the operation itself */
    char late[256], doing[80];
    view v;

    if (!watch_word_inside(watch->word) || watch->timeout == 0 || waited < ticks(watch->timeout)) {
        return false;
    }
    v = survey(watch);
    if (!is_too_long(watch, &v)) {
        return false;
    }
    if (v.worst != NOBODY) {
        holds_up = watch->sights[v.which].word;
        describe_late(watch, &v, late, sizeof late);
    } else {
        (void)snprintf(late, sizeof late, "%s",
                       watch->shared == NULL ? "another rank has not come"
                       : !one_node           ? "no rank of this node is late, so look at the other nodes"
                       : v.equal             ? "every rank is in it: MPI or the file system is stuck"
                                             : "no rank is seen to be late: MPI or the file system is stuck");
    }
    *status = watch_word_inside(holds_up) && watch_word_operation(holds_up) >= HSGD_WATCH_FILE_CREATE ? HSGD_ERR_IO
                                                                                                      : HSGD_ERR_DEVICE;
    watch_word_describe(watch->word, doing, sizeof doing);
    (void)snprintf(text, size,
                   "ranks: rank %d of %s has waited %lld s in %s: %s; see that node's log, then run again with "
                   "--restart; where all is well give more time by run.stall_timeout",
                   watch->rank, watch->host, (long long)(waited * HASTY_TICK / 1000), doing, late);
    return true;
}

/* ---- the thread ---- */

static bool may_tell(hsgd_watch *watch)
{
    return !atomic_exchange(watch->shared != NULL ? &watch->shared->told : &watch->told, true);
}

/* How often to look, after a change of the time-out or a limit. */
static void set_pace(hsgd_watch *watch)
{
    const bool limited = watch->limits[0].end > 0 || watch->limits[1].end > 0;
    const bool hasty = limited || (watch->timeout > 0 && watch->timeout <= HASTY);

    hsgd_ticker_period(watch->ticker, hasty ? HASTY_TICK : PATIENT_TICK);
}

/* After a failure: the words to end with, or wait for the end by whoever told it already. */
static bool conclude(hsgd_watch *watch, hsgd_status status, const char *text)
{
    limit *leaving = &watch->limits[HSGD_WATCH_LEAVING];

    if (text[0] == '\0' || may_tell(watch)) {
        (void)hsgd_error_set(&watch->verdict, status, "%s", text);
        return true;
    }
    leaving->end = watch->tick + ticks(HSGD_WATCH_SILENCE);
    leaving->status = status;
    leaving->text[0] = '\0';
    watch->timeout = 0;
    watch->limits[HSGD_WATCH_ALONE].end = 0;
    set_pace(watch);
    return false;
}

/* One look: true where the rank is to end, with the verdict. */
static bool look(hsgd_watch *watch)
{
    const uint64_t word = atomic_load_explicit(&watch->own->word, memory_order_relaxed);
    const bool anew = word != watch->word;
    hsgd_status status = HSGD_OK;
    char text[sizeof watch->verdict.text];

    (void)atomic_fetch_add_explicit(&watch->own->beat, 1, memory_order_relaxed);
    if (anew) {
        watch->word = word;
        watch->since = watch->tick;
    }
    if (watch_word_inside(word)) {
        look_around(watch, anew);
    }
    for (int i = 0; i < HSGD_WATCH_LIMITS; i++) {
        const limit *l = &watch->limits[i];

        if (l->end > 0 && watch->tick >= l->end) {
            (void)snprintf(text, sizeof text, "%s", l->text);
            return conclude(watch, l->status, text);
        }
    }
    return watch->limits[HSGD_WATCH_LEAVING].text[0] == '\0' && is_stalled(watch, &status, text, sizeof text) &&
           conclude(watch, status, text);
}

static bool tick(void *context, int64_t period)
{
    hsgd_watch *watch = context;

    watch->tick += period / HASTY_TICK;
    return !look(watch);
}

static void finish(void *context)
{
    hsgd_watch *watch = context;

    watch->end(watch->context, watch->verdict.status, watch->verdict.text);
}

static const hsgd_ticker_task task = {
    .name = "hsgd-watch", .duty = "watches over the ranks", .tick = tick, .end = finish};

/* ---- the interface ---- */

hsgd_status hsgd_watch_create(int rank, hsgd_watch_end end, void *context, hsgd_watch **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_watch *watch = aligned_alloc(CACHE_LINE, (sizeof *watch + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);

    *out = NULL;
    HSGD_CHECK(watch != NULL, HSGD_ERR_MEMORY, err, "memory: cannot allocate the watch over the ranks");
    memset(watch, 0, sizeof *watch);
    watch->rank = rank;
    watch->end = end;
    watch->context = context;
    watch->own = &watch->alone;
    if (gethostname(watch->host, sizeof watch->host - 1) != 0) {
        strcpy(watch->host, "localhost");
    }
    HSGD_TRY(hsgd_ticker_create(&task, watch, PATIENT_TICK, &watch->ticker, err));
    *out = watch;
    watch = NULL;
done:
    free(watch);
    return st;
}

hsgd_status hsgd_watch_start(hsgd_watch *watch, hsgd_error *err)
{
    return hsgd_ticker_start(watch->ticker, err);
}

void hsgd_watch_destroy(hsgd_watch **watch)
{
    hsgd_watch *old = watch != NULL ? *watch : NULL;

    if (old == NULL) {
        return;
    }
    *watch = NULL;
    hsgd_ticker_destroy(&old->ticker);
    free(old->sights);
    free(old);
}

void hsgd_watch_timeout(hsgd_watch *watch, int64_t seconds)
{
    hsgd_ticker_lock(watch->ticker);
    watch->timeout = seconds;
    set_pace(watch);
    hsgd_ticker_unlock(watch->ticker);
}

size_t hsgd_watch_bytes(int local_ranks)
{
    return sizeof(node) + (size_t)local_ranks * sizeof(slot);
}

hsgd_status hsgd_watch_join(hsgd_watch *watch, void *block, const hsgd_watch_place *place, hsgd_error *err)
{
    sight *sights = calloc((size_t)place->local_ranks, sizeof *sights);

    if (sights == NULL) {
        return hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot allocate the watch over the ranks");
    }
    hsgd_ticker_lock(watch->ticker);
    free(watch->sights);
    watch->sights = sights;
    watch->shared = block;
    watch->rank = place->rank;
    watch->ranks = place->ranks;
    watch->local_rank = place->local_rank;
    watch->local_ranks = place->local_ranks;
    (void)snprintf(watch->host, sizeof watch->host, "%.63s", place->host);
    watch->own = &watch->shared->slots[place->local_rank];
    atomic_store(&watch->own->rank, place->rank);
    hsgd_ticker_unlock(watch->ticker);
    return HSGD_OK;
}

void hsgd_watch_part(hsgd_watch *watch)
{
    hsgd_ticker_lock(watch->ticker);
    if (watch->shared != NULL) {
        hsgd_watch_enter(watch, 0, 0, HSGD_WATCH_END); /* for those who still wait elsewhere */
        atomic_store(&watch->told, atomic_load(&watch->shared->told));
    }
    watch->own = &watch->alone;
    watch->shared = NULL;
    hsgd_watch_leave(watch);
    hsgd_ticker_unlock(watch->ticker);
}

void hsgd_watch_limit(hsgd_watch *watch, hsgd_watch_limit_kind kind, int64_t seconds, hsgd_status status,
                      const char *text)
{
    limit *l = &watch->limits[kind];

    hsgd_ticker_lock(watch->ticker);
    l->end = seconds > 0 ? watch->tick + ticks(seconds) : 0;
    l->status = status;
    (void)snprintf(l->text, sizeof l->text, "%s", text);
    set_pace(watch);
    hsgd_ticker_unlock(watch->ticker);
    if (seconds > 0) {
        (void)hsgd_ticker_start(watch->ticker, NULL);
    }
}

bool hsgd_watch_may_tell(hsgd_watch *watch)
{
    bool may;

    hsgd_ticker_lock(watch->ticker);
    may = may_tell(watch);
    hsgd_ticker_unlock(watch->ticker);
    return may;
}
