/* audit_state: see audit_state.h.  Here are the steps and the account's own rows; devices, certificates and invitations are audit_rows.c's. */
#include "registry/audit_state_work.h"
#include "registry/line.h"
#include "registry/root_crl.h"

#include "base/hex.h"
#include "pki/crl_make.h"

#define DEVICES_A_STEP 2000
#define CERTS_A_STEP 500 /* row numbers: each costs a signature check */
#define KEYS_A_PAGE 500

void audit_state_bad(struct audit_state *s, const char *fmt, ...) {
    char why[sizeof s->verify.reason];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    audit_verify_bad(&s->verify, 0, "%s", why);
}

/* --- the account ------------------------------------------------------------------------------------------------------------------- */

static int check_settings(struct audit_state *s, const struct account *a) {
    const struct audit_replay *r = &s->work->replay;
    if (s->work->unknown && a->state != ACCOUNT_DELETED)
        audit_state_bad(s, "The vault does not know the account.");
    else if (!r->created || a->kind != r->kind || a->method != r->method || a->reprovision != r->reprovision || a->approval != r->approval || a->expected_only != r->expected_only ||
        a->device_key != r->device_key || a->device_life != r->device_life || a->lost_answer_window != r->lost_answer_window || a->issue_ceiling != r->issue_ceiling ||
        a->renewal_window != r->renewal_window || a->late_renewal != r->late_renewal || a->superseded_renewal != r->superseded_renewal || a->server_keygen != r->server_keygen || a->csr_queue != r->csr_queue ||
        a->hook != r->hook || (int)a->backend != r->backend || !device_profile_eq(&a->profile, &r->profile) || !device_profile_eq(&a->shadow, &r->shadow) || strcmp(a->tried, r->tried) != 0 ||
        a->state != (r->deleted ? ACCOUNT_DELETED : ACCOUNT_ACTIVE))
        audit_state_bad(s, "The settings of the account are not those that the log says.");
    return 0;
}

/* A fleet root that the vault has, or had before it was rotated. */
static bool is_vault_s(const struct audit_state_work *w, const struct hash *fingerprint) {
    for (size_t i = 0; i < w->n_roots; i++)
        if (hash_eq(fingerprint, &w->roots[i]->fingerprint))
            return true;
    return false;
}

static bool vault_s_root_signed(const struct audit_state_work *w, const struct cert *c) {
    for (size_t i = 0; i < w->n_roots; i++)
        if (cert_signed_by(c, w->roots[i]))
            return true;
    return false;
}

static void check_root(struct audit_state *s, const struct root *row, const struct cert *c) {
    struct audit_state_work *w = s->work;
    const struct audit_root *r = audit_replay_root(&w->replay, &row->uuid);
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&row->uuid, id);
    if (!hash_eq(&row->fingerprint, &c->fingerprint) || !hash_eq(&row->spki, &c->key.spki) || row->not_after != c->not_after)
        audit_state_bad(s, "The fleet root %s is not the certificate that its row says.", id);
    else if (row->origin == ROOT_MUSTER && !is_vault_s(w, &row->fingerprint))
        audit_state_bad(s, "The fleet root %s is said to be the vault's, and the vault has another one, or none.", id);
    else if (row->origin == ROOT_MUSTER && row->state != (r ? r->state : ROOT_ACTIVE))
        audit_state_bad(s, "The fleet root %s is %s, and the log says otherwise.", id, word_of(&WORDS_ROOT_STATE, row->state));
    else if (row->origin != ROOT_MUSTER && (!r || !r->uploaded))
        audit_state_bad(s, "The fleet root %s was never uploaded.", id);
    else if (row->origin != ROOT_MUSTER && !hash_eq(&row->fingerprint, &r->fingerprint))
        audit_state_bad(s, "The fleet root %s is another certificate than the log says.", id);
    else if (row->origin != ROOT_MUSTER && row->state != r->state)
        audit_state_bad(s, "The fleet root %s is %s, and the log says otherwise.", id, word_of(&WORDS_ROOT_STATE, row->state));
    else if (row->state == ROOT_DISABLED && r && row->state_before != r->before)
        audit_state_bad(s, "The fleet root %s was %s before, and the log says otherwise.", id, word_of(&WORDS_ROOT_STATE, row->state_before));
    else if (row->origin == ROOT_MUSTER && (row->id_rule != ID_RULE_CN || row->key_rule != KEY_RULE_REFUSE || row->expired != EXPIRED_REFUSE || row->tried[0]))
        audit_state_bad(s, "The rules of the fleet root %s are not those of Muster's own.", id);
    else if (row->origin != ROOT_MUSTER && r->rules && (row->id_rule != r->id_rule || row->key_rule != r->key_rule || row->expired != r->expired || strcmp(row->tried, r->tried) != 0))
        audit_state_bad(s, "The rules of the fleet root %s are not those that the log says.", id);
}

