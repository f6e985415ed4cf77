/* verdict_of: in which order a request is judged; and that each of its answers has a rule to be explained by. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "verifier/explain.h"

struct row {
    const char *what;
    int chain;               /* the chain's verdict */
    enum admit_class class;
    const char *sni, *host, *path, *account; /* accounts that SNI, Host and path name, and that the registry found */
    enum request_kind kind;
    bool asked, invited;     /* invited: the code of an invitation comes with it */
    int registry;            /* the registry's verdict */
    bool late, may_renew;    /* the chain was good before; the registry says so */
    bool recovery;           /* the server issues nothing */
    enum verdict verdict;
    int code;
};

static const struct row rows[] = {
    {.what = "a device that has not been asked about", .verdict = VERDICT_ASK},
    {.what = "is asked about whatever its host names say", .sni = "a", .host = "b", .verdict = VERDICT_ASK},
    {.what = "is asked about even where it enrols", .kind = REQUEST_DEVICES, .verdict = VERDICT_ASK},
    {.what = "a device", .asked = true, .account = "a", .verdict = VERDICT_ADMITTED},
    {.what = "under its account's name", .asked = true, .account = "a", .sni = "a", .host = "a", .verdict = VERDICT_ADMITTED},
    {.what = "two names come before the registry's word", .asked = true, .sni = "a", .host = "b", .registry = MUSTER_EREVOKED, .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "the registry's word", .asked = true, .registry = MUSTER_EREVOKED, .kind = REQUEST_DEVICES, .verdict = VERDICT_REFUSED, .code = MUSTER_EREVOKED},
    {.what = "Host names another account than the device's", .asked = true, .account = "a", .host = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "a device enrols", .asked = true, .account = "a", .kind = REQUEST_DEVICES, .verdict = VERDICT_REFUSED, .code = MUSTER_ENODEVICECERT},
    {.what = "no certificate", .chain = MUSTER_ECERTREQUIRED, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTREQUIRED},
    {.what = "no certificate enrols", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_DEVICES, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYREQUIRED},
    {.what = "two names without a certificate", .chain = MUSTER_ECERTREQUIRED, .sni = "a", .host = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "a bad chain", .chain = MUSTER_ECERTEXPIRED, .asked = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "a bad chain enrols", .chain = MUSTER_ECERTUNTRUSTED, .kind = REQUEST_DEVICES, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTUNTRUSTED},
    {.what = "a key enrols", .class = ADMIT_KEY, .kind = REQUEST_DEVICES, .verdict = VERDICT_ADMITTED},
    {.what = "a key does anything else", .class = ADMIT_KEY, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYONLYENROLS},
    {.what = "a key under two names", .class = ADMIT_KEY, .kind = REQUEST_DEVICES, .sni = "a", .host = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "an expired key", .class = ADMIT_KEY, .chain = MUSTER_EKEYEXPIRED, .kind = REQUEST_DEVICES, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYEXPIRED},
    {.what = "the path names another account than SNI", .asked = true, .account = "a", .sni = "a", .path = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "the path names another account than Host", .asked = true, .account = "a", .host = "a", .path = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "the path names another account than the device's", .asked = true, .account = "a", .path = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EOTHERACCOUNT},
    {.what = "a device enrols by EST", .asked = true, .account = "a", .kind = REQUEST_ENROL, .verdict = VERDICT_REFUSED, .code = MUSTER_ENODEVICECERT},
    {.what = "a key enrols by EST", .class = ADMIT_KEY, .kind = REQUEST_ENROL, .verdict = VERDICT_ADMITTED},
    {.what = "a key under a host name and another path", .class = ADMIT_KEY, .kind = REQUEST_ENROL, .sni = "a", .path = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "no certificate enrols by EST", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_ENROL, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYREQUIRED},
    {.what = "who was invited enrols by EST", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_ENROL, .invited = true, .verdict = VERDICT_INVITED},
    {.what = "under one name alone", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_ENROL, .invited = true, .sni = "a", .path = "b", .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "not by POST /devices", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_DEVICES, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYREQUIRED},
    {.what = "renews nothing", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_RENEW, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTREQUIRED},
    {.what = "does nothing else", .chain = MUSTER_ECERTREQUIRED, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTREQUIRED},
    {.what = "a bad chain with a code", .chain = MUSTER_ECERTUNTRUSTED, .kind = REQUEST_ENROL, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTUNTRUSTED},
    {.what = "an expired key with a code", .class = ADMIT_KEY, .chain = MUSTER_EKEYEXPIRED, .kind = REQUEST_ENROL, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYEXPIRED},
    {.what = "a device with a code", .asked = true, .account = "a", .kind = REQUEST_ENROL, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ENODEVICECERT},
    {.what = "a revoked device with a code", .asked = true, .account = "a", .registry = MUSTER_EREVOKED, .kind = REQUEST_ENROL, .invited = true, .verdict = VERDICT_REFUSED, .code = MUSTER_EREVOKED},
    {.what = "a key with a code is a key", .class = ADMIT_KEY, .kind = REQUEST_ENROL, .invited = true, .verdict = VERDICT_ADMITTED},
    {.what = "a device renews", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .kind = REQUEST_RENEW, .verdict = VERDICT_ADMITTED},
    {.what = "a device of a fleet CA renews", .class = ADMIT_DEVICE_UPLOADED, .asked = true, .account = "a", .kind = REQUEST_RENEW, .verdict = VERDICT_ADMITTED},
    {.what = "a revoked device renews", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .registry = MUSTER_EREVOKED, .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_EREVOKED},
    {.what = "an expired device renews", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "one whose chain was good before is asked about", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .kind = REQUEST_RENEW, .verdict = VERDICT_ASK},
    {.what = "and renews", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .kind = REQUEST_RENEW, .verdict = VERDICT_ADMITTED},
    {.what = "unless it is too late", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .registry = MUSTER_ECERTEXPIRED, .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "or the path names another account", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .path = "b", .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_EOTHERACCOUNT},
    {.what = "and does nothing else", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "not even asked about", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "nor enrol", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .kind = REQUEST_ENROL, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "nor by POST /devices", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .kind = REQUEST_DEVICES, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTEXPIRED},
    {.what = "one that was replaced renews", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .registry = MUSTER_ECERTSUPERSEDED, .may_renew = true, .kind = REQUEST_RENEW, .verdict = VERDICT_ADMITTED},
    {.what = "and does nothing else", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .registry = MUSTER_ECERTSUPERSEDED, .may_renew = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTSUPERSEDED},
    {.what = "nor enrol", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .registry = MUSTER_ECERTSUPERSEDED, .may_renew = true, .kind = REQUEST_ENROL, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTSUPERSEDED},
    {.what = "nor under another account's name", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .host = "b", .registry = MUSTER_ECERTSUPERSEDED, .may_renew = true, .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "a key renews", .class = ADMIT_KEY, .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYONLYENROLS},
    {.what = "nobody renews", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_ECERTREQUIRED},
    {.what = "a device renews under another account's path", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .path = "b", .kind = REQUEST_RENEW, .verdict = VERDICT_REFUSED, .code = MUSTER_EOTHERACCOUNT},
    {.what = "anybody reads what is public", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_PUBLIC, .verdict = VERDICT_ADMITTED},
    {.what = "whatever is wrong with the certificate", .chain = MUSTER_ECERTEXPIRED, .kind = REQUEST_PUBLIC, .path = "a", .verdict = VERDICT_ADMITTED},
    {.what = "whose account is asked about first", .kind = REQUEST_PUBLIC, .verdict = VERDICT_ASK},
    {.what = "a key's too", .class = ADMIT_KEY, .kind = REQUEST_PUBLIC, .verdict = VERDICT_ASK},
    {.what = "a revoked device reads what is public", .asked = true, .account = "a", .path = "a", .registry = MUSTER_EREVOKED, .kind = REQUEST_PUBLIC, .verdict = VERDICT_ADMITTED},
    {.what = "not under two names", .chain = MUSTER_ECERTREQUIRED, .sni = "a", .host = "b", .kind = REQUEST_PUBLIC, .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "nor under a host name and another path", .chain = MUSTER_ECERTREQUIRED, .sni = "a", .path = "b", .kind = REQUEST_PUBLIC, .verdict = VERDICT_REFUSED, .code = MUSTER_EMISDIRECTED},
    {.what = "nor with another account's key", .class = ADMIT_KEY, .asked = true, .account = "a", .path = "b", .kind = REQUEST_PUBLIC, .verdict = VERDICT_REFUSED, .code = MUSTER_EOTHERACCOUNT},
    {.what = "nor with another account's certificate", .asked = true, .account = "a", .path = "b", .kind = REQUEST_PUBLIC, .verdict = VERDICT_REFUSED, .code = MUSTER_EOTHERACCOUNT},
    {.what = "as the registry says", .asked = true, .registry = MUSTER_EOTHERACCOUNT, .kind = REQUEST_PUBLIC, .verdict = VERDICT_REFUSED, .code = MUSTER_EOTHERACCOUNT},
    {.what = "in recovery a device goes on", .asked = true, .account = "a", .recovery = true, .verdict = VERDICT_ADMITTED},
    {.what = "and reads what is public", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_PUBLIC, .recovery = true, .verdict = VERDICT_ADMITTED},
    {.what = "no key enrols", .class = ADMIT_KEY, .kind = REQUEST_DEVICES, .recovery = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ERECOVERY},
    {.what = "nor by EST", .class = ADMIT_KEY, .kind = REQUEST_ENROL, .recovery = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ERECOVERY},
    {.what = "nor who was invited", .chain = MUSTER_ECERTREQUIRED, .kind = REQUEST_ENROL, .invited = true, .recovery = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ERECOVERY},
    {.what = "nor does a device renew", .class = ADMIT_DEVICE_OWN, .asked = true, .account = "a", .kind = REQUEST_RENEW, .recovery = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ERECOVERY},
    {.what = "nor late", .class = ADMIT_DEVICE_OWN, .chain = MUSTER_ECERTEXPIRED, .late = true, .asked = true, .account = "a", .kind = REQUEST_RENEW, .recovery = true, .verdict = VERDICT_REFUSED, .code = MUSTER_ERECOVERY},
    {.what = "who would be refused hears why", .class = ADMIT_KEY, .chain = MUSTER_EKEYEXPIRED, .kind = REQUEST_DEVICES, .recovery = true, .verdict = VERDICT_REFUSED, .code = MUSTER_EKEYEXPIRED},
};

