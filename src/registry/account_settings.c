/* account_settings: the settings of accounts, as they are by themselves, judged, and read out of JSON; see account.h. */
#include "registry/account.h"

#include "registry/profile.h"
#include "registry/tried.h"

void account_settings_of(const struct account *a, struct account_settings *out) {
    *out = (struct account_settings){a->reprovision, a->approval, a->expected_only, a->device_key, a->device_life, a->lost_answer_window, a->issue_ceiling,
                                     a->renewal_window, a->late_renewal, a->superseded_renewal, a->server_keygen, a->csr_queue, a->profile, a->shadow, a->hook, "", a->backend};
    memcpy(out->tried, a->tried, sizeof out->tried);
}

json_t *account_settings_show(const struct account_settings *s) {
    json_t *o = json_object();
    json_set_str(o, "reprovision", word_of(&WORDS_REPROVISION, s->reprovision));
    json_set_bool(o, "approval", s->approval);
    json_set_bool(o, "expected_only", s->expected_only);
    json_set_str(o, "device_key", word_of(&WORDS_DEVICE_KEY, s->device_key));
    profile_life_add(o, "device_life", s->device_life);
    json_set_int(o, "lost_answer_window", s->lost_answer_window);
    json_set_int(o, "issue_ceiling", s->issue_ceiling);
    json_set_int(o, "renewal_window", s->renewal_window);
    json_set_int(o, "late_renewal", s->late_renewal);
    json_set_int(o, "superseded_renewal", s->superseded_renewal);
    json_set_bool(o, "server_keygen", s->server_keygen);
    json_set_bool(o, "csr_queue", s->csr_queue);
    json_set_str(o, "hook", word_of(&WORDS_HOOK, s->hook));
    json_set_str(o, "backend", word_of(&WORDS_BACKEND, s->backend));
    return o;
}

void account_settings_default(struct account_settings *s) {
    *s = (struct account_settings){.reprovision = REPROVISION_NEVER, .device_key = DEVICE_KEY_P256, .backend = BACKEND_SEALED, .device_life = DEVICE_LIFE,
                                   .lost_answer_window = CLOCK_DAY, .issue_ceiling = 20000, .late_renewal = LATE_RENEWAL, .superseded_renewal = SUPERSEDED_RENEWAL, .hook = HOOK_OFF};
}

int account_settings_check(const struct account_settings *s, struct err *err) {
    if (s->device_life != PROFILE_NO_END && (s->device_life < CLOCK_HOUR || s->device_life > 100 * CLOCK_YEAR))
        return err_set(err, MUSTER_EINVALID, "device_life is between 1h and 100y, or \"none\" for no well-defined end.");
    int rc = device_profile_check(&s->profile, err);
    if (rc || (rc = device_profile_check(&s->shadow, err)))
        return rc;
    if (s->profile.life_max && s->profile.life_max < s->device_life)
        return err_set(err, MUSTER_EINVALID, "device_life is over the longest_life of the account's profile.");
    if (s->lost_answer_window < 0 || s->lost_answer_window > 30 * CLOCK_DAY)
        return err_set(err, MUSTER_EINVALID, "lost_answer_window is between 0 and 30d.");
    if (s->issue_ceiling < 1 || s->issue_ceiling > 10000000)
        return err_set(err, MUSTER_EINVALID, "issue_ceiling is between 1 and 10000000 certificates an hour.");
    if (s->renewal_window < 0 || s->renewal_window > 100 * CLOCK_YEAR)
        return err_set(err, MUSTER_EINVALID, "renewal_window is between 0 (a device may renew at any time) and 100y.");
    if (s->late_renewal < 0 || s->late_renewal > 100 * CLOCK_YEAR)
        return err_set(err, MUSTER_EINVALID, "late_renewal is between 0 (an expired certificate is not renewed) and 100y.");
    if (s->superseded_renewal < 0 || s->superseded_renewal > CLOCK_YEAR)
        return err_set(err, MUSTER_EINVALID, "superseded_renewal is between 0 (a certificate that was replaced is good for nothing) and 1y.");
    return 0;
}

static int take_word(json_t *v, const char *name, const struct words *w, int *out, struct err *err) {
    CLEANUP(buf_fini) struct buf choice = BUF_INIT(256);
    *out = json_is_string(v) ? word_parse(w, json_string_value(v)) : 0;
    words_list(w, &choice);
    return *out ? 0 : err_set(err, MUSTER_EINVALID, "%s is %s.", name, buf_str(&choice));
}

static int take_bool(json_t *v, const char *name, bool *out, struct err *err) {
    *out = json_is_true(v);
    return json_is_boolean(v) ? 0 : err_set(err, MUSTER_EINVALID, "%s is true or false.", name);
}

