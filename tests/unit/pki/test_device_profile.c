/* What a profile is, and is not: its text, its templates, what narrows it, and the names that come of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/clock.h"
#include "pki/device_profile.h"
#include "../pki_fixture.h"

static const struct uuid UUID = {{0x01, 0x02, 0x03}};
#define UUID_TEXT "01020300-0000-0000-0000-000000000000"

static struct device_profile read_it(const char *text) {
    struct device_profile p;
    struct err err = ERR_INIT;
    if (device_profile_read(span_str(text), &p, &err))
        fail_msg("%s: %s", text, err_text(&err));
    return p;
}

static void text(void **state) {
    static const char *const good[] = {"", "keys=p256\n", "keys=p256,ed25519,rsa4096\nusages=digital-signature,key-agreement\nlife=3600\nlife_max=9223372036854775807\nsubject=CN={device_id}\nsan=dns:{device_id}.example.com\n",
                                       "usages=digital-signature\n", "life_max=86400\n", "life_max=86400\nest_life=3600\nsubject=CN={device_id}\n", "subject=C=DE,ST=x,L=y,O={account} fleet,OU={uuid},serialNumber={device_id},CN={device_id}\n",
                                       "san=uri:urn:example:{account}:{device_id} dns:d-{uuid}.devices.example.com\n"};
    static const char *const bad[] = {"\n", "keys=\n", "keys=p256", "keys=p256,\n", "keys=,p256\n", "keys=p384,p256\n", "keys=p256,p256\n", "keys=P256\n", "keys=dsa\n", "life=0\n", "life=-1\n",
                                      "life=03600\n", "life=9223372036854775808\n", "life=59\n", "life=x\n", "life_max=3153600001\n", "life=86400\nlife_max=3600\n", "life_max=3600\nlife=3600\n", "est_life=3600\nlife=3600\n", "est_life=59\n", "est_life=0\n", "life=3600\nlife=3600\n",
                                      "usages=key-agreement\n", "usages=key-cert-sign\n", "subject=\n", "san=\n", "eku=serverAuth\n", "keys=p256\n\n", " keys=p256\n", "subject=O=x\n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CLEANUP(buf_fini) struct buf again = BUF_INIT(PROFILE_TEXT_MAX);
        struct device_profile p = read_it(good[i]);
        device_profile_write(&p, &again);
        assert_string_equal(buf_str(&again), good[i]);
        assert_int_equal(device_profile_is_default(&p), i == 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct device_profile p;
        if (device_profile_read(span_str(bad[i]), &p, NULL) == 0)
            fail_msg("%s was read", bad[i]);
    }
}

static bool subject_good(const char *subject) {
    struct device_profile p = {0};
    snprintf(p.subject, sizeof p.subject, "%s", subject);
    return device_profile_check(&p, NULL) == 0;
}

static bool san_good(const char *san) {
    struct device_profile p = {0};
    snprintf(p.san, sizeof p.san, "%s", san);
    return device_profile_check(&p, NULL) == 0;
}

static void templates(void **state) {
    assert_true(subject_good("CN={device_id}") && subject_good(PROFILE_SUBJECT_DEFAULT) && subject_good("CN={device_id},O=Größe & Söhne"));
    static const char *const subjects[] = {"O=x", "CN=x", "CN={uuid}", "CN={device_id}x", "CN={device_id},CN={device_id}", "CN={device_id},O=", "CN={device_id},O", "CN={device_id},", ",CN={device_id}", "DC=x,CN={device_id}",
                                           "CN={device_id},O={x}", "CN={device_id},O={", "CN={device_id},O=}", "CN={device_id},O=a=b", "CN={device_id},O=a\\", "CN={device_id},O=a+b", "CN={device_id},O=a\"b", "CN={device_id},C=d1",
                                           "CN={device_id},C=DEU", "CN={device_id},C=D", "CN={device_id},O=a\nb", "CN={device_id},O=\xff", "cn={device_id}",
                                           "CN={device_id},OU={device_id}{uuid}", "CN={device_id},OU=12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (subject_good(subjects[i]))
            fail_msg("%s is a subject", subjects[i]);
    assert_true(san_good("dns:{device_id}.example.com") && san_good("dns:{uuid}.{account}.example.com") && san_good("uri:urn:x:{device_id}") && san_good("uri:https://example.com/{account}/{device_id}?a=b"));
    assert_true(san_good("dns:a.{device_id}-x.example.com dns:{device_id}.b.c uri:a:{uuid} uri:b:{uuid}"));
    static const char *const sans[] = {" ", "dns:{device_id}", "dns:example.com", "dns:x.{device_id}", "dns:x.com.{account}", "dns:{device_id}.", "dns:{device_id}.-a.com", "dns:{device_id}.a_b.com", "dns:*.{device_id}.com", "dns:{device_id}..com",
                                       "ip:{device_id}", "{device_id}.example.com", "DNS:{device_id}.example.com", "uri:{device_id}", "uri::{device_id}", "uri:1a:{device_id}", "uri:urn:muster:device:{device_id}", "uri:urn:muster:x:{device_id}",
                                       "uri:urn:x", "uri:urn:x:{device_id}\x7f", "uri:urn:x:%41{device_id}", "uri:urn:x:{device_id}{x}", "uri:urn:x:{uuid}{uuid}{uuid}{uuid}",
                                       "uri:urn:{account}:device:{uuid}", "uri:urn:mus{device_id}:x", "uri:urn:{device_id}", "uri:urn:MUSTER:device:{uuid}", "uri:urn::{uuid}",
                                       "dns:{device_id}.a.com dns:{device_id}.b.com dns:{device_id}.c.com dns:{device_id}.d.com dns:{device_id}.e.com", "dns:{device_id}.a.com  dns:{device_id}.b.com", "dns:{device_id}.a.com "};
    for (size_t i = 0; i < sizeof sans / sizeof *sans; i++)
        if (san_good(sans[i]))
            fail_msg("%s is a list of names", sans[i]);
}

static void fill(const char *text, const char *id, struct device_profile_names *names, struct make_request *rq) {
    struct device_profile p = read_it(text);
    *rq = (struct make_request){.profile = PROFILE_DEVICE};
    *names = DEVICE_PROFILE_NAMES_INIT;
    assert_int_equal(device_profile_fill(&p, SPAN_LIT("fleet"), span_str(id), &UUID, names, rq, NULL), 0);
}

#define assert_span(s, text)                                                                                                   \
    do {                                                                                                                       \
        struct span s__ = (s);                                                                                                 \
        if (!span_eq_str(s__, text))                                                                                           \
            fail_msg("%.*s is not %s", SPAN_FMT(s__), text);                                                                   \
    } while (0)

static void names(void **state) {
    char id[129] = "";
    struct make_request rq;
    CLEANUP(device_profile_names_fini) struct device_profile_names n = DEVICE_PROFILE_NAMES_INIT;
    fill("", "VIN-1", &n, &rq);
    assert_span(rq.subject.common_name, "VIN-1");
    assert_span(rq.subject.organisation, "fleet");
    assert_span(rq.subject.organisational_unit, "Devices");
    assert_true(rq.n_san == 0 && rq.usages == 0 && n.text.p == NULL);
#define ALL "usages=digital-signature\nsubject=C=DE,O=Acme {account},serialNumber=no-{device_id},CN={device_id}\nsan=dns:{device_id}.cars.example.com uri:urn:x:{account}:{device_id}:{uuid}\n"
    fill(ALL, "vin-1", &n, &rq);
    assert_span(rq.subject.common_name, "vin-1");
    assert_span(rq.subject.country, "DE");
    assert_span(rq.subject.organisation, "Acme fleet");
    assert_span(rq.subject.organisational_unit, "");
    assert_span(rq.subject.serial_number, "no-vin-1");
    assert_true(rq.n_san == 2 && !rq.san[0].uri && rq.san[1].uri && rq.usages == MAKE_USE_SIGN);
    assert_span(rq.san[0].value, "vin-1.cars.example.com");
    assert_span(rq.san[1].value, "urn:x:fleet:vin-1:" UUID_TEXT);
    device_profile_names_fini(&n);
    fill(ALL, "a.b/c {device_id}\xc3\xbc", &n, &rq); /* no placeholder of a placeholder; no DNS name of such an ID */
    assert_true(rq.n_san == 1 && rq.san[0].uri);
    assert_span(rq.san[0].value, "urn:x:fleet:a.b%2Fc%20%7Bdevice_id%7D%C3%BC:" UUID_TEXT);
    assert_span(rq.subject.serial_number, "no-a.b/c {device_id}\xc3\xbc");
    device_profile_names_fini(&n);
    memset(id, 'x', 128);
    fill(ALL, id, &n, &rq);
    assert_span(rq.subject.common_name, UUID_TEXT);
    assert_span(rq.subject.serial_number, "no-" UUID_TEXT);
    assert_true(rq.n_san == 1 && rq.san[0].value.n == strlen("urn:x:fleet::" UUID_TEXT) + 128); /* no label has 128 characters */
    assert_true(span_eq_str(rq.device_id, id));
    device_profile_names_fini(&n);
    id[64] = '\0';
    fill("san=dns:{device_id}.example.com\n", id, &n, &rq);
    assert_int_equal(rq.n_san, 0);
    device_profile_names_fini(&n);
    id[63] = '\0';
    fill("san=dns:{device_id}.example.com\n", id, &n, &rq);
    assert_int_equal(rq.n_san, 1);
    device_profile_names_fini(&n);
    for (const char *const *bad = (const char *const[]){"-a", "a-", "a.b", "a_b", "VIN-1", "vin-A", "\xc3\xbc", "*", NULL}; *bad; bad++) {
        fill("san=dns:{device_id}.example.com\n", *bad, &n, &rq);
        assert_int_equal(rq.n_san, 0);
        device_profile_names_fini(&n);
    }
}

