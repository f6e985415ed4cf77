/* csr_claim: a request for a device's certificate (PKCS#10, RFC 2986), as EST brings it: which key, and which device it names.
 *
 * A request names its device by the subject's CN; where the ID is longer than the 64 characters that a CN has, by a URI in subjectAltName,
 * "urn:muster:device:" and the ID, percent-encoded: as Muster's own certificates have it.  RFC 7030 (4.2.1) leaves open what a request
 * without a name means; here nobody is to guess which device asks, and it is refused.  Every further DNS name or URI has to be the same ID,
 * or stand in the certificate that is renewed, and names of other kinds are refused: none of them would come into the certificate, but who asks for a name that is not his own is told so.
 * Anything else that a request asks for (key usages, a challengePassword) is passed over: the profile decides. */
#ifndef MUSTER_PKI_CSR_CLAIM_H
#define MUSTER_PKI_CSR_CLAIM_H

#include <openssl/x509.h>

#include "pki/key.h"

struct csr_claim {
    struct key_facts key;     /* acceptable, and the request is signed with it */
    struct buf public_der;    /* SubjectPublicKeyInfo */
    struct buf device_id;     /* 1 to 128 bytes of UTF-8 without control characters */
    X509 *renews;             /* in, borrowed: a certificate of the sender, whose own names the request may repeat (RFC 7030, 4.2.2); NULL: none */
    struct buf other_cn;      /* the subject's CN where the URI names the device and the CN is not its ID; else empty */
};
#define CSR_CLAIM_INIT ((struct csr_claim){.public_der = BUF_INIT(16 * 1024), .device_id = BUF_INIT(1024), .other_cn = BUF_INIT(1024)})
void csr_claim_fini(struct csr_claim *c);

/* der: the whole request, at most 16 KiB; read by csr_fast.h where it can.  MUSTER_ECSR with what is wrong. */
int csr_claim_read(struct span der, struct csr_claim *out, struct err *err) MUSTER_MUST_CHECK;

/* Of a request for a key that the server makes (RFC 7030, 4.4.1): the same names; its key and signature are not looked at, so that `key` and
 * `public_der` stay empty.  MUSTER_ECSR also where it asks for a private key that is encrypted beyond TLS, which is not offered. */
int csr_claim_read_names(struct span der, struct csr_claim *out, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(csr_claim_fini, struct csr_claim)

#endif
