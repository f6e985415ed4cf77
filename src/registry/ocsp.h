/* ocsp: what the registry says of the certificates that an OCSP request asks about (RFC 6960): the same as the CRLs of crl.h say, of one
 * certificate at a time.
 *
 * "good" is said of what the CA has signed, and the registry knows, and nobody has revoked or put on hold: never of a serial number that the CA
 * did not give out, and of nothing while the server is in recovery, because it does not know then who was revoked. */
#ifndef MUSTER_REGISTRY_OCSP_H
#define MUSTER_REGISTRY_OCSP_H

#include "pki/crl_make.h"
#include "pki/ocsp_read.h"
#include "registry/registry.h"

struct ocsp_look {
    char account[ACCOUNT_NAME_MAX + 1];
    struct ocsp_request request;            /* its spans are good until the operation is done */
    uint8_t key_id[CRL_KEY_ID_LEN];         /* out: of the CA that the request names */
    struct ocsp_single at[OCSP_SINGLES_MAX]; /* out: one for each of request.at */
};
/* MUSTER_ENOTFOUND: the account has no CA, that has not ended, of which all the certificates are; _ERECOVERY, _ECLOCK: nothing is said. */
int ocsp_look_run(struct store_tx *tx, void *arg, struct err *err);

/* Stands for what it says, of each certificate.  *all: the registry knows all of them. */
void ocsp_said(const struct ocsp_look *l, struct hash *out, bool *all);

/* The registry's row of one certificate. */
struct ocsp_facts {
    bool issued;          /* by that CA, and the registry holds it */
    bool device;          /* its device is there */
    int64_t device_state; /* enum device_state */
    int64_t revoked, reason, created;
    int64_t device_revoked; /* when the last one of the device's certificates was revoked; 0: none was */
};
/* Status, date and reason; pure. */
void ocsp_decide(const struct ocsp_facts *f, struct ocsp_single *out);

#endif
