/* key: provisioning keys, the shared credential of a base image, with their bounds. */
#ifndef MUSTER_REGISTRY_KEY_H
#define MUSTER_REGISTRY_KEY_H

#include "pki/device_profile.h"
#include "registry/registry.h"

#define KEY_LIFE_DEFAULT (30 * CLOCK_DAY)

struct key_bounds {
    char name[NAME_MAX_BYTES + 1];      /* unique in the account */
    int64_t expires;                    /* seconds since 1970 */
    int64_t max_devices;                /* 0: any number */
    int64_t per_hour;                   /* 0: any number */
    char id_pattern[DEVICE_ID_MAX + 1]; /* "": any */
    char sources[1025];                 /* networks; "": any */
    char build[NAME_MAX_BYTES + 1];     /* of the image it goes into, for people */
    struct device_profile profile;      /* what its devices' certificates may be, within the account's profile */
    struct device_profile shadow;       /* the same, tried: it refuses nobody; the default: nothing is tried */
    char tried[KEY_TRIED_MAX + 1];      /* of the bounds above, by tried.h; "" */
};
int key_bounds_check(const struct key_bounds *b, struct err *err) MUSTER_MUST_CHECK;
/* Takes the fields name, expires, max_devices, per_hour, id_pattern, sources (array or text), build, and of the profile key_types, key_usages, life, longest_life; every other one is refused. */
int key_bounds_json(struct key_bounds *b, json_t *from, struct err *err) MUSTER_MUST_CHECK;
/* The same of a key that is there, whose member shadow may say besides: try (what the others say is tried from now on), enforce, drop. */
int key_change_json(struct key_bounds *b, json_t *from, struct err *err) MUSTER_MUST_CHECK;

struct key_create {
    struct actor actor;
    struct span account;
    struct uuid id;           /* the subject CN of its certificate */
    struct key_bounds bounds; /* name "": made from the id */
    const struct cert *cert;  /* the caller's: as the vault signed it */
    json_t *out;
};
/* MUSTER_EEXISTS (name), _EMETHODOFF, _ECLOCK. */
int key_create_run(struct store_tx *tx, void *arg, struct err *err);

struct key_list {
    struct span account;
    struct page page;
};
int key_list_run(struct store_tx *tx, void *arg, struct err *err);

struct key_show {
    struct span account, key;
    json_t *out;
    struct key_bounds bounds; /* for whoever changes some of them */
};
int key_show_run(struct store_tx *tx, void *arg, struct err *err);

struct key_set {
    struct actor actor;
    struct span account, key;
    json_t *change; /* the caller's; as for key_bounds_json */
    json_t *out;
};
int key_set_run(struct store_tx *tx, void *arg, struct err *err);

struct key_blacklist {
    struct actor actor;
    struct span account, key;
    json_t *out;
};
int key_blacklist_run(struct store_tx *tx, void *arg, struct err *err);

/* Quarantines or revokes a key's devices: those whose certificate of its making is live or waits for its first use, in steps of bounded transactions: call again with after = next while more is true. */
struct key_devices_act {
    struct actor actor;
    struct span account, key;
    enum device_state to; /* DEVICE_QUARANTINED or DEVICE_REVOKED */
    int64_t since;        /* those that it gave a certificate at or after */
    char reason[256];
    int64_t confirm;      /* their number; -1: not said */
    int64_t after;        /* 0: the first step */
    int64_t count;        /* out: their number at the first step */
    int64_t next, done;   /* out: where the next step begins; devices of this step */
    bool more;            /* out */
    json_t *out;          /* out, with the last step: the key, what was done with how many, and the keys that are live */
};
int key_devices_act_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ECONFIRM */

#endif
