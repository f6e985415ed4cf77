/* vault/time: the time of day, signed for devices that have no clock; see vault.h.
 *
 * The key signs nothing else, is not the one of any TLS server, and is made here when it is first needed: it is kept nowhere, and lives as long as
 * the process, at most for half of its certificate's life.  A device without a clock cannot tell that a certificate is over; it takes a time only
 * within the certificate's dates, so that who has stolen one of these keys can lie by days and not by years. */
#include "base/clock.h"
#include "base/hex.h"
#include "vault/serve.h"

#define CERT_MAX (16 * 1024)

void vault_time_message(int64_t time, struct span nonce, struct buf *out) {
    char text[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(time, text);
    buf_adds(out, VAULT_TIME_PREFIX "\n");
    buf_adds(out, text);
    buf_adds(out, "\n");
    hex_add(out, nonce);
    buf_adds(out, "\n");
}

void time_signer_fini(struct time_signer *t) {
    EVP_PKEY_free(t->key);
    buf_fini(&t->cert);
    *t = (struct time_signer){0};
}

/* A clock that was set, and another CA above it, are reasons for a new one as well. */
static bool is_due(const struct time_signer *t, const struct core *core, int64_t now) {
    return !t->key || now < t->made || now >= t->until || !hash_eq(&t->issuer, &core_time_ca(core, now)->cert->fingerprint);
}

/* The same one again where the request waited for the CA's signature. */
static int make_key(EVP_PKEY **key, struct err *err) {
    CLEANUP(buf_fini) struct buf none = BUF_INIT(1);
    if (trail_sealed(&none, key))
        return 0;
    int rc = key_generate(KEY_P256, 0, key, err);
    return rc ? rc : trail_keep_sealed(SPAN_NONE, *key, err);
}

static int renew(struct vault *v, int64_t now, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf cert = BUF_INIT(CERT_MAX);
    struct vault_issued issued;
    int rc = make_key(&key, err);
    if (rc || (rc = key_public_der(key, &spki, err)) || (rc = issue_time_certificate(v, buf_span(&spki), now, &issued, err)))
        return rc;
    buf_add(&cert, issued.der);
    if ((rc = buf_check(&cert, err)))
        return rc;
    time_signer_fini(&v->time);
    v->time = (struct time_signer){.key = TAKE(key), .cert = cert, .issuer = issued.issuer, .made = now, .until = now + (issued.not_after - now + 1) / 2};
    cert = BUF_INIT(0);
    return 0;
}

int serve_time_sign(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(512);
    if (rq->nonce.n < VAULT_TIME_NONCE_MIN || rq->nonce.n > VAULT_TIME_NONCE_MAX)
        return err_set(err, MUSTER_EINVALID, "A nonce has %d to %d bytes.", VAULT_TIME_NONCE_MIN, VAULT_TIME_NONCE_MAX);
    int rc = is_due(&v->time, v->core, now) ? renew(v, now, err) : 0;
    if (rc)
        return rc;
    vault_time_message(now, rq->nonce, &message);
    buf_clear(&v->der[0]);
    if ((rc = buf_check(&message, err)) || (rc = key_sign(v->time.key, buf_span(&message), &v->der[0], err)))
        return rc;
    a->time_signed = (struct vault_time_signed){.time = now, .signature = buf_span(&v->der[0]), .certificate = buf_span(&v->time.cert)};
    return 0;
}