static int check_roots(struct store_tx *tx, struct audit_state *s, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    size_t uploaded = 0, there = 0, own = 0;
    for (size_t i = 0; i < s->work->replay.n_roots; i++)
        uploaded += s->work->replay.roots[i].uploaded && s->work->replay.roots[i].state != ROOT_UNPROVED; /* one that was not proved may have been uploaded again */
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", s->verify.chain, I(0), I(ROOTS_MAX * 2));
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        struct root r;
        if ((rc = row_root(row, &r, err)))
            return rc;
        if (cert_from_der(store_blob(row, 8), &c, NULL))
            audit_state_bad(s, "A fleet root is no certificate.");
        else
            check_root(s, &r, c);
        own += r.origin == ROOT_MUSTER;
        there += r.origin == ROOT_UPLOADED && r.state != ROOT_UNPROVED;
        rc = 0;
    }
    if (rc >= 0 && there != uploaded)
        audit_state_bad(s, "The log says of %zu fleet roots that were proved, and the account has %zu.", uploaded, there);
    if (rc >= 0 && s->work->replay.had_cas && own != 1 + s->work->replay.rotated)
        audit_state_bad(s, "The account does not have the fleet root that Muster made for it.");
    return rc < 0 ? rc : 0;
}

static void check_key(struct audit_state *s, const struct prov_key *row, struct span spki) {
    struct audit_replay *r = &s->work->replay;
    const struct audit_prov_key *k = audit_replay_key(r, &row->uuid);
    if (!k)
        audit_state_bad(s, "The provisioning key \"%s\" was never made.", row->name);
    else if (strcmp(k->name, row->name) != 0 || k->expires != row->expires || k->max_devices != row->max_devices || k->per_hour != row->per_hour ||
             k->rest != audit_replay_rest(r, &(struct audit_key_rest){row->id_pattern, row->sources, row->build, row->tried, &row->profile, &row->shadow}) || (k->printed && !hash_eq(&k->fingerprint, &row->fingerprint)) ||
             (k->spki_known && (!span_eq(hash_span(&k->spki), spki) || k->certificate_not_after != row->certificate_not_after)))
        audit_state_bad(s, "The provisioning key \"%s\" is not as the log says.", row->name);
    else if (k->blacklisted != (row->state == KEY_BLACKLISTED))
        audit_state_bad(s, "The provisioning key \"%s\" is %s, and the log says otherwise.", row->name, word_of(&WORDS_KEY_STATE, row->state));
    else if (k->spent != row->spent)
        audit_state_bad(s, "The provisioning key \"%s\" has spent %lld enrolments, and the log has %lld.", row->name, (long long)row->spent, (long long)k->spent);
}

static int check_line(struct store_tx *tx, struct audit_state *s, const struct line *row, struct err *err) {
    struct audit_line *l = audit_replay_line(&s->work->replay, &row->uuid);
    if (!l)
        audit_state_bad(s, "The factory line \"%s\" was never made.", row->name);
    else if (strcmp(l->name, row->name) || strcmp(l->id_pattern, row->id_pattern) || !hash_eq(&l->spki, &row->spki) || l->begins != row->begins || l->expires != row->expires ||
             l->max_devices != row->max_devices || l->state != (int)row->state)
        audit_state_bad(s, "The factory line \"%s\" is not as the log says.", row->name);
    else if (l->spent != row->spent || l->held != row->held)
        audit_state_bad(s, "The factory line \"%s\" has brought in %lld devices and %lld that are held, and the log has %lld and %lld.", row->name, (long long)row->spent, (long long)row->held,
                        (long long)l->spent, (long long)l->held);
    return l && !s->verify.bad ? audit_rows_told(tx, s, row->row, l, err) : 0;
}

