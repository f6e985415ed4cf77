/* audit_replay_account: the account's own things, entry by entry: settings, announced devices, fleet roots, provisioning keys. */
#include "registry/audit_replay_part.h"
#include "registry/profile.h"

/* --- the account ----------------------------------------------------------------------------------------------------------------- */

void replay_account_settings(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    if (!span_eq_str(e->object, r->name))
        replay_bad(r, e, "The entry is of another account");
    r->created = true;
    r->kind = word_parse(&WORDS_ACCOUNT_KIND, replay_text(d, "kind"));
    r->method = word_parse(&WORDS_METHOD, replay_text(d, "method"));
    r->had_cas = r->had_cas || (r->method & METHOD_SHARED);
    r->reprovision = word_parse(&WORDS_REPROVISION, replay_text(d, "reprovision"));
    r->approval = json_is_true(json_object_get(d, "approval"));
    r->expected_only = json_is_true(json_object_get(d, "expected_only"));
    r->device_key = word_parse(&WORDS_DEVICE_KEY, replay_text(d, "device_key"));
    r->device_life = json_is_string(json_object_get(d, "device_life")) ? PROFILE_NO_END : replay_int(d, "device_life");
    r->lost_answer_window = replay_int(d, "lost_answer_window");
    r->issue_ceiling = replay_int(d, "issue_ceiling");
    r->renewal_window = replay_int(d, "renewal_window");
    /* Entries from before there was such a setting do not say it. */
    r->late_renewal = json_object_get(d, "late_renewal") ? replay_int(d, "late_renewal") : LATE_RENEWAL;
    r->superseded_renewal = json_object_get(d, "superseded_renewal") ? replay_int(d, "superseded_renewal") : SUPERSEDED_RENEWAL;
    r->server_keygen = json_is_true(json_object_get(d, "server_keygen"));
    r->csr_queue = json_is_true(json_object_get(d, "csr_queue"));
    r->hook = word_parse(&WORDS_HOOK, replay_text(d, "hook"));
    r->hook = r->hook ? r->hook : HOOK_OFF;
    profile_detail_read(d, "profile", &r->profile);
    profile_detail_read(d, "shadow", &r->shadow);
    snprintf(r->tried, sizeof r->tried, "%s", replay_text(d, "tried"));
    r->backend = json_object_get(d, "backend") ? word_parse(&WORDS_BACKEND, replay_text(d, "backend")) : BACKEND_SEALED;
}

void replay_account_delete(struct audit_replay *r, const struct audit_entry *e, const json_t *d) { r->deleted = true; }

void replay_expected_changed(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_sum sum;
    if (audit_sum_read(d, &sum))
        audit_sum_join(&r->expected, &sum);
    else
        r->summed = false;
}

void replay_root_crl(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_sum sum;
    if (audit_sum_read(d, &sum))
        audit_sum_join(&r->listed, &sum);
    else
        r->unlisted = true;
}

/* --- roots ------------------------------------------------------------------------------------------------------------------------ */

struct audit_root *audit_replay_root(struct audit_replay *r, const struct uuid *uuid) {
    for (size_t i = 0; i < r->n_roots; i++)
        if (uuid_eq(&r->roots[i].uuid, uuid))
            return &r->roots[i];
    return NULL;
}

/* One that was not uploaded is Muster's, and active from the start. */
struct audit_root *replay_root_named(struct audit_replay *r, const struct uuid *uuid) {
    struct audit_root *have = audit_replay_root(r, uuid), *more;
    if (have)
        return have;
    if (!(more = replay_grown(r->roots, r->n_roots, sizeof *more))) {
        r->full = true;
        return NULL;
    }
    r->roots = more;
    r->roots[r->n_roots] = (struct audit_root){.uuid = *uuid, .state = ROOT_ACTIVE, .before = ROOT_ACTIVE};
    return &r->roots[r->n_roots++];
}

static struct audit_root *root_at(struct audit_replay *r, const struct audit_entry *e) {
    struct uuid uuid;
    return uuid_parse(e->object, &uuid) ? NULL : replay_root_named(r, &uuid);
}

static void root_rules(struct audit_root *root, const json_t *d) {
    enum id_rule id_rule;
    int key_rule = word_parse(&WORDS_KEY_RULE, replay_text(d, "key_rule"));
    if (!key_rule || id_rule_parse(span_str(replay_text(d, "id_rule")), &id_rule))
        return;
    int expired = word_parse(&WORDS_EXPIRED_RULE, replay_text(d, "expired"));
    root->rules = true;
    root->id_rule = id_rule;
    root->key_rule = key_rule;
    snprintf(root->tried, sizeof root->tried, "%s", replay_text(d, "tried"));
    root->expired = expired ? expired : EXPIRED_REFUSE; /* entries from before there was such a rule do not say it */
}

void replay_root_upload(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (!root)
        return;
    root->uploaded = true;
    root->state = root->before = ROOT_UNPROVED;
    (void)!replay_hash(d, "fingerprint", &root->fingerprint);
    root_rules(root, d);
}

void replay_root_prove(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (!root)
        return;
    root->state = ROOT_ACTIVE;
    (void)!replay_hash(d, "fingerprint", &root->fingerprint);
}

