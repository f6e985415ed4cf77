/* Certificates by profile, device IDs read back out of them, and the PKCS#12 of /devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/pkcs12.h>

#include "base/clock.h"
#include "pki/chain.h"
#include "pki/make.h"
#include "../pki_fixture.h"

static struct made build(enum cert_profile profile, const char *cn, const char *id, const struct made *issuer, const char *const *dns) {
    struct made m = {0};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192);
    assert_int_equal(key_generate(KEY_P256, 0, &m.key, NULL) || key_public_der(m.key, &spki, NULL), 0);
    struct make_request rq = {.profile = profile, .subject.common_name = span_str(cn), .device_id = id ? span_str(id) : SPAN_NONE, .dns = dns, .subject.organisation = SPAN_LIT("test"),
                              .public_key = buf_span(&spki), .not_before = clock_now() - CLOCK_DAY, .not_after = clock_now() + CLOCK_YEAR};
    make_serial(rq.serial);
    struct err err = ERR_INIT;
    if (make_cert(&rq, issuer ? issuer->cert : NULL, issuer ? issuer->key : m.key, &der, &err))
        fail_msg("%s", err_text(&err));
    assert_int_equal(cert_from_der(buf_span(&der), &m.cert, NULL), 0);
    assert_int_equal(m.cert->not_before, rq.not_before);
    assert_int_equal(m.cert->not_after, rq.not_after);
    return m;
}

static void profiles(void **state) {
    struct made root = build(PROFILE_FLEET_ROOT, "root", NULL, NULL, NULL), issuing = build(PROFILE_ISSUING_CA, "issuing", NULL, &root, NULL);
    struct made device = build(PROFILE_DEVICE, "uuid", "my device", &issuing, NULL);
    assert_true(root.cert->ca && root.cert->self_signed && issuing.cert->ca && !device.cert->ca);
    assert_int_equal(chain_root_fit(root.cert, clock_now(), NULL), 0);
    struct anchor_set *s = anchor_set_new();
    struct chain_found found;
    struct cert *r = NULL, *presented[1] = {issuing.cert};
    assert_int_equal(cert_from_x509(root.cert->x, &r, NULL) || anchor_set_add(s, r, NULL, 0, NULL), 0);
    assert_int_equal(chain_judge(s, device.cert, presented, 1, clock_now(), &found, NULL), 0);
    anchor_set_unref(s);
    assert_int_equal(X509_get_extended_key_usage(device.cert->x), XKU_SSL_CLIENT);
    assert_int_equal(X509_get_extended_key_usage(issuing.cert->x), XKU_SSL_CLIENT);
    /* As a server it verifies nowhere. */
    assert_int_equal(chain_judge_server(&root.cert, 1, device.cert, presented, 1, clock_now(), NULL), MUSTER_ECERTUNTRUSTED);

    struct made ca = build(PROFILE_SERVER_CA, "server ca", NULL, NULL, NULL);
    struct made server = build(PROFILE_SERVER, "localhost", NULL, &ca, (const char *const[]){"localhost", "127.0.0.1", "::1", NULL});
    assert_int_equal(chain_judge_server(&ca.cert, 1, server.cert, NULL, 0, clock_now(), NULL), 0);
    assert_int_equal(X509_check_host(server.cert->x, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(server.cert->x, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(server.cert->x, "::1", 0), 1);
    /* Whoever signs times is no server, and no client. */
    struct made clock = build(PROFILE_TIME, "time", NULL, &ca, NULL);
    assert_int_equal(X509_get_extended_key_usage(clock.cert->x), XKU_TIMESTAMP);
    assert_int_equal(X509_check_purpose(clock.cert->x, X509_PURPOSE_TIMESTAMP_SIGN, 0), 1); /* the extension is critical */
    assert_int_not_equal(chain_judge_server(&ca.cert, 1, clock.cert, NULL, 0, clock_now(), NULL), 0);
    assert_true(!cert_allows_client(clock.cert) && !clock.cert->ca);
    made_free(&root), made_free(&issuing), made_free(&device), made_free(&ca), made_free(&server), made_free(&clock);
}

static void device_ids(void **state) {
    struct made root = build(PROFILE_FLEET_ROOT, "root", NULL, NULL, NULL);
    char longer[129], at_limit[65];
    memset(longer, 'l', 128), longer[128] = '\0';
    memset(at_limit, 'm', 64), at_limit[64] = '\0';
    CLEANUP(buf_fini) struct buf id = BUF_INIT(256);
    struct made a = build(PROFILE_DEVICE, "0000", at_limit, &root, NULL), b = build(PROFILE_DEVICE, "0000", longer, &root, NULL), c = build(PROFILE_DEVICE, "0000", "Gerät/Ω: 7", &root, NULL);
    assert_int_equal(cert_common_name(a.cert, &id, NULL), 0);
    assert_string_equal(buf_str(&id), at_limit);
    buf_clear(&id);
    assert_int_equal(cert_common_name(b.cert, &id, NULL), 0);
    assert_string_equal(buf_str(&id), "0000");
    assert_int_equal(cert_device_id(b.cert, ID_RULE_SAN_URI, &id, NULL), MUSTER_EIDUNDECODABLE); /* 18 bytes of prefix make it too long for a rule */
    buf_clear(&id);
    assert_int_equal(cert_common_name(c.cert, &id, NULL), 0);
    assert_string_equal(buf_str(&id), "Gerät/Ω: 7");
    made_free(&root), made_free(&a), made_free(&b), made_free(&c);
}

static void id_rules(void **state) {
    struct made m = make_it((struct recipe){.cn = "cn-1", .ext = EXT("subjectAltName", "URI:urn:a:b,DNS:dev.example")});
    struct made two = make_it((struct recipe){.cn = "x", .ext = EXT("subjectAltName", "URI:urn:a,URI:urn:b")});
    struct made none = make_it((struct recipe){0});
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    assert_int_equal(cert_device_id(m.cert, ID_RULE_CN, &id, NULL), 0);
    buf_addc(&id, '|');
    assert_int_equal(cert_device_id(m.cert, ID_RULE_SAN_URI, &id, NULL), 0);
    buf_addc(&id, '|');
    assert_int_equal(cert_device_id(m.cert, ID_RULE_SAN_DNS, &id, NULL), 0);
    assert_string_equal(buf_str(&id), "cn-1|urn:a:b|dev.example");
    assert_int_equal(cert_device_id(m.cert, ID_RULE_SERIAL_NUMBER, &id, NULL), MUSTER_EIDNONE);
    assert_int_equal(cert_device_id(two.cert, ID_RULE_SAN_URI, &id, NULL), MUSTER_EIDSEVERAL);
    assert_int_equal(cert_device_id(none.cert, ID_RULE_CN, &id, NULL), MUSTER_EIDNONE);
    buf_clear(&id);
    assert_int_equal(cert_device_id(none.cert, ID_RULE_FINGERPRINT, &id, NULL), 0);
    assert_int_equal(id.n, 64);
    X509_NAME *name = X509_get_subject_name(none.cert->x);
    const unsigned char t61[] = "\xe4", nul[] = "a\0b", tab[] = "a\tb";
    X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_T61STRING, t61, 1, -1, 0);
    assert_int_equal(cert_common_name(none.cert, &id, NULL), MUSTER_EIDUNDECODABLE);
    X509_NAME_ENTRY_free(X509_NAME_delete_entry(name, 0));
    X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, nul, 3, -1, 0);
    assert_int_equal(cert_common_name(none.cert, &id, NULL), MUSTER_EIDUNDECODABLE);
    X509_NAME_ENTRY_free(X509_NAME_delete_entry(name, 0));
    X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, tab, 3, -1, 0);
    assert_int_equal(cert_common_name(none.cert, &id, NULL), MUSTER_EIDUNDECODABLE);
    X509_NAME_ENTRY_free(X509_NAME_delete_entry(name, 0));
    const unsigned char bmp[] = {0x00, 'b', 0x03, 0xa9};
    X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_BMPSTRING, bmp, 4, -1, 0);
    buf_clear(&id);
    assert_int_equal(cert_common_name(none.cert, &id, NULL), 0);
    assert_string_equal(buf_str(&id), "bΩ");
    made_free(&m), made_free(&two), made_free(&none);
}

