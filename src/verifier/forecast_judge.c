/* forecast_judge: asks the gateway's own functions as of times to come; see forecast.h. */
#include "registry/profile.h"
#include "registry/renew.h"
#include "verifier/forecast_part.h"
#include "verifier/verifier.h"

#define SAMPLE_AMONG 1000 /* of the account's newest certificates, one that lives */
#define CHANGES_MAX 32    /* of one chain's verdict */

DEFINE_CLEANUP(sk_X509_free, STACK_OF(X509) *)

static const struct enrol_reserved nothing_reserved;

/* What the registry refuses whoever comes this way for, and not this one device. */
static bool is_of_all(int code) {
    static const int codes[] = {MUSTER_EOTHERACCOUNT, MUSTER_ECERTUNTRUSTED, MUSTER_EDELETED, MUSTER_EROOTUNPROVED, MUSTER_EROOTDISABLED, MUSTER_EROOTRETIRED, MUSTER_EROOTREVOKED, MUSTER_EMETHODOFF,
                                MUSTER_ECERTEXPIRED};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i] == code)
            return true;
    return false;
}

/* The verdict as of `at`: *code 0: let in, as far as it is not about the one device. */
static int ask(struct store_tx *tx, const struct forecast *f, struct identity *id, int64_t at, int *code, struct err *err) {
    identity_judge_at(id, f->snapshot, at);
    *code = id->chain.code;
    if (*code)
        return 0;
    identity_admission(id, &nothing_reserved, &id->admit);
    int rc = admit_run(tx, &id->admit, err);
    const bool elsewhere = id->admit.account_row && id->admit.account_row != f->account.row; /* that holds the key: its word is about that one device */
    if (!rc && !elsewhere && is_of_all(id->admit.verdict.code))
        *code = id->admit.verdict.code;
    id->admit.reserved = NULL;
    return rc;
}

static int identity_for(const struct cert *leaf, struct cert *const *cas, size_t n, struct identity **out, struct err *err) {
    CLEANUP(sk_X509_free) STACK_OF(X509) *chain = sk_X509_new_null();
    if (!chain)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < n; i++)
        if (sk_X509_push(chain, cas[i]->x) <= 0)
            return err_set(err, MUSTER_ENOMEM, NULL);
    *out = identity_of(leaf->x, chain, "", "");
    if (!*out)
        return err_set(err, MUSTER_ENOMEM, NULL);
    return (*out)->leaf ? 0 : err_set(err, MUSTER_ECORRUPT, "A certificate that is kept cannot be judged: %s", err_text(&(*out)->chain));
}

/* From one change of the verdict to the next, until the leaf itself has ended: `end` where it is over before. */
static int follow(struct store_tx *tx, struct forecast *f, struct identity *id, struct forecast_class *c, struct err *err) {
    const int64_t leaf_end = id->leaf->not_after;
    int64_t at = f->from;
    int code;
    c->end = INT64_MAX;
    c->leaf_code = MUSTER_ECERTEXPIRED;
    int rc = ask(tx, f, id, at, &code, err);
    c->out = code != 0;
    for (int i = 0; !rc && !code && i < CHANGES_MAX; i++) {
        at = id->chain_until > at ? id->chain_until : at + 1;
        if (at > f->to)
            return 0;
        if ((rc = ask(tx, f, id, at, &code, err)) || !code)
            continue;
        c->code = code;
        if (at < leaf_end)
            c->end = at;
        else
            c->leaf_code = code;
    }
    return rc;
}

static void name_ca(const struct cert *c, char out[256]) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
    cert_subject_text(c, &text);
    snprintf(out, 256, "%s", buf_str(&text));
}

/* --- devices with certificates of Muster's own ------------------------------------------------------------------------------------- */

/* Whether the account renews, by the rule that would be asked a moment before the end of a certificate: for a new key of the kind that the account
 * takes, since a device that was enrolled under another setting may make one. */
static bool may_renew(const struct forecast *f, struct identity *id) {
    struct device_profile profile;
    profile_of(&f->account, NULL, &profile);
    const struct key_facts own = profile.keys & PROFILE_KEY_P256      ? (struct key_facts){.kind = KEY_P256, .bits = 256}
                                 : profile.keys & PROFILE_KEY_P384    ? (struct key_facts){.kind = KEY_P384, .bits = 384}
                                 : profile.keys & PROFILE_KEY_P521    ? (struct key_facts){.kind = KEY_P521, .bits = 521}
                                 : profile.keys & PROFILE_KEY_ED25519 ? (struct key_facts){.kind = KEY_ED25519, .bits = 256}
                                                                      : (struct key_facts){.kind = KEY_RSA, .bits = profile.keys & PROFILE_KEY_RSA2048 ? 2048 : profile.keys & PROFILE_KEY_RSA3072 ? 3072 : 4096};
    const struct device device = {.account = f->account.row, .state = DEVICE_ACTIVE, .has_certificate = true, .certificate_not_after = f->from + CLOCK_DAY};
    const struct renew_facts facts = {.now = f->from + CLOCK_DAY - 1, .account = &f->account, .device = &device, .live = true, .own = &own, .own_is = OWN_KEY_FREE};
    const struct verdict_request rq = {.kind = REQUEST_RENEW, .host_account = "", .path_account = "", .recovery = snapshot_in_recovery(f->snapshot)};
    struct renew_verdict v;
    struct err why;
    id->admit.verdict = ERR_INIT; /* whatever became of the one device */
    if (verdict_of(id, true, &rq, &why) != VERDICT_ADMITTED)
        return false;
    renew_decide(&facts, &v);
    return v.how == RENEW_NEW;
}

