/* src/base/error.c - recording a failure, and the exit code it stands for. */
#include "base/error.h"
#include <stdarg.h>
#include <stdio.h>

hsgd_status hsgd_error_set(hsgd_error *err, hsgd_status status, const char *format, ...)
{
    if (err != NULL) {
        va_list args;

        va_start(args, format);
        err->status = status;
        (void)vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return status;
}

int hsgd_error_exit_code(hsgd_status status)
{
    static const int codes[] = {
        [HSGD_OK] = 0,          [HSGD_STOPPED] = 75, [HSGD_ERR_USAGE] = 2,  [HSGD_ERR_DATA] = 3,
        [HSGD_ERR_NUMERIC] = 4, [HSGD_ERR_IO] = 5,   [HSGD_ERR_MEMORY] = 6, [HSGD_ERR_DEVICE] = 6,
    };

    return codes[status];
}
