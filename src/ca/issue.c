/* issue: what the fleet CA signs; see ca.h.  The order is the point: reserve the serial durably, sign, judge what was signed as a gateway
 * would, make it durable, say so in the journal, and only then hand it out. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/unseen.h"
#include "ca/issue_part.h"
#include "ca/line.h"
#include "ca/name.h"
#include "ca/signer.h"

#define CHALLENGE_PREFIX "muster-challenge-"
#define CHALLENGE_DIGITS 32
#define PROOF_LIFE (7 * CLOCK_DAY)

int64_t ca_made(const struct ca *ca) {
    int64_t made = 0;
    if (!ca->kit.doc)
        return 0;
    const char *id;
    json_t *records;
    json_object_foreach(ca->journal.devices, id, records)
        for (size_t i = 0; i < json_array_size(records); i++)
            if (journal_is(json_array_get(records, i), "issued") || journal_is(json_array_get(records, i), "revoked")) {
                made++;
                break;
            }
    return made;
}

int ca_kit_allows(const struct ca *ca, struct span device_id, int64_t made, struct err *err) {
    char id[4 * CA_DEVICE_ID_CHARS + 1];
    if (!ca->kit.doc)
        return 0;
    snprintf(id, sizeof id, "%.*s", SPAN_FMT(device_id));
    return kit_check(&ca->kit, device_id, journal_issued(&ca->journal, id) ? 0 : made, clock_now(), err); /* another certificate of the same device is no other device */
}

int ca_may_issue(const struct ca *ca, struct span device_id, bool again, struct err *err) {
    int rc = ca_check_device_id(device_id, err);
    if (rc || again)
        return rc;
    char id[4 * CA_DEVICE_ID_CHARS + 1];
    snprintf(id, sizeof id, "%.*s", SPAN_FMT(device_id));
    const json_t *record = journal_issued(&ca->journal, id);
    return record ? err_set(err, MUSTER_EIDISSUED, "The device ID %s has the certificate %s, of %s.", id, json_string_value(json_object_get(record, "serial")),
                            json_string_value(json_object_get(record, "issued")))
                  : unseen_refuse(device_id, "The device ID", MUSTER_EDEVICEID, err);
}

int issue_check_key(const struct ca *ca, struct span device_id, const struct hash *key, struct err *err) {
    char hex[2 * PKI_HASH_LEN + 1];
    hex_encode(hash_span(key), hex);
    const json_t *record = json_object_get(ca->journal.keys, hex);
    const char *owner = json_string_value(json_object_get(record, "device_id"));
    if (record && !span_eq_str(device_id, owner))
        return err_set(err, MUSTER_EKEYISSUED, "The key is the one of the device %s.", owner);
    if (hash_eq(key, &ca->root->key.spki) || (ca->intermediate && hash_eq(key, &ca->intermediate->key.spki)))
        return err_set(err, MUSTER_EKEYISSUED, "The key is the fleet CA's own.");
    const json_t *of_device = record ? json_object_get(ca->journal.devices, owner) : NULL;
    for (size_t i = 0; i < json_array_size(of_device); i++) {
        const json_t *one = json_array_get(of_device, i);
        const char *reason = json_string_value(json_object_get(one, "reason"));
        if (reason && strcmp(reason, "key-compromise") == 0 && strcmp(json_string_value(json_object_get(one, "key")), hex) == 0)
            return err_set(err, MUSTER_EKEYISSUED, "The key was revoked as compromised, with the certificate %s.", json_string_value(json_object_get(one, "serial")));
    }
    return 0;
}

struct signing {
    const char *kind;
    struct hash key;
    struct make_request rq;
};

/* Reserve, sign, keep.  The lock is held. */
static int sign(struct ca *ca, struct signing *s, struct cert **out, struct ca_issued *issued, struct err *err) {
    const struct cert *issuer = ca->key_is_root ? ca->root : ca->intermediate;
    struct journal_reserve reserve = {.kind = s->kind, .device_id = s->rq.device_id, .key = s->key};
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_LINE_MAX);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CA_CHAIN_MAX);
    CLEANUP(cert_free) struct cert *cert = NULL;
    journal_new_serial(&ca->journal, s->rq.serial, reserve.serial);
    int rc = journal_line_reserve(&reserve, clock_now(), &line);
    if (rc || (rc = ca_append(ca, buf_span(&line), err)) || (rc = signer_fault(ca, make_cert(&s->rq, issuer, ca->key, &der, err), err)) || (rc = cert_from_der(buf_span(&der), &cert, err)))
        return rc;
    memcpy(issued->serial, reserve.serial, sizeof issued->serial);
    issued->not_after = cert->not_after;
    if (cert_pem(cert, &issued->chain))
        return err_set(err, MUSTER_ENOMEM, NULL);
    *out = TAKE(cert);
    return 0;
}

