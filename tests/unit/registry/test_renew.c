/* renew_decide: who may renew, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "registry/renew.h"

#define NOW 1800000000LL
#define ACCOUNT {.row = 1, .state = ACCOUNT_ACTIVE, .method = METHOD_SHARED, .superseded_renewal = 30 * CLOCK_DAY}
#define DEVICE {.row = 3, .account = 1, .state = DEVICE_ACTIVE, .method = METHOD_SHARED}
#define P256 {.kind = KEY_P256, .bits = 256}

struct row {
    const char *what;
    struct account a;
    struct device d;
    struct key_facts own;
    enum own_key is;
    bool other, same; /* other: the certificate that asks is not the device's any more */
    int64_t superseded; /* since when; 0: it never was, or is over */
    bool former;        /* the request is for its key */
    bool revoked, elsewhere, shut, same_shut;
    int64_t newest, certificates_since, begins;
    enum renew_how how;
    int code;
    int wait;           /* Retry-After that is exact */
    bool clone, by_grant;
};
#define LATELY .other = true, .superseded = NOW - 10 * CLOCK_DAY, .clone = true
#define LONG_AGO .other = true, .superseded = NOW - 31 * CLOCK_DAY
#define ROW(text, ...) {.what = text, .a = ACCOUNT, .d = DEVICE, .own = P256, .newest = NOW, __VA_ARGS__}
#pragma GCC diagnostic ignored "-Woverride-init"

