/* csr_fast: a strict reader of the one request that nearly every device sends: a P-256 key with ECDSA and SHA-256, or an Ed25519 key; a subject
 * of plain attributes with one CN; and no attributes of the request's own.  The library decodes a key as it decodes everything, which costs
 * more than the signature; here key and signature are slices of what was sent.
 *
 * It judges nothing that it does not accept: whatever is unusual about a request, and whatever is wrong with it, is the library's to say
 * (csr.h).  What it accepts the library accepts too, and reads the same in it (fuzz_est). */
#ifndef MUSTER_PKI_CSR_FAST_H
#define MUSTER_PKI_CSR_FAST_H

#include "pki/key.h"

struct csr_fast {
    struct key_facts key;
    struct span public_der;  /* SubjectPublicKeyInfo; all of them in what was read */
    struct span common_name; /* 1 to 128 bytes of UTF-8 without control characters */
};
/* der: the whole request.  False: not one of these. */
bool csr_fast_read(struct span der, struct csr_fast *out);

#endif
