/* tried_over: what is tried, put over what holds; see tried.h. */
#include "registry/tried.h"

#include "registry/key_json.h"

/* Members that cannot be read are as if they were not there: nothing is refused by them either way. */
static void over_account(const char *tried, struct account *a) {
    CLEANUP_JSON json_t *members = tried_json(tried);
    struct account_settings s;
    enum account_method method = a->method;
    account_settings_of(a, &s);
    if (account_settings_take(&s, &method, members, NULL))
        return;
    a->method = method;
    a->reprovision = s.reprovision;
    a->approval = s.approval;
    a->expected_only = s.expected_only;
    a->device_key = s.device_key;
    a->lost_answer_window = s.lost_answer_window;
    a->renewal_window = s.renewal_window;
    a->late_renewal = s.late_renewal;
    a->superseded_renewal = s.superseded_renewal;
    a->server_keygen = s.server_keygen;
    a->csr_queue = s.csr_queue;
    a->hook = json_object_get(members, "hook") ? s.hook : a->hook;
}

bool tried_account(const struct account *a, struct account *out) {
    if (!a->tried[0] && !a->shadow.life && a->hook != HOOK_TRY)
        return false;
    *out = *a;
    out->hook = a->hook == HOOK_TRY ? HOOK_ALL : HOOK_OFF; /* a rule that is not tried asks nobody on trial */
    if (a->tried[0])
        over_account(a->tried, out);
    if (a->shadow.life) {
        out->profile = a->shadow;
        out->profile.life = 0;
        out->device_life = a->shadow.life;
    }
    return true;
}

bool tried_key(const struct prov_key *k, struct prov_key *out) {
    const bool profile = !device_profile_is_default(&k->shadow);
    if (!k->tried[0] && !profile)
        return false;
    *out = *k;
    if (profile)
        out->profile = k->shadow;
    if (k->tried[0]) {
        CLEANUP_JSON json_t *members = tried_json(k->tried);
        struct key_bounds b;
        key_bounds_of(k, &b);
        if (key_bounds_json(&b, members, NULL) == 0) {
            out->expires = b.expires;
            out->max_devices = b.max_devices;
            out->per_hour = b.per_hour;
            memcpy(out->id_pattern, b.id_pattern, sizeof out->id_pattern);
            memcpy(out->sources, b.sources, sizeof out->sources);
        }
    }
    return true;
}

static int word_in(const json_t *members, const char *member, const struct words *words, int held) {
    const char *word = json_string_value(json_object_get(members, member));
    const int number = word ? word_parse(words, word) : 0;
    return number ? number : held;
}

enum root_state tried_root_state(const struct root *r) {
    CLEANUP_JSON json_t *members = tried_json(r->tried);
    return (enum root_state)word_in(members, "state", &WORDS_ROOT_STATE, 0);
}

bool tried_root(const struct root *r, struct root *out) {
    if (!r->tried[0])
        return false;
    CLEANUP_JSON json_t *members = tried_json(r->tried);
    const char *id_rule = json_string_value(json_object_get(members, "id_rule"));
    *out = *r;
    if (id_rule && id_rule_parse(span_str(id_rule), &out->id_rule))
        out->id_rule = r->id_rule;
    out->key_rule = (enum key_rule)word_in(members, "key_rule", &WORDS_KEY_RULE, r->key_rule);
    out->expired = (enum expired_rule)word_in(members, "expired", &WORDS_EXPIRED_RULE, r->expired);
    if (r->state == ROOT_ACTIVE || r->state == ROOT_KNOWN_ONLY) /* no rule opens what is shut */
        out->state = (enum root_state)word_in(members, "state", &WORDS_ROOT_STATE, r->state);
    return true;
}

void tried_refused(struct err *out, const struct err *why) { err_set(out, MUSTER_ESHADOW, "By what is tried: %s", err_text(why)); }

bool tried_of(const struct account **a, const struct prov_key **k, struct tried_room *room) {
    const bool account = tried_account(*a, &room->account), key = *k && tried_key(*k, &room->key);
    *a = account ? &room->account : *a;
    *k = key ? &room->key : *k;
    return account || key;
}