/* Read by libcrypto, with every key that may go in and none, one or two CAs. */
static void pkcs12_with(enum key_kind kind, int bits, size_t n_cas, bool public_known) {
    struct made root = build(PROFILE_FLEET_ROOT, "root", NULL, NULL, NULL), other = build(PROFILE_FLEET_ROOT, "other", NULL, NULL, NULL), leaf = {0};
    assert_int_equal(key_generate(kind, bits, &leaf.key, NULL), 0);
    leaf = make_it((struct recipe){.cn = "leaf", .key = leaf.key, .issuer = &root});
    struct cert *cas[] = {root.cert, other.cert};
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536), again = BUF_INIT(65536), cert = BUF_INIT(65536), spki = BUF_INIT(4096);
    assert_int_equal(cert_der(leaf.cert, &cert), 0);
    if (public_known)
        assert_int_equal(key_public_der(leaf.key, &spki, NULL), 0);
    assert_int_equal(make_pkcs12(leaf.key, buf_span(&spki), buf_span(&cert), cas, n_cas, &der, NULL), 0);
    const unsigned char *p = der.p;
    PKCS12 *p12 = d2i_PKCS12(NULL, &p, (long)der.n);
    EVP_PKEY *key = NULL;
    X509 *x = NULL;
    STACK_OF(X509) *more = NULL;
    assert_ptr_equal(p, der.p + der.n);
    assert_int_equal(PKCS12_mac_present(p12), 1);
    assert_int_equal(PKCS12_verify_mac(p12, "", 0), 1);
    assert_int_equal(PKCS12_verify_mac(p12, "x", 1), 0);
    assert_int_equal(PKCS12_parse(p12, "", &key, &x, &more), 1);
    assert_int_equal(EVP_PKEY_eq(key, leaf.key), 1);
    assert_int_equal(X509_check_private_key(x, key), 1);
    assert_int_equal(X509_cmp(x, leaf.cert->x), 0);
    assert_int_equal(more ? sk_X509_num(more) : 0, n_cas);
    for (size_t i = 0; i < n_cas; i++) {
        bool found = false;
        for (int k = 0; k < sk_X509_num(more); k++)
            found |= X509_cmp(sk_X509_value(more, k), cas[i]->x) == 0;
        assert_true(found);
    }
    unsigned char *encoded = NULL; /* libcrypto writes what it read in the same bytes: it was DER */
    int n = i2d_PKCS12(p12, &encoded);
    assert_int_equal(n, der.n);
    assert_memory_equal(encoded, der.p, der.n);
    OPENSSL_free(encoded);
    /* Each has a salt of its own. */
    assert_int_equal(make_pkcs12(leaf.key, buf_span(&spki), buf_span(&cert), cas, n_cas, &again, NULL), 0);
    assert_int_equal(again.n, der.n);
    assert_memory_not_equal(again.p, der.p, der.n);
    sk_X509_pop_free(more, X509_free);
    X509_free(x), EVP_PKEY_free(key), PKCS12_free(p12);
    made_free(&root), made_free(&other), made_free(&leaf);
}

