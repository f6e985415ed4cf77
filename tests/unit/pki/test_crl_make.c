/* Lists that are made piece by piece: what libcrypto reads in them, whole and verified; and what is not signed. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/clock.h"
#include "pki/crl_make.h"
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

static void made_end(struct made *m) {
    cert_free(m->cert);
    EVP_PKEY_free(m->key);
}

static struct crl_entry entry(uint8_t first, int64_t revoked, uint8_t reason) { return (struct crl_entry){.serial = {0x01, first, 0x80}, .revoked = revoked, .reason = reason}; }

/* The whole of it, in pieces of `piece`. */
static int make(const struct made *ca, const struct crl_plan *plan, const struct crl_entry *entries, size_t n, size_t piece, struct buf *out) {
    CLEANUP(crl_maker_free) struct crl_maker *m = NULL;
    CLEANUP(buf_fini) struct buf body = BUF_INIT(1 << 24), front = BUF_INIT(64), tail = BUF_INIT(1024);
    int rc = crl_maker_new(ca->cert, ca->key, plan, &body, &m, NULL);
    for (size_t at = 0; !rc && at < n; at += piece)
        rc = crl_maker_add(m, entries + at, piece < n - at ? piece : n - at, &body, NULL);
    if (rc || (rc = crl_maker_end(m, &front, &tail, NULL)))
        return rc;
    buf_clear(out);
    buf_add(out, buf_span(&front));
    buf_add(out, buf_span(&body));
    buf_add(out, buf_span(&tail));
    return 0;
}

static struct crl_plan plan_of(const struct crl_entry *entries, size_t n, int64_t now) {
    struct crl_plan p = {.number = 0x80ff, .this_update = now, .next_update = now + CLOCK_DAY};
    for (size_t i = 0; i < n; i++)
        crl_count(&p.counts, &entries[i]);
    return p;
}

static X509_CRL *read_back(const struct buf *der) {
    const unsigned char *p = der->p;
    unsigned char *again = NULL;
    X509_CRL *c = d2i_X509_CRL(NULL, &p, (long)der->n);
    assert_non_null(c);
    assert_ptr_equal(p, der->p + der->n);
    int n = i2d_X509_CRL(c, &again); /* it is DER: no length is longer than it has to be */
    assert_int_equal(n, der->n);
    assert_memory_equal(again, der->p, der->n);
    OPENSSL_free(again);
    return c;
}

static int64_t seconds(const ASN1_TIME *t) {
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
    return timegm(&tm);
}

static void check_entry(X509_CRL *c, const struct crl_entry *e, int64_t now) {
    X509_REVOKED *r = NULL;
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    BIGNUM *b = BN_bin2bn(e->serial, sizeof e->serial, NULL);
    BN_to_ASN1_INTEGER(b, serial);
    assert_int_equal(X509_CRL_get0_by_serial(c, &r, serial), 1);
    BN_free(b);
    ASN1_INTEGER_free(serial);
    assert_int_equal(seconds(X509_REVOKED_get0_revocationDate(r)), e->revoked ? e->revoked : now);
    int critical;
    ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(r, NID_crl_reason, &critical, NULL);
    assert_int_equal(reason ? ASN1_ENUMERATED_get(reason) : 0, e->reason);
    assert_int_equal(critical, reason ? 0 : -1);
    assert_int_equal(X509_REVOKED_get_ext_count(r), reason ? 1 : 0);
    ASN1_ENUMERATED_free(reason);
}

static void what_is_made_is_what_was_asked_for(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA);
    const int64_t now = 1700000000;
    const struct crl_entry entries[] = {entry(1, 1600000000, 0),  entry(2, 1600000001, 1), entry(3, 0, 6),  entry(4, 2524608000 /* 2050 */, 0),
                                        entry(5, 4102444800, 5), entry(6, 0, 0),         entry(7, 1, 10), {.serial = {0x7f, 0xff}, .revoked = 2524607999, .reason = 9}};
    const size_t all = sizeof entries / sizeof *entries;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(1 << 20);
    uint8_t own[CRL_KEY_ID_LEN];
    assert_true(crl_key_id(ca.cert, own));
    for (size_t n = 0; n <= all; n++)
        for (size_t piece = 1; piece <= 3; piece++) {
            const struct crl_plan plan = plan_of(entries, n, now);
            assert_int_equal(make(&ca, &plan, entries, n, piece, &der), 0);
            X509_CRL *c = read_back(&der);
            assert_int_equal(X509_CRL_verify(c, ca.key), 1);
            assert_int_equal(X509_CRL_get_version(c), 1);
            assert_int_equal(X509_NAME_cmp(X509_CRL_get_issuer(c), X509_get_subject_name(ca.cert->x)), 0);
            assert_int_equal(seconds(X509_CRL_get0_lastUpdate(c)), now);
            assert_int_equal(seconds(X509_CRL_get0_nextUpdate(c)), now + CLOCK_DAY);
            assert_int_equal(X509_CRL_get_ext_count(c), 2);
            ASN1_INTEGER *number = X509_CRL_get_ext_d2i(c, NID_crl_number, NULL, NULL);
            AUTHORITY_KEYID *aki = X509_CRL_get_ext_d2i(c, NID_authority_key_identifier, NULL, NULL);
            assert_int_equal(ASN1_INTEGER_get(number), 0x80ff);
            assert_memory_equal(ASN1_STRING_get0_data(aki->keyid), own, sizeof own);
            ASN1_INTEGER_free(number);
            AUTHORITY_KEYID_free(aki);
            STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(c);
            assert_int_equal(revoked ? sk_X509_REVOKED_num(revoked) : 0, n);
            assert_int_equal(revoked == NULL, n == 0); /* an empty list is left out (RFC 5280, 5.1.2.6) */
            for (size_t i = 0; i < n; i++)
                check_entry(c, &entries[i], now);
            X509_CRL_free(c);
        }
    made_end(&ca);
}

