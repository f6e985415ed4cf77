/* explain: see explain.h. */
#include "verifier/explain.h"

DEFINE_CLEANUP(sk_X509_free, STACK_OF(X509) *)

static const struct {
    int code;
    const char *rule;
} rules[] = {
#define R(code, rule) {MUSTER_E##code, rule},
#include "verifier/rules.def"
#undef R
};

const char *rule_of(int code) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].code == code)
            return rules[i].rule;
    return NULL;
}

/* --- what is said -------------------------------------------------------------------------------------------------------------- */

static json_t *chain_json(const struct explain *e) {
    json_t *list = json_array();
    for (size_t i = 0; i < e->n_chain; i++) {
        const struct cert *c = e->chain[i];
        CLEANUP(buf_fini) struct buf text = BUF_INIT(8192);
        json_t *o = json_object();
        cert_subject_text(c, &text);
        json_set_span(o, "subject", buf_span(&text));
        buf_clear(&text);
        cert_issuer_text(c, &text);
        json_set_span(o, "issuer", buf_span(&text));
        buf_clear(&text);
        cert_serial_hex(c, &text);
        json_set_span(o, "serial", buf_span(&text));
        json_set_hex(o, "fingerprint", hash_span(&c->fingerprint));
        json_set_hex(o, "spki", hash_span(&c->key.spki));
        json_set_time(o, "not_before", c->not_before);
        json_set_time(o, "not_after", c->not_after);
        json_array_append_new(list, o);
    }
    return list;
}

/* The account's fleet root under which the chain holds, or would. */
static int anchor_json(struct store_tx *tx, const struct explain *e, json_t *o, struct err *err) {
    struct account a;
    int found = account_find(tx, span_str(e->account), &a, err);
    json_set(o, "root", json_null());
    for (size_t i = 0; found > 0 && i < e->id->n_anchors; i++) {
        struct store_row *row;
        struct root r;
        int there = first_row(tx, &row, err, SQL_ROOT_BY_PRINT, "bi", hash_span(&e->id->anchors[i]), a.row);
        if (there <= 0) {
            found = there < 0 ? there : found;
            continue;
        }
        int rc = row_root(row, &r, err);
        store_row_end(row);
        if (rc)
            return rc;
        json_t *root = json_object();
        json_set_uuid(root, "id", &r.uuid);
        json_set_str(root, "subject", r.subject);
        json_set_str(root, "state", word_of(&WORDS_ROOT_STATE, r.state));
        json_set(o, "root", root);
        break;
    }
    return found < 0 ? found : 0;
}

static int key_found(struct store_tx *tx, const struct explain *e, json_t *o, struct err *err) {
    struct store_row *row;
    struct prov_key k;
    struct account a;
    int found = account_find(tx, span_str(e->account), &a, err);
    if (found > 0)
        found = first_row(tx, &row, err, SQL_KEY_BY_SPKI, "b", hash_span(&e->id->leaf->key.spki));
    if (found <= 0)
        return found;
    int rc = row_key(row, &k, err);
    store_row_end(row);
    if (rc || k.account != a.row)
        return rc;
    json_t *key = json_object();
    json_set_uuid(key, "id", &k.uuid);
    json_set_str(key, "name", k.name);
    json_set_time(key, "expires", k.expires);
    json_set_int(key, "spent", k.spent);
    json_set(key, "max_devices", k.max_devices ? json_integer(k.max_devices) : json_null());
    json_set(o, "key", key);
    return 0;
}

