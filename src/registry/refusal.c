/* refusal: writing refusals down; see refusal.h.  Showing them is refusal_list.c's. */
#include "registry/refusal.h"

#include "registry/event.h"

#define AGED_A_BATCH 200 /* rows that a batch looks at for their age */

void refusal_free(struct refusal *r) {
    if (!r)
        return;
    buf_fini(&r->chain);
    free(r);
}

struct uuid refusal_id_of(struct uuid error_id) {
    memset(error_id.b + REFUSAL_ID_PREFIX, 0, sizeof error_id.b - REFUSAL_ID_PREFIX);
    return error_id;
}

/* --- whom it concerns ----------------------------------------------------------------------------------------------------------- */

/* The device of the proven key in the account that is known already. */
static int device_of_key(struct store_tx *tx, struct refusal *r, struct err *err) {
    if (r->device || !r->key_proved)
        return 0;
    return one_int(tx, &r->device, 0, err, SQL_DKEY_GET, "ib", r->account, hash_span(&r->spki));
}

/* The one account that has an anchor of the chain; several: none. */
static int account_of_anchors(struct store_tx *tx, const struct refusal *r, int64_t *out, struct err *err) {
    *out = 0;
    for (size_t i = 0; i < r->n_anchors; i++) {
        CLEANUP(store_row_end) struct store_row *row = NULL;
        int rc = store_query(tx, &row, err, SQL_ROOT_PRINT_ANY, "b", hash_span(&r->anchors[i]));
        if (rc)
            return rc;
        while ((rc = store_next(row, err)) > 0) {
            struct root root;
            if ((rc = row_root(row, &root, err)))
                return rc;
            if (root.state == ROOT_UNPROVED || root.account == *out)
                continue;
            if (*out) {
                *out = 0;
                return 0;
            }
            *out = root.account;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int account_of_prov_key(struct store_tx *tx, const struct refusal *r, int64_t *out, struct err *err) {
    struct store_row *row;
    struct prov_key k;
    int found = r->key_proved ? first_row(tx, &row, err, SQL_KEY_BY_SPKI, "b", hash_span(&r->spki)) : 0;
    if (found <= 0)
        return found;
    int rc = row_key(row, &k, err);
    store_row_end(row);
    *out = k.account;
    return rc;
}

/* A key that is held belongs to one device, and who proved it speaks for that device; unless he asks for another account by name. */
static int by_held_key(struct store_tx *tx, struct refusal *r, int64_t named, struct err *err) {
    struct store_row *row;
    int found = r->key_proved ? first_row(tx, &row, err, SQL_DKEY_HELD, "b", hash_span(&r->spki)) : 0;
    if (found <= 0)
        return found;
    int64_t account = store_int(row, 0), device = store_int(row, 1);
    store_row_end(row);
    if (named && named != account)
        return 0;
    r->account = account;
    r->device = device;
    return 0;
}

static int find_account(struct store_tx *tx, struct refusal *r, struct err *err) {
    struct account named = {0};
    int rc = 0;
    int found = r->account_name[0] ? account_find(tx, span_str(r->account_name), &named, err) : 0;
    if (found < 0 || (rc = by_held_key(tx, r, found && named.state == ACCOUNT_ACTIVE ? named.row : 0, err)))
        return found < 0 ? found : rc;
    if (!r->account && found)
        r->account = named.row;
    if (!r->account && (rc = account_of_prov_key(tx, r, &r->account, err)))
        return rc;
    return r->account ? 0 : account_of_anchors(tx, r, &r->account, err);
}

/* Who was not refused is the device of the ID that he named: he has its certificate. */
static int device_let_in(struct store_tx *tx, struct refusal *r, struct err *err) {
    struct store_row *row;
    int found = r->code == MUSTER_ESHADOW && !r->device ? first_row(tx, &row, err, SQL_DEVICE_BY_ID, "is", r->account, r->device_id) : 0;
    if (found <= 0)
        return found;
    r->device = store_int(row, 0);
    store_row_end(row);
    return 0;
}

static int place(struct store_tx *tx, struct refusal *r, struct err *err) {
    struct account a;
    struct device d;
    int rc = r->account ? 0 : find_account(tx, r, err);
    if (rc)
        return rc;
    int found = r->account ? account_find_row(tx, r->account, &a, err) : 0;
    if (found < 0)
        return found;
    if (!found || a.state != ACCOUNT_ACTIVE) { /* nobody could look it up there */
        r->account = r->device = 0;
        return 0;
    }
    if ((rc = device_of_key(tx, r, err)) || (rc = device_let_in(tx, r, err)))
        return rc;
    found = r->device ? device_find_row(tx, r->device, &d, err) : 0;
    if (found < 0)
        return found;
    r->device = found && d.account == r->account ? d.row : 0;
    if (r->device) {
        char id[UUID_TEXT_LEN + 1];
        uuid_text(&d.uuid, id);
        snprintf(r->source, sizeof r->source, "%s", id);
        snprintf(r->device_id, sizeof r->device_id, "%s", d.device_id);
    }
    return 0;
}

/* --- writing --------------------------------------------------------------------------------------------------------------------- */

/* A refusal that was not known before, in the transaction that writes it down: what else has to hear of it (webhooks) is told here.  r is
 * placed: r->account 0 is a stranger, r->device 0 nobody who is registered. */
static int refusal_is_new(struct store_tx *tx, const struct refusal *r, struct err *err) {
    struct account a;
    struct device d;
    bool due;
    int found = r->account ? account_find_row(tx, r->account, &a, err) : 0;
    int known = found > 0 && r->device ? device_find_row(tx, r->device, &d, err) : 0;
    if (found < 0 || known < 0)
        return found < 0 ? found : known;
    /* Whoever makes up device IDs is one event an hour. */
    if (r->code == MUSTER_ESHADOW) /* nothing was refused */
        return 0;
    int rc = known ? 0 : event_refused_due(tx, found ? a.row : 0, r->code, &due, err);
    if (rc || (!known && !due))
        return rc;
    json_t *more = json_object();
    if (!known)
        json_set(more, "device", json_null());
    json_set_str(more, "device_id", r->device_id[0] ? r->device_id : NULL);
    json_set_str(more, "code", err_code(r->code));
    json_set_str(more, "reason", r->reason[0] ? r->reason : err_what(r->code));
    json_set_str(more, "address", r->address);
    return known ? event_device(tx, &a, &d, d.state, EVENT_DEVICE_REFUSED, more, err) : event_plain(tx, found ? &a : NULL, EVENT_DEVICE_REFUSED, more, err);
}

/* Whose share of the account's records it is of; a number in rows. */
enum share { SHARE_UNKNOWN = 0, SHARE_KNOWN = 1, SHARE_SHADOW = 2 };
static enum share share_of(const struct refusal *r) { return r->code == MUSTER_ESHADOW ? SHARE_SHADOW : r->device ? SHARE_KNOWN : SHARE_UNKNOWN; }

static int trim(struct store_tx *tx, const struct refusal *r, struct err *err) {
    static const int64_t most[] = {[SHARE_UNKNOWN] = REFUSALS_UNKNOWN, [SHARE_KNOWN] = REFUSALS_KNOWN, [SHARE_SHADOW] = REFUSALS_SHADOW};
    const enum share share = share_of(r);
    int rc = store_exec(tx, NULL, err, SQL_REFUSAL_SHARE, "isi", r->account, r->source, I(REFUSALS_SOURCE));
    return rc ? rc : store_exec(tx, NULL, err, SQL_REFUSAL_TRIM, "iii", r->account, I(share), r->account ? most[share] : REFUSALS_STRANGERS);
}

static int add(struct store_tx *tx, const struct refusal *r, struct err *err) {
    struct span print = r->has_certificate ? hash_span(&r->fingerprint) : SPAN_NONE, spki = r->has_certificate ? hash_span(&r->spki) : SPAN_NONE;
    int rc = store_exec(tx, NULL, err, SQL_REFUSAL_ADD, "uiiiiississsssssssbbsssii", &r->id, r->account, I(share_of(r)), r->first, r->last, r->count, err_code(r->code), r->reason,
                        r->device, r->device_id, r->address, r->source, r->host, r->method, r->path, r->tls, r->agent, r->serial, print, spki, r->subject, r->issuer, r->top_issuer,
                        r->not_before, r->not_after);
    if (!rc && r->chain.n)
        rc = store_exec(tx, NULL, err, SQL_REFUSAL_CHAIN_ADD, "ut", &r->id, buf_span(&r->chain));
    if (!rc)
        rc = trim(tx, r, err);
    return rc ? rc : refusal_is_new(tx, r, err);
}

static int keep(struct store_tx *tx, struct refusal *r, struct err *err) {
    int64_t changed;
    int rc = store_exec(tx, &changed, err, SQL_REFUSAL_AGAIN, "uiisssssss", &r->id, r->last, r->count, r->reason, r->address, r->host, r->method, r->path, r->tls, r->agent);
    if (rc || changed)
        return rc;
    rc = place(tx, r, err);
    return rc ? rc : add(tx, r, err);
}

int refusal_keep_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct refusal_keep *k = arg;
    int rc = 0;
    for (size_t i = 0; i < k->n && !rc; i++)
        rc = keep(tx, k->at[i], err);
    return rc ? rc : store_exec(tx, NULL, err, SQL_REFUSAL_AGE_OUT, "ii", clock_now() - REFUSAL_AGE, I(AGED_A_BATCH));
}
