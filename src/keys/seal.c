/* seal: see seal.h. */
#include "keys/seal.h"

#include <sodium.h>

#define NONCE_LEN crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_Static_assert(SEAL_KEY_LEN == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key length");
_Static_assert(SEAL_OVERHEAD == NONCE_LEN + crypto_aead_xchacha20poly1305_ietf_ABYTES, "overhead");

int seal_close(struct span key, struct span bound, struct span content, struct buf *out) {
    if (key.n != SEAL_KEY_LEN)
        return MUSTER_EINTERNAL;
    uint8_t *box = buf_extend(out, content.n + SEAL_OVERHEAD);
    if (!box)
        return MUSTER_ENOMEM;
    secret_random_bytes(box, NONCE_LEN);
    crypto_aead_xchacha20poly1305_ietf_encrypt(box + NONCE_LEN, NULL, content.p, content.n, bound.p, bound.n, NULL, box, key.p);
    return 0;
}

int seal_open(struct span key, struct span bound, struct span box, struct secret *content) {
    if (key.n != SEAL_KEY_LEN)
        return MUSTER_EINTERNAL;
    if (box.n < SEAL_OVERHEAD)
        return MUSTER_ECORRUPT;
    CLEANUP(secret_fini) struct secret plain = SECRET_INIT;
    /* One byte more than the content: guarded memory of no bytes at all has no address. */
    if (secret_alloc(&plain, box.n - SEAL_OVERHEAD + 1))
        return MUSTER_ENOMEM;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain.p, NULL, NULL, box.p + NONCE_LEN, box.n - NONCE_LEN, bound.p, bound.n, box.p, key.p))
        return MUSTER_ECORRUPT;
    plain.n = box.n - SEAL_OVERHEAD;
    *content = plain;
    plain = SECRET_INIT;
    return 0;
}
