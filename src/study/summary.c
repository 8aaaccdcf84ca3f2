/* src/study/summary.c - what a study has found, in a few lines. */
#include "study/internal.h"
#include <stdarg.h>
#include <stdio.h>

void summary_add(study_state *s, const char *format, ...)
{
    va_list args;
    int written;

    va_start(args, format);
    written = vsnprintf(s->summary + s->summary_length, STUDY_SUMMARY - s->summary_length, format, args);
    va_end(args);
    if (written > 0 && s->summary_length + (size_t)written + 2 < STUDY_SUMMARY) {
        s->summary_length += (size_t)written;
        s->summary[s->summary_length++] = '\n';
    }
    s->summary[s->summary_length] = '\0';
}
