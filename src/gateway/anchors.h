/* anchors: the anchors of the gateway's server certificate, and the answer to EST's /cacerts that is made of them; read once, immutable,
 * replaced whole while workers go on with the ones that they have.
 *
 * They are what a device is given as CA certificates.  No fleet root and no issuing CA, made or uploaded, is ever among them: a client trusts
 * every one of them as a server. */
#ifndef MUSTER_GATEWAY_ANCHORS_H
#define MUSTER_GATEWAY_ANCHORS_H

#include <stdatomic.h>

#include "pki/cert.h"

#define ANCHORS_MAX 4 /* a device's PKCS#12 has to stay under 64 KiB */

struct anchors {
    atomic_int refs;
    struct cert *at[ANCHORS_MAX]; /* owned */
    size_t n;
    struct buf cacerts; /* base64, in lines, of a certs-only PKCS#7 */
};

/* The certificates of a PEM file.  *out has one reference. */
int anchors_read(struct span pem, struct anchors **out, struct err *err) MUSTER_MUST_CHECK;
struct anchors *anchors_ref(struct anchors *a);
void anchors_unref(struct anchors *a); /* NULL accepted */

DEFINE_CLEANUP(anchors_unref, struct anchors *)

#endif
