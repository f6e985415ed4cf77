/* model: see model.h. */
#include "registry/model.h"

#include <sqlite3.h>

#include "base/network.h"
#include "base/unseen.h"

#define WORDS(NAME, ...)                                                                                                       \
    static const char *const NAME##_words[] = {__VA_ARGS__};                                                                   \
    const struct words NAME = {NAME##_words, sizeof NAME##_words / sizeof *NAME##_words}

WORDS(WORDS_ACCOUNT_KIND, [ACCOUNT_TEST] = "test", [ACCOUNT_PRODUCTION] = "production");
WORDS(WORDS_METHOD, [METHOD_SHARED] = "shared", [METHOD_DEVICE] = "device", [METHOD_BOTH] = "both");
WORDS(WORDS_ACCOUNT_STATE, [ACCOUNT_MAKING] = "making", [ACCOUNT_ACTIVE] = "active", [ACCOUNT_DELETED] = "deleted");
WORDS(WORDS_REPROVISION, [REPROVISION_NEVER] = "never", [REPROVISION_ASK] = "ask", [REPROVISION_REPLACE] = "replace");
WORDS(WORDS_BACKEND, [BACKEND_SEALED] = "sealed", [BACKEND_PKCS11] = "pkcs11");
WORDS(WORDS_DEVICE_KEY, [DEVICE_KEY_P256] = "p256", [DEVICE_KEY_RSA] = "rsa2048");
WORDS(WORDS_HOOK, [HOOK_OFF] = "off", [HOOK_NEW] = "new", [HOOK_ALL] = "all", [HOOK_TRY] = "try");
WORDS(WORDS_ROOT_ORIGIN, [ROOT_UPLOADED] = "uploaded", [ROOT_MUSTER] = "muster");
WORDS(WORDS_ROOT_STATE, [ROOT_UNPROVED] = "unproved", [ROOT_ACTIVE] = "active", [ROOT_KNOWN_ONLY] = "known-only", [ROOT_DISABLED] = "disabled",
      [ROOT_RETIRED] = "retired", [ROOT_REVOKED] = "revoked");
WORDS(WORDS_KEY_RULE, [KEY_RULE_REFUSE] = "never", [KEY_RULE_ASK] = "ask", [KEY_RULE_ANNOUNCED] = "announced");
WORDS(WORDS_EXPIRED_RULE, [EXPIRED_REFUSE] = "refuse", [EXPIRED_KNOWN] = "known");
WORDS(WORDS_KEY_STATE, [KEY_ACTIVE] = "active", [KEY_BLACKLISTED] = "blacklisted", [KEY_EXPIRED] = "expired", [KEY_EXHAUSTED] = "exhausted");
WORDS(WORDS_DEVICE_STATE, [DEVICE_ACTIVE] = "active", [DEVICE_PENDING] = "pending", [DEVICE_QUARANTINED] = "quarantined", [DEVICE_REVOKED] = "revoked",
      [DEVICE_DELETED] = "deleted");
WORDS(WORDS_AGAIN, [AGAIN_NO] = "no", [AGAIN_ASKED] = "asked", [AGAIN_GRANTED] = "granted", [AGAIN_REFUSED] = "refused");
WORDS(WORDS_CERT_STATE, [CERT_ISSUED] = "issued", [CERT_CURRENT] = "current", [CERT_VOID] = "void", [CERT_SUPERSEDED] = "superseded", [CERT_REVOKED] = "revoked");
WORDS(WORDS_REVOKE_REASON, [REASON_UNSPECIFIED] = "unspecified", [REASON_KEY_COMPROMISE] = "key-compromise", [REASON_AFFILIATION] = "affiliation-changed",
      [REASON_SUPERSEDED] = "superseded", [REASON_CESSATION] = "cessation-of-operation", [REASON_PRIVILEGE] = "privilege-withdrawn");
WORDS(WORDS_ROLE, [ROLE_OWNER] = "owner", [ROLE_OPERATOR] = "operator", [ROLE_AUDITOR] = "auditor", [ROLE_FACTORY] = "factory");

const char *word_of(const struct words *w, int64_t number) { return number >= 0 && number < w->n && w->word[number] ? w->word[number] : "?"; }

int word_parse(const struct words *w, const char *text) {
    for (int i = 0; i < w->n; i++)
        if (w->word[i] && strcmp(w->word[i], text) == 0)
            return i;
    return 0;
}

void words_list(const struct words *w, struct buf *out) {
    int last = 0;
    for (int i = 0; i < w->n; i++)
        last = w->word[i] ? i : last;
    for (int i = 0, some = 0; i < w->n; i++)
        if (w->word[i]) {
            buf_adds(out, !some ? "" : i == last ? " or " : ", ");
            buf_adds(out, w->word[i]);
            some = 1;
        }
}

int account_name_check(struct span name, struct err *err) {
    bool ok = name.n >= 1 && name.n <= ACCOUNT_NAME_MAX && name.p[0] != '-' && name.p[name.n - 1] != '-';
    for (size_t i = 0; ok && i < name.n; i++) {
        uint8_t c = name.p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    }
    return ok ? 0 : err_set(err, MUSTER_EINVALID, "An account's name is a DNS label: 1 to %d characters of a-z, 0-9 and \"-\", which is neither first nor last.", ACCOUNT_NAME_MAX);
}

int device_id_check(struct span id, struct err *err) {
    if (id.n == 0 || id.n > DEVICE_ID_MAX || !span_is_utf8(id) || span_has_control(id))
        return err_set(err, MUSTER_EDEVICEID, NULL);
    if (span_starts(id, SPAN_LIT(CHALLENGE_PREFIX)))
        return err_set(err, MUSTER_EIDTAKEN, "Device IDs that begin with \"" CHALLENGE_PREFIX "\" are reserved for proofs of possession.");
    return 0;
}

int device_id_check_new(struct span id, struct err *err) { return unseen_refuse(id, "The device ID", MUSTER_EDEVICEID, err); }

bool id_pattern_match(const char *pattern, struct span id) {
    char text[DEVICE_ID_MAX + 1];
    if (!*pattern)
        return true;
    if (id.n > DEVICE_ID_MAX || memchr(id.p, 0, id.n))
        return false;
    memcpy(text, id.p, id.n);
    text[id.n] = '\0';
    /* Not fnmatch(3): it takes a character of UTF-8 for one `?` and for two. */
    return sqlite3_strglob(pattern, text) == 0;
}

int id_pattern_check(const char *pattern, struct err *err) {
    size_t n = strlen(pattern), sets = 0;
    if (n > DEVICE_ID_MAX || !span_is_utf8(span_str(pattern)) || span_has_control(span_str(pattern)))
        return err_set(err, MUSTER_EINVALID, "A pattern of device IDs is UTF-8 of at most %d bytes without control characters.", DEVICE_ID_MAX);
    for (size_t i = 0, stars = 0; i < n; i++) {
        stars += pattern[i] == '*';
        sets += pattern[i] == '[' ? 1 : 0;
        if (pattern[i] == ']' && sets)
            sets--;
        if (stars > 8) /* the time that matching takes grows with them */
            return err_set(err, MUSTER_EINVALID, "A pattern of device IDs has at most 8 times \"*\".");
    }
    return sets ? err_set(err, MUSTER_EINVALID, "The pattern of device IDs has a \"[\" without its \"]\".") : 0;
}

bool sources_match(const char *sources, const char *address) { return !*sources || networks_have(sources, address); }
int sources_check(const char *sources, struct err *err) { return networks_check(sources, err); }

bool within(int64_t then, int64_t window, int64_t now) { return then > now - window && then <= now + CLOCK_AHEAD; }
bool lately(int64_t then, int64_t window, int64_t now) { return now - (then < now ? then : now) < window; }

struct actor actor_of(const char *kind, struct span name) {
    struct actor a;
    snprintf(a.text, sizeof a.text, "%s:%.*s", kind, (int)(name.n > DEVICE_ID_MAX ? DEVICE_ID_MAX : name.n), (const char *)name.p);
    return a;
}
