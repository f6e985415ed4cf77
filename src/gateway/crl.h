/* crl: a plain-HTTP listener of the gateway's that serves certificate revocation lists (RFC 5280, 4.2.1.13: they are fetched without TLS, being
 * signed), off unless the setting crl_listen names an address.  HTTP/1.0 is served as well: simple verifiers speak nothing else.
 *
 *   GET, HEAD /crl/ACCOUNT/KEY.crl    DER, application/pkix-crl; KEY: the CA's subject key identifier in hex
 *
 * and OCSP (ocsp.h).  Anything else is a 404.  Of lists it knows files under DIR/crl and nothing besides.  Files are
 * control's, replaced whole; a download that has begun goes on with the one that it began with, and holds no memory but what waits for the
 * client.  At most CRL_CONNECTIONS a loop, and slow ones are cut off as on every listener. */
#ifndef MUSTER_GATEWAY_CRL_H
#define MUSTER_GATEWAY_CRL_H

#include "gateway/internal.h"
#include "http/router.h"

#define CRL_CONNECTIONS 256

extern const struct http_route CRL_ROUTES[];
extern const size_t CRL_ROUTES_N;

/* thisUpdate and nextUpdate of the list that begins with these bytes (of its first few hundred); false: none does. */
bool crl_dates(struct span beginning, int64_t *this_update, int64_t *next_update);
/* Takes the socket over. */
int crl_open(struct worker *w, int listen_fd, struct err *err) MUSTER_MUST_CHECK;

#endif
