/* audit_replay: see audit_replay.h.  Entries that are not in the table of actions change nothing that is held against rows. */
#include "registry/audit_replay.h"

#include "base/hex.h"

#define BIT(state) ((uint8_t)(1U << (state)))
#define LIVE (BIT(DEVICE_ACTIVE) | BIT(DEVICE_PENDING))
#define GONE (BIT(DEVICE_REVOKED) | BIT(DEVICE_DELETED))
#define TOLERANCE 300 /* seconds between a rule's look at the clock and the entry's */

/* --- an entry's detail ---------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *detail, const char *name) {
    const char *text = json_string_value(json_object_get(detail, name));
    return text ? text : "";
}
static int64_t int_of(const json_t *detail, const char *name) { return json_integer_value(json_object_get(detail, name)); }
static bool hash_of_detail(const json_t *detail, const char *name, struct hash *out) { return hex_decode(span_str(text_of(detail, name)), out->b, sizeof out->b) == 0; }
static int64_t time_of(const json_t *detail, const char *name) {
    int64_t t;
    return clock_parse_rfc3339(span_str(text_of(detail, name)), &t) ? 0 : t;
}
/* 0: not there. */
static uint64_t mark_of(const struct audit_replay *r, const json_t *detail, const char *name) {
    struct hash h;
    return hash_of_detail(detail, name, &h) ? audit_devices_hash(r->devices, hash_span(&h)) : 0;
}

static void bad(struct audit_replay *r, const struct audit_entry *e, const char *why) {
    audit_verify_bad(r->verify, e->seq, "%s (%.*s, %.64s).", why, SPAN_FMT(e->action), e->object.n ? (const char *)e->object.p : "no object");
}

/* --- the account ----------------------------------------------------------------------------------------------------------------- */

static void account_settings(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    if (!span_eq_str(e->object, r->name))
        bad(r, e, "The entry is of another account");
    r->created = true;
    r->kind = word_parse(&WORDS_ACCOUNT_KIND, text_of(d, "kind"));
    r->method = word_parse(&WORDS_METHOD, text_of(d, "method"));
    r->reprovision = word_parse(&WORDS_REPROVISION, text_of(d, "reprovision"));
    r->approval = json_is_true(json_object_get(d, "approval"));
    r->expected_only = json_is_true(json_object_get(d, "expected_only"));
    r->device_key = word_parse(&WORDS_DEVICE_KEY, text_of(d, "device_key"));
    r->device_life = int_of(d, "device_life");
    r->lost_answer_window = int_of(d, "lost_answer_window");
    r->issue_ceiling = int_of(d, "issue_ceiling");
}

static void account_delete(struct audit_replay *r, const struct audit_entry *e, const json_t *d) { r->deleted = true; }

static void expected_changed(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_sum sum;
    if (audit_sum_read(d, &sum))
        audit_sum_join(&r->expected, &sum);
    else
        r->summed = false;
}

/* --- roots ------------------------------------------------------------------------------------------------------------------------ */

static void *grown(void *at, size_t n, size_t size) { return n & (n - 1) ? at : realloc(at, (n ? 2 * n : 1) * size); }

struct audit_root *audit_replay_root(struct audit_replay *r, const struct uuid *uuid) {
    for (size_t i = 0; i < r->n_roots; i++)
        if (uuid_eq(&r->roots[i].uuid, uuid))
            return &r->roots[i];
    return NULL;
}

/* One that was not uploaded is Muster's, and active from the start. */
static struct audit_root *root_at(struct audit_replay *r, const struct audit_entry *e) {
    struct uuid uuid;
    if (uuid_parse(e->object, &uuid))
        return NULL;
    struct audit_root *have = audit_replay_root(r, &uuid), *more;
    if (have)
        return have;
    if (!(more = grown(r->roots, r->n_roots, sizeof *more))) {
        r->full = true;
        return NULL;
    }
    r->roots = more;
    r->roots[r->n_roots] = (struct audit_root){.uuid = uuid, .state = ROOT_ACTIVE, .before = ROOT_ACTIVE};
    return &r->roots[r->n_roots++];
}

static void root_rules(struct audit_root *root, const json_t *d) {
    enum id_rule id_rule;
    int key_rule = word_parse(&WORDS_KEY_RULE, text_of(d, "key_rule"));
    if (!key_rule || id_rule_parse(span_str(text_of(d, "id_rule")), &id_rule))
        return;
    root->rules = true;
    root->id_rule = id_rule;
    root->key_rule = key_rule;
}

