/* forecast_part: what forecast.c, forecast_judge.c and forecast_causes.c share. */
#ifndef MUSTER_VERIFIER_FORECAST_PART_H
#define MUSTER_VERIFIER_FORECAST_PART_H

#include "registry/renewable.h"
#include "verifier/forecast.h"

/* Devices above whose certificates stands the same. */
struct forecast_class {
    int64_t root, chain;      /* of an uploaded root; both 0: the account's own devices */
    bool own;
    bool out;                 /* not let in now */
    bool renews;              /* of a root of Muster's own: devices of a factory line, which renew as those do that Muster has issued to */
    int64_t end;              /* what stands above carries them until then; INT64_MAX: longer than any of their certificates */
    enum forecast_kind kind;  /* of that end */
    int64_t object;
    struct uuid id;
    char subject[256];
    int code;                 /* from `end` on */
    int leaf_code;            /* of one whose own certificate has ended */
};
#define FORECAST_CLASSES_MAX (1 + DEVICE_CHAINS_MAX + ROOTS_MAX)

/* A CA of Muster's own in an account: leaves are cut to its end. */
struct forecast_ca {
    enum forecast_kind kind;
    int64_t end, object;
    struct uuid id;
    char subject[256];
};
#define FORECAST_CAS_MAX 128

struct forecast {
    char only[ACCOUNT_NAME_MAX + 1];
    int64_t from, to, bin; /* bin: seconds that count as one day */
    struct forecast_server server;
    struct snapshot *snapshot;
    enum { FORECAST_AT_ACCOUNT, FORECAST_AT_CHAINS, FORECAST_AT_DEVICES, FORECAST_AT_WAITING, FORECAST_AT_KEYS, FORECAST_AT_END } phase;
    int64_t active;        /* devices, of the accounts that were walked */
    struct renewable late; /* of them, who has ended and may renew still */
    /* the account under way */
    struct account account;
    int64_t account_row, after, after_row, limit;
    struct forecast_class classes[FORECAST_CLASSES_MAX];
    size_t n_classes;
    struct forecast_ca cas[FORECAST_CAS_MAX];
    size_t n_cas;
    bool renews;           /* the account renews certificates of its own, as the first devices that may ask say */
    int asked_renews;      /* how many were asked */
    int64_t own_end;       /* until when it can issue at best */
    /* out */
    struct forecast_cause **causes;
    size_t n, cap;
    size_t n_days, days_max; /* of all causes; days_max 0: any number */
    int64_t damaged;       /* rows that could not be judged, and were left out */
    struct err damage;     /* of the first of them */
};

/* rc; 0, and it is counted, where nothing but what was read is at fault: one damaged row never silences the forecast of all others. */
int forecast_skip(struct forecast *f, int rc, struct err *err) MUSTER_MUST_CHECK;

/* forecast_judge.c: the classes of an account, by the gateway's own functions. */
/* Whether devices with certificates of the account's own renew, by the certificate of this one, which may: sets f->renews.  waiting: that has not been
 * used yet, 0: the device's. */
int forecast_own_renews(struct store_tx *tx, struct forecast *f, int64_t device, int64_t waiting, struct err *err) MUSTER_MUST_CHECK;
int forecast_own_class(struct store_tx *tx, struct forecast *f, struct err *err) MUSTER_MUST_CHECK;
int forecast_chain_class(struct store_tx *tx, struct forecast *f, const struct device_chain *chain, struct err *err) MUSTER_MUST_CHECK;
int forecast_root_classes(struct store_tx *tx, struct forecast *f, struct err *err) MUSTER_MUST_CHECK;
/* With which a provisioning key is refused from its end on; 0: it is refused now, or not then. */
int forecast_key_code(struct store_tx *tx, const struct forecast *f, const struct prov_key *k, int *code, struct err *err) MUSTER_MUST_CHECK;

/* forecast_causes.c.  What `like` says names the cause; NULL: memory is short. */
struct forecast_cause *forecast_cause(struct forecast *f, const struct forecast_cause *like);
int forecast_add(struct forecast *f, struct forecast_cause *c, int64_t at, int64_t stops, int64_t renews, struct err *err) MUSTER_MUST_CHECK;
void forecast_sort(struct forecast *f);

#endif