static int keep(struct ca *ca, const struct cert *cert, const struct ca_issued *issued, struct err *err) {
    char name[sizeof "issued/.pem" + JOURNAL_SERIAL_LEN];
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_LINE_MAX);
    snprintf(name, sizeof name, "issued/%s.pem", issued->serial);
    int rc = file_create(ca->fd, name, buf_span(&issued->chain), 0644, err);
    if (rc)
        return rc;
    rc = journal_line_issue(issued->serial, &cert->fingerprint, cert->not_after, clock_now(), &line);
    return rc ? err_set(err, rc, NULL) : ca_append(ca, buf_span(&line), err);
}

int issue_anchors(const struct ca *ca, struct anchor_set **out, struct err *err) {
    CLEANUP(anchor_set_unref) struct anchor_set *anchors = anchor_set_new();
    struct cert *root = NULL;
    int rc = anchors ? cert_from_x509(ca->root->x, &root, err) : err_set(err, MUSTER_ENOMEM, NULL);
    if (!rc && (rc = anchor_set_add(anchors, root, NULL, 0, NULL)))
        err_set(err, rc, NULL);
    if (!rc)
        *out = TAKE(anchors);
    return rc;
}

int issue_judge(const struct ca *ca, const struct anchor_set *anchors, const struct cert *leaf, struct span device_id, struct err *err) {
    struct cert *presented[1] = {ca->intermediate};
    struct chain_found found;
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    int rc = chain_judge(anchors, leaf, presented, ca->intermediate ? 1 : 0, clock_now(), &found, err);
    if (!rc)
        rc = cert_device_id(leaf, ID_RULE_CN, &id, err);
    if (rc) {
        err_prefix(err, "The certificate was not handed out, because no gateway would accept it");
        return rc;
    }
    return span_eq(buf_span(&id), device_id) ? 0 : err_set(err, MUSTER_EINTERNAL, NULL);
}

int issue_set_life(const struct ca *ca, const struct cert *issuer, int64_t life, struct make_request *rq, bool *clamped, struct err *err) {
    int64_t now = clock_now(), end = now + life;
    *clamped = false;
    for (int i = 0; i < 2; i++) {
        const struct cert *above = i ? ca->root : issuer;
        if (above->not_after <= now)
            return err_set(err, MUSTER_ECAEXPIRED, NULL);
        if (end > above->not_after) {
            end = above->not_after;
            *clamped = true;
        }
    }
    rq->not_before = now - CLOCK_DAY;
    rq->not_after = end;
    return 0;
}

static int issue_locked(struct ca *ca, const struct ca_order *o, struct signing *s, struct ca_issued *out, struct err *err) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(anchor_set_unref) struct anchor_set *anchors = NULL;
    int rc = ca_may_issue(ca, o->device_id, o->again, err);
    if (rc || (rc = ca_kit_allows(ca, o->device_id, ca_made(ca), err)) || (rc = issue_check_key(ca, o->device_id, &s->key, err)) || (rc = issue_set_life(ca, ca_issuer(ca), o->life ? o->life : ca->device_life, &s->rq, &out->clamped, err)) ||
        (rc = issue_anchors(ca, &anchors, err)) || (rc = sign(ca, s, &cert, out, err)) || (rc = issue_judge(ca, anchors, cert, o->device_id, err)) || (rc = keep(ca, cert, out, err)))
        return rc;
    return ca->intermediate && cert_pem(ca->intermediate, &out->chain) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