static void root_upload(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (!root)
        return;
    root->uploaded = true;
    root->state = root->before = ROOT_UNPROVED;
    (void)!hash_of_detail(d, "fingerprint", &root->fingerprint);
    root_rules(root, d);
}

static void root_prove(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (!root)
        return;
    root->state = ROOT_ACTIVE;
    (void)!hash_of_detail(d, "fingerprint", &root->fingerprint);
}

static void root_set(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    int state = word_parse(&WORDS_ROOT_STATE, text_of(d, "state"));
    if (!root)
        return;
    root_rules(root, d);
    if (state)
        root->state = state;
}

static void root_disable(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root) {
        root->before = root->state;
        root->state = ROOT_DISABLED;
    }
}

static void root_enable(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root)
        root->state = root->before == ROOT_KNOWN_ONLY ? ROOT_KNOWN_ONLY : ROOT_ACTIVE;
}

static void root_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root)
        root->state = ROOT_REVOKED;
}

/* --- provisioning keys ------------------------------------------------------------------------------------------------------------- */

uint64_t audit_replay_rest(const struct audit_replay *r, const char *id_pattern, const char *sources, const char *build) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(4096);
    buf_addf(&b, "%s\n%s\n%s", id_pattern, sources, build);
    return audit_devices_hash(r->devices, buf_span(&b));
}

struct audit_prov_key *audit_replay_key(struct audit_replay *r, const struct uuid *uuid) {
    for (size_t i = 0; i < r->n_keys; i++)
        if (uuid_eq(&r->keys[i].uuid, uuid))
            return &r->keys[i];
    return NULL;
}

static struct audit_prov_key *key_named(struct audit_replay *r, const char *name) {
    if (r->last_key < r->n_keys && strcmp(r->keys[r->last_key].name, name) == 0)
        return &r->keys[r->last_key];
    for (size_t i = 0; i < r->n_keys; i++)
        if (strcmp(r->keys[i].name, name) == 0)
            return &r->keys[r->last_key = i];
    return NULL;
}

static struct audit_prov_key *key_at(struct audit_replay *r, const json_t *d) {
    struct uuid uuid;
    return uuid_parse(span_str(text_of(d, "id")), &uuid) ? NULL : audit_replay_key(r, &uuid);
}

static void key_bounds(struct audit_replay *r, struct audit_prov_key *k, const struct audit_entry *e, const json_t *d) {
    snprintf(k->name, sizeof k->name, "%.*s", SPAN_FMT(e->object));
    k->expires = time_of(d, "expires");
    k->max_devices = int_of(d, "max_devices");
    k->per_hour = int_of(d, "per_hour");
    k->rest = audit_replay_rest(r, text_of(d, "id_pattern"), text_of(d, "sources"), text_of(d, "build"));
}

static void key_create(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_prov_key *more = grown(r->keys, r->n_keys, sizeof *more), k = {.name = ""};
    if (!more) {
        r->full = true;
        return;
    }
    r->keys = more;
    if (uuid_parse(span_str(text_of(d, "id")), &k.uuid))
        return;
    k.printed = hash_of_detail(d, "fingerprint", &k.fingerprint);
    key_bounds(r, &k, e, d);
    r->keys[r->n_keys++] = k;
}

static void key_set(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_prov_key *k = key_at(r, d);
    if (k)
        key_bounds(r, k, e, d);
}

static void key_blacklist(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_prov_key *k = key_at(r, d);
    if (k)
        k->blacklisted = true;
}

/* An enrolment with it. */
static void key_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *d, bool again) {
    struct audit_prov_key *k = key_named(r, text_of(d, "key"));
    if (!k)
        bad(r, e, "No provisioning key of that name was made");
    else if (k->blacklisted)
        bad(r, e, "The provisioning key had been blacklisted");
    else if (e->at > k->expires + TOLERANCE)
        bad(r, e, "The provisioning key had expired");
    else if (!again && ++k->spent > k->max_devices && k->max_devices)
        bad(r, e, "The provisioning key had been spent");
}

/* --- devices ------------------------------------------------------------------------------------------------------------------------- */

static struct audit_device *device_at(struct audit_replay *r, const struct audit_entry *e) {
    struct audit_device *d = audit_devices_find(r->devices, e->object);
    if (d)
        d->entry = (uint32_t)e->seq;
    else
        bad(r, e, "There was no such device");
    return d;
}

