/* OCSP: requests that libcrypto makes are read as what they ask, and damaged ones are not; answers are read and verified by libcrypto. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ocsp.h>

#include "base/hex.h"
#include "pki/der.h"
#include "pki/der_read.h"
#include "pki/make.h"
#include "pki/ocsp_make.h"
#include "pki/ocsp_read.h"
#include "../pki_fixture.h"

static const uint8_t SERIAL[16] = {0x01, 0x8f, 0x12, 0x34, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct made make_one(enum cert_profile profile, const char *cn, const struct made *by) {
    struct made m = {0};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), der = BUF_INIT(8192);
    assert_int_equal(key_generate(KEY_P256, 0, &m.key, NULL) || key_public_der(m.key, &spki, NULL), 0);
    struct make_request rq = {.profile = profile, .subject.common_name = span_str(cn), .subject.organisation = SPAN_LIT("acme"), .public_key = buf_span(&spki),
                              .not_before = clock_now() - CLOCK_DAY, .not_after = clock_now() + 6 * CLOCK_DAY};
    make_serial(rq.serial);
    assert_int_equal(make_cert(&rq, by ? by->cert : NULL, by ? by->key : m.key, &der, NULL) || cert_from_der(buf_span(&der), &m.cert, NULL), 0);
    return m;
}

static void made_end(struct made *m) {
    EVP_PKEY_free(m->key);
    cert_free(m->cert);
}

/* --- requests ------------------------------------------------------------------------------------------------------------------------------ */

static OCSP_CERTID *id_of(const struct made *ca, const EVP_MD *md, const uint8_t *serial, size_t n) {
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    BIGNUM *b = BN_bin2bn(serial, (int)n, NULL);
    BN_to_ASN1_INTEGER(b, number);
    OCSP_CERTID *id = OCSP_cert_id_new(md, X509_get_subject_name(ca->cert->x), X509_get0_pubkey_bitstr(ca->cert->x), number);
    BN_free(b);
    ASN1_INTEGER_free(number);
    assert_non_null(id);
    return id;
}

static void der_of(OCSP_REQUEST *rq, struct buf *out) {
    unsigned char *der = NULL;
    int n = i2d_OCSP_REQUEST(rq, &der);
    assert_true(n > 0);
    buf_clear(out);
    buf_add(out, span_of(der, (size_t)n));
    OPENSSL_free(der);
}

static void ask(const struct made *ca, const EVP_MD *md, size_t n, const char *nonce, struct buf *out) {
    OCSP_REQUEST *rq = OCSP_REQUEST_new();
    uint8_t serial[sizeof SERIAL];
    memcpy(serial, SERIAL, sizeof serial);
    for (size_t i = 0; i < n; i++) {
        serial[15] = (uint8_t)i;
        assert_non_null(OCSP_request_add0_id(rq, id_of(ca, md, serial, sizeof serial)));
    }
    if (nonce)
        assert_int_equal(OCSP_request_add1_nonce(rq, (unsigned char *)nonce, (int)strlen(nonce)), 1);
    der_of(rq, out);
    OCSP_REQUEST_free(rq);
}

static void what_libcrypto_asks_is_read(void **state) {
    struct made ca = make_one(PROFILE_ISSUING_CA, "acme issuing CA", NULL);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536), ca_der = BUF_INIT(8192);
    struct ocsp_issuer issuer;
    struct ocsp_request rq;
    assert_int_equal(cert_der(ca.cert, &ca_der), 0);
    assert_int_equal(ocsp_issuer_of(buf_span(&ca_der), &issuer, NULL), 0);
    for (enum ocsp_hash hash = OCSP_SHA1; hash <= OCSP_SHA256; hash++) {
        ask(&ca, hash == OCSP_SHA1 ? EVP_sha1() : EVP_sha256(), OCSP_SINGLES_MAX, "0123456789abcdef", &der);
        assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), 0);
        assert_int_equal(rq.n, OCSP_SINGLES_MAX);
        assert_true(span_eq_str(rq.nonce, "0123456789abcdef"));
        for (size_t i = 0; i < rq.n; i++) {
            assert_true(rq.at[i].hash == hash && rq.at[i].null && rq.at[i].serial.n == 16 && rq.at[i].serial.p[15] == i);
            assert_true(span_eq(rq.at[i].name, span_of(issuer.name[hash], ocsp_hash_length(hash))));
            assert_true(span_eq(rq.at[i].key, span_of(issuer.key[hash], ocsp_hash_length(hash))));
        }
    }
    ask(&ca, EVP_sha1(), 1, NULL, &der);
    assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), 0);
    assert_true(rq.n == 1 && rq.nonce.n == 0);
    ask(&ca, EVP_sha384(), 1, NULL, &der); /* well-formed, and of no CA that is known by it */
    assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), 0);
    assert_true(rq.at[0].hash == OCSP_OTHER);
    made_end(&ca);
}

