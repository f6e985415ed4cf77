/* key_digest: see key_digest.h. */
#include "muster/key_digest.h"

#include <openssl/pem.h>

#include "base/hex.h"
#include "muster/file_arg.h"
#include "pki/cert.h"
#include "pki/csr.h"

#define FILE_MAX (64 * 1024)

static bool is_digest(const char *text, struct hash *out) {
    char digits[2 * PKI_HASH_LEN];
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == ':')
            continue;
        if (n == sizeof digits)
            return false;
        digits[n++] = *p;
    }
    return n == sizeof digits && hex_decode(span_of(digits, n), out->b, sizeof out->b) == 0;
}

static bool of_public_key(struct span file, struct hash *out) {
    struct key_facts facts;
    BIO *bio = BIO_new_mem_buf(file.p, (int)file.n);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    bool good = key ? key_facts(key, &facts, NULL) == 0 : key_facts_from_public_der(file, &facts, NULL) == 0;
    EVP_PKEY_free(key);
    if (good)
        *out = facts.spki;
    return good;
}

static bool of_file(struct span file, struct hash *out) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(csr_free) struct csr *csr = NULL;
    if (cert_from_file(file, &cert, NULL) == 0)
        *out = cert->key.spki;
    else if (csr_from_file(file, &csr, NULL) == 0)
        *out = csr->key.spki;
    else
        return of_public_key(file, out);
    return true;
}

int key_digest_named(const char *text, struct hash *out, struct err *err) {
    CLEANUP(buf_wipe) struct buf file = BUF_INIT(FILE_MAX);
    if (is_digest(text, out))
        return 0;
    int rc = file_arg_read(text, &file, err);
    if (rc)
        return rc;
    if (of_file(buf_span(&file), out))
        return 0;
    return err_set(err, MUSTER_EINVALID, "%s has neither a certificate nor a request nor a public key, in PEM or DER; a key is named by such a file, or by the SHA-256 of it in 64 hex digits.", text);
}
