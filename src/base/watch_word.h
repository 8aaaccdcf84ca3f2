/* src/base/watch_word.h - the word by which a rank shows the others of its node what it does; for watch.c alone. */
#pragma once
#include "base/watch.h"
#include <stddef.h>

/* Of a rank inside an operation; and of one that has left the operation of `word`.  All here is local. */
uint64_t watch_word(int group, int64_t number, hsgd_watch_operation operation);
uint64_t watch_word_left(uint64_t word);

/* What a word holds; 0 is that of a rank that was in no operation yet. */
bool watch_word_inside(uint64_t word);
hsgd_watch_operation watch_word_operation(uint64_t word);
uint64_t watch_word_group(uint64_t word);
uint64_t watch_word_number(uint64_t word);

/* "sum 1234", "HDF5 write 17 of group 2" */
void watch_word_describe(uint64_t word, char *text, size_t size);
