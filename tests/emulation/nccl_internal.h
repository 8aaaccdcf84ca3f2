/* tests/emulation/nccl_internal.h - what the parts of the emulated NCCL know of each other. */
#pragma once
#include "emulation.h"
#include <nccl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MOST_RANKS = 64,
    CHUNK = 4096, /* words that a rank shows to the others in one round: long arrays take several */
    POLLS = 3,    /* times that a non-blocking communicator says ncclInProgress */
};

typedef struct {
    atomic_bool present;
    char bus_id[64];
    atomic_uint_fast64_t shown, taken; /* rounds in which this rank showed its part, and took what it wanted */
} member;

typedef struct { /* what the ranks share; new memory is zero */
    atomic_int joined, finalized;
    member members[MOST_RANKS];
    char parts[MOST_RANKS][8 * CHUNK];
} meeting;

typedef struct { /* what ncclUniqueId holds */
    char magic[8];
    int pid, fd;
} address;

typedef enum { NO_FAULT, INIT_FAILS, IN_PROGRESS, ASYNC_ERROR, STALL } fault;

typedef enum { REDUCE, BROADCAST, GATHER } kind;

typedef struct work work;
struct work { /* one collective, or one of a group */
    struct ncclComm *comm;
    cudaStream_t stream;
    kind what;
    ncclDataType_t type;
    int root; /* -1: all */
    const char *send;
    char *receive;
    size_t count, done; /* words of one rank's part */
    bool shown;         /* this rank's part of the present round */
    fault fault;
    work *next;
};

struct ncclComm {
    meeting *meeting;
    int rank, ranks, fd; /* fd: of the memory file where this rank made it, else -1 */
    bool blocking;
    atomic_int users; /* the caller and the work on the stream */
    atomic_bool aborted;
    atomic_int state; /* an ncclResult_t, as ncclCommGetAsyncError tells it */
    int polls;        /* still to be answered with ncclInProgress */
    enum { STARTING, QUEUEING, ENDING } doing;
    work *pending, **last; /* called for, not yet on the stream */
    cudaStream_t stream;
    uint64_t round;
    fault fault;
    int fault_at, collectives;
};

/* Go on with the collective *(work **)argument as far as the other ranks allow; 0: not yet at its end. */
int emulation_nccl_carry_on(void *argument);

/* One user of `comm` less; the last one ends it. */
void emulation_nccl_release(struct ncclComm *comm);
