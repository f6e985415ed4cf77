/* crls: certificate revocation lists over the API; how they come about is crl.c's. */
#include "admin/crl.h"
#include "base/hex.h"
#include "registry/row.h"

#define PEM_MAX ((size_t)CRL_BYTES_MAX * 2)

static json_t *crl_json(const struct control *c, const struct crl_row *r) {
    const int64_t now = clock_now();
    const bool ended = r->not_after <= now; /* its CA: no list is made any more */
    struct err why = ERR_INIT;
    char file[CRL_FILE_MAX], key[2 * CRL_KEY_ID_LEN + 1];
    CLEANUP(buf_fini) struct buf url = BUF_INIT(1024);
    json_t *o = json_object();
    crl_file_name(r->account, r->key_id, file);
    hex_encode(span_of(r->key_id, sizeof r->key_id), key);
    buf_addf(&url, "%s/crl/%s/%s.crl", c->o->crl_url, r->account, key);
    json_set_str(o, "id", key);
    json_set_str(o, "account", r->account);
    json_set_str(o, "kind", word_of(&WORDS_CRL_KIND, r->kind));
    json_set_str(o, "issuer", r->subject);
    json_set_int(o, "number", r->number);
    json_set_int(o, "entries", r->entries);
    json_set_time(o, "this_update", r->this_update);
    json_set_time(o, "next_update", r->next_update);
    json_set_str(o, "state", ended ? "ended" : r->next_update <= now ? "overdue" : "current");
    json_set_bool(o, "behind", !ended && crls_lacks(c, r->account, r->key_id, &why));
    json_set_str(o, "failing", why.code ? err_text(&why) : NULL);
    json_set_int(o, "bytes", r->bytes);
    json_set_str(o, "url", *c->o->crl_url ? buf_str(&url) : NULL);
    return o;
}

/* --- lists ---------------------------------------------------------------------------------------------------------------------------- */

struct listing {
    struct crl_rows rows; /* first: what the operation is given */
    struct page page;
};

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct listing *l = op;
    json_t *items = json_array();
    int64_t at = l->page.after;
    for (; !rc && at < (int64_t)l->rows.n && at < l->page.after + l->page.limit; at++)
        json_array_append_new(items, crl_json(http_exchange_arg(x), &l->rows.at[at]));
    if (rc)
        json_decref(items);
    else
        rc = page_finish(&l->page, items, at, at < (int64_t)l->rows.n);
    reply_done(x, rc, err, TAKE(l->page.out));
}

/* An account has CRL_CAS_MAX lists at most, which is a page. */
void admin_CRL_LIST(struct http_exchange *x, void *arg) {
    struct listing *l = arena_alloc(http_exchange_arena(x), sizeof *l);
    if (!l) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *l = (struct listing){.rows.n = 0};
    snprintf(l->rows.account, sizeof l->rows.account, "%s", grant_of(x)->account);
    if (page_of(x, &l->page))
        job_start(x, JOB_CONTROL_READ, crl_rows_run, l, sizeof *l, listed);
}

/* --- what is exported has what was revoked before it was asked for ------------------------------------------------------------------------- */

#define LOOK_AGAIN_MS 100
#define SETTLING_MS 8000 /* what is answered by then is short of what clients wait for */

/* The revision that the account had when it was asked: what changes while the lists are made is for who asks later, or an account that changes all
 * the time would never be answered. */
struct settling {
    const struct control *c;
    const char *account;
    struct crl_cas cas; /* of the account, with the number of what has changed last */
    int64_t until_ms;   /* monotonic; 0: it does not wait yet */
};

static int settling_run(struct store_tx *tx, struct settling *s, struct err *err) {
    struct account a;
    int rc = account_need(tx, span_str(s->account), &a, err);
    s->cas = (struct crl_cas){.account = a.row};
    return rc ? rc : crl_cas_run(tx, &s->cas, err);
}

static int rest_run(struct store_tx *tx, void *arg, struct err *err) { return 0; }

/* Whether to look again in a moment, by job_later(); otherwise *rc says whether the lists have all that they should. */
static bool settles(struct settling *s, int *rc, struct err *err) {
    if (*rc || !crls_catch_up(s->c, s->account, s->cas.revision))
        return false;
    const int64_t now_ms = clock_mono_ms();
    if (!s->until_ms)
        s->until_ms = now_ms + SETTLING_MS;
    if (now_ms < s->until_ms)
        return true;
    *rc = err_retry(err, MUSTER_EUNAVAILABLE, 1, "What had changed a moment before is on no list yet.");
    return false;
}

/* --- one --------------------------------------------------------------------------------------------------------------------------------- */

struct showing {
    struct settling of;
    uint8_t key_id[CRL_KEY_ID_LEN];
    bool file;
    struct crl_row row;
    struct buf der;
};

static int show_run(struct store_tx *control, void *arg, struct err *err) {
    struct showing *s = arg;
    int found = crl_get(control, s->of.account, s->key_id, &s->row, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ENOTFOUND, "The account %s has no list of a CA with that key.", s->of.account);
    buf_clear(&s->der);
    return s->file ? crl_file_read(s->of.c, &s->row, &s->der, err) : 0;
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct showing *s = op;
    if (!s->file || rc)
        reply_done(x, rc, err, rc ? NULL : crl_json(s->of.c, &s->row));
    else
        http_reply_buf(x, 200, "application/pkix-crl", &s->der, false);
    buf_fini(&s->der);
}

static int file_settling_run(struct store_tx *tx, void *arg, struct err *err) { return settling_run(tx, &((struct showing *)arg)->of, err); }

