/* renew: a device gets the certificate that follows its own (EST's simplereenroll), for the same key or a new one.
 *
 * Nothing strands a device: one that has not renewed in time may do it late, and one that has lost its newest certificate may for some time
 * renew the one before, which is reported: a copy of the device would do the same.  How long is the account's to say; a certificate that was
 * voided or revoked is never renewed.  One that begins only later was made while the server's clock ran ahead: it renews at once, since others than we go by
 * its dates.
 *
 * A device that a factory line made has a certificate of the line's CA, which stands under a fleet root of Muster's own (line.h): the one that follows
 * is of the account's issuing CA, and from then on it is a device like any other.  What the line may bring in does not count here: who is in was held
 * against it when he came, and who waits does not renew.
 *
 * Like enrol.h one operation that runs twice: as a check before the vault is asked, and in the transaction that stores the certificate.
 * Make before break: the new certificate waits for its first use, and until then the one so far stays the device's (device_identity.h).  The
 * provisioning key that brought the device in, and when, go on with its certificates: what a leaked key has done is found by them, however
 * often its devices renew. */
#ifndef MUSTER_REGISTRY_RENEW_H
#define MUSTER_REGISTRY_RENEW_H

#include "pki/make.h"
#include "registry/hook.h"
#include "registry/own_key.h"

enum renew_how {
    RENEW_REFUSED,
    RENEW_NEW,
    RENEW_ASK,  /* refused, but what is asked is written down (hook.h) */
    RENEW_SAME, /* the certificate that it got for this very key, and has not used: nothing is issued, and nothing changes */
};

struct renew_facts {
    int64_t now, newest;         /* newest: time of the newest audit entry */
    const struct account *account;
    const struct device *device;
    int64_t begins;              /* the certificate that asks */
    bool live;                   /* it is the device's */
    bool elsewhere;              /* the device's is of a CA of the customer's, which alone can sign the next */
    int64_t superseded;          /* since when another has stood in its place; 0: it was never the device's, or is over */
    bool revoked;                /* it was, by itself, whatever else holds of it */
    bool former_key;             /* the request is for the key of the certificate that asks */
    bool asks;                   /* somebody is asked before (hook.h), and this is what he has said */
    struct hook_answer answer;
    const struct prov_key *key;  /* that brought the device in; NULL: none did */
    const struct key_facts *own; /* of the request */
    enum own_key own_is;
    bool shut, same_shut;        /* as of enrol.h */
    bool same;                   /* a certificate for that key waits for its first use */
    int64_t certificates_since;  /* when the first of the device's last REPLACE_MAX certificates was made; 0: it has had fewer */
};
struct renew_verdict {
    enum renew_how how;
    struct err err; /* why not */
    struct err shadow; /* what a profile that is tried would have said (profile.h) */
    bool superseded, by_grant; /* of RENEW_NEW: the certificate that asked was replaced; so long ago that an operator's word was needed, which is spent */
};
void renew_decide(const struct renew_facts *f, struct renew_verdict *out);

struct renew {
    int64_t device;               /* that was admitted */
    struct hash certificate;      /* fingerprint of the one that it showed */
    struct hash key;              /* SPKI of that one: of a factory line's, which the registry does not hold, any of the registered key is the device's */
    int64_t begins;               /* its notBefore */
    const struct key_facts *own;  /* of the request, which proved possession */
    const char *address;
    const struct made_cert *cert; /* once it was signed; NULL: check alone */
    /* out */
    struct renew_verdict verdict;
    char account_name[ACCOUNT_NAME_MAX + 1], device_id[DEVICE_ID_MAX + 1];
    struct uuid uuid;             /* the device's */
    struct device_profile profile, narrow; /* as of enrol.h */
    struct buf same;              /* DER of RENEW_SAME; the caller frees it */
};
/* 0 with a verdict; only failures of the storage are errors. */
int renew_run(struct store_tx *tx, void *arg, struct err *err);

#endif
