/* snapshot: see snapshot.h. */
#include "registry/snapshot.h"

#include <stdatomic.h>

#include "base/log.h"
#include "registry/recovery.h"

struct known_account {
    char name[ACCOUNT_NAME_MAX + 1]; /* first: compared as text */
    uint32_t keys;                   /* enum profile_key: kinds that its devices may have */
};

struct snapshot {
    atomic_int refs;
    int64_t epoch;
    struct recovery recovery;
    struct anchor_set *fleet, *unproved, *provisioning;
    struct known_account *accounts; /* sorted */
    size_t n_accounts;
};

static char own_tag, uploaded_tag;

bool snapshot_is_own(const struct anchor *a) { return a->tag == &own_tag; }
void snapshot_ref(struct snapshot *s) { atomic_fetch_add(&s->refs, 1); }
int64_t snapshot_epoch(const struct snapshot *s) { return s->epoch; }
bool snapshot_in_recovery(const struct snapshot *s) { return s->recovery.since != 0; }
const struct anchor_set *snapshot_fleet(const struct snapshot *s) { return s->fleet; }
const struct anchor_set *snapshot_unproved(const struct snapshot *s) { return s->unproved; }
const struct anchor_set *snapshot_provisioning(const struct snapshot *s) { return s->provisioning; }

bool snapshot_is_fleet_key(const struct snapshot *s, const struct hash *spki) {
    for (size_t i = 0; i < anchor_set_size(s->fleet); i++) {
        const struct anchor *a = anchor_set_at(s->fleet, i);
        bool is = hash_eq(&a->cert->key.spki, spki);
        for (size_t k = 0; k < a->n_under && !is; k++)
            is = hash_eq(&a->under[k]->key.spki, spki);
        if (is)
            return true;
    }
    return false;
}

void snapshot_unref(struct snapshot *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    if (s->fleet)
        anchor_set_unref(s->fleet);
    if (s->unproved)
        anchor_set_unref(s->unproved);
    if (s->provisioning)
        anchor_set_unref(s->provisioning);
    free(s->accounts);
    free(s);
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

uint32_t snapshot_account_keys(const struct snapshot *s, struct span name) {
    char text[ACCOUNT_NAME_MAX + 1] = "";
    if (name.n == 0 || name.n > ACCOUNT_NAME_MAX || !s->n_accounts)
        return 0;
    memcpy(text, name.p, name.n);
    const struct known_account *a = bsearch(text, s->accounts, s->n_accounts, sizeof *s->accounts, by_name);
    return a ? a->keys : 0;
}

bool snapshot_has_account(const struct snapshot *s, struct span name) { return snapshot_account_keys(s, name) != 0; }

static int load_accounts(struct store_tx *tx, struct snapshot *s, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    size_t cap = 0;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_PAGE, "ii", I(0), INT64_MAX);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct account a;
        if ((rc = row_account(row, &a, err)))
            return rc;
        if (a.state != ACCOUNT_ACTIVE)
            continue;
        if (s->n_accounts == cap) {
            void *more = realloc(s->accounts, (cap = cap ? cap * 2 : 16) * sizeof *s->accounts);
            if (!more)
                return err_set(err, MUSTER_ENOMEM, NULL);
            s->accounts = more;
        }
        struct known_account *known = &s->accounts[s->n_accounts++];
        struct device_profile whole;
        device_profile_effective(&a.profile, a.device_life, a.profile.life_max, a.device_key == DEVICE_KEY_RSA, NULL, &whole);
        memcpy(known->name, a.name, sizeof a.name);
        known->keys = whole.keys;
    }
    if (s->n_accounts)
        qsort(s->accounts, s->n_accounts, sizeof *s->accounts, by_name);
    return rc;
}

/* CA certificates with the number of their account, in memory while anchors are put together. */
struct one_ca {
    int64_t account;
    struct cert *cert;
};
struct cas {
    struct one_ca *at;
    size_t n, cap;
};

static void cas_fini(struct cas *c) {
    for (size_t i = 0; i < c->n; i++)
        cert_free(c->at[i].cert);
    free(c->at);
}
DEFINE_CLEANUP_FINI(cas_fini, struct cas)

static int keep_ca(struct cas *c, int64_t account, struct cert *cert) {
    if (c->n == c->cap) {
        void *more = realloc(c->at, (c->cap = c->cap ? c->cap * 2 : 16) * sizeof *c->at);
        if (!more) {
            cert_free(cert);
            return MUSTER_ENOMEM;
        }
        c->at = more;
    }
    c->at[c->n++] = (struct one_ca){account, cert};
    return 0;
}

