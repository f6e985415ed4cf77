/* crl: the registry's side; see crl.h. */
#include "registry/crl.h"

#include "registry/account.h"
#include "registry/recovery.h"
#include "registry/row.h"

#define STEP_ROWS 10000    /* rows that a step of crl_load_run() reads */
#define AGAIN_MAX 3        /* how often the steps begin again */
#define GROW_AT_LEAST 1024

static const char *const kind_words[] = {[CRL_ROOT] = "fleet-root", [CRL_ISSUING] = "issuing-ca"};
const struct words WORDS_CRL_KIND = {kind_words, sizeof kind_words / sizeof *kind_words};

/* --- which lists there are ------------------------------------------------------------------------------------------------------------- */

int crl_revisions_run(struct store_tx *tx, void *arg, struct err *err) {
    struct crl_revisions *r = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    const int64_t from = r->after;
    struct recovery recovery;
    r->n = 0;
    int rc = recovery_get(tx, &recovery, err);
    if (rc)
        return rc;
    r->recovery = recovery.since != 0;
    rc = store_query(tx, &row, err, SQL_CRL_REVISIONS, "ii", from, I(CRL_REVISIONS_PAGE));
    while (!rc && (rc = store_next(row, err)) > 0) {
        r->at[r->n].account = r->after = store_int(row, 0);
        row_text(row, 1, r->at[r->n].name, sizeof r->at[r->n].name);
        r->at[r->n].active = store_int(row, 2) == ACCOUNT_ACTIVE;
        r->at[r->n].revision = store_int(row, 3);
        r->at[r->n].deleted = store_int(row, 2) == ACCOUNT_DELETED;
        r->at[r->n].forged = false;
        r->n++;
        rc = 0;
    }
    for (size_t i = 0; !rc && i < r->n; i++)
        if (r->at[i].deleted && !(rc = account_deletion_sealed(tx, r->at[i].account, &r->at[i].deleted, err)))
            r->at[i].forged = !r->at[i].deleted;
    return rc;
}

/* One that is damaged takes the others' lists from nobody. */
static void take_ca(struct crl_cas *c, enum crl_kind kind, int64_t at, struct span der) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
    if (c->n == CRL_CAS_MAX)
        return;
    if (cert_from_der(der, &cert, NULL) || !crl_key_id(cert, c->at[c->n].key_id)) {
        c->damaged++;
        return;
    }
    cert_subject_text(cert, &subject);
    c->at[c->n].kind = kind;
    c->at[c->n].row = at;
    c->at[c->n].not_after = cert->not_after;
    snprintf(c->at[c->n].subject, sizeof c->at[c->n].subject, "%s", buf_str(&subject));
    c->n++;
}

static int add_cas(struct store_tx *tx, struct crl_cas *c, enum crl_kind kind, int statement, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, statement, "i", c->account);
    while (!rc && (rc = store_next(row, err)) > 0) {
        take_ca(c, kind, store_int(row, 0), store_blob(row, 1));
        rc = 0;
    }
    return rc;
}

int crl_cas_run(struct store_tx *tx, void *arg, struct err *err) {
    struct crl_cas *c = arg;
    c->n = c->damaged = 0;
    int rc = one_int(tx, &c->revision, 0, err, SQL_CRL_REVISION, "i", c->account);
    if (!rc)
        rc = add_cas(tx, c, CRL_ROOT, SQL_CRL_ROOTS, err);
    return rc ? rc : add_cas(tx, c, CRL_ISSUING, SQL_CRL_ISSUING, err);
}

/* One that has ended lets nobody in; those under a root that is disabled or revoked are on its list. */
static int add_pem(struct store_tx *tx, const struct account *a, int statement, struct buf *pem, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, statement, "i", a->row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        if (!(rc = cert_from_der(store_blob(row, 1), &c, err)) && c->not_after > clock_now() && cert_pem(c, pem))
            rc = err_set(err, MUSTER_ENOMEM, NULL);
    }
    return rc;
}

int crl_bundle_run(struct store_tx *tx, void *arg, struct err *err) {
    struct crl_bundle *b = arg;
    struct account a;
    buf_clear(&b->pem);
    int rc = account_need(tx, b->name, &a, err);
    if (rc || (rc = add_pem(tx, &a, SQL_CRL_ROOTS, &b->pem, err)) || (rc = add_pem(tx, &a, SQL_CRL_ISSUING, &b->pem, err)))
        return rc;
    return b->pem.n ? 0 : err_set(err, MUSTER_ENOTFOUND, "The account %s has no CA of its own.", a.name);
}

