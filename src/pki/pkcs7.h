/* pkcs7: certificates alone, as the "degenerate" SignedData that nobody has signed (RFC 5652, 5.1; RFC 5272, 4.1): what EST answers with. */
#ifndef MUSTER_PKI_PKCS7_H
#define MUSTER_PKI_PKCS7_H

#include "base/buf.h"

#define PKCS7_CERTS_MAX 24

/* Appends the DER of a ContentInfo with these certificates, 1 to PKCS7_CERTS_MAX of them, each in DER.  They are a SET: they stand in the
 * order of their encodings (X.690, 11.6), whatever the order here. */
int pkcs7_certs(const struct span *certs, size_t n, struct buf *der, struct err *err) MUSTER_MUST_CHECK;

#endif
