/* identity: the peer of one connection; see verifier.h. */
#include <openssl/err.h>

#include "metrics/metrics.h"
#include "registry/trust.h"
#include "verifier/internal.h"

void identity_ref(struct identity *id) { id->refs++; }

void identity_unref(struct identity *id) {
    if (!id || --id->refs)
        return;
    cert_free(id->leaf);
    for (size_t i = 0; i < id->n_presented; i++)
        cert_free(id->presented[i]);
    for (size_t i = 0; i < id->n_more; i++)
        X509_free(id->more[i]);
    free(id);
}

/* What the client sent, as it is; a fault is the chain's verdict and stays so. */
static int take_chain(struct identity *id, X509 *leaf, STACK_OF(X509) *chain) {
    int n = chain ? sk_X509_num(chain) : 0, bytes = i2d_X509(leaf, NULL);
    if (n + 1 > CHAIN_MAX_CERTS)
        return err_set(&id->chain, MUSTER_ECHAINLONG, "The device sent %d certificates; at most %d are accepted.", n + 1, CHAIN_MAX_CERTS);
    for (int i = 0; i < n; i++)
        bytes += i2d_X509(sk_X509_value(chain, i), NULL);
    ERR_clear_error();
    if (bytes > CHAIN_MAX_BYTES)
        return err_set(&id->chain, MUSTER_ECHAINLONG, "The device sent %d bytes of certificates; at most %d are accepted.", bytes, CHAIN_MAX_BYTES);
    for (int i = 0; i < n && X509_up_ref(sk_X509_value(chain, i)); i++)
        id->more[id->n_more++] = sk_X509_value(chain, i);
    return 0;
}

/* An unrelated certificate that cannot be read is no reason to refuse a good one. */
static void read_presented(struct identity *id) {
    for (size_t i = 0; !id->read && i < id->n_more; i++)
        if (cert_from_x509(id->more[i], &id->presented[id->n_presented], NULL) == 0)
            id->n_presented++;
    id->read = true;
}

static struct identity *identity_take(X509 *leaf, STACK_OF(X509) *chain, const char *sni_account, const char *address) {
    struct identity *id = calloc(1, sizeof *id);
    if (!id)
        return NULL;
    id->refs = 1;
    snprintf(id->address, sizeof id->address, "%s", address);
    snprintf(id->sni_account, sizeof id->sni_account, "%s", sni_account);
    if (!leaf)
        err_set(&id->chain, MUSTER_ECERTREQUIRED, NULL);
    else
        take_chain(id, leaf, chain); /* a fault is the verdict, and leaves no leaf to judge */
    return id;
}

static void read_leaf(struct identity *id, X509 *leaf) {
    if (leaf && !id->chain.code && cert_from_x509(leaf, &id->leaf, &id->chain))
        ERR_clear_error(); /* likewise */
}

struct identity *identity_of(X509 *leaf, STACK_OF(X509) *chain, const char *sni_account, const char *address) {
    struct identity *id = identity_take(leaf, chain, sni_account, address);
    if (id)
        read_leaf(id, leaf);
    return id;
}

/* --- known from an earlier connection --------------------------------------------------------------------------------------------- */

static bool name_presented(struct identity *id, X509 *leaf) {
    struct {
        struct hash certs[CHAIN_MAX_CERTS];
        char account[ACCOUNT_NAME_MAX + 1];
    } all;
    memset(&all, 0, sizeof all);
    if (cert_fingerprint(leaf, &all.certs[0]))
        return false;
    for (size_t i = 0; i < id->n_more; i++)
        if (cert_fingerprint(id->more[i], &all.certs[i + 1]))
            return false;
    memcpy(all.account, id->sni_account, strlen(id->sni_account));
    hash_of(span_of(&all, sizeof all), &id->known_by);
    return true;
}

static bool take_known(struct identity *id, X509 *leaf) {
    struct known_verdict v;
    uint64_t trust = trust_word();
    if (!known_get(verifier_known(id->verifier), &id->known_by, verifier_epoch(id->verifier), trust, clock_now(), &v) || cert_from_x509_known(leaf, &v.leaf, &id->leaf))
        return false;
    id->judged_epoch = v.epoch;
    id->chain_until = v.until;
    id->class = v.class;
    id->n_anchors = v.n_anchors;
    memcpy(id->anchors, v.anchors, sizeof id->anchors);
    id->provisioning_ca = v.provisioning_ca;
    id->above = v.above;
    if (!v.admitted)
        return true;
    id->admitted_epoch = v.epoch;
    id->admitted_trust = v.trust;
    id->admit.verdict.code = v.refused;
    id->admit.shadow = v.shadow;
    id->admit.account_row = v.account_row;
    id->admit.device_row = v.device_row;
    id->admit.device = v.device;
    id->admit.last_seen = v.last_seen;
    memcpy(id->admit.account_name, v.account_name, sizeof v.account_name);
    memcpy(id->admit.device_id, v.device_id, sizeof v.device_id);
    return true;
}

