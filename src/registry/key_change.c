/* key_change: bounds, blacklist, and acting on a key's devices; see key.h. */
#include "registry/audit.h"
#include "registry/device.h"
#include "registry/event.h"
#include "registry/key_json.h"
#include "registry/profile.h"

#define STEP 500 /* devices in one transaction */

json_t *key_detail(const struct prov_key *k) {
    json_t *d = json_object();
    json_set_uuid(d, "id", &k->uuid);
    json_set_time(d, "expires", k->expires);
    json_set_int(d, "max_devices", k->max_devices);
    json_set_int(d, "per_hour", k->per_hour);
    json_set_str(d, "id_pattern", k->id_pattern);
    json_set_str(d, "sources", k->sources);
    json_set_str(d, "build", k->build);
    profile_detail_add(d, "profile", &k->profile);
    profile_detail_add(d, "shadow", &k->shadow);
    if (k->tried[0])
        json_set_str(d, "tried", k->tried);
    return d;
}

int key_live_json(struct store_tx *tx, const struct account *a, bool warn, json_t *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
    json_t *names = json_array(), *warnings = json_array();
    int64_t n = 0;
    int rc = a->method & METHOD_SHARED ? store_query(tx, &row, err, SQL_KEY_LIVE, "ii", a->row, clock_now()) : 0;
    while (row && !rc && (rc = store_next(row, err)) > 0) {
        struct span name = store_text(row, 0);
        if (n++ < KEY_NAMES_SHOWN) {
            json_array_append_new(names, json_stringn((const char *)name.p, name.n));
            buf_addf(&text, "%s\"%.*s\"", n > 1 ? ", " : "", SPAN_FMT(name));
        }
        rc = 0;
    }
    json_set_int(out, "live_keys", n);
    json_set(out, "live_key_names", names);
    if (n > KEY_NAMES_SHOWN)
        buf_addf(&text, " and %lld more", (long long)(n - KEY_NAMES_SHOWN));
    if (n && warn)
        json_array_append_new(warnings, json_sprintf("%s of this account still enrol%s devices: %s. Whoever holds a device that was cut off, or its image, can come back under another ID until %s.",
                                                     n == 1 ? "A provisioning key" : "Provisioning keys", n == 1 ? "s" : "", buf_str(&text), n == 1 ? "it is blacklisted" : "these are blacklisted"));
    json_set(out, "warnings", warnings);
    return rc < 0 ? rc : 0;
}

void key_bounds_of(const struct prov_key *k, struct key_bounds *b) {
    *b = (struct key_bounds){.expires = k->expires, .max_devices = k->max_devices, .per_hour = k->per_hour, .profile = k->profile, .shadow = k->shadow};
    snprintf(b->name, sizeof b->name, "%s", k->name);
    snprintf(b->id_pattern, sizeof b->id_pattern, "%s", k->id_pattern);
    snprintf(b->sources, sizeof b->sources, "%s", k->sources);
    snprintf(b->build, sizeof b->build, "%s", k->build);
    snprintf(b->tried, sizeof b->tried, "%s", k->tried);
}

static int read_again(struct store_tx *tx, struct prov_key *k, struct err *err) {
    int found = key_find_row(tx, k->row, k, err);
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ECORRUPT, NULL);
}

int key_set_run(struct store_tx *tx, void *arg, struct err *err) {
    struct key_set *s = arg;
    struct account a;
    struct prov_key k;
    struct key_bounds b;
    char profile[PROFILE_TEXT_MAX + 1], shadow[PROFILE_TEXT_MAX + 1];
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = key_need(tx, &a, s->key, &k, err)))
        return rc;
    const struct prov_key before = k;
    key_bounds_of(&k, &b);
    if ((rc = key_change_json(&b, s->change, err)) || (rc = key_bounds_fit(&a, &b, k.certificate_not_after, err)))
        return rc;
    if (b.max_devices && b.max_devices < k.spent)
        return err_set(err, MUSTER_EINVALID, "The key has enrolled %lld devices already; max_devices cannot be lower.", (long long)k.spent);
    if (!b.name[0])
        return err_set(err, MUSTER_EINVALID, "A provisioning key needs a name.");
    rc = store_exec(tx, NULL, err, SQL_KEY_SET, "isiiissssss", k.row, b.name, b.expires, b.max_devices, b.per_hour, b.id_pattern, b.sources, b.build, profile_text(&b.profile, profile),
                    profile_text(&b.shadow, shadow), b.tried);
    if (rc == MUSTER_EEXISTS)
        return err_set(err, rc, "The account %s has a provisioning key \"%s\" already.", a.name, b.name);
    if (rc || (rc = epoch_raise(tx, err)) || (rc = read_again(tx, &k, err)) || (rc = key_json(tx, &a, &k, &s->out, err)) || (rc = event_key_budget(tx, &a, &before, &k, err)))
        return rc;
    return audit_add(tx, a.row, &s->actor, "key.set", span_str(k.name), key_detail(&k), err);
}

