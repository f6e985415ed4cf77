/* root: lists, upload; see root.h.  What changes a root that is there stands in root_change.c. */
#include "registry/root.h"

#include "base/hex.h"
#include "pki/chain.h"
#include "registry/audit.h"
#include "registry/root_json.h"
#include "registry/root_reach.h"
#include "registry/row.h"
#include "registry/tried.h"

/* Devices that it would cut off. */
int root_devices(struct store_tx *tx, const struct root *r, int64_t *n, struct err *err) {
    CLEANUP(root_reach_fini) struct root_reach reach = {0};
    int rc = root_reach_find(tx, r, false, &reach, err);
    int64_t held;
    return rc ? rc : root_reach_count(tx, &reach, n, &held, err);
}

int root_json(struct store_tx *tx, const struct account *a, const struct root *r, json_t **out, struct err *err) {
    int64_t devices, shared;
    int rc = root_devices(tx, r, &devices, err);
    if (rc || (rc = one_int(tx, &shared, 0, err, SQL_ROOT_SHARED, "bi", hash_span(&r->spki), r->account)))
        return rc;
    json_t *o = json_object();
    json_set_uuid(o, "id", &r->uuid);
    json_set_str(o, "account", a->name);
    json_set_str(o, "origin", word_of(&WORDS_ROOT_ORIGIN, r->origin));
    json_set_str(o, "state", word_of(&WORDS_ROOT_STATE, r->state));
    json_set_str(o, "subject", r->subject);
    json_set_hex(o, "fingerprint", hash_span(&r->fingerprint));
    json_set_hex(o, "spki", hash_span(&r->spki));
    json_set_time(o, "not_after", r->not_after);
    json_set_str(o, "id_rule", id_rule_name(r->id_rule));
    json_set_str(o, "key_rule", word_of(&WORDS_KEY_RULE, r->key_rule));
    json_set_str(o, "expired", word_of(&WORDS_EXPIRED_RULE, r->expired));
    json_set(o, "shadow", tried_json(r->tried));
    json_set_str(o, "challenge", r->challenge[0] ? r->challenge : NULL);
    json_set_time(o, "challenge_expires", r->challenge_expires);
    json_set_int(o, "devices", devices);
    json_set_bool(o, "shared", shared > 0 && r->state >= ROOT_ACTIVE && r->state <= ROOT_DISABLED);
    json_set_time(o, "created", r->created);
    json_decref(*out);
    *out = o;
    return 0;
}

int root_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    int64_t last = l->page.after, n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", a.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct root r;
        json_t *one = NULL;
        if ((rc = row_root(row, &r, err)) || (rc = root_json(tx, &a, &r, &one, err)))
            return rc;
        json_array_append_new(items, one);
        last = r.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

int root_cert(struct store_tx *tx, const struct root *r, struct cert **out, struct err *err) {
    struct store_row *row;
    int rc = first_row(tx, &row, err, SQL_ROOT_DER, "i", r->row);
    if (rc <= 0)
        return rc < 0 ? rc : err_set(err, MUSTER_ENOTFOUND, NULL);
    rc = cert_from_der(store_blob(row, 0), out, err);
    store_row_end(row);
    return rc;
}

/* The certificates of its key by other roots of the account. */
static int add_crosses(struct store_tx *tx, const struct root *r, struct buf *pem, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_CROSS_OF, "i", r->row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        if ((rc = cert_from_der(store_blob(row, 0), &c, err)) || (rc = cert_pem(c, pem)))
            return rc;
    }
    return rc;
}

static int issuing_only(struct store_tx *tx, const struct root *r, const struct cert *root, struct buf *pem, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = r->origin == ROOT_MUSTER ? store_query(tx, &row, err, SQL_CA_ISSUING, "i", r->account) : 0;
    while (row && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *ca = NULL;
        if ((rc = cert_from_der(store_blob(row, 0), &ca, err)) || (ca->not_after > clock_now() && cert_signed_by(ca, root) && (rc = cert_pem(ca, pem))))
            return rc;
    }
    return rc || pem->n ? rc : err_set(err, MUSTER_ENOTFOUND, r->origin == ROOT_MUSTER ? "The fleet root has no issuing CA that has not ended." : "The fleet root was uploaded: what issues under it is not Muster's.");
}

int root_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_show *s = arg;
    CLEANUP(cert_free) struct cert *c = NULL;
    struct account a;
    struct root r;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = root_need(tx, &a, s->root, &r, err)) || (rc = root_json(tx, &a, &r, &s->out, err)) || (!s->pem && (rc = root_seen_json(tx, &r, s->out, err))) || !s->pem)
        return rc;
    if ((rc = root_cert(tx, &r, &c, err)))
        return rc;
    buf_clear(s->pem);
    if (s->issuing)
        return issuing_only(tx, &r, c, s->pem, err);
    rc = s->crosses ? add_crosses(tx, &r, s->pem, err) : 0; /* before it: OpenSSL takes the first issuer that fits, and the root itself leads to no other one */
    return rc ? rc : cert_pem(c, s->pem);
}

