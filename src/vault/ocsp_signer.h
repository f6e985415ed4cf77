/* vault/ocsp_signer: who signs OCSP answers for one CA: a delegated responder (RFC 6960, 4.2.2.2) with a key of its own.
 *
 * The key is made here when it is first needed, signs nothing else and is kept nowhere: it lives as long as the process, and at most for half of
 * its certificate's seven days.  Nobody can revoke a responder (id-pkix-ocsp-nocheck): who has stolen one of these keys can lie by days and not
 * by years.  Kept with its CA (authority.h); called by ocsp.c. */
#ifndef MUSTER_VAULT_OCSP_SIGNER_H
#define MUSTER_VAULT_OCSP_SIGNER_H

#include "pki/ocsp_make.h"
#include "vault/authority.h"

struct ocsp_signer {
    struct ocsp_responder by; /* key and certificate are owned */
    struct buf cert;
    struct ocsp_issuer issuer;
    int64_t not_after;        /* of its certificate */
    int64_t made, until;      /* when it is used */
};

/* The one of that CA, made anew where it is due.  Stays the CA's.  MUSTER_EVAULT: the CA has ended. */
int ocsp_signer_of(struct authority *ca, struct key_store *keys, int64_t now, struct ocsp_signer **out, struct err *err) MUSTER_MUST_CHECK;
void ocsp_signer_free(struct ocsp_signer *s); /* NULL accepted */

DEFINE_CLEANUP(ocsp_signer_free, struct ocsp_signer *)

#endif
