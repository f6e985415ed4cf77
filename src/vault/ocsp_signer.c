/* vault/ocsp_signer: see ocsp_signer.h. */
#include "vault/ocsp_signer.h"

#include "base/clock.h"
#include "vault/trail.h"

#define LIFE (7 * CLOCK_DAY) /* of its certificate, from beginning to end */
#define BACKDATE CLOCK_DAY   /* of which so much lies back, for verifiers whose clock is behind */
#define CERT_MAX 2048        /* bytes; pki/ocsp_make.c has room for no more */

void ocsp_signer_free(struct ocsp_signer *s) {
    if (!s)
        return;
    EVP_PKEY_free(s->by.key);
    buf_fini(&s->cert);
    free(s);
}

/* A clock that was set back is a reason for a new one as well. */
static bool is_due(const struct ocsp_signer *s, int64_t now) { return !s || now < s->made || now >= s->until; }

static int certify(struct authority *ca, struct key_store *keys, struct span spki, int64_t now, struct ocsp_signer *s, struct err *err) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(512), ca_der = BUF_INIT(16 * 1024);
    int rc = cert_common_name(ca->cert, &name, err);
    if (rc || (rc = cert_der(ca->cert, &ca_der)) || (rc = ocsp_issuer_of(buf_span(&ca_der), &s->issuer, err)))
        return rc;
    const int64_t end = now + LIFE - BACKDATE;
    struct make_request rq = {
        .profile = PROFILE_OCSP,
        .subject = {.common_name = SPAN_LIT("OCSP responder"), .organisational_unit = buf_span(&name)},
        .public_key = spki,
        .not_before = now - BACKDATE,
        .not_after = end < ca->cert->not_after ? end : ca->cert->not_after,
    };
    trail_serial(rq.serial);
    if ((rc = authority_sign(ca, keys, &rq, &s->cert, err)))
        return rc;
    s->by.cert = buf_span(&s->cert);
    s->not_after = rq.not_after;
    s->made = now;
    s->until = now + (rq.not_after - now + 1) / 2;
    return 0;
}

/* The same one again where the request waited for the CA's signature. */
static int responder_key(EVP_PKEY **key, struct err *err) {
    CLEANUP(buf_fini) struct buf none = BUF_INIT(1);
    if (trail_sealed(&none, key))
        return 0;
    int rc = key_generate(KEY_P256, 0, key, err);
    return rc ? rc : trail_keep_sealed(SPAN_NONE, *key, err);
}

int ocsp_signer_of(struct authority *ca, struct key_store *keys, int64_t now, struct ocsp_signer **out, struct err *err) {
    CLEANUP(ocsp_signer_free) struct ocsp_signer *s = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    if (!is_due(ca->ocsp, now)) {
        *out = ca->ocsp;
        return 0;
    }
    if (ca->cert->not_after <= now)
        return err_retry(err, MUSTER_EVAULT, 5, "The CA has ended: nothing is said of its certificates any more.");
    if (!(s = calloc(1, sizeof *s)))
        return err_set(err, MUSTER_ENOMEM, NULL);
    s->cert = BUF_INIT(CERT_MAX);
    int rc = responder_key(&s->by.key, err);
    if (rc || (rc = key_public_der(s->by.key, &spki, err)) || (rc = ocsp_key_hash(buf_span(&spki), s->by.key_hash, err)) || (rc = certify(ca, keys, buf_span(&spki), now, s, err)))
        return rc;
    ocsp_signer_free(ca->ocsp);
    *out = ca->ocsp = TAKE(s);
    return 0;
}
