/* leaf: the certificates that are made often, written straight into DER: those of devices and provisioning keys, with a P-256 key, under a
 * P-256 CA.  make_cert() makes the same bytes up to the signature (a test holds the two against each other) and twenty times as slowly on
 * OpenSSL 3.0, which is why it has all the others.
 *
 * Only the vault's process calls this; what a profile fixes, no caller can say here either. */
#ifndef MUSTER_PKI_LEAF_H
#define MUSTER_PKI_LEAF_H

#include "pki/make.h"

/* A CA ready to sign: its name, its key identifier, and a digest context that has its key.  On one thread. */
struct leaf_ca;
/* *out is NULL where the CA is not of the kind that this is made for. */
int leaf_ca_new(const struct cert *ca, EVP_PKEY *key, struct leaf_ca **out, struct err *err) MUSTER_MUST_CHECK;
void leaf_ca_free(struct leaf_ca *ca); /* NULL accepted */

/* Whether leaf_make() makes it.  Whatever is unusual about a request, and whatever is wrong with it, is make_cert()'s to judge. */
bool leaf_fits(const struct make_request *rq);
/* The request fits, and its public key was read with key_facts_from_public_der(): here it is bytes. */
int leaf_make(struct leaf_ca *ca, const struct make_request *rq, struct buf *der, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(leaf_ca_free, struct leaf_ca *)

#endif