static void in_a_certificate(void **state) {
    struct made ca = make_it((struct recipe){.cn = "ca", .ext = CA_EXT, .from = -CLOCK_DAY, .to = CLOCK_YEAR});
    static const struct {
        enum key_kind kind;
        int bits;
        uint32_t usages, there;
    } rows[] = {{KEY_P256, 0, 0, KU_DIGITAL_SIGNATURE},
                {KEY_RSA, 2048, 0, KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT},
                {KEY_RSA, 2048, MAKE_USE_SIGN, KU_DIGITAL_SIGNATURE},
                {KEY_RSA, 2048, 15, KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT | KU_NON_REPUDIATION},
                {KEY_P256, 0, 15, KU_DIGITAL_SIGNATURE | KU_KEY_AGREEMENT | KU_NON_REPUDIATION},
                {KEY_P384, 0, MAKE_USE_AGREE, KU_DIGITAL_SIGNATURE | KU_KEY_AGREEMENT},
                {KEY_ED25519, 0, 15, KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION},
                {KEY_P256, 0, PROFILE_USES_DEFAULT, KU_DIGITAL_SIGNATURE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), der = BUF_INIT(8192);
        CLEANUP(cert_free) struct cert *c = NULL;
        CLEANUP(device_profile_names_fini) struct device_profile_names n = DEVICE_PROFILE_NAMES_INIT;
        struct device_profile p = read_it("san=uri:urn:x:{device_id}\n");
        struct make_request rq = {.profile = PROFILE_DEVICE, .not_before = clock_now(), .not_after = PROFILE_NO_END > CLOCK_NO_EXPIRY ? CLOCK_NO_EXPIRY : 0};
        p.usages = rows[i].usages;
        assert_int_equal(key_generate(rows[i].kind, rows[i].bits, &key, NULL) || key_public_der(key, &spki, NULL), 0);
        assert_int_equal(device_profile_fill(&p, SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), &UUID, &n, &rq, NULL), 0);
        rq.public_key = buf_span(&spki);
        make_serial(rq.serial);
        assert_int_equal(make_cert(&rq, ca.cert, ca.key, &der, NULL) || cert_from_der(buf_span(&der), &c, NULL), 0);
        assert_int_equal(X509_get_key_usage(c->x), rows[i].there);
        assert_int_equal(X509_get_extended_key_usage(c->x), XKU_SSL_CLIENT);
        CLEANUP(buf_fini) struct buf uri = BUF_INIT(1024);
        assert_int_equal(cert_device_id(c, ID_RULE_SAN_URI, &uri, NULL), 0);
        assert_string_equal(buf_str(&uri), "urn:x:VIN-1");
    }
    made_free(&ca);
}

