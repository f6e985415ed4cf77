/* root_change: proof, rules and states of fleet roots; see root.h. */
#include "base/secret.h"
#include "pki/chain.h"
#include "registry/audit.h"
#include "registry/event.h"
#include "registry/root.h"
#include "registry/root_json.h"
#include "registry/tried.h"

static int audit_root(struct store_tx *tx, const struct account *a, const struct root *r, const struct actor *actor, const char *action, json_t *detail, struct err *err) {
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&r->uuid, id);
    return audit_add(tx, a->row, actor, action, span_str(id), detail, err);
}

static int announce(struct store_tx *tx, const struct account *a, const struct root *r, enum root_state before, struct err *err) {
    json_t *more = json_object();
    json_set_str(more, "before", word_of(&WORDS_ROOT_STATE, before));
    return event_root(tx, a, r, r->state, EVENT_ROOT_STATE, more, err);
}

static int no_proof(struct err *err, const char *why) { return err_set(err, MUSTER_EPROOF, "The certificate does not prove the possession of the key: %s.", why); }

/* Who signed the proof: the root itself (*by NULL), or an intermediate below it. */
static int find_signer(const struct root_prove *p, const struct cert *root, const struct cert **by, struct err *err) {
    *by = NULL;
    if (cert_signed_by(p->proof[0], root))
        return 0;
    struct anchor_set *anchors = anchor_set_new();
    struct cert *copy = NULL;
    if (!anchors || cert_from_x509(root->x, &copy, NULL) || anchor_set_add(anchors, copy, NULL, 0, NULL)) {
        anchor_set_unref(anchors);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    struct chain_found found;
    int rc = chain_judge(anchors, p->proof[0], p->proof + 1, p->n_proof - 1, clock_now(), &found, NULL);
    anchor_set_unref(anchors);
    for (size_t i = 1; !rc && i < p->n_proof; i++)
        if (p->proof[i]->ca && cert_signed_by(p->proof[0], p->proof[i])) {
            *by = p->proof[i];
            return 0;
        }
    return no_proof(err, "it is signed neither by the root's key nor by that of an intermediate that is in the file and chains to the root");
}

/* The anchor is the one whose key was shown: an intermediate takes the root's place in the row. */
static int activate(struct store_tx *tx, const struct account *a, const struct root *r, const struct cert *anchor, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(32 * 1024);
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
    struct err fit = ERR_INIT;
    if (chain_root_fit(anchor, clock_now(), &fit))
        return err_set(err, MUSTER_EROOTUNFIT, "%s", err_text(&fit));
    cert_subject_text(anchor, &subject);
    int rc = cert_der(anchor, &der);
    if (rc)
        return err_set(err, rc, NULL);
    rc = store_exec(tx, NULL, err, SQL_ROOT_PROVED, "ibbsbi", r->row, hash_span(&anchor->fingerprint), hash_span(&anchor->key.spki), buf_str(&subject), buf_span(&der), anchor->not_after);
    if (rc == MUSTER_EEXISTS)
        return err_set(err, rc, "The account %s has the intermediate that signed the proof as a fleet root already.", a->name);
    return rc;
}

int root_prove_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_prove *p = arg;
    CLEANUP(cert_free) struct cert *own = NULL;
    CLEANUP(buf_fini) struct buf cn = BUF_INIT(512);
    const struct cert *by = NULL;
    struct account a;
    struct root r;
    int rc = account_need(tx, p->account, &a, err);
    if (rc || (rc = root_need(tx, &a, p->root, &r, err)))
        return rc;
    if (r.state != ROOT_UNPROVED)
        return err_set(err, MUSTER_ESTATE, "The fleet root is %s and needs no proof.", word_of(&WORDS_ROOT_STATE, r.state));
    if (r.challenge_expires < clock_now())
        return err_set(err, MUSTER_ECHALLENGEOLD, NULL);
    if (cert_common_name(p->proof[0], &cn, NULL) || !secret_eq(buf_span(&cn), span_str(r.challenge)))
        return no_proof(err, "its subject CN is not the challenge");
    if ((rc = root_cert(tx, &r, &own, err)) || (rc = find_signer(p, own, &by, err)) || (rc = activate(tx, &a, &r, by ? by : own, err)) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object();
    json_set_hex(detail, "fingerprint", hash_span(by ? &by->fingerprint : &own->fingerprint));
    json_set_bool(detail, "intermediate", by != NULL);
    int found = root_find_row(tx, r.row, &r, err);
    if (found <= 0 || (rc = audit_root(tx, &a, &r, &p->actor, "root.prove", detail, err))) {
        if (found <= 0)
            json_decref(detail);
        return found < 0 ? found : rc ? rc : MUSTER_ECORRUPT;
    }
    if ((rc = announce(tx, &a, &r, ROOT_UNPROVED, err)))
        return rc;
    return root_json(tx, &a, &r, &p->out, err);
}

/* --- rules and states -------------------------------------------------------------------------------------------------------- */

static int wrong_state(struct err *err, const struct root *r, const char *verb) {
    return err_set(err, MUSTER_ESTATE, "The fleet root is %s and cannot be %s.", word_of(&WORDS_ROOT_STATE, r->state), verb);
}

static json_t *rules_json(const struct root *r) {
    json_t *o = json_object();
    json_set_str(o, "id_rule", id_rule_name(r->id_rule));
    json_set_str(o, "key_rule", word_of(&WORDS_KEY_RULE, r->key_rule));
    json_set_str(o, "state", word_of(&WORDS_ROOT_STATE, r->state));
    json_set_str(o, "expired", word_of(&WORDS_EXPIRED_RULE, r->expired));
    return o;
}

/* Those that the change names become the root's; the names alone go to *said. */
static void put_rules(const struct root_set *s, struct root *r, json_t *said) {
    const bool id_rule = (int)s->id_rule >= 0;
    const struct {
        const char *name;
        bool named;
    } rules[] = {{"id_rule", id_rule}, {"key_rule", s->key_rule != 0}, {"state", s->state != 0}, {"expired", s->expired != 0}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].named)
            json_set_bool(said, rules[i].name, true);
    r->id_rule = id_rule ? s->id_rule : r->id_rule;
    r->key_rule = s->key_rule ? s->key_rule : r->key_rule;
    r->state = s->state ? s->state : r->state;
    r->expired = s->expired ? s->expired : r->expired;
}