static void the_order(void **state) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct identity id = {.class = r->class, .chain = {.code = r->chain}, .ended = r->late, .admit = {.verdict = {.code = r->registry}, .may_renew = r->may_renew}};
        const struct verdict_request rq = {.kind = r->kind, .host_account = r->host ? r->host : "", .path_account = r->path ? r->path : "", .code = r->invited, .recovery = r->recovery};
        struct err why;
        snprintf(id.sni_account, sizeof id.sni_account, "%s", r->sni ? r->sni : "");
        snprintf(id.admit.account_name, sizeof id.admit.account_name, "%s", r->account ? r->account : "");
        enum verdict v = verdict_of(&id, r->asked, &rq, &why);
        if (v != r->verdict || why.code != r->code)
            fail_msg("%s: %d, %s", r->what, v, why.code ? err_code(why.code) : "0");
        if (v == VERDICT_REFUSED)
            assert_non_null(rule_of(why.code));
    }
}

/* Every refusal that a device meets with 403 stands in rules.def, but those of TLS, which nothing can be asked about, of operators, and of keys at home. */
static void every_refusal_has_a_rule(void **state) {
    static const int others[] = {MUSTER_EROLE, MUSTER_ETLSPOSSESSION, MUSTER_EKEYPIN};
    for (int i = 0; i < err_count(); i++) {
        int code = err_at(i);
        bool other = false;
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            other = other || others[k] == code;
        if (err_http(code) == 403 && !other && !rule_of(code))
            fail_msg("%s has no rule", err_code(code));
    }
    assert_null(rule_of(MUSTER_EIO));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_order), cmocka_unit_test(every_refusal_has_a_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
