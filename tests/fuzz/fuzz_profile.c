/* Texts of issuing profiles: what is read is written again as it was, judged good, and makes names within their bounds for whatever device ID follows
 * behind a NUL. */
#include "fuzz.h"
#include "pki/device_profile.h"

static void check_value(struct span s, size_t characters) { MUST(span_is_utf8(s) && !span_has_control(s) && make_characters(s) <= characters); }

static void check_names(const struct device_profile *p, struct span id) {
    static const struct uuid uuid = {{1}};
    CLEANUP(device_profile_names_fini) struct device_profile_names names = DEVICE_PROFILE_NAMES_INIT;
    struct make_request rq = {.profile = PROFILE_DEVICE};
    MUST(device_profile_fill(p, SPAN_LIT("12345678901234567890123456789012"), id, &uuid, &names, &rq, NULL) == 0);
    MUST(rq.n_san <= MAKE_SANS && rq.subject.common_name.n);
    check_value(rq.subject.country, 2);
    check_value(rq.subject.state, 128);
    check_value(rq.subject.locality, 128);
    check_value(rq.subject.organisation, 64);
    check_value(rq.subject.organisational_unit, 64);
    check_value(rq.subject.serial_number, 64);
    check_value(rq.subject.common_name, 64);
    for (size_t i = 0; i < rq.n_san; i++) {
        struct span v = rq.san[i].value;
        MUST(v.n && !span_starts(v, SPAN_LIT("urn:muster:")));
        for (size_t k = 0; k < v.n; k++)
            MUST(v.p[k] > ' ' && v.p[k] < 0x7f);
    }
}

/* Each of its words is the bit's that it was made of. */
static void check_words(const struct device_profile *p) {
    for (uint32_t bit = 1; bit; bit <<= 1) {
        const char *key = device_profile_key_word(bit), *usage = device_profile_usage_word(bit);
        MUST(key ? device_profile_key_of(key) == bit : !(p->keys & bit));
        MUST(usage ? device_profile_usage_of(usage) == bit : !(p->usages & bit));
    }
}

/* What a provisioning key says, within the account's profile spelt out: taken where nothing of it lies outside. */
static void check_narrows(const struct device_profile *whole, const struct device_profile *key) {
    struct err err = ERR_INIT;
    const uint32_t usages = whole->usages ? whole->usages : (uint32_t)PROFILE_USES_DEFAULT;
    const bool within = !key->subject[0] && !key->san[0] && !key->est_life && !(key->keys & ~whole->keys) && !(key->usages & ~usages) && key->life <= whole->life_max && key->life_max <= whole->life_max;
    int rc = device_profile_narrows(whole, key, &err);
    MUST(within ? rc == 0 : rc == MUSTER_EINVALID && err.code == rc && err.text[0]);
}

/* A key of each kind is taken exactly where the profile names the kind; of lengths of RSA in between the shorter one's word counts. */
static void check_keys(const struct device_profile *whole) {
    static const struct {
        struct key_facts key;
        uint32_t bit;
    } KEYS[] = {{{.kind = KEY_P256, .bits = 256}, PROFILE_KEY_P256},        {{.kind = KEY_P384, .bits = 384}, PROFILE_KEY_P384},    {{.kind = KEY_P521, .bits = 521}, PROFILE_KEY_P521},
                {{.kind = KEY_ED25519, .bits = 256}, PROFILE_KEY_ED25519},  {{.kind = KEY_RSA, .bits = 2048}, PROFILE_KEY_RSA2048}, {{.kind = KEY_RSA, .bits = 3000}, PROFILE_KEY_RSA2048},
                {{.kind = KEY_RSA, .bits = 3072}, PROFILE_KEY_RSA3072},     {{.kind = KEY_RSA, .bits = 4096}, PROFILE_KEY_RSA4096}, {{.kind = KEY_RSA, .bits = 1024}, 0},
                {{.kind = KEY_RSA, .bits = 8192}, 0},                       {{.kind = KEY_OTHER, .bits = 256}, 0},                  {{.kind = KEY_NONE}, 0}};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        struct err err = ERR_INIT;
        int rc = device_profile_key(whole, &KEYS[i].key, "The account", &err);
        MUST((whole->keys & KEYS[i].bit) ? rc == 0 : rc == MUSTER_ECERTWEAKKEY && err.code == rc && span_starts(span_str(err.text), SPAN_LIT("The account takes ")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    long nul = span_index(in, 0);
    struct span text = nul < 0 ? in : span_sub(in, 0, (size_t)nul), id = nul < 0 ? SPAN_LIT("VIN-1") : span_sub(in, (size_t)nul + 1, n);
    struct device_profile p, key = {.keys = PROFILE_KEY_P256, .life = 3600, .life_max = 7200, .usages = MAKE_USE_SIGN}, whole, e, same;
    if (device_profile_read(text, &p, NULL))
        return 0;
    CLEANUP(buf_fini) struct buf again = BUF_INIT(PROFILE_TEXT_MAX);
    MUST(device_profile_check(&p, NULL) == 0);
    device_profile_write(&p, &again);
    MUST(buf_ok(&again) && span_eq(buf_span(&again), text));
    MUST(device_profile_read(buf_span(&again), &same, NULL) == 0 && device_profile_eq(&same, &p) && device_profile_is_default(&p) == (text.n == 0));
    check_words(&p);
    device_profile_effective(&p, p.life ? p.life : 86400, p.life_max, false, NULL, &whole);
    check_keys(&whole);
    check_narrows(&whole, &key);
    check_narrows(&whole, &p);
    device_profile_effective(&p, p.life ? p.life : 86400, p.life_max, false, &key, &e);
    MUST(e.keys == (whole.keys & key.keys ? whole.keys & key.keys : whole.keys)); /* nobody is left without a kind of key */
    MUST(e.life && e.life <= e.life_max && e.life <= key.life && e.life_max <= key.life_max && device_profile_life(&e, INT64_MAX, false) == e.life_max);
    MUST(device_profile_life(&e, 0, false) == e.life && e.est_life == (p.est_life ? p.est_life : PROFILE_EST_LIFE) && device_profile_life(&e, 0, true) == (e.est_life < e.life ? e.est_life : e.life));
    if (id.n >= 1 && id.n <= 128 && span_is_utf8(id) && !span_has_control(id))
        check_names(&p, id);
    return 0;
}