static void one_of_after_2049_has_later_dates(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_FLEET_ROOT);
    const int64_t now = 2600000000;
    const struct crl_entry entries[] = {entry(1, 0, 0), entry(2, 0, 1), entry(3, 1700000000, 0)};
    const struct crl_plan plan = plan_of(entries, 3, now);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    assert_int_equal(make(&ca, &plan, entries, 3, 2, &der), 0);
    X509_CRL *c = read_back(&der);
    assert_int_equal(X509_CRL_verify(c, ca.key), 1);
    for (int i = 0; i < 3; i++)
        check_entry(c, &entries[i], now);
    X509_CRL_free(c);
    made_end(&ca);
}

static void numbers_of_any_size_are_positive(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA);
    static const uint64_t numbers[] = {0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 1790000000000, INT64_MAX, (uint64_t)1 << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct crl_plan plan = plan_of(NULL, 0, 1700000000);
        CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
        uint64_t back;
        plan.number = numbers[i];
        assert_int_equal(make(&ca, &plan, NULL, 0, 1, &der), 0);
        X509_CRL *c = read_back(&der);
        ASN1_INTEGER *number = X509_CRL_get_ext_d2i(c, NID_crl_number, NULL, NULL);
        assert_int_equal(ASN1_INTEGER_get_uint64(&back, number), 1);
        assert_true(back == numbers[i]);
        ASN1_INTEGER_free(number);
        X509_CRL_free(c);
    }
    made_end(&ca);
}

static void many_entries_make_long_lengths(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA);
    static const size_t sizes[] = {3, 4, 6, 7, 100, 1400, 1500, 1900, 70000};
    static struct crl_entry entries[70000];
    CLEANUP(buf_fini) struct buf der = BUF_INIT(1 << 24);
    for (uint32_t i = 0; i < 70000; i++)
        entries[i] = (struct crl_entry){.serial = {1, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, .revoked = 1600000000 + i, .reason = i % 3 == 0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct crl_plan plan = plan_of(entries, sizes[i], 1700000000);
        assert_int_equal(make(&ca, &plan, entries, sizes[i], 500, &der), 0);
        X509_CRL *c = read_back(&der);
        assert_int_equal(X509_CRL_verify(c, ca.key), 1);
        assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(c)), sizes[i]);
        X509_CRL_free(c);
    }
    made_end(&ca);
}

static int made_of(const struct made *ca, struct crl_plan plan, const struct crl_entry *entries, size_t n) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    return make(ca, &plan, entries, n, 100, &der);
}

static void what_was_not_announced_is_not_signed(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA), other = ca_of(KEY_P384, PROFILE_ISSUING_CA);
    const struct crl_entry entries[] = {entry(1, 1600000000, 0), entry(2, 1600000000, 1), entry(3, 2600000000, 0)};
    const struct crl_plan plan = plan_of(entries, 3, 1700000000);
    assert_int_equal(made_of(&ca, plan, entries, 3), 0);
    assert_int_equal(made_of(&ca, plan, entries, 2), MUSTER_EINVALID);
    assert_int_equal(made_of(&ca, plan, entries, 0), MUSTER_EINVALID);
    const struct crl_entry more[] = {entries[0], entries[1], entries[2], entries[0]};
    assert_int_equal(made_of(&ca, plan, more, 4), MUSTER_EINVALID);
    const struct crl_entry shorter[] = {entries[0], entries[0], entries[2]}, longer[] = {entries[2], entries[1], entries[2]};
    assert_int_equal(made_of(&ca, plan, shorter, 3), MUSTER_EINVALID);
    assert_int_equal(made_of(&ca, plan, longer, 3), MUSTER_EINVALID);
    struct crl_plan bad = plan;
    bad.next_update = bad.this_update;
    assert_int_equal(made_of(&ca, bad, entries, 3), MUSTER_EINVALID);
    bad = plan;
    bad.counts.reasons = 4;
    assert_int_equal(made_of(&ca, bad, entries, 3), MUSTER_EINVALID);
    bad = plan;
    bad.counts.late = UINT32_MAX;
    assert_int_equal(made_of(&ca, bad, entries, 3), MUSTER_EINVALID);
    assert_int_equal(made_of(&other, plan, entries, 3), MUSTER_EINVALID);
    made_end(&ca);
    made_end(&other);
}

