/* tests/fuzz/fuzz.h - what the targets share.  A target is one function that is given hostile bytes; libFuzzer calls it
 * millions of times (run.py), replay.c once for each kept seed. */
#pragma once
#include "base/error.h"
#include "deck/deck.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The target: 0, or the process ends, which is a finding. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise of the reader under test. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            (void)fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);                      \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A file in memory that holds data[size], to be opened as folder "/proc/self/fd", name `*name`; the next call changes it. */
#define FUZZ_FOLDER "/proc/self/fd"
const char *fuzz_file(const uint8_t *data, size_t size);

/* A refusal has the status that was promised, and a text of one line that a terminal may show. */
void fuzz_check_refusal(hsgd_status status, const hsgd_error *err, hsgd_status promised);

/* What a resolved deck promises: its text resolves to the same deck, and its layers are a network or are refused. */
void fuzz_check_deck(const hsgd_deck *deck);
