/* src/cpu/cpu.h - the CPU backend. */
#pragma once
#include "backend.h"
#include <sched.h>

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

/* Put worker w of all backends with so many threads on the w-th of these cores, in the system's order.  It is the calling
 * thread, worker 0, that is put first: threads that others start from it later begin on its core.
 * False where it cannot be done; nothing is changed then.  Local. */
bool hsgd_cpu_bind(int threads, const cpu_set_t *cores);

/* Let each of these workers run on all of the cores.  Local. */
void hsgd_cpu_unbind(int threads, const cpu_set_t *cores);

/* The cores of OpenMP's places, where its own variables ($OMP_PLACES, $OMP_PROC_BIND) bind threads to them: it has put the
 * calling thread on one of them before main, which hides the others.  False where they bind nothing.  Local. */
bool hsgd_cpu_places(cpu_set_t *out);
