/* courier/sign: see sign.h. */
#include "courier/sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/cleanup.h"
#include "base/hex.h"

static int add(struct span message, const char *secret, struct buf *out) {
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!HMAC(EVP_sha256(), secret, (int)strlen(secret), message.p, message.n, mac, &n) || n != 32)
        return MUSTER_ECRYPTO;
    buf_adds(out, ",v1=");
    hex_add(out, span_of(mac, n));
    return 0;
}

int courier_sign(int64_t at, struct span body, const char *secret, const char *second, struct buf *out) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(body.n + 32);
    buf_addf(&message, "%lld.", (long long)at);
    buf_add(&message, body);
    buf_addf(out, "t=%lld", (long long)at);
    int rc = buf_check(&message, NULL);
    if (!rc)
        rc = add(buf_span(&message), secret, out);
    if (!rc && second && *second)
        rc = add(buf_span(&message), second, out);
    return rc ? rc : buf_check(out, NULL);
}
