/* est_keygen: the answer of EST's serverkeygen (RFC 7030, 4.4.2; RFC 8951, 3.2): multipart/mixed of a PKCS#8 and a certs-only PKCS#7, each in base64.
 * The key is in guarded memory and in the answer, which is wiped once it was sent; nobody can be given it again. */
#include "base/hex.h"
#include "base/secret.h"
#include "gateway/est_part.h"
#include "pki/key.h"
#include "pki/pkcs7.h"

#define ANSWER_MAX 65536 /* bytes */
#define LINE 64          /* characters of base64 in a line, which ends in CRLF here (RFC 2045, 6.8) */
#define BOUNDARY "muster-est" /* no base64 has a hyphen */

static void add_part(struct buf *out, const char *type, struct span der) {
    CLEANUP(buf_wipe) struct buf text = BUF_INIT(ANSWER_MAX);
    base64_add(&text, der);
    if (!buf_ok(&text))
        out->failed = true;
    buf_addf(out, "--" BOUNDARY "\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64\r\n\r\n", type);
    for (size_t at = 0; at < text.n; at += LINE) {
        buf_add(out, span_sub(buf_span(&text), at, LINE));
        buf_adds(out, "\r\n");
    }
}

static int make(const EVP_PKEY *key, struct span cert, struct buf *out, struct err *err) {
    CLEANUP(secret_fini) struct secret private_der = SECRET_INIT;
    CLEANUP(buf_fini) struct buf certs = BUF_INIT(ANSWER_MAX);
    int rc = key_private_der(key, &private_der, err);
    if (rc || (rc = pkcs7_certs(&cert, 1, &certs, err)))
        return rc;
    add_part(out, "application/pkcs8", secret_span(&private_der));
    add_part(out, EST_CERTS_ONLY, buf_span(&certs));
    buf_adds(out, "--" BOUNDARY "--\r\n");
    return buf_check(out, err);
}

void est_reply_key(struct http_exchange *x, const EVP_PKEY *key, struct span cert) {
    struct buf body = BUF_INIT(ANSWER_MAX);
    struct err err = ERR_INIT;
    if (make(key, cert, &body, &err)) {
        buf_wipe(&body);
        http_reply_err(x, &err);
    } else {
        http_reply_buf(x, 200, "multipart/mixed; boundary=" BOUNDARY, &body, true);
    }
}