/* What holds is the narrower of both, whatever the account's became since. */
static void narrowing(void **state) {
    struct device_profile a = read_it("keys=p256,ed25519,rsa2048\n"), k = read_it("keys=p256\nusages=digital-signature\nlife=3600\nlife_max=86400\n"), e, whole;
    device_profile_effective(&a, CLOCK_YEAR, 2 * CLOCK_YEAR, false, NULL, &whole);
    assert_true(whole.keys == a.keys && whole.life == CLOCK_YEAR && whole.life_max == 2 * CLOCK_YEAR);
    device_profile_effective(&a, CLOCK_YEAR, 2 * CLOCK_YEAR, false, &k, &e);
    assert_true(e.keys == PROFILE_KEY_P256 && e.life == 3600 && e.life_max == 86400 && e.usages == MAKE_USE_SIGN);
    assert_int_equal(device_profile_narrows(&whole, &k, NULL), 0);
    static const char *const wider[] = {"keys=p384\n", "keys=p256,rsa4096\n", "life=63072001\n", "life_max=9223372036854775807\n", "usages=digital-signature,key-agreement\n", "subject=CN={device_id}\n", "san=uri:x:{uuid}\n"};
    for (size_t i = 0; i < sizeof wider / sizeof *wider; i++) {
        k = read_it(wider[i]);
        assert_int_equal(device_profile_narrows(&whole, &k, NULL), MUSTER_EINVALID);
    }
    k = read_it("keys=p384\nusages=digital-signature,content-commitment\nlife=315360000\nlife_max=9223372036854775807\n");
    device_profile_effective(&a, CLOCK_YEAR, 0, true, &k, &e);
    assert_true(e.keys == a.keys && e.life == CLOCK_YEAR && e.life_max == CLOCK_YEAR && e.usages == MAKE_USE_SIGN);
    struct key_facts p256 = {.kind = KEY_P256, .bits = 256}, p384 = {.kind = KEY_P384, .bits = 384};
    assert_int_equal(device_profile_key(&e, &p256, "The account", NULL), 0); /* nobody is left without a kind */
    assert_int_equal(device_profile_key(&e, &p384, "The account", NULL), MUSTER_ECERTWEAKKEY);
    a = read_it("");
    device_profile_effective(&a, CLOCK_YEAR, 0, false, NULL, &e);
    assert_true(e.keys == PROFILE_KEYS_EC);
    device_profile_effective(&a, CLOCK_YEAR, 0, true, NULL, &e);
    assert_true(e.keys == (PROFILE_KEYS_EC | PROFILE_KEYS_RSA));
}