static void file_settled(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct showing *s = op;
    struct err why = ERR_INIT;
    if (settles(&s->of, &rc, &why))
        job_later(x, LOOK_AGAIN_MS, JOB_CONTROL_READ, rest_run, op, sizeof *s, file_settled);
    else if (rc)
        shown(x, rc, why.code ? &why : err, op);
    else
        job_start(x, JOB_CONTROL_READ, show_run, op, sizeof *s, shown);
}

static void show(struct http_exchange *x, bool file) {
    struct showing *s = arena_alloc(http_exchange_arena(x), sizeof *s);
    struct span id = param_of(x, "crl");
    if (!s) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *s = (struct showing){.of = {.c = http_exchange_arg(x), .account = grant_of(x)->account}, .file = file, .der = BUF_INIT(CRL_BYTES_MAX)};
    if (id.n != 2 * sizeof s->key_id || hex_decode(id, s->key_id, sizeof s->key_id))
        reply_code(x, MUSTER_ENOTFOUND, "A list is named by the subject key identifier of its CA, in 40 hex digits.");
    else if (file)
        job_start(x, JOB_READ, file_settling_run, s, sizeof *s, file_settled);
    else
        job_start(x, JOB_CONTROL_READ, show_run, s, sizeof *s, shown);
}

void admin_CRL_SHOW(struct http_exchange *x, void *arg) { show(x, false); }
void admin_CRL_EXPORT(struct http_exchange *x, void *arg) { show(x, true); }

/* --- all of them, for a program that takes one file -------------------------------------------------------------------------------------- */

struct bundling {
    struct settling of; /* and whose lists have to be in it */
    struct crl_rows rows;
    struct buf pem;
};

static int bundle_settling_run(struct store_tx *tx, void *arg, struct err *err) { return settling_run(tx, &((struct bundling *)arg)->of, err); }

static bool has_list(const struct crl_rows *rows, const uint8_t key_id[CRL_KEY_ID_LEN]) {
    for (size_t i = 0; i < rows->n; i++)
        if (memcmp(rows->at[i].key_id, key_id, CRL_KEY_ID_LEN) == 0)
            return rows->at[i].number != 0;
    return false;
}

/* A file that lacks one of them would have its reader refuse everybody. */
static int check_whole(const struct bundling *b, struct err *err) {
    for (size_t i = 0; i < b->of.cas.n; i++)
        if (b->of.cas.at[i].not_after > clock_now() && !has_list(&b->rows, b->of.cas.at[i].key_id))
            return err_retry(err, MUSTER_EUNAVAILABLE, 1, "A list of the account has not been made yet.");
    return 0;
}

static int add_pem(const struct control *c, const struct crl_row *r, struct buf *pem, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CRL_BYTES_MAX);
    int rc = crl_file_read(c, r, &der, err);
    if (rc)
        return rc;
    buf_adds(pem, "-----BEGIN X509 CRL-----\n");
    base64_add_lines(pem, buf_span(&der));
    buf_adds(pem, "-----END X509 CRL-----\n");
    return buf_check(pem, err);
}

/* Those of CAs that have ended say nothing any more. */
static int bundle_run(struct store_tx *control, void *arg, struct err *err) {
    struct bundling *b = arg;
    int rc = crl_rows_run(control, &b->rows, err);
    rc = rc ? rc : check_whole(b, err);
    buf_clear(&b->pem);
    for (size_t i = 0; !rc && i < b->rows.n; i++)
        if (b->rows.at[i].not_after > clock_now())
            rc = add_pem(b->of.c, &b->rows.at[i], &b->pem, err);
    return rc || b->pem.n ? rc : err_set(err, MUSTER_ENOTFOUND, "The account %s has no CA of its own that has a list.", b->rows.account);
}

static void bundled(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct bundling *b = op;
    struct err why = ERR_INIT, failed;
    if (rc == MUSTER_EUNAVAILABLE && (crls_why(b->of.c, b->rows.account, &failed), failed.code))
        err_retry(&why, rc, 1, "%s %s", err_text(err), err_text(&failed));
    if (rc)
        http_reply_err(x, why.code ? &why : err);
    else
        http_reply_buf(x, 200, "application/x-pem-file", &b->pem, false);
    buf_fini(&b->pem);
}

static void bundle_settled(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct bundling *b = op;
    struct err why = ERR_INIT;
    if (settles(&b->of, &rc, &why))
        job_later(x, LOOK_AGAIN_MS, JOB_CONTROL_READ, rest_run, op, sizeof *b, bundle_settled);
    else if (rc)
        bundled(x, rc, why.code ? &why : err, op);
    else
        job_start(x, JOB_CONTROL_READ, bundle_run, op, sizeof *b, bundled);
}

void admin_CRL_EXPORT_ALL(struct http_exchange *x, void *arg) {
    struct bundling *b = arena_alloc(http_exchange_arena(x), sizeof *b);
    if (!b) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *b = (struct bundling){.of = {.c = http_exchange_arg(x), .account = grant_of(x)->account}, .pem = BUF_INIT(PEM_MAX)};
    snprintf(b->rows.account, sizeof b->rows.account, "%s", grant_of(x)->account);
    job_start(x, JOB_READ, bundle_settling_run, b, sizeof *b, bundle_settled);
}

static void cas_bundled(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct crl_bundle *b = op;
    if (rc)
        http_reply_err(x, err);
    else
        http_reply_buf(x, 200, "application/x-pem-file", &b->pem, false);
    buf_fini(&b->pem);
}

void admin_CA_EXPORT_ALL(struct http_exchange *x, void *arg) {
    const struct crl_bundle b = {.name = grant_account(x), .pem = BUF_INIT(1 << 20)};
    job_start(x, JOB_READ, crl_bundle_run, &b, sizeof b, cas_bundled);
}
