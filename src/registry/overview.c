/* overview: see overview.h. */
#include "registry/overview.h"

#include "registry/device_identity.h"
#include "registry/row.h"

#define KEY_SOON (7 * CLOCK_DAY)

const int OVERVIEW_DAYS[WITHIN_COUNT] = {0, 7, 30, 90};

static int load_devices(struct store_tx *tx, int64_t account, struct overview_account *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_DEVICES, "i", account);
    while (!rc && (rc = store_next(row, err)) > 0) {
        int64_t state = store_int(row, 0);
        if (state >= 1 && state <= DEVICE_DELETED)
            o->devices[state] += store_int(row, 1);
        rc = 0;
    }
    return rc;
}

/* Rows come in the order of their making: the first that is older ends it. */
static int load_registered(struct store_tx *tx, int64_t account, int64_t since, struct overview_account *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_DEVICE_NEWEST, "ii", account, I(OVERVIEW_COUNT_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        rc = 0;
        if (store_int(row, 0) < since)
            break;
        o->registered_hour++;
    }
    return rc;
}

static int load_ends(struct store_tx *tx, const struct account *a, int64_t now, struct overview_account *o, struct err *err) {
    int rc = renewable_late(tx, a, now, &o->late, err);
    for (int i = 0; !rc && i < WITHIN_COUNT; i++)
        rc = one_int(tx, &o->ends[i], 0, err, SQL_DEVICE_ENDS, "iii", a->row, now + OVERVIEW_DAYS[i] * CLOCK_DAY, I(OVERVIEW_COUNT_MAX));
    return rc;
}

static void take_key(struct overview_account *o, struct store_row *row, int64_t now) {
    int64_t expires = store_int(row, 1), most = store_int(row, 2), spent = store_int(row, 3);
    if (expires <= now) {
        o->keys[KEY_EXPIRED]++;
    } else if (most && spent >= most) {
        if (!o->keys[KEY_EXHAUSTED]++)
            row_text(row, 0, o->key_exhausted, sizeof o->key_exhausted);
    } else {
        o->keys[KEY_ACTIVE]++;
        if (!o->key_end || expires < o->key_end) {
            o->key_end = expires;
            row_text(row, 0, o->key_ending, sizeof o->key_ending);
        }
        if (expires <= now + KEY_SOON)
            o->keys_ending++;
        if (most && spent >= most - most / 10 && !o->keys_nearly++)
            row_text(row, 0, o->key_nearly, sizeof o->key_nearly);
    }
}

static int load_keys(struct store_tx *tx, int64_t account, int64_t now, struct overview_account *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_KEY_TALLY, "ii", account, I(OVERVIEW_KEYS_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        take_key(o, row, now);
        rc = 0;
    }
    return rc;
}

static int load_roots(struct store_tx *tx, const struct account *a, struct overview_account *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ROOT_TALLY, "i", a->row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        int64_t state = store_int(row, 1), end = store_int(row, 2);
        struct uuid id;
        if ((rc = store_uuid(row, 0, &id)))
            return rc;
        if (state < 1 || state > ROOT_REVOKED)
            continue;
        if (store_int(row, 3) == a->own_root) {
            o->own_root = (enum root_state)state;
            o->own_root_id = id;
            o->own_root_begin = store_int(row, 4) - DEVICE_ISSUED_BACK; /* as the vault dates what it makes */
        }
        if (!o->roots[state]++ && state == ROOT_UNPROVED)
            o->root_unproved = id;
        if ((state == ROOT_ACTIVE || state == ROOT_KNOWN_ONLY) && (!o->root_end || end < o->root_end)) {
            o->root_end = end;
            o->root_ending = id;
        }
    }
    return rc;
}

static int load_root_crls(struct store_tx *tx, int64_t account, struct overview_account *o, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ROOT_CRL_DUE, "i", account);
    if (found <= 0)
        return found;
    o->root_crl_due = store_int(row, 0);
    int rc = store_uuid(row, 1, &o->root_crl_root);
    store_row_end(row);
    return rc;
}

static int load_cas(struct store_tx *tx, int64_t account, struct overview_account *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_CA_ENDS, "i", account);
    while (!rc && (rc = store_next(row, err)) > 0) {
        int64_t kind = store_int(row, 0);
        if (kind >= 1 && kind <= CA_PROVISIONING)
            o->ca_end[kind] = store_int(row, 1);
        rc = 0;
    }
    return rc;
}

static int load_account(struct store_tx *tx, const struct account *a, int64_t now, struct overview_account *o, struct err *err) {
    snprintf(o->name, sizeof o->name, "%s", a->name);
    o->kind = a->kind;
    o->method = a->method;
    int rc = load_devices(tx, a->row, o, err);
    if (!rc)
        rc = load_registered(tx, a->row, now - CLOCK_HOUR, o, err);
    if (!rc)
        rc = load_ends(tx, a, now, o, err);
    if (!rc)
        rc = load_keys(tx, a->row, now, o, err);
    if (!rc)
        rc = load_roots(tx, a, o, err);
    if (!rc)
        rc = load_root_crls(tx, a->row, o, err);
    return rc ? rc : load_cas(tx, a->row, o, err);
}

static int load_accounts(struct store_tx *tx, struct overview *v, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_PAGE, "ii", I(0), INT64_MAX);
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct account a;
        if ((rc = row_account(row, &a, err)))
            return rc;
        if (a.state != ACCOUNT_ACTIVE || (*v->only && strcmp(v->only, a.name) != 0))
            continue;
        v->total++;
        v->kinds[a.kind]++;
        if (v->n < OVERVIEW_ACCOUNTS_MAX && (rc = load_account(tx, &a, v->now, &v->at[v->n++], err)))
            return rc;
    }
    return rc;
}

/* An account that is not there has no refusals, least of all the server's. */
static int load_refused(struct store_tx *tx, struct overview *v, struct err *err) {
    struct account a;
    v->refused.since = v->now - OVERVIEW_REFUSED;
    v->refused.all = true;
    if (!*v->only)
        return refusal_tally_read(tx, REFUSAL_TALLY_SERVER, &v->refused, err);
    int found = account_find(tx, span_str(v->only), &a, err);
    if (found <= 0)
        return found;
    return a.state == ACCOUNT_ACTIVE ? refusal_tally_read(tx, a.row, &v->refused, err) : 0;
}

int overview_run(struct store_tx *tx, void *arg, struct err *err) {
    struct overview *v = arg;
    int64_t newest;
    v->at = calloc(*v->only ? 1 : OVERVIEW_ACCOUNTS_MAX, sizeof *v->at);
    if (!v->at)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = meta_get(tx, "newest", &newest, err);
    v->clock_behind = newest > v->now ? newest - v->now : 0;
    if (!rc)
        rc = clock_set_get(tx, &v->clock_set, err);
    if (!rc)
        rc = recovery_get(tx, &v->recovery, err);
    if (!rc)
        rc = load_accounts(tx, v, err);
    return rc || !v->with_refused ? rc : load_refused(tx, v, err);
}