/* --- their entries ---------------------------------------------------------------------------------------------------------------------- */

/* What its certificate says of when and why may be damaged; that it was revoked counts. */
static int add(struct crl_load *l, struct span serial, int64_t revoked, int64_t reason, struct err *err) {
    if (serial.n != MAKE_SERIAL_LEN || serial.p[0] == 0 || serial.p[0] > 0x7f) { /* the vault made none such, and would not sign the list */
        l->left_out++;
        return 0;
    }
    if (l->n >= GROW_AT_LEAST ? (l->n & (l->n - 1)) == 0 : l->n == 0) {
        struct crl_entry *more = realloc(l->entries, (l->n ? 2 * l->n : GROW_AT_LEAST) * sizeof *more);
        if (!more)
            return err_set(err, MUSTER_ENOMEM, NULL);
        l->entries = more;
    }
    struct crl_entry *e = &l->entries[l->n++];
    memcpy(e->serial, serial.p, MAKE_SERIAL_LEN);
    e->revoked = revoked > 0 && revoked <= clock_now() - CRL_BACKDATE ? revoked : 0;
    e->reason = reason >= 0 && reason <= 10 && reason != 7 && reason != 8 ? (uint8_t)reason : 0;
    crl_count(&l->counts, e);
    return 0;
}

/* A step's rows, from step.after on, which the last one of them sets; to the end of what one device has. */
static int add_rows(struct store_tx *tx, struct crl_load *l, int statement, int64_t state, int64_t reason, bool *end, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    size_t n = 0;
    *end = true;
    int rc = statement == SQL_CRL_REVOKED ? store_query(tx, &row, err, statement, "iii", l->row, l->step.after, l->since)
                                          : store_query(tx, &row, err, statement, "iiiii", l->account, state, l->step.after, l->row, l->since);
    while (!rc && (rc = store_next(row, err)) > 0) {
        const int64_t at = store_int(row, 0), revoked = store_int(row, 2);
        if (n >= STEP_ROWS && l->again < AGAIN_MAX && at != l->step.after) {
            *end = false;
            return 0;
        }
        l->step.after = at;
        /* 1: nobody wrote down when: not before it was made. */
        rc = add(l, store_blob(row, 1), revoked == 1 ? store_int(row, 4) : revoked, reason < 0 ? store_int(row, 3) : reason, err);
        n++;
    }
    return rc;
}

static const struct {
    int statement;
    int64_t state, reason; /* reason -1: the certificate's own */
} PHASES[] = {
    {SQL_CRL_REVOKED, 0, -1},
    {SQL_CRL_LEFT, DEVICE_REVOKED, -1},
    {SQL_CRL_LEFT, DEVICE_DELETED, -1},
    {SQL_CRL_HELD, DEVICE_PENDING, CRL_REASON_HOLD},
    {SQL_CRL_HELD, DEVICE_QUARANTINED, CRL_REASON_HOLD},
};
#define PHASES_N ((int)(sizeof PHASES / sizeof *PHASES))

static int load_issuing(struct store_tx *tx, struct crl_load *l, struct err *err) {
    bool end = false;
    while (l->step.phase < PHASES_N) {
        int rc = add_rows(tx, l, PHASES[l->step.phase].statement, PHASES[l->step.phase].state, PHASES[l->step.phase].reason, &end, err);
        if (rc)
            return rc;
        if (!end) {
            l->more = true;
            return 0;
        }
        l->step.phase++;
        l->step.after = 0;
    }
    return 0;
}

static int add_below(struct crl_load *l, struct span der, int64_t reason, struct err *err) {
    CLEANUP(cert_free) struct cert *c = NULL;
    uint8_t above[CRL_KEY_ID_LEN];
    if (cert_from_der(der, &c, NULL)) {
        l->left_out++;
        return 0;
    }
    if (!crl_issuer_key_id(der, above) || memcmp(above, l->key_id, sizeof above) != 0 || c->not_after < l->since)
        return 0;
    const ASN1_INTEGER *serial = X509_get0_serialNumber(c->x);
    return add(l, span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)), 0, reason, err);
}

static int load_root(struct store_tx *tx, struct crl_load *l, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t state;
    int rc = one_int(tx, &state, 0, err, SQL_ROOT_STATE_OF, "i", l->row);
    if (rc || (state != ROOT_DISABLED && state != ROOT_RETIRED && state != ROOT_REVOKED) || (rc = store_query(tx, &row, err, SQL_CRL_ISSUING, "i", l->account)))
        return rc;
    while ((rc = store_next(row, err)) > 0)
        if ((rc = add_below(l, store_blob(row, 1), state == ROOT_DISABLED ? CRL_REASON_HOLD : 0, err)))
            return rc;
    return rc;
}