/* What was found out of the certificate, where it is the account's own. */
static int particulars(struct store_tx *tx, struct explain *e, bool own, json_t *o, struct err *err) {
    const struct identity *id = e->id;
    const struct admit *a = &id->admit;
    bool judged = id->leaf && !id->chain.code;
    json_set_str(o, "kind", !judged || !own ? NULL : id->class == ADMIT_KEY ? "provisioning-key" : "device");
    json_set(o, "root", json_null());
    json_set(o, "key", json_null());
    json_set(o, "device", json_null());
    json_set_str(o, "device_id", own && judged && a->device_id[0] ? a->device_id : own && judged && a->claimed[0] ? a->claimed : NULL);
    json_set_bool(o, "would_register", own && e->registers);
    if (!own || !id->leaf)
        return 0;
    if (a->device_row && !e->registers)
        json_set_uuid(o, "device", &a->device);
    if (judged && id->class == ADMIT_KEY)
        return key_found(tx, e, o, err);
    return anchor_json(tx, e, o, err);
}

static const char *why_admitted(const struct explain *e) {
    if (e->id->class == ADMIT_KEY)
        return "The provisioning key may enrol a device.";
    return e->registers ? "The device is new, and would be registered." : "The device is registered, and let in.";
}

/* `account`: the one that the registry named, "" none. */
static int finish(struct store_tx *tx, struct explain *e, const char *account, struct err *err) {
    CLEANUP_JSON json_t *o = json_object();
    bool own = !*account || strcmp(account, e->account) == 0;
    char at[CLOCK_RFC3339_LEN + 1];
    if (!own) { /* whose it is, and what would become of it there, is not this account's to know */
        e->verdict = ERR_INIT;
        err_set(&e->verdict, MUSTER_EOTHERACCOUNT, NULL);
    }
    const struct err *v = &e->verdict;
    own = own && v->code != MUSTER_EOTHERACCOUNT;
    clock_rfc3339(e->at ? e->at : clock_now(), at);
    json_set_str(o, "id", "none");
    if (e->n_chain)
        json_set_hex(o, "id", hash_span(&e->chain[0]->fingerprint));
    json_set_str(o, "verdict", v->code ? "refused" : "admitted");
    json_set_str(o, "code", v->code ? err_code(v->code) : NULL);
    json_set_str(o, "reason", v->code ? err_text(v) : why_admitted(e));
    json_set_str(o, "fix", v->code ? err_fix(v->code) : NULL);
    json_set_str(o, "rule", v->code ? rule_of(v->code) : NULL);
    json_set_time(o, "renewable_until", own && v->code ? e->renewable_until : 0);
    json_set_str(o, "account", e->account);
    json_set_str(o, "host", *e->host ? e->host : NULL);
    json_set_str(o, "at", at);
    int rc = particulars(tx, e, own, o, err);
    if (rc)
        return rc;
    json_set(o, "chain", chain_json(e));
    json_decref(e->out);
    e->out = TAKE(o);
    e->decided = true;
    return 0;
}

/* --- what is asked -------------------------------------------------------------------------------------------------------------- */

static struct verdict_request request_of(const struct explain *e) {
    bool key = !e->id->chain.code && e->id->class == ADMIT_KEY;
    return (struct verdict_request){.kind = (e->any_request ? key : e->enrolment) ? REQUEST_DEVICES : REQUEST_DEVICE, .path_account = "", .host_account = e->id->sni_account,
                                    .recovery = e->recovery};
}

static int ask_enrol(struct store_tx *tx, struct explain *e, struct err *err) {
    const struct enrol_reserved reserved = {e->hosts, e->n_hosts};
    struct enrol en = {.key_spki = e->id->leaf->key.spki, .device_id = span_str(e->device_id), .address = e->address, .account = e->id->sni_account, .reserved = &reserved, .at = e->at,
                       .leave_out = (*e->device_id ? 0u : (unsigned)ENROL_ANY_ID) | (*e->address ? 0u : (unsigned)ENROL_ANY_ADDRESS)};
    int rc = enrol_run(tx, &en, err);
    if (rc)
        return rc;
    if (en.verdict.how == ENROL_REFUSED || en.verdict.how == ENROL_ASK)
        e->verdict = en.verdict.err;
    return finish(tx, e, en.account_name, err);
}

