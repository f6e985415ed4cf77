/* profile: see profile.h. */
#include "registry/profile.h"

void profile_of(const struct account *a, const struct prov_key *key, struct device_profile *out) {
    device_profile_effective(&a->profile, a->device_life, a->profile.life_max, a->device_key == DEVICE_KEY_RSA, key ? &key->profile : NULL, out);
}

struct key_facts profile_made_key(const struct account *a) {
    return a->device_key == DEVICE_KEY_RSA ? (struct key_facts){.kind = KEY_RSA, .bits = 2048} : (struct key_facts){.kind = KEY_P256, .bits = 256};
}

/* 0: p, spelt out, takes it.  account: the same without the key. */
static int judge(const struct device_profile *p, const struct device_profile *account, const struct prov_key *key, const struct key_facts *k, struct err *why) {
    char who[sizeof "The provisioning key " + NAME_MAX_BYTES] = "The account";
    if (device_profile_key(p, k, who, NULL) == 0)
        return 0;
    const bool narrower = key && device_profile_key(account, k, who, NULL) == 0;
    if (narrower)
        snprintf(who, sizeof who, "The provisioning key %s", key->name);
    return device_profile_key(narrower ? p : account, k, who, why);
}

int profile_judge(const struct account *a, const struct prov_key *key, const struct key_facts *k, struct err *why) {
    struct device_profile p, account;
    profile_of(a, key, &p);
    if (device_profile_key(&p, k, "", NULL) == 0)
        return 0;
    profile_of(a, NULL, &account);
    return judge(&p, &account, key, k, why);
}

/* --- JSON ------------------------------------------------------------------------------------------------------------------------------ */

int profile_life_take(json_t *v, const char *name, int64_t *out, struct err *err) {
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return 0;
    }
    if (json_is_string(v) && strcmp(json_string_value(v), "none") == 0) {
        *out = PROFILE_NO_END;
        return 0;
    }
    if (json_is_string(v) && clock_parse_span(span_str(json_string_value(v)), out) == 0)
        return 0;
    return err_set(err, MUSTER_EINVALID, "%s is a length of time, a number of seconds or a text like \"90d\" or \"20y\", or \"none\" for no well-defined end.", name);
}

void profile_life_add(json_t *o, const char *name, int64_t life) {
    if (life == PROFILE_NO_END)
        json_set_str(o, name, "none");
    else
        json_set(o, name, life ? json_integer(life) : json_null());
}

static int take_words(json_t *v, const char *name, uint32_t (*bit_of)(const char *), uint32_t *out, struct err *err) {
    size_t i;
    json_t *one;
    uint32_t bits = 0;
    if (!json_is_array(v) || !json_array_size(v))
        return err_set(err, MUSTER_EINVALID, "%s is a list of words, not an empty one, or null.", name);
    json_array_foreach(v, i, one) {
        uint32_t bit = json_is_string(one) ? bit_of(json_string_value(one)) : 0;
        if (!bit)
            return err_set(err, MUSTER_EINVALID, "%s has a word that there is not: \"%.40s\".", name, json_is_string(one) ? json_string_value(one) : "");
        bits |= bit;
    }
    *out = bits;
    return 0;
}

static int take_subject(json_t *v, struct device_profile *p, struct err *err) {
    if (!json_is_string(v) || json_string_length(v) > PROFILE_SUBJECT_MAX || memchr(json_string_value(v), 0, json_string_length(v)))
        return err_set(err, MUSTER_EINVALID, "subject is a text of at most %d bytes, or null.", PROFILE_SUBJECT_MAX);
    const char *text = json_string_value(v);
    snprintf(p->subject, sizeof p->subject, "%s", strcmp(text, PROFILE_SUBJECT_DEFAULT) == 0 ? "" : text);
    return 0;
}

static int take_san(json_t *v, struct device_profile *p, struct err *err) {
    CLEANUP(buf_fini) struct buf all = BUF_INIT(PROFILE_SAN_MAX);
    size_t i;
    json_t *one;
    json_array_foreach(v, i, one) {
        struct span text = json_is_string(one) ? span_of(json_string_value(one), json_string_length(one)) : SPAN_NONE;
        if (!text.n || span_index(text, ' ') >= 0 || memchr(text.p, 0, text.n))
            return err_set(err, MUSTER_EINVALID, "san is a list of names like \"dns:{device_id}.devices.example.com\", or null.");
        buf_adds(&all, i ? " " : "");
        buf_add(&all, text);
    }
    if (!json_is_array(v) || !buf_ok(&all))
        return err_set(err, MUSTER_EINVALID, "san is a list of names of at most %d bytes together, or null.", PROFILE_SAN_MAX);
    snprintf(p->san, sizeof p->san, "%s", buf_str(&all));
    return 0;
}

