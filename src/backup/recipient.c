/* recipient: see recipient.h. */
#include "backup/recipient.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "pki/key.h"

DEFINE_CLEANUP(BIO_free, BIO *)

/* Asks nobody: a key under a passphrase is not read. */
static int no_passphrase(char *out, int size, int writing, void *arg) { return -1; }

static EVP_PKEY *read_pem(struct span pem, bool private) {
    CLEANUP(BIO_free) BIO *in = pem.n && pem.n <= 65536 ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    EVP_PKEY *key = !in ? NULL : private ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL) : PEM_read_bio_PUBKEY(in, NULL, no_passphrase, NULL);
    ERR_clear_error();
    return key;
}

int recipient_read_public(struct span pem, uint8_t out[RECIPIENT_KEY_LEN], struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = read_pem(pem, false);
    size_t n = RECIPIENT_KEY_LEN;
    if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_X25519 || EVP_PKEY_get_raw_public_key(key, out, &n) != 1 || n != RECIPIENT_KEY_LEN)
        return err_set(err, MUSTER_EINVALID, "The recipient's file does not hold an X25519 public key in PEM (`openssl pkey -pubout` writes one).");
    return 0;
}

int recipient_read_private(struct span pem, struct secret *out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = read_pem(pem, true);
    CLEANUP(secret_fini) struct secret raw = SECRET_INIT;
    if (secret_alloc(&raw, RECIPIENT_KEY_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_X25519 || EVP_PKEY_get_raw_private_key(key, raw.p, &raw.n) != 1 || raw.n != RECIPIENT_KEY_LEN)
        return err_set(err, MUSTER_EINVALID, "The recipient's key file does not hold an X25519 private key in PEM that is under no passphrase.");
    *out = raw;
    raw = SECRET_INIT;
    return 0;
}