static void row_by_row(void **state) {
    const struct row rows[] = {
        ROW("a new key", .how = RENEW_NEW),
        ROW("the key so far", .is = OWN_KEY_OWN, .how = RENEW_NEW),
        ROW("the same again", .is = OWN_KEY_OWN, .same = true, .how = RENEW_SAME),
        ROW("the same again, of one that has asked too often", .is = OWN_KEY_OWN, .same = true, .certificates_since = NOW - 1, .how = RENEW_SAME),
        ROW("the root that the account issues under is shut", .shut = true, .code = MUSTER_EROOTSHUT, .wait = 300),
        ROW("the same again, which is of another root", .is = OWN_KEY_OWN, .same = true, .shut = true, .how = RENEW_SAME),
        ROW("the same again, which is of one that is shut", .is = OWN_KEY_OWN, .same = true, .same_shut = true, .code = MUSTER_EROOTSHUT),
        ROW("what is for good is said first", .elsewhere = true, .shut = true, .code = MUSTER_EFLEETCA),
        ROW("too many within a day", .certificates_since = NOW - CLOCK_DAY + 1, .code = MUSTER_EREISSUELIMIT),
        ROW("too many under a clock that ran ahead", .certificates_since = NOW + CLOCK_YEAR, .how = RENEW_NEW),
        ROW("a day later", .certificates_since = NOW - CLOCK_DAY, .how = RENEW_NEW),
        ROW("another certificate was used meanwhile", .other = true, .code = MUSTER_ECERTSUPERSEDED),
        ROW("it was revoked meanwhile", .other = true, .revoked = true, .code = MUSTER_ECERTREVOKED),
        ROW("revoked, and yet the device's", .revoked = true, .code = MUSTER_ECERTREVOKED),
        ROW("revoked, and the same again", .revoked = true, .same = true, .code = MUSTER_ECERTREVOKED),
        ROW("revoked after it was replaced", LATELY, .revoked = true, .code = MUSTER_ECERTREVOKED),
        ROW("revoked, whatever an operator lets come again", LATELY, .revoked = true, .d.again = AGAIN_GRANTED, .code = MUSTER_ECERTREVOKED),
        ROW("and the same again", .other = true, .same = true, .code = MUSTER_ECERTSUPERSEDED),
        ROW("one that was replaced ten days ago", LATELY, .how = RENEW_NEW),
        ROW("for its own key, which was barred", LATELY, .former = true, .is = OWN_KEY_BARRED, .how = RENEW_NEW),
        ROW("for another barred key", LATELY, .is = OWN_KEY_BARRED, .code = MUSTER_EKEYBARRED),
        ROW("for another device's key", LATELY, .former = true, .is = OWN_KEY_ELSEWHERE, .code = MUSTER_EKEYELSEWHERE),
        ROW("and the same again", LATELY, .same = true, .how = RENEW_SAME),
        ROW("too often", LATELY, .certificates_since = NOW - 1, .code = MUSTER_EREISSUELIMIT),
        ROW("quarantined since", LATELY, .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED),
        ROW("revoked since", LATELY, .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED),
        ROW("where the account lets none", LATELY, .a.superseded_renewal = 0, .code = MUSTER_ECERTSUPERSEDED),
        ROW("at the last second", .other = true, .superseded = NOW - 30 * CLOCK_DAY + 1, .clone = true, .how = RENEW_NEW),
        ROW("a second later", .other = true, .superseded = NOW - 30 * CLOCK_DAY, .code = MUSTER_ECERTSUPERSEDED),
        ROW("on a day to come, by a clock that ran ahead", .other = true, .superseded = NOW + CLOCK_YEAR, .clone = true, .how = RENEW_NEW),
        ROW("the same, where the account lets none", .other = true, .superseded = NOW + CLOCK_YEAR, .a.superseded_renewal = 0, .code = MUSTER_ECERTSUPERSEDED),
        ROW("a month ago", LONG_AGO, .code = MUSTER_ECERTSUPERSEDED),
        ROW("which an operator refused", LONG_AGO, .d.again = AGAIN_REFUSED, .code = MUSTER_ECERTSUPERSEDED),
        ROW("which an operator lets come again", LONG_AGO, .d.again = AGAIN_GRANTED, .clone = true, .by_grant = true, .how = RENEW_NEW),
        ROW("whose word is not needed yet", LATELY, .d.again = AGAIN_GRANTED, .how = RENEW_NEW),
        ROW("and is no word for what never was the device's", .other = true, .d.again = AGAIN_GRANTED, .code = MUSTER_ECERTSUPERSEDED),
        ROW("the live one spends no operator's word", .d.again = AGAIN_GRANTED, .how = RENEW_NEW),
        ROW("a barred key with the live one", .former = true, .is = OWN_KEY_BARRED, .code = MUSTER_EKEYBARRED),
        ROW("before the window", .a.renewal_window = CLOCK_DAY, .d.certificate_not_after = NOW + CLOCK_DAY + 60, .code = MUSTER_ERENEWALEARLY, .wait = 60),
        ROW("before the window, made by a clock that ran ahead", .begins = NOW + 1, .a.renewal_window = CLOCK_DAY, .d.certificate_not_after = NOW + CLOCK_YEAR, .how = RENEW_NEW),
        ROW("which has begun since", .begins = NOW, .a.renewal_window = CLOCK_DAY, .d.certificate_not_after = NOW + CLOCK_DAY + 60, .code = MUSTER_ERENEWALEARLY),
        ROW("in the window", .a.renewal_window = CLOCK_DAY, .d.certificate_not_after = NOW + CLOCK_DAY, .how = RENEW_NEW),
        ROW("the same again is never early", .a.renewal_window = CLOCK_DAY, .d.certificate_not_after = NOW + CLOCK_YEAR, .is = OWN_KEY_OWN, .same = true, .how = RENEW_SAME),
        ROW("nor is one that was replaced", LATELY, .a.renewal_window = CLOCK_DAY, .d.certificate_not_after = NOW + CLOCK_YEAR, .how = RENEW_NEW),
        ROW("a day behind the end, which was asked before", .d.certificate_not_after = NOW - CLOCK_DAY, .a.renewal_window = CLOCK_HOUR, .how = RENEW_NEW),
        ROW("the clock is behind", .newest = NOW + CLOCK_TOLERANCE + 1, .code = MUSTER_ECLOCK),
        ROW("the clock is behind a little", .newest = NOW + CLOCK_TOLERANCE, .how = RENEW_NEW),
        ROW("the account is deleted", .a.state = ACCOUNT_DELETED, .code = MUSTER_EDELETED),
        ROW("the method is off", .a.method = METHOD_DEVICE, .code = MUSTER_EMETHODOFF),
        ROW("pending", .d.state = DEVICE_PENDING, .code = MUSTER_EPENDING),
        ROW("quarantined", .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED),
        ROW("quarantined, and the same again", .d.state = DEVICE_QUARANTINED, .same = true, .code = MUSTER_EQUARANTINED),
        ROW("revoked", .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED),
        ROW("refused", .d.state = DEVICE_REVOKED, .d.refused = true, .code = MUSTER_EREFUSED),
        ROW("deleted", .d.state = DEVICE_DELETED, .code = MUSTER_EDEVDELETED),
        ROW("of a factory line under Muster's own root", .d.method = METHOD_DEVICE, .d.line = 7, .how = RENEW_NEW),
        ROW("which holds it", .d.method = METHOD_DEVICE, .d.line = 7, .d.state = DEVICE_PENDING, .code = MUSTER_EPENDING),
        ROW("of the customer's CA", .d.method = METHOD_DEVICE, .elsewhere = true, .code = MUSTER_EFLEETCA),
        ROW("of a line of the customer's CA", .d.method = METHOD_DEVICE, .d.line = 7, .elsewhere = true, .code = MUSTER_EFLEETCA),
        ROW("another's key", .is = OWN_KEY_ELSEWHERE, .code = MUSTER_EKEYELSEWHERE),
        ROW("a provisioning key's", .is = OWN_KEY_PROVISIONING, .code = MUSTER_EKEYELSEWHERE),
        ROW("a key that is over", .is = OWN_KEY_BARRED, .code = MUSTER_EKEYBARRED),
        ROW("RSA, which the account does not take", .own.kind = KEY_RSA, .own.bits = 2048, .code = MUSTER_ECSR),
        ROW("RSA", .a.device_key = DEVICE_KEY_RSA, .own.kind = KEY_RSA, .own.bits = 2048, .how = RENEW_NEW),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        const struct renew_facts f = {.now = NOW, .newest = r->newest, .account = &r->a, .device = &r->d, .begins = r->begins, .live = !r->other, .superseded = r->superseded, .former_key = r->former, .revoked = r->revoked, .elsewhere = r->elsewhere, .own = &r->own, .own_is = r->is, .same = r->same, .shut = r->shut, .same_shut = r->same_shut, .certificates_since = r->certificates_since};
        struct renew_verdict v;
        renew_decide(&f, &v);
        if (v.how != r->how || v.err.code != r->code)
            fail_msg("%s: how %d, %s", r->what, v.how, err_code(v.err.code));
        if (r->wait && v.err.retry_after != r->wait)
            fail_msg("%s: in %d s", r->what, v.err.retry_after);
        if (v.how == RENEW_NEW && v.superseded != r->clone)
            fail_msg("%s: whether it may be a clone", r->what);
        if (v.how == RENEW_NEW && v.by_grant != r->by_grant)
            fail_msg("%s: whether an operator's word is spent", r->what);
        if (v.err.code && (err_http(v.err.code) == 429 || v.err.code == MUSTER_ECLOCK))
            assert_true(v.err.retry_after >= 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(row_by_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
