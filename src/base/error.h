/* src/base/error.h - one list of failures: their codes, texts and exit codes. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    HSGD_OK = 0,
    HSGD_STOPPED,     /* asked to stop (signal, time limit); everything needed to go on is saved */
    HSGD_ERR_USAGE,   /* command line, deck, or output folder already in use */
    HSGD_ERR_DATA,    /* data or weights missing, damaged or of the wrong shape */
    HSGD_ERR_NUMERIC, /* NaN, Inf, divergence, failed certificate */
    HSGD_ERR_IO,      /* disk full, permission, HDF5 */
    HSGD_ERR_MEMORY,  /* out of memory */
    HSGD_ERR_DEVICE,  /* device, NCCL or MPI; greatest, so that it wins in hsgd_comm_agree */
} hsgd_status;

/* A failure with its text: "WHERE: WHAT; HOW TO MEND".  Zero-initialise it. */
typedef struct {
    hsgd_status status;
    bool not_finite; /* HSGD_ERR_NUMERIC for a number that is NaN, Inf or out of range: worth a look at where it is */
    char text[1024];
} hsgd_error;

/* Record `status` and the formatted text in *err (err may be NULL) and return `status`.  A numerical failure that is told
 * anew, in other words, stays one for a number that is not finite.  Local. */
hsgd_status hsgd_error_set(hsgd_error *err, hsgd_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with HSGD_ERR_NUMERIC, for a number that is NaN, Inf or out of range.  Local. */
hsgd_status hsgd_error_set_not_finite(hsgd_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The exit code of the process for `status`: 0, 75, 2, 3, 4, 5, 6, 6 in the order of the list above.  Local. */
int hsgd_error_exit_code(hsgd_status status);

/* Leave by `done:` with the failure of `call`; needs `hsgd_status st` in scope. */
#define HSGD_TRY(call)                                                                                                 \
    do {                                                                                                               \
        st = (call);                                                                                                   \
        if (st != HSGD_OK) {                                                                                           \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* Leave by `done:` with `code` and the formatted text unless `condition` holds. */
#define HSGD_CHECK(condition, code, err, ...)                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            st = (code); /* told here, so that who reads one file alone, as analysers do, knows it */                  \
            (void)hsgd_error_set((err), st, __VA_ARGS__);                                                              \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* Leave by `done:` with HSGD_ERR_NUMERIC and the formatted text unless `condition`, "all is finite", holds. */
#define HSGD_CHECK_FINITE(condition, err, ...)                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            st = HSGD_ERR_NUMERIC;                                                                                     \
            (void)hsgd_error_set_not_finite((err), __VA_ARGS__);                                                       \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)
