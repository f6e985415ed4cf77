/* vault/policy: see policy.h. */
#include "vault/policy.h"

#include <arpa/inet.h>

#include "base/clock.h"
#include "vault/authority.h"

#define CN_CHARACTERS 64
#define DNS_NAME_MAX 253
#define DNS_LABEL_MAX 63
#define DEFAULT_DEVICE_LIFE (20 * CLOCK_YEAR)
#define DEFAULT_CEILING 20000
#define CEILING_MAX 10000000
#define SET_ALL (VAULT_SET_LIFE | VAULT_SET_LIFE_MAX | VAULT_SET_RSA | VAULT_SET_CEILING | VAULT_SET_PROFILE)
/* A new issuing CA has to last this much longer than the old one: without it an account whose leaves live as long as its issuing
 * CAs would get a new CA each time that somebody asks. */
#define RENEW_GAIN (30 * CLOCK_DAY)

static bool is_label(struct span s, size_t max) {
    if (s.n == 0 || s.n > max || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '-'))
            return false;
    return true;
}

int policy_account_name(struct span name, struct err *err) {
    if (!is_label(name, VAULT_ACCOUNT_MAX))
        return err_set(err, MUSTER_EINVALID, "An account's name is a lower-case DNS label of at most %d characters.", VAULT_ACCOUNT_MAX);
    return 0;
}

int policy_kind(enum vault_kind kind, struct err *err) {
    return kind == VAULT_TEST || kind == VAULT_PRODUCTION ? 0 : err_set(err, MUSTER_EINVALID, "There is no such kind of account.");
}

int policy_method(enum vault_method method, struct err *err) {
    return method == VAULT_SHARED || method == VAULT_DEVICE || method == VAULT_BOTH ? 0 : err_set(err, MUSTER_EINVALID, "There is no such method.");
}

int policy_device_id(struct span id, struct err *err) {
    if (id.n < 1 || id.n > VAULT_DEVICE_ID_MAX || !span_is_utf8(id) || span_has_control(id))
        return err_set(err, MUSTER_EDEVICEID, NULL);
    if (span_starts(id, SPAN_LIT(VAULT_CHALLENGE_PREFIX)))
        return err_set(err, MUSTER_EIDTAKEN, "Device IDs that begin with %s are reserved.", VAULT_CHALLENGE_PREFIX);
    return 0;
}

bool policy_too_long_for_cn(struct span text) {
    size_t characters = 0;
    for (size_t i = 0; i < text.n; i++)
        characters += (text.p[i] & 0xc0) != 0x80;
    return characters > CN_CHARACTERS;
}