int forecast_own_renews(struct store_tx *tx, struct forecast *f, int64_t device, int64_t waiting, struct err *err) {
    CLEANUP(cert_free) struct cert *leaf = NULL;
    CLEANUP(identity_unref) struct identity *id = NULL;
    struct store_row *row;
    int code, found = waiting ? first_row(tx, &row, err, SQL_FORECAST_WAITING, "i", waiting) : first_row(tx, &row, err, SQL_FORECAST_CURRENT, "i", device);
    if (found <= 0)
        return found;
    int rc = cert_from_der(store_blob(row, 0), &leaf, err);
    store_row_end(row);
    if (rc || (rc = identity_for(leaf, NULL, 0, &id, err)) || (rc = ask(tx, f, id, f->from, &code, err)))
        return rc;
    f->renews = !code && may_renew(f, id);
    return 0;
}

static int load_cas(struct store_tx *tx, struct forecast *f, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t object = 0;
    int rc = store_query(tx, &row, err, SQL_STATE_CAS, "i", f->account.row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        rc = 0;
        object++;
        if (store_int(row, 0) != CA_ISSUING || f->n_cas == FORECAST_CAS_MAX)
            continue;
        if ((rc = cert_from_der(store_blob(row, 2), &c, err))) {
            if ((rc = forecast_skip(f, rc, err)))
                return rc;
            continue;
        }
        struct forecast_ca *to = &f->cas[f->n_cas++];
        *to = (struct forecast_ca){.kind = FORECAST_ISSUING, .end = c->not_after, .object = object};
        name_ca(c, to->subject);
    }
    return rc;
}

int forecast_root_classes(struct store_tx *tx, struct forecast *f, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    f->own_end = 0;
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", f->account.row, I(0), I(ROOTS_MAX + 1));
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct root r;
        if ((rc = row_root(row, &r, err))) {
            if ((rc = forecast_skip(f, rc, err)))
                return rc;
            continue;
        }
        const bool in_use = r.state == ROOT_ACTIVE || r.state == ROOT_KNOWN_ONLY;
        if (r.origin == ROOT_MUSTER && f->n_cas < FORECAST_CAS_MAX) {
            struct forecast_ca *to = &f->cas[f->n_cas++];
            *to = (struct forecast_ca){.kind = FORECAST_ROOT, .end = r.not_after, .object = r.row, .id = r.uuid};
            snprintf(to->subject, sizeof to->subject, "%s", r.subject);
            if (r.state == ROOT_ACTIVE && r.not_after > f->own_end)
                f->own_end = r.not_after;
        } else if (r.origin == ROOT_UPLOADED && f->n_classes < FORECAST_CLASSES_MAX) {
            /* Of devices that have not shown yet what stands between: the root's own end. */
            struct forecast_class *c = &f->classes[f->n_classes++];
            *c = (struct forecast_class){.root = r.row, .out = !in_use || !(f->account.method & METHOD_DEVICE) || (r.expired != EXPIRED_KNOWN && r.not_after <= f->from), .end = r.expired == EXPIRED_KNOWN ? INT64_MAX : r.not_after, .kind = FORECAST_ROOT,
                                         .object = r.row, .id = r.uuid, .code = MUSTER_ECERTEXPIRED, .leaf_code = MUSTER_ECERTEXPIRED};
            snprintf(c->subject, sizeof c->subject, "%s", r.subject);
        }
    }
    return rc < 0 ? rc : load_cas(tx, f, err);
}

/* Of the account's certificates that live the one that ends last, among the newest; where none is in use, of those that wait for it.  NULL: there is none. */
static int own_sample(struct store_tx *tx, const struct forecast *f, struct cert **out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(cert_free) struct cert *waiting = NULL;
    int rc = store_query(tx, &row, err, SQL_FORECAST_SAMPLES, "ii", f->account.row, I(SAMPLE_AMONG));
    while (!rc && (rc = store_next(row, err)) > 0) {
        if (store_int(row, 1) == CERT_CURRENT && !store_int(row, 2))
            return cert_from_der(store_blob(row, 0), out, err);
        rc = store_int(row, 1) == CERT_ISSUED && !waiting ? cert_from_der(store_blob(row, 0), &waiting, err) : 0;
    }
    *out = rc ? NULL : TAKE(waiting);
    return rc;
}

