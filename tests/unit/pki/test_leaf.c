/* leaf_make() against make_cert(): the same bytes up to the signature, for every shape that fits; and what does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/clock.h"
#include "pki/chain.h"
#include "pki/der.h"
#include "pki/leaf.h"
#include "../pki_fixture.h"

static struct made ca_of(enum key_kind kind, enum cert_profile profile) {
    struct made m = {0};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), der = BUF_INIT(8192);
    assert_int_equal(key_generate(kind, 0, &m.key, NULL) || key_public_der(m.key, &spki, NULL), 0);
    struct make_request rq = {.profile = profile, .subject.common_name = SPAN_LIT("acme issuing CA 00112233"), .subject.organisation = SPAN_LIT("acme"), .public_key = buf_span(&spki),
                              .not_before = clock_now() - CLOCK_DAY, .not_after = CLOCK_NO_EXPIRY};
    make_serial(rq.serial);
    assert_int_equal(make_cert(&rq, NULL, m.key, &der, NULL) || cert_from_der(buf_span(&der), &m.cert, NULL), 0);
    return m;
}

static void tbs_of(struct span der, struct buf *out) {
    const unsigned char *p = der.p;
    unsigned char *tbs = NULL;
    X509 *x = d2i_X509(NULL, &p, (long)der.n);
    assert_non_null(x);
    assert_ptr_equal(p, der.p + der.n);
    int n = i2d_re_X509_tbs(x, &tbs);
    assert_true(n > 0);
    buf_add(out, span_of(tbs, (size_t)n));
    OPENSSL_free(tbs);
    X509_free(x);
}

/* Both ways; the signature holds, and the chain is judged good. */
static void same(const struct made *ca, struct leaf_ca *fast, const struct make_request *rq) {
    CLEANUP(buf_fini) struct buf a = BUF_INIT(8192), b = BUF_INIT(8192), tbs_a = BUF_INIT(8192), tbs_b = BUF_INIT(8192);
    struct cert *c = NULL;
    struct err err = ERR_INIT;
    assert_true(leaf_fits(rq));
    if (leaf_make(fast, rq, &a, &err) || make_cert(rq, ca->cert, ca->key, &b, &err))
        fail_msg("%s", err_text(&err));
    tbs_of(buf_span(&a), &tbs_a);
    tbs_of(buf_span(&b), &tbs_b);
    assert_int_equal(tbs_a.n, tbs_b.n);
    assert_memory_equal(tbs_a.p, tbs_b.p, tbs_a.n);
    assert_true(memmem(a.p, a.n, tbs_a.p, tbs_a.n)); /* and it was written so, not only read so */
    assert_int_equal(cert_from_der(buf_span(&a), &c, NULL), 0);
    assert_true(cert_signed_by(c, ca->cert));
    assert_int_equal(c->not_after, rq->not_after);
    assert_false(c->ca);
    assert_int_equal(X509_get_extended_key_usage(c->x), XKU_SSL_CLIENT);
    struct anchor_set *s = anchor_set_new();
    struct chain_found found;
    struct cert *root = NULL;
    assert_int_equal(cert_from_x509(ca->cert->x, &root, NULL) || anchor_set_add(s, root, NULL, 0, NULL), 0);
    if (rq->not_before <= clock_now() && rq->not_after > clock_now())
        assert_int_equal(chain_judge(s, c, NULL, 0, clock_now(), &found, NULL), 0);
    anchor_set_unref(s);
    cert_free(c);
}

static struct make_request request(struct span spki) {
    struct make_request rq = {.profile = PROFILE_DEVICE, .subject = {.common_name = SPAN_LIT("cn"), .organisation = SPAN_LIT("acme"), .organisational_unit = SPAN_LIT("Devices")},
                              .device_id = SPAN_LIT("car-1"), .public_key = spki, .not_before = clock_now() - CLOCK_DAY, .not_after = clock_now() + CLOCK_YEAR};
    make_serial(rq.serial);
    return rq;
}

