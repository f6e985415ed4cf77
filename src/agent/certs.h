/* certs: a few certificates together: the anchors of the gateway, what stands above a device's certificate, what an answer of EST holds. */
#ifndef MUSTER_AGENT_CERTS_H
#define MUSTER_AGENT_CERTS_H

#include "pki/cert.h"

#define CERTS_MAX 16

struct certs {
    struct cert *cert[CERTS_MAX]; /* owned */
    size_t n;
};
#define CERTS_INIT ((struct certs){.n = 0})

/* The certificates of a PEM file, or one in DER. */
int certs_read(struct span file, struct certs *out, struct err *err) MUSTER_MUST_CHECK;
/* Those of a certs-only PKCS#7 in DER (RFC 5652, 5.1), at most CERTS_MAX. */
int certs_read_pkcs7(struct span der, struct certs *out, struct err *err) MUSTER_MUST_CHECK;
void certs_fini(struct certs *a);
struct cert *certs_shift(struct certs *a); /* takes the first one out; NULL: there is none */
int certs_pem(const struct certs *a, struct buf *out) MUSTER_MUST_CHECK;
/* Those of two sets that stand above `leaf`, one after the other, without the root; out is empty. */
int certs_above(const struct cert *leaf, const struct certs *first, const struct certs *second, struct certs *out, struct err *err) MUSTER_MUST_CHECK;
bool certs_have(const struct certs *a, const struct cert *c);

DEFINE_CLEANUP_FINI(certs_fini, struct certs)

#endif