static void a_signature_is_passed_over(void **state) {
    struct made ca = make_one(PROFILE_ISSUING_CA, "acme issuing CA", NULL), who = make_one(PROFILE_DEVICE, "who asks", &ca);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    struct ocsp_request rq;
    OCSP_REQUEST *asked = OCSP_REQUEST_new();
    assert_non_null(OCSP_request_add0_id(asked, id_of(&ca, EVP_sha1(), SERIAL, sizeof SERIAL)));
    assert_int_equal(OCSP_request_sign(asked, who.cert->x, who.key, EVP_sha256(), NULL, 0), 1);
    der_of(asked, &der);
    assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), 0);
    assert_int_equal(rq.n, 1);
    OCSP_REQUEST_free(asked);
    made_end(&who);
    made_end(&ca);
}

/* A request by hand: whole elements in hex, where they stand. */
struct by_hand {
    const char *what, *front, *serial, *one, *behind, *end, *tail; /* front: of the list; one: behind the CertID; behind: the list; end: what is signed; tail: all */
    bool good;
};

static void put_hex(struct der_writer *w, const char *hex) {
    uint8_t bytes[256];
    const size_t n = hex ? strlen(hex) / 2 : 0;
    assert_int_equal(hex_decode(span_str(hex ? hex : ""), bytes, n), 0);
    der_put(w, span_of(bytes, n));
}

static int read_by_hand(const struct by_hand *r) {
    static const uint8_t hash[20] = {1, 2, 3};
    uint8_t room[1024];
    struct der_writer w = der_writer_of(room, sizeof room);
    struct ocsp_request rq;
    put_hex(&w, r->tail);
    const size_t all = der_end(&w);
    put_hex(&w, r->end);
    const size_t tbs = der_end(&w);
    put_hex(&w, r->behind);
    const size_t list = der_end(&w);
    put_hex(&w, r->one);
    const size_t id = der_end(&w);
    put_hex(&w, r->serial ? r->serial : "02020080");
    der_element(&w, DER_OCTET_STRING, span_of(hash, sizeof hash));
    der_element(&w, DER_OCTET_STRING, span_of(hash, sizeof hash));
    put_hex(&w, "300706052b0e03021a");
    der_wrap(&w, DER_SEQUENCE, id);
    der_wrap(&w, DER_SEQUENCE, list);
    der_wrap(&w, DER_SEQUENCE, list);
    put_hex(&w, r->front);
    der_wrap(&w, DER_SEQUENCE, tbs);
    der_wrap(&w, DER_SEQUENCE, all);
    assert_true(der_written(&w).n > 0);
    return ocsp_request_read(der_written(&w), &rq, NULL);
}

#define NONCE "06092b0601050507300102"

