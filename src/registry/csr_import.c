/* csr_import: what an operator brings back from the fleet CA for requests of devices; see csr_queue.h. */
#include "pki/chain.h"
#include "registry/csr_queue.h"
#include "registry/own_key.h"
#include "registry/root_crl.h"

#define ROOT_DER 8 /* its column in ROOT_COLUMNS */

struct importing {
    struct csr_import *op;
    struct account account;
    struct root *roots; /* of the account, which a chain may end at; at most ROOTS_MAX */
    size_t n_roots;
    struct anchor_set *anchors;
    struct cert *between[CHAIN_MAX_CERTS - 1];
    size_t n_between;
    int64_t now, imported, refused;
};

static void importing_fini(struct importing *i) {
    free(i->roots);
    anchor_set_unref(i->anchors);
}
DEFINE_CLEANUP_FINI(importing_fini, struct importing)

/* --- the account's roots ------------------------------------------------------------------------------------------------------------------- */

static int add_root(struct importing *i, const struct root *r, struct span der, struct err *err) {
    struct cert *cert;
    if (r->origin != ROOT_UPLOADED || (r->state != ROOT_ACTIVE && r->state != ROOT_KNOWN_ONLY))
        return 0;
    if (i->n_roots == ROOTS_MAX)
        return err_set(err, MUSTER_ECORRUPT, "The account has more fleet roots than it may.");
    int rc = cert_from_der(der, &cert, err);
    if (rc)
        return rc;
    i->roots[i->n_roots] = *r;
    rc = anchor_set_add(i->anchors, cert, NULL, 0, &i->roots[i->n_roots]);
    i->n_roots++;
    return rc ? err_set(err, rc, NULL) : 0;
}

static int load_roots(struct store_tx *tx, struct importing *i, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    i->roots = calloc(ROOTS_MAX, sizeof *i->roots);
    i->anchors = anchor_set_new();
    if (!i->roots || !i->anchors)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", i->account.row, I(0), I(ROOTS_MAX));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct root r;
        if ((rc = row_root(row, &r, err)) || (rc = add_root(i, &r, store_blob(row, ROOT_DER), err)))
            return rc;
    }
    return rc;
}

/* --- one certificate ------------------------------------------------------------------------------------------------------------------------ */

/* The root under which it holds and by whose rule it names the device; NULL: none (*why). */
static const struct root *root_of(const struct importing *i, const struct cert *c, const struct csr *request, struct chain_found *found, struct err *why) {
    if (chain_judge(i->anchors, c, i->between, i->n_between, i->now, found, why))
        return NULL;
    for (size_t k = 0; k < found->n; k++) {
        CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
        const struct root *r = found->at[k]->tag;
        if (cert_device_id(c, r->id_rule, &id, NULL) == 0 && span_eq_str(buf_span(&id), request->device_id))
            return r;
    }
    err_set(why, MUSTER_EINVALID, "The certificate does not name the device %s, which sent the request for its key.", request->device_id);
    return NULL;
}

/* *why: its CA has taken it back, or one above it. */
static int check_lists(struct store_tx *tx, const struct importing *i, const struct cert *c, const struct root *r, const struct chain_found *found, struct err *why, struct err *err) {
    const struct cert *certs[CHAIN_MAX_CERTS] = {c};
    size_t n = 1;
    int64_t reason;
    int which;
    for (size_t k = 0; k < i->n_between; k++)
        if (found->used & 1U << k)
            certs[n++] = i->between[k];
    int rc = root_crl_find(tx, r, certs, n, &which, &reason, err);
    if (!rc && which >= 0)
        err_set(why, MUSTER_ECERTLISTED, which ? "A CA certificate above it stands on a revocation list of the fleet CA." : NULL);
    return rc;
}