int crl_load_run(struct store_tx *tx, void *arg, struct err *err) {
    struct crl_load *l = arg;
    const bool first = !l->step.phase && !l->step.after;
    int64_t revision;
    int rc = first ? clock_check(tx, clock_now(), err) : 0; /* a list of the past would take the place of a good one */
    l->more = false;
    if (rc || (rc = one_int(tx, &revision, 0, err, SQL_CRL_REVISION, "i", l->account)))
        return rc;
    l->revision = first ? revision : l->revision;
    rc = l->kind == CRL_ROOT ? load_root(tx, l, err) : load_issuing(tx, l, err);
    if (!rc && !l->more && revision != l->revision) {
        l->step = (struct crl_load_step){0};
        l->counts = (struct crl_counts){0};
        l->n = l->left_out = 0;
        l->again++;
        l->more = true;
    }
    return rc;
}

/* --- when --------------------------------------------------------------------------------------------------------------------------------- */

int64_t crl_since(const struct crl_row *last, int64_t now) {
    if (!last->number)
        return 0;
    return (last->this_update < now ? last->this_update : now) - CLOCK_DAY;
}

bool crl_is_due(const struct crl_row *last, int64_t wanted, int64_t interval, int64_t now) {
    const int64_t age = now - last->this_update - CRL_BACKDATE;
    return !last->number || last->revision != wanted || age >= interval || last->next_update <= now || age < -CLOCK_DAY;
}

/* --- control.db -------------------------------------------------------------------------------------------------------------------------- */

enum column { C_ACCOUNT, C_KEY_ID, C_KIND, C_SUBJECT, C_NUMBER, C_THIS, C_NEXT, C_ENTRIES, C_BYTES, C_REVISION, C_NOT_AFTER };

static int row_crl(struct store_row *row, struct crl_row *out, struct err *err) {
    struct span id = store_blob(row, C_KEY_ID);
    if (id.n != sizeof out->key_id)
        return err_set(err, MUSTER_ECORRUPT, "A row of the table crl is damaged.");
    *out = (struct crl_row){.kind = (enum crl_kind)store_int(row, C_KIND), .number = store_int(row, C_NUMBER), .this_update = store_int(row, C_THIS), .next_update = store_int(row, C_NEXT),
                            .entries = store_int(row, C_ENTRIES), .bytes = store_int(row, C_BYTES), .revision = store_int(row, C_REVISION), .not_after = store_int(row, C_NOT_AFTER)};
    memcpy(out->key_id, id.p, id.n);
    row_text(row, C_ACCOUNT, out->account, sizeof out->account);
    row_text(row, C_SUBJECT, out->subject, sizeof out->subject);
    return 0;
}

int crl_put(struct store_tx *control, const struct crl_row *r, struct err *err) {
    return store_exec(control, NULL, err, SQL_CRL_PUT, "sbisiiiiiii", r->account, span_of(r->key_id, sizeof r->key_id), I(r->kind), r->subject, r->number, r->this_update, r->next_update,
                      r->entries, r->bytes, r->revision, r->not_after);
}

int crl_get(struct store_tx *control, const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], struct crl_row *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = first_row(control, &row, err, SQL_CRL_GET, "sb", account, span_of(key_id, CRL_KEY_ID_LEN));
    int rc = found <= 0 ? found : row_crl(row, out, err);
    return rc ? rc : found;
}

int crl_drop(struct store_tx *control, const struct crl_row *r, struct err *err) {
    return store_exec(control, NULL, err, SQL_CRL_DROP, "sb", r->account, span_of(r->key_id, sizeof r->key_id));
}

int crl_rows_run(struct store_tx *control, void *arg, struct err *err) {
    struct crl_rows *r = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    r->n = 0;
    struct span after = span_of(r->after.key_id, r->after.account[0] ? sizeof r->after.key_id : 0);
    int rc = r->account[0] ? store_query(control, &row, err, SQL_CRL_OF, "sbi", r->account, after, I(CRL_ROWS_PAGE))
                           : store_query(control, &row, err, SQL_CRL_ALL, "sbi", r->after.account, after, I(CRL_ROWS_PAGE));
    while (!rc && (rc = store_next(row, err)) > 0)
        rc = row_crl(row, &r->at[r->n++], err);
    return rc;
}
