/* src/study/directions.h - the directions that a landscape is drawn along. */
#pragma once
#include "study/internal.h"

enum { DIRECTIONS_MOST = 64 };

typedef struct {
    int64_t count;
    char name[DIRECTIONS_MOST][64];
    double *vector[DIRECTIONS_MOST]; /* each [n], owned, normalised, the same on all ranks */
} direction_list;

/* Make the directions named by `words` (separated by blanks): eigenvector, eigenvectorJ, random, gradient, fileJ.
 * Collective.  Errors: HSGD_ERR_NUMERIC (a zero direction), HSGD_ERR_DATA, HSGD_ERR_USAGE (a row that is not there). */
hsgd_status directions_make(study_state *s, const char *words, direction_list *list, hsgd_error *err);
void directions_clear(direction_list *list);
