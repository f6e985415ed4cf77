/* device_identity: what a device proves itself with; the one place where that changes.
 *
 * At any moment a device has at most one live identity: one public key, with its newest certificate, by one method.  It stands in the
 * device's row (method, prov_key or root, certificate, spki).  Besides it there may be certificates that Muster issued for the device and
 * that nobody has used yet (cert, state issued): the first one that is used becomes the identity.  Everything else that was ever the
 * device's is over: keys are barred in device_key, certificates void, superseded or revoked in cert.
 *
 * All of it runs in the transaction of the caller, whose write it is a part of. */
#ifndef MUSTER_REGISTRY_DEVICE_IDENTITY_H
#define MUSTER_REGISTRY_DEVICE_IDENTITY_H

#include "pki/make.h"
#include "registry/row.h"

struct device_identity {
    const struct cert *leaf;
    int64_t cert;      /* the row of a certificate that Muster issued; 0: one of an uploaded root */
    int64_t prov_key;  /* that it was issued with; 0: an invitation */
    int64_t root;      /* or the uploaded root */
    int64_t anchor;    /* the fleet root, whoever made it */
    int64_t chain;     /* and what the device showed besides: device_chain.h */
    bool renews;       /* the device asked for it itself, by EST */
    const char *address;
};
/* It becomes the device's: whatever identity the device had, and whatever was issued for it besides, is over from here on, on open
 * connections too.  MUSTER_EBUSY where somebody else registered the key a moment ago. */
int device_identity_take(struct store_tx *tx, const struct device *d, const struct device_identity *to, struct err *err) MUSTER_MUST_CHECK;

/* Whether it is the certificate, or the key, of the live identity. */
bool device_identity_is_certificate(const struct device *d, const struct cert *leaf); /* of one that Muster issued */
bool device_identity_is_key(const struct device *d, const struct cert *leaf);         /* of one under an uploaded root */

/* Since when another certificate of Muster's has stood in the place of that one, which was the device's before; 0: none does, the device
 * proves itself by the other method now, or the key of that one is compromised.  Whether that one was revoked is not asked here. */
int device_identity_superseded(struct store_tx *tx, const struct device *d, int64_t cert, int64_t *since, struct err *err) MUSTER_MUST_CHECK;

/* The same of a certificate of a factory line's, which the registry does not hold: since when another one has stood in the place of that key. */
int device_identity_superseded_key(struct store_tx *tx, const struct device *d, const struct hash *spki, int64_t *since, struct err *err) MUSTER_MUST_CHECK;

/* A newer certificate of the live key, under an uploaded root. */
int device_identity_renew(struct store_tx *tx, const struct device *d, const struct cert *leaf, int64_t root, int64_t chain, struct err *err) MUSTER_MUST_CHECK;

/* A certificate that waits for its first use. */
struct device_issued {
    const struct made_cert *cert;
    int64_t device, account;
    int64_t prov_key; /* 0: an invitation */
    int64_t enrolled; /* when that key brought the device in; 0: now */
    bool own_key; /* the device's, which may have it already; otherwise one that nobody had before */
    bool renews; /* asked for by EST: a stock client of POST /devices cannot renew */
    const struct hash *server_ca; /* SPKI of the newest server CA that is given with it; NULL: none is (server_ca.h) */
    bool keeps_server_ca; /* and what the device has been given before counts on: it renews */
    bool comes_back; /* own_key, of a certificate that the device has replaced: barred then, and the device's again */
};
/* now: when it was issued.  MUSTER_EUNAVAILABLE: the certificate says otherwise by more than DEVICE_ISSUED_WITHIN, since the clock was set while it was made; `audit verify` takes such a row for a forged one. */
#define DEVICE_ISSUED_BACK CLOCK_DAY /* so much the vault dates it back (vault/issue.c) */
#define DEVICE_ISSUED_WITHIN CLOCK_HOUR
int device_identity_issued(struct store_tx *tx, const struct device_issued *i, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* The provisioning key of the newest certificate that waits for its first use; 0: none waits. */
int device_identity_waiting(struct store_tx *tx, int64_t device, int64_t *prov_key, struct err *err) MUSTER_MUST_CHECK;

/* The device is revoked or deleted: what Muster issued to it never comes back. */
int device_identity_revoke(struct store_tx *tx, const struct device *d, struct err *err) MUSTER_MUST_CHECK;
/* One certificate of the device is revoked, which was not before; the device itself goes on with what it has besides.  The live one: the
 * device has no identity from here on, on open connections too (the caller raises the epoch).  bar: its key gets no certificate any more.
 * Sets what of *d it changes. */
struct device_revoked {
    int64_t cert;
    enum cert_state state; /* that it has */
    struct hash spki;
    enum revoke_reason reason;
    bool bar;
};
int device_identity_revoke_one(struct store_tx *tx, struct device *d, const struct device_revoked *r, struct err *err) MUSTER_MUST_CHECK;
/* Likewise of a certificate that its factory line has signed (line_revoke.h). */
int device_identity_revoke_line(struct store_tx *tx, struct device *d, const struct device_revoked *r, struct err *err) MUSTER_MUST_CHECK;
/* Its tombstone is lifted.  Every key that it ever had stays barred in the account; with same_key the one that it had last may come again. */
int device_identity_release(struct store_tx *tx, const struct device *d, bool same_key, struct err *err) MUSTER_MUST_CHECK;

#endif