static int check_lines(struct store_tx *tx, struct audit_state *s, struct err *err) {
    int64_t last = 0, page = KEYS_A_PAGE;
    size_t n = 0;
    while (page == KEYS_A_PAGE) {
        CLEANUP(store_row_end) struct store_row *row = NULL;
        int rc = store_query(tx, &row, err, SQL_LINE_PAGE, "iii", s->verify.chain, last, I(KEYS_A_PAGE));
        if (rc)
            return rc;
        for (page = 0; (rc = store_next(row, err)) > 0; page++, n++) {
            struct line l;
            if ((rc = row_line(row, &l, err)) || (rc = check_line(tx, s, &l, err)))
                return rc;
            last = l.row;
        }
        if (rc < 0)
            return rc;
    }
    if (n != s->work->replay.n_lines)
        audit_state_bad(s, "The log says of %zu factory lines, and the account has %zu.", s->work->replay.n_lines, n);
    return 0;
}

static int check_key_with_spki(struct store_tx *tx, struct audit_state *s, const struct prov_key *k, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = first_row(tx, &row, err, SQL_STATE_KEY_SPKI, "i", k->row);
    if (found > 0)
        check_key(s, k, store_blob(row, 0));
    return found < 0 ? found : 0;
}

static int check_keys(struct store_tx *tx, struct audit_state *s, struct err *err) {
    int64_t last = 0, page = KEYS_A_PAGE;
    size_t n = 0;
    while (page == KEYS_A_PAGE) {
        CLEANUP(store_row_end) struct store_row *row = NULL;
        int rc = store_query(tx, &row, err, SQL_KEY_PAGE, "iii", s->verify.chain, last, I(KEYS_A_PAGE));
        if (rc)
            return rc;
        for (page = 0; (rc = store_next(row, err)) > 0; page++, n++) {
            struct prov_key k;
            if ((rc = row_key(row, &k, err)))
                return rc;
            last = k.row;
            if ((rc = check_key_with_spki(tx, s, &k, err)))
                return rc;
        }
        if (rc < 0)
            return rc;
    }
    if (n != s->work->replay.n_keys)
        audit_state_bad(s, "The log says of %zu provisioning keys, and the account has %zu.", s->work->replay.n_keys, n);
    return 0;
}

/* Whose certificates are by their issuer's row stand on its list. */
static bool key_id_fits(struct store_row *row, const struct cert *c) {
    uint8_t id[CRL_KEY_ID_LEN];
    return crl_key_id(c, id) && span_eq(store_blob(row, 4), span_of(id, sizeof id));
}

/* Of that key; NULL: the vault has none. */
static const struct cert *provisioning_of(const struct audit_state_work *w, struct span spki) {
    for (size_t i = 0; i < w->n_provisioning; i++)
        if (span_eq(spki, hash_span(&w->provisioning[i]->key.spki)))
            return w->provisioning[i];
    return NULL;
}

/* Issuing CAs that are older than the vault's own are known by the fleet root's signature. */
static int check_cas(struct store_tx *tx, struct audit_state *s, struct err *err) {
    struct audit_state_work *w = s->work;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_STATE_CAS, "i", s->verify.chain);
    if (rc)
        return rc;
    while (w->n_issuing > 1)
        cert_free(TAKE(w->issuing[--w->n_issuing])); /* TAKE looks there once */
    while ((rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        bool issuing = store_int(row, 0) == CA_ISSUING;
        const struct cert *own = issuing ? w->issuing[0] : provisioning_of(w, store_blob(row, 1));
        if (cert_from_der(store_blob(row, 2), &c, NULL) || !own || !span_eq(store_blob(row, 1), hash_span(&c->key.spki)) || store_int(row, 3) != c->not_after || !key_id_fits(row, c) ||
            (!hash_eq(&own->fingerprint, &c->fingerprint) && !(issuing && c->ca && vault_s_root_signed(w, c)))) {
            audit_state_bad(s, "One of the account's CAs is not the vault's.");
            return 0;
        }
        if (issuing && !hash_eq(&own->fingerprint, &c->fingerprint) && w->n_issuing < AUDIT_ISSUING_MAX)
            w->issuing[w->n_issuing++] = TAKE(c);
    }
    return rc;
}

static int check_expected(struct store_tx *tx, struct audit_state *s, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct audit_sum sum = {{0}};
    if (!s->work->replay.summed)
        return 0;
    int rc = store_query(tx, &row, err, SQL_STATE_EXPECTED, "i", s->verify.chain);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0)
        audit_sum_add(&sum, s->verify.chain, store_text(row, 0), store_blob(row, 1), false);
    if (rc == 0 && !audit_sum_eq(&sum, &s->work->replay.expected))
        audit_state_bad(s, "The announced devices are not those that operators announced.");
    return rc;
}