void replay_root_set(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    int state = word_parse(&WORDS_ROOT_STATE, replay_text(d, "state"));
    if (!root)
        return;
    root_rules(root, d);
    if (state)
        root->state = state;
}

void replay_root_disable(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root) {
        root->before = root->state;
        root->state = ROOT_DISABLED;
    }
}

void replay_root_enable(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root)
        root->state = root->before == ROOT_KNOWN_ONLY ? ROOT_KNOWN_ONLY : ROOT_ACTIVE;
}

void replay_root_retire(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root)
        root->state = ROOT_RETIRED;
}

/* One of Muster's own: another one stands in its place. */
void replay_root_rotate(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (!root)
        return;
    if (root->uploaded || root->state == ROOT_KNOWN_ONLY || root->state == ROOT_RETIRED)
        replay_bad(r, e, "The fleet root was not the one that the account issued under");
    if (root->state == ROOT_DISABLED) /* what it is once it is enabled */
        root->before = ROOT_KNOWN_ONLY;
    else if (root->state != ROOT_REVOKED)
        root->state = ROOT_KNOWN_ONLY;
    r->rotated++;
}

void replay_root_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_root *root = root_at(r, e);
    if (root)
        root->state = ROOT_REVOKED;
}

/* --- provisioning keys ------------------------------------------------------------------------------------------------------------- */

uint64_t audit_replay_rest(const struct audit_replay *r, const struct audit_key_rest *of) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(8192);
    buf_addf(&b, "%s\n%s\n%s\n%s\n", of->id_pattern, of->sources, of->build, of->tried);
    device_profile_write(of->profile, &b);
    buf_addc(&b, '\n');
    device_profile_write(of->shadow, &b);
    return audit_devices_hash(r->devices, buf_span(&b));
}

struct audit_prov_key *audit_replay_key(struct audit_replay *r, const struct uuid *uuid) {
    for (size_t i = 0; i < r->n_keys; i++)
        if (uuid_eq(&r->keys[i].uuid, uuid))
            return &r->keys[i];
    return NULL;
}

struct audit_prov_key *replay_key_named(struct audit_replay *r, const char *name) {
    if (r->last_key < r->n_keys && strcmp(r->keys[r->last_key].name, name) == 0)
        return &r->keys[r->last_key];
    for (size_t i = 0; i < r->n_keys; i++)
        if (strcmp(r->keys[i].name, name) == 0)
            return &r->keys[r->last_key = i];
    return NULL;
}

static struct audit_prov_key *key_at(struct audit_replay *r, const json_t *d) {
    struct uuid uuid;
    return uuid_parse(span_str(replay_text(d, "id")), &uuid) ? NULL : audit_replay_key(r, &uuid);
}

static void key_bounds(struct audit_replay *r, struct audit_prov_key *k, const struct audit_entry *e, const json_t *d) {
    snprintf(k->name, sizeof k->name, "%.*s", SPAN_FMT(e->object));
    k->expires = replay_time(d, "expires");
    k->max_devices = replay_int(d, "max_devices");
    k->per_hour = replay_int(d, "per_hour");
    snprintf(k->id_pattern, sizeof k->id_pattern, "%s", replay_text(d, "id_pattern"));
    struct device_profile profile, shadow;
    profile_detail_read(d, "profile", &profile);
    profile_detail_read(d, "shadow", &shadow);
    k->rest = audit_replay_rest(r, &(struct audit_key_rest){replay_text(d, "id_pattern"), replay_text(d, "sources"), replay_text(d, "build"), replay_text(d, "tried"), &profile, &shadow});
}

void replay_key_create(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_prov_key *more = replay_grown(r->keys, r->n_keys, sizeof *more), k = {.name = ""};
    if (!more) {
        r->full = true;
        return;
    }
    r->keys = more;
    if (uuid_parse(span_str(replay_text(d, "id")), &k.uuid))
        return;
    k.printed = replay_hash(d, "fingerprint", &k.fingerprint);
    k.spki_known = replay_hash(d, "spki", &k.spki);
    k.certificate_not_after = replay_time(d, "certificate_not_after");
    key_bounds(r, &k, e, d);
    r->keys[r->n_keys++] = k;
}

void replay_key_set(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_prov_key *k = key_at(r, d);
    if (k)
        key_bounds(r, k, e, d);
}

void replay_key_blacklist(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_prov_key *k = key_at(r, d);
    if (k)
        k->blacklisted = true;
}

/* An enrolment with it. */
void replay_key_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *d, bool again) {
    struct audit_prov_key *k = replay_key_named(r, replay_text(d, "key"));
    if (!k)
        replay_bad(r, e, "No provisioning key of that name was made");
    else if (k->blacklisted)
        replay_bad(r, e, "The provisioning key had been blacklisted");
    else if (e->at > k->expires + REPLAY_TOLERANCE)
        replay_bad(r, e, "The provisioning key had expired");
    else if (e->seq > r->unsealed && !(r->method & METHOD_SHARED))
        replay_bad(r, e, "The account did not take shared credentials");
    else if (e->seq > r->unsealed && !id_pattern_match(k->id_pattern, e->object))
        replay_bad(r, e, "The device ID does not match the pattern of the provisioning key");
    else if (!again && ++k->spent > k->max_devices && k->max_devices)
        replay_bad(r, e, "The provisioning key had been spent");
}