int profile_take(struct device_profile *p, const char *key, json_t *v, bool *known, struct err *err) {
    const bool null = json_is_null(v);
    *known = true;
    if (strcmp(key, "key_types") == 0)
        return null ? (p->keys = 0, 0) : take_words(v, key, device_profile_key_of, &p->keys, err);
    if (strcmp(key, "key_usages") == 0)
        return null ? (p->usages = 0, 0) : take_words(v, key, device_profile_usage_of, &p->usages, err);
    if (strcmp(key, "life") == 0)
        return null ? (p->life = 0, 0) : profile_life_take(v, key, &p->life, err);
    if (strcmp(key, "longest_life") == 0)
        return null ? (p->life_max = 0, 0) : profile_life_take(v, key, &p->life_max, err);
    if (strcmp(key, "est_life") == 0)
        return null ? (p->est_life = 0, 0) : profile_life_take(v, key, &p->est_life, err);
    if (strcmp(key, "subject") == 0)
        return null ? (p->subject[0] = '\0', 0) : take_subject(v, p, err);
    if (strcmp(key, "san") == 0)
        return null ? (p->san[0] = '\0', 0) : take_san(v, p, err);
    *known = false;
    return 0;
}

static json_t *words_json(uint32_t bits, const char *(*word)(uint32_t)) {
    json_t *list = json_array();
    for (uint32_t bit = 1; bit && bit <= bits; bit <<= 1)
        if (bits & bit && word(bit))
            json_array_append_new(list, json_string(word(bit)));
    return list;
}

static json_t *san_json(const char *san) {
    json_t *list = json_array();
    for (const char *p = san; *p;) {
        size_t n = strcspn(p, " ");
        json_array_append_new(list, json_stringn(p, n));
        p += n + (p[n] == ' ');
    }
    return list;
}

static void add_whole(json_t *o, const struct device_profile *p) {
    profile_life_add(o, "life", p->life);
    profile_life_add(o, "longest_life", p->life_max);
    profile_life_add(o, "est_life", p->est_life);
    json_set(o, "key_types", words_json(p->keys, device_profile_key_word));
    json_set(o, "key_usages", words_json(p->usages ? p->usages : PROFILE_USES_DEFAULT, device_profile_usage_word));
    json_set_str(o, "subject", p->subject[0] ? p->subject : PROFILE_SUBJECT_DEFAULT);
    json_set(o, "san", san_json(p->san));
}

json_t *profile_json(const struct account *a) {
    struct device_profile p;
    json_t *o = json_object(), *shadow = json_null();
    profile_of(a, NULL, &p);
    json_set_str(o, "id", a->name);
    add_whole(o, &p);
    if (a->shadow.life) {
        shadow = json_object();
        device_profile_effective(&a->shadow, a->shadow.life, a->shadow.life_max, a->device_key == DEVICE_KEY_RSA, NULL, &p);
        add_whole(shadow, &p);
    }
    json_set(o, "shadow", shadow);
    return o;
}

void profile_key_add(json_t *o, const struct device_profile *p) {
    profile_life_add(o, "life", p->life);
    profile_life_add(o, "longest_life", p->life_max);
    json_set(o, "key_types", p->keys ? words_json(p->keys, device_profile_key_word) : json_null());
    json_set(o, "key_usages", p->usages ? words_json(p->usages, device_profile_usage_word) : json_null());
}

/* --- rows and entries --------------------------------------------------------------------------------------------------------------------- */

const char *profile_text(const struct device_profile *p, char out[PROFILE_TEXT_MAX + 1]) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(PROFILE_TEXT_MAX);
    device_profile_write(p, &text);
    snprintf(out, PROFILE_TEXT_MAX + 1, "%s", buf_str(&text));
    return out;
}

void profile_detail_add(json_t *detail, const char *name, const struct device_profile *p) {
    char text[PROFILE_TEXT_MAX + 1];
    if (!device_profile_is_default(p))
        json_set_str(detail, name, profile_text(p, text));
}

void profile_detail_read(const json_t *detail, const char *name, struct device_profile *out) {
    const char *text = json_string_value(json_object_get(detail, name));
    if (!text || device_profile_read(span_str(text), out, NULL))
        *out = (struct device_profile){0};
}
