/* identities: the client certificates of bench_load, all made before the clock starts. */
#ifndef MUSTER_BENCH_IDENTITIES_H
#define MUSTER_BENCH_IDENTITIES_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct identity {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) *chain; /* sent behind the leaf; NULL: nothing is */
    SSL_SESSION *session;  /* the newest that the server gave */
};

/* `n` devices "PREFIX-1" … under the CA in these PEM files, each with a P-256 key of its own.  with_intermediate: one between, made here. */
struct identity *identities_make(const char *ca_cert, const char *ca_key, const char *prefix, size_t n, bool with_intermediate);
/* Those of PEM files "certificate,key" that exist already, such as provisioning keys; the leaf alone is sent. */
struct identity *identities_read(char *const *pairs, size_t n);

#endif