static void shapes(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA);
    struct leaf_ca *fast = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    EVP_PKEY *key = NULL;
    char text[129];
    assert_int_equal(leaf_ca_new(ca.cert, ca.key, &fast, NULL), 0);
    assert_non_null(fast);
    assert_int_equal(key_generate(KEY_P256, 0, &key, NULL) || key_public_der(key, &spki, NULL), 0);
    struct make_request rq = request(buf_span(&spki));
    for (size_t n = 1; n <= 64; n++) { /* lengths of names push lengths of what is around them over 127 and 255 */
        memset(text, 'n', n);
        rq.device_id = span_of(text, n);
        same(&ca, fast, &rq);
        rq.subject.organisation = rq.subject.organisational_unit = span_of(text, n);
        same(&ca, fast, &rq);
    }
    rq = request(buf_span(&spki));
    for (size_t i = 0; i < 128; i += 2) /* 64 characters of two bytes */
        memcpy(text + i, "\xc3\xa4", 2);
    rq.device_id = span_of(text, 128);
    same(&ca, fast, &rq);
    rq.device_id = SPAN_LIT("Ger\xc3\xa4t/\xce\xa9: 7, CN=x+y=\"z\"\\ <a>#");
    same(&ca, fast, &rq);
    rq.device_id = SPAN_NONE; /* the CN of the subject */
    same(&ca, fast, &rq);
    rq.subject.organisation = SPAN_NONE;
    same(&ca, fast, &rq);
    rq.subject.organisational_unit = SPAN_NONE;
    same(&ca, fast, &rq);
    rq = request(buf_span(&spki));
    char url[MAKE_URL_MAX + 1];
    memset(url, 'u', sizeof url);
    for (size_t n = 1; n <= MAKE_URL_MAX; n += n < 200 ? 13 : 1) {
        rq.ocsp = span_of(url, n);
        same(&ca, fast, &rq);
    }
    rq.ocsp = span_of(url, MAKE_URL_MAX + 1);
    assert_false(leaf_fits(&rq));
    rq = request(buf_span(&spki));
    rq.profile = PROFILE_PROVISIONING_KEY;
    rq.ocsp = SPAN_LIT("http://nobody asks about these"); /* left out by both */
    rq.device_id = SPAN_NONE;
    rq.subject.organisational_unit = SPAN_LIT("Provisioning keys");
    same(&ca, fast, &rq);
    const int64_t ends[] = {clock_from_civil(2049, 12, 31, 23, 59, 59), clock_from_civil(2050, 1, 1, 0, 0, 0), clock_from_civil(2100, 2, 28, 1, 2, 3), CLOCK_NO_EXPIRY, rq.not_before};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        rq.not_after = ends[i];
        same(&ca, fast, &rq);
    }
    for (int first = 1; first < 0x80; first += 9) {
        rq = request(buf_span(&spki));
        rq.serial[0] = (uint8_t)first;
        same(&ca, fast, &rq);
    }
    leaf_ca_free(fast);
    EVP_PKEY_free(key);
    made_free(&ca);
}

static void keys(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_PROVISIONING_CA);
    struct leaf_ca *fast = NULL;
    assert_int_equal(leaf_ca_new(ca.cert, ca.key, &fast, NULL), 0);
    for (int i = 0; i < 100; i++) {
        CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
        EVP_PKEY *key = NULL;
        struct key_facts facts, other;
        assert_int_equal(key_generate(KEY_P256, 0, &key, NULL) || key_public_der(key, &spki, NULL), 0);
        unsigned char *der = NULL; /* key_public_der() writes what libcrypto writes */
        int n = i2d_PUBKEY(key, &der);
        assert_int_equal(n, spki.n);
        assert_memory_equal(der, spki.p, spki.n);
        OPENSSL_free(der);
        assert_int_equal(key_facts_from_public_der(buf_span(&spki), &facts, NULL) || key_facts(key, &other, NULL), 0);
        assert_true(facts.kind == other.kind && facts.bits == other.bits && hash_eq(&facts.spki, &other.spki));
        struct make_request rq = request(buf_span(&spki));
        same(&ca, fast, &rq);
        spki.p[spki.n - 1] ^= 1; /* a point that is not on the curve */
        assert_int_equal(key_facts_from_public_der(buf_span(&spki), &facts, NULL), MUSTER_EINVALID);
        EVP_PKEY_free(key);
    }
    leaf_ca_free(fast);
    made_free(&ca);
}

