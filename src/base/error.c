/* src/base/error.c - recording a failure, and the exit code it stands for. */
#include "base/error.h"
#include <stdarg.h>
#include <stdio.h>

static void record(hsgd_error *err, hsgd_status status, bool not_finite, const char *format, va_list args)
{
    if (err != NULL) {
        err->status = status;
        err->not_finite = not_finite;
        (void)vsnprintf(err->text, sizeof err->text, format, args);
    }
}

hsgd_status hsgd_error_set(hsgd_error *err, hsgd_status status, const char *format, ...)
{
    const bool same = err != NULL && err->status == HSGD_ERR_NUMERIC && status == HSGD_ERR_NUMERIC;
    va_list args;

    va_start(args, format);
    record(err, status, same && err->not_finite, format, args);
    va_end(args);
    return status;
}

hsgd_status hsgd_error_set_not_finite(hsgd_error *err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    record(err, HSGD_ERR_NUMERIC, true, format, args);
    va_end(args);
    return HSGD_ERR_NUMERIC;
}

int hsgd_error_exit_code(hsgd_status status)
{
    static const int codes[] = {
        [HSGD_OK] = 0,          [HSGD_STOPPED] = 75, [HSGD_ERR_USAGE] = 2,  [HSGD_ERR_DATA] = 3,
        [HSGD_ERR_NUMERIC] = 4, [HSGD_ERR_IO] = 5,   [HSGD_ERR_MEMORY] = 6, [HSGD_ERR_DEVICE] = 6,
    };

    return codes[status];
}
