/* renew_decide: who may renew, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "registry/renew.h"

#define NOW 1800000000LL
#define ACCOUNT {.row = 1, .state = ACCOUNT_ACTIVE, .method = METHOD_SHARED}
#define DEVICE {.row = 3, .account = 1, .state = DEVICE_ACTIVE, .method = METHOD_SHARED}
#define P256 {.kind = KEY_P256, .bits = 256}

struct row {
    const char *what;
    struct account a;
    struct device d;
    struct key_facts own;
    enum own_key is;
    bool other, same; /* other: the certificate that asks is not the device's any more */
    int64_t newest, certificates_since;
    enum renew_how how;
    int code;
};
#define ROW(text, ...) {.what = text, .a = ACCOUNT, .d = DEVICE, .own = P256, .newest = NOW, __VA_ARGS__}
#pragma GCC diagnostic ignored "-Woverride-init"

static void row_by_row(void **state) {
    const struct row rows[] = {
        ROW("a new key", .how = RENEW_NEW),
        ROW("the key so far", .is = OWN_KEY_OWN, .how = RENEW_NEW),
        ROW("the same again", .is = OWN_KEY_OWN, .same = true, .how = RENEW_SAME),
        ROW("the same again, of one that has asked too often", .is = OWN_KEY_OWN, .same = true, .certificates_since = NOW - 1, .how = RENEW_SAME),
        ROW("too many within a day", .certificates_since = NOW - CLOCK_DAY + 1, .code = MUSTER_EREISSUELIMIT),
        ROW("a day later", .certificates_since = NOW - CLOCK_DAY, .how = RENEW_NEW),
        ROW("another certificate was used meanwhile", .other = true, .code = MUSTER_ECERTSUPERSEDED),
        ROW("and the same again", .other = true, .same = true, .code = MUSTER_ECERTSUPERSEDED),
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
        ROW("another's key", .is = OWN_KEY_ELSEWHERE, .code = MUSTER_EKEYELSEWHERE),
        ROW("a provisioning key's", .is = OWN_KEY_PROVISIONING, .code = MUSTER_EKEYELSEWHERE),
        ROW("a key that is over", .is = OWN_KEY_BARRED, .code = MUSTER_EKEYBARRED),
        ROW("RSA, which the account does not take", .own.kind = KEY_RSA, .own.bits = 2048, .code = MUSTER_ECSR),
        ROW("RSA", .a.device_key = DEVICE_KEY_RSA, .own.kind = KEY_RSA, .own.bits = 2048, .how = RENEW_NEW),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        const struct renew_facts f = {.now = NOW, .newest = r->newest, .account = &r->a, .device = &r->d, .live = !r->other, .own = &r->own, .own_is = r->is, .same = r->same, .certificates_since = r->certificates_since};
        struct renew_verdict v;
        renew_decide(&f, &v);
        if (v.how != r->how || v.err.code != r->code)
            fail_msg("%s: how %d, %s", r->what, v.how, err_code(v.err.code));
        if (v.err.code && (err_http(v.err.code) == 429 || v.err.code == MUSTER_ECLOCK))
            assert_true(v.err.retry_after >= 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(row_by_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
