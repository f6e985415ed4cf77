/* clock: times are int64_t seconds since 1970-01-01 UTC, or milliseconds where a name says _ms.  64-bit arithmetic of our own:
 * time_t has 32 bits on some targets. */
#ifndef MUSTER_BASE_CLOCK_H
#define MUSTER_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

#define CLOCK_MINUTE 60LL
#define CLOCK_HOUR 3600LL
#define CLOCK_DAY 86400LL
#define CLOCK_YEAR (365LL * CLOCK_DAY)
#define CLOCK_RFC3339_LEN 20
/* "99991231235959Z": RFC 5280, 4.1.2.5, a certificate without a well-defined expiry. */
#define CLOCK_NO_EXPIRY 253402300799LL

int64_t clock_now(void);          /* wall clock, seconds */
int64_t clock_now_ms(void);       /* wall clock, milliseconds */
int64_t clock_mono_ms(void);      /* monotonic, for deadlines */
int64_t clock_mono_us(void);      /* the same in microseconds, for measurements */
int64_t clock_boot_ms(void);      /* since the machine was started, sleep included: what the wall clock gains on it was set */
/* Tests set a fixed or shifted wall clock; 0 ends it.  Seconds added to clock_now(). */
void clock_set_offset(int64_t seconds);
/* Writes "YYYY-MM-DDTHH:MM:SSZ" and NUL. */
void clock_rfc3339(int64_t t, char out[CLOCK_RFC3339_LEN + 1]);
/* RFC 3339 with Z or offset, fractions ignored; MUSTER_EINVALID else. */
int clock_parse_rfc3339(struct span s, int64_t *out) MUSTER_MUST_CHECK;
/* "30d", "12h", "90m", "45s", "2y" or a whole number of seconds: a length of time; MUSTER_EINVALID else. */
int clock_parse_span(struct span s, int64_t *seconds) MUSTER_MUST_CHECK;
/* Civil date to seconds and back (proleptic Gregorian). */
int64_t clock_from_civil(int year, int month, int day, int hour, int minute, int second);
void clock_to_civil(int64_t t, int *year, int *month, int *day, int *hour, int *minute, int *second);

#endif