static bool is_ip(const char *name) {
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

int policy_server_name(struct span name, struct err *err) {
    char text[DNS_NAME_MAX + 1];
    if (name.n < 1 || name.n > DNS_NAME_MAX || memchr(name.p, 0, name.n))
        return err_set(err, MUSTER_EINVALID, "A server's name has 1 to %d bytes.", DNS_NAME_MAX);
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    if (is_ip(text))
        return 0;
    struct span rest = name;
    for (;;) {
        long dot = span_index(rest, '.');
        if (!is_label(dot < 0 ? rest : span_sub(rest, 0, (size_t)dot), DNS_LABEL_MAX))
            return err_set(err, MUSTER_EINVALID, "A server's name is a DNS name in lower case without wildcard, or an IP address.");
        if (dot < 0)
            return 0;
        rest = span_sub(rest, (size_t)dot + 1, rest.n);
    }
}

void policy_default(struct vault_policy *out) {
    *out = (struct vault_policy){
        .set = SET_ALL,
        .device_life = DEFAULT_DEVICE_LIFE,
        .device_life_max = DEFAULT_DEVICE_LIFE,
        .ceiling = DEFAULT_CEILING,
    };
}

int policy_apply(struct vault_policy *p, const struct vault_policy *given, struct err *err) {
    struct vault_policy new = *p;
    new.set = SET_ALL;
    if (given->set & ~(uint32_t)(SET_ALL | VAULT_SET_METHOD | VAULT_SET_KIND))
        return err_set(err, MUSTER_EINVALID, "The policy sets something that there is not.");
    if (given->set & VAULT_SET_LIFE)
        new.device_life = given->device_life;
    if (given->set & VAULT_SET_LIFE_MAX)
        new.device_life_max = given->device_life_max;
    if (given->set & VAULT_SET_RSA)
        new.rsa_allowed = given->rsa_allowed;
    if (given->set & VAULT_SET_CEILING)
        new.ceiling = given->ceiling;
    if (given->set & VAULT_SET_PROFILE)
        new.profile = given->profile;
    /* A maximum alone pulls the default down with it, so that it can be lowered in one step. */
    if ((given->set & VAULT_SET_LIFE_MAX) && !(given->set & VAULT_SET_LIFE) && new.device_life > new.device_life_max)
        new.device_life = new.device_life_max;
    if (new.device_life_max < CLOCK_MINUTE || new.device_life < CLOCK_MINUTE)
        return err_set(err, MUSTER_EINVALID, "A device certificate lives a minute at least.");
    if (new.device_life > new.device_life_max)
        return err_set(err, MUSTER_EINVALID, "The life of a device certificate is over the longest that the account allows.");
    if (new.ceiling < 1 || new.ceiling > CEILING_MAX)
        return err_set(err, MUSTER_EINVALID, "The ceiling is 1 to %d certificates an hour.", CEILING_MAX);
    int rc = device_profile_check(&new.profile, err);
    if (rc)
        return rc;
    if (new.profile.life || new.profile.life_max || new.profile.est_life)
        return err_set(err, MUSTER_EINVALID, "The profile has lives of its own.");
    *p = new;
    return 0;
}

bool policy_eq(const struct vault_policy *a, const struct vault_policy *b) {
    return a->device_life == b->device_life && a->device_life_max == b->device_life_max && a->rsa_allowed == b->rsa_allowed && a->ceiling == b->ceiling &&
           device_profile_eq(&a->profile, &b->profile);
}

int policy_device_profile(const struct vault_policy *p, struct span narrow, struct device_profile *out, struct err *err) {
    struct device_profile key;
    int rc = narrow.n ? device_profile_read(narrow, &key, err) : 0;
    if (rc)
        return rc;
    device_profile_effective(&p->profile, p->device_life, p->device_life_max, p->rsa_allowed, narrow.n ? &key : NULL, out);
    return 0;
}

int policy_provisioning_key(const struct key_facts *k, bool rsa_allowed, struct err *err) {
    if (k->kind == KEY_P256 || (rsa_allowed && k->kind == KEY_RSA && k->bits == 2048))
        return 0;
    return err_set(err, MUSTER_ECERTWEAKKEY, "The account takes P-256 keys%s; this one is %s of %d bits.", rsa_allowed ? " and RSA keys of 2048 bits" : " only",
                   key_kind_name(k->kind), k->bits);
}

int policy_line(struct span line, const struct key_facts *k, struct err *err) {
    if (!is_label(line, VAULT_LINE_MAX))
        return err_set(err, MUSTER_EINVALID, "A factory line's name is a lower-case DNS label of at most %d characters.", VAULT_LINE_MAX);
    if (k->kind == KEY_P256 || k->kind == KEY_P384)
        return 0;
    return err_set(err, MUSTER_ECERTWEAKKEY, "A factory line's key is P-256 or P-384; this one is %s of %d bits.", key_kind_name(k->kind), k->bits);
}

int policy_server_key(const struct key_facts *k, struct err *err) {
    if (k->kind == KEY_P256 || k->kind == KEY_P384 || (k->kind == KEY_RSA && k->bits >= 2048 && k->bits <= 4096))
        return 0;
    return err_set(err, MUSTER_ECERTWEAKKEY, "A server's key is P-256, P-384 or RSA of 2048 to 4096 bits; this one is %s of %d bits.",
                   key_kind_name(k->kind), k->bits);
}

int policy_device_life(const struct device_profile *p, int64_t wanted, int64_t *life, struct err *err) {
    if (wanted < 0)
        return err_set(err, MUSTER_EINVALID, "The life of a certificate cannot be negative.");
    *life = device_profile_life(p, wanted, false);
    return 0;
}

int64_t policy_ca_life(const struct vault_policy *p, int64_t life) { return p->device_life_max == VAULT_LIFE_NONE ? VAULT_LIFE_NONE : life; }

bool policy_issuing_due(const struct vault_policy *p, int64_t now, int64_t issuing_end, int64_t root_end, int64_t issuing_life, int64_t *new_end) {
    int64_t end = life_end(now, policy_ca_life(p, issuing_life));
    *new_end = end < root_end ? end : root_end;
    return issuing_end < life_end(now, p->device_life_max) && *new_end >= issuing_end + RENEW_GAIN;
}