static void what_is_no_request_is_refused(void **state) {
    static const struct by_hand rows[] = {
        {"as it should be", .good = true},
        {"version 1, said", .front = "a003020100", .good = true},
        {"version 2", .front = "a003020101"},
        {"a version of two bytes", .front = "a00402020001"},
        {"a byte behind", .tail = "00"},
        {"something unknown behind what is signed", .end = "3000"},
        {"a signature", .end = "a003020101", .good = true},
        {"a requestor's name", .front = "a10482026161", .good = true},
        {"a serial number of nothing", .serial = "0200"},
        {"a padded serial number", .serial = "02020001"},
        {"a padded negative serial number", .serial = "0202ff80"},
        {"a serial number of 33 bytes", .serial = "0221" "01" "0101010101010101010101010101010101010101010101010101010101010101"},
        {"a serial number of 32 bytes", .serial = "0220" "0101010101010101010101010101010101010101010101010101010101010101", .good = true},
        {"a nonce", .behind = "a21530133011" NONCE "040404021122", .good = true},
        {"a nonce twice", .behind = "a22830263011" NONCE "0404040211223011" NONCE "040404021122"},
        {"a critical nonce", .behind = "a21830163014" NONCE "0101ff040404021122", .good = true},
        {"an empty nonce", .behind = "a2133011300f" NONCE "04020400"},
        {"a nonce that is an INTEGER", .behind = "a214301230" "10" NONCE "0403020101"},
        {"something behind a nonce", .behind = "a21630143012" NONCE "04050401110000"},
        {"an unknown extension", .behind = "a20930073005" "06012a" "0400", .good = true},
        {"an unknown critical extension", .behind = "a20c300a3008" "06012a" "0101ff" "0400"},
        {"one that says that it is not critical", .behind = "a20c300a3008" "06012a" "010100" "0400", .good = true},
        {"a BOOLEAN of two bytes", .behind = "a20d300b3009" "06012a" "01020000" "0400"},
        {"a BOOLEAN that is neither", .behind = "a20c300a3008" "06012a" "010101" "0400"},
        {"no extension where some are said to be", .behind = "a2023000"},
        {"something behind the extensions", .behind = "a20b30073005" "06012a" "0400" "0500"},
        {"something behind an extension's value", .behind = "a20b30093007" "06012a" "0400" "0500"},
        {"an unknown extension of one certificate", .one = "a00930073005" "06012a" "0400", .good = true},
        {"a nonce of one certificate, which is none", .one = "a0153013" "3011" NONCE "040404021122", .good = true},
        {"a critical one of one certificate", .one = "a00c300a3008" "06012a" "0101ff" "0400"},
        {"something behind a certificate", .one = "0500"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if ((read_by_hand(&rows[i]) == 0) != rows[i].good)
            fail_msg("%s: %s", rows[i].what, rows[i].good ? "refused" : "read");
    struct ocsp_request rq;
    assert_int_equal(ocsp_request_read(SPAN_LIT("\x30\x04\x30\x02\x30\x00"), &rq, NULL), MUSTER_EINVALID); /* about no certificate */
    assert_int_equal(ocsp_request_read(SPAN_LIT("\x30\x81\x04\x30\x02\x30\x00"), &rq, NULL), MUSTER_EINVALID);
}

static void a_request_that_is_cut_or_too_long_is_refused(void **state) {
    struct made ca = make_one(PROFILE_ISSUING_CA, "acme issuing CA", NULL);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    struct ocsp_request rq;
    ask(&ca, EVP_sha1(), 2, "0123456789abcdef0123456789abcdef", &der);
    assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), 0);
    for (size_t n = 0; n < der.n; n++)
        assert_int_equal(ocsp_request_read(span_of(der.p, n), &rq, NULL), MUSTER_EINVALID);
    ask(&ca, EVP_sha1(), 1, "0123456789abcdef0123456789abcdefX", &der); /* 33 bytes: RFC 8954, 2.1 */
    assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), MUSTER_EINVALID);
    ask(&ca, EVP_sha1(), OCSP_SINGLES_MAX + 1, NULL, &der);
    assert_int_equal(ocsp_request_read(buf_span(&der), &rq, NULL), MUSTER_EINVALID);
    made_end(&ca);
}

/* --- answers ------------------------------------------------------------------------------------------------------------------------------- */

struct world {
    struct made ca, by;
    struct ocsp_issuer issuer;
    struct ocsp_responder responder;
    struct buf ca_der, by_der;
};

static void world_init(struct world *w) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    *w = (struct world){.ca = make_one(PROFILE_ISSUING_CA, "acme issuing CA", NULL), .ca_der = BUF_INIT(8192), .by_der = BUF_INIT(8192)};
    w->by = make_one(PROFILE_OCSP, "OCSP responder", &w->ca);
    assert_int_equal(cert_der(w->ca.cert, &w->ca_der) || cert_der(w->by.cert, &w->by_der) || ocsp_issuer_of(buf_span(&w->ca_der), &w->issuer, NULL), 0);
    assert_int_equal(key_public_der(w->by.key, &spki, NULL) || ocsp_key_hash(buf_span(&spki), w->responder.key_hash, NULL), 0);
    w->responder.key = w->by.key;
    w->responder.cert = buf_span(&w->by_der);
}

static void world_fini(struct world *w) {
    made_end(&w->ca);
    made_end(&w->by);
    buf_fini(&w->ca_der);
    buf_fini(&w->by_der);
}

static struct ocsp_single single(uint8_t last, enum ocsp_hash hash, enum ocsp_status status) {
    struct ocsp_single s = {.hash = hash, .null = true, .serial_n = sizeof SERIAL, .status = status};
    memcpy(s.serial, SERIAL, sizeof SERIAL);
    s.serial[15] = last;
    return s;
}

