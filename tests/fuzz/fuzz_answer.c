/* What a gateway answers to muster-agent: certificates and anchors of EST, in base64, and times.  An issued certificate is for the key that was asked for, of a client, and
 * lives, and what stands above it is a chain; anchors are added and never taken away, each a CA for TLS servers whose key another one of the answer has; a time is not before the floor.
 * The first byte says which: 'c' or 't'. */
#include <openssl/x509v3.h>

#include "agent/anchors.h"
#include "agent/est.h"
#include "agent/true_time.h"
#include "fuzz.h"

#include "anchors.inc"

#define NOW 1767225600LL /* 2026-01-01 */

/* Parsed once. */
static void known(struct certs *out) {
    static struct certs all;
    for (size_t i = 0; all.n < 6; i++) {
        MUST(cert_from_der(ANCHORS[i].cert, &all.cert[all.n], NULL) == 0);
        if (certs_have(&all, all.cert[all.n]))
            cert_free(all.cert[all.n]);
        else
            all.n++;
    }
    for (size_t i = 0; i < all.n; i++)
        MUST(cert_from_x509_known(all.cert[i]->x, all.cert[i], &out->cert[out->n++]) == 0);
}

/* As they go to the disk and come back. */
static void same_from_file(const struct certs *mine) {
    CLEANUP(certs_fini) struct certs again = CERTS_INIT;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(1u << 20);
    MUST(certs_pem(mine, &pem) == 0 && certs_read(buf_span(&pem), &again, NULL) == 0 && again.n == mine->n);
    for (size_t i = 0; i < mine->n; i++) {
        struct cert *first = certs_shift(&again);
        MUST(first && hash_eq(&first->fingerprint, &mine->cert[i]->fingerprint));
        cert_free(first);
    }
    MUST(certs_shift(&again) == NULL);
}

static bool has_key(const struct certs *offered, const struct cert *c) {
    for (size_t i = 0; i < offered->n; i++)
        if (!offered->cert[i]->self_signed && hash_eq(&offered->cert[i]->key.spki, &c->key.spki))
            return true;
    return false;
}

/* From one to the next each is a CA that signed the one before it, and none is there twice, nor a root. */
static void check_above(const struct cert *leaf, const struct certs *offered, const struct certs *known_before) {
    CLEANUP(certs_fini) struct certs above = CERTS_INIT, whole = CERTS_INIT;
    const struct cert *at = leaf;
    MUST(certs_above(leaf, offered, known_before, &above, NULL) == 0 && above.n <= CERTS_MAX);
    for (size_t i = 0; i < above.n; at = above.cert[i++]) {
        const struct cert *c = above.cert[i];
        MUST(c->ca && !c->self_signed && cert_signed_by(at, c) && (certs_have(offered, c) || certs_have(known_before, c)));
        for (size_t k = 0; k < i; k++)
            MUST(!hash_eq(&c->fingerprint, &above.cert[k]->fingerprint));
    }
    MUST(certs_above(leaf, &above, &above, &whole, NULL) == 0 && whole.n == above.n); /* they are enough by themselves */
}

static void anchors(struct span body) {
    CLEANUP(certs_fini) struct certs offered = CERTS_INIT, mine = CERTS_INIT, before = CERTS_INIT;
    struct err err = ERR_INIT;
    size_t taken = 0, more = 0;
    known(&mine);
    known(&before);
    int rc = est_read_anchors(body, &offered, &err);
    MUST(rc == 0 ? offered.n >= 1 && offered.n <= CERTS_MAX : offered.n == 0 && err.code == rc);
    if (rc)
        return;
    for (size_t i = 0; i < offered.n; i++) {
        CLEANUP(cert_free) struct cert *issued = NULL;
        const EVP_PKEY *key = X509_get0_pubkey(offered.cert[i]->x);
        if (key && est_read_certificate(body, key, NOW, &issued, &err) == 0)
            MUST(issued && EVP_PKEY_eq(X509_get0_pubkey(issued->x), key) == 1 && !issued->ca && issued->not_after > NOW && cert_allows_client(issued));
    }
    for (size_t i = 0; i < before.n; i++) { /* which are keys of others, but where the answer has them */
        CLEANUP(cert_free) struct cert *issued = NULL;
        const EVP_PKEY *key = X509_get0_pubkey(before.cert[i]->x);
        MUST(est_read_certificate(body, key, NOW, &issued, &err) ? !issued : EVP_PKEY_eq(X509_get0_pubkey(issued->x), key) == 1);
    }
    check_above(offered.cert[0], &offered, &before);
    rc = anchors_take(&mine, &offered, NOW, NOW, &taken, &err);
    MUST(rc == 0 || rc == MUSTER_EINVALID);
    MUST(mine.n == before.n + taken);
    for (size_t i = 0; i < before.n; i++)
        MUST(hash_eq(&mine.cert[i]->fingerprint, &before.cert[i]->fingerprint));
    for (size_t i = before.n; i < mine.n; i++) {
        const struct cert *c = mine.cert[i];
        MUST(c->ca && c->self_signed && c->not_before <= NOW && NOW <= c->not_after && (X509_get_extended_key_usage(c->x) & XKU_SSL_SERVER) && has_key(&offered, c));
    }
    if (taken)
        same_from_file(&mine);
    MUST(anchors_take(&mine, &offered, NOW, NOW, &more, &err) == 0 || taken == 0 || mine.n == CERTS_MAX);
}

static void told(struct span body) {
    CLEANUP(certs_fini) struct certs mine = CERTS_INIT;
    static const uint8_t nonce[32] = {1, 2, 3};
    struct err err = ERR_INIT;
    int64_t at = 0;
    known(&mine);
    int rc = true_time_judge(body, span_of(nonce, sizeof nonce), &mine, &at, &err);
    MUST(rc == 0 || (rc == MUSTER_ETIME && at == 0 && err.text[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span body = span_of(n ? data + 1 : data, n ? n - 1 : 0);
    if (n && data[0] == 'c')
        anchors(body);
    else if (n && data[0] == 't')
        told(body);
    return 0;
}
