/* server_cas: the anchors by which clients know the gateway, as server-ca.pem holds them: Muster's own server CAs, the current one first, and behind them what an
 * operator has added.  Called by musterd (which writes the file), gateway and admin. */
#ifndef MUSTER_PKI_SERVER_CAS_H
#define MUSTER_PKI_SERVER_CAS_H

#include "base/clock.h"
#include "pki/cert.h"

#define SERVER_CA_NAME "Muster server CA" /* subject CN of each of Muster's own */
#define SERVER_CAS_MAX 8                  /* in one file: a device's PKCS#12 has to stay under 64 KiB */

bool server_ca_is_own(const struct cert *c);
/* Whether the gateway's certificates stay under this one, the oldest of those in use, although newer ones are: it allows no CA below it (pathLenConstraint 0).  RFC 5280
 * does not count one of its own name, and GnuTLS does, so that for clients with it nothing leads from this one to the next.
 * Not to its very end: what it has signed ends with it, and the certificates that follow have to be there before. */
#define SERVER_CA_LEAVES (30 * CLOCK_DAY)
bool server_ca_stays(const struct cert *oldest, int64_t now);
/* Under which of those in use, the oldest first, the gateway's certificates stand: the newest that has begun, with all before it (by one that was made while the clock ran ahead
 * nobody would come to it from an older one, and everybody refuse the gateway until that day), or the oldest, where that stays.  n: above 0. */
size_t server_cas_signing(const struct cert *const cas[], size_t n, int64_t now);
/* `file` with those of Muster's own replaced by `own`; PEM all of them.  Appends to out.  1: it says something else than the file; 0: it has these very ones, in this
 * order, or none of Muster's own, which is an operator's will; nothing is appended then.  MUSTER_EINVALID: they are too many. */
int server_cas_merge(struct span file, struct span own, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