static OCSP_BASICRESP *basic_of(const struct buf *der) {
    const unsigned char *p = der->p;
    unsigned char *again = NULL;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)der->n);
    assert_non_null(r);
    assert_ptr_equal(p, der->p + der->n);
    int n = i2d_OCSP_RESPONSE(r, &again);
    assert_int_equal(n, der->n);
    assert_memory_equal(again, der->p, der->n);
    OPENSSL_free(again);
    assert_int_equal(OCSP_response_status(r), OCSP_RESPONSE_STATUS_SUCCESSFUL);
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(r);
    assert_non_null(basic);
    OCSP_RESPONSE_free(r);
    return basic;
}

static void verified(OCSP_BASICRESP *basic, const struct world *w) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, w->ca.cert->x);
    if (OCSP_basic_verify(basic, NULL, store, 0) != 1)
        fail_msg("%s", ERR_reason_error_string(ERR_peek_error()));
    X509_STORE_free(store);
}

static int64_t seconds(const ASN1_GENERALIZEDTIME *t) {
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
    return timegm(&tm);
}

static void check_single(OCSP_BASICRESP *basic, const struct world *w, const struct ocsp_plan *plan, const struct ocsp_single *s) {
    OCSP_CERTID *id = id_of(&w->ca, s->hash == OCSP_SHA1 ? EVP_sha1() : EVP_sha256(), s->serial, s->serial_n);
    ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next_update = NULL;
    int status, reason;
    assert_int_equal(OCSP_resp_find_status(basic, id, &status, &reason, &revoked, &this_update, &next_update), 1);
    assert_int_equal(status, s->status);
    assert_true(seconds(this_update) == plan->this_update && seconds(next_update) == plan->next_update);
    if (s->status == OCSP_REVOKED) {
        assert_int_equal(reason, s->reason ? s->reason : -1);
        assert_int_equal(seconds(revoked), s->revoked && s->revoked < plan->this_update ? s->revoked : plan->this_update);
    }
    OCSP_CERTID_free(id);
}

static void what_is_made_libcrypto_reads_and_verifies(void **state) {
    struct world w;
    world_init(&w);
    const int64_t now = clock_now();
    struct ocsp_single at[OCSP_SINGLES_MAX];
    for (size_t i = 0; i < OCSP_SINGLES_MAX; i++)
        at[i] = single((uint8_t)i, i % 2 ? OCSP_SHA1 : OCSP_SHA256, (enum ocsp_status)(i % 3));
    at[1].revoked = now - 100000;
    at[1].reason = 1;
    at[4].reason = 6;
    at[7].revoked = now + 100000; /* of the future: to some verifiers that is not revoked */
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    for (size_t n = 1; n <= OCSP_SINGLES_MAX; n += 5) {
        struct ocsp_plan plan = {.produced = now, .this_update = now - 300, .next_update = now + 3600, .nonce = SPAN_LIT("0123456789abcdef0123456789abcdef"), .at = at, .n = n};
        buf_clear(&der);
        assert_int_equal(ocsp_make(&w.issuer, &w.responder, &plan, &der, NULL), 0);
        OCSP_BASICRESP *basic = basic_of(&der);
        verified(basic, &w);
        assert_int_equal(OCSP_resp_count(basic), n);
        for (size_t i = 0; i < n; i++)
            check_single(basic, &w, &plan, &at[i]);
        assert_int_equal(OCSP_BASICRESP_get_ext_count(basic), 1);
        const ASN1_OCTET_STRING *key = NULL;
        const X509_NAME *name = NULL;
        assert_int_equal(OCSP_resp_get0_id(basic, &key, &name), 1);
        assert_true(key && !name && ASN1_STRING_length(key) == 20);
        OCSP_BASICRESP_free(basic);
    }
    world_fini(&w);
}

static void the_nonce_comes_back_and_none_where_there_was_none(void **state) {
    struct world w;
    world_init(&w);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536), question = BUF_INIT(65536);
    const struct ocsp_single s = single(1, OCSP_SHA1, OCSP_GOOD);
    const int64_t now = clock_now();
    struct ocsp_plan plan = {.produced = now, .this_update = now, .next_update = now + 1, .nonce = SPAN_LIT("N"), .at = &s, .n = 1};
    ask(&w.ca, EVP_sha1(), 1, "N", &question);
    const unsigned char *p = question.p;
    OCSP_REQUEST *rq = d2i_OCSP_REQUEST(NULL, &p, (long)question.n);
    for (int with = 1; with >= 0; with--) {
        plan.nonce = with ? SPAN_LIT("N") : SPAN_NONE;
        buf_clear(&der);
        assert_int_equal(ocsp_make(&w.issuer, &w.responder, &plan, &der, NULL), 0);
        OCSP_BASICRESP *basic = basic_of(&der);
        assert_int_equal(OCSP_check_nonce(rq, basic), with ? 1 : -1);
        verified(basic, &w);
        OCSP_BASICRESP_free(basic);
    }
    OCSP_REQUEST_free(rq);
    world_fini(&w);
}