/* What ends by nothing but an operator's command, and has no words of its own. */
static bool is_lasting(const struct err *verdict) {
    static const int lasting[] = {0, MUSTER_EQUARANTINED, MUSTER_EREVOKED, MUSTER_EREFUSED, MUSTER_EDEVDELETED};
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
        if (verdict->code == lasting[i])
            return !verdict->text[0] && !verdict->retry_after;
    return false;
}

void identity_keep(const struct identity *id) {
    static const struct hash nothing;
    bool admitted = id->admitted_epoch == id->judged_epoch && id->class != ADMIT_KEY;
    if (!id->verifier || hash_eq(&id->known_by, &nothing) || id->chain.code || (id->class != ADMIT_KEY && (!admitted || !id->admit.device_row || !is_lasting(&id->admit.verdict))))
        return;
    struct known_verdict v = {.epoch = id->judged_epoch, .trust = admitted ? id->admitted_trust : trust_word(), .since = clock_now(), .until = id->chain_until, .leaf = *id->leaf, .class = id->class,
                              .n_anchors = id->n_anchors, .provisioning_ca = id->provisioning_ca, .above = id->above, .admitted = admitted, .refused = admitted ? id->admit.verdict.code : 0, .shadow = admitted ? id->admit.shadow : 0,
                              .account_row = id->admit.account_row, .device_row = id->admit.device_row,
                              .last_seen = id->admit.last_seen, .device = id->admit.device};
    v.leaf.x = NULL;
    memcpy(v.anchors, id->anchors, sizeof v.anchors);
    memcpy(v.account_name, id->admit.account_name, sizeof v.account_name);
    memcpy(v.device_id, id->admit.device_id, sizeof v.device_id);
    known_put(verifier_known(id->verifier), &id->known_by, &v);
}

void identity_seen(struct identity *id, int64_t at) {
    id->admit.last_seen = at;
    known_seen(verifier_known(id->verifier), &id->known_by, at);
}

struct identity *identity_new(struct verifier *v, X509 *leaf, STACK_OF(X509) *chain, const char *sni, const char *address) {
    char account[ACCOUNT_NAME_MAX + 1];
    verifier_account_of(v, span_str(sni), account);
    struct identity *id = identity_take(leaf, chain, account, address);
    if (!id)
        return NULL;
    id->verifier = v;
    bool known = leaf && !id->chain.code && name_presented(id, leaf) && take_known(id, leaf);
    metrics_count(METRIC_VERDICTS, known ? PEER_KNOWN : PEER_JUDGED, 0);
    if (known)
        return id;
    read_leaf(id, leaf);
    identity_judge(id);
    identity_keep(id); /* of a provisioning key; a device's waits for the registry's word */
    return id;
}

/* --- the chain -------------------------------------------------------------------------------------------------------------------- */

static void take_anchors(struct identity *id, const struct chain_found *found) {
    id->class = ADMIT_DEVICE_UPLOADED;
    id->n_anchors = found->n;
    id->used = found->used;
    id->used_known = true;
    id->chain_until = found->until;
    for (size_t i = 0; i < found->n; i++) {
        id->anchors[i] = found->at[i]->cert->fingerprint;
        if (snapshot_is_own(found->at[i]))
            id->class = ADMIT_DEVICE_OWN;
    }
}

/* Is it a provisioning key?  False: neither that. */
static bool judge_as_key(struct identity *id, const struct snapshot *s, int64_t now) {
    struct chain_found found;
    struct err err = ERR_INIT;
    int rc = chain_judge(snapshot_provisioning(s), id->leaf, id->presented, id->n_presented, now, &found, &err);
    if (rc == MUSTER_ECERTUNTRUSTED)
        return false;
    /* The vault makes none for a day to come: its clock ran ahead, and the key is in images by now.  When it ends the registry says. */
    if (rc == MUSTER_ECERTEARLY && id->leaf->not_before > now)
        rc = chain_judge(snapshot_provisioning(s), id->leaf, id->presented, id->n_presented, id->leaf->not_before, &found, &err);
    id->class = ADMIT_KEY;
    id->chain_until = found.until;
    id->chain = ERR_INIT;
    if (rc == MUSTER_ECERTEXPIRED)
        err_set(&id->chain, MUSTER_EKEYEXPIRED, "The certificate of the provisioning key has expired.");
    else if (rc)
        id->chain = err;
    else
        id->provisioning_ca = found.at[0]->cert->fingerprint;
    return true;
}