static bool taken(const char *profile, enum key_kind kind, int bits) {
    struct device_profile p = read_it(profile);
    struct key_facts k = {.kind = kind, .bits = bits};
    return device_profile_key(&p, &k, "The account", NULL) == 0;
}

static void keys_and_lives(void **state) {
    assert_true(taken("keys=p256\n", KEY_P256, 256) && !taken("keys=p256\n", KEY_P384, 384) && !taken("keys=p256\n", KEY_ED25519, 256) && !taken("keys=p256\n", KEY_RSA, 2048));
    assert_true(taken("keys=p384\n", KEY_P384, 384) && taken("keys=p521\n", KEY_P521, 521) && taken("keys=ed25519\n", KEY_ED25519, 256));
    assert_true(taken("keys=rsa2048\n", KEY_RSA, 2048) && taken("keys=rsa2048\n", KEY_RSA, 3071) && !taken("keys=rsa2048\n", KEY_RSA, 3072) && !taken("keys=rsa2048\n", KEY_RSA, 2047));
    assert_true(taken("keys=rsa3072\n", KEY_RSA, 3072) && taken("keys=rsa4096\n", KEY_RSA, 4096) && !taken("keys=rsa4096\n", KEY_RSA, 4097) && !taken("keys=rsa4096\n", KEY_OTHER, 4096));
    struct device_profile p = {.life = 100, .life_max = 1000, .est_life = 10};
    assert_true(device_profile_life(&p, 0, false) == 100 && device_profile_life(&p, 50, false) == 50 && device_profile_life(&p, 500, false) == 500 && device_profile_life(&p, 5000, false) == 1000);
    assert_true(device_profile_life(&p, 0, true) == 10 && device_profile_life(&p, 500, true) == 500 && device_profile_life(&p, INT64_MAX, false) == 1000);
    p.est_life = 200;
    assert_true(device_profile_life(&p, 0, true) == 100);
}

static void est_life(void **state) {
    struct device_profile a = read_it(""), k = read_it("life=86400\n"), e;
    device_profile_effective(&a, 20 * CLOCK_YEAR, 0, false, NULL, &e);
    assert_true(e.est_life == CLOCK_YEAR && device_profile_life(&e, 0, true) == CLOCK_YEAR && device_profile_life(&e, 0, false) == 20 * CLOCK_YEAR);
    a = read_it("life_max=9223372036854775807\nest_life=9223372036854775807\n");
    device_profile_effective(&a, PROFILE_NO_END, a.life_max, false, NULL, &e);
    assert_true(device_profile_life(&e, 0, true) == PROFILE_NO_END);
    device_profile_effective(&a, 3 * CLOCK_YEAR, a.life_max, false, NULL, &e);
    assert_true(device_profile_life(&e, 0, true) == 3 * CLOCK_YEAR);
    assert_int_equal(device_profile_narrows(&e, &k, NULL), 0);
    device_profile_effective(&a, 3 * CLOCK_YEAR, a.life_max, false, &k, &e);
    assert_int_equal(device_profile_life(&e, 0, true), CLOCK_DAY);
    k.est_life = 3600;
    assert_int_equal(device_profile_narrows(&e, &k, NULL), MUSTER_EINVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(text),      cmocka_unit_test(templates), cmocka_unit_test(names),
                                       cmocka_unit_test(in_a_certificate), cmocka_unit_test(narrowing), cmocka_unit_test(keys_and_lives), cmocka_unit_test(est_life)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
