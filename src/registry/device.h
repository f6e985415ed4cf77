/* device: the registry's devices: what is shown, and what operators do to them.  How a device gets in is enrol.h's and admit.h's. */
#ifndef MUSTER_REGISTRY_DEVICE_H
#define MUSTER_REGISTRY_DEVICE_H

#include "registry/registry.h"
#include "registry/row.h"

/* A page of devices that fit everything that is asked for.  The list is walked along one index, whichever leads through the fewest
 * devices; a page looks at a bounded number of them, so that it may have fewer items than asked for, or none, and still a cursor. */
struct device_list {
    struct span account;
    struct page page;         /* `after` is not used */
    struct span cursor;       /* what the page before gave as next; .n 0: the first page */
    enum device_state state;  /* 0: any */
    struct span key, root;    /* .n 0: any; root of Muster's own: those that stand under it, by whichever method they came */
    struct hash spki;         /* SHA-256 of a public key that the device has, or had before, or asks a certificate for (csr_queue.h); has_spki: it is asked for */
    bool has_spki;
    struct span prefix;       /* of the device ID */
    int64_t since;            /* enrolled at or after; with a key: it gave them a certificate at or after; 0: any */
    int64_t seen_since;       /* last seen at or after; 0: any */
    int64_t not_seen_since;   /* last seen before, or never; 0: any */
    bool by_row;              /* oldest first whatever is asked for, so that nothing comes twice while devices are seen */
};
int device_list_run(struct store_tx *tx, void *arg, struct err *err);

struct device_show {
    struct span account, device;
    bool reports; /* with the whole reports of the device */
    json_t *out;
};
int device_show_run(struct store_tx *tx, void *arg, struct err *err);

/* Pages of announced devices, by device ID. */
struct expected_list {
    struct span account;
    struct page page;    /* `after` is not used */
    struct span cursor;  /* the device ID of the last one of the page before */
    struct span prefix;  /* of the device ID */
    bool missing;        /* only those that have not arrived; pages may then be short of items, as above */
};
int expected_list_run(struct store_tx *tx, void *arg, struct err *err);

/* One announcement taken back; a device that has arrived stays what it is. MUSTER_ENOTFOUND */
struct expected_remove {
    struct actor actor;
    struct span account, device_id;
    json_t *out;
};
int expected_remove_run(struct store_tx *tx, void *arg, struct err *err);

/* Announced devices: [{device_id, fingerprint?}], all or none. */
struct device_import {
    struct actor actor;
    struct span account;
    json_t *items;   /* the caller's */
    int64_t added, changed; /* out */
};
int device_import_run(struct store_tx *tx, void *arg, struct err *err);

enum device_change { DEVICE_APPROVE, DEVICE_REFUSE, DEVICE_REVOKE, DEVICE_QUARANTINE, DEVICE_RELEASE, DEVICE_DELETE };
struct device_set {
    struct actor actor;
    struct span account, device;
    enum device_change change;
    char reason[256];
    bool for_reprovision;  /* RELEASE: one more enrolment under the account's provisioning keys */
    bool same_key;         /* RELEASE of a tombstone: the device's key may come again as well */
    json_t *out;           /* the device; for REVOKE with "live_keys" and their names, for RELEASE of a tombstone with "released" */
};
int device_set_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ESTATE */

struct device_accept_key {
    struct actor actor;
    struct span account, device;
    struct hash spki;
    json_t *out;
};
int device_accept_key_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ENOTFOUND: that key was not offered; MUSTER_ESTATE: the root's rule is not to ask, or the device is out */

/* What the gateway keeps of a device's registration: JSON text, bounded by the caller. *unchanged: it was there already. */
struct device_ecus {
    int64_t device;
    struct span ecus;
    bool unchanged;
};
int device_ecus_run(struct store_tx *tx, void *arg, struct err *err);
struct device_seen {
    int64_t device;
    char address[64];
};
int device_seen_run(struct store_tx *tx, void *arg, struct err *err);

/* For other operations. */
int device_json(struct store_tx *tx, const struct account *a, const struct device *d, bool full, json_t **out, struct err *err) MUSTER_MUST_CHECK; /* replaces *out */
/* Quarantines or revokes within the transaction of the caller, who raises the epoch. */
int device_cut_off(struct store_tx *tx, const struct account *a, const struct device *d, enum device_state to, const struct actor *actor, const char *reason, struct err *err) MUSTER_MUST_CHECK;

#endif
