/* src/cpu/cpu.h - the CPU backend. */
#pragma once
#include "backend.h"

/* The widest instruction set that this build and this machine have, as a number: 0 is generic, a greater one is wider,
 * the same number means the same set on every rank.  $HSGD_INSTRUCTION_SET ("generic", "avx2", "avx512") narrows it.
 * Local.  Errors: HSGD_ERR_DEVICE (the named instruction set is unknown or missing here). */
hsgd_status hsgd_cpu_width(int *width, hsgd_error *err);

/* Make the CPU backend.  threads >= 1: workers, each an OpenMP thread.  Takes the widest instruction set as
 * hsgd_cpu_width tells it; `within`: the widest up to `width` >= 0.  Ranks whose results are to have the same bits must
 * have the same set, so they agree on a width first.
 * Local.  Errors: HSGD_ERR_MEMORY; HSGD_ERR_DEVICE (no threads; or as hsgd_cpu_width). */
hsgd_status hsgd_backend_cpu_create(hsgd_precision precision, int threads, hsgd_backend **out, hsgd_error *err);
hsgd_status hsgd_backend_cpu_create_within(hsgd_precision precision, int threads, int width, hsgd_backend **out,
                                           hsgd_error *err);
