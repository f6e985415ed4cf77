/* Certs-only PKCS#7: OpenSSL reads the same certificates out of it, and writes the same bytes where there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/pkcs7.h>

#include "pki/pkcs7.h"
#include "../pki_fixture.h"

/* OpenSSL reads them all back, in the order of their encodings. */
static void read_back(struct span der, const struct span *certs, size_t n) {
    const unsigned char *p = der.p;
    PKCS7 *read = d2i_PKCS7(NULL, &p, (long)der.n);
    assert_true(read && p == der.p + der.n && PKCS7_type_is_signed(read));
    STACK_OF(X509) *all = read->d.sign->cert;
    struct buf before = BUF_INIT(4096), one = BUF_INIT(4096);
    assert_int_equal(sk_X509_num(all), (int)n);
    assert_true(sk_PKCS7_SIGNER_INFO_num(PKCS7_get_signer_info(read)) <= 0);
    for (size_t i = 0; i < n; i++) {
        bool ours = false;
        struct cert *c = NULL;
        buf_clear(&one);
        assert_int_equal(cert_from_x509(sk_X509_value(all, (int)i), &c, NULL) || cert_der(c, &one), 0);
        for (size_t k = 0; k < n; k++)
            ours = ours || span_eq(buf_span(&one), certs[k]);
        assert_true(ours);
        if (i) /* as octets, like the set that they are */
            assert_true(memcmp(before.p, one.p, before.n < one.n ? before.n : one.n) < 0);
        buf_clear(&before);
        buf_add(&before, buf_span(&one));
        cert_free(c);
    }
    buf_fini(&before);
    buf_fini(&one);
    PKCS7_free(read);
}

/* What OpenSSL makes of one; several it leaves in the order in which they came. */
static void theirs(struct made *m, size_t n, struct buf *out) {
    PKCS7 *p = PKCS7_new();
    PKCS7_SIGNED *s = p->d.sign;
    assert_int_equal(PKCS7_set_type(p, NID_pkcs7_signed), 1);
    s = p->d.sign;
    assert_int_equal(PKCS7_content_new(p, NID_pkcs7_data), 1);
    ASN1_OCTET_STRING_free(s->contents->d.data);
    s->contents->d.data = NULL; /* detached */
    for (size_t i = 0; i < n; i++)
        assert_int_equal(PKCS7_add_certificate(p, m[i].cert->x), 1);
    unsigned char *der = NULL;
    int bytes = i2d_PKCS7(p, &der);
    assert_true(bytes > 0);
    buf_add(out, span_of(der, (size_t)bytes));
    OPENSSL_free(der);
    PKCS7_free(p);
}

static void as_openssl_has_it(void **state) {
    for (size_t n = 1; n <= PKCS7_CERTS_MAX; n++) {
        struct made m[PKCS7_CERTS_MAX];
        struct buf ders[PKCS7_CERTS_MAX];
        struct span spans[PKCS7_CERTS_MAX];
        CLEANUP(buf_fini) struct buf ours = BUF_INIT(65536);
        CLEANUP(buf_fini) struct buf other = BUF_INIT(65536);
        for (size_t i = 0; i < n; i++) {
            m[i] = make_it((struct recipe){.cn = i % 2 ? "b" : "a much longer name"});
            ders[i] = BUF_INIT(4096);
            assert_int_equal(cert_der(m[i].cert, &ders[i]), 0);
            spans[i] = buf_span(&ders[i]);
        }
        assert_int_equal(pkcs7_certs(spans, n, &ours, NULL), 0);
        read_back(buf_span(&ours), spans, n);
        theirs(m, n, &other);
        assert_int_equal(ours.n, other.n);
        if (n == 1)
            assert_true(span_eq(buf_span(&ours), buf_span(&other)));
        for (size_t i = 0; i < n; i++) {
            buf_fini(&ders[i]);
            made_free(&m[i]);
        }
    }
}

static void none_and_too_many(void **state) {
    struct span some[PKCS7_CERTS_MAX + 1] = {{0}};
    CLEANUP(buf_fini) struct buf out = BUF_INIT(65536);
    assert_int_equal(pkcs7_certs(some, 0, &out, NULL), MUSTER_EINTERNAL);
    assert_int_equal(pkcs7_certs(some, PKCS7_CERTS_MAX + 1, &out, NULL), MUSTER_EINTERNAL);
    assert_int_equal(out.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_openssl_has_it), cmocka_unit_test(none_and_too_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
