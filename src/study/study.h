/* src/study/study.h - one study: the deck's stages, one after the other, in the words of the field. */
#pragma once
#include "base/comm.h"
#include "base/progress.h"
#include "deck/deck.h"
#include "backend.h"

/* Makes a backend of the given precision, as the deck's [device] asks.  Collective: the same kernels on every rank.
 * Errors: HSGD_ERR_DEVICE, HSGD_ERR_MEMORY. */
typedef hsgd_status (*hsgd_make_backend)(void *context, hsgd_precision precision, hsgd_backend **out, hsgd_error *err);

/* What main wires together; all borrowed. */
typedef struct {
    hsgd_comm *comm;
    const hsgd_deck *deck;
    hsgd_progress *progress;
    hsgd_make_backend make_backend;
    void *context;       /* of make_backend */
    const char *command; /* the command line, for the files */
    int threads;         /* of this rank; this and the next two for the files and --dry-run */
    const char
        *binding; /* what puts its threads on cores: "core" (one each), "environment" (OpenMP's variables), "none" */
    const char *cores; /* that they run on: "0-3" */
    bool restart, dry_run;
    /* Told of a failure before the study cleans up, which other ranks may not join in: see to it that this ends. */
    void (*failing)(void *context, hsgd_status status, const hsgd_error *err);
    void *failing_context;
    bool (*stop)(void *context); /* has somebody asked to stop (signal, time limit)?  Cheap; may differ per rank */
    void *stop_context;
} hsgd_study_setup;

/* Run the study, or with dry_run only resolve and report it.  Collective.
 * Returns HSGD_OK, HSGD_STOPPED (everything needed to go on is saved), or the failure agreed by all ranks. */
hsgd_status hsgd_study_run(const hsgd_study_setup *setup, hsgd_error *err);
