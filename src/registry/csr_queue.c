/* csr_queue: see csr_queue.h; what an operator brings back is in csr_import.c. */
#include "registry/csr_queue.h"

#include "base/hex.h"
#include "registry/device_identity.h"
#include "registry/own_key.h"
#include "registry/root_crl.h"
#include "registry/tried.h"

/* --- rows ---------------------------------------------------------------------------------------------------------------------------- */

enum col { C_ID, C_UUID, C_DEVICE, C_SPKI, C_DER, C_CREATED, C_CERTIFICATE, C_FINGERPRINT, C_NOT_AFTER, C_IMPORTED, C_DEVICE_ID, C_STATE, C_DEVICE_SPKI, C_ROOT };

static int read_row(struct store_row *row, struct csr *out, struct err *err) {
    *out = (struct csr){.row = store_int(row, C_ID), .device = store_int(row, C_DEVICE), .created = store_int(row, C_CREATED), .imported = store_int(row, C_IMPORTED),
                        .has_certificate = !store_is_null(row, C_CERTIFICATE), .not_after = store_int(row, C_NOT_AFTER), .state = (enum device_state)store_int(row, C_STATE), .root = store_int(row, C_ROOT)};
    row_text(row, C_DEVICE_ID, out->device_id, sizeof out->device_id);
    bool bad = store_uuid(row, C_UUID, &out->uuid) || row_hash(row, C_SPKI, &out->spki) || (out->has_certificate && row_hash(row, C_FINGERPRINT, &out->fingerprint)) ||
               (!store_is_null(row, C_DEVICE_SPKI) && row_hash(row, C_DEVICE_SPKI, &out->device_spki));
    return bad ? err_set(err, MUSTER_ECORRUPT, "A row of the table csr is damaged.") : 0;
}

static int take_row(struct store_row *row, int found, struct csr *out, struct buf *certificate, struct err *err) {
    if (found <= 0)
        return found;
    int rc = read_row(row, out, err);
    if (!rc && certificate && out->has_certificate) {
        buf_add(certificate, store_blob(row, C_CERTIFICATE));
        rc = buf_check(certificate, err);
    }
    store_row_end(row);
    return rc ? rc : 1;
}

int csr_by_key(struct store_tx *tx, int64_t account, const struct hash *spki, struct csr *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_CSR_BY_KEY, "ib", account, hash_span(spki));
    return take_row(row, found, out, NULL, err);
}

/* --- a device asks ------------------------------------------------------------------------------------------------------------------------ */

struct asking {
    struct csr_ask *ask;
    struct account account;
    struct device device;
    struct csr before; /* the device's request so far */
    bool found;
    bool dead; /* the certificate would not be let in: its root is out, or its CA has taken it back */
    int64_t now;
};

static int refuse(struct asking *a, int code, int retry_after) {
    a->ask->verdict = (struct err){.code = code, .retry_after = retry_after};
    return 0;
}