/* Another key of the device than the one it has; the operator accepts it. */
static int accept_key(struct store_tx *tx, const struct importing *i, const struct csr *request, const struct root *r, struct err *err) {
    int64_t offered;
    int rc = one_int(tx, &offered, -1, err, SQL_OFFER_GET, "ib", request->device, hash_span(&request->spki));
    if (!rc && offered < 0)
        rc = store_exec(tx, NULL, err, SQL_OFFER_ADD, "ibiis", request->device, hash_span(&request->spki), r->row, i->now, "");
    if (rc || (rc = store_exec(tx, NULL, err, SQL_OFFER_ACCEPT, "ib", request->device, hash_span(&request->spki))) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object();
    json_set_hex(detail, "fingerprint", hash_span(&request->spki));
    json_set_uuid(detail, "csr", &request->uuid);
    return audit_add(tx, i->account.row, &i->op->actor, "device.accept_key", span_str(request->device_id), detail, err);
}

/* Whether the gateway would take it, if the device showed it now.  *why: no. */
static int judge(struct store_tx *tx, const struct importing *i, const struct cert *c, struct csr *request, const struct root **root, struct err *why, struct err *err) {
    enum own_key whose;
    struct chain_found path = {0};
    struct device d;
    int found = csr_by_key(tx, i->account.row, &c->key.spki, request, err);
    if (found < 0)
        return found;
    if (!found) {
        err_set(why, MUSTER_ENOTFOUND, "No device has sent a request for the key of the certificate.");
        return 0;
    }
    found = device_find_row(tx, request->device, &d, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A request belongs to no device.");
    int rc = own_key_load(tx, i->account.row, &d, &c->key.spki, &whose, err);
    if (rc)
        return rc;
    const int code = device_state_code(&d);
    if (code) {
        err_set(why, code, NULL);
        return 0;
    }
    if (own_key_whose(whose, &c->key.spki, why) || !(*root = root_of(i, c, request, &path, why)))
        return 0;
    if (!hash_eq(&request->spki, &request->device_spki) && (*root)->key_rule != KEY_RULE_ASK)
        err_set(why, MUSTER_ESTATE, "The key rule of the fleet root is %s, and the certificate is for another key than the device has; `muster root set --key-rule ask` lets operators accept one.",
                word_of(&WORDS_KEY_RULE, (*root)->key_rule));
    return why->code ? 0 : check_lists(tx, i, c, *root, &path, why, err);
}

static int take(struct store_tx *tx, struct importing *i, const struct cert *c, const struct csr *request, const struct root *r, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_DER_MAX);
    int rc = cert_der(c, &der);
    if (rc)
        return err_set(err, rc, NULL);
    if (request->has_certificate && hash_eq(&request->fingerprint, &c->fingerprint)) /* the same file again */
        return 0;
    if (!hash_eq(&request->spki, &request->device_spki) && (rc = accept_key(tx, i, request, r, err)))
        return rc;
    if ((rc = store_exec(tx, NULL, err, SQL_CSR_SIGNED, "ibbiii", request->row, buf_span(&der), hash_span(&c->fingerprint), c->not_after, i->now, r->row)))
        return rc;
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &request->uuid);
    json_set_uuid(detail, "root", &r->uuid);
    json_set_hex(detail, "spki", hash_span(&request->spki));
    json_set_hex(detail, "fingerprint", hash_span(&c->fingerprint));
    return audit_add(tx, i->account.row, &i->op->actor, "device.csr_import", span_str(request->device_id), detail, err);
}

static int import_one(struct store_tx *tx, struct importing *i, const struct cert *c, json_t *items, struct err *err) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
    struct csr request = {0};
    const struct root *root = NULL;
    struct err why = ERR_INIT;
    int rc = judge(tx, i, c, &request, &root, &why, err);
    if (rc || (!why.code && (rc = take(tx, i, c, &request, root, err))))
        return rc;
    json_t *o = json_object();
    cert_subject_text(c, &subject);
    json_set_hex(o, "fingerprint", hash_span(&c->fingerprint));
    json_set_span(o, "subject", buf_span(&subject));
    json_set_str(o, "device_id", request.row ? request.device_id : NULL);
    json_set_str(o, "code", why.code ? err_code(why.code) : NULL);
    json_set_str(o, "reason", why.code ? err_text(&why) : NULL);
    json_array_append_new(items, o);
    *(why.code ? &i->refused : &i->imported) += 1;
    return 0;
}

/* Each device's chain has the same ones. */
static bool is_known(const struct importing *i, const struct cert *ca) {
    for (size_t k = 0; k < i->n_between; k++)
        if (hash_eq(&i->between[k]->fingerprint, &ca->fingerprint))
            return true;
    return false;
}

int csr_import_run(struct store_tx *tx, void *arg, struct err *err) {
    struct csr_import *op = arg;
    CLEANUP(importing_fini) struct importing i = {.op = op, .now = clock_now()};
    CLEANUP_JSON json_t *items = json_array();
    int rc = account_need(tx, op->account, &i.account, err);
    if (rc || (rc = clock_check(tx, i.now, err)) || (rc = load_roots(tx, &i, err)))
        return rc;
    for (size_t k = 0; k < op->n; k++) {
        if (!op->certs[k]->ca || is_known(&i, op->certs[k]))
            continue;
        if (i.n_between == sizeof i.between / sizeof *i.between)
            return err_set(err, MUSTER_EINVALID, "There are more than %zu different certificates of CAs among them.", i.n_between);
        i.between[i.n_between++] = op->certs[k];
    }
    for (size_t k = 0; k < op->n; k++)
        if (!op->certs[k]->ca && (rc = import_one(tx, &i, op->certs[k], items, err)))
            return rc;
    json_decref(op->out);
    op->out = json_object();
    json_set_str(op->out, "id", i.account.name);
    json_set_int(op->out, "imported", i.imported);
    json_set_int(op->out, "refused", i.refused);
    json_set(op->out, "items", TAKE(items));
    return 0;
}
