/* admit: may a request with this certificate go on?
 *
 * The chain was judged before (pki/chain.h); here the registry says who it is and whether he may.  What is first (the first use of a
 * certificate, first contact, a foreign key) is written in the same transaction, before anything is answered. */
#ifndef MUSTER_REGISTRY_ADMIT_H
#define MUSTER_REGISTRY_ADMIT_H

#include "pki/chain.h"
#include "registry/enrol.h"

enum admit_class {
    ADMIT_DEVICE_OWN,      /* under a fleet root that Muster made: the registry has to hold the certificate */
    ADMIT_DEVICE_UPLOADED, /* under a root of the customer's */
    ADMIT_KEY,             /* under a provisioning CA */
};

struct admit {
    enum admit_class class;
    const struct cert *leaf;   /* the caller's, until done */
    struct hash anchors[CHAIN_FOUND_MAX]; /* fingerprints of every anchor under which the chain holds */
    size_t n_anchors;
    const struct cert *between[CHAIN_MAX_CERTS]; /* of what the device showed, the CA certificates of the paths that hold, or of the one that has ended; the caller's */
    size_t n_between;
    bool of_line;              /* set within: the CA of a factory line that the account has stands on the path (line.h) */
    char line[64];             /* its name */
    bool tries, tried;         /* set within: of the account, or its root, something is tried (tried.h); it is what is asked by, and nothing is written */
    const char *outside;       /* set within, at first contact: what keeps the device out of the line's bounds; NULL: nothing */
    bool between_known;        /* they are of a path that holds */
    const struct err *above;   /* DEVICE_UPLOADED: the root, or a CA below it, has expired, and nothing else is wrong with the chain: the verdict that it has by that; NULL: it has not */
    const char *account;       /* that SNI names; "" none */
    const char *address;
    const struct enrol_reserved *reserved;
    int64_t ended;             /* the chain is out of its dates, which ended then, and is good for a renewal alone; 0: it is good */
    const struct err *over;    /* the certificate itself has expired: the verdict that the chain has by that; NULL: it has not */
    /* out */
    bool registered;           /* a device was, at its first contact */
    bool must_write;           /* run again in a writing transaction: nothing below counts yet */
    struct err verdict;        /* code 0: admitted */
    int64_t renewable_until;   /* where the verdict is in the way of anything but a renewal, or `ended` is: until when that is possible; 0: it is not */
    bool may_renew;            /* refused, but for renewing: one that the device has replaced a short time ago, or of a customer's CA, that has expired */
    char account_name[ACCOUNT_NAME_MAX + 1]; /* "" where none was found */
    int64_t account_row, device_row;         /* device_row 0: none */
    struct uuid device;
    char device_id[DEVICE_ID_MAX + 1];
    char claimed[DEVICE_ID_MAX + 1];         /* the ID in the certificate, where it was read */
    int64_t last_seen;
    int shadow;                /* code by which what is tried would have refused who is admitted, or may renew; 0: it would not.  Of the look; kept when it is run again to write */
};
int admit_run(struct store_tx *tx, void *arg, struct err *err);

#endif