/* What the root is by the change, tried ones beside. */
static int change_rules(const struct root_set *s, struct root *r, struct err *err) {
    CLEANUP_JSON json_t *said = json_object(), *whole = NULL;
    struct root t = *r;
    const bool tries = tried_root(r, &t);
    switch ((enum tried_change)s->tried) {
    case TRIED_NOT:
        put_rules(s, r, said);
        return 0;
    case TRIED_TRY:
        put_rules(s, &t, said);
        if (!json_object_size(said))
            return err_set(err, MUSTER_EINVALID, "What is to be tried is said beside shadow: a rule of the root, or several.");
        whole = rules_json(&t);
        return tried_put(r->tried, sizeof r->tried, TRIED_OF_ROOT, whole, said, err);
    case TRIED_ENFORCE:
        if (!tries)
            return err_set(err, MUSTER_EINVALID, "Nothing is tried.");
        *r = t;
        break;
    case TRIED_DROP:
        break;
    }
    r->tried[0] = '\0';
    return 0;
}

static int set_rules(struct store_tx *tx, const struct root_set *s, const struct root *before, json_t *detail, struct err *err) {
    struct root r = *before;
    const enum root_state wanted = s->tried == TRIED_ENFORCE ? tried_root_state(&r) : s->state;
    if (wanted && r.state != ROOT_ACTIVE && r.state != ROOT_KNOWN_ONLY)
        return wrong_state(err, &r, wanted == ROOT_ACTIVE ? "made active" : "made known-only");
    if (r.origin == ROOT_MUSTER)
        return err_set(err, MUSTER_ESTATE, "The rules of a fleet root that Muster made cannot be changed: the registry holds each of its certificates.");
    int rc = change_rules(s, &r, err);
    if (rc)
        return rc;
    CLEANUP_JSON json_t *rules = rules_json(&r);
    json_object_update(detail, rules);
    if (r.tried[0])
        json_set_str(detail, "tried", r.tried);
    return store_exec(tx, NULL, err, SQL_ROOT_RULES, "iiiiis", r.row, I(r.id_rule), I(r.key_rule), I(r.state), I(r.expired), r.tried);
}