/* A damaged row keeps out those who depend on it, not everybody: *out is NULL then. */
static int read_cert(struct store_row *row, int column, const char *table, struct cert **out, struct err *err) {
    struct err why = ERR_INIT;
    int rc = cert_from_der(store_blob(row, column), out, &why);
    if (rc != MUSTER_ECERTMALFORMED)
        return rc ? err_set(err, rc, NULL) : 0;
    *out = NULL;
    log_err(LOG_ERROR, "registry_damaged", &why, "table", table, NULL);
    return 0;
}

static int load_cas(struct store_tx *tx, struct snapshot *s, struct cas *issuing, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_CA_ALL, "");
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct cert *c = NULL;
        if ((rc = read_cert(row, 2, "ca", &c, err)))
            return rc;
        if (!c)
            continue;
        rc = store_int(row, 1) == CA_PROVISIONING ? anchor_set_add(s->provisioning, c, NULL, 0, NULL) : keep_ca(issuing, store_int(row, 0), c);
        if (rc)
            return err_set(err, rc, NULL);
    }
    return rc;
}

/* The account's issuing CAs, moved out of `issuing`: new references of their own. */
static int under_of(const struct cas *issuing, int64_t account, struct cert ***out, size_t *n) {
    *n = 0;
    *out = NULL;
    for (size_t i = 0; i < issuing->n; i++)
        *n += issuing->at[i].account == account;
    if (!*n)
        return 0;
    struct cert **under = calloc(*n, sizeof *under);
    size_t k = 0;
    for (size_t i = 0; under && i < issuing->n; i++)
        if (issuing->at[i].account == account && cert_from_x509(issuing->at[i].cert->x, &under[k], NULL) == 0)
            k++;
    if (!under || k != *n) {
        for (size_t i = 0; i < k; i++)
            cert_free(under[i]);
        free(under);
        return MUSTER_ENOMEM;
    }
    *out = under;
    return 0;
}

static bool have_anchor(const struct anchor_set *set, const struct hash *fingerprint) {
    for (size_t i = 0; i < anchor_set_size(set); i++)
        if (hash_eq(&anchor_set_at(set, i)->cert->fingerprint, fingerprint))
            return true;
    return false;
}

static int load_roots(struct store_tx *tx, struct snapshot *s, const struct cas *issuing, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ROOT_ALL, "");
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct root r;
        struct cert *c = NULL, **under = NULL;
        size_t n_under = 0;
        if ((rc = row_root(row, &r, err)))
            return rc;
        struct anchor_set *set = r.state == ROOT_UNPROVED ? s->unproved : s->fleet;
        if (have_anchor(set, &r.fingerprint)) /* the same root in another account */
            continue;
        if ((rc = read_cert(row, 8, "root", &c, err)))
            return rc;
        if (!c)
            continue;
        bool own = r.origin == ROOT_MUSTER;
        if (own && under_of(issuing, r.account, &under, &n_under)) {
            cert_free(c);
            return err_set(err, MUSTER_ENOMEM, NULL);
        }
        if ((rc = anchor_set_add(set, c, under, n_under, own ? &own_tag : &uploaded_tag)))
            return err_set(err, rc, NULL);
    }
    return rc;
}

int snapshot_run(struct store_tx *tx, void *arg, struct err *err) {
    struct snapshot_load *l = arg;
    CLEANUP(cas_fini) struct cas issuing = {0};
    CLEANUP(snapshot_unref) struct snapshot *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, MUSTER_ENOMEM, NULL);
    atomic_init(&s->refs, 1);
    s->fleet = anchor_set_new();
    s->unproved = anchor_set_new();
    s->provisioning = anchor_set_new();
    if (!s->fleet || !s->unproved || !s->provisioning)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = meta_get(tx, "epoch", &s->epoch, err);
    if (rc || (rc = recovery_get(tx, &s->recovery, err)) || (rc = load_accounts(tx, s, err)) || (rc = load_cas(tx, s, &issuing, err)) || (rc = load_roots(tx, s, &issuing, err)))
        return rc;
    snapshot_unref(l->out);
    l->out = TAKE(s);
    return 0;
}

int epoch_read_run(struct store_tx *tx, void *arg, struct err *err) {
    struct epoch_read *e = arg;
    return meta_get(tx, "epoch", &e->epoch, err);
}
