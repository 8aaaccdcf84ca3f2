/* src/cpu/cpu.h - the CPU backend. */
#pragma once
#include "backend.h"

/* Make the CPU backend.  threads >= 1: workers, each an OpenMP thread.  Chooses the widest instruction set that the
 * machine has among those built in; $HSGD_INSTRUCTION_SET ("generic", "avx2", "avx512") narrows the choice.
 * Local.  Errors: HSGD_ERR_MEMORY; HSGD_ERR_DEVICE (the named instruction set is unknown or missing here). */
hsgd_status hsgd_backend_cpu_create(hsgd_precision precision, int threads, hsgd_backend **out, hsgd_error *err);