/* Of a customer's chain all but the certificate itself: what that means the root's rule says. */
static void above_ended(struct identity *id) {
    id->above = id->chain;
    id->chain = ERR_INIT;
    id->chain_until = id->leaf->not_after;
}

/* Whether it is good from when it begins, under a CA of Muster's own.  The vault makes none for a day to come: the clock ran ahead when it was made, or is behind now, and its device must not
 * wait for that.  Whether it is one that the vault has made the registry says. */
static bool made_ahead(const struct identity *id, const struct snapshot *s, int64_t now, struct chain_found *found) {
    return id->class == ADMIT_DEVICE_OWN && id->leaf->not_before > now &&
           chain_judge(snapshot_fleet(s), id->leaf, id->presented, id->n_presented, id->leaf->not_before, found, NULL) == 0;
}

void identity_judge_at(struct identity *id, const struct snapshot *s, int64_t now) {
    struct chain_found found;
    if (!id->leaf)
        return;
    read_presented(id);
    id->chain = ERR_INIT;
    id->above = ERR_INIT;
    id->ended = 0;
    int rc = chain_judge(snapshot_fleet(s), id->leaf, id->presented, id->n_presented, now, &found, &id->chain);
    if (rc == 0 || found.n)
        take_anchors(id, &found); /* where a rule fails: for the record of the refusal */
    if (rc == MUSTER_ECERTEXPIRED)
        id->ended = found.ended;
    if (rc == MUSTER_ECERTEARLY && made_ahead(id, s, now, &found)) {
        id->chain = ERR_INIT;
        take_anchors(id, &found);
    }
    if (id->ended)
        id->used_known = false; /* of no path that holds */
    if (id->ended && id->class == ADMIT_DEVICE_UPLOADED && id->leaf->not_after > now)
        above_ended(id);
    if (rc != MUSTER_ECERTUNTRUSTED || judge_as_key(id, s, now))
        return;
    /* Not known so far; the operator who uploaded the root may want to hear that its proof is missing. */
    if (chain_judge(snapshot_unproved(s), id->leaf, id->presented, id->n_presented, now, &found, NULL) == 0) {
        id->chain = ERR_INIT;
        take_anchors(id, &found);
    }
}

static void judge_anew(struct identity *id, const struct snapshot *s) {
    identity_judge_at(id, s, clock_now());
    id->judged_epoch = snapshot_epoch(s);
    id->admitted_epoch = 0;
}

void identity_judge(struct identity *id) {
    if (!id->leaf) /* nothing to judge, and nothing that could change */
        return;
    struct snapshot *s = verifier_snapshot(id->verifier);
    if (id->judged_epoch != snapshot_epoch(s) || clock_now() > id->chain_until)
        judge_anew(id, s);
    snapshot_unref(s);
}

bool identity_judge_unread(struct identity *id) {
    if (!id->leaf || id->read)
        return false;
    struct snapshot *s = verifier_snapshot(id->verifier);
    judge_anew(id, s);
    snapshot_unref(s);
    return true;
}

const struct admit *identity_admitted(const struct identity *id) {
    return id->admitted_epoch && id->admitted_epoch == verifier_epoch(id->verifier) && id->admitted_trust == trust_word() ? &id->admit : NULL;
}

void identity_admission(const struct identity *id, const struct enrol_reserved *reserved, struct admit *out) {
    *out = (struct admit){.class = id->class, .leaf = id->leaf, .n_anchors = id->n_anchors, .account = id->sni_account, .address = id->address, .reserved = reserved, .ended = id->ended,
                          .above = id->above.code ? &id->above : NULL, .over = id->ended && id->chain.code ? &id->chain : NULL};
    memcpy(out->anchors, id->anchors, sizeof id->anchors);
    out->between_known = id->used_known;
    for (size_t i = 0; i < id->n_presented; i++)
        if (id->used & 1U << i)
            out->between[out->n_between++] = id->presented[i];
}