static void a_responder_is_good_for_nothing_else(void **state) {
    struct world w;
    world_init(&w);
    X509 *x = w.by.cert->x;
    assert_true(X509_get_extended_key_usage(x) == XKU_OCSP_SIGN && X509_get_key_usage(x) == KU_DIGITAL_SIGNATURE && !w.by.cert->ca && !cert_allows_client(w.by.cert));
    assert_true(X509_get_ext_by_NID(x, NID_id_pkix_OCSP_noCheck, -1) >= 0);
    world_fini(&w);
}

static void plans_without_sense_are_refused(void **state) {
    struct world w;
    world_init(&w);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    const int64_t now = clock_now();
    const struct ocsp_single good = single(1, OCSP_SHA1, OCSP_GOOD);
    const struct ocsp_plan plan = {.produced = now, .this_update = now, .next_update = now + 1, .at = &good, .n = 1};
    assert_int_equal(ocsp_make(&w.issuer, &w.responder, &plan, &der, NULL), 0);
#define BAD_PLAN(change)                                                                                                                                     \
    {                                                                                                                                                        \
        struct ocsp_plan p = plan;                                                                                                                           \
        change;                                                                                                                                              \
        assert_int_equal(ocsp_make(&w.issuer, &w.responder, &p, &der, NULL), MUSTER_EINVALID);                                                               \
    }
#define BAD_SINGLE(change)                                                                                                                                   \
    {                                                                                                                                                        \
        struct ocsp_single s = good;                                                                                                                         \
        struct ocsp_plan p = plan;                                                                                                                           \
        p.at = &s;                                                                                                                                           \
        change;                                                                                                                                              \
        assert_int_equal(ocsp_make(&w.issuer, &w.responder, &p, &der, NULL), MUSTER_EINVALID);                                                               \
    }
    BAD_PLAN(p.n = 0)
    BAD_PLAN(p.n = OCSP_SINGLES_MAX + 1)
    BAD_PLAN(p.next_update = now)
    BAD_PLAN(p.this_update = now + 1)
    BAD_PLAN(p.this_update = 0)
    BAD_PLAN(p.nonce.n = OCSP_NONCE_MAX + 1)
    BAD_SINGLE(s.hash = OCSP_OTHER)
    BAD_SINGLE(s.serial_n = 0)
    BAD_SINGLE(s.serial_n = OCSP_SERIAL_MAX + 1)
    BAD_SINGLE(s.serial[0] = 0; s.serial[1] = 1)
    BAD_SINGLE(s.reason = 7)
    BAD_SINGLE(s.reason = 11)
    BAD_SINGLE(s.status = (enum ocsp_status)3)
    BAD_SINGLE(s.revoked = -1)
    assert_int_equal(ocsp_issuer_of(SPAN_LIT("\x30\x00"), &w.issuer, NULL), MUSTER_ECERTMALFORMED);
    assert_int_equal(ocsp_key_hash(SPAN_LIT("\x30\x00"), w.responder.key_hash, NULL), MUSTER_EINVALID);
    world_fini(&w);
}

static void errors_are_what_libcrypto_takes_them_for(void **state) {
    static const enum ocsp_answer all[] = {OCSP_MALFORMED, OCSP_INTERNAL, OCSP_LATER, OCSP_UNAUTHORIZED};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t der[OCSP_ERROR_LEN];
        const unsigned char *p = der;
        ocsp_error(all[i], der);
        OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, sizeof der);
        assert_non_null(r);
        assert_int_equal(OCSP_response_status(r), all[i]);
        OCSP_RESPONSE_free(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_libcrypto_asks_is_read),
        cmocka_unit_test(a_signature_is_passed_over),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(a_request_that_is_cut_or_too_long_is_refused),
        cmocka_unit_test(what_is_made_libcrypto_reads_and_verifies),
        cmocka_unit_test(the_nonce_comes_back_and_none_where_there_was_none),
        cmocka_unit_test(a_responder_is_good_for_nothing_else),
        cmocka_unit_test(plans_without_sense_are_refused),
        cmocka_unit_test(errors_are_what_libcrypto_takes_them_for),
    };
    return secret_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