static void what_does_not_fit(void **state) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), rsa = BUF_INIT(4096), der = BUF_INIT(8192);
    EVP_PKEY *key = NULL, *rsa_key = NULL;
    char longer[66];
    memset(longer, 'l', 65);
    assert_int_equal(key_generate(KEY_P256, 0, &key, NULL) || key_public_der(key, &spki, NULL), 0);
    assert_int_equal(key_generate(KEY_RSA, 2048, &rsa_key, NULL) || key_public_der(rsa_key, &rsa, NULL), 0);
    const struct make_request good = request(buf_span(&spki));
    assert_true(leaf_fits(&good));
#define NOT(change)                                                                                                            \
    do {                                                                                                                       \
        struct make_request rq = good;                                                                                         \
        change;                                                                                                                \
        assert_false(leaf_fits(&rq));                                                                                          \
    } while (0)
    for (int p = PROFILE_FLEET_ROOT; p <= PROFILE_CHALLENGE; p++)
        if (p != PROFILE_DEVICE && p != PROFILE_PROVISIONING_KEY)
            NOT(rq.profile = (enum cert_profile)p);
    NOT(rq.profile = PROFILE_PROVISIONING_KEY); /* has no device ID */
    NOT(rq.public_key = buf_span(&rsa));
    NOT(rq.public_key = SPAN_NONE);
    NOT(rq.public_key.n--);
    NOT(rq.device_id = span_of(longer, 65));
    NOT(rq.device_id = SPAN_LIT("a\tb"));
    NOT(rq.device_id = span_of("a\0b", 3));
    NOT(rq.device_id = SPAN_LIT("\xe4"));
    NOT(rq.subject.organisation = span_of(longer, 65));
    NOT(rq.subject.organisational_unit = span_of(longer, 65));
    NOT(rq.device_id = rq.subject.common_name = SPAN_NONE);
    NOT(rq.subject.country = SPAN_LIT("DE"));
    NOT(rq.subject.state = SPAN_LIT("x"));
    NOT(rq.subject.locality = SPAN_LIT("x"));
    NOT(rq.subject.serial_number = SPAN_LIT("x"));
    NOT(rq.serial[0] = 0);
    NOT(rq.serial[0] = 0x80);
    NOT(rq.not_after = rq.not_before - 1);
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA), p384 = ca_of(KEY_P384, PROFILE_ISSUING_CA), bare = make_it((struct recipe){.cn = "x", .ext = CA_EXT});
    struct leaf_ca *fast = NULL, *none = NULL;
    struct make_request rq = good;
    assert_int_equal(leaf_ca_new(ca.cert, ca.key, &fast, NULL) || leaf_ca_new(p384.cert, p384.key, &none, NULL), 0);
    assert_null(none);
    assert_int_equal(leaf_ca_new(bare.cert, bare.key, &none, NULL), 0); /* without a key identifier */
    assert_null(none);
    rq.profile = PROFILE_ISSUING_CA;
    assert_int_equal(leaf_make(fast, &rq, &der, NULL), MUSTER_EINTERNAL);
    assert_int_equal(der.n, 0);
    leaf_ca_free(fast);
    EVP_PKEY_free(key), EVP_PKEY_free(rsa_key);
    made_free(&ca), made_free(&p384), made_free(&bare);
}

static void lengths(void **state) {
    static uint8_t room[70000], content[66000];
    const size_t sizes[] = {0, 1, 127, 128, 255, 256, 65535, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct der_writer w = der_writer_of(room, sizeof room);
        der_element(&w, DER_OCTET_STRING, span_of(content, sizes[i]));
        struct span all = der_written(&w);
        const unsigned char *p = all.p;
        ASN1_OCTET_STRING *s = d2i_ASN1_OCTET_STRING(NULL, &p, (long)all.n);
        assert_non_null(s);
        assert_ptr_equal(p, all.p + all.n);
        assert_int_equal(ASN1_STRING_length(s), sizes[i]);
        assert_int_equal(i2d_ASN1_OCTET_STRING(s, NULL), all.n);
        ASN1_OCTET_STRING_free(s);
        struct der_writer little = der_writer_of(room, all.n - 1); /* a byte too few */
        der_element(&little, DER_OCTET_STRING, span_of(content, sizes[i]));
        assert_int_equal(der_written(&little).n, 0);
        der_put(&little, SPAN_NONE);
        assert_true(little.failed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(keys), cmocka_unit_test(what_does_not_fit), cmocka_unit_test(lengths)};
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
