/* tests/bench/counting.h - how many messages a figure sends, and how many bytes. */
#pragma once
#include "base/comm.h"

typedef struct {
    int64_t calls, bytes; /* of this rank since the counting began */
} message_count;

/* From now on the calls of `comm` are counted: of a sum, a maximum, a reduce-scatter or a gather the bytes of the whole
 * array, of a broadcast its bytes; what the library below sends for them is its own affair.  Shared memory and barriers
 * send nothing.  One communicator at a time; its end ends the counting.  Local. */
void messages_count(hsgd_comm *comm);

/* What has been counted.  Local. */
message_count messages_so_far(void);
