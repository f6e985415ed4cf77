/* revoke: what the fleet CA takes back, and the lists that say so; see ca.h.  A list's number is durable before the list leaves. */
#include "base/hex.h"
#include "ca/signer.h"
#include "pki/crl_sign.h"

static int revoke_locked(struct ca *ca, const char *serial, const char *reason, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_LINE_MAX);
    const json_t *record = json_object_get(ca->journal.serials, serial);
    if (!record)
        return err_set(err, MUSTER_ENOTFOUND, "The fleet CA has no certificate of the serial number %.64s.", serial);
    if (!journal_revocable(record))
        return err_set(err, MUSTER_ESTATE, "The certificate %s is of the kind %s, and no list revokes one.", serial, json_string_value(json_object_get(record, "kind")));
    if (journal_is(record, "revoked"))
        return err_set(err, MUSTER_ESTATE, "The certificate %s was revoked already (%s). A reason stays as it was given: lists and manifests that are out have it.", serial,
                       json_string_value(json_object_get(record, "reason")));
    if (!journal_is(record, "issued"))
        return err_set(err, MUSTER_ESTATE, "The certificate %s is %s.", serial, json_string_value(json_object_get(record, "state")));
    int rc = journal_line_revoke(serial, reason, clock_now(), &line);
    return rc ? err_set(err, rc, NULL) : ca_append(ca, buf_span(&line), err);
}

int ca_revoke(struct ca *ca, const char *serial, const char *reason, struct err *err) {
    int rc = ca_begin(ca, err);
    if (rc)
        return rc;
    rc = revoke_locked(ca, serial, reason, err);
    ca_end(ca);
    return rc;
}

/* Whether it stands on the root's list, or on that of the intermediate. */
static bool is_of(const struct ca *ca, const json_t *record, bool root) {
    bool device = strcmp(json_string_value(json_object_get(record, "kind")), "device") == 0;
    return journal_is(record, "revoked") && root == !(device && ca->intermediate);
}

static int collect(const struct ca *ca, bool root, struct crl_entry **out, size_t *n, struct err *err) {
    CLEANUP(free) char *memory = calloc(json_object_size(ca->journal.serials) + 1, sizeof(struct crl_entry));
    struct crl_entry *all = (struct crl_entry *)(void *)memory;
    const char *serial;
    json_t *record;
    *n = 0;
    if (!all)
        return err_set(err, MUSTER_ENOMEM, NULL);
    json_object_foreach(ca->journal.serials, serial, record) {
        struct crl_entry *e = &all[*n];
        if (!is_of(ca, record, root))
            continue;
        if (hex_decode(span_str(serial), e->serial, sizeof e->serial) || clock_parse_rfc3339(span_str(json_string_value(json_object_get(record, "revoked"))), &e->revoked))
            return err_set(err, MUSTER_ECORRUPT, NULL);
        e->reason = (uint8_t)journal_reason(json_string_value(json_object_get(record, "reason")));
        ++*n;
    }
    memory = NULL;
    *out = all;
    return 0;
}

/* To every verifier it would be over, and he would refuse everybody. */
static int say_early(const struct cert *issuer, int64_t now, struct err *err) {
    char here[CLOCK_RFC3339_LEN + 1], begin[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(now, here);
    clock_rfc3339(issuer->not_before, begin);
    return err_set(err, MUSTER_ECERTEARLY, "By this machine's clock it is %s, before the CA itself begins (%s): no list was made, since by its dates every verifier would take it for one that is over. Set the clock.", here, begin);
}

static int list_locked(struct ca *ca, struct ca_crl *crl, struct buf *pem, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_LINE_MAX);
    const struct cert *issuer = crl->root ? ca->root : ca->intermediate;
    struct crl_entry *entries = NULL;
    int64_t now = clock_now();
    if (issuer->not_after <= now)
        return err_set(err, MUSTER_ECAEXPIRED, NULL);
    if (now < issuer->not_before)
        return say_early(issuer, now, err);
    int rc = collect(ca, crl->root, &entries, &crl->entries, err);
    if (rc)
        return rc;
    crl->number = ca->journal.crl[!crl->root] + 1;
    crl->next_update = now + crl->life < issuer->not_after ? now + crl->life : issuer->not_after;
    const struct crl_sign rq = {.ca = issuer, .key = ca->key, .number = crl->number, .this_update = now - CRL_BACKDATE, .next_update = crl->next_update, .entries = entries, .n = crl->entries};
    rc = signer_fault(ca, crl_sign(&rq, true, pem, err), err);
    free(entries);
    if (!rc && (rc = journal_line_crl(crl->root, crl->number, crl->entries, now, &line)))
        err_set(err, rc, NULL);
    return rc ? rc : ca_append(ca, buf_span(&line), err);
}

int ca_make_crl(struct ca *ca, struct ca_crl *crl, struct buf *pem, struct err *err) {
    if (!ca->key || ca->key_is_root != crl->root)
        return err_set(err, MUSTER_EINTERNAL, NULL);
    int rc = ca_begin(ca, err);
    if (rc)
        return rc;
    rc = list_locked(ca, crl, pem, err);
    ca_end(ca);
    return rc;
}
