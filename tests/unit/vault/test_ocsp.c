/* The vault's OCSP answers: by a responder that the CA certified, renewed in time; for CAs of the account alone, and within bounds. */
#include <openssl/ocsp.h>

#include "rig.h"

#include "pki/ocsp_make.h"

static struct {
    int calls, rc;
    int64_t this_update, next_update;
    struct buf der;
} o;

static void on_ocsp(void *arg, int rc, const struct err *err, const struct vault_ocsp_signed *s) {
    o.calls++;
    o.rc = rc;
    assert_int_equal(s == NULL, rc != 0);
    if (s) {
        o.this_update = s->this_update;
        o.next_update = s->next_update;
        buf_add(&o.der, s->der);
    }
    loop_stop(rig.loop);
}

static struct vault_ocsp question(const uint8_t key[CRL_KEY_ID_LEN]) {
    struct vault_ocsp rq = {.account = SPAN_LIT("fleet"), .life = CLOCK_HOUR, .n = 1, .at = {{.hash = OCSP_SHA1, .null = true, .serial = {1, 2, 3}, .serial_n = 3, .status = OCSP_GOOD}}};
    memcpy(rq.key_id, key, sizeof rq.key_id);
    return rq;
}

static int ask(const struct vault_ocsp *rq) {
    o.calls = 0;
    buf_fini(&o.der);
    o.der = BUF_INIT(65536);
    int rc = vault_ocsp_sign(rig.control, rq, on_ocsp, NULL, NULL);
    while (!rc && !o.calls)
        loop_run(rig.loop);
    return rc ? rc : o.rc;
}

static struct cert *ca_of(size_t slot, uint8_t key[CRL_KEY_ID_LEN]) {
    assert_int_equal(show("fleet"), 0);
    struct cert *ca = cert_of(&g.der[slot]);
    assert_true(crl_key_id(ca, key));
    return ca;
}

/* Verified under the CA alone; the responder's certificate, a reference. */
static X509 *responder(const struct cert *ca) {
    const unsigned char *p = o.der.p;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)o.der.n);
    assert_non_null(r);
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(r);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, ca->x);
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME); /* the rig's vault may be years ahead */
    assert_int_equal(OCSP_basic_verify(basic, NULL, store, 0), 1);
    X509 *x = sk_X509_value(OCSP_resp_get0_certs(basic), 0);
    assert_int_equal(sk_X509_num(OCSP_resp_get0_certs(basic)), 1);
    X509_up_ref(x);
    X509_STORE_free(store);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    return x;
}

static void fleet_roots_and_issuing_cas_answer(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    for (size_t slot = 0; slot < 2; slot++) {
        CLEANUP(cert_free) struct cert *ca = ca_of(slot, key);
        const struct vault_ocsp rq = question(key);
        assert_int_equal(ask(&rq), 0);
        assert_true(near(o.this_update, clock_now() - 300) && o.next_update - o.this_update == CLOCK_HOUR + 300);
        X509 *by = responder(ca), *again;
        CLEANUP(cert_free) struct cert *facts = NULL;
        assert_int_equal(cert_from_x509(by, &facts, NULL), 0);
        assert_true(facts->not_after - facts->not_before <= 7 * CLOCK_DAY && facts->not_after > clock_now() + 5 * CLOCK_DAY);
        assert_true(X509_get_extended_key_usage(by) == XKU_OCSP_SIGN && X509_get_ext_by_NID(by, NID_id_pkix_OCSP_noCheck, -1) >= 0);
        assert_int_equal(ask(&rq), 0); /* the same one signs again */
        again = responder(ca);
        assert_int_equal(X509_cmp(by, again), 0);
        X509_free(again);
        X509_free(by);
    }
    CLEANUP(cert_free) struct cert *provisioning = ca_of(2, key); /* nobody but Muster judges its certificates */
    const struct vault_ocsp rq = question(key);
    assert_int_equal(ask(&rq), MUSTER_ENOTFOUND);
}

static void the_responder_is_another_one_in_time(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    CLEANUP(cert_free) struct cert *ca = ca_of(1, key);
    const struct vault_ocsp rq = question(key);
    assert_int_equal(ask(&rq), 0);
    X509 *first = responder(ca);
    assert_int_equal(stop(), 0);
    start(); /* kept nowhere */
    assert_int_equal(hello(0), 0);
    assert_int_equal(ask(&rq), 0);
    X509 *second = responder(ca);
    assert_int_not_equal(X509_cmp(first, second), 0);
    assert_false(EVP_PKEY_eq(X509_get0_pubkey(first), X509_get0_pubkey(second)) == 1);
    X509_free(first);
    X509_free(second);
}

static void an_issuing_ca_that_was_replaced_answers_still(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    CLEANUP(cert_free) struct cert *ca = ca_of(1, key);
    assert_int_equal(stop(), 0);
    rig.offset = 16 * CLOCK_YEAR;
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(renew("fleet"), 0);
    assert_true(g.changed);
    const struct vault_ocsp rq = question(key);
    assert_int_equal(ask(&rq), 0);
    X509_free(responder(ca));
}

static void a_ca_that_has_ended_answers_nothing_and_one_that_is_about_to_no_longer(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    CLEANUP(cert_free) struct cert *ca = ca_of(1, key);
    assert_int_equal(stop(), 0);
    rig.offset = ca->not_after - clock_now() - 1800;
    start();
    assert_int_equal(hello(0), 0);
    const struct vault_ocsp rq = question(key);
    assert_int_equal(ask(&rq), 0);
    assert_int_equal(o.next_update, ca->not_after);
    assert_int_equal(stop(), 0);
    rig.offset += 3600;
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(ask(&rq), MUSTER_EVAULT);
}

static void what_makes_no_answer_is_refused(void **state) {
    static const uint8_t nobody[CRL_KEY_ID_LEN] = {1};
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    CLEANUP(cert_free) struct cert *ca = ca_of(1, key);
    struct vault_ocsp rq = question(nobody);
    assert_int_equal(ask(&rq), MUSTER_ENOTFOUND);
    rq = question(key);
    rq.account = SPAN_LIT("nobody");
    assert_int_equal(ask(&rq), MUSTER_ENOTFOUND);
    rq = question(key);
    rq.life = VAULT_OCSP_LIFE_MAX + 1;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq.life = VAULT_OCSP_LIFE_MIN - 1;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq = question(key);
    rq.at[0].serial[0] = 0;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    /* What the wire has no shape for is not sent: it would end the vault. */
    rq = question(key);
    rq.n = 0;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq.n = OCSP_SINGLES_MAX + 1;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq = question(key);
    rq.at[0].hash = OCSP_OTHER;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq = question(key);
    rq.at[0].serial_n = 0;
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq = question(key);
    rq.nonce = span_of(nobody, OCSP_NONCE_MAX + 1);
    assert_int_equal(ask(&rq), MUSTER_EINVALID);
    rq = question(key);
    assert_int_equal(ask(&rq), 0);
    assert_int_equal(delete("fleet"), 0);
    assert_int_equal(ask(&rq), MUSTER_ENOTFOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(fleet_roots_and_issuing_cas_answer),
        T(the_responder_is_another_one_in_time),
        T(an_issuing_ca_that_was_replaced_answers_still),
        T(a_ca_that_has_ended_answers_nothing_and_one_that_is_about_to_no_longer),
        T(what_makes_no_answer_is_refused),
    };
    int rc = run_vault_tests(tests, sizeof tests / sizeof *tests);
    buf_fini(&o.der);
    return rc;
}