static void pkcs12_of(enum key_kind kind, int bits, size_t n_cas) {
    pkcs12_with(kind, bits, n_cas, false);
    pkcs12_with(kind, bits, n_cas, true);
}

static void pkcs12(void **state) {
    for (size_t n = 0; n <= 2; n++)
        pkcs12_of(KEY_P256, 0, n);
    for (int i = 0; i < 150; i++) /* most likely a scalar with a leading zero among them */
        pkcs12_of(KEY_P256, 0, 1);
    pkcs12_of(KEY_P384, 0, 1);
    pkcs12_of(KEY_ED25519, 0, 1);
    pkcs12_of(KEY_RSA, 2048, 1);
}

static void pkcs12_is_whole(void **state) {
    struct made root = build(PROFILE_FLEET_ROOT, "root", NULL, NULL, NULL), leaf = build(PROFILE_DEVICE, "u", "d", &root, NULL);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536), cert = BUF_INIT(65536);
    assert_int_equal(cert_der(leaf.cert, &cert) || make_pkcs12(leaf.key, SPAN_NONE, buf_span(&cert), &root.cert, 1, &der, NULL), 0);
    for (size_t i = 60; i < der.n - 100; i += 7) { /* whatever changes between head and MAC is noticed */
        EVP_PKEY *key = NULL;
        struct cert *c = NULL;
        size_t n;
        der.p[i] ^= 1;
        assert_int_not_equal(make_pkcs12_read(buf_span(&der), &key, &c, &n, NULL), 0);
        der.p[i] ^= 1;
    }
    made_free(&root), made_free(&leaf);
}

static void serials(void **state) {
    uint8_t a[MAKE_SERIAL_LEN], b[MAKE_SERIAL_LEN];
    make_serial(a), make_serial(b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_true(a[0] < 0x80 && a[0] > 0);
    assert_true(memcmp(a, b, 6) <= 0);
}

static void files(void **state) {
    struct made m = make_it((struct recipe){.cn = "x", .ext = CA_EXT});
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    struct cert *c = NULL, *many[2];
    size_t n;
    struct err err = ERR_INIT;
    assert_int_equal(cert_pem(m.cert, &pem), 0);
    assert_int_equal(cert_from_file(buf_span(&pem), &c, NULL), 0);
    assert_true(hash_eq(&c->fingerprint, &m.cert->fingerprint));
    cert_free(c);
    assert_int_equal(cert_pem(m.cert, &pem), 0);
    assert_int_equal(cert_from_file(buf_span(&pem), &c, &err), MUSTER_EINVALID);
    assert_int_equal(cert_chain_from_file(buf_span(&pem), many, 2, &n, NULL), 0);
    assert_int_equal(n, 2);
    cert_free(many[0]), cert_free(many[1]);
    assert_int_equal(key_private_pem(m.key, &pem, NULL), 0);
    assert_int_equal(cert_chain_from_file(buf_span(&pem), many, 3, &n, &err), MUSTER_EINVALID);
    assert_non_null(strstr(err_text(&err), "private key"));
    assert_int_equal(cert_from_file(SPAN_LIT("hello"), &c, &err), MUSTER_EINVALID);
    made_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(profiles), cmocka_unit_test(device_ids), cmocka_unit_test(id_rules),
                                       cmocka_unit_test(pkcs12),   cmocka_unit_test(pkcs12_is_whole), cmocka_unit_test(serials), cmocka_unit_test(files)};
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
