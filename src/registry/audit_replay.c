/* audit_replay: see audit_replay.h.  Here are the actions; what each comes to is audit_replay_account.c's, audit_replay_device.c's and audit_replay_invited.c's.  Entries that are not
 * in the table change nothing that is held against rows. */
#include "registry/audit_replay_part.h"

#include "base/hex.h"

/* --- an entry's detail ---------------------------------------------------------------------------------------------------------- */

const char *replay_text(const json_t *detail, const char *name) {
    const char *text = json_string_value(json_object_get(detail, name));
    return text ? text : "";
}
int64_t replay_int(const json_t *detail, const char *name) { return json_integer_value(json_object_get(detail, name)); }
bool replay_hash(const json_t *detail, const char *name, struct hash *out) { return hex_decode(span_str(replay_text(detail, name)), out->b, sizeof out->b) == 0; }
int64_t replay_time(const json_t *detail, const char *name) {
    int64_t t;
    return clock_parse_rfc3339(span_str(replay_text(detail, name)), &t) ? 0 : t;
}
/* 0: not there. */
uint64_t replay_mark(const struct audit_replay *r, const json_t *detail, const char *name) {
    struct hash h;
    return replay_hash(detail, name, &h) ? audit_devices_hash(r->devices, hash_span(&h)) : 0;
}

uint64_t audit_replay_mark(const struct audit_replay *r, struct span fingerprint, const struct uuid *by, int64_t enrolled) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(128);
    if (!fingerprint.n)
        return 0;
    buf_add(&b, fingerprint);
    if (by)
        buf_add(&b, span_of(by->b, sizeof by->b));
    if (enrolled)
        buf_add_u64(&b, (uint64_t)enrolled);
    return audit_devices_hash(r->devices, buf_span(&b));
}

uint64_t replay_mark_by(const struct audit_replay *r, const json_t *detail, const struct uuid *by, int64_t enrolled) {
    struct hash h;
    return replay_hash(detail, "fingerprint", &h) ? audit_replay_mark(r, hash_span(&h), by, enrolled) : 0;
}

void replay_bad(struct audit_replay *r, const struct audit_entry *e, const char *why) {
    audit_verify_bad(r->verify, e->seq, "%s (%.*s, %.64s).", why, SPAN_FMT(e->action), e->object.n ? (const char *)e->object.p : "no object");
}

void *replay_grown(void *at, size_t n, size_t size) { return n & (n - 1) ? at : realloc(at, (n ? 2 * n : 1) * size); }

/* --- the actions --------------------------------------------------------------------------------------------------------------------- */

enum whose { CONTROL, GATEWAY };
enum about { ACCOUNT, DEVICE, NOTHING };

