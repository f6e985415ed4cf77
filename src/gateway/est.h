/* est: Enrollment over Secure Transport (RFC 7030, RFC 8951) at /.well-known/est/[ACCOUNT/]….
 *
 * The account is the one that the path names (EST's label), else the one of the host name, else that of the certificate; where several
 * are named they are the same.  None, or one that there is not: MUSTER_EACCOUNTUNKNOWN.
 *
 *   GET cacerts, csrattrs   anybody: a client that knows no anchor yet reads them before it has a certificate
 *   POST simpleenroll       with a provisioning key: a certificate for the device and key that the request has (pki/csr_claim.h), in
 *                           est_enrol.c; everything else as POST /devices has it.  Or, without a certificate, with the code of an
 *                           invitation (invited.h), for the device that it names
 *   POST serverkeygen       by the same: with a key that Muster makes and keeps nowhere, in est_keygen.c; where the account has it on
 *   POST simplereenroll     with the certificate that Muster issued to a device: the one that follows it, for the same key or a new one
 *   POST fullcmc            501
 *
 * They answer with the certificate that was issued and no other (RFC 7030, 4.2.3): whoever trusts what EST gives him must not come
 * to trust an issuing CA as a server; the gateway knows its issuing CAs.  202 with Retry-After: the device waits for an operator, and the
 * same request gets the certificate once it is approved.  The same credential, ID and key asking again gets the same certificate.
 *
 * A certificate of a customer's own fleet CA is not renewed here (MUSTER_EFLEETCA), and a challengePassword, which could bind a request to its
 * TLS connection (RFC 7030, 3.5), is not looked at: TLS proves the credential, the request its key.
 *
 * What goes either way is base64 of DER (RFC 8951, 3); answers come in lines, and Content-Transfer-Encoding is not looked at.  /cacerts has
 * the anchors of the gateway's own certificate and nothing else: EST's clients trust all of it as servers, and a fleet root or issuing CA
 * among them could then pass for the gateway. */
#ifndef MUSTER_GATEWAY_EST_H
#define MUSTER_GATEWAY_EST_H

#include "http/router.h"

#define EST_PKCS10 "application/pkcs10"
#define EST_CERTS_ONLY "application/pkcs7-mime; smime-type=certs-only"

extern const struct http_route EST_ROUTES[]; /* data: the enum request_kind of each */
extern const size_t EST_ROUTES_N;

#endif