/* Seconds as a number, or a text like "20y". */
static int take_span(json_t *v, const char *name, int64_t *out, struct err *err) {
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return 0;
    }
    if (json_is_string(v) && clock_parse_span(span_str(json_string_value(v)), out) == 0)
        return 0;
    return err_set(err, MUSTER_EINVALID, "%s is a length of time: a number of seconds, or a text like \"24h\", \"30d\" or \"20y\".", name);
}

static int take_setting(struct account_settings *s, const char *key, json_t *v, bool *known, struct err *err) {
    int word = 0, rc = 0;
    *known = true;
    if (strcmp(key, "reprovision") == 0) {
        rc = take_word(v, key, &WORDS_REPROVISION, &word, err);
        s->reprovision = (enum reprovision)word;
    } else if (strcmp(key, "approval") == 0) {
        rc = take_bool(v, key, &s->approval, err);
    } else if (strcmp(key, "expected_only") == 0) {
        rc = take_bool(v, key, &s->expected_only, err);
    } else if (strcmp(key, "device_key") == 0) {
        rc = take_word(v, key, &WORDS_DEVICE_KEY, &word, err);
        s->device_key = (enum device_key_kind)word;
    } else if (strcmp(key, "device_life") == 0) {
        rc = profile_life_take(v, key, &s->device_life, err);
    } else if (strcmp(key, "lost_answer_window") == 0) {
        rc = take_span(v, key, &s->lost_answer_window, err);
    } else if (strcmp(key, "renewal_window") == 0) {
        rc = take_span(v, key, &s->renewal_window, err);
    } else if (strcmp(key, "late_renewal") == 0) {
        rc = take_span(v, key, &s->late_renewal, err);
    } else if (strcmp(key, "superseded_renewal") == 0) {
        rc = take_span(v, key, &s->superseded_renewal, err);
    } else if (strcmp(key, "server_keygen") == 0) {
        rc = take_bool(v, key, &s->server_keygen, err);
    } else if (strcmp(key, "csr_queue") == 0) {
        rc = take_bool(v, key, &s->csr_queue, err);
    } else if (strcmp(key, "hook") == 0) {
        rc = take_word(v, key, &WORDS_HOOK, &word, err);
        s->hook = (enum hook_rule)word;
    } else if (strcmp(key, "backend") == 0) {
        rc = take_word(v, key, &WORDS_BACKEND, &word, err);
        s->backend = (enum account_backend)word;
    } else if (strcmp(key, "issue_ceiling") == 0) {
        s->issue_ceiling = json_integer_value(v);
        rc = json_is_integer(v) ? 0 : err_set(err, MUSTER_EINVALID, "issue_ceiling is a number.");
    } else {
        *known = false;
    }
    return rc;
}

int account_settings_json(struct account_settings *s, json_t *from, json_t **rest, struct err *err) {
    CLEANUP_JSON json_t *left = json_object();
    const char *key;
    json_t *value;
    json_object_foreach(from, key, value) {
        bool known;
        int rc = take_setting(s, key, value, &known, err);
        if (rc)
            return rc;
        if (!known)
            json_object_set(left, key, value);
    }
    int rc = account_settings_check(s, err);
    if (!rc)
        *rest = TAKE(left);
    return rc;
}

int account_settings_take(struct account_settings *s, enum account_method *method, json_t *from, struct err *err) {
    CLEANUP_JSON json_t *rest = NULL;
    const char *word = NULL;
    int rc = account_settings_json(s, from, &rest, err);
    if (rc || (rc = json_take(rest, err, "{s?s}", "method", &word)))
        return rc;
    if (word)
        *method = (enum account_method)word_parse(&WORDS_METHOD, word);
    return *method ? 0 : err_set(err, MUSTER_EINVALID, "method is shared, device or both.");
}

int account_settings_try(struct account_settings *s, enum account_method method, json_t *body, struct err *err) {
    CLEANUP_JSON json_t *before = *s->tried ? tried_json(s->tried) : json_object(), *members = json_copy(body), *whole = NULL;
    struct account_settings t = *s;
    json_object_del(members, "shadow");
    int rc = !json_object_size(members) ? err_set(err, MUSTER_EINVALID, "What is to be tried is said beside shadow: a setting, or several.") : account_settings_take(&t, &method, before, err);
    if (rc || (rc = account_settings_take(&t, &method, members, err)))
        return rc;
    if (t.hook == HOOK_TRY && json_object_get(members, "hook"))
        return err_set(err, MUSTER_EINVALID, "The rule that is tried is off, new or all.");
    whole = account_settings_show(&t);
    json_set_str(whole, "method", word_of(&WORDS_METHOD, method));
    return tried_put(s->tried, sizeof s->tried, TRIED_OF_ACCOUNT, whole, body, err);
}
