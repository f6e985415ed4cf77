/* issuer: from "this provisioning key, or this invitation's code, asks for this device ID", or "this device asks for the certificate that follows its own", to a
 * certificate that is in the registry; for a key pair that is made here, or for the device's own.
 *
 * In this order: a read-only check (a refusal never reaches the vault); the vault signs; one transaction checks everything again and
 * stores the certificate; then, durable, the answer.  A certificate whose transaction refuses is dropped.  One issuer a loop. */
#ifndef MUSTER_ISSUER_ISSUER_H
#define MUSTER_ISSUER_ISSUER_H

#include "issuer/rsa_pool.h"
#include "loop/loop.h"
#include "registry/enrol.h"
#include "registry/renew.h"
#include "vault/vault.h"

struct issuer {
    struct loop *loop;
    struct store *store;
    struct vault_client *vault;
    struct key_maker *keys;                /* owned by whoever has the loop */
    struct rsa_pool *pool;                 /* shared */
    const struct enrol_reserved *reserved; /* shared */
};

/* A key that the device has made, and whose possession it proved. */
struct issuer_key {
    const struct key_facts *facts; /* copied; NULL: none, Muster makes one */
    struct span der;               /* SubjectPublicKeyInfo; copied */
};

struct issuer_enrol {
    struct hash key_spki;   /* the provisioning key's, as the connection proved it */
    const struct hash *code; /* or of an invitation's code, with `account`; copied; NULL: none */
    bool server_keygen;     /* EST's serverkeygen (registry/enrol.h) */
    struct span device_id;  /* copied */
    const char *address;    /* copied */
    const char *account;    /* that the host name or the path names; "" none; copied */
    int64_t life;           /* seconds that the device asks for; 0: what the account's profile says */
    bool est;               /* by EST: a life of its own in the profile */
    struct issuer_key own;
    const struct hash *server_ca; /* SPKI of the newest server CA that the answer will have; copied; NULL: it has none */
};
struct issuer_renew {
    int64_t device;          /* row, as it was admitted */
    struct hash certificate; /* fingerprint of the one that the connection showed */
    struct hash key;         /* its SPKI */
    int64_t begins;          /* its notBefore */
    const char *address;     /* copied */
    int64_t life;            /* as above */
    bool est;
    struct issuer_key own;   /* with facts */
};
struct issued {
    EVP_PKEY *key;          /* the callback's to use, the issuer's to free; NULL: it is the device's own */
    struct span public_key; /* SubjectPublicKeyInfo */
    struct span cert;       /* DER */
    const char *account, *device_id;
    struct uuid device;
    bool again;             /* an answer that was lost before */
    const struct err *shadow; /* what a profile that is tried would have refused it for; NULL: nothing */
    int withheld;           /* the certificate is stored, and not to be given out yet: why (registry/enrol.h); only where the key is the device's own */
};
/* err: the refusal where rc is not 0. */
typedef void (*issuer_fn)(void *arg, int rc, const struct err *err, const struct issued *issued);
/* done is called later, exactly once; or never where a negative code is returned. */
int issuer_enrol(struct issuer *is, const struct issuer_enrol *rq, issuer_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
int issuer_renew(struct issuer *is, const struct issuer_renew *rq, issuer_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

#endif
