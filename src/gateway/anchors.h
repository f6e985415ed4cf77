/* anchors: the anchors of the gateway's server certificate, and the answer to EST's /cacerts that is made of them; read once, immutable,
 * replaced whole while workers go on with the ones that they have.
 *
 * They are what a device is given as CA certificates, and a client trusts every one of them as a server.  No fleet root and no issuing CA, made or uploaded, is ever in /cacerts,
 * also where somebody has added one to server-ca.pem.  /cacerts has a server CA that took another one's place only together with what the other one says of its key (NewWithOld; RFC
 * 7030, 4.1.3), and what it says of the other one's (OldWithNew): a device can tell by the anchor that it has. */
#ifndef MUSTER_GATEWAY_ANCHORS_H
#define MUSTER_GATEWAY_ANCHORS_H

#include <stdatomic.h>

#include "pki/server_cas.h"

#define ANCHORS_CROSSES_MAX 16

struct anchors {
    atomic_int refs;
    struct cert *at[SERVER_CAS_MAX]; /* owned */
    size_t n;
    struct cert *crosses[ANCHORS_CROSSES_MAX]; /* owned; between anchors alone */
    size_t n_crosses;
    bool has_theirs; /* some are no server CAs of Muster's own */
    /* SPKI of the newest server CA of Muster's own that a device is given: among the anchors, and by /cacerts; NULL: none.  Points into `at` */
    const struct hash *newest, *newest_in_cacerts;
    struct buf cacerts; /* base64, in lines, of a certs-only PKCS#7 */
};

/* The certificates of two PEM files: of server-ca.pem, and of what server CAs say of one another, which may be empty and counts as far as anchors have signed it.  *out has
 * one reference. */
int anchors_read(struct span pem, struct span crosses, struct anchors **out, struct err *err) MUSTER_MUST_CHECK;
/* Appends what `cacerts` has, without the anchors of which left_out says so.  MUSTER_ENOTFOUND: nothing is left. */
int anchors_cacerts(const struct anchors *a, const bool left_out[SERVER_CAS_MAX], struct buf *out, struct err *err) MUSTER_MUST_CHECK;
struct anchors *anchors_ref(struct anchors *a);
void anchors_unref(struct anchors *a); /* NULL accepted */

DEFINE_CLEANUP(anchors_unref, struct anchors *)

#endif
