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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    long nul = span_index(in, 0);
    struct span text = nul < 0 ? in : span_sub(in, 0, (size_t)nul), id = nul < 0 ? SPAN_LIT("VIN-1") : span_sub(in, (size_t)nul + 1, n);
    struct device_profile p, key = {.keys = PROFILE_KEY_P256, .life = 3600, .life_max = 7200, .usages = MAKE_USE_SIGN}, whole, e;
    if (device_profile_read(text, &p, NULL))
        return 0;
    CLEANUP(buf_fini) struct buf again = BUF_INIT(PROFILE_TEXT_MAX);
    MUST(device_profile_check(&p, NULL) == 0);
    device_profile_write(&p, &again);
    MUST(buf_ok(&again) && span_eq(buf_span(&again), text));
    device_profile_effective(&p, p.life ? p.life : 86400, p.life_max, false, NULL, &whole);
    device_profile_effective(&p, p.life ? p.life : 86400, p.life_max, false, &key, &e);
    MUST(e.keys == (whole.keys & key.keys ? whole.keys & key.keys : whole.keys)); /* nobody is left without a kind of key */
    MUST(e.life && e.life <= e.life_max && e.life <= key.life && e.life_max <= key.life_max && device_profile_life(&e, INT64_MAX, 0) == e.life_max);
    if (id.n >= 1 && id.n <= 128 && span_is_utf8(id) && !span_has_control(id))
        check_names(&p, id);
    return 0;
}
