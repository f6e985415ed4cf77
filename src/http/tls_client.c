/* tls_client: see tls_client.h. */
#include "http/tls_client.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "pki/key.h"

DEFINE_CLEANUP(SSL_CTX_free, SSL_CTX *)
DEFINE_CLEANUP(BIO_free, BIO *)
DEFINE_CLEANUP(X509_free, X509 *)

static int no_passphrase(char *buf, int size, int rw, void *arg) { return -1; }

static int take_ca(SSL_CTX *ctx, struct span pem, struct err *err) {
    CLEANUP(BIO_free) BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    int n = 0;
    for (X509 *x; bio && (x = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL)); n++) {
        int ok = X509_STORE_add_cert(store, x);
        X509_free(x);
        if (!ok)
            return pki_err(err, MUSTER_ECONFIG, "The CAs cannot be used");
    }
    ERR_clear_error(); /* the end of the file is one */
    return n ? 0 : err_set(err, MUSTER_ECONFIG, "There is no certificate in PEM among the CAs.");
}

static int take_own(SSL_CTX *ctx, struct span chain, struct span pem, struct err *err) {
    CLEANUP(BIO_free) BIO *bio = BIO_new_mem_buf(chain.p, (int)chain.n);
    CLEANUP(X509_free) X509 *leaf = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    if (!leaf || SSL_CTX_use_certificate(ctx, leaf) != 1)
        return pki_err(err, MUSTER_ECONFIG, "The own certificate cannot be used");
    for (X509 *more; (more = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL));)
        if (SSL_CTX_add0_chain_cert(ctx, more) != 1) {
            X509_free(more);
            return pki_err(err, MUSTER_ECONFIG, "The own certificate's chain cannot be used");
        }
    ERR_clear_error();
    int rc = key_read_private(pem, SPAN_NONE, &key, err);
    if (rc)
        return rc;
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
        return pki_err(err, MUSTER_ECONFIG, "The private key does not belong to the own certificate");
    return 0;
}

int tls_client_new(struct span ca, struct span chain, struct span key, SSL_CTX **out, struct err *err) {
    CLEANUP(SSL_CTX_free) SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
        return pki_err(err, MUSTER_ENOMEM, "TLS cannot be set up");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    int rc = take_ca(ctx, ca, err);
    if (!rc && chain.n)
        rc = take_own(ctx, chain, key, err);
    if (!rc)
        *out = TAKE(ctx);
    return rc;
}