static void make_challenge(char out[64]) {
    uint8_t random[16];
    char digits[33];
    secret_random_bytes(random, sizeof random);
    hex_encode(span_of(random, sizeof random), digits);
    snprintf(out, 64, CHALLENGE_PREFIX "%s", digits);
}

/* A key that the vault holds must not become somebody's "own" root. */
static int refuse_own(struct store_tx *tx, const struct root_upload *u, struct err *err) {
    const struct cert *c = u->cert;
    int64_t roots, cas;
    for (size_t i = 0; i < u->n_server_ca; i++)
        if (hash_eq(&u->server_ca[i], &c->key.spki))
            return err_set(err, MUSTER_EROOTOWN, NULL);
    int rc = one_int(tx, &roots, 0, err, SQL_ROOT_OWN_SPKI, "b", hash_span(&c->key.spki));
    if (rc || (rc = one_int(tx, &cas, 0, err, SQL_CA_OWN_SPKI, "b", hash_span(&c->key.spki))))
        return rc;
    return roots || cas ? err_set(err, MUSTER_EROOTOWN, NULL) : 0;
}

/* 1: the account has a root with this key, in *out. */
static int same_key(struct store_tx *tx, const struct account *a, const struct hash *spki, struct root *out, struct err *err) {
    struct store_row *row;
    int rc = first_row(tx, &row, err, SQL_ROOT_BY_SPKI, "ib", a->row, hash_span(spki));
    if (rc <= 0)
        return rc;
    rc = row_root(row, out, err);
    store_row_end(row);
    return rc ? rc : 1;
}

static int store_root(struct store_tx *tx, const struct root_upload *u, const struct account *a, int64_t existing, struct uuid *id, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(32 * 1024);
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
    char challenge[64];
    int64_t now = clock_now(), many;
    int rc = cert_der(u->cert, &der);
    if (rc)
        return err_set(err, rc, NULL);
    cert_subject_text(u->cert, &subject);
    make_challenge(challenge);
    *id = uuid_new();
    if (existing)
        return store_exec(tx, NULL, err, SQL_ROOT_REPLACE, "iubsbiiisii", existing, id, hash_span(&u->cert->fingerprint), buf_str(&subject), buf_span(&der), u->cert->not_after,
                          I(u->id_rule), I(u->key_rule), challenge, now + CHALLENGE_LIFE, now);
    if ((rc = one_int(tx, &many, 0, err, SQL_ROOT_COUNT, "i", a->row)))
        return rc;
    if (many >= ROOTS_MAX)
        return err_set(err, MUSTER_EINVALID, "The account has %d fleet roots already.", ROOTS_MAX);
    /* Every root of the name that a device's issuer has costs its judgement a signature. */
    if ((rc = one_int(tx, &many, 0, err, SQL_ROOT_NAMESAKES, "is", a->row, buf_str(&subject))))
        return rc;
    if (many >= ROOT_NAMESAKES_MAX)
        return err_set(err, MUSTER_EINVALID, "The account has %d fleet roots of this name already.", ROOT_NAMESAKES_MAX);
    return store_exec(tx, NULL, err, SQL_ROOT_ADD, "uiiibbsbiiisii", id, a->row, I(ROOT_UPLOADED), I(ROOT_UNPROVED), hash_span(&u->cert->fingerprint), hash_span(&u->cert->key.spki),
                      buf_str(&subject), buf_span(&der), u->cert->not_after, I(u->id_rule), I(u->key_rule), challenge, now + CHALLENGE_LIFE, now);
}

int root_upload_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_upload *u = arg;
    struct account a;
    struct root r = {0};
    struct uuid id;
    int rc = account_need(tx, u->account, &a, err);
    if (rc)
        return rc;
    if (!(a.method & METHOD_DEVICE))
        return err_set(err, MUSTER_EMETHODOFF, "The account %s does not take device credentials.", a.name);
    if ((rc = chain_root_fit(u->cert, clock_now(), err)) || (rc = refuse_own(tx, u, err)))
        return rc;
    int have = same_key(tx, &a, &u->cert->key.spki, &r, err);
    if (have < 0)
        return have;
    if (have && r.state != ROOT_UNPROVED) {
        char text[UUID_TEXT_LEN + 1];
        uuid_text(&r.uuid, text);
        return err_set(err, MUSTER_EEXISTS, "The account %s has a fleet root with this public key already: %s.", a.name, text);
    }
    if ((rc = store_root(tx, u, &a, have ? r.row : 0, &id, err)) || (rc = epoch_raise(tx, err)))
        return rc;
    char text[UUID_TEXT_LEN + 1];
    uuid_text(&id, text);
    if ((rc = root_need(tx, &a, span_str(text), &r, err)) || (rc = root_json(tx, &a, &r, &u->out, err)))
        return rc;
    json_t *detail = json_object();
    json_set_str(detail, "subject", r.subject);
    json_set_hex(detail, "fingerprint", hash_span(&r.fingerprint));
    json_set_str(detail, "id_rule", id_rule_name(r.id_rule));
    json_set_str(detail, "key_rule", word_of(&WORDS_KEY_RULE, r.key_rule));
    return audit_add(tx, a.row, &u->actor, "root.upload", span_str(text), detail, err);
}
