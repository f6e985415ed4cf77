/* refusals: what the gateway refused, over the API. */
#include "registry/refusal.h"

#include "admin/internal.h"
#include "base/hex.h"

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct refusal_list *)op)->page.out)); }

/* A time, or how long ago. */
static bool take_since(struct span text, int64_t *out) {
    int64_t ago;
    if (clock_parse_rfc3339(text, out) == 0)
        return true;
    if (clock_parse_span(text, &ago))
        return false;
    *out = clock_now() - ago;
    return true;
}

static bool is_code(struct span code) {
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(code.n < sizeof text ? code.n : 0), (const char *)code.p);
    return err_from_code(text) != 0;
}

/* As it is kept: small letters, whole bytes without zeros before them, and no colons, with which others print it. */
static bool take_serial(struct http_exchange *x, struct span *serial) {
    const bool negative = span_starts(*serial, SPAN_LIT("-"));
    uint8_t *out = arena_alloc(http_exchange_arena(x), serial->n + 2);
    if (!out)
        return false;
    uint8_t *digits = out + 2;
    size_t n = 0, zeros = 0;
    for (size_t i = negative; i < serial->n; i++) {
        uint8_t c = serial->p[i];
        c = c >= 'A' && c <= 'F' ? (uint8_t)(c - 'A' + 'a') : c;
        if (c == ':')
            continue;
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        digits[n++] = c;
        zeros += zeros + 1 == n && c == '0';
    }
    if (!n)
        return false;
    zeros = zeros == n ? n - 1 : zeros; /* of zero itself one stays */
    digits += zeros;
    n -= zeros;
    if (n % 2) {
        *--digits = '0';
        n++;
    }
    if (negative) {
        *--digits = '-';
        n++;
    }
    *serial = span_of(digits, n);
    return true;
}

static void list(struct http_exchange *x, struct span account) {
    struct refusal_list l = {.account = account};
    struct span print = SPAN_NONE, since = SPAN_NONE;
    if (!page_of(x, &l.page))
        return;
    int filters = http_query_param(x, "code", &l.code) + http_query_param(x, "device", &l.device) + http_query_param(x, "address", &l.address) +
                  http_query_param(x, "serial", &l.serial) + http_query_param(x, "fingerprint", &print);
    if (filters > 1) {
        reply_code(x, MUSTER_EINVALID, "At most one of code, device, address, serial and fingerprint at a time.");
        return;
    }
    l.has_fingerprint = print.n > 0;
    if (l.code.n && !is_code(l.code)) {
        reply_code(x, MUSTER_EINVALID, "There is no code of that name; `muster refusal list` shows those of refusals, as the answers to devices do.");
        return;
    }
    if (l.serial.n && !take_serial(x, &l.serial)) {
        reply_code(x, MUSTER_EINVALID, "serial is the certificate's serial number in hex digits.");
        return;
    }
    if (print.n && hex_decode(print, l.fingerprint.b, sizeof l.fingerprint.b)) {
        reply_code(x, MUSTER_EINVALID, "fingerprint is the SHA-256 of the certificate in 64 hex digits.");
        return;
    }
    if (http_query_param(x, "since", &since) && !take_since(since, &l.since)) {
        reply_code(x, MUSTER_EINVALID, "since is a time of RFC 3339, or a length of time such as 2h.");
        return;
    }
    job_start(x, JOB_READ, refusal_list_run, &l, sizeof l, listed);
}

void admin_REFUSAL_LIST(struct http_exchange *x, void *arg) { list(x, grant_account(x)); }
void admin_REFUSAL_SERVER_LIST(struct http_exchange *x, void *arg) { list(x, SPAN_NONE); }

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct refusal_show *)op)->out)); }

static void show(struct http_exchange *x, struct span account) {
    const struct refusal_show s = {.account = account, .refusal = param_of(x, "refusal")};
    job_start(x, JOB_READ, refusal_show_run, &s, sizeof s, shown);
}

void admin_REFUSAL_SHOW(struct http_exchange *x, void *arg) { show(x, grant_account(x)); }
void admin_REFUSAL_SERVER_SHOW(struct http_exchange *x, void *arg) { show(x, SPAN_NONE); }