static int need_confirmation(struct store_tx *tx, struct root_set *s, const struct root *r, const char *verb, struct err *err) {
    int rc = root_devices(tx, r, &s->devices, err);
    if (rc || s->devices == 0 || s->confirm == s->devices)
        return rc;
    return err_set(err, MUSTER_ECONFIRM, "To %s the fleet root cuts off %lld device%s.", verb, (long long)s->devices, s->devices == 1 ? "" : "s");
}

static int set_state(struct store_tx *tx, struct root_set *s, const struct root *r, struct err *err) {
    bool in_use = r->state == ROOT_ACTIVE || r->state == ROOT_KNOWN_ONLY;
    int rc = 0;
    switch (s->change) {
    case ROOT_DISABLE:
        if (!in_use)
            return wrong_state(err, r, "disabled");
        rc = need_confirmation(tx, s, r, "disable", err);
        return rc ? rc : store_exec(tx, NULL, err, SQL_ROOT_STATE, "ii", r->row, I(ROOT_DISABLED));
    case ROOT_ENABLE:
        if (r->state != ROOT_DISABLED)
            return wrong_state(err, r, "enabled");
        return store_exec(tx, NULL, err, SQL_ROOT_STATE, "ii", r->row, I(r->state_before == ROOT_KNOWN_ONLY ? ROOT_KNOWN_ONLY : ROOT_ACTIVE));
    case ROOT_REVOKE:
        if (r->state == ROOT_REVOKED)
            return wrong_state(err, r, "revoked again");
        rc = need_confirmation(tx, s, r, "revoke", err);
        return rc ? rc : store_exec(tx, NULL, err, SQL_ROOT_STATE, "ii", r->row, I(ROOT_REVOKED));
    case ROOT_SET:
        break;
    }
    return MUSTER_EINTERNAL;
}

int root_set_run(struct store_tx *tx, void *arg, struct err *err) {
    static const char *const actions[] = {[ROOT_SET] = "root.set", [ROOT_DISABLE] = "root.disable", [ROOT_ENABLE] = "root.enable", [ROOT_REVOKE] = "root.revoke"};
    struct root_set *s = arg;
    CLEANUP_JSON json_t *detail = json_object();
    struct account a;
    struct root r;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = root_need(tx, &a, s->root, &r, err)))
        return rc;
    enum root_state before = r.state;
    rc = s->change == ROOT_SET ? set_rules(tx, s, &r, detail, err) : set_state(tx, s, &r, err);
    if (rc || (rc = epoch_raise(tx, err)))
        return rc;
    if (s->change == ROOT_DISABLE || s->change == ROOT_REVOKE)
        json_set_int(detail, "devices", s->devices);
    if ((rc = audit_root(tx, &a, &r, &s->actor, actions[s->change], TAKE(detail), err)))
        return rc;
    int found = root_find_row(tx, r.row, &r, err);
    if (found <= 0 || (r.state != before && (rc = announce(tx, &a, &r, before, err))))
        return found < 0 ? found : rc ? rc : MUSTER_ECORRUPT;
    return root_json(tx, &a, &r, &s->out, err);
}
