/* root_crl: see root_crl.h.  Who is on a list: root_crl_find.c. */
#include "registry/root_crl.h"

#include <openssl/x509v3.h>

#include "base/hex.h"
#include "registry/account.h"
#include "registry/audit.h"
#include "registry/root_json.h"

#define STEP 1000          /* entries a transaction: others that write wait for one */
#define LEFT_OVER CLOCK_HOUR /* an import that has not come to its end by then never will */
#define AHEAD CLOCK_DAY    /* that a list's date may be, before a clock is wrong */

/* --- which CA ------------------------------------------------------------------------------------------------------------------------------ */

static int need_root(struct store_tx *tx, const struct root_crl_import *op, struct account *a, struct root *r, struct err *err) {
    int rc = account_need(tx, op->account, a, err);
    if (rc || (rc = root_need(tx, a, op->root, r, err)))
        return rc;
    if (r->origin != ROOT_UPLOADED)
        return err_set(err, MUSTER_ESTATE, "The fleet root is Muster's own: Muster makes its lists (`muster crl list`).");
    return r->state == ROOT_UNPROVED ? err_set(err, MUSTER_ESTATE, "The fleet root is not proved.") : 0;
}

static bool signs_lists(const struct cert *ca) {
    return ca->ca && (X509_get_key_usage(ca->x) & KU_CRL_SIGN); /* all bits where there is no such extension */
}

/* Each that came is a CA, signed by the next; the last one by the root. */
static int check_signers(const struct root_crl_import *op, const struct cert *root, struct err *err) {
    for (size_t i = 0; i < op->n_signers; i++)
        if (!op->signers[i]->ca || !cert_signed_by(op->signers[i], i + 1 < op->n_signers ? op->signers[i + 1] : root))
            return err_set(err, MUSTER_ECRLSIGNATURE, "The certificates that came with the list do not lead to the fleet root: its CA's comes first, each is signed by the next, and the last one by the root.");
    return 0;
}

static int check_list(struct root_crl_import *op, const struct cert *ca, struct err *err) {
    if (revocation_file_lists(op->file) != 1)
        return err_set(err, MUSTER_EINVALID, "One revocation list is imported at a time.");
    if (!signs_lists(ca))
        return err_set(err, MUSTER_ECRLSIGNATURE, "The CA may sign no revocation lists: its key usage has no cRLSign.");
    if (!revocation_file_is_of(op->file, 0, ca))
        return err_set(err, MUSTER_ECRLSIGNATURE, NULL);
    int rc = revocation_file_facts(op->file, 0, &op->facts, err);
    for (size_t i = 0; !rc && i < revocation_file_entries(op->file, 0); i++) {
        struct revocation_file_entry e;
        rc = revocation_file_entry_at(op->file, 0, i, &e, err);
    }
    if (!rc && op->facts.weak)
        return err_set(err, MUSTER_ECERTWEAKHASH, "The revocation list is signed with a hash that is too weak.");
    return !rc && op->facts.this_update > clock_now() + AHEAD ? err_set(err, MUSTER_EINVALID, "The revocation list is of the future: look at the clocks of its CA and of this server.") : rc;
}

/* --- the one before ------------------------------------------------------------------------------------------------------------------------ */

struct live {
    int64_t id; /* 0: there is none */
    struct audit_sum sum;
    bool same, newer; /* than the one at hand */
};

/* RFC 5280, 5.2.3: by their numbers.  A CA that numbers its lists does not stop to; of one that never did the dates count. */
static bool is_newer(struct span number, int64_t this_update, const struct revocation_file_facts *than) {
    const struct span other = span_of(than->number, than->number_n);
    if (!number.n && !other.n)
        return this_update >= than->this_update;
    if (number.n != other.n)
        return number.n > other.n;
    return memcmp(number.p, other.p, number.n) >= 0;
}

enum live_column { L_ID, L_NUMBER, L_THIS, L_HASH, L_SUM };

static int find_live(struct store_tx *tx, const struct account *a, const struct cert *ca, const struct revocation_file_facts *f, struct live *out, struct err *err) {
    struct store_row *row;
    *out = (struct live){.id = 0};
    int found = first_row(tx, &row, err, SQL_ROOT_CRL_LIVE, "ib", a->row, hash_span(&ca->key.spki));
    if (found <= 0)
        return found;
    const struct span sum = store_blob(row, L_SUM);
    out->id = store_int(row, L_ID);
    out->same = span_eq(store_blob(row, L_HASH), hash_span(&f->hash));
    out->newer = is_newer(store_blob(row, L_NUMBER), store_int(row, L_THIS), f);
    if (sum.n == sizeof out->sum)
        memcpy(&out->sum, sum.p, sum.n);
    store_row_end(row);
    return 0;
}

static int check_newer(const struct live *l, struct err *err) { return l->newer && !l->same ? err_set(err, MUSTER_ECRLOLDER, NULL) : 0; }

/* --- steps --------------------------------------------------------------------------------------------------------------------------------- */