int forecast_own_class(struct store_tx *tx, struct forecast *f, struct err *err) {
    CLEANUP(cert_free) struct cert *leaf = NULL;
    CLEANUP(identity_unref) struct identity *id = NULL;
    struct forecast_class *c = &f->classes[f->n_classes++];
    *c = (struct forecast_class){.own = true, .out = !(f->account.method & METHOD_SHARED), .end = INT64_MAX, .leaf_code = MUSTER_ECERTEXPIRED};
    f->renews = false;
    f->asked_renews = 0;
    int rc = own_sample(tx, f, &leaf, err);
    if (rc || !leaf || (rc = identity_for(leaf, NULL, 0, &id, err)) || (rc = follow(tx, f, id, c, err)))
        return rc;
    if (c->end < INT64_MAX) { /* no leaf outlives its CA, so this is one that somebody put there */
        c->kind = FORECAST_ISSUING;
        snprintf(c->subject, sizeof c->subject, "%s", "an issuing CA");
    }
    return 0;
}

/* --- devices under uploaded roots -------------------------------------------------------------------------------------------------- */

/* What of it has ended by then: the root, or the first CA below it that has. */
static int blame(struct store_tx *tx, struct forecast_class *c, const struct device_chain *chain, struct err *err) {
    struct root r;
    int found = root_find_row(tx, chain->root, &r, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A chain belongs to no fleet root.");
    c->kind = FORECAST_ROOT;
    c->object = r.row;
    c->id = r.uuid;
    snprintf(c->subject, sizeof c->subject, "%s", r.subject);
    for (size_t i = 0; r.not_after > c->end && i < chain->n; i++)
        if (chain->cas[i]->not_after <= c->end) {
            c->kind = FORECAST_INTERMEDIATE;
            c->object = chain->row;
            name_ca(chain->cas[i], c->subject);
            break;
        }
    return 0;
}

/* Whether nobody comes in under the root now, whatever was said of the one device. */
static bool root_is_out(const struct forecast *f, int64_t root) {
    for (size_t i = 0; i < f->n_classes; i++)
        if (f->classes[i].root == root && !f->classes[i].chain)
            return f->classes[i].out;
    return false;
}

static bool is_own_root(const struct forecast *f, int64_t root) {
    for (size_t i = 0; i < f->n_cas; i++)
        if (f->cas[i].kind == FORECAST_ROOT && f->cas[i].object == root)
            return true;
    return false;
}

int forecast_chain_class(struct store_tx *tx, struct forecast *f, const struct device_chain *chain, struct err *err) {
    CLEANUP(identity_unref) struct identity *id = NULL;
    int code;
    if (f->n_classes == FORECAST_CLASSES_MAX)
        return 0;
    struct forecast_class *c = &f->classes[f->n_classes++];
    *c = (struct forecast_class){.root = chain->root, .chain = chain->row};
    int rc = identity_for(chain->leaf, chain->cas, chain->n, &id, err);
    if (!rc)
        rc = follow(tx, f, id, c, err);
    c->out = c->out || root_is_out(f, chain->root);
    if (!rc && !c->out && is_own_root(f, chain->root) && !(rc = ask(tx, f, id, f->from, &code, err)))
        c->renews = !code && may_renew(f, id);
    if (!rc && c->end != INT64_MAX)
        rc = blame(tx, c, chain, err);
    f->n_classes -= rc != 0; /* its devices are judged by the root alone */
    return rc;
}

/* --- provisioning keys ------------------------------------------------------------------------------------------------------------- */

static int ask_key(struct store_tx *tx, const struct prov_key *k, int64_t at, int *code, struct err *err) {
    struct enrol e = {.key_spki = k->spki, .device_id = SPAN_LIT(""), .address = "", .account = "", .reserved = &nothing_reserved, .at = at,
                      .leave_out = ENROL_ANY_ID | ENROL_ANY_ADDRESS};
    int rc = enrol_run(tx, &e, err);
    *code = e.verdict.how == ENROL_REFUSED ? e.verdict.err.code : 0;
    return rc;
}

/* A key at one of its bounds goes on when the hour is over or the bound is raised: it still ends. */
static bool is_over(int code) {
    return code == MUSTER_EKEYEXPIRED || code == MUSTER_EKEYBLACKLISTED || code == MUSTER_EKEYUNKNOWN || code == MUSTER_EDELETED || code == MUSTER_EMETHODOFF || code == MUSTER_EOTHERACCOUNT;
}

int forecast_key_code(struct store_tx *tx, const struct forecast *f, const struct prov_key *k, int *code, struct err *err) {
    int rc = ask_key(tx, k, f->from, code, err);
    if (rc || is_over(*code)) {
        *code = 0;
        return rc;
    }
    return ask_key(tx, k, k->expires, code, err);
}
