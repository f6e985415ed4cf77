/* key_digest: see key_digest.h. */
#include "muster/key_digest.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/hex.h"
#include "muster/file_arg.h"
#include "pki/key.h"

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

static int no_passphrase(char *out, int room, int writing, void *arg) { return -1; } /* nobody is asked for one */

/* The first certificate of the file, or request, or public key, whatever else is in it (a chain, the private key), and whether or not it would be taken
 * from a device: it may be a weak key that is looked for. */
static EVP_PKEY *in_pem(struct span file) {
    EVP_PKEY *key = NULL;
    for (int what = 0; !key && what < 3; what++) {
        BIO *bio = BIO_new_mem_buf(file.p, (int)file.n);
        X509 *cert = bio && what == 0 ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
        X509_REQ *request = bio && what == 1 ? PEM_read_bio_X509_REQ(bio, NULL, no_passphrase, NULL) : NULL;
        key = cert ? X509_get_pubkey(cert) : request ? X509_REQ_get_pubkey(request) : bio && what == 2 ? PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL) : NULL;
        X509_free(cert);
        X509_REQ_free(request);
        BIO_free(bio);
    }
    ERR_clear_error();
    return key;
}

static EVP_PKEY *in_der(struct span file) {
    const unsigned char *p = file.p;
    X509 *cert = d2i_X509(NULL, &p, (long)file.n);
    X509_REQ *request = cert ? NULL : d2i_X509_REQ(NULL, (p = file.p, &p), (long)file.n);
    EVP_PKEY *key = cert ? X509_get_pubkey(cert) : request ? X509_REQ_get_pubkey(request) : d2i_PUBKEY(NULL, (p = file.p, &p), (long)file.n);
    X509_free(cert);
    X509_REQ_free(request);
    ERR_clear_error();
    return key;
}

static bool of_file(struct span file, struct hash *out) {
    struct key_facts facts;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = in_pem(file);
    if (!key)
        key = in_der(file);
    if (!key || key_facts(key, &facts, NULL))
        return false;
    *out = facts.spki;
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
