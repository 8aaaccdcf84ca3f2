/* src/base/clock.h - wall-clock time, and waiting for it to pass. */
#pragma once
#include <stddef.h>

/* Seconds since some fixed moment, monotonic.  Local. */
double hsgd_clock(void);

/* Wait so many seconds, whatever signals come meanwhile.  Local. */
void hsgd_clock_sleep(double seconds);

/* The present UTC time as ISO 8601, "2026-01-31T12:00:00Z", into text (at least 21 bytes).  Local. */
void hsgd_clock_iso(char *text, size_t size);