void root_crl_sum(struct audit_sum *sum, int64_t account, struct span issuer, struct span serial, int64_t reason) {
    CLEANUP(buf_fini) struct buf value = BUF_INIT(256);
    buf_addc(&value, (uint8_t)reason);
    buf_add(&value, issuer);
    buf_adds(&value, "root-crl");
    audit_sum_add(sum, account, serial, buf_span(&value), false);
}

static int begin(struct store_tx *tx, struct root_crl_import *op, const struct account *a, const struct root *r, const struct cert *ca, const struct revocation_file_facts *f, struct err *err) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096), der = BUF_INIT(CERT_DER_MAX);
    char text[256];
    int64_t many;
    int rc = one_int(tx, &many, 0, err, SQL_ROOT_CRL_COUNT, "ii", a->row, I(ROOT_CRLS_MAX));
    if (rc)
        return rc;
    if (many >= ROOT_CRLS_MAX)
        return err_retry(err, MUSTER_EBUSY, 5, "The account has %d revocation lists, those included that are being imported.", ROOT_CRLS_MAX);
    if ((rc = cert_der(ca, &der)))
        return err_set(err, rc, NULL);
    cert_subject_text(ca, &subject);
    snprintf(text, sizeof text, "%s", buf_str(&subject));
    rc = store_exec(tx, NULL, err, SQL_ROOT_CRL_ADD, "iibbsbiibbii", a->row, r->row, hash_span(&ca->key.spki), buf_span(&der), text, f->number_n ? span_of(f->number, f->number_n) : SPAN_NONE, f->this_update,
                    f->next_update, hash_span(&f->hash), SPAN_LIT("-"), I(0), clock_now());
    return rc ? rc : one_int(tx, &op->done.list, 0, err, SQL_ROOT_CRL_NEWEST, "i", a->row);
}

static int fill(struct store_tx *tx, struct root_crl_import *op, const struct account *a, const struct cert *ca, struct err *err) {
    struct root_crl_done *d = &op->done;
    const size_t all = revocation_file_entries(op->file, 0), end = all - d->entry > STEP ? d->entry + STEP : all;
    for (; d->entry < end; d->entry++) {
        struct revocation_file_entry e;
        int64_t added = 0;
        int rc = revocation_file_entry_at(op->file, 0, d->entry, &e, err);
        if (rc)
            return rc;
        if (e.reason == REVOCATION_FILE_REMOVED)
            continue;
        if ((rc = store_exec(tx, &added, err, SQL_ROOT_CRL_ENTRY_ADD, "ibii", a->row, e.serial, d->list, I(e.reason))))
            return rc;
        if (added) /* one that stands there twice counts once */
            root_crl_sum(&d->sum, a->row, hash_span(&ca->key.spki), e.serial, e.reason);
        d->added += added;
    }
    op->more = true; /* the last step makes it count */
    return 0;
}

static json_t *list_json(const char *account, struct store_row *row) {
    enum { J_ID, J_ROOT, J_SUBJECT, J_NUMBER, J_THIS, J_NEXT, J_HASH, J_ENTRIES, J_IMPORTED };
    struct uuid root = {{0}};
    json_t *o = json_object();
    char id[24];
    const int64_t next = store_int(row, J_NEXT);
    (void)!store_uuid(row, J_ROOT, &root);
    snprintf(id, sizeof id, "%lld", (long long)store_int(row, J_ID));
    json_set_str(o, "id", id);
    json_set_str(o, "account", account);
    json_set_uuid(o, "root", &root);
    json_set_span(o, "issuer", store_text(row, J_SUBJECT));
    if (store_is_null(row, J_NUMBER))
        json_set(o, "number", json_null());
    else
        json_set_hex(o, "number", store_blob(row, J_NUMBER));
    json_set_int(o, "entries", store_int(row, J_ENTRIES));
    json_set_time(o, "this_update", store_int(row, J_THIS));
    json_set_time(o, "next_update", next);
    json_set_str(o, "state", next && next <= clock_now() ? "overdue" : "current");
    json_set_hex(o, "hash", store_blob(row, J_HASH));
    json_set_time(o, "imported", store_int(row, J_IMPORTED));
    return o;
}

static int show(struct store_tx *tx, const struct account *a, int64_t id, json_t **out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ROOT_CRL_SHOW, "i", id);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, NULL);
    json_decref(*out);
    *out = list_json(a->name, row);
    store_row_end(row);
    return 0;
}

static int record(struct store_tx *tx, const struct root_crl_import *op, const struct account *a, const struct root *r, const struct cert *ca, const struct revocation_file_facts *f,
                  const struct live *before, struct err *err) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
    char id[UUID_TEXT_LEN + 1];
    struct audit_sum change = op->done.sum; /* the new list in, the old one out */
    json_t *detail = json_object();
    for (size_t i = 0; i < sizeof change.lane / sizeof *change.lane; i++)
        change.lane[i] -= before->sum.lane[i];
    uuid_text(&r->uuid, id);
    cert_subject_text(ca, &subject);
    json_set_str(detail, "issuer", buf_str(&subject));
    if (f->number_n)
        json_set_hex(detail, "number", span_of(f->number, f->number_n));
    json_set_hex(detail, "hash", hash_span(&f->hash));
    json_set_int(detail, "entries", op->done.added);
    audit_sum_write(detail, &change);
    return audit_add(tx, a->row, &op->actor, "root.crl", span_str(id), detail, err);
}

