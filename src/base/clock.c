/* clock: see clock.h.  Calendar arithmetic in 64 bits after H. Hinnant's days-from-civil. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static _Atomic int64_t offset;

void clock_set_offset(int64_t seconds) { offset = seconds; }

int64_t clock_now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ((int64_t)ts.tv_sec + offset) * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_now(void) { return clock_now_ms() / 1000; }

int64_t clock_mono_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_mono_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_boot_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static int64_t days_from_civil(int64_t y, int m, int d) {
    y -= m <= 2;
    int64_t era = floor_div(y, 400), yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

int64_t clock_from_civil(int year, int month, int day, int hour, int minute, int second) {
    return days_from_civil(year, month, day) * CLOCK_DAY + hour * CLOCK_HOUR + minute * CLOCK_MINUTE + second;
}

void clock_to_civil(int64_t t, int *year, int *month, int *day, int *hour, int *minute, int *second) {
    int64_t days = floor_div(t, CLOCK_DAY), rest = t - days * CLOCK_DAY, z = days + 719468;
    int64_t era = floor_div(z, 146097), doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
    *hour = (int)(rest / CLOCK_HOUR);
    *minute = (int)(rest % CLOCK_HOUR / CLOCK_MINUTE);
    *second = (int)(rest % CLOCK_MINUTE);
}

void clock_rfc3339(int64_t t, char out[CLOCK_RFC3339_LEN + 1]) {
    int y, mo, d, h, mi, s;
    int64_t first = clock_from_civil(0, 1, 1, 0, 0, 0);
    t = t < first ? first : t > CLOCK_NO_EXPIRY ? CLOCK_NO_EXPIRY : t;
    clock_to_civil(t, &y, &mo, &d, &h, &mi, &s);
    snprintf(out, CLOCK_RFC3339_LEN + 1, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)y % 10000u, (unsigned)mo % 100u, (unsigned)d % 100u,
             (unsigned)h % 100u, (unsigned)mi % 100u, (unsigned)s % 100u);
}

/* Digits at fixed places: "dddd-dd-ddTdd:dd:dd". */
static bool digits(struct span s, size_t at, size_t n, int *out) {
    uint64_t v;
    if (at + n > s.n || !span_to_u64(span_sub(s, at, n), &v))
        return false;
    *out = (int)v;
    return true;
}

static int days_in(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static bool zone(struct span s, int64_t *seconds) {
    int h, m;
    if (s.n == 1 && (s.p[0] == 'Z' || s.p[0] == 'z')) {
        *seconds = 0;
        return true;
    }
    if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':' || !digits(s, 1, 2, &h) || !digits(s, 4, 2, &m) || h > 23 || m > 59)
        return false;
    *seconds = (s.p[0] == '-' ? -1 : 1) * (h * CLOCK_HOUR + m * CLOCK_MINUTE);
    return true;
}

int clock_parse_rfc3339(struct span s, int64_t *out) {
    int y, mo, d, h, mi, sec;
    int64_t ahead;
    if (s.n < 20 || !digits(s, 0, 4, &y) || s.p[4] != '-' || !digits(s, 5, 2, &mo) || s.p[7] != '-' || !digits(s, 8, 2, &d) ||
        (s.p[10] != 'T' && s.p[10] != 't') || !digits(s, 11, 2, &h) || s.p[13] != ':' || !digits(s, 14, 2, &mi) || s.p[16] != ':' ||
        !digits(s, 17, 2, &sec))
        return MUSTER_EINVALID;
    if (mo < 1 || mo > 12 || d < 1 || d > days_in(y, mo) || h > 23 || mi > 59 || sec > 60)
        return MUSTER_EINVALID;
    size_t at = 19;
    if (s.p[at] == '.') {
        size_t first = ++at;
        while (at < s.n && s.p[at] >= '0' && s.p[at] <= '9')
            at++;
        if (at == first)
            return MUSTER_EINVALID;
    }
    if (!zone(span_sub(s, at, s.n), &ahead))
        return MUSTER_EINVALID;
    *out = clock_from_civil(y, mo, d, h, mi, sec == 60 ? 59 : sec) - ahead;
    return 0;
}

int clock_parse_span(struct span s, int64_t *seconds) {
    static const struct { char unit; int64_t factor; } units[] = {{'s', 1}, {'m', CLOCK_MINUTE}, {'h', CLOCK_HOUR}, {'d', CLOCK_DAY}, {'y', CLOCK_YEAR}};
    int64_t factor = 1;
    uint64_t v;
    for (size_t i = 0; s.n && i < sizeof units / sizeof *units; i++)
        if (s.p[s.n - 1] == (uint8_t)units[i].unit) {
            factor = units[i].factor;
            s.n--;
            break;
        }
    if (!span_to_u64(s, &v) || v > (uint64_t)(INT64_MAX / factor))
        return MUSTER_EINVALID;
    *seconds = (int64_t)v * factor;
    return 0;
}
