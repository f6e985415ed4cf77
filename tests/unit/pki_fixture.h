/* pki_fixture: keys and certificates made on the spot, for tests that need a chain.  Included by one test file a program. */
#ifndef MUSTER_TESTS_PKI_FIXTURE_H
#define MUSTER_TESTS_PKI_FIXTURE_H

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "pki/cert.h"

struct made {
    EVP_PKEY *key;
    struct cert *cert;
};

struct recipe {
    const char *cn;             /* NULL: no CN */
    const char *const *ext;     /* pairs name, value in the language of openssl's configuration, ended by NULL */
    EVP_PKEY *key;              /* NULL: a new P-256 key */
    const struct made *issuer;  /* NULL: self-signed */
    int64_t from, to;           /* seconds from now; 0, 0: one day each way */
    const char *digest;         /* NULL: SHA-256 */
};

#define EXT(...) ((const char *const[]){__VA_ARGS__, NULL})
#define CA_EXT EXT("basicConstraints", "critical,CA:TRUE", "keyUsage", "critical,keyCertSign")

static inline struct made make_it(struct recipe r) {
    struct made m = {.key = r.key};
    if (!m.key && key_generate(KEY_P256, 0, &m.key, NULL))
        abort();
    X509 *x = X509_new();
    X509_set_version(x, r.ext ? 2 : 0);
    static long serial = 1000;
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x), (long)(r.from ? r.from : -CLOCK_DAY));
    X509_gmtime_adj(X509_getm_notAfter(x), (long)(r.to ? r.to : CLOCK_DAY));
    if (r.cn)
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)r.cn, -1, -1, 0);
    X509 *above = r.issuer ? r.issuer->cert->x : x;
    X509_set_issuer_name(x, X509_get_subject_name(above));
    X509_set_pubkey(x, m.key);
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, above, x, NULL, NULL, 0);
    for (size_t i = 0; r.ext && r.ext[i]; i += 2) {
        X509_EXTENSION *e = X509V3_EXT_conf(NULL, &ctx, r.ext[i], r.ext[i + 1]);
        if (!e || X509_add_ext(x, e, -1) != 1)
            abort();
        X509_EXTENSION_free(e);
    }
    EVP_PKEY *by = r.issuer ? r.issuer->key : m.key;
    const EVP_MD *md = EVP_PKEY_get_base_id(by) == EVP_PKEY_ED25519 ? NULL : EVP_get_digestbyname(r.digest ? r.digest : "SHA256");
    if (X509_sign(x, by, md) <= 0 || cert_from_x509(x, &m.cert, NULL))
        abort();
    X509_free(x);
    return m;
}

static inline void made_free(struct made *m) {
    EVP_PKEY_free(m->key);
    cert_free(m->cert);
    *m = (struct made){0};
}

#endif
