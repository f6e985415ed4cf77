/* est: the certificate requests that bench_load sends by EST, made before the clock starts, and what it looks for in the answers. */
#ifndef MUSTER_BENCH_EST_H
#define MUSTER_BENCH_EST_H

#include <openssl/ssl.h>

struct est_request {
    EVP_PKEY *key; /* P-256, of its own */
    char *body;    /* base64 without line breaks */
};

/* Of the devices "PREFIX-1" … */
struct est_request *est_requests_make(const char *prefix, size_t n);
void est_requests_free(struct est_request *all, size_t n); /* the keys as well */
/* The one certificate of an answer: for that key and that device, good as a client's. */
X509 *est_certificate(const unsigned char *base64, size_t n, const EVP_PKEY *key, const char *device_id);

#endif