static int load(struct store_tx *tx, struct asking *a, struct err *err) {
    struct csr_ask *ask = a->ask;
    struct store_row *row;
    ask->verdict = ask->shadow = ERR_INIT;
    buf_clear(&ask->certificate);
    int found = device_find_row(tx, ask->device, &a->device, err);
    if (found > 0)
        found = account_find_row(tx, a->device.account, &a->account, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A device that was admitted is not there.");
    snprintf(ask->account_name, sizeof ask->account_name, "%s", a->account.name);
    snprintf(ask->device_id, sizeof ask->device_id, "%s", a->device.device_id);
    found = first_row(tx, &row, err, SQL_CSR_OF_DEVICE, "i", a->device.row);
    found = take_row(row, found, &a->before, &ask->certificate, err);
    a->found = found > 0;
    return found < 0 ? found : 0;
}

/* Why the device may not ask at all; 0: it may. */
static int barred(const struct asking *a, const struct account *by) {
    if (by->state != ACCOUNT_ACTIVE)
        return MUSTER_EDELETED;
    if (!(by->method & METHOD_DEVICE))
        return MUSTER_EMETHODOFF;
    if (!by->csr_queue)
        return MUSTER_EFLEETCA;
    int code = device_state_code(&a->device);
    return code ? code : a->device.state == DEVICE_PENDING ? MUSTER_EPENDING : 0;
}

static int look_whether_dead(struct store_tx *tx, struct asking *a, struct err *err) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    struct store_row *row;
    struct root root;
    int64_t reason;
    int which;
    if (!a->found || !a->before.has_certificate || !a->before.root)
        return 0;
    int found = first_row(tx, &row, err, SQL_ROOT_BY_ID, "i", a->before.root);
    a->dead = found == 0;
    if (found <= 0)
        return found;
    int rc = row_root(row, &root, err);
    store_row_end(row);
    a->dead = !rc && root.state != ROOT_ACTIVE && root.state != ROOT_KNOWN_ONLY;
    if (rc || a->dead || (rc = cert_from_der(buf_span(&a->ask->certificate), &cert, err)))
        return rc;
    const struct cert *const leaf = cert;
    rc = root_crl_find(tx, &root, &leaf, 1, &which, &reason, err);
    a->dead = !rc && which >= 0;
    return rc;
}

/* What there is for the request already: it waits, or its certificate does, which is given again until the device has used it for a while. */
static bool answered(struct asking *a) {
    const struct csr *b = &a->before;
    if (!a->found || !hash_eq(&b->spki, &a->ask->spki))
        return false;
    if (!b->has_certificate) {
        refuse(a, MUSTER_ECSRWAITS, 0);
        return true;
    }
    bool used = a->device.has_certificate && hash_eq(&a->device.certificate, &b->fingerprint);
    return b->not_after > a->now && !a->dead && (!used || within(b->imported, CSR_GAP, a->now));
}

/* Whether the key may be the device's: the verdict. */
static int judge_key(struct store_tx *tx, struct asking *a, struct err *err) {
    enum own_key whose;
    int rc = own_key_load(tx, a->account.row, &a->device, &a->ask->spki, &whose, err);
    return rc || own_key_whose(whose, &a->ask->spki, &a->ask->verdict) == 0 ? rc : 0;
}

static int put(struct store_tx *tx, const struct asking *a, struct err *err) {
    const struct csr_ask *ask = a->ask;
    const struct actor actor = actor_of("device", span_str(a->device.device_id));
    struct uuid id = uuid_new();
    int rc = a->found ? store_exec(tx, NULL, err, SQL_CSR_DROP, "i", a->before.row) : 0;
    if (rc || (rc = store_exec(tx, NULL, err, SQL_CSR_ADD, "uiibbi", &id, a->account.row, a->device.row, hash_span(&ask->spki), ask->request, a->now)))
        return rc;
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &id);
    json_set_hex(detail, "spki", hash_span(&ask->spki));
    json_set_str(detail, "address", ask->address);
    return audit_add(tx, a->account.row, &actor, "device.csr", span_str(a->device.device_id), detail, err);
}

int csr_ask_run(struct store_tx *tx, void *arg, struct err *err) {
    struct asking a = {.ask = arg, .now = clock_now()};
    struct account tried;
    struct err why = ERR_INIT;
    int rc = load(tx, &a, err), code;
    if (rc || (rc = clock_check(tx, a.now, err)) || (rc = look_whether_dead(tx, &a, err)))
        return rc;
    if ((code = barred(&a, &a.account)) || answered(&a)) {
        if (code)
            refuse(&a, code, code == MUSTER_EPENDING ? 300 : 0);
    } else if (a.found && !a.dead && within(a.before.created, CSR_GAP, a.now)) {
        refuse(&a, MUSTER_EREISSUELIMIT, (int)(a.before.created + CSR_GAP - a.now));
    } else if ((rc = judge_key(tx, &a, err)) == 0 && !a.ask->verdict.code) {
        refuse(&a, MUSTER_ECSRWAITS, 0);
        rc = put(tx, &a, err);
    }
    if (rc || a.ask->verdict.code)
        buf_clear(&a.ask->certificate);
    if (!rc && (!a.ask->verdict.code || a.ask->verdict.code == MUSTER_ECSRWAITS) && tried_account(&a.account, &tried)) {
        tried.method = a.account.method; /* tried where the device was admitted */
        if ((why.code = barred(&a, &tried)))
            tried_refused(&a.ask->shadow, &why);
    }
    return rc;
}