static int take(struct store_tx *tx, struct root_crl_import *op, const struct account *a, const struct root *r, const struct cert *ca, const struct revocation_file_facts *f, struct err *err) {
    struct live before;
    int64_t still;
    int rc = one_int(tx, &still, 0, err, SQL_ROOT_CRL_IS_NEW, "i", op->done.list);
    if (rc || (rc = find_live(tx, a, ca, f, &before, err)) || (rc = check_newer(&before, err)))
        return rc;
    if (!still || before.same)
        return err_retry(err, MUSTER_EBUSY, 1, "Another import of that CA's lists was faster.");
    if ((before.id && (rc = store_exec(tx, NULL, err, SQL_ROOT_CRL_END, "i", before.id))) ||
        (rc = store_exec(tx, NULL, err, SQL_ROOT_CRL_BEGIN, "ibi", op->done.list, span_of(&op->done.sum, sizeof op->done.sum), op->done.added)) || (rc = epoch_raise(tx, err)) ||
        (rc = record(tx, op, a, r, ca, f, &before, err)))
        return rc;
    op->more = false;
    return show(tx, a, op->done.list, &op->out, err);
}

static const struct cert *issuer_of(const struct root_crl_import *op, const struct cert *root) { return op->n_signers ? op->signers[0] : root; }

int root_crl_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_crl_import *op = arg;
    CLEANUP(cert_free) struct cert *root = NULL;
    struct live before;
    struct account a;
    struct root r;
    op->looked_at = op->same = false;
    int rc = op->file ? 0 : revocation_file_read(op->text, &op->file, err);
    if (rc || (rc = need_root(tx, op, &a, &r, err)) || (rc = root_cert(tx, &r, &root, err)))
        return rc;
    op->account_row = a.row;
    const struct cert *ca = issuer_of(op, root);
    if ((rc = check_signers(op, root, err)) || (rc = check_list(op, ca, err)) || (rc = find_live(tx, &a, ca, &op->facts, &before, err)) || (rc = check_newer(&before, err)))
        return rc;
    op->looked = r.fingerprint;
    op->looked_at = true;
    op->same = before.same;
    return before.same ? show(tx, &a, before.id, &op->out, err) : 0;
}

static int first_step(struct store_tx *tx, struct root_crl_import *op, const struct account *a, const struct root *r, const struct cert *ca, struct err *err) {
    struct live before;
    int rc = find_live(tx, a, ca, &op->facts, &before, err);
    if (rc || (rc = check_newer(&before, err)))
        return rc;
    if (before.same) /* another import of it was faster */
        return show(tx, a, before.id, &op->out, err);
    rc = begin(tx, op, a, r, ca, &op->facts, err);
    return rc ? rc : fill(tx, op, a, ca, err);
}

int root_crl_import_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_crl_import *op = arg;
    CLEANUP(cert_free) struct cert *root = NULL;
    struct account a;
    struct root r;
    op->done = op->before;
    op->more = false;
    if (!op->looked_at)
        return MUSTER_EINTERNAL;
    int rc = need_root(tx, op, &a, &r, err);
    if (rc || (rc = root_cert(tx, &r, &root, err)))
        return rc;
    if (!hash_eq(&op->looked, &r.fingerprint))
        return err_retry(err, MUSTER_EBUSY, 1, "The fleet root has changed meanwhile.");
    op->account_row = a.row;
    const struct cert *ca = issuer_of(op, root);
    if (!op->begun)
        return first_step(tx, op, &a, &r, ca, err);
    return op->done.entry < revocation_file_entries(op->file, 0) ? fill(tx, op, &a, ca, err) : take(tx, op, &a, &r, ca, &op->facts, err);
}

int root_crl_sweep_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_crl_sweep *s = arg;
    int64_t list, gone = 0;
    s->more = false;
    int rc = one_int(tx, &list, 0, err, SQL_ROOT_CRL_DEAD, "ii", s->account, clock_now() - LEFT_OVER);
    if (rc || !list)
        return rc;
    if ((rc = store_exec(tx, &gone, err, SQL_ROOT_CRL_ENTRIES_DROP, "ii", list, I(STEP))))
        return rc;
    s->more = true;
    return gone ? 0 : store_exec(tx, NULL, err, SQL_ROOT_CRL_DROP, "i", list);
}

int root_crl_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_crl_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    int64_t last = l->page.after, n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_ROOT_CRL_PAGE, "iii", a.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        json_array_append_new(items, list_json(a.name, row));
        last = store_int(row, 0);
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}
