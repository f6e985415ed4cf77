/* device: the registry's devices: what is shown, and what operators do to them.  How a device gets in is enrol.h's and admit.h's. */
#ifndef MUSTER_REGISTRY_DEVICE_H
#define MUSTER_REGISTRY_DEVICE_H

#include "registry/registry.h"
#include "registry/row.h"

struct device_list {
    struct span account;
    struct page page;         /* without a prefix */
    enum device_state state;  /* 0: any */
    struct span key, root;    /* .n 0: any; at most one of state, key, root and prefix */
    int64_t since;            /* with a key: it gave them a certificate at or after */
    struct span prefix;       /* of the device ID */
    struct span after_id;     /* with a prefix: the device ID of the last one of the page before */
};
int device_list_run(struct store_tx *tx, void *arg, struct err *err);

struct device_show {
    struct span account, device;
    bool reports; /* with the whole reports of the device */
    json_t *out;
};
int device_show_run(struct store_tx *tx, void *arg, struct err *err);

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
