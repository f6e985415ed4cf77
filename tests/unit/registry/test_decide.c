/* enrol_decide: who may enrol, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "registry/enrol.h"

#define NOW 1800000000LL

/* Braces, not functions: a later `.a.method = …` changes one member of them. */
#define ACCOUNT {.row = 1, .state = ACCOUNT_ACTIVE, .method = METHOD_SHARED, .reprovision = REPROVISION_NEVER, .lost_answer_window = CLOCK_DAY, .device_life = DEVICE_LIFE, .issue_ceiling = 1}
#define KEY {.row = 7, .account = 1, .state = KEY_ACTIVE, .expires = NOW + 1, .certificate_not_after = NOW + 1}
/* Enrolled with key 7 an hour ago, one certificate, not used. */
#define DEVICE                                                                                                                 \
    {.row = 3, .account = 1, .state = DEVICE_ACTIVE, .method = METHOD_SHARED, .prov_key = 7, .issue_first = NOW - CLOCK_HOUR, .issue_last_ms = NOW * 1000 - 500, .issue_count = 1}

struct row {
    const char *what;
    struct account a;
    struct prov_key k;
    struct device d; /* row 0: the ID is free */
    const char *id;  /* NULL: unit-1 */
    int64_t newest, last_hour, oldest, certificates_since;
    bool expected, pinned, used, asks, shut;
    struct hook_answer answer;
    int64_t waiting; /* 0: the key that enrolled the device */
    enum enrol_how how;
    int code, shadow;
    enum device_state state;
};

static void check(const struct row *r) {
    struct enrol_verdict v;
    const struct enrol_facts f = {.now = NOW, .now_ms = NOW * 1000, .newest = r->newest, .address = "192.0.2.7", .device_id = span_str(r->id ? r->id : "unit-1"), .account = &r->a, .key = &r->k,
                                  .device = r->d.row ? &r->d : NULL, .expected = r->expected, .pinned = r->pinned, .waiting_key = !r->d.row || r->used ? 0 : r->waiting ? r->waiting : r->d.prov_key, .last_hour = r->last_hour, .oldest = r->oldest, .certificates_since = r->certificates_since, .asks = r->asks, .answer = r->answer, .shut = r->shut};
    enrol_decide(&f, &v);
    if (v.how != r->how || v.err.code != r->code || (v.how == ENROL_NEW && r->state && v.state != r->state))
        fail_msg("%s: how %d, %s", r->what, v.how, err_code(v.err.code));
    if (v.shadow.code != r->shadow)
        fail_msg("%s: of what is tried %s", r->what, err_code(v.shadow.code));
    if (err_http(v.err.code) == 429 && v.how == ENROL_REFUSED && v.err.code)
        assert_true(v.err.retry_after >= 1);
}

#define ROW(text, ...) {.what = text, .a = ACCOUNT, .k = KEY, .newest = NOW, __VA_ARGS__}
#pragma GCC diagnostic ignored "-Woverride-init"

