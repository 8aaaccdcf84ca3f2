/* src/store/owner.h - the run that a lock file names: as it is written there, and in messages.
 *
 *     host node17
 *     pid 4711
 *     job 123_4
 *     since 2026-01-31T12:00:00Z
 */
#pragma once

enum { OWNER_TEXT = 385 }; /* of the file at most, with the 0 behind it */

typedef struct {
    char host[64], job[64]; /* job: the batch system's number, or "none" */
    long pid;               /* 0: nobody is named */
} owner;

typedef struct {
    char text[224];
} owner_phrase;

/* This process.  Local. */
owner owner_self(void);

/* What stands in the file, from now on.  Local. */
void owner_format(const owner *self, char text[OWNER_TEXT]);

/* The owner that the file's text, ended by a 0, names: nobody where it is empty or anything else.  Local. */
owner owner_named_in(const char *text);

/* The owner in a message: "process 4711 on node17 (job 123_4)", or "another process".  Local. */
owner_phrase owner_words(const owner *named);