static struct audit_device *device_new(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    if (audit_devices_find(r->devices, e->object)) {
        bad(r, e, "The device was there already");
        return NULL;
    }
    struct audit_device *d = audit_devices_add(r->devices, e->object);
    int state = word_parse(&WORDS_DEVICE_STATE, text_of(detail, "state"));
    if (!d) {
        r->full = true;
        return NULL;
    }
    d->entry = (uint32_t)e->seq;
    /* Entries from before the state was written down leave it open, where it is not the account's to say. */
    d->states = state ? BIT(state) : r->approval ? BIT(DEVICE_PENDING) : r->expected_only ? LIVE : BIT(DEVICE_ACTIVE);
    if (state && ((state != DEVICE_ACTIVE && state != DEVICE_PENDING) || (state == DEVICE_ACTIVE && r->approval)))
        bad(r, e, "The device could not be in that state");
    return d;
}

/* Whatever becomes the identity ends all that waited. */
static void identity(struct audit_replay *r, struct audit_device *d, const json_t *detail) {
    d->identity = mark_of(r, detail, "fingerprint");
    d->spki = mark_of(r, detail, "spki");
    d->waiting = d->waiting_held = 0;
    d->unsure = false;
}

static void device_enrol(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    const char *how = text_of(detail, "how");
    const bool is_new = strcmp(how, "new") == 0;
    struct audit_device *d = is_new ? device_new(r, e, detail) : device_at(r, e);
    if (!d)
        return;
    if (!(d->states & LIVE))
        bad(r, e, "The device was cut off");
    d->states &= LIVE;
    uint64_t cert = mark_of(r, detail, "fingerprint");
    d->certs += cert;
    d->waiting += cert;
    if (strcmp(how, "re-provisioned") == 0)
        d->granted = false;
}

static void device_first_contact(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_new(r, e, detail);
    if (d)
        identity(r, d, detail);
}

static void device_first_use(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (!(d->states & ~GONE))
        bad(r, e, "The device was cut off");
    identity(r, d, detail);
}

static void device_certificate(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (!(d->states & BIT(DEVICE_ACTIVE)) || (d->spki && d->spki != mark_of(r, detail, "spki")))
        bad(r, e, "The device could not bring that certificate");
    d->identity = mark_of(r, detail, "fingerprint");
}

static void device_key_changed(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    struct uuid uuid;
    const struct audit_root *root = uuid_parse(span_str(text_of(detail, "root")), &uuid) ? NULL : audit_replay_root(r, &uuid);
    if (!d)
        return;
    if (!(d->states & LIVE))
        bad(r, e, "The device was cut off");
    else if (root && root->rules && (root->key_rule == KEY_RULE_REFUSE || (root->key_rule == KEY_RULE_ASK && d->accepted != mark_of(r, detail, "spki"))))
        bad(r, e, "Nobody had accepted the device's other key");
    identity(r, d, detail);
    d->accepted = 0;
}

static void device_accept_key(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (d)
        d->accepted = mark_of(r, detail, "fingerprint");
}

static void device_approve(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    d->granted = d->granted || (d->states & BIT(DEVICE_ACTIVE));
    d->states = BIT(DEVICE_ACTIVE);
}

static void device_announced(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (!(d->states & BIT(DEVICE_PENDING)) || r->approval || !r->expected_only)
        bad(r, e, "The device did not wait for being announced");
    d->states = BIT(DEVICE_ACTIVE);
}

static void cut_off(struct audit_device *d, enum device_state to) {
    d->states = BIT(to);
    d->waiting = d->waiting_held = 0;
    d->unsure = false;
}

static void device_refuse(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    d->granted = false;
    if (d->states == BIT(DEVICE_PENDING)) {
        cut_off(d, DEVICE_REVOKED);
    } else if (d->states & BIT(DEVICE_PENDING)) { /* whichever it was */
        d->states = BIT(DEVICE_REVOKED) | BIT(DEVICE_ACTIVE);
        d->unsure = true;
    }
}

static void device_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (d)
        cut_off(d, DEVICE_REVOKED);
}

static void device_delete(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (d)
        cut_off(d, DEVICE_DELETED);
}

static void device_quarantine(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    d->states_before = d->states & LIVE;
    d->states = BIT(DEVICE_QUARANTINED);
}

static void device_release(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (json_is_true(json_object_get(detail, "for_reprovision"))) {
        d->granted = true;
    } else if (json_object_get(detail, "state")) { /* its tombstone: nobody has its certificates any more */
        r->orphans += d->certs;
        r->orphans_held += d->certs_held;
        audit_devices_remove(r->devices, d);
    } else {
        d->states = d->states_before;
    }
}

