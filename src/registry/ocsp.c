/* ocsp: see ocsp.h.  Its rules are those of crl.c's phases. */
#include "registry/ocsp.h"

#include "pki/der_read.h"
#include "pki/ocsp_make.h"
#include "registry/recovery.h"
#include "registry/row.h"

/* --- the rules ----------------------------------------------------------------------------------------------------------------------------- */

static void set_revoked(struct ocsp_single *out, int64_t when, int64_t reason) {
    out->status = OCSP_REVOKED;
    out->revoked = when > 0 ? when : 0;
    out->reason = reason >= 0 && reason <= 10 && reason != 7 && reason != 8 ? (uint8_t)reason : 0; /* damaged: that it was revoked counts */
}

void ocsp_decide(const struct ocsp_facts *f, struct ocsp_single *out) {
    out->status = OCSP_UNKNOWN;
    out->revoked = 0;
    out->reason = 0;
    if (!f->issued)
        return;
    if (f->revoked) {
        set_revoked(out, f->revoked == 1 ? f->created : f->revoked, f->reason); /* 1: nobody wrote down when */
        return;
    }
    if (!f->device)
        return;
    switch (f->device_state) {
    case DEVICE_ACTIVE:
        out->status = OCSP_GOOD;
        return;
    case DEVICE_PENDING:
    case DEVICE_QUARANTINED:
        set_revoked(out, 0, CRL_REASON_HOLD);
        return;
    case DEVICE_REVOKED:
    case DEVICE_DELETED:
        set_revoked(out, f->device_revoked == 1 ? f->created : f->device_revoked, f->reason);
        return;
    }
}

/* --- which CA ------------------------------------------------------------------------------------------------------------------------------ */

struct found_ca {
    bool root;      /* a fleet root; else an issuing CA */
    int64_t row;    /* of its table */
};

static bool names(const struct ocsp_id *id, const struct ocsp_issuer *ca) {
    const size_t n = ocsp_hash_length(id->hash);
    return n && span_eq(id->name, span_of(ca->name[id->hash], n)) && span_eq(id->key, span_of(ca->key[id->hash], n));
}

/* An answer has one signer, who speaks for one CA. */
static bool names_in_all(const struct ocsp_request *rq, const struct ocsp_issuer *ca) {
    for (size_t i = 0; i < rq->n; i++)
        if (!names(&rq->at[i], ca))
            return false;
    return true;
}

static int look_for_ca(struct store_tx *tx, const struct account *a, int statement, struct ocsp_look *l, bool *found, int64_t *at, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, statement, "i", a->row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct ocsp_issuer ca;
        rc = 0;
        if (store_int(row, 2) <= clock_now() || ocsp_issuer_of(store_blob(row, 1), &ca, NULL) || !names_in_all(&l->request, &ca)) /* one that is damaged takes the others' answers from nobody */
            continue;
        memcpy(l->key_id, ca.key[OCSP_SHA256], sizeof l->key_id); /* as make.c makes a CA's: RFC 7093, method 1 */
        *at = store_int(row, 0);
        *found = true;
        return 0;
    }
    return rc;
}

static int find_ca(struct store_tx *tx, const struct account *a, struct ocsp_look *l, struct found_ca *out, struct err *err) {
    bool found = false;
    out->root = false;
    int rc = look_for_ca(tx, a, SQL_CRL_ISSUING, l, &found, &out->row, err);
    if (!rc && !found) {
        out->root = true;
        rc = look_for_ca(tx, a, SQL_CRL_ROOTS, l, &found, &out->row, err);
    }
    return rc || found ? rc : err_set(err, MUSTER_ENOTFOUND, "The account %s has no CA of which all these certificates are.", a->name);
}

/* --- its certificates ---------------------------------------------------------------------------------------------------------------------- */