static const struct action {
    const char *name;
    enum whose whose;
    enum about about;
    follow_fn *follow;
} ACTIONS[] = {
    {"device.enrol", GATEWAY, DEVICE, replay_device_enrol},
    {"device.first_use", GATEWAY, DEVICE, replay_device_first_use},
    {"device.first_contact", GATEWAY, DEVICE, replay_device_first_contact},
    {"device.renew", GATEWAY, DEVICE, replay_device_renew},
    {"device.certificate", GATEWAY, DEVICE, replay_device_certificate},
    {"device.key_changed", GATEWAY, DEVICE, replay_device_key_changed},
    {"device.announced", GATEWAY, DEVICE, replay_device_announced},
    {"device.key_offered", GATEWAY, NOTHING, NULL},
    {"device.asks_again", GATEWAY, NOTHING, NULL},
    {"device.recover", CONTROL, DEVICE, replay_device_recover},
    {"device.csr", GATEWAY, NOTHING, NULL},
    {"device.allow", CONTROL, ACCOUNT, replay_device_allow},
    {"device.approve", CONTROL, DEVICE, replay_device_approve},
    {"device.refuse", CONTROL, DEVICE, replay_device_refuse},
    {"device.revoke", CONTROL, DEVICE, replay_device_revoke},
    {"device.quarantine", CONTROL, DEVICE, replay_device_quarantine},
    {"device.hold", CONTROL, DEVICE, replay_device_hold},
    {"device.release", CONTROL, DEVICE, replay_device_release},
    {"device.delete", CONTROL, DEVICE, replay_device_delete},
    {"device.certificate_revoke", CONTROL, DEVICE, replay_device_certificate_revoke},
    {"device.line_certificate_revoke", CONTROL, DEVICE, replay_device_line_certificate_revoke},
    {"device.accept_key", CONTROL, DEVICE, replay_device_accept_key},
    {"device.invite", CONTROL, DEVICE, replay_device_invite},
    {"device.uninvite", CONTROL, DEVICE, replay_device_uninvite},
    {"device.import", CONTROL, ACCOUNT, replay_expected_changed},
    {"device.unannounce", CONTROL, ACCOUNT, replay_expected_changed},
    {"account.create", CONTROL, ACCOUNT, replay_account_settings},
    {"account.set", CONTROL, ACCOUNT, replay_account_settings},
    {"account.delete", CONTROL, ACCOUNT, replay_account_delete},
    {"root.upload", CONTROL, ACCOUNT, replay_root_upload},
    {"root.prove", CONTROL, ACCOUNT, replay_root_prove},
    {"root.set", CONTROL, ACCOUNT, replay_root_set},
    {"root.disable", CONTROL, ACCOUNT, replay_root_disable},
    {"root.enable", CONTROL, ACCOUNT, replay_root_enable},
    {"root.revoke", CONTROL, ACCOUNT, replay_root_revoke},
    {"root.retire", CONTROL, ACCOUNT, replay_root_retire},
    {"root.rotate", CONTROL, ACCOUNT, replay_root_rotate},
    {"root.crl", CONTROL, ACCOUNT, replay_root_crl},
    {"key.create", CONTROL, ACCOUNT, replay_key_create},
    {"key.set", CONTROL, ACCOUNT, replay_key_set},
    {"key.blacklist", CONTROL, ACCOUNT, replay_key_blacklist},
    {"line.create", CONTROL, ACCOUNT, replay_line_create},
    {"line.set", CONTROL, ACCOUNT, replay_line_set},
    {"line.revoke", CONTROL, ACCOUNT, replay_line_revoke},
    {"line.manifest", CONTROL, ACCOUNT, replay_line_manifest},
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
    const bool in_part = a->about == DEVICE && audit_devices_has_part(r->devices, e->object), enrols = a->follow == replay_device_enrol && r->first_part,
               contacts = a->follow == replay_device_first_contact && r->first_part, recovers = a->follow == replay_device_recover && r->first_part;
    if (r->full)
        return;
    if (a->whose == CONTROL && e->seq > r->unsealed && !audit_seal_holds(r->verify->chain, e->seq, &e->hash, e->seal)) {
        replay_bad(r, e, "The entry says what an operator does, and control did not write it");
        return;
    }
    if (!a->follow || (a->about == DEVICE && !in_part && !enrols && !contacts && !recovers))
        return;
    CLEANUP_JSON json_t *detail = e->detail.n ? json_parse(e->detail, NULL) : NULL;
    if (enrols && !json_object_get(detail, "invitation"))
        replay_key_spend(r, e, detail, strcmp(replay_text(detail, "how"), "answer lost") == 0);
    if (contacts && *replay_text(detail, "line"))
        replay_line_spend(r, e, detail);
    if (recovers)
        replay_line_charge(r, e, json_object_get(detail, "lines"));
    if (a->about != DEVICE || in_part)
        a->follow(r, e, detail);
}

static void free_lines(struct audit_replay *r) {
    for (size_t i = 0; i < r->n_lines; i++)
        free(r->lines[i].told);
    free(r->lines);
    r->lines = NULL;
    r->n_lines = 0;
}

void audit_replay_begin(struct audit_replay *r) {
    free(r->roots);
    free(r->keys);
    free_lines(r);
    free(r->accepted);
    free(r->allowed);
    audit_invitations_begin(&r->invited);
    *r = (struct audit_replay){.name = r->name, .unsealed = r->unsealed, .verify = r->verify, .devices = r->devices, .invited = r->invited, .first_part = r->first_part, .summed = true};
}

void audit_replay_fini(struct audit_replay *r) {
    audit_devices_free(TAKE(r->devices));
    audit_invitations_fini(&r->invited);
    free(r->roots);
    free(r->keys);
    free_lines(r);
    free(r->accepted);
    free(r->allowed);
    r->allowed = NULL;
    r->roots = NULL;
    r->keys = NULL;
    r->accepted = NULL;
}