/* --- the actions --------------------------------------------------------------------------------------------------------------------- */

typedef void (*follow_fn)(struct audit_replay *r, const struct audit_entry *e, const json_t *detail);
enum whose { CONTROL, GATEWAY };
enum about { ACCOUNT, DEVICE, NOTHING };

static const struct action {
    const char *name;
    enum whose whose;
    enum about about;
    follow_fn follow;
} ACTIONS[] = {
    {"device.enrol", GATEWAY, DEVICE, device_enrol},
    {"device.first_use", GATEWAY, DEVICE, device_first_use},
    {"device.first_contact", GATEWAY, DEVICE, device_first_contact},
    {"device.certificate", GATEWAY, DEVICE, device_certificate},
    {"device.key_changed", GATEWAY, DEVICE, device_key_changed},
    {"device.announced", GATEWAY, DEVICE, device_announced},
    {"device.key_offered", GATEWAY, NOTHING, NULL},
    {"device.asks_again", GATEWAY, NOTHING, NULL},
    {"device.approve", CONTROL, DEVICE, device_approve},
    {"device.refuse", CONTROL, DEVICE, device_refuse},
    {"device.revoke", CONTROL, DEVICE, device_revoke},
    {"device.quarantine", CONTROL, DEVICE, device_quarantine},
    {"device.release", CONTROL, DEVICE, device_release},
    {"device.delete", CONTROL, DEVICE, device_delete},
    {"device.accept_key", CONTROL, DEVICE, device_accept_key},
    {"device.import", CONTROL, ACCOUNT, expected_changed},
    {"device.unannounce", CONTROL, ACCOUNT, expected_changed},
    {"account.create", CONTROL, ACCOUNT, account_settings},
    {"account.set", CONTROL, ACCOUNT, account_settings},
    {"account.delete", CONTROL, ACCOUNT, account_delete},
    {"root.upload", CONTROL, ACCOUNT, root_upload},
    {"root.prove", CONTROL, ACCOUNT, root_prove},
    {"root.set", CONTROL, ACCOUNT, root_set},
    {"root.disable", CONTROL, ACCOUNT, root_disable},
    {"root.enable", CONTROL, ACCOUNT, root_enable},
    {"root.revoke", CONTROL, ACCOUNT, root_revoke},
    {"key.create", CONTROL, ACCOUNT, key_create},
    {"key.set", CONTROL, ACCOUNT, key_set},
    {"key.blacklist", CONTROL, ACCOUNT, key_blacklist},
};

/* Whatever is not named is control's. */
static const struct action *action_of(struct span name) {
    static const struct action others = {"", CONTROL, NOTHING, NULL};
    for (size_t i = 0; i < sizeof ACTIONS / sizeof *ACTIONS; i++)
        if (span_eq_str(name, ACTIONS[i].name))
            return &ACTIONS[i];
    return &others;
}

void audit_replay_entry(void *arg, const struct audit_entry *e) {
    struct audit_replay *r = arg;
    const struct action *a = action_of(e->action);
    const bool in_part = a->about == DEVICE && audit_devices_has_part(r->devices, e->object), enrols = a->follow == device_enrol && r->first_part;
    if (r->full)
        return;
    if (a->whose == CONTROL && e->seq > r->unsealed && !audit_seal_holds(r->verify->chain, e->seq, &e->hash, e->seal)) {
        bad(r, e, "The entry says what an operator does, and control did not write it");
        return;
    }
    if (!a->follow || (a->about == DEVICE && !in_part && !enrols))
        return;
    CLEANUP_JSON json_t *detail = e->detail.n ? json_parse(e->detail, NULL) : NULL;
    if (enrols)
        key_spend(r, e, detail, strcmp(text_of(detail, "how"), "answer lost") == 0);
    if (a->about != DEVICE || in_part)
        a->follow(r, e, detail);
}

void audit_replay_begin(struct audit_replay *r) {
    free(r->roots);
    free(r->keys);
    *r = (struct audit_replay){.name = r->name, .unsealed = r->unsealed, .verify = r->verify, .devices = r->devices, .first_part = r->first_part, .summed = true};
}

void audit_replay_fini(struct audit_replay *r) {
    audit_devices_free(TAKE(r->devices));
    free(r->roots);
    free(r->keys);
    r->roots = NULL;
    r->keys = NULL;
}
