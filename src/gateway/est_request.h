/* est_request: the body of simpleenroll, simplereenroll and serverkeygen: a certificate request in base64, with or without line breaks (RFC 8951, 3).  Pure
 * functions over what was sent. */
#ifndef MUSTER_GATEWAY_EST_REQUEST_H
#define MUSTER_GATEWAY_EST_REQUEST_H

#include "pki/csr_claim.h"

#define EST_BODY_MAX 32768 /* bytes: a request of 16 KiB with line breaks */

/* The request in DER, whatever it is. */
int est_request_der(struct span body, struct buf *der, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ECSR with what is wrong: PEM, DER as it is, no base64, or the request itself (csr_claim.h). */
int est_request_read(struct span body, struct csr_claim *out, struct err *err) MUSTER_MUST_CHECK;
/* The same of serverkeygen's: the names alone. */
int est_request_read_names(struct span body, struct csr_claim *out, struct err *err) MUSTER_MUST_CHECK;

#endif