static void serial_numbers_and_reasons_are_those_of_certificates(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA);
    struct crl_entry e = entry(1, 1600000000, 0);
    for (int first = 0; first < 256; first++) {
        e.serial[0] = (uint8_t)first;
        assert_int_equal(made_of(&ca, plan_of(&e, 1, 1700000000), &e, 1), first > 0 && first < 0x80 ? 0 : MUSTER_EINVALID);
    }
    e.serial[0] = 1;
    for (int reason = 0; reason < 256; reason++) {
        e.reason = (uint8_t)reason;
        /* 7 is none, and 8 (removeFromCRL) is for delta lists */
        assert_int_equal(made_of(&ca, plan_of(&e, 1, 1700000000), &e, 1), reason <= 10 && reason != 7 && reason != 8 ? 0 : MUSTER_EINVALID);
    }
    e.reason = 0;
    e.revoked = -1;
    assert_int_equal(made_of(&ca, plan_of(&e, 1, 1700000000), &e, 1), MUSTER_EINVALID);
    e.revoked = INT64_MAX;
    assert_int_equal(made_of(&ca, plan_of(&e, 1, 1700000000), &e, 1), MUSTER_EINVALID);
    made_end(&ca);
}

/* --- whose a certificate is -------------------------------------------------------------------------------------------------------------- */

/* "30 1f 06 03 55 1d 23 04 18 30 16 80 14" and twenty bytes, as an authority key identifier stands in a certificate. */
static void put_false_id(uint8_t *at, uint8_t fill) {
    static const uint8_t head[] = {0x30, 0x1f, 0x06, 0x03, 0x55, 0x1d, 0x23, 0x04, 0x18, 0x30, 0x16, 0x80, 0x14};
    memcpy(at, head, sizeof head);
    memset(at + sizeof head, fill, CRL_KEY_ID_LEN);
}

static void the_issuer_is_found_whatever_the_certificate_holds(void **state) {
    struct made ca = ca_of(KEY_P256, PROFILE_ISSUING_CA);
    struct leaf_ca *fast = NULL;
    uint8_t own[CRL_KEY_ID_LEN], found[CRL_KEY_ID_LEN];
    assert_true(crl_key_id(ca.cert, own));
    assert_int_equal(leaf_ca_new(ca.cert, ca.key, &fast, NULL), 0);
    static const struct {
        enum key_kind kind;
        const char *id;
    } shapes[] = {{KEY_P256, "d"}, {KEY_P256, "a device of more than sixty-four characters, whose ID is in a subjectAltName"}, {KEY_ED25519, "d"}, {KEY_RSA, "d"}, {KEY_P384, "d"}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), der = BUF_INIT(8192);
        assert_int_equal(key_generate(shapes[i].kind, 2048, &key, NULL) || key_public_der(key, &spki, NULL), 0);
        if (shapes[i].kind == KEY_RSA) /* a modulus of somebody who wants to be another CA's */
            put_false_id(spki.p + 100, 0xaa);
        struct make_request rq = {.profile = PROFILE_DEVICE, .device_id = span_str(shapes[i].id), .subject.common_name = SPAN_LIT("u"), .public_key = buf_span(&spki),
                                  .not_before = clock_now(), .not_after = clock_now() + CLOCK_YEAR};
        make_serial(rq.serial);
        assert_int_equal(leaf_fits(&rq) ? leaf_make(fast, &rq, &der, NULL) : make_cert(&rq, ca.cert, ca.key, &der, NULL), 0);
        assert_true(crl_issuer_key_id(buf_span(&der), found));
        assert_memory_equal(found, own, sizeof own);
        for (size_t n = 0; n < der.n; n++) { /* cut off, it is none, and nothing is read behind the cut */
            uint8_t *copy = malloc(n + 1);
            memcpy(copy, der.p, n);
            assert_false(crl_issuer_key_id(span_of(copy, n), found));
            free(copy);
        }
    }
    leaf_ca_free(fast);
    made_end(&ca);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_is_what_was_asked_for),
        cmocka_unit_test(one_of_after_2049_has_later_dates),
        cmocka_unit_test(numbers_of_any_size_are_positive),
        cmocka_unit_test(many_entries_make_long_lengths),
        cmocka_unit_test(what_was_not_announced_is_not_signed),
        cmocka_unit_test(serial_numbers_and_reasons_are_those_of_certificates),
        cmocka_unit_test(the_issuer_is_found_whatever_the_certificate_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
