/* csr_queue: requests of devices for certificates of the customer's own fleet CA, whose key is somewhere else (EST's simplereenroll).
 *
 * A device that is in sends a request; it waits until an operator has taken it to the CA and brought back what that signed.  One request a
 * device: another key's takes the place of the one before, not more often than once in CSR_GAP.  What is brought back counts for what it is: for
 * the key of a request that waits, under a fleet root of the account by whose rule it names the device that asked.  Whoever brings it says with
 * that, by name, that the device may have the key: it is accepted as `device accept-key` would, and takes its place at the first contact. */
#ifndef MUSTER_REGISTRY_CSR_QUEUE_H
#define MUSTER_REGISTRY_CSR_QUEUE_H

#include "pki/cert.h"
#include "registry/audit.h"
#include "registry/registry.h"

#define CSR_REQUEST_MAX 4096 /* bytes of DER */
#define CSR_GAP CLOCK_HOUR
#define CSR_IMPORT_MAX 40    /* certificates at once, those of CAs among them: their signatures are checked in the transaction */

struct csr {
    int64_t row, device;
    struct uuid uuid;
    struct hash spki;        /* of the key that it is for */
    struct hash device_spki; /* of the key that the device has; nil: none */
    char device_id[DEVICE_ID_MAX + 1];
    enum device_state state; /* the device's */
    int64_t created, imported;
    bool has_certificate;
    struct hash fingerprint; /* of the certificate */
    int64_t not_after;
    int64_t root;            /* row of the one that it held under; 0: not known */
};
/* 1 found, 0 not; request and certificate (NULL accepted) are added to, where there are any. */
int csr_by_key(struct store_tx *tx, int64_t account, const struct hash *spki, struct csr *out, struct err *err) MUSTER_MUST_CHECK;

/* The device asks, or asks again.  Only failures of the storage, and MUSTER_ECLOCK, are errors. */
struct csr_ask {
    int64_t device;         /* that was admitted */
    struct span request;    /* DER, signed with its own key */
    struct hash spki;
    const char *address;
    /* out */
    struct err verdict;     /* why not; MUSTER_ECSRWAITS: it is in the queue */
    struct err shadow;      /* what is tried would have refused it (tried.h) */
    struct buf certificate; /* DER; the caller frees it */
    char account_name[ACCOUNT_NAME_MAX + 1], device_id[DEVICE_ID_MAX + 1];
};
int csr_ask_run(struct store_tx *tx, void *arg, struct err *err);

enum csr_state { CSR_ANY, CSR_WAITING, CSR_SIGNED };
/* Those of devices that are in; a page may be short and still have a cursor. */
struct csr_list {
    struct span account;
    enum csr_state state;
    struct page page;
};
int csr_list_run(struct store_tx *tx, void *arg, struct err *err);

/* out: {id, imported, refused, items}; a certificate that is refused changes nothing. */
struct csr_import {
    struct actor actor;
    struct span account;
    struct cert *const *certs; /* the caller's; those of CAs may stand between the others and their roots */
    size_t n;
    json_t *out;
};
int csr_import_run(struct store_tx *tx, void *arg, struct err *err);

/* By its id, or its device's ID. */
struct csr_remove {
    struct actor actor;
    struct span account, csr;
    json_t *out;
};
int csr_remove_run(struct store_tx *tx, void *arg, struct err *err);

#endif
