/* src/store/owner.c - see owner.h. */
#include "store/owner.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The variable, or NULL where it is no word that the file could hold. */
static const char *word_of(const char *name)
{
    const char *word = getenv(name);

    return word != NULL && word[0] != '\0' && strpbrk(word, " \t\r\n") == NULL ? word : NULL;
}

static void describe_job(owner *self)
{
    const char *slurm = word_of("SLURM_JOB_ID"), *pbs = word_of("PBS_JOBID");
    const char *lsf = word_of("LSB_JOBID"), *index = word_of("LSB_JOBINDEX");

    if (slurm != NULL || pbs != NULL) { /* an array's index is in it */
        (void)snprintf(self->job, sizeof self->job, "%.63s", slurm != NULL ? slurm : pbs);
    } else if (lsf != NULL && index != NULL && strcmp(index, "0") != 0) {
        (void)snprintf(self->job, sizeof self->job, "%.40s[%.20s]", lsf, index);
    } else {
        (void)snprintf(self->job, sizeof self->job, "%.63s", lsf != NULL ? lsf : "none");
    }
}

owner owner_self(void)
{
    owner self = {.pid = (long)getpid()};

    describe_job(&self);
    if (gethostname(self.host, sizeof self.host - 1) != 0 || self.host[0] == '\0') {
        (void)snprintf(self.host, sizeof self.host, "unknown");
    }
    self.host[sizeof self.host - 1] = '\0';
    return self;
}

void owner_format(const owner *self, char text[OWNER_TEXT])
{
    char since[32];

    hsgd_clock_iso(since, sizeof since);
    (void)snprintf(text, OWNER_TEXT, "host %s\npid %ld\njob %s\nsince %s\n", self->host, self->pid, self->job, since);
}

owner owner_named_in(const char *text)
{
    owner named = {.host = "unknown", .job = "unknown"};
    char pid[24] = "";

    (void)sscanf(text, "host %63s pid %23s job %63s", named.host, pid, named.job);
    named.pid = strtol(pid, NULL, 10);
    return named;
}

owner_phrase owner_words(const owner *named)
{
    owner_phrase out = {.text = "another process"};

    if (named->pid != 0) {
        (void)snprintf(out.text, sizeof out.text, "process %ld on %s (job %s)", named->pid, named->host, named->job);
    }
    return out;
}