/* --- what operators see ---------------------------------------------------------------------------------------------------------------------- */

static json_t *csr_json(const struct account *a, const struct csr *c, struct span der) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(4 * CSR_REQUEST_MAX);
    json_t *o = json_object();
    json_set_uuid(o, "id", &c->uuid);
    json_set_str(o, "account", a->name);
    json_set_str(o, "device_id", c->device_id);
    json_set_str(o, "state", c->has_certificate ? "signed" : "waiting");
    json_set_str(o, "key", hash_eq(&c->spki, &c->device_spki) ? "same" : "new");
    json_set_hex(o, "spki", hash_span(&c->spki));
    json_set_time(o, "created", c->created);
    json_set_time(o, "imported", c->imported);
    json_set_hex(o, "fingerprint", c->has_certificate ? hash_span(&c->fingerprint) : SPAN_NONE);
    buf_adds(&pem, "-----BEGIN CERTIFICATE REQUEST-----\n");
    base64_add_lines(&pem, der);
    buf_adds(&pem, "-----END CERTIFICATE REQUEST-----\n");
    json_set_str(o, "csr", buf_ok(&pem) ? buf_str(&pem) : NULL);
    return o;
}

static bool is_wanted(const struct csr_list *l, const struct csr *c) {
    bool in = c->state == DEVICE_ACTIVE || c->state == DEVICE_PENDING;
    return in && (l->state == CSR_ANY || (l->state == CSR_SIGNED) == c->has_certificate);
}

int csr_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct csr_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    int64_t last = l->page.after, n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_CSR_PAGE, "iii", a.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct csr c;
        if ((rc = read_row(row, &c, err)))
            return rc;
        if (is_wanted(l, &c))
            json_array_append_new(items, csr_json(&a, &c, store_blob(row, C_DER)));
        last = c.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

/* The row of one that the account has; its out is what is shown. */
static int csr_need(struct store_tx *tx, const struct account *a, struct span name, struct csr *out, json_t **shown, struct err *err) {
    struct store_row *row;
    struct uuid uuid;
    struct device d;
    int found = 0;
    if (uuid_parse(name, &uuid) == 0)
        found = first_row(tx, &row, err, SQL_CSR_BY_UUID, "ui", &uuid, a->row);
    if (!found) {
        int rc = device_need(tx, a, name, &d, err);
        if (rc)
            return rc == MUSTER_ENOTFOUND ? err_set(err, rc, "There is no request of that id, and no device of that ID.") : rc;
        found = first_row(tx, &row, err, SQL_CSR_OF_DEVICE, "i", d.row);
    }
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ENOTFOUND, "The device has sent no request.");
    int rc = read_row(row, out, err);
    if (!rc)
        *shown = csr_json(a, out, store_blob(row, C_DER));
    store_row_end(row);
    return rc;
}

int csr_remove_run(struct store_tx *tx, void *arg, struct err *err) {
    struct csr_remove *r = arg;
    struct account a;
    struct csr c;
    json_t *shown = NULL;
    int rc = account_need(tx, r->account, &a, err);
    if (rc || (rc = csr_need(tx, &a, r->csr, &c, &shown, err)))
        return rc;
    json_decref(r->out);
    r->out = shown;
    if ((rc = store_exec(tx, NULL, err, SQL_CSR_DROP, "i", c.row)))
        return rc;
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &c.uuid);
    return audit_add(tx, a.row, &r->actor, "device.csr_remove", span_str(c.device_id), detail, err);
}
