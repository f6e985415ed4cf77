/* root: fleet roots, the anchors of an account's device certificates. */
#ifndef MUSTER_REGISTRY_ROOT_H
#define MUSTER_REGISTRY_ROOT_H

#include "registry/registry.h"

#define CHALLENGE_LIFE CLOCK_DAY

struct root_list {
    struct span account;
    struct page page;
};
int root_list_run(struct store_tx *tx, void *arg, struct err *err);

struct root_show {
    struct span account, root;
    json_t *out;
    struct buf *pem; /* where not NULL: the certificate */
    bool crosses;    /* with pem: and before it those of its key by other roots */
    bool issuing;    /* with pem: in its place those of the issuing CAs that it has certified and that have not ended, the newest first */
};
/* MUSTER_ENOTFOUND: no such root; with issuing: it has none. */
int root_show_run(struct store_tx *tx, void *arg, struct err *err);

/* MUSTER_EROOTUNFIT, _EROOTOWN, _EEXISTS, _EMETHODOFF.  An upload of one that waits for its proof gives a new challenge. */
struct root_upload {
    struct actor actor;
    struct span account;
    const struct cert *cert; /* the caller's */
    enum id_rule id_rule;
    enum key_rule key_rule;
    struct hash server_ca[4]; /* public keys of Muster's server CA, which the registry does not hold */
    size_t n_server_ca;
    json_t *out;
};
int root_upload_run(struct store_tx *tx, void *arg, struct err *err);

/* MUSTER_EPROOF, _ECHALLENGEOLD, _ESTATE.  proof[0] has the challenge as its subject CN; further certificates may stand between it and the
 * root: then the intermediate that signed it becomes the anchor, and never the root above. */
struct root_prove {
    struct actor actor;
    struct span account, root;
    struct cert *const *proof; /* the caller's */
    size_t n_proof;
    json_t *out;
};
int root_prove_run(struct store_tx *tx, void *arg, struct err *err);

enum root_change { ROOT_SET, ROOT_DISABLE, ROOT_ENABLE, ROOT_REVOKE };
struct root_set {
    struct actor actor;
    struct span account, root;
    enum root_change change;
    enum id_rule id_rule;    /* ROOT_SET; -1: as it is */
    enum key_rule key_rule;  /* 0: as it is */
    enum expired_rule expired; /* 0: as it is */
    enum root_state state;   /* 0: as it is; active or known-only */
    int tried;               /* enum tried_change (tried.h): the rules above are tried; or what was holds, or is dropped, and none is said */
    int64_t confirm;         /* ROOT_DISABLE, ROOT_REVOKE: devices that are cut off; -1: not said */
    int64_t devices;         /* out */
    json_t *out;
};
int root_set_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ECONFIRM, MUSTER_ESTATE */

/* Before a fleet root of Muster's own is rotated: MUSTER_ENOTFOUND, _ECLOCK; _ESTATE unless it is the one that the account issues under. */
struct root_rotate_look {
    struct span account, root;
    struct hash spki; /* out */
};
int root_rotate_look_run(struct store_tx *tx, void *arg, struct err *err);

/* Out of use for good: whoever still has a certificate under it is refused.  First the look, in a reading transaction, as it may walk over all of the root's devices:
 * MUSTER_EROOTINUSE with their number and names while a device that was seen in the last so many days depends on it; MUSTER_ECONFIRM with those that were not
 * seen, and whose certificates are good still, unless that number is confirmed; MUSTER_ESTATE.  Then root_retire_run: nobody can have joined those that sleep, and
 * one of them that woke meanwhile is seen, and refuses it. */
#define ROOT_RETIRE_DAYS 90
#define ROOT_NAMED_MAX 20
struct root_retire {
    struct actor actor;
    struct span account, root;
    int64_t days, confirm; /* confirm: devices that are cut off; -1: not said */
    int64_t devices;       /* out: that it is about, where it is refused */
    bool looked;           /* by the look: what follows */
    int64_t hour, asleep;  /* since when devices count as seen; how many are cut off */
    json_t *out;
};
int root_retire_look_run(struct store_tx *tx, void *arg, struct err *err);
int root_retire_run(struct store_tx *tx, void *arg, struct err *err);

#endif
