/* tests/study/allocation.h - memory that runs out at the N-th request of the program's own code (the linker sends its
 * calls here; libraries are left alone), and a count of what was never given back. */
#pragma once
#include "whole.h"

enum { ALLOCATION_MOST = 1 << 15 };

static struct {
    bool counting;
    int64_t calls;   /* counted so far */
    int64_t fails;   /* which of them gets nothing; 0: none */
    int64_t live;    /* blocks that have not been given back */
    bool overflowed; /* more blocks than there is room to remember */
    struct {
        const void *block;
        int64_t call;
    } blocks[ALLOCATION_MOST];
} allocation;

/* The next request is one that fails. */
static inline bool allocation_fails(void)
{
    return allocation.counting && ++allocation.calls == allocation.fails;
}

static inline void *allocation_keep(void *block)
{
    if (allocation.counting && block != NULL) {
        if (allocation.live == ALLOCATION_MOST) {
            allocation.overflowed = true;
        } else {
            allocation.blocks[allocation.live].block = block;
            allocation.blocks[allocation.live++].call = allocation.calls;
        }
    }
    return block;
}

/* A block that was taken elsewhere (by a library for the program) is unknown here, and none of ours. */
static inline void allocation_forget(const void *block)
{
    for (int64_t i = allocation.live - 1; i >= 0 && block != NULL; i--) {
        if (allocation.blocks[i].block == block) {
            allocation.blocks[i] = allocation.blocks[--allocation.live];
            return;
        }
    }
}

/* Count from now on, with request number `fails` (0: none) in vain; stop counting. */
static inline void allocation_begin(int64_t fails)
{
    allocation.calls = allocation.live = 0;
    allocation.fails = fails;
    allocation.overflowed = false;
    allocation.counting = true;
}

static inline int64_t allocation_end(void)
{
    allocation.counting = false;
    return allocation.calls;
}

/* ---- what the linker puts in the place of the C library's; the names are its own ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
FILE *__real_open_memstream(char **text, size_t *size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
FILE *__wrap_open_memstream(char **text, size_t *size);
void __wrap_free(void *block);

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : allocation_keep(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : allocation_keep(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size)
{
    void *moved;

    if (allocation_fails()) {
        return NULL; /* the old block stays */
    }
    allocation_forget(block);
    moved = __real_realloc(block, size);
    return allocation_keep(moved != NULL ? moved : block) == moved ? moved : NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return allocation_fails() ? NULL : allocation_keep(__real_aligned_alloc(alignment, size));
}

char *__wrap_strdup(const char *text)
{
    return allocation_fails() ? NULL : allocation_keep(__real_strdup(text));
}

FILE *__wrap_open_memstream(char **text, size_t *size)
{
    return allocation_fails() ? NULL : __real_open_memstream(text, size);
}

void __wrap_free(void *block)
{
    allocation_forget(block);
    __real_free(block);
}

/* ---- the study that runs short of memory ---- */

/* All stages and solvers, on as little as will do: the usual ones, and the other ways. */
enum { ALLOCATION_STUDIES = 2, ALLOCATION_COMMON = 12, ALLOCATION_OWN = 9 };

static const char *const allocation_common[ALLOCATION_COMMON] = {
    "data.train_samples=20", "data.test_samples=10",     "train.batch=10",     "train.steps=3",
    "train.momentum=0.9",    "train.checkpoint_every=2", "hessian.samples=10", "eigen.count=1",
    "eigen.tolerance=1e-2",  "eigen.max_products=20",    "density.bins=20",    "trace.probes=4"};

static const char *const allocation_own[ALLOCATION_STUDIES][ALLOCATION_OWN] = {
    {"run.stages=train evaluate verify eigen density trace landscape",
     "model.layers=conv 1 3 / relu / maxpool 14 / linear 10", "eigen.which=largest", "density.probes=2",
     "density.steps=4", "trace.method=hutchinson", "landscape.points=3", "train.evaluate_every=0",
     "hessian.operator=hessian"},
    {"run.stages=train eigen density trace", "model.layers=conv 1 3 / tanh / avgpool 14 / linear 10",
     "eigen.method=power", "eigen.which=magnitude", "density.deflate=true", "trace.method=hutch++",
     "train.curvature_every=2", "hessian.layers=conv1", "hessian.operator=gauss-newton"},
};

static inline hsgd_status allocation_study(hsgd_comm *comm, const char *folder, int study, bool restart,
                                           hsgd_error *err)
{
    const char *words[ALLOCATION_COMMON + ALLOCATION_OWN];

    memcpy(words, allocation_common, sizeof allocation_common);
    memcpy(words + ALLOCATION_COMMON, allocation_own[study], sizeof allocation_own[study]);
    return whole_run(comm, folder, words, ALLOCATION_COMMON + ALLOCATION_OWN, restart, NULL, err);
}

/* Is the text one for people who are told of too little memory?  main has one where there is none. */
static inline bool allocation_told(const hsgd_error *err)
{
    return err->text[0] == '\0' || strstr(err->text, "memory") != NULL || strstr(err->text, "allocate") != NULL;
}

/* All files of the folder bear their final names and can be read whole.  Local. */
static inline bool allocation_files_whole(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    bool whole = true;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[1024];
        whole_look look;
        const size_t length = strlen(entry->d_name);

        if (strstr(entry->d_name, ".tmp") != NULL) {
            (void)fprintf(stderr, "%s is left behind\n", entry->d_name);
            whole = false;
        } else if (length > 3 && strcmp(entry->d_name + length - 3, ".h5") == 0) {
            (void)snprintf(path, sizeof path, "%.700s/%.255s", folder, entry->d_name);
            whole = whole_look_at(path, &look) && look.bad == 0 && whole;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return whole;
}

/* The digest of what the finished study leaves; 0 where a file is missing or cannot be read.  Local. */
static inline uint64_t allocation_digest(const char *folder, int study)
{
    static const char *const names[] = {"train.h5", "weights.h5",  "eigen.h5",  "density.h5",
                                        "trace.h5", "evaluate.h5", "verify.h5", "landscape.h5"};
    const size_t count = study == 0 ? sizeof names / sizeof names[0] : 5;
    uint64_t all = 0;

    for (size_t i = 0; i < count; i++) {
        const uint64_t one = whole_digest(folder, names[i]);

        if (one == 0) {
            return 0;
        }
        all = (all << 7 | all >> 57) ^ one;
    }
    return all;
}