static int look_at_device(struct store_tx *tx, const struct account *a, const struct found_ca *ca, struct span serial, struct ocsp_single *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = first_row(tx, &row, err, SQL_OCSP_CERT, "b", serial);
    struct ocsp_facts f = {.issued = false};
    if (found < 0)
        return found;
    if (found)
        f = (struct ocsp_facts){.issued = store_int(row, 0) == ca->row && store_int(row, 1) == a->row, .revoked = store_int(row, 2), .reason = store_int(row, 3), .created = store_int(row, 4),
                                .device = !store_is_null(row, 5), .device_state = store_int(row, 5), .device_revoked = store_int(row, 6)};
    ocsp_decide(&f, out);
    return 0;
}

static void judge_issuing_ca(int64_t root_state, struct ocsp_single *out) {
    if (root_state == ROOT_ACTIVE || root_state == ROOT_KNOWN_ONLY)
        out->status = OCSP_GOOD;
    else if (root_state == ROOT_DISABLED)
        set_revoked(out, 0, CRL_REASON_HOLD);
    else if (root_state == ROOT_RETIRED || root_state == ROOT_REVOKED)
        set_revoked(out, 0, 0);
}

/* An issuing CA is known by the root's key in it: who has the same serial number under another root is another one. */
static int look_at_cas(struct store_tx *tx, const struct account *a, const struct found_ca *root, struct ocsp_look *l, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t state;
    int rc = one_int(tx, &state, 0, err, SQL_ROOT_STATE_OF, "i", root->row);
    if (rc || (rc = store_query(tx, &row, err, SQL_CRL_ISSUING, "i", a->row)))
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct der_certificate ca;
        uint8_t above[CRL_KEY_ID_LEN];
        const struct span der = store_blob(row, 1);
        if (!der_certificate_read(der, &ca) || !crl_issuer_key_id(der, above) || memcmp(above, l->key_id, sizeof above) != 0)
            continue;
        for (size_t i = 0; i < l->request.n; i++)
            if (span_eq(ca.serial, l->request.at[i].serial))
                judge_issuing_ca(state, &l->at[i]);
    }
    return rc;
}

static int check_server(struct store_tx *tx, struct err *err) {
    struct recovery recovery;
    int rc = clock_check(tx, clock_now(), err);
    if (rc || (rc = recovery_get(tx, &recovery, err)))
        return rc;
    return recovery.since ? err_set(err, MUSTER_ERECOVERY, NULL) : 0;
}

int ocsp_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct ocsp_look *l = arg;
    struct account a;
    struct found_ca ca;
    int rc = check_server(tx, err);
    if (rc || (rc = account_need(tx, span_str(l->account), &a, err)) || (rc = find_ca(tx, &a, l, &ca, err)))
        return rc;
    for (size_t i = 0; i < l->request.n; i++) {
        const struct ocsp_id *id = &l->request.at[i];
        l->at[i] = (struct ocsp_single){.hash = id->hash, .null = id->null, .serial_n = (uint8_t)id->serial.n, .status = OCSP_UNKNOWN};
        memcpy(l->at[i].serial, id->serial.p, id->serial.n);
    }
    if (ca.root)
        return look_at_cas(tx, &a, &ca, l, err);
    for (size_t i = 0; !rc && i < l->request.n; i++)
        rc = look_at_device(tx, &a, &ca, l->request.at[i].serial, &l->at[i], err);
    return rc;
}

void ocsp_said(const struct ocsp_look *l, struct hash *out, bool *all) {
    uint8_t bytes[CRL_KEY_ID_LEN + OCSP_SINGLES_MAX * 10], *at = bytes + sizeof l->key_id;
    memcpy(bytes, l->key_id, sizeof l->key_id);
    *all = true;
    for (size_t i = 0; i < l->request.n; i++) {
        *at++ = (uint8_t)l->at[i].status;
        *at++ = l->at[i].reason;
        for (int shift = 56; shift >= 0; shift -= 8)
            *at++ = (uint8_t)((uint64_t)l->at[i].revoked >> shift);
        *all = *all && l->at[i].status != OCSP_UNKNOWN;
    }
    hash_of(span_of(bytes, (size_t)(at - bytes)), out);
}
