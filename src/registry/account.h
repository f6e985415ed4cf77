/* account: isolated environments of devices, keys, roots and operators. */
#ifndef MUSTER_REGISTRY_ACCOUNT_H
#define MUSTER_REGISTRY_ACCOUNT_H

#include "pki/device_profile.h"
#include "registry/registry.h"

struct account_settings {
    enum reprovision reprovision;   /* never */
    bool approval;                  /* a new device is pending until an operator approves it */
    bool expected_only;             /* only devices that were announced get in at once; others are pending */
    enum device_key_kind device_key; /* kind of the key pairs that the server makes for devices */
    int64_t device_life;            /* seconds, of a device certificate; 20 years; PROFILE_NO_END */
    int64_t lost_answer_window;     /* seconds; 24 h */
    int64_t issue_ceiling;          /* certificates an hour; 20000 */
    int64_t renewal_window;         /* seconds before its end in which a certificate is renewed; 0: at any time */
    int64_t late_renewal;           /* seconds behind its end in which it may do that and nothing else; 90 days; 0: never */
    int64_t superseded_renewal;     /* likewise, of one that the device has replaced, from then on; 30 days; 0: never */
    bool server_keygen;             /* EST's serverkeygen: the server makes a device's key and sends it; no */
    bool csr_queue;                 /* devices under uploaded roots may send requests for the customer's own CA to sign (csr_queue.h); no */
    struct device_profile profile;  /* without its life, which is device_life */
    struct device_profile shadow;   /* one that is tried, with its life; life 0: none is */
    enum hook_rule hook;            /* off */
    char tried[ACCOUNT_TRIED_MAX + 1]; /* of these, by tried.h; "" */
    enum account_backend backend;   /* where the private keys of its CAs are made from now on; sealed */
};
void account_settings_default(struct account_settings *s);
int account_settings_check(const struct account_settings *s, struct err *err) MUSTER_MUST_CHECK;
/* Takes the fields of a JSON object that are settings, and leaves what is not in *rest (a new object). */
int account_settings_json(struct account_settings *s, json_t *from, json_t **rest, struct err *err) MUSTER_MUST_CHECK;
/* The same with the method, and nothing left. */
int account_settings_take(struct account_settings *s, enum account_method *method, json_t *from, struct err *err) MUSTER_MUST_CHECK;
/* Settings, and the method, that are tried from now on, beside those that are already (tried.h). */
int account_settings_try(struct account_settings *s, enum account_method method, json_t *body, struct err *err) MUSTER_MUST_CHECK;
struct account; /* row.h */
void account_settings_of(const struct account *a, struct account_settings *out);
json_t *account_settings_show(const struct account_settings *s); /* as the API does */

/* CA certificates that the vault made, in DER; empty where there are none. */
struct account_cas {
    struct span fleet_root, issuing_ca, provisioning_ca;
    struct span crosses; /* DER behind DER: what one fleet root of the account says of another's key */
};

struct account_create {
    struct actor actor;
    struct span name;
    enum account_kind kind;
    enum account_method method;
    struct account_settings settings;
    struct account_cas cas;
    json_t *out;
};
int account_create_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_EEXISTS, MUSTER_EDELETED (names are never used again) */

struct account_show {
    struct span name;
    bool profile; /* `out` is to be its issuing profile */
    json_t *out;
    struct account_settings settings; /* for whoever changes some of them */
    enum account_kind kind;
    enum account_method method;
    int64_t devices_shared, devices_device; /* that work, or wait, by each method */
};
int account_show_run(struct store_tx *tx, void *arg, struct err *err);
/* The same, but first MUSTER_ECLOCK: for what is going to issue. */
int account_show_clock_run(struct store_tx *tx, void *arg, struct err *err);

struct account_list {
    struct page page;
    const char *only; /* name of the one account that may be seen; "" all */
};
int account_list_run(struct store_tx *tx, void *arg, struct err *err);

struct account_set {
    struct actor actor;
    struct span name;
    bool profile;           /* as of account_show */
    enum account_method method;
    struct account_settings settings;
    struct account_cas cas; /* where the method has become shared for the first time */
    json_t *out;
};
int account_set_run(struct store_tx *tx, void *arg, struct err *err);

/* New certificates of the account's CAs: an issuing CA was renewed, or a crash had kept them from the registry. */
struct account_cas_add {
    struct actor actor;
    struct span name;
    struct account_cas cas;
    const struct account_settings *settings; /* that the account has from now on, as account_set has them; NULL: as they are */
    enum account_method method;
    bool show_root;
    json_t *out; /* show_root: the fleet root that the account issues under now */
};
int account_cas_add_run(struct store_tx *tx, void *arg, struct err *err);

struct account_delete {
    struct actor actor;
    struct span name;
    int64_t confirm; /* devices that are cut off: has to be the number; -1: not said */
    int64_t devices; /* out */
};
int account_delete_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ECONFIRM */

/* All accounts, for what control keeps in order: the vault's idea of them, issuing CAs, certificates; and what is left of deleted ones. */
struct account_issuing {
    struct {
        char name[ACCOUNT_NAME_MAX + 1];
        enum account_state state;
        enum account_kind kind;
        enum account_method method;
        struct account_settings settings;
        struct hash issuing; /* the key of the newest issuing CA; zeros: none */
        bool deletion_sealed; /* of a deleted one: control wrote that it was */
        bool control_s, known, let_be; /* account_told_check_run(): the row is one that control wrote; an operator made the account; it is from before control could know */
    } at[256];
    size_t n;
    int64_t after; /* row of the last one; start with 0, again while n is full */
};
int account_issuing_run(struct store_tx *tx, void *arg, struct err *err);
/* Whether the last entry of its log says that it was deleted, and control wrote it. */
int account_deletion_sealed(struct store_tx *tx, int64_t account, bool *out, struct err *err) MUSTER_MUST_CHECK;

/* The account of the object with this id, for paths that leave the account out: kind 'k' key, 'r' root, 'd' device, 'c' certificate. */
struct account_of {
    char kind;
    uint8_t id[PKI_HASH_LEN]; /* a UUID, or what names a certificate (certificate.h) */
    size_t id_n;
    char name[ACCOUNT_NAME_MAX + 1]; /* out */
};
int account_of_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ENOTFOUND */

#endif