/* What was signed and is not on the disk was issued to nobody: the next ca_begin() abandons its serial.  What is there is taken for issued. */
static void forget_unkept(const struct ca *ca, struct ca_issued *out) {
    char name[sizeof "issued/.pem" + JOURNAL_SERIAL_LEN];
    snprintf(name, sizeof name, "issued/%s.pem", out->serial);
    if (faccessat(ca->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
        out->serial[0] = '\0';
}

int ca_issue(struct ca *ca, const struct ca_order *o, struct ca_issued *out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct key_facts facts;
    struct signing s = {.kind = "device", .rq = {.profile = PROFILE_DEVICE, .subject = ca_subject(ca->config), .device_id = o->device_id, .public_key = o->public_key}};
    if (!ca->key || ca->key_is_root != !ca->intermediate)
        return err_set(err, MUSTER_EINTERNAL, NULL);
    int rc = key_from_public_der(o->public_key, &key, err);
    if (rc || (rc = key_facts(key, &facts, err)) || (rc = key_acceptable(&facts, err)) || (rc = ca_begin(ca, err)))
        return rc;
    s.key = facts.spki;
    rc = issue_locked(ca, o, &s, out, err);
    if (rc)
        forget_unkept(ca, out);
    ca_end(ca);
    return rc;
}

/* --- a factory line ------------------------------------------------------------------------------------------------------------ */

static int sign_line_locked(struct ca *ca, struct signing *s, int64_t life, struct ca_issued *out, struct err *err) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    int rc = issue_check_key(ca, SPAN_NONE, &s->key, err);
    if (rc || (rc = issue_set_life(ca, ca->root, life, &s->rq, &out->clamped, err)) || (rc = sign(ca, s, &cert, out, err)))
        return rc;
    return keep(ca, cert, out, err);
}

int ca_sign_line(struct ca *ca, const struct line_sign *rq, struct ca_issued *out, struct err *err) {
    struct key_facts facts;
    char name[sizeof "Factory line " + KIT_NAME_MAX];
    if (!ca->key || !ca->key_is_root)
        return err_set(err, MUSTER_EINTERNAL, NULL);
    if (!kit_is_label(rq->account, 32) || !kit_is_label(rq->line, KIT_NAME_MAX))
        return err_set(err, MUSTER_EINVALID, "An account and its factory line are named by lower-case DNS labels.");
    int rc = key_facts_from_public_der(rq->public_key, &facts, err);
    if (rc)
        return rc;
    if (facts.kind != KEY_P256 && facts.kind != KEY_P384)
        return err_set(err, MUSTER_ECERTWEAKKEY, "A factory line's key is P-256 or P-384.");
    snprintf(name, sizeof name, "Factory line %.*s", SPAN_FMT(rq->line));
    struct signing s = {.kind = "line",
                        .key = facts.spki,
                        .rq = {.profile = PROFILE_LINE_CA,
                               .subject = {.common_name = strlen(name) > CA_DEVICE_ID_CHARS ? rq->line : span_str(name), .organisation = rq->account, .organisational_unit = rq->line},
                               .public_key = rq->public_key}};
    if ((rc = ca_begin(ca, err)))
        return rc;
    rc = sign_line_locked(ca, &s, rq->life, out, err);
    ca_end(ca);
    return rc;
}

/* --- the proof -------------------------------------------------------------------------------------------------------------- */

/* What a server makes, and nothing else: a "challenge" that is a device ID must not become that device's certificate. */
static int check_challenge(struct span challenge, struct err *err) {
    size_t prefix = sizeof CHALLENGE_PREFIX - 1;
    bool good = challenge.n == prefix + CHALLENGE_DIGITS && span_starts(challenge, SPAN_LIT(CHALLENGE_PREFIX));
    for (size_t i = prefix; good && i < challenge.n; i++)
        good = hex_digit(challenge.p[i]) >= 0;
    return good ? 0 : err_set(err, MUSTER_EINVALID, "A challenge is " CHALLENGE_PREFIX " and %d hexadecimal digits, as `muster root upload` and `muster root show` print it.", CHALLENGE_DIGITS);
}

static int prove_locked(struct ca *ca, struct signing *s, struct ca_issued *out, struct err *err) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    const struct cert *issuer = ca->key_is_root ? ca->root : ca->intermediate;
    int rc = issue_set_life(ca, issuer, PROOF_LIFE, &s->rq, &out->clamped, err);
    if (rc || (rc = sign(ca, s, &cert, out, err)) || (rc = keep(ca, cert, out, err)))
        return rc;
    return !ca->key_is_root && cert_pem(ca->intermediate, &out->chain) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

int ca_prove(struct ca *ca, struct span challenge, struct ca_issued *out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *thrown_away = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    struct key_facts facts;
    if (!ca->key)
        return err_set(err, MUSTER_EINTERNAL, NULL);
    int rc = check_challenge(challenge, err);
    if (rc || (rc = key_generate(KEY_P256, 0, &thrown_away, err)) || (rc = key_public_der(thrown_away, &spki, err)) || (rc = key_facts(thrown_away, &facts, err)))
        return rc;
    struct signing s = {.kind = "proof", .key = facts.spki, .rq = {.profile = PROFILE_CHALLENGE, .subject = {.common_name = challenge}, .public_key = buf_span(&spki)}};
    if ((rc = ca_begin(ca, err)))
        return rc;
    rc = prove_locked(ca, &s, out, err);
    ca_end(ca);
    return rc;
}
