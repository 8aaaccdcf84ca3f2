/* src/base/watch_word.c - see watch_word.h. */
#include "base/watch_word.h"
#include <stdio.h>

/* Inside or not: 1 bit; operation: 7; group: 16; number: 40. */
#define INSIDE          (UINT64_C(1) << 63)
#define OPERATION_SHIFT 56
#define OPERATION_MASK  UINT64_C(0x7F)
#define GROUP_SHIFT     40
#define GROUP_MASK      UINT64_C(0xFFFF)
#define NUMBER_MASK     ((UINT64_C(1) << GROUP_SHIFT) - 1)

uint64_t watch_word(int group, int64_t number, hsgd_watch_operation operation)
{
    return INSIDE | (uint64_t)operation << OPERATION_SHIFT | ((uint64_t)group & GROUP_MASK) << GROUP_SHIFT |
           ((uint64_t)number & NUMBER_MASK);
}

uint64_t watch_word_left(uint64_t word)
{
    return word & ~INSIDE;
}

bool watch_word_inside(uint64_t word)
{
    return (word & INSIDE) != 0;
}

hsgd_watch_operation watch_word_operation(uint64_t word)
{
    return (hsgd_watch_operation)(word >> OPERATION_SHIFT & OPERATION_MASK);
}

uint64_t watch_word_group(uint64_t word)
{
    return word >> GROUP_SHIFT & GROUP_MASK;
}

uint64_t watch_word_number(uint64_t word)
{
    return word & NUMBER_MASK;
}

void watch_word_describe(uint64_t word, char *text, size_t size)
{
    static const char *const names[HSGD_WATCH_OPERATIONS] = {
        [HSGD_WATCH_NOTHING] = "its start",
        [HSGD_WATCH_START] = "the start of all ranks",
        [HSGD_WATCH_END] = "the end of all ranks",
        [HSGD_WATCH_SUM] = "sum",
        [HSGD_WATCH_MAX] = "maximum",
        [HSGD_WATCH_REDUCE_SCATTER] = "reduce-scatter",
        [HSGD_WATCH_ALL_GATHER] = "all-gather",
        [HSGD_WATCH_BROADCAST] = "broadcast",
        [HSGD_WATCH_SHARED_MEMORY] = "allocation of shared memory",
        [HSGD_WATCH_NODE_BARRIER] = "barrier of the node",
        [HSGD_WATCH_SPLIT] = "split into groups",
        [HSGD_WATCH_WORK] = "work on samples after call",
        [HSGD_WATCH_MEETING] = "meeting of the groups",
        [HSGD_WATCH_FILE_CREATE] = "HDF5 create",
        [HSGD_WATCH_FILE_ATTRIBUTE] = "HDF5 attribute",
        [HSGD_WATCH_FILE_DATASET] = "HDF5 dataset",
        [HSGD_WATCH_FILE_WRITE] = "HDF5 write",
        [HSGD_WATCH_FILE_FLUSH] = "HDF5 flush",
        [HSGD_WATCH_FILE_CLOSE] = "HDF5 close",
    };
    const hsgd_watch_operation operation = watch_word_operation(word);
    const int group = (int)watch_word_group(word);
    const char *name = operation < HSGD_WATCH_OPERATIONS ? names[operation] : "an unknown operation";

    if (operation <= HSGD_WATCH_END) {
        (void)snprintf(text, size, "%s", name);
    } else if (group == 0) {
        (void)snprintf(text, size, "%s %llu", name, (unsigned long long)watch_word_number(word));
    } else {
        (void)snprintf(text, size, "%s %llu of group %d", name, (unsigned long long)watch_word_number(word), group - 1);
    }
}