static int ask_admit(struct store_tx *tx, struct explain *e, struct err *err) {
    const struct enrol_reserved reserved = {e->hosts, e->n_hosts};
    const struct verdict_request rq = request_of(e);
    struct admit a;
    identity_admission(e->id, &reserved, &a);
    int rc = admit_run(tx, &a, err);
    if (rc)
        return rc;
    if (a.must_write) {
        e->known = a.device_row != 0;
        e->must_write = true;
        return 0;
    }
    if (store_writable(tx))
        e->registers = a.class == ADMIT_DEVICE_UPLOADED && !e->known && a.device_row;
    e->id->admit = a;
    e->id->admit.reserved = NULL; /* ends here */
    e->renewable_until = a.may_renew ? a.renewable_until : 0;
    enum verdict v = verdict_of(e->id, true, &rq, &e->verdict);
    return v == VERDICT_ASK ? MUSTER_EINTERNAL : finish(tx, e, a.account_name, err);
}

/* What has ended is refused without the registry, but for a renewal: whether that is possible still.  Of another account's nothing is said. */
static int ask_late(struct store_tx *tx, struct explain *e, struct err *err) {
    const struct enrol_reserved reserved = {e->hosts, e->n_hosts};
    struct admit a;
    identity_admission(e->id, &reserved, &a);
    int rc = admit_run(tx, &a, err);
    if (!rc && (a.must_write || !a.verdict.code || a.may_renew) && strcmp(a.account_name, e->account) == 0)
        e->renewable_until = a.renewable_until;
    return rc;
}

static int judge(struct store_tx *tx, struct explain *e, struct err *err) {
    struct snapshot_load load = {0};
    CLEANUP(sk_X509_free) STACK_OF(X509) *chain = sk_X509_new_null();
    char account[ACCOUNT_NAME_MAX + 1];
    if (!chain)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 1; i < e->n_chain; i++)
        if (sk_X509_push(chain, e->chain[i]->x) <= 0)
            return err_set(err, MUSTER_ENOMEM, NULL);
    account_of_host(e->hosts[0], span_str(e->host), account);
    identity_unref(e->id);
    e->id = identity_of(e->n_chain ? e->chain[0]->x : NULL, chain, account, e->address);
    if (!e->id)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = snapshot_run(tx, &load, err);
    if (!rc) {
        identity_judge_at(e->id, load.out, e->at ? e->at : clock_now());
        e->recovery = snapshot_in_recovery(load.out);
    }
    snapshot_unref(load.out);
    return rc;
}

int explain_run(struct store_tx *tx, void *arg, struct err *err) {
    struct explain *e = arg;
    e->must_write = e->decided = e->known = e->registers = false;
    e->renewable_until = 0;
    int rc = judge(tx, e, err);
    if (rc)
        return rc;
    const struct verdict_request rq = request_of(e);
    switch (verdict_of(e->id, false, &rq, &e->verdict)) {
    case VERDICT_REFUSED:
        rc = e->id->ended && e->id->class != ADMIT_KEY ? ask_late(tx, e, err) : 0;
        return rc ? rc : finish(tx, e, "", err);
    case VERDICT_ADMITTED:
        return ask_enrol(tx, e, err);
    case VERDICT_ASK:
        return ask_admit(tx, e, err);
    case VERDICT_INVITED: /* of who shows no certificate */
        break;
    }
    return MUSTER_EINTERNAL;
}

int explain_write_run(struct store_tx *tx, void *arg, struct err *err) {
    struct explain *e = arg;
    e->must_write = e->decided = e->registers = false;
    int rc = ask_admit(tx, e, err);
    return rc ? rc : err_set(err, MUSTER_ECONFIRM, "Nothing of an explanation stays.");
}

void explain_fini(struct explain *e) {
    identity_unref(TAKE(e->id));
    json_decref(TAKE(e->out));
    for (size_t i = 0; i < e->n_chain; i++)
        cert_free(e->chain[i]);
    e->n_chain = 0;
}
