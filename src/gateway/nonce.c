/* nonce: see nonce.h. */
#include "gateway/nonce.h"

#include "base/hex.h"

int nonce_read(struct span text, uint8_t out[NONCE_MAX], size_t *n, struct err *err) {
    *n = text.n / 2;
    if (*n < NONCE_MIN || *n > NONCE_MAX || hex_decode(text, out, *n))
        return err_set(err, MUSTER_EINVALID, "nonce is %d to %d random bytes in hexadecimal digits.", NONCE_MIN, NONCE_MAX);
    return 0;
}