static void keys(void **state) {
    struct row rows[] = {
        ROW("a free ID", .how = ENROL_NEW, .state = DEVICE_ACTIVE),
        ROW("an ID with a character that nobody sees", .id = "unit\xe2\x80\x8b-1", .code = MUSTER_EDEVICEID),
        ROW("one that is in with it", .id = "unit\xe2\x80\x8b-1", .d = DEVICE, .how = ENROL_AGAIN),
        ROW("the clock is behind", .newest = NOW + CLOCK_TOLERANCE + 1, .code = MUSTER_ECLOCK),
        ROW("the clock is behind a little", .newest = NOW + CLOCK_TOLERANCE, .how = ENROL_NEW),
        ROW("blacklisted", .k.state = KEY_BLACKLISTED, .code = MUSTER_EKEYBLACKLISTED),
        ROW("blacklisted, though the answer was lost", .k.state = KEY_BLACKLISTED, .d = DEVICE, .code = MUSTER_EKEYBLACKLISTED),
        ROW("expired", .k.expires = NOW, .code = MUSTER_EKEYEXPIRED),
        ROW("its certificate ended", .k.certificate_not_after = NOW, .code = MUSTER_EKEYEXPIRED),
        ROW("account deleted", .a.state = ACCOUNT_DELETED, .code = MUSTER_EDELETED),
        ROW("method off", .a.method = METHOD_DEVICE, .code = MUSTER_EMETHODOFF),
        ROW("another network", .k.sources = "198.51.100.0/24 2001:db8::/32", .code = MUSTER_EKEYSOURCE),
        ROW("its network", .k.sources = "198.51.100.0/24 192.0.2.0/29", .how = ENROL_NEW),
        ROW("another pattern", .k.id_pattern = "gate-*", .code = MUSTER_EKEYPATTERN),
        ROW("its pattern", .k.id_pattern = "unit-[0-9]", .how = ENROL_NEW),
        ROW("a profile without the keys that the server makes", .a.profile.keys = PROFILE_KEY_P384, .code = MUSTER_EKEYTYPE),
        ROW("a profile with them", .a.profile.keys = PROFILE_KEY_P256, .how = ENROL_NEW),
        ROW("a provisioning key without them", .k.profile.keys = PROFILE_KEY_ED25519, .code = MUSTER_EKEYTYPE),
        ROW("a provisioning key that its account has grown too narrow for", .a.profile.keys = PROFILE_KEY_P256, .k.profile.keys = PROFILE_KEY_P384, .how = ENROL_NEW),
        ROW("the same, and the account does not take the key either", .a.profile.keys = PROFILE_KEY_ED25519, .k.profile.keys = PROFILE_KEY_P384, .code = MUSTER_EKEYTYPE),
        ROW("RSA, which the profile does not take", .a.device_key = DEVICE_KEY_RSA, .a.profile.keys = PROFILE_KEY_P256 | PROFILE_KEY_RSA3072, .code = MUSTER_EKEYTYPE),
        ROW("RSA, which it takes", .a.device_key = DEVICE_KEY_RSA, .a.profile.keys = PROFILE_KEY_RSA2048, .how = ENROL_NEW),
        ROW("a profile that is only tried", .a.shadow = {.keys = PROFILE_KEY_P384, .life = 3600}, .how = ENROL_NEW, .shadow = MUSTER_ESHADOW),
        ROW("settings that are tried", .a.tried = "{\"method\":\"device\"}", .how = ENROL_NEW, .shadow = MUSTER_ESHADOW),
        ROW("settings that are tried, and let it in", .a.tried = "{\"method\":\"both\"}", .how = ENROL_NEW),
        ROW("settings that let in whom those that hold do not", .a.method = METHOD_DEVICE, .a.tried = "{\"method\":\"both\"}", .code = MUSTER_EMETHODOFF),
        ROW("it would wait, by what is tried", .a.tried = "{\"approval\":true}", .how = ENROL_NEW, .state = DEVICE_ACTIVE, .shadow = MUSTER_ESHADOW),
        ROW("it waits, by what holds as well", .a.approval = true, .a.tried = "{\"expected_only\":true}", .how = ENROL_NEW, .state = DEVICE_PENDING),
        ROW("what is tried cannot be read", .a.tried = "{\"method\":", .how = ENROL_NEW),
        ROW("what is tried says what there is not", .a.tried = "{\"method\":\"none\"}", .how = ENROL_NEW),
        ROW("bounds of a key that are tried", .k.tried = "{\"sources\":\"198.51.100.0/24\"}", .how = ENROL_NEW, .shadow = MUSTER_ESHADOW),
        ROW("bounds of a key that are tried, and take it", .k.tried = "{\"sources\":\"192.0.2.0/24\"}", .how = ENROL_NEW),
        ROW("a key on its last device, by what is tried", .k = {.row = 7, .account = 1, .state = KEY_ACTIVE, .expires = NOW + 1, .certificate_not_after = NOW + 1, .spent = 3, .tried = "{\"max_devices\":4}"}, .how = ENROL_NEW),
        ROW("a key behind it", .k = {.row = 7, .account = 1, .state = KEY_ACTIVE, .expires = NOW + 1, .certificate_not_after = NOW + 1, .spent = 4, .tried = "{\"max_devices\":4}"}, .how = ENROL_NEW, .shadow = MUSTER_ESHADOW),
        ROW("a profile that is tried, and takes it", .a.shadow = {.keys = PROFILE_KEY_P256, .life = 3600}, .how = ENROL_NEW),
        ROW("one that is tried refuses nobody, the one that holds does", .a.profile.keys = PROFILE_KEY_P384, .a.shadow = {.keys = PROFILE_KEY_P384, .life = 3600}, .code = MUSTER_EKEYTYPE),
        ROW("somebody is asked before", .asks = true, .how = ENROL_ASK, .code = MUSTER_EHOOKWAITS),
        ROW("who has not answered yet", .asks = true, .answer = {.row = 1, .state = HOOK_WAITING, .until = NOW + 1}, .code = MUSTER_EHOOKWAITS),
        ROW("nor in time", .asks = true, .answer = {.row = 1, .state = HOOK_WAITING, .until = NOW}, .how = ENROL_ASK, .code = MUSTER_EHOOKWAITS),
        ROW("who wants to be asked later", .asks = true, .answer = {.row = 1, .state = HOOK_LATER, .until = NOW + 9}, .code = MUSTER_EHOOKWAITS),
        ROW("later is now", .asks = true, .answer = {.row = 1, .state = HOOK_LATER, .until = NOW}, .how = ENROL_ASK, .code = MUSTER_EHOOKWAITS),
        ROW("who said yes", .asks = true, .answer = {.row = 1, .state = HOOK_ALLOWED, .until = NOW + 1}, .how = ENROL_NEW),
        ROW("long ago", .asks = true, .answer = {.row = 1, .state = HOOK_ALLOWED, .until = NOW}, .how = ENROL_ASK, .code = MUSTER_EHOOKWAITS),
        ROW("under a clock that ran ahead", .asks = true, .answer = {.row = 1, .state = HOOK_ALLOWED, .until = NOW + CLOCK_AHEAD + HOOK_ALLOWED_FOR + 1}, .how = ENROL_ASK, .code = MUSTER_EHOOKWAITS),
        ROW("or no, under such a clock", .asks = true, .answer = {.row = 1, .state = HOOK_DENIED, .until = NOW + CLOCK_YEAR}, .how = ENROL_ASK, .code = MUSTER_EHOOKWAITS),
        ROW("who wants to be asked tomorrow", .asks = true, .answer = {.row = 1, .state = HOOK_LATER, .until = NOW + HOOK_LATER_MAX}, .code = MUSTER_EHOOKWAITS),
        ROW("who said no", .asks = true, .answer = {.row = 1, .state = HOOK_DENIED, .until = NOW + 1}, .code = MUSTER_EHOOKDENIED),
        ROW("who gave no answer that counts", .asks = true, .answer = {.row = 1, .state = HOOK_FAILED, .until = NOW + 1}, .code = MUSTER_EHOOKFAILED),
        ROW("or one that there is not", .asks = true, .answer = {.row = 1, .state = (enum hook_state)9, .until = NOW + 1}, .code = MUSTER_EHOOKFAILED),
        ROW("and what is refused anyway is not asked", .asks = true, .k.state = KEY_BLACKLISTED, .code = MUSTER_EKEYBLACKLISTED),
        ROW("nor allowed", .asks = true, .answer = {.row = 1, .state = HOOK_ALLOWED, .until = NOW + 1}, .k.max_devices = 5, .k.spent = 5, .code = MUSTER_EKEYEXHAUSTED),
        ROW("the root that the account issues under is shut", .shut = true, .code = MUSTER_EROOTSHUT),
        ROW("and nobody is asked for what is not issued", .shut = true, .asks = true, .code = MUSTER_EROOTSHUT),
        ROW("what is for good is said first", .shut = true, .k.max_devices = 5, .k.spent = 5, .code = MUSTER_EKEYEXHAUSTED),
        ROW("spent", .k.max_devices = 5, .k.spent = 5, .code = MUSTER_EKEYEXHAUSTED),
        ROW("the last one", .k.max_devices = 5, .k.spent = 4, .how = ENROL_NEW),
        ROW("too many within an hour", .k.per_hour = 2, .last_hour = 2, .oldest = NOW - 3599, .code = MUSTER_EKEYRATE),
        ROW("too many, by a clock that went back", .k.per_hour = 2, .last_hour = 2, .oldest = NOW + 100, .code = MUSTER_EKEYRATE),
        ROW("the last one of the hour", .k.per_hour = 2, .last_hour = 1, .oldest = NOW - 10, .how = ENROL_NEW),
        ROW("approval", .a.approval = true, .how = ENROL_NEW, .state = DEVICE_PENDING),
        ROW("not announced", .a.expected_only = true, .how = ENROL_NEW, .state = DEVICE_PENDING),
        ROW("announced with a key of its own", .a.expected_only = true, .expected = true, .pinned = true, .code = MUSTER_EKEYMISMATCH),
        ROW("announced with a key of its own, where all may come", .expected = true, .pinned = true, .code = MUSTER_EKEYMISMATCH),
        ROW("announced with a key of its own, but let to come again", .expected = true, .pinned = true, .d = DEVICE, .used = true, .d.again = AGAIN_GRANTED, .how = ENROL_REPLACE),
        ROW("announced", .a.expected_only = true, .expected = true, .how = ENROL_NEW, .state = DEVICE_ACTIVE),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

static void answers_lost(void **state) {
    struct row rows[] = {
        ROW("lost", .d = DEVICE, .how = ENROL_AGAIN),
        ROW("lost, and the key is spent", .d = DEVICE, .k.max_devices = 1, .k.spent = 1, .how = ENROL_AGAIN),
        ROW("lost, and the hour is full", .d = DEVICE, .k.per_hour = 1, .last_hour = 1, .how = ENROL_AGAIN),
        ROW("lost, and the root is shut", .d = DEVICE, .shut = true, .code = MUSTER_EROOTSHUT),
        ROW("lost, with another key", .d = DEVICE, .d.prov_key = 8, .code = MUSTER_EREGISTERED),
        ROW("too fast", .d = DEVICE, .d.issue_last_ms = NOW * 1000 - 499, .code = MUSTER_EREISSUELIMIT),
        ROW("the eighth further one", .d = DEVICE, .d.issue_count = 8, .how = ENROL_AGAIN),
        ROW("the ninth further one", .d = DEVICE, .d.issue_count = 9, .code = MUSTER_EREISSUELIMIT),
        ROW("the ninth further one, the first of which a clock has made that ran ahead", .d = DEVICE, .d.issue_first = NOW + CLOCK_YEAR, .d.issue_last_ms = (NOW + CLOCK_YEAR) * 1000, .d.issue_count = 9, .how = ENROL_AGAIN),
        ROW("the same, where the account gives none again", .a.lost_answer_window = 0, .d = DEVICE, .d.issue_first = NOW + CLOCK_YEAR, .code = MUSTER_EREGISTERED),
        ROW("used", .d = DEVICE, .used = true, .code = MUSTER_EREGISTERED),
        ROW("the window is over", .d = DEVICE, .d.issue_first = NOW - CLOCK_DAY, .code = MUSTER_EREGISTERED),
        ROW("the last second", .d = DEVICE, .d.issue_first = NOW - CLOCK_DAY + 1, .how = ENROL_AGAIN),
        ROW("pending", .d = DEVICE, .d.state = DEVICE_PENDING, .how = ENROL_AGAIN),
        ROW("quarantined", .d = DEVICE, .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED),
        ROW("revoked", .d = DEVICE, .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED),
        ROW("refused", .d = DEVICE, .d.state = DEVICE_REVOKED, .d.refused = true, .code = MUSTER_EREFUSED),
        ROW("deleted", .d = DEVICE, .d.state = DEVICE_DELETED, .code = MUSTER_EDEVDELETED),
        ROW("lost by another key than that of the live identity", .d = DEVICE, .d.prov_key = 8, .waiting = 7, .how = ENROL_AGAIN),
        ROW("lost by a device of device credentials that was let to come again", .d = DEVICE, .d.method = METHOD_DEVICE, .d.prov_key = 0, .waiting = 7, .how = ENROL_AGAIN),
        ROW("what waits is another key's", .d = DEVICE, .waiting = 8, .code = MUSTER_EREGISTERED),
        ROW("of device credentials", .d = DEVICE, .d.method = METHOD_DEVICE, .d.prov_key = 0, .code = MUSTER_EREGISTERED),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

/* --- the device's own key (EST) ----------------------------------------------------------------------------------------------------- */

struct own_row {
    struct row row;
    struct key_facts own;
    enum own_key is;
    bool same, same_shut;
    int withheld;
};

static void check_own(const struct own_row *o) {
    const struct row *r = &o->row;
    struct enrol_verdict v;
    const struct enrol_facts f = {.now = NOW, .now_ms = NOW * 1000, .newest = NOW, .address = "192.0.2.7", .device_id = SPAN_LIT("unit-1"), .account = &r->a, .key = &r->k, .own = &o->own, .own_is = o->is,
                                  .same = o->same, .same_shut = o->same_shut, .shut = r->shut, .device = r->d.row ? &r->d : NULL, .expected = r->expected, .pinned = r->pinned, .waiting_key = r->d.row && !r->used ? 7 : 0};
    enrol_decide(&f, &v);
    if (v.how != r->how || v.err.code != r->code || v.withheld != o->withheld)
        fail_msg("%s: how %d, %s, withheld %d", r->what, v.how, err_code(v.err.code), v.withheld);
}

#define P256 {.kind = KEY_P256, .bits = 256}
#define RSA(n) {.kind = KEY_RSA, .bits = (n)}
#define OWN(...) ROW(__VA_ARGS__)

static void own_keys(void **state) {
    const struct own_row rows[] = {
        {OWN("a free ID", .how = ENROL_NEW), P256},
        {OWN("RSA, which the account does not take", .code = MUSTER_ECSR), RSA(2048)},
        {OWN("RSA", .a.device_key = DEVICE_KEY_RSA, .how = ENROL_NEW), RSA(4096)},
        {OWN("RSA that is too long", .a.device_key = DEVICE_KEY_RSA, .code = MUSTER_ECSR), RSA(8192)},
        {OWN("a provisioning key's", .code = MUSTER_EKEYELSEWHERE), P256, .is = OWN_KEY_PROVISIONING},
        {OWN("another device's", .code = MUSTER_EKEYELSEWHERE), P256, .is = OWN_KEY_ELSEWHERE},
        {OWN("another device's, though this one's answer was lost", .d = DEVICE, .code = MUSTER_EKEYELSEWHERE), P256, .is = OWN_KEY_ELSEWHERE},
        {OWN("barred", .code = MUSTER_EKEYBARRED), P256, .is = OWN_KEY_BARRED},
        {OWN("the same again", .d = DEVICE, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again, and another would be of a root that is shut", .d = DEVICE, .shut = true, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again, of a root that is shut", .d = DEVICE, .code = MUSTER_EROOTSHUT), P256, .is = OWN_KEY_OWN, .same = true, .same_shut = true},
        {OWN("another, where that is shut which the account issues under", .d = DEVICE, .shut = true, .code = MUSTER_EROOTSHUT), P256},
        {OWN("the same again at once", .d = DEVICE, .d.issue_last_ms = NOW * 1000, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again, used", .d = DEVICE, .used = true, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again of a spent key", .d = DEVICE, .k.max_devices = 1, .k.spent = 1, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again of a blacklisted key", .d = DEVICE, .k.state = KEY_BLACKLISTED, .code = MUSTER_EKEYBLACKLISTED), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again of one that is quarantined", .d = DEVICE, .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("the same again of one that is revoked", .d = DEVICE, .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("its own key, but the certificate is over", .d = DEVICE, .used = true, .code = MUSTER_EREGISTERED), P256, .is = OWN_KEY_OWN},
        {OWN("approval", .a.approval = true, .how = ENROL_NEW), P256, .withheld = MUSTER_EPENDING},
        {OWN("approval, again", .a.approval = true, .d = DEVICE, .d.state = DEVICE_PENDING, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true, .withheld = MUSTER_EPENDING},
        {OWN("approval, with another key", .a.approval = true, .d = DEVICE, .d.state = DEVICE_PENDING, .how = ENROL_AGAIN), P256, .withheld = MUSTER_EPENDING},
        {OWN("approved", .a.approval = true, .d = DEVICE, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("not announced", .a.expected_only = true, .how = ENROL_NEW), P256, .withheld = MUSTER_EUNEXPECTED},
        {OWN("announced meanwhile", .a.expected_only = true, .d = DEVICE, .d.state = DEVICE_PENDING, .expected = true, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true},
        {OWN("announced, and to be approved", .a.expected_only = true, .a.approval = true, .expected = true, .how = ENROL_NEW), P256, .withheld = MUSTER_EPENDING},
        {OWN("announced with another key", .expected = true, .pinned = true, .code = MUSTER_EKEYMISMATCH), P256},
        {OWN("announced with this key", .a.expected_only = true, .expected = true, .how = ENROL_NEW), P256},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_own(&rows[i]);
}

/* --- an invitation in place of a key ------------------------------------------------------------------------------------------------ */

struct invited_row {
    struct own_row own;
    int64_t expires, spent; /* expires 0: to come */
    bool server_key, waits; /* serverkeygen, and what the invitation was spent for waits */
};

static void check_invited(const struct invited_row *i) {
    const struct row *r = &i->own.row;
    struct enrol_verdict v;
    const struct invitation invitation = {.row = 5, .account = 1, .expires = i->expires ? i->expires : NOW + 1, .spent = i->spent};
    const struct enrol_facts f = {.now = NOW, .newest = r->newest, .address = "192.0.2.7", .device_id = SPAN_LIT("unit-1"), .account = &r->a, .invitation = &invitation,
                                  .own = i->server_key ? NULL : &i->own.own, .server_keygen = i->server_key, .invited_waits = i->waits, .now_ms = NOW * 1000, .own_is = i->own.is, .same = i->own.same, .device = r->d.row ? &r->d : NULL, .expected = r->expected, .pinned = r->pinned,
                                  .waiting_key = r->d.row && !r->used ? r->waiting : 0, .certificates_since = r->certificates_since};
    enrol_decide(&f, &v);
    if (v.how != r->how || v.err.code != r->code || v.withheld != i->own.withheld)
        fail_msg("%s: how %d, %s, withheld %d", r->what, v.how, err_code(v.err.code), v.withheld);
}

#define SPENT .spent = NOW - 10

static void invitations(void **state) {
    const struct invited_row rows[] = {
        {{OWN("a free ID", .how = ENROL_NEW), P256}},
        {{OWN("the clock is behind", .newest = NOW + CLOCK_TOLERANCE + 1, .code = MUSTER_ECLOCK), P256}},
        {{OWN("expired", .code = MUSTER_EINVEXPIRED), P256}, .expires = NOW},
        {{OWN("expired, though it is the same again", .d = DEVICE, .code = MUSTER_EINVEXPIRED), P256, .is = OWN_KEY_OWN, .same = true}, .expires = NOW, SPENT},
        {{OWN("account deleted", .a.state = ACCOUNT_DELETED, .code = MUSTER_EDELETED), P256}},
        {{OWN("method off", .a.method = METHOD_DEVICE, .code = MUSTER_EMETHODOFF), P256}},
        {{OWN("RSA, which the account does not take", .code = MUSTER_ECSR), RSA(2048)}},
        {{OWN("another device's key", .code = MUSTER_EKEYELSEWHERE), P256, .is = OWN_KEY_ELSEWHERE}},
        {{OWN("a provisioning key's", .code = MUSTER_EKEYELSEWHERE), P256, .is = OWN_KEY_PROVISIONING}},
        {{OWN("a barred key", .code = MUSTER_EKEYBARRED), P256, .is = OWN_KEY_BARRED}},
        {{OWN("the same again", .d = DEVICE, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true}, SPENT},
        {{OWN("the same again, with a newer invitation", .d = DEVICE, .how = ENROL_SAME), P256, .is = OWN_KEY_OWN, .same = true}},
        {{OWN("spent for another key", .d = DEVICE, .code = MUSTER_EINVSPENT), P256}, SPENT},
        {{OWN("spent, and the certificate is over", .d = DEVICE, .code = MUSTER_EINVSPENT), P256, .is = OWN_KEY_OWN}, SPENT},
        {{OWN("spent, and the tombstone was lifted", .code = MUSTER_EINVSPENT), P256}, SPENT},
        {{OWN("spent, whatever the account lets come again", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .d.again = AGAIN_GRANTED, .code = MUSTER_EINVSPENT), P256}, SPENT},
        {{OWN("quarantined", .d = DEVICE, .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED), P256}},
        {{OWN("revoked", .d = DEVICE, .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED), P256}},
        {{OWN("refused", .d = DEVICE, .d.state = DEVICE_REVOKED, .d.refused = true, .code = MUSTER_EREFUSED), P256}},
        {{OWN("deleted", .d = DEVICE, .d.state = DEVICE_DELETED, .code = MUSTER_EDEVDELETED), P256}},
        {{OWN("quarantined, and the same again", .d = DEVICE, .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED), P256, .is = OWN_KEY_OWN, .same = true}, SPENT},
        {{OWN("registered", .d = DEVICE, .code = MUSTER_EREGISTERED), P256}},
        {{OWN("registered, and another's certificate waits", .d = DEVICE, .waiting = 7, .code = MUSTER_EREGISTERED), P256}},
        {{OWN("let to come again", .d = DEVICE, .d.again = AGAIN_GRANTED, .how = ENROL_REPLACE), P256}},
        {{OWN("may be replaced", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .how = ENROL_REPLACE), P256}},
        {{OWN("may be replaced, but not so often", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .certificates_since = NOW - 1, .code = MUSTER_EREISSUELIMIT), P256}},
        {{OWN("asks", .a.reprovision = REPROVISION_ASK, .d = DEVICE, .how = ENROL_ASK, .code = MUSTER_EAPPROVAL), P256}},
        {{OWN("was refused to come again", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .d.again = AGAIN_REFUSED, .code = MUSTER_EREFUSED), P256}},
        {{OWN("approval", .a.approval = true, .how = ENROL_NEW), P256, .withheld = MUSTER_EPENDING}},
        {{OWN("not announced", .a.expected_only = true, .how = ENROL_NEW), P256, .withheld = MUSTER_EUNEXPECTED}},
        {{OWN("announced with another key", .expected = true, .pinned = true, .code = MUSTER_EKEYMISMATCH), P256}},
        {{OWN("a key that Muster makes, which the account does not let it", .code = MUSTER_EKEYGENOFF)}, .server_key = true},
        {{OWN("which the account does not let it, though it was lost", .d = DEVICE, .code = MUSTER_EKEYGENOFF)}, SPENT, .server_key = true, .waits = true},
        {{OWN("a key that Muster makes", .a.server_keygen = true, .how = ENROL_NEW)}, .server_key = true},
        {{OWN("of a device that waits", .a.server_keygen = true, .a.approval = true, .how = ENROL_NEW)}, .server_key = true},
        {{OWN("its answer was lost", .a.server_keygen = true, .d = DEVICE, .how = ENROL_AGAIN)}, SPENT, .server_key = true, .waits = true},
        {{OWN("lost too often", .a.server_keygen = true, .d = DEVICE, .d.issue_count = 9, .code = MUSTER_EREISSUELIMIT)}, SPENT, .server_key = true, .waits = true},
        {{OWN("lost long ago", .a.server_keygen = true, .d = DEVICE, .d.issue_first = NOW - CLOCK_DAY, .code = MUSTER_EINVSPENT)}, SPENT, .server_key = true, .waits = true},
        {{OWN("not lost, but used", .a.server_keygen = true, .d = DEVICE, .code = MUSTER_EINVSPENT)}, SPENT, .server_key = true},
        {{OWN("lost, and let to come again", .a.server_keygen = true, .d = DEVICE, .d.again = AGAIN_GRANTED, .code = MUSTER_EINVSPENT)}, SPENT, .server_key = true, .waits = true},
        {{OWN("lost, and revoked", .a.server_keygen = true, .d = DEVICE, .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED)}, SPENT, .server_key = true, .waits = true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_invited(&rows[i]);
}

static void a_code_is_compared_whole(void **state) {
    struct invitation i = {.row = 1};
    char one[INVITATION_CODE_LEN + 1], other[INVITATION_CODE_LEN + 1];
    struct hash code, wrong;
    static const struct hash none;
    invitation_make(one, &i.code);
    invitation_make(other, &wrong);
    assert_string_not_equal(one, other);
    assert_int_equal(strlen(one), INVITATION_CODE_LEN);
    invitation_hash(span_str(one), &code);
    assert_true(invitation_is_of(&i, &code));
    assert_false(invitation_is_of(&i, &wrong));
    for (size_t k = 0; k < sizeof code.b; k++) {
        struct hash close = code;
        close.b[k] ^= 1;
        assert_false(invitation_is_of(&i, &close));
    }
    assert_false(invitation_is_of(NULL, &code));
    assert_false(invitation_is_of(NULL, &none)); /* what stands for one that there is not is nobody's */
}

static void coming_again(void **state) {
    struct row rows[] = {
        ROW("never", .d = DEVICE, .used = true, .code = MUSTER_EREGISTERED),
        ROW("ask", .a.reprovision = REPROVISION_ASK, .d = DEVICE, .used = true, .how = ENROL_ASK, .code = MUSTER_EAPPROVAL),
        ROW("asked before", .a.reprovision = REPROVISION_ASK, .d = DEVICE, .used = true, .d.again = AGAIN_ASKED, .code = MUSTER_EAPPROVAL),
        ROW("granted", .a.reprovision = REPROVISION_ASK, .d = DEVICE, .used = true, .d.again = AGAIN_GRANTED, .how = ENROL_REPLACE),
        ROW("granted under never", .d = DEVICE, .used = true, .d.again = AGAIN_GRANTED, .how = ENROL_REPLACE),
        ROW("granted to another key", .d = DEVICE, .d.prov_key = 8, .d.again = AGAIN_GRANTED, .how = ENROL_REPLACE),
        ROW("granted, but the key is spent", .d = DEVICE, .d.again = AGAIN_GRANTED, .k.max_devices = 1, .k.spent = 1, .code = MUSTER_EKEYEXHAUSTED),
        ROW("refused", .a.reprovision = REPROVISION_ASK, .d = DEVICE, .used = true, .d.again = AGAIN_REFUSED, .code = MUSTER_EREFUSED),
        ROW("replace", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .how = ENROL_REPLACE),
        ROW("replace, but the root is shut", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .shut = true, .code = MUSTER_EROOTSHUT),
        ROW("the wish is written down all the same", .a.reprovision = REPROVISION_ASK, .d = DEVICE, .used = true, .shut = true, .how = ENROL_ASK, .code = MUSTER_EAPPROVAL),
        ROW("replace what was replaced too often today", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .certificates_since = NOW - CLOCK_DAY + 1, .code = MUSTER_EREISSUELIMIT),
        ROW("replace what was replaced so often under a clock that ran ahead", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .certificates_since = NOW + CLOCK_AHEAD + 1, .how = ENROL_REPLACE),
        ROW("replace what was replaced too often, and the clock went back a little", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .certificates_since = NOW + CLOCK_AHEAD, .code = MUSTER_EREISSUELIMIT),
        ROW("replace what was replaced so often yesterday", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .certificates_since = NOW - CLOCK_DAY, .how = ENROL_REPLACE),
        ROW("granted, however often it came today", .d = DEVICE, .used = true, .d.again = AGAIN_GRANTED, .certificates_since = NOW - 1, .how = ENROL_REPLACE),
        ROW("replace with another key", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .used = true, .d.prov_key = 8, .code = MUSTER_EREGISTERED),
        ROW("replace what this key was let to enrol and nobody used", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .d.prov_key = 8, .waiting = 7, .d.issue_first = NOW - CLOCK_DAY, .how = ENROL_REPLACE),
        ROW("replace a device of device credentials", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .d.method = METHOD_DEVICE, .used = true, .code = MUSTER_EREGISTERED),
        ROW("replace what is revoked", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .d.state = DEVICE_REVOKED, .code = MUSTER_EREVOKED),
        ROW("replace what is quarantined", .a.reprovision = REPROVISION_REPLACE, .d = DEVICE, .d.state = DEVICE_QUARANTINED, .code = MUSTER_EQUARANTINED),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys), cmocka_unit_test(answers_lost), cmocka_unit_test(own_keys), cmocka_unit_test(invitations), cmocka_unit_test(a_code_is_compared_whole), cmocka_unit_test(coming_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