/* By whose signature a certificate counts as listed. */
static int check_lists(struct store_tx *tx, struct audit_state *s, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_STATE_LISTS, "i", s->verify.chain);
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        rc = 0;
        if (cert_from_der(store_blob(row, 1), &c, NULL) || !span_eq(store_blob(row, 0), hash_span(&c->key.spki)))
            audit_state_bad(s, "The CA of an imported revocation list is not the one that signed it.");
    }
    return rc;
}

/* Who stands on an imported revocation list is refused: nobody may take an entry off, or put one on. */
static int check_listed(struct store_tx *tx, struct audit_state *s, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct audit_sum sum = {{0}};
    if (s->work->replay.unlisted)
        return 0;
    int rc = store_query(tx, &row, err, SQL_STATE_LISTED, "i", s->verify.chain);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0)
        root_crl_sum(&sum, s->verify.chain, store_blob(row, 0), store_blob(row, 1), store_int(row, 2));
    if (rc == 0 && !audit_sum_eq(&sum, &s->work->replay.listed))
        audit_state_bad(s, "The revocation lists of fleet CAs are not those that operators imported.");
    return rc;
}

static int check_account(struct store_tx *tx, struct audit_state *s, struct err *err) {
    struct account a;
    int found = account_find_row(tx, s->verify.chain, &a, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ENOTFOUND, NULL);
    int rc = check_settings(s, &a);
    s->work->deleted = a.state == ACCOUNT_DELETED; /* the vault has forgotten its CAs, and nobody gets in */
    char odd[160];
    if (!rc && (rc = registry_schema_odd(tx, odd, sizeof odd, err)) > 0) {
        audit_state_bad(s, "The registry %s.", odd);
        rc = 0;
    }
    if (rc || s->verify.bad || s->work->deleted || (rc = check_cas(tx, s, err)) || (rc = check_roots(tx, s, err)) || (rc = check_keys(tx, s, err)) || (rc = check_lines(tx, s, err)))
        return rc;
    if ((rc = check_expected(tx, s, err)) || (rc = check_lists(tx, s, err)))
        return rc;
    return check_listed(tx, s, err);
}

/* --- steps --------------------------------------------------------------------------------------------------------------------------- */

/* From the beginning, for that part; the heads were met in the first one. */
static void begin_part(struct audit_state *s, uint64_t part, uint64_t parts) {
    struct audit_state_work *w = s->work;
    struct audit_verify *v = &s->verify;
    w->part = part;
    w->parts = parts;
    w->last_device = w->last_cert = w->last_invitation = 0;
    w->account_checked = part > 0;
    w->replay.first_part = part == 0;
    audit_devices_begin(w->replay.devices, part, parts);
    audit_replay_begin(&w->replay);
    v->seq = 0;
    v->hash = (struct hash){{0}};
    v->more = true;
}

/* To the end of the log as this transaction sees it: true; false: there is more to walk. */
static int follow(struct store_tx *tx, struct audit_state *s, bool *at_end, struct err *err) {
    struct audit_verify *v = &s->verify;
    v->more = true;
    int rc = audit_verify_run(tx, v, err);
    *at_end = !v->more;
    s->wants_points = v->more && v->until && v->seq == v->until;
    return rc;
}

static int check_rows(struct store_tx *tx, struct audit_state *s, struct err *err) {
    struct audit_state_work *w = s->work;
    int64_t end;
    int rc = w->account_checked ? w->deleted ? 0 : check_cas(tx, s, err) : check_account(tx, s, err); /* an issuing CA may be new since the last step */
    w->account_checked = true;
    if (w->deleted)
        s->more = false;
    if (rc || s->verify.bad || w->deleted || (rc = audit_rows_devices(tx, s, DEVICES_A_STEP, err)) || w->devices_left || s->verify.bad)
        return rc;
    if ((rc = audit_rows_invitations(tx, s, DEVICES_A_STEP, err)) || w->invitations_left || s->verify.bad)
        return rc;
    if ((rc = one_int(tx, &end, 0, err, SQL_STATE_CERTS_END, "")))
        return rc;
    s->certs_all = end;
    int64_t until = w->last_cert + CERTS_A_STEP < end ? w->last_cert + CERTS_A_STEP : end;
    if (until > w->last_cert && (rc = audit_rows_certs(tx, s, until, err)))
        return rc;
    if (until < end || s->verify.bad)
        return 0;
    s->more = false;
    return audit_rows_complete(tx, s, err);
}