int key_blacklist_run(struct store_tx *tx, void *arg, struct err *err) {
    struct key_blacklist *b = arg;
    struct account a;
    struct prov_key k;
    int rc = account_need(tx, b->account, &a, err);
    if (rc || (rc = key_need(tx, &a, b->key, &k, err)))
        return rc;
    if (k.state == KEY_BLACKLISTED) /* as wanted already */
        return key_json(tx, &a, &k, &b->out, err);
    if ((rc = store_exec(tx, NULL, err, SQL_KEY_STATE, "ii", k.row, I(KEY_BLACKLISTED))) || (rc = epoch_raise(tx, err)) || (rc = read_again(tx, &k, err)) ||
        (rc = key_json(tx, &a, &k, &b->out, err)))
        return rc;
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &k.uuid);
    json_set_int(detail, "spent", k.spent);
    if ((rc = event_key(tx, &a, &k, EVENT_KEY_BLACKLISTED, NULL, err))) {
        json_decref(detail);
        return rc;
    }
    return audit_add(tx, a.row, &b->actor, "key.blacklist", span_str(k.name), detail, err);
}

static int act_on_some(struct store_tx *tx, struct key_devices_act *k, const struct account *a, const struct prov_key *key, struct err *err) {
    int64_t at[STEP], n = 0;
    struct store_row *row;
    /* Revoking reaches devices that are in quarantine too. */
    int rc = store_query(tx, &row, err, SQL_KEY_REACH_DEVICES, "iiiii", key->row, k->since, I(k->to == DEVICE_REVOKED ? DEVICE_QUARANTINED : 0), k->after, I(STEP));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < STEP)
        at[n++] = store_int(row, 0);
    store_row_end(row);
    for (int64_t i = 0; rc >= 0 && i < n; i++) {
        struct device d;
        int found = device_find_row(tx, at[i], &d, err);
        if (found <= 0)
            return found < 0 ? found : MUSTER_ECORRUPT;
        rc = device_cut_off(tx, a, &d, k->to, &k->actor, k->reason, err);
    }
    if (rc < 0)
        return rc;
    k->more = n == STEP;
    k->done = n;
    k->next = n ? at[n - 1] : k->after;
    return epoch_raise(tx, err);
}

int key_devices_act_run(struct store_tx *tx, void *arg, struct err *err) {
    struct key_devices_act *k = arg;
    struct account a;
    struct prov_key key;
    int rc = account_need(tx, k->account, &a, err);
    if (rc || (rc = key_need(tx, &a, k->key, &key, err)))
        return rc;
    if (k->after == 0) {
        rc = one_int(tx, &k->count, 0, err, SQL_KEY_REACH, "iii", key.row, k->since, I(k->to == DEVICE_REVOKED ? DEVICE_QUARANTINED : 0));
        if (rc)
            return rc;
        if (k->confirm != k->count)
            return err_set(err, MUSTER_ECONFIRM, "This would %s %lld device%s that the provisioning key \"%s\" enrolled.", k->to == DEVICE_REVOKED ? "revoke" : "quarantine",
                           (long long)k->count, k->count == 1 ? "" : "s", key.name);
        json_t *detail = json_object();
        json_set_int(detail, "devices", k->count);
        json_set_time(detail, "since", k->since);
        if ((rc = audit_add(tx, a.row, &k->actor, k->to == DEVICE_REVOKED ? "key.devices.revoke" : "key.devices.quarantine", span_str(key.name), detail, err)))
            return rc;
    }
    if ((rc = act_on_some(tx, k, &a, &key, err)) || k->more)
        return rc;
    k->out = json_object();
    json_set_uuid(k->out, "id", &key.uuid);
    json_set_str(k->out, "name", key.name);
    json_set_str(k->out, "action", k->to == DEVICE_REVOKED ? "revoke" : "quarantine");
    json_set_int(k->out, "devices", k->count);
    return key_live_json(tx, &a, true, k->out, err);
}