static int measure(struct store_tx *tx, struct audit_state *s, struct err *err) {
    struct audit_head head;
    int rc = audit_head_get(tx, s->verify.chain, &head, NULL);
    s->entries_all = rc ? 0 : head.seq; /* a damaged one is found at the end */
    return one_int(tx, &s->devices_all, 0, err, SQL_STATE_DEVICES_N, "i", s->verify.chain);
}

int audit_state_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_state *s = arg;
    struct audit_state_work *w = s->work;
    bool at_end;
    s->wants_points = false;
    int rc = measure(tx, s, err);
    if (rc || (rc = follow(tx, s, &at_end, err)))
        return rc;
    if (w->replay.full) { /* more devices than the table takes */
        if (w->parts >= AUDIT_PARTS_MAX)
            return err_set(err, MUSTER_ENOMEM, NULL);
        s->devices = s->certificates = 0;
        begin_part(s, 0, 2 * w->parts);
        s->verify.met = s->verify.met_fixed = s->verify.n_points = s->verify.n_fixed = 0;
        s->verify.until = 0;
        s->wants_points = true; /* all of them once more: those behind this place were not met yet */
        return 0;
    }
    if (s->verify.bad || !at_end) {
        s->more = !s->verify.bad;
        return 0;
    }
    if ((rc = check_rows(tx, s, err)))
        return rc;
    if (s->verify.bad)
        s->more = false;
    if (!s->more && !s->verify.bad && w->part + 1 < w->parts) {
        begin_part(s, w->part + 1, w->parts);
        s->verify.n_points = s->verify.met = s->verify.n_fixed = s->verify.met_fixed = 0;
        s->more = true;
    }
    return 0;
}

static int take_ca(struct span der, struct cert **out, struct err *err) { return der.n ? cert_from_der(der, out, err) : 0; }

/* The current one, and the former ones behind it. */
static int take_cas(struct span current, struct span former, struct cert *out[AUDIT_ROOTS_MAX], size_t *n, struct err *err) {
    int rc = take_ca(current, &out[0], err);
    *n = out[0] != NULL;
    while (!rc && former.n && *n < AUDIT_ROOTS_MAX)
        if (!(rc = cert_from_der_next(&former, &out[*n], err)))
            ++*n;
    return rc;
}

int audit_state_init(struct audit_state *s, int64_t chain, const char *name, const struct audit_state_cas *cas, struct err *err) {
    struct audit_state_work *w = s->work = calloc(1, sizeof *w);
    if (!w || !(w->replay.devices = audit_devices_new(s->places ? s->places : AUDIT_DEVICES_MAX)))
        return err_set(err, MUSTER_ENOMEM, NULL);
    w->replay.invited.places_max = s->places ? s->places : AUDIT_DEVICES_MAX;
    snprintf(w->name, sizeof w->name, "%s", name);
    w->replay.name = w->name;
    w->replay.verify = &s->verify;
    s->verify.chain = chain;
    s->verify.each = audit_replay_entry;
    s->verify.each_arg = &w->replay;
    s->more = true;
    begin_part(s, 0, 1);
    int rc = take_cas(cas->fleet_root, cas->former, w->roots, &w->n_roots, err);
    if (rc || (rc = take_cas(cas->provisioning_ca, cas->former_provisioning, w->provisioning, &w->n_provisioning, err)) || (rc = take_ca(cas->issuing_ca, &w->issuing[0], err)))
        return rc;
    w->n_issuing = w->issuing[0] != NULL;
    w->unknown = cas->unknown;
    return 0;
}

void audit_state_sealed_from(struct audit_state *s, int64_t unsealed) {
    if (s->work)
        s->work->replay.unsealed = unsealed;
}

void audit_state_fini(struct audit_state *s) {
    struct audit_state_work *w = TAKE(s->work);
    if (!w)
        return;
    audit_replay_fini(&w->replay);
    for (size_t i = 0; i < w->n_roots; i++)
        cert_free(w->roots[i]);
    for (size_t i = 0; i < w->n_provisioning; i++)
        cert_free(w->provisioning[i]);
    for (size_t i = 0; i < AUDIT_ISSUING_MAX; i++)
        cert_free(w->issuing[i]);
    free(w);
}
